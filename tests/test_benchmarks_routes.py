"""The benchmark of routes, from files to a result, on a catalog made by rule."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

from benchmarks.data import Grading
from benchmarks.routes import main
from engine.product import to_json
from tests.conftest import synthetic_products

CONFIG = '[index]\nreranker = ""\n[search]\nthreads = 1\n'
QUERIES = {"a-1": "acme fridge", "a-2": "phone", "b-1": "tv for films"}
KINDS = {"a-1": 1, "a-2": 0, "b-1": 0}  # the last is judged wrong on purpose


@pytest.fixture
def data(tmp_path: Path) -> Path:
    products = synthetic_products(40)
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "corpus.jsonl").write_bytes(b"\n".join(map(to_json, products)))
    (folder / "queries.dev.tsv").write_text("".join(f"{key}\t{text}\n" for key, text in QUERIES.items()))
    judged = [f"{key} 0 P{row:04d} 2" for key, kind in KINDS.items() for row in range(kind, 40, 4)]
    judged += [f"{key} 0 P{row:04d} 1" for key in KINDS for row in range(3, 40, 4)]  # less than the best says nothing
    (folder / "qrels.dev.txt").write_text("\n".join(judged))
    (tmp_path / "config.toml").write_text(CONFIG)
    return tmp_path


def measured(data: Path, prefix: str, *, as_json: bool = False) -> dict[str, object]:
    out = data / "out" / "result.json"
    main("shop", "dev", prefix, data, None, None, data / "config.toml", data / "indexes", out, 1,
         as_json)  # fmt: skip
    found: dict[str, object] = json.loads(out.read_text())
    return found


def test_a_set_is_measured(data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("benchmarks.data.GRADINGS", {"shop": Grading(1)})
    result = measured(data, "")
    assert (result["n_judged"], result["n_asked"]) == (3, 9)
    assert result["metrics"]["type_first"] == pytest.approx(2 / 3)
    assert result["metrics"]["product_in_top_5"] == pytest.approx(2 / 3)
    assert result["metrics"]["with_results"] == 1.0
    assert result["wrong"] == {"b-1": "tv for films"}
    assert {"understand", "route", "describe", "search"} <= set(result["stage_ms_p50"])
    assert "type_first" in capsys.readouterr().out
    assert measured(data, "a-", as_json=True)["metrics"]["type_first"] == 1.0
    with pytest.raises(typer.Exit):
        measured(data, "nothing")
    assert "--prefix" in capsys.readouterr().err
