"""How alike products are, by price and by the numbers among their attributes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from engine.needs.measures import Measures, packed, room, unpacked
from engine.product import Product
from engine.types import Mask, Rows, Scores

_MOST_FIELDS = 8
_LEAST_COVERAGE, _LEAST_VALUES = 0.6, 3


class Likeness:
    """Thread-safe; what was compared lately is kept."""

    def __init__(
        self, measures: Measures, products: Callable[[Rows], Sequence[Product]], price_share: float
    ) -> None:  # fmt: skip
        """``products`` gives those of some rows; ``price_share`` is what prices say of the whole."""
        self._measures, self._products, self._price_share = measures, products, price_share
        self._kept = lru_cache(maxsize=room(len(measures), 64))(self._compared)

    def to(self, named: Rows, rows: Mask) -> Scores:
        """Float32 (n_products,), from 0 to 1, the most like at 1: one less the mean distance of places among ``rows``
        in each number that the first of ``named`` says, that of the price counting its share. NaN outside ``rows``.
        """
        return self._kept(named.tobytes(), packed(rows))

    def _compared(self, packed_named: bytes, packed_rows: bytes) -> Scores:
        named, rows = np.frombuffer(packed_named, np.int64), unpacked(packed_rows, len(self._measures))
        fields = self._fields(named, rows)
        distance = self._price_share * self._distance("price", named, rows)
        for field in fields:
            distance += (1 - self._price_share) / len(fields) * self._distance(field, named, rows)
        whole = 1.0 if fields else self._price_share
        like: Scores = np.where(rows, 1 - distance / max(whole, 1e-6), np.nan).astype(np.float32)
        like.flags.writeable = False
        return like

    def _fields(self, named: Rows, rows: Mask) -> list[str]:
        """Of a catalog's hundreds of attributes those that the named product has, and enough others of its kind."""
        [first] = self._products(named[:1])
        telling = [
            field
            for field in (f"attributes.{name}" for name in first.attributes)
            if self._measures.tells(field, rows, _LEAST_COVERAGE, _LEAST_VALUES)
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
