"""The example of docs/answers.md, as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import jsonschema
import msgspec
import pytest

import engine
from engine.answers.records import SCHEMA
from engine.cli import main

DOCS = Path(__file__).resolve().parent.parent / "docs" / "answers.md"


def test_the_web_service(sample: engine.SearchEngine, tmp_path: Path):
    testclient = pytest.importorskip("fastapi.testclient")
    sample.save(tmp_path / "demo-index")
    [code] = [
        found
        for found in re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
        if "FastAPI" in found
    ]
    scope: dict[str, object] = {}
    exec(code.replace('"demo-index"', repr(str(tmp_path / "demo-index"))), scope)
    client = testclient.TestClient(scope["app"])
    validator = jsonschema.Draft202012Validator(msgspec.json.decode(SCHEMA.read_bytes()))
    asked = client.get("/ask", params={"question": "How big is the battery?", "product": "SKU-0001"})
    found = client.get("/search", params={"query": "fridge", "k": 2})
    for response in (asked, found):
        assert response.status_code == 200
        validator.validate(response.json())
    assert asked.json()["evidence"][0]["text"] == "5000"
    unknown = client.get("/ask", params={"question": "Does it have NFC?", "product": "nope"})
    assert unknown.status_code == 422
    assert "no product 'nope'" in unknown.json()["detail"]


def test_the_worked_example(sample: engine.SearchEngine):
    answer = sample.ask("Does the S24 Ultra have expandable storage?")
    for said in (answer.text, answer.evidence[0].product_id, answer.evidence[0].field):
        assert said in DOCS.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["Does it have an S Pen?", "--product", "SKU-0001"], ["Yes: s pen yes", "“true”", "attributes.s_pen [0:4]"]),
        (["S24 Ultra vs S24 FE"], ["200 MP", "50 MP", "comparison"]),
        (["Does it have a dishwasher?", "--product", "SKU-0001", "--json"], ['"kind": "abstention"']),
    ],
)
def test_the_command(
    sample: engine.SearchEngine, arguments: list[str], shown: list[str], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    monkeypatch.setattr("sys.argv", ["aisle", "ask", str(sample.version.parent.parent), *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    output = capsys.readouterr().out
    for text in shown:
        assert text in output
