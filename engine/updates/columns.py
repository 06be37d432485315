"""The columns of an index with what has changed since it was built."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from engine.columns import Column, Columns, field_values, fold, text_of
from engine.product import Product
from engine.types import Mask, Rows

#: Fields that are neither analysed nor encoded, so that a change of them is a new number or a new text in a column.
FREE = ("price", "rating", "rating_count", "popularity", "availability", "currency", "locale", "released", "image_url")
_FREE_COLUMNS = FREE[:-1]  # images are in no column
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
        self._base, self._alive = base, alive
        self._kept = alive[: len(base)].copy()  # rows of which the free fields are as they were built
        self._kept[[row for row in patched if row < len(base)]] = False
        self._texts: dict[str, dict[str, tuple[str, list[int]]]] = {}
        self._floats: dict[str, dict[int, float]] = {}
        current = {**added, **patched}
        for row in sorted(current):
            self._collect(row, current[row], is_added=row >= len(base))
        self._joined: dict[str, Column | None] = {}

    def since(self, before: Columns, changed: Iterable[str]) -> JoinedColumns:
        """This one, with what ``before`` has joined of fields other than ``changed``, all that differs between them."""
        changed = set(changed)
        if isinstance(before, JoinedColumns):
            self._joined = {name: column for name, column in before._joined.items() if name not in changed}
        if not changed & _POPULARITY and "percentiles" in before.__dict__:
            self.__dict__["percentiles"] = before.percentiles
        return self

    @property
    def fields(self) -> list[str]:
        names = {*self._base.fields, *self._texts, *self._floats}
        return sorted(name for name in names if self.column(name) is not None)

    @property
    def rows(self) -> Rows:
        return np.flatnonzero(self._alive)

    def column(self, name: str) -> Column | None:
        if name not in self._joined:
            self._joined[name] = self._join(name)
        return self._joined[name]

    def _collect(self, row: int, product: Product, *, is_added: bool) -> None:
        for name, value in field_values(product) if is_added else _free_values(product):
            if isinstance(value, (bool, str)):
                text = text_of(value)
                _, rows = self._texts.setdefault(name, {}).setdefault(fold(name, text), (text, []))
                if not rows or rows[-1] != row:
                    rows.append(row)
            else:
                self._floats.setdefault(name, {})[row] = value

    def _join(self, name: str) -> Column | None:
        base = self._base.column(name)
        kept = self._kept if name in FREE else self._alive[: len(self._base)]
        spans, rows = _living(base, kept)
        tail: list[Rows] = [rows]
        end = len(rows)
        spelled = {fold(name, value): value for value in spans}
        for folded, (text, new) in self._texts.get(name, {}).items():
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
        if new_numbers := self._floats.get(name):
            number_rows = np.concatenate([number_rows, np.fromiter(new_numbers, np.int64)])
            numbers = np.concatenate([numbers, np.fromiter(new_numbers.values(), np.float64)])
            order = np.argsort(number_rows, kind="stable")
            number_rows, numbers = number_rows[order], numbers[order]
        if not spans and not len(numbers):
            return None
        return Column(spans, {fold(name, value): span for value, span in spans.items()}, rows, number_rows, numbers)


def _free_values(product: Product) -> Iterator[tuple[str, str | float]]:
    return ((name, value) for name in _FREE_COLUMNS if (value := getattr(product, name)) not in (None, ""))


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
