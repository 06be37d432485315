"""What a search found out about each candidate, as numbers that a combiner weighs. Nothing is scored here.

Features come from the stages that ran before; those of a query are the same for all its candidates, so that they only
matter beside others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from engine.analysis.analyzer import Term
from engine.columns import Columns
from engine.fusion import normalise
from engine.guidance import Guidance
from engine.types import Candidates, Features, Mask, Rows, Scores
from engine.understanding.constraints import Constraint

_UNKNOWN = 0.5  # the place of a product whose popularity or price is not known, from 0 to 1

#: Every feature by name, in the order of a row, and what it says. Of an index without prices, a router or the like, a
#: feature is the same for all candidates.
FEATURES = {
    "probability": "the reranker's probability, 0 to 1",
    "probability_gap": "probability less the best candidate's, -1 to 0",
    "cosine": "cosine of the product's vector and the query's, before feedback",
    "cosine_gap": "cosine less the best candidate's",
    "lexical": "BM25, 1 the best found; 0 where no word was found",
    "code": "score of the query's model codes alone, 1 the best found; 0 where none was found",
    "fused": "score of the stage before reranking, 1 the best",
    "rank": "1 / log2(1 + rank) by that score",
    "route": "probability that the product is of the type asked for",
    "outside": "1 outside the types that a sure route filters to, else 0",
    "limits": "share of the limits stated in the query that are met, less the share that is not",
    "brand": "the same of brands named in the query",
    "constraints": "what the constraints stage added: limits, exclusions, names of models",
    "popularity": "place among all products, 1 the most popular; 0.5 where unknown",
    "price": "place among the candidates, 1 the dearest; 0.5 where unknown",
    "query_words": "number of words in the query",
    "query_code": "1 where the query has a model code",
    "query_measure": "1 where the query has a measure",
    "query_route": "probability of the most probable product type",
}


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What fusion saw: ``rows`` int64 (n,), ascending, their ``cosines`` float32 (n,), what words and codes found."""

    rows: Rows
    cosines: Scores
    lexical: Candidates
    codes: Candidates


def features(
    best: Candidates, probabilities: Scores, evidence: Evidence, terms: Sequence[Term], guidance: Guidance,
    stages: Sequence[tuple[str, Candidates]], columns: Columns, prices: NDArray[np.float64] | None,
) -> Features:  # fmt: skip
    """Float32 (n, len(FEATURES)) of the ``best`` candidates, from the first on in the order before reranking.

    ``probabilities`` float32 (n,) are NaN where they are not known, and not all; so are ``prices``, float64
    (n_products,). ``terms`` are the query's, ``stages`` those that ranked before.
    """
    rows, n = best.rows, len(best)
    cosines = evidence.cosines[np.searchsorted(evidence.rows, rows)]
    routed = guidance.routed
    limits = [(constraint, fits) for constraint, fits in guidance.limits if constraint.kind != "brand"]
    brands = [(constraint, fits) for constraint, fits in guidance.limits if constraint.kind == "brand"]
    values = {
        "probability": probabilities,
        "probability_gap": probabilities - np.nanmax(probabilities),
        "cosine": cosines,
        "cosine_gap": cosines - evidence.cosines.max(),
        "lexical": _share(evidence.lexical, rows),
        "code": _share(evidence.codes, rows),
        "fused": normalise(best.scores, 0.0),
        "rank": 1 / np.log2(np.arange(2, n + 2)),
        "route": 0.0 if routed is None or routed.fit is None else routed.fit[rows],
        "outside": 0.0 if routed is None or routed.inside is None else ~routed.inside[rows],
        "limits": _met(limits, rows),
        "brand": _met(brands, rows),
        "constraints": _added(stages, "constraints", rows),
        "popularity": _UNKNOWN if columns.percentiles is None else columns.percentiles[rows],
        "price": _UNKNOWN if prices is None else _places(prices[rows]),
        "query_words": sum(term.kind == "word" for term in terms),
        "query_code": any(term.is_code for term in terms),
        "query_measure": any(term.kind == "measure" for term in terms),
        "query_route": routed.product_types[0].probability if routed and routed.product_types else 0.0,
    }
    out = np.empty((n, len(FEATURES)), np.float32)
    for column, name in enumerate(FEATURES):
        out[:, column] = values[name]
    return out


def _share(found: Candidates, rows: Rows) -> Scores | float:
    """Each row's score, 1 the best found."""
    return _of(found.rows, found.scores / found.scores[0], rows) if len(found) and found.scores[0] > 0 else 0.0


def _of(known: Rows, scores: Scores, rows: Rows) -> Scores:
    """The scores of ``rows``, 0 where they are not ``known``."""
    order = np.argsort(known)
    places = order[np.minimum(np.searchsorted(known, rows, sorter=order), len(known) - 1)]
    return np.where(known[places] == rows, scores[places], np.float32(0))


def _met(limits: Iterable[tuple[Constraint, Mask]], rows: Rows) -> Scores | float:
    met = [np.where(fits[rows], np.float32(1), np.float32(-1)) for _, fits in limits]
    return np.mean(met, axis=0) if met else 0.0


def _added(stages: Sequence[tuple[str, Candidates]], name: str, rows: Rows) -> Scores | float:
    """What the stage added to the scores of the one before it, brought to 1 the best."""
    for (_, before), (stage, after) in pairwise(stages):
        if stage == name:
            return _of(after.rows, after.scores, rows) - _of(before.rows, normalise(before.scores, 0.0), rows)
    return 0.0


def _places(prices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each price's place among those that are known, in the middle of equal ones."""
    known = np.sort(prices[~np.isnan(prices)])
    if not len(known):
        return np.full(len(prices), _UNKNOWN)
    places = (np.searchsorted(known, prices, "left") + np.searchsorted(known, prices, "right")) / (2 * len(known))
    return np.where(np.isnan(prices), _UNKNOWN, places)
