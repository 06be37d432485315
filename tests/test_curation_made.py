"""Curation makes queries for products: they pass the checks, are counted, and are marked as made for ever."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from engine.errors import BudgetError
from tests.conftest import synthetic_products
from tests.curation_rows import LOG, PRODUCTS, TEACHER, TitleTeacher, rows_of, taken, write_shop
from training.curation import made
from training.curation.made import GenerateStep
from training.curation.report import Report, StepReport, Tally, markdown
from training.curation.rows import Made, Origin, Pair, Rows
from training.curation.run import EXAMPLES, CurationConfig, curate
from training.curation.step import merge_pairs
from training.data.examples import read_judgments
from training.teachers import Done
from training.teachers import Pair as Asked
from training.teachers.sampling import CHECKS


class ForgetfulTeacher(TitleTeacher):
    """Labels so many pairs, then has no money left, and keeps nothing."""

    def label(self, pairs: Sequence[Asked], progress: Done = lambda *_: None) -> np.ndarray:
        if len(pairs) > self.left:
            raise BudgetError("no money left")
        return super().label(pairs, progress)


def step(**settings: Any) -> Any:
    return msgspec.convert(settings, GenerateStep)


@pytest.fixture
def rows() -> Rows:
    typed = rows_of(("red shoes", "shoe", 0.8), ("boots", "boot", 1.0), ("red shoes", "case", 0.4))
    shop = {product.product_id: product for product in synthetic_products()}
    return replace(typed, products={**shop, **typed.products})


def test_made_queries_join_the_rows_and_are_marked(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    after, flows, tally = taken(step(kind="generate", queries=60), rows)
    added = [pair for pair in after.pairs if pair.made]
    assert after.pairs[:3] == rows.pairs
    assert flows["pairs"].added == len(added) > 60
    assert not {pair.query for pair in added} & {pair.query for pair in rows.pairs}
    assert {pair.product_id for pair in added} <= after.products.keys() == rows.products.keys()
    for query in {pair.query for pair in added}:
        of_query = [pair for pair in added if pair.query == query]
        assert max(pair.label for pair in of_query) >= 0.9 > 0.1 >= min(pair.label for pair in of_query)
    report = tally.report(rows, after)
    assert report.notes == ["no teacher was asked whether it agrees"]
    assert _balanced(report) == (60, len({pair.query for pair in added}))
    assert report.made
    assert not any(of.rejected["agreed"] for of in report.made.kinds.values())
    monkeypatch.setattr(made, "open_labeller", lambda settings: TitleTeacher())
    strict, _, tally = taken(step(kind="generate", queries=60, teacher=TEACHER, agree=0.9), rows)
    assert 0 < sum(pair.made is not None for pair in strict.pairs) < len(added)
    report = tally.report(rows, strict)
    assert not report.notes
    proposed, kept = _balanced(report)
    assert kept == len({pair.query for pair in strict.pairs if pair.made}) < proposed == 60
    assert report.made
    assert sum(of.rejected["agreed"] for of in report.made.kinds.values()) > 0


def _balanced(report: StepReport) -> tuple[int, int]:
    """Queries proposed and kept, of all kinds; every other one is rejected by a check."""
    assert report.made
    kinds = report.made.kinds.values()
    assert all(of.proposed == of.kept + sum(of.rejected.values()) for of in kinds)
    return sum(of.proposed for of in kinds), sum(of.kept for of in kinds)


def test_what_money_did_not_reach_is_told_and_no_query_is_half_there(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = ForgetfulTeacher(70)
    monkeypatch.setattr(made, "open_labeller", lambda settings: teacher)
    after, _, tally = taken(step(kind="generate", queries=150, teacher=TEACHER, agree=0.0), rows)
    report = tally.report(rows, after)
    assert report.made
    assert report.made.stopped == "no money left"
    assert "stopped early: no money left" in report.notes
    assert sum(of.unjudged for of in report.made.kinds.values()) > 0
    whole, _, _ = taken(step(kind="generate", queries=150), rows)
    of_whole = Counter(pair.query for pair in whole.pairs if pair.made)
    found = Counter(pair.query for pair in after.pairs if pair.made)
    assert 0 < len(found) < len(of_whole)
    assert found == {query: of_whole[query] for query in found}
    page = markdown(Report(
        name="made", steps=[report], propensities=None, queries=0, pairs=0, products=0, labels=[0] * 10
    ), {})  # fmt: skip
    kind, of = next((kind, of) for kind, of in report.made.kinds.items() if of.kept and of.unjudged)
    rejected = [of.rejected[check] for check in CHECKS]
    assert f"| {kind} | {of.proposed} | {of.kept} | {' | '.join(map(str, rejected))} | {of.unjudged} |" in page


def test_a_query_that_is_typed_already_is_left_and_counted(rows: Rows) -> None:
    before, _, _ = taken(step(kind="generate", queries=20), rows)
    known = next(pair.query for pair in before.pairs if pair.made)
    typed = replace(rows, pairs=(*rows.pairs, Pair(known, "shoe", 0.5, (Origin(0, 9),))))
    after, _, tally = taken(step(kind="generate", queries=20), typed)
    assert [pair for pair in after.pairs if pair.query == known] == [typed.pairs[-1]]
    report = tally.report(typed, after)
    assert "1 of the queries kept were typed by somebody; their pairs are left as they are" in report.notes
    assert _balanced(report)[1] == len({pair.query for pair in after.pairs if pair.made}) + 1


def test_a_catalog_of_its_own_brings_its_products(rows: Rows, tmp_path: Path) -> None:
    alone = rows_of(("red shoes", "shoe", 0.8))
    after, flows, _ = taken(step(kind="generate", queries=20, catalogs=[write_shop(tmp_path)]), alone)
    assert flows["products"].added == len(after.products) - len(PRODUCTS) > 0
    assert {pair.product_id for pair in after.pairs} <= after.products.keys()


def test_the_mark_survives_to_the_file_that_training_reads(tmp_path: Path) -> None:
    (tmp_path / "queries.tsv").write_text("q1\tacme phone\n")
    (tmp_path / "qrels.txt").write_text("q1 0 P0004 1\nq1 0 P0001 0\n")
    files = {"queries": str(tmp_path / "queries.tsv"), "qrels": str(tmp_path / "qrels.txt")}
    tables = {"input": [{"kind": "judged", "catalog": write_shop(tmp_path), **files}]}
    config = msgspec.convert({"name": "made", **tables, "step": [{"kind": "generate", "queries": 20}]}, CurationConfig)
    curate(config, tmp_path / "out")
    with gzip.open(tmp_path / "out" / EXAMPLES) as file:
        found = [json.loads(line) for line in file]
    synthetic = [row for row in found if row["query_id"].startswith("synthetic-")]
    assert len(found) - len(synthetic) == 2
    assert all(row["from"] == {} and row["made_of"].startswith("P") for row in synthetic)
    assert all("made_of" not in row and row["from"] for row in found if row not in synthetic)
    assert sum(1 for _ in read_judgments(str(tmp_path / "out" / EXAMPLES), {}, {})) == len(found)


def test_what_somebody_typed_is_not_made() -> None:
    typed = rows_of(("red shoes", "shoe", 1.0)).pairs[0]
    synthetic = Pair("red shoes", "shoe", 0.0, (), Made("words", "shoe"))
    tally = Tally("merge", (LOG,))
    before = replace(rows_of(), pairs=(synthetic, typed))
    merged = merge_pairs(before, tally)
    assert [flow.n_merged for flow in tally.report(before, merged).flows if flow.unit == "pairs"] == [1]
    assert merged.pairs == (replace(typed, label=0.5),)
    assert synthetic.place == "product shoe"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kind": "generate"}, "queries and products are both 0"),
        ({"kind": "generate", "products": 5, "writer": {"kind": "transformers", "path": "y"}}, "teacher is missing"),
    ],
)
def test_a_step_that_cannot_work_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=said):
        step(**settings)
