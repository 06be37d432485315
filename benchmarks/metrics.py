"""Quality of rankings, through ir-measures; and a quick judge of the two figures that tuning needs.

nDCG is trec_eval's (Järvelin and Kekäläinen 2002, with a linear gain)::

    DCG@k = Σ_{rank ≤ k} gain(rank) / log2(rank + 1)        nDCG@k = DCG@k / DCG@k of the best order

Every judged query counts in every average: one without results scores 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.data import Grading, Qrels
from engine.errors import MissingExtraError

NDCG, RECALL = "nDCG@10", "R@100"
Ranking = Sequence[tuple[str, float]]
#: Metric name to query id to value.
PerQuery = dict[str, dict[str, float]]


def evaluate(qrels: Qrels, rankings: Mapping[str, Ranking], grading: Grading) -> PerQuery:
    """Every metric for every judged query. Rankings are best first, and their order is what counts, not the scores."""
    try:
        import ir_measures
    except ImportError as error:
        raise MissingExtraError("bench", "ir-measures") from error
    measures = _measures(grading)
    names = {measure: name for name, measure in measures.items()}
    values: PerQuery = {name: dict.fromkeys(qrels, 0.0) for name in measures}
    # A query without results would make Judged divide by zero, so it is left out here and keeps its 0.
    run = {
        query_id: dict(strictly_decreasing(ranking))
        for query_id, ranking in rankings.items()
        if ranking and query_id in qrels
    }
    if run:
        for found in ir_measures.iter_calc(list(measures.values()), qrels, run):
            values[names[found.measure]][found.query_id] = float(found.value)
    return values


def _measures(grading: Grading) -> dict[str, Any]:
    """Name in our tables to ir-measures' measure."""
    from ir_measures import RR, Judged, P, R, nDCG

    gains = {} if grading.gains is None else {"gains": dict(grading.gains)}
    relevant = grading.relevant
    measures = {
        NDCG: nDCG(**gains) @ 10,
        "nDCG@10 judged-only": nDCG(judged_only=True, **gains) @ 10,
        "nDCG": nDCG(**gains) if gains else nDCG,
        RECALL: R(rel=relevant) @ 100,
        "RR@10": RR(rel=relevant) @ 10,
        "P@10": P(rel=relevant) @ 10,
        "Judged@10": Judged @ 10,
    }
    return measures | {f"R(rel={grade})@100": R(rel=grade) @ 100 for grade in grading.recall_from}


def strictly_decreasing(ranking: Ranking) -> list[tuple[str, float]]:
    """The ranking with scores lowered, by no more than float32 can tell, so that no two are equal or rise.

    Evaluators sort a run by score and break ties by id; so the order they see is the order that was given.
    """
    out: list[tuple[str, float]] = []
    ceiling = np.float32(np.inf)
    for product_id, score in ranking:
        lowered = min(np.float32(score), np.nextafter(ceiling, np.float32(-np.inf)))
        out.append((product_id, float(lowered)))
        ceiling = lowered
    return out


def means(values: PerQuery) -> dict[str, float]:
    return {name: float(np.mean(list(of_query.values()))) for name, of_query in values.items()}


class QuickJudge:
    """nDCG@10 and R@100 of many rankings at once, equal to ir-measures' figures for the same qrels."""

    def __init__(self, qrels: Qrels, grading: Grading) -> None:
        gains = grading.gains or {}
        self._gains = [
            {product_id: max(gains.get(grade, grade), 0) for product_id, grade in grades.items()}
            for grades in qrels.values()
        ]
        self._relevant = [
            {product_id for product_id, grade in grades.items() if grade >= grading.relevant}
            for grades in qrels.values()
        ]
        self._discounts = 1 / np.log2(np.arange(2, 12))
        ideal = np.zeros((len(self._gains), 10))
        for row, of_product in enumerate(self._gains):
            best = sorted(of_product.values(), reverse=True)[:10]
            ideal[row, : len(best)] = best
        self._ideal = ideal @ self._discounts

    def judge(self, rankings: Sequence[Sequence[str]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(nDCG@10, R@100), float64 (n_queries,) each, for rankings of product ids in the order of the qrels."""
        gains = np.zeros((len(self._gains), 10))
        recall = np.zeros(len(self._gains))
        for row, ranking in enumerate(rankings):
            of_product, relevant = self._gains[row], self._relevant[row]
            top = [of_product.get(product_id, 0) for product_id in ranking[:10]]
            gains[row, : len(top)] = top
            recall[row] = len(relevant.intersection(ranking[:100])) / len(relevant) if relevant else 0.0
        found = gains @ self._discounts
        return np.divide(found, self._ideal, out=np.zeros_like(found), where=self._ideal > 0), recall
