"""How probable it is that a shopper looks at a position: estimated from clicks, by the position-based model.

A click is a look and a liking: P(click at k) = p[k] · r(query, product) (Richardson et al. 2007; Craswell et al. 2008).
Only what a query's product gets at one position and at another tells p from r. So both estimators need products that
moved: by chance, by a test of two rankers, or because a ranking changed. All p are relative to the first position's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 5_000
_ENOUGH = 1e-7  # a change that ends the rounds
_LEAST_CLICKS = 5  # that tell a position from others
_PRIOR = 1.0  # looks: more would hold a pair's own clicks back, and take bias for less than it is

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """Impressions and clicks by pair of query and product, and position: arrays of shape (n,), by pair, then position.

    ``pair`` are numbers from 0, ``position`` are from 0 to ``n_positions`` - 1.
    """

    pair: NDArray[np.int64]
    position: NDArray[np.int64]
    shown: Floats
    clicks: Floats
    n_positions: int

    @classmethod
    def of(cls, pair: NDArray[np.int64], position: NDArray[np.int64], clicks: Floats, n_positions: int) -> Counts:
        """Adds up impressions; each of the arrays has shape (n,)."""
        keys, places = np.unique(pair * n_positions + position, return_inverse=True)
        shown = np.bincount(places, minlength=len(keys)).astype(np.float64)
        clicks = np.bincount(places, clicks, len(keys)).astype(np.float64)
        return cls(keys // n_positions, keys % n_positions, shown, clicks, n_positions)

    @property
    def moved(self) -> NDArray[np.bool_]:
        """Of each row, whether its pair was shown at another position too."""
        same = self.pair[1:] == self.pair[:-1]
        return np.asarray(np.concatenate([same, [False]]) | np.concatenate([[False], same]))


def all_pairs(counts: Counts) -> Floats | None:
    """Propensities, shape (n_positions,), from pairs shown at two positions; None where those do not tell of all.

    Interventions are harvested as AllPairs does (Agarwal et al. 2019, "Estimating Position Bias without Intrusive
    Interventions", section 4.3; Joachims et al. 2017, section 5.3, swaps on purpose), from any two positions at which a
    query's product was shown, n and n' times. Both click rates are weighed by n n' / (n + n'), for what is rarely shown
    at one of them tells little. In place of the paper's likelihood, which has one relevance more for each two
    positions, clicks at k of those at k or k' are taken as binomial with p[k] / (p[k] + p[k']): relevance cancels out,
    and what is left is the model of Bradley and Terry, solved by Hunter's rounds (2004, "MM Algorithms for Generalized
    Bradley-Terry Models").
    """
    won = _harvest(counts)
    met = won + won.T
    if not _is_connected(won):
        return None
    p = np.ones(counts.n_positions)
    for _ in range(_ROUNDS):
        new = won.sum(axis=1) / (met / (p[:, None] + p[None, :])).sum(axis=1)
        new /= new[0]
        change, p = np.abs(new - p).max(), new
        if change < _ENOUGH:
            break
    return p


def _harvest(counts: Counts) -> Floats:
    """Weighed click rates at k of pairs shown at k and k': shape (n_positions, n_positions)."""
    n = counts.n_positions
    won = np.zeros((n, n))
    rate = counts.clicks / counts.shown
    for apart in range(1, n):
        left = np.flatnonzero(counts.pair[apart:] == counts.pair[:-apart])
        if not len(left):
            break
        right = left + apart
        weight = counts.shown[left] * counts.shown[right] / (counts.shown[left] + counts.shown[right])
        here, there = counts.position[left], counts.position[right]
        np.add.at(won, (here, there), weight * rate[left])
        np.add.at(won, (there, here), weight * rate[right])
    return won


def _is_connected(won: Floats) -> bool:
    """Whether every position is compared, over others if need be, with the first, and clicks tell of each."""
    reached = np.zeros(len(won), np.bool_)
    reached[0] = True
    edges = (won > 0) & (won.T > 0)
    for _ in range(len(won)):
        reached |= edges[reached].any(axis=0)
    return bool(reached.all() and ((won + won.T).sum(axis=1) >= _LEAST_CLICKS).all())


def expectation_maximisation(counts: Counts) -> Floats:
    """Propensities, shape (n_positions,), by EM of the position-based model with one relevance per pair.

    Wang et al. 2018, "Position Bias Estimation for Unbiased Learning to Rank in Personal Search", section 4.1: standard
    EM. Relevance is pulled towards the mean rate of clicks of what was looked at, as if one more look had had
    that rate (a beta prior): it is what remains where a pair was seen once, or never moved. Where none moved, the
    estimate is that of click rates by position, which holds ranking's own skill for bias.
    """
    n_pairs = int(counts.pair.max()) + 1
    skipped = counts.shown - counts.clicks
    shown_at = np.bincount(counts.position, counts.shown, counts.n_positions)
    shown_of = np.bincount(counts.pair, counts.shown, n_pairs)
    p = 1.0 / np.arange(1, counts.n_positions + 1) ** 0.5
    mean = counts.clicks.sum() / (p[counts.position] * counts.shown).sum()
    r = np.full(n_pairs, min(mean, 0.5))
    for _ in range(_ROUNDS):
        look, like = p[counts.position], r[counts.pair]
        miss = np.maximum(1 - look * like, 1e-12)
        looked = counts.clicks + skipped * look * (1 - like) / miss
        liked = counts.clicks + skipped * like * (1 - look) / miss
        new = np.bincount(counts.position, looked, counts.n_positions) / np.maximum(shown_at, 1e-12)
        r = (np.bincount(counts.pair, liked, n_pairs) + _PRIOR * mean) / (shown_of + _PRIOR)
        mean = np.average(r, weights=shown_of)
        change, p = np.abs(new - p).max(), new
        if change < _ENOUGH:
            break
    return np.asarray(p / (p[0] or p.max()))  # the first has none where it was not clicked once
