"""How alike products are, by price and by the numbers among their attributes."""

from __future__ import annotations

import numpy as np

from engine.needs.measures import Measures
from engine.types import Mask, Rows, Scores

_MOST_FIELDS = 8
_LEAST_COVERAGE, _LEAST_VALUES = 0.6, 3


class Likeness:
    """Thread-safe."""

    def __init__(self, measures: Measures, price_share: float) -> None:
        self._measures, self._price_share = measures, price_share

    def to(self, named: Rows, rows: Mask) -> Scores:
        """Float32 (n_products,), from 0 to 1, the most like at 1: one less the mean distance of places among ``rows``
        in each number, that of the price counting its share. NaN outside.
        """
        parts = [(self._distance(field, named, rows), 1.0) for field in self._fields(rows)]
        weight = (1 - self._price_share) / max(len(parts), 1)
        parts = [(distance, weight) for distance, _ in parts]
        parts.append((self._distance("price", named, rows), self._price_share))
        total = np.zeros(len(rows), np.float32)
        for distance, share in parts:
            total += np.float32(share) * distance
        like = np.where(rows, 1 - total / sum(share for _, share in parts), np.nan)
        return like.astype(np.float32)

    def _fields(self, rows: Mask) -> list[str]:
        telling = [
            field for field in self._measures.names if self._measures.tells(field, rows, _LEAST_COVERAGE, _LEAST_VALUES)
        ]
        return telling[:_MOST_FIELDS]

    def _distance(self, field: str, named: Rows, rows: Mask) -> Scores:
        """Of each product's place from the middle one of the named; half where either does not say."""
        places = self._measures.places(field, rows, most=True)
        own = places[named]
        if np.isnan(own).all():
            return np.full(len(rows), 0.5, np.float32)
        distance = np.abs(places - np.nanmedian(own))
        return np.where(np.isnan(distance), 0.5, distance).astype(np.float32)
