"""The catalog by column, for filters and facets: which rows have which value of which field.

Text, flags and category paths are kept as an inverted list per value; numbers as (row, number) pairs. Both are sparse,
so a catalog may have thousands of attributes. The format is two pairs of arrays and a directory in JSON.
"""

from __future__ import annotations

import difflib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """One field: where in ``rows`` those of each text lie, and ``number_rows`` with their ``numbers``, both ascending.

    ``folded`` are the texts as they compare, with the same spans.
    """

    spans: Mapping[str, tuple[int, int]]
    folded: Mapping[str, tuple[int, int]]
    rows: Rows
    number_rows: Rows
    numbers: NDArray[np.float64]

    def counts(self, among: Mask) -> NDArray[np.int64]:
        """How many of the rows ``among``, bool (n,), have each text, int64 (n_texts,), in the order of ``spans``."""
        if not self.spans:
            return np.empty(0, np.int64)
        spans = np.array(list(self.spans.values()), np.int64)
        first, last = int(spans[:, 0].min()), int(spans[:, 1].max())
        before = np.concatenate([[0], np.cumsum(among[self.rows[first:last]], dtype=np.int64)])
        counts: NDArray[np.int64] = before[spans[:, 1] - first] - before[spans[:, 0] - first]
        return counts

    def texts(self, row: int) -> list[str]:
        """The texts that a row has, in the order of ``spans``."""
        if not self.spans:
            return []
        spans = np.array(list(self.spans.values()), np.int64)
        first, last = int(spans[:, 0].min()), int(spans[:, 1].max())
        at = np.flatnonzero(self.rows[first:last] == row) + first
        places = [int(np.flatnonzero((spans[:, 0] <= place) & (place < spans[:, 1]))[0]) for place in at.tolist()]
        values = list(self.spans) if places else []
        return [values[place] for place in sorted(places)]


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
            name: {fold(name, value): span for value, span in field.values.items()} for name, field in fields.items()
        }
        self._mask: Callable[[Filter], Mask] = lru_cache(maxsize=256)(self._evaluate)

    def __len__(self) -> int:
        """How many products there are."""
        return self._n

    @property
    def fields(self) -> list[str]:
        """Every field that some product has, by name."""
        return sorted(self._fields)

    @property
    def rows(self) -> Rows:
        """The rows that have a product, ascending: all of them, unless products were deleted since the build."""
        return np.arange(self._n)

    def column(self, name: str) -> Column | None:
        """A field, by its full name; None where no product has it."""
        field = self._fields.get(name)
        if field is None:
            return None
        numbers = slice(*field.numbers)
        return Column(
            field.values, self._folded[name], self._postings, self._number_rows[numbers], self._numbers[numbers]
        )

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
        _, column = self._field(field)
        if not column.spans:
            raise InvalidFilterError(f"{field!r} holds numbers; facets count text, flags and categories")
        inside = np.zeros(self._n, np.bool_)
        inside[rows] = True
        counts = zip(column.spans, column.counts(inside).tolist(), strict=True)
        found = [FacetCount(value, count) for value, count in counts if count]
        return tuple(sorted(found, key=lambda c: (-c.count, c.value)))

    def numbers(self, field: str) -> NDArray[np.float64] | None:
        """A number field's value per row, float64 (n,), NaN where a product has none; None where no product has any."""
        column = self.column(field)
        if column is None or not len(column.numbers):
            return None
        values = np.full(self._n, np.nan)
        values[column.number_rows] = column.numbers
        return values

    def values(self, field: str) -> tuple[FacetCount, ...]:
        """A field's texts and how many products have each, in the order first met; none where it holds numbers only."""
        _, column = self._field(field)
        return tuple(FacetCount(value, end - start) for value, (start, end) in column.spans.items())

    def row(self, product_id: str) -> int | None:
        """The row of a product, None where there is none of the id."""
        column = self.column("product_id")
        span = column.folded.get(product_id) if column else None
        return int(column.rows[span[0]]) if column and span else None

    def groups(self, field: str) -> Iterator[Rows]:
        """For each value of a field, text or number, the rows that have it. Raises InvalidFilterError on no field."""
        _, column = self._field(field)
        yield from (column.rows[start:end] for start, end in column.spans.values())
        order = np.argsort(column.numbers, kind="stable")
        yield from np.split(column.number_rows[order], np.flatnonzero(np.diff(column.numbers[order])) + 1)

    def postings(self, field: str) -> Iterator[tuple[str, Rows]]:
        """Each text of a field with the rows that have it, ascending; none where no product has any."""
        column = self.column(field)
        if column is not None:
            yield from ((value, column.rows[start:end]) for value, (start, end) in column.spans.items())

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

    def _field(self, name: str) -> tuple[str, Column]:
        for candidate in (name, f"attributes.{name}"):
            column = self.column(candidate)
            if column is not None:
                return candidate, column
        known = [f.removeprefix("attributes.") for f in self.fields]
        close = difflib.get_close_matches(name, known, 3) or sorted(known)[:8]
        raise InvalidFilterError(f"no product has a field {name!r}. Did you mean: {', '.join(close)}?")

    def _passes(self, filter: Filter, rows: Rows) -> Mask:
        name, column = self._field(filter.field)
        if isinstance(filter, Exists) or (isinstance(filter, Range) and not len(column.numbers)):
            return self._mask(filter)[rows]  # which raises where there is no range
        if isinstance(filter, Range):
            numbers = _numbers_of(column, rows)
            low = -np.inf if filter.at_least is None else filter.at_least
            high = np.inf if filter.at_most is None else filter.at_most
            return np.asarray((numbers >= low) & (numbers <= high))  # NaN, of rows without a number, does neither
        passes = np.zeros(len(rows), np.bool_)
        for value in (filter.value,) if isinstance(filter, Equal) else filter.values:
            span, number = _span(name, column, value)
            if span:
                postings = column.rows[slice(*span)]
                passes |= postings.take(postings.searchsorted(rows), mode="clip") == rows
            if number is not None:
                passes |= _numbers_of(column, rows) == number
        return passes

    def _evaluate(self, filter: Filter) -> Mask:
        name, column = self._field(filter.field)
        mask = np.zeros(self._n, np.bool_)
        if isinstance(filter, Exists):
            for start, end in column.spans.values():
                mask[column.rows[start:end]] = True
            mask[column.number_rows] = True
        elif isinstance(filter, Range):
            self._range(mask, name, column, filter)
        else:
            for value in (filter.value,) if isinstance(filter, Equal) else filter.values:
                self._equal(mask, name, column, value)
        mask.flags.writeable = False
        return mask

    def _range(self, mask: Mask, name: str, column: Column, filter: Range) -> None:
        numbers = column.numbers
        if not len(numbers):
            raise InvalidFilterError(f"{name!r} holds no numbers, so it has no range; use {name}=VALUE")
        passes = np.ones(len(numbers), np.bool_)
        if filter.at_least is not None:
            passes &= numbers >= filter.at_least
        if filter.at_most is not None:
            passes &= numbers <= filter.at_most
        mask[column.number_rows[passes]] = True

    def _equal(self, mask: Mask, name: str, column: Column, value: Value) -> None:
        span, number = _span(name, column, value)
        if span:
            mask[column.rows[slice(*span)]] = True
        if number is not None:
            mask[column.number_rows[column.numbers == number]] = True

    @classmethod
    def build(cls, directory: Path, products: Iterable[Product]) -> Iterator[Product]:
        """Collects columns while passing products on; writes them when the products end."""
        texts: dict[str, dict[str, _Postings]] = {}
        numbers: dict[str, tuple[array[int], array[float]]] = {}
        row = -1
        for row, product in enumerate(products):
            for name, value in field_values(product):
                if isinstance(value, (bool, str)):
                    text = text_of(value)
                    by_value = texts.setdefault(name, {})
                    # Spellings that differ in case are one value, shown as first met.
                    _, rows = by_value.setdefault(fold(name, text), (text, array("i")))
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


def _span(name: str, column: Column, value: Value) -> tuple[tuple[int, int] | None, float | None]:
    """Where the rows that have a value as a text lie, and the number that it may be as well."""
    text = text_of(value)
    if name == "category":
        text = PATH_SEPARATOR.join(part.strip() for part in text.split(">"))
    span = column.folded.get(fold(name, text))
    if not len(column.numbers) or isinstance(value, bool):
        return span, None
    try:
        return span, float(value)
    except ValueError:
        if not column.spans:
            raise InvalidFilterError(f"{name!r} holds numbers, not {value!r}") from None
        return span, None


def _numbers_of(column: Column, rows: Rows) -> NDArray[np.float64]:
    """A column's number for each of some rows, NaN where a row has none; the column has numbers."""
    at = column.number_rows.searchsorted(rows)
    found = column.number_rows.take(at, mode="clip") == rows
    return np.where(found, column.numbers.take(at, mode="clip"), np.nan)


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


def fold(field: str, value: str) -> str:
    """Values compare without case, but for ids, which shops do make differ by case alone."""
    return value if field == "product_id" else value.casefold()


def field_values(product: Product) -> Iterator[tuple[str, str | bool | float]]:
    """Every field of a product with each of its values."""
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


def text_of(value: Value) -> str:
    """A value as columns keep it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
