"""The catalog by column, for filters and facets: which rows have which value of which field.

Text, flags and category paths are kept as an inverted list per value; numbers as (row, number) pairs. Both are sparse,
so a catalog may have thousands of attributes. The format is two pairs of arrays and a directory in JSON.
"""

from __future__ import annotations

import difflib
from array import array
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.errors import IndexCorruptError, InvalidFilterError
from engine.filters import Equal, Exists, Filter, Range, Value
from engine.product import Product
from engine.types import FacetCount, Mask, Rows

PATH_SEPARATOR = " > "
_TEXT_FIELDS = ("brand", "model", "currency", "availability", "locale", "released", "product_id")
_NUMBER_FIELDS = ("price", "rating", "rating_count", "popularity")
_DIRECTORY = "columns.json"
_ARRAYS = ("postings", "number_rows", "numbers")


#: A value as first spelled, and the rows that have it, ascending.
_Postings = tuple[str, "array[int]"]


class _Field(msgspec.Struct):
    """Where a field's values lie: per value [start, end) in ``postings``; [start, end) of its numbers."""

    values: dict[str, tuple[int, int]] = {}
    numbers: tuple[int, int] = (0, 0)


class Columns:
    """Evaluates filters to row masks and counts facets. Thread-safe; recent filters are cached."""

    def __init__(
        self, n: int, fields: dict[str, _Field], postings: Rows, number_rows: Rows, numbers: NDArray[np.float64]
    ) -> None:
        self._n, self._fields = n, fields
        # As plain arrays: a slice of a memory map costs ten times that of the array it is.
        self._postings, self._number_rows = np.asarray(postings), np.asarray(number_rows)
        self._numbers = np.asarray(numbers)
        self._folded = {
            name: {_fold(name, value): span for value, span in field.values.items()} for name, field in fields.items()
        }
        self._mask = lru_cache(maxsize=256)(self._evaluate)

    def __len__(self) -> int:
        """How many products there are."""
        return self._n

    @property
    def fields(self) -> list[str]:
        """Every field that some product has, by name."""
        return sorted(self._fields)

    def mask(self, filters: Iterable[Filter]) -> Mask | None:
        """Rows that pass all filters, bool (n,); None when there are no filters.

        Raises InvalidFilterError on a field no product has, or a number compared with text.
        """
        masks = [self._mask(filter) for filter in filters]
        return np.logical_and.reduce(masks) if masks else None

    def passing(self, filters: Iterable[Filter], rows: Rows) -> Mask:
        """Which of some rows pass all filters, bool (n_rows,), at a cost that does not grow with the catalog.

        Raises as ``mask`` does.
        """
        passes = np.ones(len(rows), np.bool_)
        for filter in filters:
            passes &= self._passes(filter, rows)
        return passes

    def facets(self, field: str, rows: Rows) -> tuple[FacetCount, ...]:
        """How many of ``rows`` have each value of a text field, most frequent first, then by name."""
        _, spans = self._field(field)
        if not spans.values:
            raise InvalidFilterError(f"{field!r} holds numbers; facets count text, flags and categories")
        inside = np.zeros(self._n, np.int64)
        inside[rows] = 1
        counts = [
            FacetCount(value, int(inside[self._postings[start:end]].sum()))
            for value, (start, end) in spans.values.items()
        ]
        return tuple(sorted((c for c in counts if c.count), key=lambda c: (-c.count, c.value)))

    def numbers(self, field: str) -> NDArray[np.float64] | None:
        """A number field's value per row, float64 (n,), NaN where a product has none; None where no product has any."""
        start, end = self._fields[field].numbers if field in self._fields else (0, 0)
        if start == end:
            return None
        values = np.full(self._n, np.nan)
        values[self._number_rows[start:end]] = self._numbers[start:end]
        return values

    def values(self, field: str) -> tuple[FacetCount, ...]:
        """A field's texts and how many products have each, in the order first met; none where it holds numbers only."""
        _, spans = self._field(field)
        return tuple(FacetCount(value, end - start) for value, (start, end) in spans.values.items())

    def row(self, product_id: str) -> int | None:
        """The row of a product, None where there is none of the id."""
        span = self._folded.get("product_id", {}).get(product_id)
        return int(self._postings[span[0]]) if span else None

    def groups(self, field: str) -> Iterator[Rows]:
        """For each value of a field, text or number, the rows that have it. Raises InvalidFilterError on no field."""
        _, spans = self._field(field)
        yield from (self._postings[start:end] for start, end in spans.values.values())
        rows, numbers = self._number_rows[slice(*spans.numbers)], self._numbers[slice(*spans.numbers)]
        order = np.argsort(numbers, kind="stable")
        yield from np.split(rows[order], np.flatnonzero(np.diff(numbers[order])) + 1)

    def postings(self, field: str) -> Iterator[tuple[str, Rows]]:
        """Each text of a field with the rows that have it, ascending; none where no product has any."""
        spans = self._fields.get(field, _Field())
        return ((value, self._postings[start:end]) for value, (start, end) in spans.values.items())

    @cached_property
    def percentiles(self) -> NDArray[np.float32] | None:
        """Each product's place by popularity, float32 (n,), 1 the most popular, 0.5 where unknown; None if all are.

        Popularity is the number of ratings where no product says more.
        """
        for name in ("popularity", "rating_count"):
            values = self.numbers(name)
            if values is not None:
                known = np.flatnonzero(~np.isnan(values))
                places = np.full(len(values), 0.5, np.float32)
                places[known] = (np.searchsorted(np.sort(values[known]), values[known], "right")) / len(known)
                return places
        return None

    def _field(self, name: str) -> tuple[str, _Field]:
        for candidate in (name, f"attributes.{name}"):
            if candidate in self._fields:
                return candidate, self._fields[candidate]
        known = [f.removeprefix("attributes.") for f in self._fields]
        close = difflib.get_close_matches(name, known, 3) or sorted(known)[:8]
        raise InvalidFilterError(f"no product has a field {name!r}. Did you mean: {', '.join(close)}?")

    def _passes(self, filter: Filter, rows: Rows) -> Mask:
        name, field = self._field(filter.field)
        start, end = field.numbers
        if isinstance(filter, Exists) or (isinstance(filter, Range) and start == end):
            return self._mask(filter)[rows]  # which raises where there is no range
        if isinstance(filter, Range):
            numbers = self._numbers_of(field, rows)
            low = -np.inf if filter.at_least is None else filter.at_least
            high = np.inf if filter.at_most is None else filter.at_most
            return np.asarray((numbers >= low) & (numbers <= high))  # NaN, of rows without a number, does neither
        passes = np.zeros(len(rows), np.bool_)
        for value in (filter.value,) if isinstance(filter, Equal) else filter.values:
            span, number = self._span(name, field, value)
            if span:
                postings = self._postings[span[0] : span[1]]
                passes |= postings.take(postings.searchsorted(rows), mode="clip") == rows
            if number is not None:
                passes |= self._numbers_of(field, rows) == number
        return passes

    def _numbers_of(self, field: _Field, rows: Rows) -> NDArray[np.float64]:
        """A field's number for each of some rows, NaN where a row has none; the field has numbers."""
        start, end = field.numbers
        known, numbers = self._number_rows[start:end], self._numbers[start:end]
        at = known.searchsorted(rows)
        return np.where(known.take(at, mode="clip") == rows, numbers.take(at, mode="clip"), np.nan)

    def _evaluate(self, filter: Filter) -> Mask:
        name, field = self._field(filter.field)
        mask = np.zeros(self._n, np.bool_)
        if isinstance(filter, Exists):
            for start, end in field.values.values():
                mask[self._postings[start:end]] = True
            mask[self._number_rows[slice(*field.numbers)]] = True
        elif isinstance(filter, Range):
            self._range(mask, name, field, filter)
        else:
            for value in (filter.value,) if isinstance(filter, Equal) else filter.values:
                self._equal(mask, name, field, value)
        mask.flags.writeable = False
        return mask

    def _range(self, mask: Mask, name: str, field: _Field, filter: Range) -> None:
        start, end = field.numbers
        if start == end:
            raise InvalidFilterError(f"{name!r} holds no numbers, so it has no range; use {name}=VALUE")
        numbers = self._numbers[start:end]
        passes = np.ones(end - start, np.bool_)
        if filter.at_least is not None:
            passes &= numbers >= filter.at_least
        if filter.at_most is not None:
            passes &= numbers <= filter.at_most
        mask[self._number_rows[start:end][passes]] = True

    def _equal(self, mask: Mask, name: str, field: _Field, value: Value) -> None:
        span, number = self._span(name, field, value)
        if span:
            mask[self._postings[slice(*span)]] = True
        if number is not None:
            start, end = field.numbers
            mask[self._number_rows[start:end][self._numbers[start:end] == number]] = True

    def _span(self, name: str, field: _Field, value: Value) -> tuple[tuple[int, int] | None, float | None]:
        """Where the rows that have a value as a text lie, and the number that it may be as well."""
        text = _text(value)
        if name == "category":
            text = PATH_SEPARATOR.join(part.strip() for part in text.split(">"))
        span = self._folded[name].get(_fold(name, text))
        if field.numbers[0] == field.numbers[1] or isinstance(value, bool):
            return span, None
        try:
            return span, float(value)
        except ValueError:
            if not field.values:
                raise InvalidFilterError(f"{name!r} holds numbers, not {value!r}") from None
            return span, None

    @classmethod
    def build(cls, directory: Path, products: Iterable[Product]) -> Iterator[Product]:
        """Collects columns while passing products on; writes them when the products end."""
        texts: dict[str, dict[str, _Postings]] = {}
        numbers: dict[str, tuple[array[int], array[float]]] = {}
        row = -1
        for row, product in enumerate(products):
            for name, value in _values(product):
                if isinstance(value, (bool, str)):
                    text = _text(value)
                    by_value = texts.setdefault(name, {})
                    # Spellings that differ in case are one value, shown as first met.
                    _, rows = by_value.setdefault(_fold(name, text), (text, array("i")))
                    if not rows or rows[-1] != row:
                        rows.append(row)
                else:
                    rows, values = numbers.setdefault(name, (array("i"), array("d")))
                    rows.append(row)
                    values.append(value)
            yield product
        _write(directory, row + 1, texts, numbers)

    @classmethod
    def open(cls, directory: Path) -> Columns:
        try:
            n, fields = msgspec.json.decode((directory / _DIRECTORY).read_bytes(), type=tuple[int, dict[str, _Field]])
            arrays = [np.load(directory / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS]
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            raise IndexCorruptError(f"the columns in {directory} cannot be read: {error}") from error
        return cls(n, fields, *arrays)


def _write(
    directory: Path,
    n: int,
    texts: dict[str, dict[str, _Postings]],
    numbers: dict[str, tuple[array[int], array[float]]],
) -> None:
    fields: dict[str, _Field] = {}
    postings, number_rows, values = array("i"), array("i"), array("d")
    for name in sorted(texts.keys() | numbers.keys()):
        spans: dict[str, tuple[int, int]] = {}
        for value, rows in texts.get(name, {}).values():
            spans[value] = (len(postings), len(postings) + len(rows))
            postings.extend(rows)
        start = len(values)
        if name in numbers:
            number_rows.extend(numbers[name][0])
            values.extend(numbers[name][1])
        fields[name] = _Field(spans, (start, len(values)))
    (directory / _DIRECTORY).write_bytes(msgspec.json.encode((n, fields)))
    for name, column in zip(_ARRAYS, (postings, number_rows, values), strict=True):
        np.save(directory / f"{name}.npy", np.asarray(column))


def _fold(field: str, value: str) -> str:
    """Values compare without case, but for ids, which shops do make differ by case alone."""
    return value if field == "product_id" else value.casefold()


def _values(product: Product) -> Iterator[tuple[str, str | bool | float]]:
    for name in _TEXT_FIELDS:
        if value := getattr(product, name):
            yield name, value
    for name in _NUMBER_FIELDS:
        if (number := getattr(product, name)) is not None:
            yield name, number
    for depth in range(1, len(product.category) + 1):
        yield "category", PATH_SEPARATOR.join(product.category[:depth])
    for key, attribute in product.attributes.items():
        for value in attribute if isinstance(attribute, list) else (attribute,):
            yield f"attributes.{key}", value


def _text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
