"""Curation asks a teacher: labels are mixed or given, what was answered is kept, and nothing is published by half."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.errors import BudgetError
from engine.storage.manifest import checksum
from tests.curation_rows import TEACHER, TitleTeacher, labels, rows_of, taken, write_shop
from training.curation import taught
from training.curation.labels import ContradictionsStep
from training.curation.rows import Made, Pair
from training.curation.run import EXAMPLES, MANIFEST, PAGE, CurationConfig, Manifest, curate
from training.curation.taught import LabelStep

UNANSWERED = "pair without an answer of the teacher"


def step(**settings: Any) -> LabelStep:
    return msgspec.convert({"kind": "label", "teacher": TEACHER} | settings, LabelStep)


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> TitleTeacher:
    found = TitleTeacher()
    monkeypatch.setattr(taught, "open_labeller", lambda settings: found)
    return found


def asking(folder: Path, *queries: str, steps: list[dict[str, Any]]) -> CurationConfig:
    """A curation of queries that nobody judged."""
    (folder / "queries.tsv").write_text("".join(f"{query}\n" for query in queries))
    source = {"kind": "queries", "path": str(folder / "queries.tsv"), "catalogs": [write_shop(folder)]}
    few = {"best": 3, "middle": 2, "deep": 1, "depth": 20}
    return msgspec.convert({"name": "asked", "input": [source | few], "step": steps}, CurationConfig)


def examples(folder: Path) -> list[dict[str, Any]]:
    with gzip.open(folder / EXAMPLES) as file:
        return [json.loads(line) for line in file]


def test_a_label_is_mixed_with_the_teachers(teacher: TitleTeacher) -> None:
    rows = rows_of(("red shoes", "shoe", 0.8), ("boots", "boot", 1.0), ("red shoes", "case", 0.4))
    after, flows, _ = taken(step(weight=0.25), rows)
    assert [label for *_, label in labels(after)] == pytest.approx([0.25 * 1 + 0.75 * 0.8, 0.75 * 0.4])
    assert flows["pairs"].dropped[UNANSWERED].examples == ["log.jsonl:2"]
    assert flows["pairs"].changed["label mixed with the teacher's"].count == 2


def test_a_pair_that_nobody_judged_gets_the_teachers_label_alone_and_is_asked_once(teacher: TitleTeacher) -> None:
    rows = rows_of(("red cape", "cape", 1.0), ("red cape", "shoe", 0.0), ("red cape", "cape", 0.5))
    bare = tuple(replace(pair, label=None) for pair in rows.pairs[1:])
    after, flows, _ = taken(step(weight=0.5), replace(rows, pairs=(rows.pairs[0], *bare)))
    assert labels(after) == [("red cape", "cape", 0.75), ("red cape", "shoe", 0.5)]
    assert flows["pairs"].n_merged == 1
    assert flows["pairs"].changed["labelled by the teacher"].count == 1
    assert len(teacher.known) == 2


def test_a_made_query_stays_made(teacher: TitleTeacher) -> None:
    synthetic = Pair("red shoes", "case", 1.0, (), Made("words", "case"))
    after, _, _ = taken(step(weight=0.5), replace(rows_of(), pairs=(synthetic,)))
    assert after.pairs == (replace(synthetic, label=0.5),)


def test_what_nobody_judged_contradicts_nothing() -> None:
    rows = rows_of(("red shoe", "shoe", 1.0), ("red shoes", "shoe", 0.9))
    bare = replace(rows.pairs[1], label=None)
    after, _, _ = taken(ContradictionsStep(spread=0.05), replace(rows, pairs=(rows.pairs[0], bare)))
    assert after.pairs == (rows.pairs[0], bare)
    after, _, _ = taken(ContradictionsStep(spread=0.05), rows)
    assert after.pairs == ()


def test_queries_get_products_of_the_search_and_the_teachers_labels(teacher: TitleTeacher, tmp_path: Path) -> None:
    config = asking(tmp_path, "acme phone", "jo@example.com", "globex", steps=[{"kind": "personal"}, LABEL])
    report = curate(config, tmp_path / "out")
    found = examples(tmp_path / "out")
    assert {row["query"] for row in found} == {"acme phone", "globex"}
    assert {row["from"][str(tmp_path / "queries.tsv")][0] for row in found} == {1, 3}
    for query in ("acme phone", "globex"):
        of_query = [row for row in found if row["query"] == query]
        assert 3 <= len(of_query) <= 6
        title = of_query[0]["product"]["title"].lower()
        assert of_query[0]["label"] == pytest.approx(sum(w in title for w in query.split()) / len(query.split()))
        assert max(row["label"] for row in of_query) == 1.0  # the search has found one that answers
    assert report.pairs == len(found)
    assert all(flow.is_balanced for of in report.steps for flow in of.flows)
    curate(config, tmp_path / "again")
    assert (tmp_path / "again" / EXAMPLES).read_bytes() == (tmp_path / "out" / EXAMPLES).read_bytes()


LABEL = {"kind": "label", "teacher": TEACHER}


def test_money_that_runs_out_leaves_what_was_answered_and_a_whole_folder(teacher: TitleTeacher, tmp_path: Path) -> None:
    config = asking(tmp_path, "acme phone", "globex", steps=[LABEL])
    teacher.left = 5
    report = curate(config, tmp_path / "out")
    (labelled,) = (of for of in report.steps if of.step == "label")
    (flow,) = (flow for flow in labelled.flows if flow.unit == "pairs")
    assert flow.rows_out == len(examples(tmp_path / "out")) == 5
    assert flow.dropped[UNANSWERED].count == flow.rows_in - 5 > 0
    assert labelled.notes == ["stopped early: no money left"]
    assert "stopped early: no money left" in (tmp_path / "out" / PAGE).read_text()
    manifest = msgspec.json.decode((tmp_path / "out" / MANIFEST).read_bytes(), type=Manifest)
    for name, entry in manifest.files.items():
        assert checksum(tmp_path / "out" / name) == entry
    teacher.left = 10**9
    assert curate(config, tmp_path / "out").pairs == flow.rows_in  # goes on from the answers kept


def test_without_any_money_nothing_is_published(teacher: TitleTeacher, tmp_path: Path) -> None:
    config = asking(tmp_path, "acme phone", steps=[LABEL])
    teacher.left = 0
    with pytest.raises(BudgetError, match="no money left"):
        curate(config, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["queries.tsv", "shop.jsonl"]


def test_queries_without_a_step_that_labels_them_are_refused(tmp_path: Path) -> None:
    with pytest.raises(msgspec.ValidationError, match="an input of kind 'queries' has no labels"):
        asking(tmp_path, "acme phone", steps=[{"kind": "personal"}])
    source = {"kind": "queries", "path": "q.tsv", "catalogs": []}
    with pytest.raises(msgspec.ValidationError, match="catalogs is empty"):
        msgspec.convert({"name": "asked", "input": [source], "step": [LABEL]}, CurationConfig)


@pytest.mark.parametrize(
    ("settings", "said"), [({"weight": 0}, "weight is 0"), ({"teacher": {"kind": "oracle"}}, "Invalid value 'oracle'")]
)
def test_a_step_that_cannot_work_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=said):
        step(**settings)


def test_finding_and_making_need_no_torch(tmp_path: Path) -> None:
    config = asking(tmp_path, "acme phone", steps=[{"kind": "generate", "queries": 5}, LABEL])
    code = """if True:
        import sys
        import msgspec
        import numpy as np
        from pathlib import Path
        from training.curation import run, taught

        class Half:
            def label(self, pairs, progress=None):
                return np.full(len(pairs), 0.5, np.float32)

        taught.open_labeller = lambda settings: Half()
        config = msgspec.json.decode(sys.argv[1], type=run.CurationConfig)
        assert run.curate(config, Path(sys.argv[2])).pairs > 6
        sys.exit("torch" in sys.modules or "transformers" in sys.modules)
    """
    subprocess.run(
        [sys.executable, "-c", code, msgspec.json.encode(config).decode(), str(tmp_path / "out")], check=True
    )
