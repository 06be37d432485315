"""Quality of rankings, through ir-measures; and a quick judge of the figures that choosing settings needs.

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

NDCG, RECALL, JUDGED_ONLY, JUDGED = "nDCG@10", "R@100", "nDCG@10 judged-only", "Judged@10"
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
        JUDGED_ONLY: nDCG(judged_only=True, **gains) @ 10,
        "nDCG": nDCG(**gains) if gains else nDCG,
        RECALL: R(rel=relevant) @ 100,
        "RR@10": RR(rel=relevant) @ 10,
        "P@10": P(rel=relevant) @ 10,
        JUDGED: Judged @ 10,
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
    """The figures of ``QUICK`` for many rankings at once, equal to ir-measures' for the same qrels."""

    QUICK = (NDCG, JUDGED_ONLY, RECALL, JUDGED)

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
        self._ideal = self._dcg([sorted(of_product.values(), reverse=True) for of_product in self._gains])

    def judge(self, rankings: Sequence[Sequence[str]]) -> dict[str, NDArray[np.float64]]:
        """Each of ``QUICK``, float64 (n_queries,), for rankings of product ids in the order of the qrels."""
        pairs = list(zip(rankings, self._gains, strict=True))
        recall = [
            len(relevant.intersection(ranking[:100])) / len(relevant) if relevant else 0.0
            for ranking, relevant in zip(rankings, self._relevant, strict=True)
        ]
        judged = [sum(i in of for i in ranking[:10]) / len(ranking[:10]) if ranking else 0.0 for ranking, of in pairs]
        return {
            NDCG: self._ndcg([[of.get(i, 0) for i in ranking[:10]] for ranking, of in pairs]),
            JUDGED_ONLY: self._ndcg([[of[i] for i in ranking if i in of] for ranking, of in pairs]),
            RECALL: np.array(recall),
            JUDGED: np.array(judged),
        }

    def _ndcg(self, gains: Sequence[Sequence[int]]) -> NDArray[np.float64]:
        found = self._dcg(gains)
        return np.divide(found, self._ideal, out=np.zeros_like(found), where=self._ideal > 0)

    def _dcg(self, gains: Sequence[Sequence[int]]) -> NDArray[np.float64]:
        table = np.zeros((len(gains), 10))
        for row, of_query in enumerate(gains):
            table[row, : len(of_query[:10])] = of_query[:10]
        return table @ self._discounts
