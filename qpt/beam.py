"""Beam search: the most probable sequences of a model that gives the next token's probabilities."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Prefixes, int64 (n, tokens), to log-probabilities of the token after each, float32 (n, vocabulary).
Step = Callable[[NDArray[np.int64]], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Decoded:
    """Ids without the first and the last, and the mean log-probability of a token, the last included."""

    ids: tuple[int, ...]
    score: float


def beam_search(
    step: Step, first: int, last: int, *, width: int, longest: int, never: Collection[int] = ()
) -> list[Decoded]:
    """At most ``width`` sequences that begin with ``first`` and end with ``last``, best first.

    They are ordered by the mean log-probability of their tokens, so that long ones are not held back. One has at most
    ``longest`` tokens between first and last, and none of ``never``. What is not ended by then is left out. Log-
    probabilities that are no numbers count as impossible.
    """
    banned = sorted({first, *never})
    prefixes, sums = np.full((1, 1), first, np.int64), np.zeros(1)
    ended: list[Decoded] = []
    for length in range(1, longest + 2):
        following = np.nan_to_num(step(prefixes).astype(np.float64), nan=-np.inf, posinf=-np.inf, neginf=-np.inf)
        following[:, banned] = -np.inf
        totals = sums[:, None] + following
        # The best of all that go on or end; ties by prefix, then id, as everywhere.
        best = np.argsort(-totals, axis=None, kind="stable")[: 2 * width]
        rows, ids = np.unravel_index(best, totals.shape)
        found = totals[rows, ids]
        done = (ids == last) & np.isfinite(found)
        ended += [
            Decoded(tuple(prefixes[row, 1:].tolist()), float(total) / length)
            for row, total in zip(rows[done], found[done], strict=True)
        ]
        on = np.flatnonzero((ids != last) & np.isfinite(found))[:width]
        if not len(on) or len(ended) >= width or length > longest:
            break
        prefixes = np.concatenate([prefixes[rows[on]], ids[on, None]], axis=1)
        sums = found[on]
    return sorted(ended, key=lambda sequence: (-sequence.score, sequence.ids))[:width]
