"""The settings that are tuned, their ranges, and where to look next.

Random search over the whole space (Bergstra and Bengio 2012), then small moves from the best few found so far. A point
is a float64 (n_settings,) in the unit cube.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.config import SearchConfig

Point = NDArray[np.float64]

_RANDOM_SHARE = 1 / 3  # of the trials
_ELITE = 5
_MOVED_SHARE = 0.4  # of the settings in one local move
_WIDTHS = (0.2, 0.04)  # standard deviation of a local move at the start and at the end


@dataclass(frozen=True, slots=True)
class Span:
    """From ``low`` to ``high``. ``log`` spreads trials evenly over orders of magnitude; ``whole`` keeps to integers."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def value(self, unit: float) -> float:
        """The setting at ``unit`` in 0..1, rounded to what matters."""
        if self.log:
            found = math.exp(math.log(self.low) + unit * math.log(self.high / self.low))
        else:
            found = self.low + unit * (self.high - self.low)
        return round(found) if self.whole else round(found, 3)

    def unit(self, value: float) -> float:
        """The inverse of ``value``; what is outside goes to the nearer end."""
        value = min(max(value, self.low), self.high)
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


#: SearchConfig's settings by name, with a dot into ``field_weights``.
RANGES: dict[str, Span] = {
    "field_weights.brand": Span(0.1, 4, log=True),
    "field_weights.model": Span(0.1, 6, log=True),
    "field_weights.category": Span(0.1, 6, log=True),
    "field_weights.attributes": Span(0.1, 4, log=True),
    "field_weights.summary": Span(0.1, 6, log=True),
    "field_weights.body": Span(0.05, 3, log=True),
    "field_tie": Span(0, 1),
    "lexical_weight": Span(0.05, 0.95),
    "lexical_power": Span(0.4, 3, log=True),
    "code_weight": Span(0, 1),
    "popularity_weight": Span(0, 0.2),
    "feedback_products": Span(2, 40, log=True, whole=True),
    "feedback_weight": Span(0, 0.9),
}

#: Numeric settings that stay as they are. The title's weight is the unit of the others: only ratios matter, as fusion
#: normalises. What more depth costs (time) and a lower floor costs (wrong answers where nothing is right), the figures
#: that are tuned for do not see. ``rrf_k`` belongs to the other fusion, ``threads`` to the machine; routing and
#: reranking are tuned for themselves, on top of what retrieval was tuned to.
NOT_TUNED = frozenset({
    "field_weights.title", "depth", "min_similarity", "rrf_k", "rerank_depth", "rerank_weight", "constraint_weight",
    "route_weight", "rewrite_below", "rewrite_weight", "threads",
})  # fmt: skip


def point_of(config: SearchConfig) -> Point:
    return np.array([span.unit(_get(config, name)) for name, span in RANGES.items()])


def config_at(point: Point, base: SearchConfig) -> SearchConfig:
    """``base`` with the settings of ``RANGES`` as ``point`` has them."""
    values: dict[str, float] = {}
    weights = dict(base.field_weights)
    for (name, span), unit in zip(RANGES.items(), point, strict=True):
        table, dot, field = name.partition(".")
        if dot:
            weights[field] = span.value(float(unit))
        else:
            values[table] = span.value(float(unit))
    return msgspec.structs.replace(base, field_weights=weights, **values)


def propose(number: int, trials: int, elite: Sequence[Point], seed: int) -> Point:
    """The point of trial ``number`` of ``trials``, from the seed and the elite, best first, and nothing else."""
    rng = np.random.default_rng([seed, number])
    n_random = max(1, round(trials * _RANDOM_SHARE))
    if number <= n_random or not elite:
        return rng.random(len(RANGES))
    progress = (number - n_random) / max(1, trials - n_random)
    width = _WIDTHS[0] * (_WIDTHS[1] / _WIDTHS[0]) ** progress
    start = elite[int(rng.integers(min(len(elite), _ELITE)))]
    moved = rng.random(len(RANGES)) < _MOVED_SHARE
    moved[rng.integers(len(RANGES))] = True
    return np.clip(start + moved * rng.normal(0, width, len(RANGES)), 0, 1)


def _get(config: SearchConfig, name: str) -> float:
    table, dot, field = name.partition(".")
    return float(config.field_weights.get(field, 0.0) if dot else getattr(config, table))
