"""Metrics against figures worked out by hand and against ir-measures; nothing vanishes from an average."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("ir_measures")

from benchmarks.data import GRADINGS, Grading, Qrels
from benchmarks.metrics import (
    JUDGED,
    JUDGED_ONLY,
    NDCG,
    RECALL,
    QuickJudge,
    Ranking,
    evaluate,
    means,
    strictly_decreasing,
)

QRELS: Qrels = {"q1": {"a": 3, "b": 2, "c": 1, "d": 0}, "q2": {"a": 3, "z": 2}, "q3": {"a": 0}}


def ranking(ids: str) -> Ranking:
    return [(product_id, float(-place)) for place, product_id in enumerate(ids)]


def test_metrics_match_figures_worked_out_by_hand() -> None:
    values = evaluate(QRELS, {"q1": ranking("dbxa"), "q2": ranking("xz")}, Grading(relevant=2))
    ideal = 3 + 2 / math.log2(3) + 1 / 2
    assert values[NDCG]["q1"] == pytest.approx((2 / math.log2(3) + 3 / math.log2(5)) / ideal)
    assert values["nDCG"]["q1"] == pytest.approx(values[NDCG]["q1"])
    assert values["nDCG@10 judged-only"]["q1"] == pytest.approx((2 / math.log2(3) + 3 / 2) / ideal)
    assert values[RECALL] == {"q1": 1.0, "q2": 0.5, "q3": 0.0}
    assert values["RR@10"] == {"q1": 0.5, "q2": 0.5, "q3": 0.0}
    assert values["P@10"] == pytest.approx({"q1": 0.2, "q2": 0.1, "q3": 0.0})
    assert values["Judged@10"]["q1"] == pytest.approx(0.75)


def test_publishers_gains_are_exact() -> None:
    values = evaluate({"q": {"a": 3, "b": 2, "c": 1, "d": 0}}, {"q": ranking("bdca")}, GRADINGS["esci"])
    ideal = 1 + 0.1 / math.log2(3) + 0.01 / 2
    assert values[NDCG]["q"] == pytest.approx((0.1 + 0.01 / 2 + 1 / math.log2(5)) / ideal, abs=1e-12)
    assert values["R(rel=3)@100"]["q"] == 1.0


@pytest.mark.parametrize("rankings", [{}, {"q2": []}, {"q1": [], "q2": [], "q3": []}])
def test_a_query_without_results_counts_as_zero(rankings: dict[str, Ranking]) -> None:
    values = evaluate(QRELS, rankings, Grading(relevant=2))
    assert all(of_query == dict.fromkeys(QRELS, 0.0) for of_query in values.values())
    assert set(means(values).values()) == {0.0}


def test_an_empty_query_lowers_the_mean() -> None:
    qrels: Qrels = {"q1": {"a": 3}, "q2": {"a": 3}}
    values = evaluate(qrels, {"q1": ranking("a"), "q2": []}, Grading(relevant=2))
    assert means(values)[NDCG] == 0.5
    assert means(values)["Judged@10"] == 0.5


def test_order_counts_and_not_scores() -> None:
    tied = [("a", 1.0), ("b", 1.0), ("d", 7.0)]
    values = evaluate(QRELS, {"q1": tied}, Grading(relevant=2))
    assert values == evaluate(QRELS, {"q1": ranking("abd")}, Grading(relevant=2))


def test_strictly_decreasing_keeps_ids_and_nearly_keeps_scores() -> None:
    lowered = strictly_decreasing([("a", 2.0), ("b", 2.0), ("c", 2.5), ("d", -1.0)])
    scores = np.array([score for _, score in lowered], np.float32)
    assert [product_id for product_id, _ in lowered] == ["a", "b", "c", "d"]
    assert (np.diff(scores) < 0).all()
    assert scores[:3] == pytest.approx(2.0, rel=1e-6)


@pytest.mark.parametrize("grading", [Grading(relevant=2), Grading(4), GRADINGS["esci"]])
def test_quick_judge_equals_ir_measures(grading: Grading) -> None:
    rng = np.random.default_rng(5)
    products = [f"p{number}" for number in range(300)]
    n_grades = 4 if grading.gains else 7
    qrels: Qrels = {
        f"q{number}": {str(p): int(rng.integers(n_grades)) for p in rng.choice(products, rng.integers(1, 60), False)}
        for number in range(40)
    }
    rankings = {query_id: ranking_of(rng, products) for query_id in qrels}
    rankings["q0"] = []
    expected = evaluate(qrels, rankings, grading)
    judge = QuickJudge(qrels, grading)
    found = judge.judge([[product_id for product_id, _ in rankings[query_id]] for query_id in qrels])
    assert found.keys() == {NDCG, JUDGED_ONLY, RECALL, JUDGED}
    for metric, values in found.items():
        assert values == pytest.approx(list(expected[metric].values()), abs=1e-9), metric
        assert 0 < values.mean() < 1


def ranking_of(rng: np.random.Generator, products: list[str]) -> Ranking:
    picked = rng.choice(products, int(rng.integers(1, 150)), replace=False)
    return [(str(product_id), float(-place)) for place, product_id in enumerate(picked)]
