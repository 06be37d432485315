"""The columns of an index with what has changed since it was built."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from functools import lru_cache

import numpy as np

from engine.columns import Column, Columns, field_values, fold, text_of
from engine.filters import Filter
from engine.product import Product
from engine.types import Mask, Rows

#: Fields that are neither analysed nor encoded, so that a change of them is a new number or a new text in a column.
FREE = ("price", "rating", "rating_count", "popularity", "availability", "currency", "locale", "released", "image_url")
_FREE_COLUMNS = FREE[:-1]  # images are in no column
_FREE_NUMBERS = frozenset({"price", "rating", "rating_count", "popularity"})
_Texts = dict[str, tuple[str, list[int]]]  # by how they compare: as first spelled, and the rows
_POPULARITY = {"popularity", "rating_count"}


class JoinedColumns(Columns):
    """The columns of the build without the rows that are dead, and with those of products that are new or were patched.

    A field is joined when it is first asked for.
    """

    def __init__(
        self, base: Columns, alive: Mask, added: Mapping[int, Product], patched: Mapping[int, Product]
    ) -> None:  # fmt: skip
        """``alive``, bool (n_all,), begins with the base's rows; ``added`` and ``patched`` are living ones by row."""
        super().__init__(len(alive), {}, np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
        self._base, self._alive, self._added, self._patched = base, alive, added, patched
        self._is_base = len(alive) == len(base) and bool(alive.all())
        self._texts: dict[str, _Texts] = {}
        self._floats: dict[str, dict[int, float]] = {}
        for row in sorted(added):
            for name, value in field_values(added[row]):
                if name not in FREE:
                    _collect(self._texts.setdefault(name, {}), self._floats.setdefault(name, {}), row, name, value)
        self._joined: dict[str, Column | None] = {}
        self._stale: dict[str, tuple[Column, frozenset[int]]] = {}  # as last joined, and the rows patched since
        self._lasting_mask, self._mask = self._mask, self._mask_of
        self._free_mask = lru_cache(maxsize=256)(self._evaluate)
        if self._is_base and "percentiles" in base.__dict__:
            self.__dict__["percentiles"] = base.percentiles  # until ``repatched`` says otherwise

    def repatched(self, patched: Mapping[int, Product], changed: Iterable[str], rows: Iterable[int]) -> JoinedColumns:
        """These columns with other patches, which differ in the ``changed`` fields of some ``rows`` alone.

        What does not depend on these is kept, so that a patch costs as much in a large catalog as in a small one.
        """
        changed, since = set(changed), frozenset(rows)
        other = copy(self)
        other._patched = patched
        other._joined = {name: column for name, column in self._joined.items() if name not in changed}
        other._stale = dict(self._stale)
        for name in changed & _FREE_NUMBERS:
            column = self._joined.get(name)
            if column is not None:
                other._stale[name] = column, since
            elif name in self._stale:
                column, before = self._stale[name]
                other._stale[name] = column, before | since
        other._mask = other._mask_of
        other._free_mask = lru_cache(maxsize=256)(other._evaluate)
        if changed & _POPULARITY:
            other.__dict__.pop("percentiles", None)
        return other

    def _mask_of(self, filter: Filter) -> Mask:
        """That of a field which patches do not reach outlives them."""
        return self._free_mask(filter) if filter.field in FREE else self._lasting_mask(filter)

    def _unpatched(self) -> Mask:
        """Rows of the build whose free fields are as they were built."""
        kept = self._alive[: len(self._base)].copy()
        kept[[row for row in self._patched if row < len(kept)]] = False
        return kept

    @property
    def fields(self) -> list[str]:
        names = {*self._base.fields, *_FREE_COLUMNS, *self._texts}
        return sorted(name for name in names if self.column(name) is not None)

    @property
    def rows(self) -> Rows:
        return np.flatnonzero(self._alive)

    def column(self, name: str) -> Column | None:
        if self._is_base and name not in FREE:
            return self._base.column(name)
        if name not in self._joined:
            stale = self._stale.get(name)
            self._joined[name] = self._renewed(name, *stale) if stale else self._join(name)
        return self._joined[name]

    def _renewed(self, name: str, column: Column, rows: frozenset[int]) -> Column | None:
        """A column of numbers with those that some rows have now."""
        changed = np.array(sorted(rows), np.int64)
        values = [getattr(self._patched[row], name) for row in changed.tolist()]
        new = np.array([np.nan if value is None else value for value in values], np.float64)
        at = np.searchsorted(column.number_rows, changed)
        had = (
            column.number_rows.take(at, mode="clip") == changed
            if len(column.number_rows)
            else np.zeros(len(at), np.bool_)
        )
        has = ~np.isnan(new)
        number_rows, numbers = column.number_rows, column.numbers.copy()
        numbers[at[had & has]] = new[had & has]
        if (had != has).any():
            gone, come = at[had & ~has], has & ~had
            number_rows = np.delete(np.insert(number_rows, at[come], changed[come]), gone + _before(at[come], gone))
            numbers = np.delete(np.insert(numbers, at[come], new[come]), gone + _before(at[come], gone))
        return Column({}, {}, column.rows, number_rows, numbers) if len(numbers) else None

    def _changed(self, name: str) -> tuple[_Texts, dict[int, float]]:
        """What products that are new or were patched have in a field."""
        if name not in FREE:
            return self._texts.get(name, {}), self._floats.get(name, {})
        texts: _Texts = {}
        floats: dict[int, float] = {}
        current = {**self._added, **self._patched}
        for row in sorted(current):
            value = getattr(current[row], name)
            if value not in (None, ""):
                _collect(texts, floats, row, name, value)
        return texts, floats

    def _join(self, name: str) -> Column | None:
        base, (texts, floats) = self._base.column(name), self._changed(name)
        kept = self._unpatched() if name in FREE else self._alive[: len(self._base)]
        spans, rows = _living(base, kept)
        tail: list[Rows] = [rows]
        end = len(rows)
        spelled = {fold(name, value): value for value in spans}
        for folded, (text, new) in texts.items():
            value = spelled.get(folded, text)
            old = rows[slice(*spans[value])] if value in spans else rows[:0]
            both = np.sort(np.concatenate([old, np.array(new, rows.dtype)]))
            tail.append(both)
            spans[value] = (end, end + len(both))
            end += len(both)
        rows = np.concatenate(tail)
        # Values come in the order in which they were first met.
        spans = dict(sorted(spans.items(), key=lambda item: int(rows[item[1][0]])))
        number_rows, numbers = np.empty(0, np.int64), np.empty(0, np.float64)
        if base is not None:
            keep = kept[base.number_rows]
            number_rows, numbers = base.number_rows[keep].astype(np.int64), base.numbers[keep]
        if floats:
            number_rows = np.concatenate([number_rows, np.fromiter(floats, np.int64)])
            numbers = np.concatenate([numbers, np.fromiter(floats.values(), np.float64)])
            order = np.argsort(number_rows, kind="stable")
            number_rows, numbers = number_rows[order], numbers[order]
        if not spans and not len(numbers):
            return None
        return Column(spans, {fold(name, value): span for value, span in spans.items()}, rows, number_rows, numbers)


def _collect(texts: _Texts, floats: dict[int, float], row: int, name: str, value: str | bool | float) -> None:
    if isinstance(value, (bool, str)):
        text = text_of(value)
        _, rows = texts.setdefault(fold(name, text), (text, []))
        if not rows or rows[-1] != row:
            rows.append(row)
    else:
        floats[row] = value


def _before(inserted: Rows, places: Rows) -> Rows:
    """How many of what is inserted, at ascending places, comes before what is at each of some ``places``."""
    return np.searchsorted(inserted, places, "right")


def _living(base: Column | None, kept: Mask) -> tuple[dict[str, tuple[int, int]], Rows]:
    """The spans of the values that some kept row has, and these rows."""
    if base is None or not base.spans:
        return {}, np.empty(0, np.int64)
    spans = np.array(list(base.spans.values()), np.int64)
    first, last = int(spans[:, 0].min()), int(spans[:, 1].max())
    keep = kept[base.rows[first:last]]
    before = np.concatenate([[0], np.cumsum(keep)])
    moved = before[spans - first]
    left = {value: (int(a), int(b)) for value, (a, b) in zip(base.spans, moved.tolist(), strict=True) if a < b}
    return left, np.asarray(base.rows[first:last][keep], np.int64)
