"""Is a difference more than chance? Intervals by bootstrap, p-values by permutation; both seeded.

Sources: Smucker, Allan and Carterette 2007, "A Comparison of Statistical Significance Tests for Information Retrieval
Evaluation" (the paired randomisation test); Efron 1979 (the percentile bootstrap); Holm 1979 (several comparisons).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1_000
PERMUTATIONS = 10_000
_BLOCK = 1_000  # permutations drawn at once, so that memory does not grow with their number
_TIE = 1e-12  # two figures this near are the same figure

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Comparison:
    """System ``b`` against ``a``: ``difference`` is mean(b) − mean(a) with its 95 % interval, ``wins`` are b's.

    ``p`` is two-sided; ``p_holm`` is corrected for all comparisons on the same metric.
    """

    a: str
    b: str
    metric: str
    difference: float
    interval: tuple[float, float]
    p: float
    p_holm: float
    wins: int
    losses: int
    ties: int


def bootstrap_interval(values: Values, seed: int, resamples: int = RESAMPLES) -> tuple[float, float]:
    """The 95 % interval of the mean: the 2.5th and 97.5th percentile of the means of resamples with replacement."""
    picks = np.random.default_rng(seed).integers(0, len(values), (resamples, len(values)))
    low, high = np.percentile(values[picks].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def permutation_p(differences: Values, seed: int, permutations: int = PERMUTATIONS) -> float:
    """Two-sided p of the mean of paired differences under random signs.

    All 2^n signs are tried where they are no more than ``permutations``, and p is then exact. Otherwise
    p = (1 + number of draws at least as extreme) / (1 + draws), which is never 0 (Phipson and Smyth 2010).
    """
    n = len(differences)
    observed = abs(float(differences.sum())) - _TIE * max(n, 1)
    if 2**n <= permutations:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        return float(np.mean(np.abs(signs @ differences) >= observed))
    rng = np.random.default_rng(seed)
    extreme = 0
    for start in range(0, permutations, _BLOCK):
        signs = 1 - 2 * rng.integers(0, 2, (min(_BLOCK, permutations - start), n), dtype=np.int8)
        extreme += int(np.count_nonzero(np.abs(signs @ differences) >= observed))
    return (1 + extreme) / (1 + permutations)


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down correction, in input order: the i-th smallest of m (from 0) times m − i, never decreasing."""
    corrected = [0.0] * len(ps)
    highest = 0.0
    for place, index in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        highest = max(highest, min(1.0, ps[index] * (len(ps) - place)))
        corrected[index] = highest
    return corrected


def compare_all(
    per_query: Mapping[str, Mapping[str, Mapping[str, float]]], metrics: Sequence[str], seed: int
) -> list[Comparison]:
    """Every pair of systems on every metric.

    ``per_query`` is system to metric to query to value, with the same queries in all.
    """
    out: list[Comparison] = []
    for metric in metrics:
        found = [
            _compare(a, b, metric, per_query[a][metric], per_query[b][metric], seed)
            for a, b in combinations(per_query, 2)
        ]
        corrected = holm([comparison.p for comparison in found])
        out += [replace(comparison, p_holm=p) for comparison, p in zip(found, corrected, strict=True)]
    return out


def _compare(
    a: str, b: str, metric: str, of_a: Mapping[str, float], of_b: Mapping[str, float], seed: int
) -> Comparison:
    differences = np.array([of_b[query_id] - of_a[query_id] for query_id in of_a])
    wins, losses = (int(np.count_nonzero(sign * differences > _TIE)) for sign in (1, -1))
    p = permutation_p(differences, seed)
    return Comparison(
        a, b, metric, float(differences.mean()), bootstrap_interval(differences, seed), p, p,
        wins, losses, len(differences) - wins - losses,
    )  # fmt: skip
