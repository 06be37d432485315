"""Rejection sampling: each check rejects what it is for and no more, all is counted, no money loses nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from engine import EngineConfig, IndexConfig, SearchEngine
from engine.errors import BudgetError
from engine.product import Product
from qpt.product_types import derive
from tests.conftest import synthetic_products
from training.data.examples import read_examples
from training.data.generate import RELEVANT, write_queries
from training.teachers import Done, Pair
from training.teachers.prompts import Searches
from training.teachers.sampling import WRITTEN, Candidate, Checker, GenerateSettings, SamplingReport, sample_queries

PRODUCTS = synthetic_products()
BY_ID = {product.product_id: product for product in PRODUCTS}


class WordsTeacher:
    """Gives the share of the query's words that the title has; runs out of money after so many pairs."""

    fingerprint = "words"

    def __init__(self, pairs: int = 10**9) -> None:
        self.left, self.asked = pairs, 0

    def label(self, pairs: Sequence[Pair], progress: Done = lambda *_: None) -> np.ndarray:
        if len(pairs) > self.left:
            raise BudgetError("no money left")
        self.left -= len(pairs)
        self.asked += len(pairs)
        shares = [np.mean([w in pair.product.title.lower().split() for w in pair.query.split()]) for pair in pairs]
        return np.array(shares, np.float32)


class TitleWriter:
    """Proposes the title, half of it, something else, and nothing that fits for every fifth product."""

    fingerprint = "titles"

    def __init__(self, prompts: int = 10**9) -> None:
        self.left = prompts

    def ask(self, prompts: Sequence[str], answer: type[Any], progress: Done = lambda *_: None) -> list[Any]:
        if len(prompts) > self.left:
            raise BudgetError("no money left to write")
        self.left -= len(prompts)
        out: list[Any] = []
        for number, prompt in enumerate(prompts):
            title = next(p.title for p in PRODUCTS if p.title in prompt)
            said = [title.lower(), "garden hose", "!!", title.lower()]
            out.append(Searches(said) if number % 5 else None)
        return out


@pytest.fixture(scope="module")
def engine() -> SearchEngine:
    return SearchEngine.build(PRODUCTS, config=EngineConfig(index=IndexConfig(encoder="", reranker="", router="")))


def settings(**more: Any) -> GenerateSettings:
    wanted = {"kind": "generate", "teacher": {"kind": "run", "path": "x"}, "queries": 60} | more
    return msgspec.convert(wanted, GenerateSettings)


WRITING = {"queries": 0, "products": 30, "writer": {"kind": "transformers", "path": "y"}}


def test_each_check_rejects_what_it_is_for(engine: SearchEngine) -> None:
    product = PRODUCTS[0]
    report = SamplingReport()
    checker = Checker(PRODUCTS, engine, WordsTeacher(), 5, 0.75, report)
    title = product.title.lower()

    def candidate(query: str, *answers: str) -> Candidate:
        return Candidate(query, "made", answers)

    kept = list(
        checker.passed(
            [
                candidate("x" * 90, product.product_id),
                candidate("one\ntwo", product.product_id),
                candidate("?!", product.product_id),
                candidate(title, "no such product"),
                candidate(title, "no such product", product.product_id),
                candidate(f" {title.upper()}", product.product_id),
                candidate(PRODUCTS[-1].title.lower(), product.product_id),
                candidate(f"{title} something that nobody says about it", product.product_id),
            ]
        )
    )
    assert [made.query for made in kept] == [title]
    tally = report.kinds["made"]
    assert tally.rejected == {"schema": 3, "product": 1, "repeated": 1, "found": 1, "agreed": 1}
    assert (tally.proposed, tally.kept, tally.unjudged) == (8, 1, 0)
    made = kept[0]
    assert made.source == product.product_id
    assert made.candidates[0] == (product.product_id, 1.0)
    labels = dict(made.candidates)
    assert 2 <= len(labels) <= 5
    teacher = WordsTeacher()
    for product_id, label in labels.items():
        assert label == pytest.approx(teacher.label([Pair(title, BY_ID[product_id])])[0])


def test_queries_made_by_rule_keep_the_labels_of_rules(engine: SearchEngine) -> None:
    teacher = WordsTeacher()
    sampled = sample_queries(settings(), PRODUCTS, engine, derive(PRODUCTS), teacher, seed=2)
    report = sampled.report
    assert sum(tally.proposed for tally in report.kinds.values()) == 60
    assert sum(tally.kept for tally in report.kinds.values()) == len(sampled.queries)
    assert all(tally.unjudged == 0 for tally in report.kinds.values())
    assert 0 < len(sampled.queries) < 60
    for made in sampled.queries:
        found = [hit.product.product_id for hit in engine.search(made.query, 10).hits]
        answers = [product_id for product_id, label in made.candidates if label >= RELEVANT]
        best = next(product_id for product_id in found if product_id in answers)
        assert teacher.label([Pair(made.query, BY_ID[best])])[0] >= 0.5
    stricter = sample_queries(settings(agree=0.9), PRODUCTS, engine, derive(PRODUCTS), teacher, seed=2)
    assert {made.query for made in stricter.queries} < {made.query for made in sampled.queries}
    assert sampled == sample_queries(settings(), PRODUCTS, engine, derive(PRODUCTS), WordsTeacher(), seed=2)


def test_written_queries_are_counted_and_written_as_synthetic(engine: SearchEngine, tmp_path: Path) -> None:
    sampled = sample_queries(
        settings(**WRITING), PRODUCTS, engine, derive(PRODUCTS), WordsTeacher(), TitleWriter(), seed=2
    )
    tally = sampled.report.kinds[WRITTEN]
    assert sampled.report.misfits == 6
    assert tally.proposed == 24 * 4
    assert tally.rejected["schema"] == 24
    assert tally.rejected["repeated"] == 24 + 23
    assert tally.rejected["found"] + tally.rejected["agreed"] >= 1
    assert tally.kept == len(sampled.queries) > 10
    assert all(BY_ID[made.source].title.lower() == made.query for made in sampled.queries)
    write_queries(tmp_path / "made.jsonl", sampled.queries, PRODUCTS)
    assert all(row.query_id.startswith("synthetic-written-") for row in read_examples(tmp_path / "made.jsonl"))


def test_money_that_runs_out_keeps_what_there_is(engine: SearchEngine) -> None:
    types = derive(PRODUCTS)
    sampled = sample_queries(settings(**WRITING), PRODUCTS, engine, types, WordsTeacher(60), TitleWriter(), seed=2)
    whole = sample_queries(settings(**WRITING), PRODUCTS, engine, types, WordsTeacher(), TitleWriter(), seed=2)
    tally = sampled.report.kinds[WRITTEN]
    assert sampled.report.stopped == "no money left"
    assert 0 < len(sampled.queries) == tally.kept < len(whole.queries)
    assert sampled.queries == whole.queries[: len(sampled.queries)]
    assert tally.unjudged > 0
    more = settings(**WRITING | {"products": 70})
    unwritten = sample_queries(more, PRODUCTS, engine, types, WordsTeacher(), TitleWriter(64), seed=2)
    assert unwritten.report.stopped == "no money left to write"
    assert unwritten.report.kinds[WRITTEN].unjudged == 0
    assert len(unwritten.queries) > len(whole.queries)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"queries": 0}, "both 0"),
        ({"products": 5}, "go together"),
        ({"writer": {"kind": "transformers", "path": "y"}}, "go together"),
        ({"agree": 1.5}, "from 0 to 1"),
        ({"find_in": 0}, "find_in"),
        ({"writer": {"kind": "run", "path": "y"}, "products": 5}, "run"),
    ],
)
def test_settings_that_cannot_work_are_named(more: dict[str, object], reason: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=reason):
        settings(**more)


def test_a_step_round_trips() -> None:
    step = settings(**WRITING)
    assert msgspec.convert(msgspec.to_builtins(step), GenerateSettings) == step


def test_products_that_are_alike_to_the_search_are_still_told_apart_by_id(engine: SearchEngine) -> None:
    same = [Product(product_id=f"S{n}", title="acme phone") for n in range(30)]
    built = SearchEngine.build(same, config=EngineConfig(index=IndexConfig(encoder="", reranker="", router="")))
    report = SamplingReport()
    proposed = [Candidate("acme phone", WRITTEN, ("S29",)), Candidate("acme  phone", WRITTEN, ("S0",))]
    assert [made.source for made in Checker(same, built, WordsTeacher(), 10, 0.5, report).passed(proposed[1:])] == [
        "S0"
    ]
    assert not list(Checker(same, built, WordsTeacher(), 10, 0.5, report).passed(proposed[:1]))
