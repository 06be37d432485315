"""Fusion: several rankings of one query become one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.types import Candidates, Mask, Rows, Scores


class ReciprocalRankFusion:
    """Sum of 1 / (constant + rank), ranks from 1. Cormack, Clarke and Büttcher 2009, where the constant is 60."""

    def __init__(self, constant: int = 60) -> None:
        self._constant = constant

    def __call__(self, lists: Sequence[Candidates], k: int) -> Candidates:
        rows = union(lists)
        scores = np.zeros(len(rows), np.float32)
        for candidates in lists:
            ranks = np.arange(1, len(candidates) + 1, dtype=np.float32)
            scores[np.searchsorted(rows, candidates.rows)] += 1 / (self._constant + ranks)
        return Candidates.ranked(rows, scores, k)


class WeightedFusion:
    """Weighted sum of scores brought to 0..1; a row that a list lacks gets 0 from it.

    Takes at most as many lists as there are weights.

    ``floors`` says per list which score becomes 0: a number where the scale has a natural zero (a lexical score of 0
    is no match at all), None for the list's lowest score (cosines have no such zero). ``powers`` bend the normalised
    scores: above 1, only scores near the best count for much.
    """

    def __init__(self, weights: Sequence[float], floors: Sequence[float | None], powers: Sequence[float]) -> None:
        self._weights, self._floors, self._powers = tuple(weights), tuple(floors), tuple(powers)

    def __call__(self, lists: Sequence[Candidates], k: int) -> Candidates:
        rows = union(lists)
        total = np.zeros(len(rows), np.float32)
        for candidates, weight, floor, power in zip(lists, self._weights, self._floors, self._powers, strict=False):
            if len(candidates):
                at = np.searchsorted(rows, candidates.rows)
                total[at] += weight * normalise(candidates.scores, floor) ** power
        return Candidates.ranked(rows, total, k)


def reranked(fused: Candidates, probabilities: Scores, weight: float) -> Candidates:
    """``fused`` with its first ``len(probabilities)`` rows ordered by ``weight · probability + (1 - weight) · fused``.

    Fused scores count from 0 to 1, the best one. A row without a probability (NaN), and every row after them, counts
    as improbable: it keeps its order, behind those that have one. Scores never rise down the list.
    """
    scores = np.float32(1 - weight) * normalise(fused.scores, 0.0)
    known = np.flatnonzero(np.isfinite(probabilities))
    scores[known] += np.float32(weight) * probabilities[known]
    first = known[np.lexsort((fused.rows[known], -scores[known]))]
    order = np.concatenate([first, np.setdiff1d(np.arange(len(fused)), first)])
    return Candidates(fused.rows[order], np.minimum.accumulate(scores[order]))


def normalise(scores: Scores, floor: float | None) -> Scores:
    """Scores with ``floor`` (None: the lowest) at 0 and the highest at 1; all equal ones are 1."""
    low = float(scores.min()) if floor is None else floor
    span = float(scores.max()) - low
    return (scores - np.float32(low)) / np.float32(span) if span > 0 else np.ones_like(scores)


def union(lists: Sequence[Candidates]) -> Rows:
    """The rows of all lists, each once, ascending."""
    if not lists:
        return np.empty(0, np.int64)
    rows = np.sort(np.concatenate([c.rows for c in lists]))  # a tenth of np.unique's time for a few hundred
    return rows[np.append(True, rows[1:] != rows[:-1])] if len(rows) else rows


def among(rows: Rows, ascending: Rows) -> Mask:
    """Which of ``rows`` are among others that ascend."""
    if not len(ascending):
        return np.zeros(len(rows), np.bool_)
    places = np.minimum(np.searchsorted(ascending, rows), len(ascending) - 1)
    return np.asarray(ascending[places] == rows)
