"""Curation with teachers: queries made for products, and labels mixed with a teacher's."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from tests.conftest import synthetic_products
from tests.curation_rows import PRODUCTS, labels, rows_of, taken, write_lines
from training.curation import made, taught
from training.curation.made import GenerateStep
from training.curation.rows import Made, Pair, Rows
from training.curation.run import EXAMPLES, CurationConfig, curate
from training.curation.step import mergers
from training.curation.taught import LabelStep
from training.data.examples import read_judgments

TEACHER = {"kind": "run", "path": "runs/teacher/best"}


class TitleTeacher:
    """Gives the share of the query's words that the title has, and for boots no answer."""

    fingerprint = "titles"

    def label(self, pairs: list[Any], progress: Any = None) -> np.ndarray:
        shares = [
            np.nan
            if "boots" in pair.product.title
            else np.mean([w in pair.product.title.lower() for w in pair.query.split()])
            for pair in pairs
        ]
        return np.array(shares, np.float32)


def write_shop(folder: Path) -> str:
    names = ("product_id", "title", "brand", "category")
    shop = [{name: getattr(product, name) for name in names} for product in synthetic_products()]
    return str(write_lines(folder / "shop.jsonl", shop))


def step(**settings: Any) -> Any:
    return msgspec.convert(settings, GenerateStep | LabelStep)


@pytest.fixture
def rows() -> Rows:
    typed = rows_of(("red shoes", "shoe", 0.8), ("boots", "boot", 1.0), ("red shoes", "case", 0.4))
    shop = {product.product_id: product for product in synthetic_products()}
    return replace(typed, products={**shop, **typed.products})


def test_a_label_is_mixed_with_the_teachers(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taught, "open_labeller", lambda settings: TitleTeacher())
    after, flows, _ = taken(step(kind="label", teacher=TEACHER, weight=0.25), rows)
    assert [label for *_, label in labels(after)] == pytest.approx([0.25 * 1 + 0.75 * 0.8, 0.75 * 0.4])
    assert flows["pairs"].dropped["pair without an answer of the teacher"].examples == ["log.jsonl:2"]
    assert flows["pairs"].changed["label mixed with the teacher's"].count == 2


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
    said = tally.report(rows, after).notes
    assert any("queries proposed" in note for note in said)
    assert "no teacher was asked whether it agrees" in said
    monkeypatch.setattr(made, "open_labeller", lambda settings: TitleTeacher())
    strict, _, tally = taken(step(kind="generate", queries=60, teacher=TEACHER, agree=0.9), rows)
    assert 0 < sum(pair.made is not None for pair in strict.pairs) < len(added)
    assert any("agreed" in note for note in tally.report(rows, strict).notes)


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
    merged, gone = mergers((synthetic, typed))
    assert gone == [typed]
    assert merged == (replace(typed, label=0.5),)
    assert synthetic.place == "product shoe"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kind": "label", "teacher": TEACHER, "weight": 0}, "weight is 0"),
        ({"kind": "label"}, "missing required field `teacher`"),
        ({"kind": "generate"}, "queries and products are both 0"),
        ({"kind": "generate", "products": 5, "writer": {"kind": "transformers", "path": "y"}}, "teacher is missing"),
    ],
)
def test_a_step_that_cannot_work_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=said):
        step(**settings)
