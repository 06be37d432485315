"""Quality of an order, and how alike two are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32]


def ndcg(gains: Sequence[float] | NDArray[np.float64], k: int = 10) -> float:
    """nDCG@k of all judged items' gains in the order they were ranked; 0 where none has a gain.

    Linear gain over log2(rank + 1), as in trec_eval: Järvelin and Kekäläinen 2002.
    """
    discounts = 1 / np.log2(np.arange(2, min(k, len(gains)) + 2))
    best = float(np.sort(gains)[::-1][:k] @ discounts)
    return float(np.asarray(gains)[:k] @ discounts) / best if best > 0 else 0.0


def kendall_tau(left: Scores, right: Scores) -> float:
    """Pairs in the same order less those in the opposite one, over all; 1 for fewer than two items. Kendall 1938."""
    upper = np.triu_indices(len(left), 1)
    if not len(upper[0]):
        return 1.0
    return float((np.sign(left[upper[0]] - left[upper[1]]) * np.sign(right[upper[0]] - right[upper[1]])).mean())


def swapped_neighbours(reference: Scores, scores: Scores) -> float:
    """The share of items next to each other in the reference's order that ``scores`` put the other way round."""
    ordered = scores[np.argsort(-reference, kind="stable")]
    return float((ordered[1:] > ordered[:-1]).mean()) if len(ordered) > 1 else 0.0
