"""Groups of products, of which a result shows one each: by a field's value, or as families of variants."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.columns import Columns
from engine.types import Mask, Rows


class Groups:
    """The groups of a catalog by one field. Thread-safe.

    ``of``, int64 (n_products,), gives the group of each row; one that has no value is a group of its own.
    """

    def __init__(self, field: str, of: NDArray[np.int64]) -> None:
        self.field, self.of = field, of
        self._by_group = np.argsort(of, kind="stable")
        self._sorted = of[self._by_group]
        self._n = len(np.unique(of))

    @classmethod
    def by_field(cls, field: str, columns: Columns) -> Groups:
        """The products with one value of a field together, of several values the first. Raises InvalidFilterError."""
        of = np.arange(len(columns), dtype=np.int64)
        known = np.zeros(len(columns), np.bool_)
        for rows in columns.groups(field):
            new = rows[~known[rows]]
            if len(new):
                of[new] = new[0]
                known[new] = True
        return cls(field, of)

    def members(self, row: int) -> Rows:
        """The rows of a row's group, ascending, itself among them."""
        group = self.of[row]
        start, end = np.searchsorted(self._sorted, group), np.searchsorted(self._sorted, group, "right")
        return np.asarray(self._by_group[start:end], np.int64)

    def count(self, allowed: Mask | None) -> int:
        """How many groups there are among the rows that are allowed."""
        return self._n if allowed is None else len(np.unique(self.of[allowed]))
