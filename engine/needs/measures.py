"""The catalog's attributes as numbers, and a product's place among others of its type.

What is big depends on what it is: places are percentiles among the rows of a scope, a product type as a rule, never
numbers of their own.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from datetime import date
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from engine.analysis.units import UNITS
from engine.columns import Columns
from engine.needs.categories import singular
from engine.needs.numbers import NeedNumbers
from engine.types import Mask, Rows, Scores
from engine.understanding.words import number_value

Floats = NDArray[np.float64]
_Pairs = tuple[Rows, Floats]  # rows that have a number, ascending, and the numbers

QUALITY = "quality"
_CORE = ("price", "released", "popularity", QUALITY)
_AREA = re.compile(r"(\d{3,5})\s*[x×*]\s*(\d{3,5})")
_NUMBER = re.compile(r"\s*(\d[\d,]*(?:\.\d+)?)\s*([a-z\"]+)?\.?\s*", re.IGNORECASE)
_CHANNELS = re.compile(r"(\d+\.\d+)(?:\.\d+)?(?:\s?ch)?")  # of sound: "11.1.4"
_MOSTLY = 0.8  # of a field's texts that must be numbers, so that it is read as one
_SHOWN_UNITS = {
    "gb": "GB", "tb": "TB", "hz": "Hz", "mah": "mAh", "w": "W", "l": "L", "kg": "kg", "in": "in", "mp": "MP",
    "mm": "mm", "cm": "cm", "mbps": "MB/s", "ms": "ms", "sqft": "sq ft", "rpm": "rpm", "m": "m", "db": "dB",
}  # fmt: skip
#: Of attributes that tell of what a thing is packed in, which nobody means by a small or light one.
_PACKING = frozenset({"package", "packaging", "pallet", "carton", "master", "shipping", "gross"})
_NOUN = 4  # letters of a word that may name an attribute from the middle of its name
_LEAST_NAMED = 0.3  # of a type's products that have an attribute which a query names
_KEPT_NUMBERS, _LEAST_KEPT = 24_000_000, 4  # what a cache of arrays by row may hold, and arrays at least
_NO = frozenset({"no", "none", "false", "n", "n/a", "not available", "0"})


class Measures:
    """Reads the columns of one index. Thread-safe; what was read is kept."""

    def __init__(self, columns: Columns, scales: Mapping[str, Mapping[str, float]], numbers: NeedNumbers) -> None:
        self._columns, self._scales, self._fitted = columns, scales, numbers
        self._names = {name: _words(name) for name in columns.fields if name.startswith("attributes.") and _words(name)}
        self._named_by: dict[str, list[str]] = defaultdict(list)
        for name, words in self._names.items():
            for word in {singular(word) for word in words}:
                self._named_by[word].append(name)
        self._forget()

    def over(self, columns: Columns) -> Measures:
        """These of columns that have the same attributes with the same values."""
        other = copy(self)
        other._columns = columns
        other._forget()
        return other

    def _forget(self) -> None:
        self.numbers = lru_cache(maxsize=room(len(self._columns), 16))(self._numbers)
        self._placed = lru_cache(maxsize=room(len(self._columns), 64))(self._place)
        self._numbered = lru_cache(maxsize=4096)(self._pairs)
        self._told = lru_cache(maxsize=1024)(self._tells)
        self.fields = lru_cache(maxsize=1024)(self._fields_of)

    def __len__(self) -> int:
        return len(self._columns)

    def _fields_of(self, pattern: str) -> list[str]:
        """Fields whose names have all words of ``pattern``, those with the fewest others first, none that is of what a
        thing is packed in; or the field itself.
        """
        if pattern in _CORE or pattern in self._names:
            return [pattern]
        wanted = set(pattern.split())
        found = [
            name for name, words in self._names.items() if wanted <= set(words) and not _PACKING & set(words) - wanted
        ]
        return sorted(found, key=lambda name: (len(self._names[name]), name))

    def names_attribute(self, word: str) -> bool:
        """Whether an attribute's name has the word: "screen" is what something has, and no type."""
        return singular(word) in self._named_by

    def named(self, words: Sequence[str], rows: Mask) -> str:
        """The numeric field whose name the first of ``words`` are, as many as can be; empty for none.

        "screen" and "screen size" name ``screen_size_in``.
        """
        for length in range(min(3, len(words)), 0, -1):
            pattern = [singular(word) for word in words[:length] if word]
            if len(pattern) < length:
                continue
            for name in self._named_by.get(pattern[0], ()):
                own = {singular(word) for word in self._names[name][: length + 1]}
                if own.issuperset(pattern) and self.tells(name, rows, _LEAST_NAMED, 2):
                    return name
        return self._naming(words, rows)

    def _naming(self, words: Sequence[str], rows: Mask) -> str:
        """The numeric field of which most of ``rows`` have a number, of those whose names have the first two words
        anywhere, or the first: the "ports" of ``rj_45_ports_quantity``. Empty for none.
        """
        for length in range(min(2, len(words)), 0, -1):
            wanted = {singular(word) for word in words[:length] if len(word) >= _NOUN}
            having = [self._named_by.get(word, ()) for word in wanted] if len(wanted) == length else []
            fields = [name for name in dict.fromkeys(having[0] if having else ()) if all(name in of for of in having)]
            told = [name for name in fields if self.tells(name, rows, _LEAST_NAMED, 2)]
            if told:
                return min(told, key=lambda name: (-self._known(name, rows), len(self._names[name]), name))
        return ""

    def _known(self, field: str, rows: Mask) -> int:
        """How many of ``rows`` have a number for the field."""
        numbers = self.numbers(field)
        return 0 if numbers is None else int(np.count_nonzero(~np.isnan(numbers[rows])))

    def is_just(self, field: str, pattern: str) -> bool:
        """Whether a field is called as a pattern and no more, but for its unit: ``ssd_capacity`` is not just one."""
        others = [word for word in self._names.get(field, ()) if word not in pattern.split()]
        return all(word in UNITS or word in _SHOWN_UNITS for word in others)

    def tells(self, field: str, rows: Mask, least_coverage: float, least_values: int) -> bool:
        """Whether enough of ``rows`` have a number for the field, and differ in it."""
        return self._told(field, packed(rows), least_coverage, least_values)

    def _tells(self, field: str, packed_rows: bytes, least_coverage: float, least_values: int) -> bool:
        rows = unpacked(packed_rows, len(self))
        return self._tell(field, rows, int(np.count_nonzero(rows)), least_coverage, least_values)

    def _tell(self, field: str, rows: Mask, n: int, least_coverage: float, least_values: int) -> bool:
        pairs = self._numbered(field)
        known = pairs[1][rows[pairs[0]]] if pairs else np.empty(0)
        return len(known) >= least_coverage * n and len(np.unique(known)) >= least_values

    def tells_enough(self, field: str, rows: Mask) -> bool:
        """As ``tells``, by the fitted numbers; a type of few products need not differ as much."""
        return self.tells(field, rows, self._fitted.least_coverage, self._least(int(np.count_nonzero(rows))))

    def telling(self, fields: Sequence[str], rows: Mask) -> list[str]:
        """Those of ``fields`` that ``tells_enough``: of thousands of fields at once."""
        n = int(np.count_nonzero(rows))
        return [field for field in fields if self._tell(field, rows, n, self._fitted.least_coverage, self._least(n))]

    def _least(self, n: int) -> int:
        return min(self._fitted.least_values, max(2, n // 3))

    def places(self, field: str, rows: Mask, *, most: bool) -> Scores:
        """Float32 (n_products,): the share of ``rows`` with a number that have less of it than this one, half of those
        that have as much included; of more of it where ``most`` is False. NaN outside and where it is unknown.
        """
        return self._placed(field, packed(rows), most)

    def _place(self, field: str, packed_rows: bytes, most: bool) -> Scores:
        rows = unpacked(packed_rows, len(self))
        numbers = self.numbers(field)
        out = np.full(len(self), np.nan, np.float32)
        if numbers is None:
            return out
        known = rows & ~np.isnan(numbers)
        ordered = np.sort(numbers[known])
        below, upto = (np.searchsorted(ordered, numbers[known], side) for side in ("left", "right"))
        place = (below + upto) / (2 * max(len(ordered), 1))
        out[known] = place if most else 1 - place
        return out

    def has(self, pattern: str, values: Iterable[str]) -> tuple[str, Scores]:
        """The field of that name that most products have, and float32 (n_products,): 1 where it is set or says one of
        ``values``, 0 where it says otherwise, NaN where it says nothing. Without a field all are NaN, and it is empty.
        """
        wanted = [value.casefold() for value in values]
        best, out, most = "", np.full(len(self), np.nan, np.float32), 0
        for field in self.fields(pattern):
            found = np.full(len(self), np.nan, np.float32)
            for text, rows in self._columns.postings(field):
                folded = text.casefold()
                yes = any(value in folded for value in wanted) if wanted else folded not in _NO
                found[rows] = np.fmax(found[rows], np.float32(yes))
            if (known := int((~np.isnan(found)).sum())) > most:
                best, out, most = field, found, known
        return best, out

    def fact(self, field: str, row: int, *, text: bool = False, values: Sequence[str] = ()) -> str:
        """What a product says of the field: name, value and unit, as in "ram 12 GB". Empty where it says nothing.

        Of texts, with ``text``, those that have one of ``values``, where there are any.
        """
        name = _shown_name(field)
        if field == QUALITY:
            rating = self._number("rating", row)
            return f"rating {rating:g}" if rating is not None else ""
        if field == "released":
            day = self._number(field, row)
            return f"{name} {date.fromordinal(int(day))}" if day is not None else ""
        column = self._columns.column(field)
        if text or column is None or not len(column.numbers):
            texts = column.texts(row) if column is not None else []
            texts = [found for found in texts if any(value in found.casefold() for value in values)] or texts
            shown = ", ".join(value for value in texts if value not in ("true", "false"))
            return f"{name} {shown}" if shown else name if "true" in texts else ""
        number = self._number(field, row)
        if number is None:
            return ""
        unit = _unit(_words(field)) if field.startswith("attributes.") else ""
        shown_unit = _SHOWN_UNITS.get(unit, unit if unit in UNITS and name != unit else "")
        return f"{name} {number:.10g}{f' {shown_unit}' if shown_unit else ''}"

    def _number(self, field: str, row: int) -> float | None:
        pairs = self._numbered(field)
        at = int(np.searchsorted(pairs[0], row)) if pairs else 0
        return float(pairs[1][at]) if pairs and at < len(pairs[0]) and pairs[0][at] == row else None

    def _numbers(self, field: str) -> Floats | None:
        if field == QUALITY:
            return self._quality()
        pairs = self._numbered(field)
        if pairs is None:
            return None
        out = np.full(len(self), np.nan)
        out[pairs[0]] = pairs[1]
        return out

    def _pairs(self, field: str) -> _Pairs | None:
        """The rows that have a number for a field, ascending, and these; None for a field that is none of numbers."""
        column = self._columns.column(field)
        if field == QUALITY or column is None:
            numbers = self.numbers(field) if field == QUALITY else None
            known = np.flatnonzero(~np.isnan(numbers)) if numbers is not None else None
            return (known, numbers[known]) if known is not None and numbers is not None else None
        if field == "released":
            return _by_row(self._dates(field))
        return (column.number_rows, column.numbers) if len(column.numbers) else self._read(field)

    def _quality(self) -> Floats | None:
        """Ratings pulled to the catalog's mean, as if each had ``prior_ratings`` more of that."""
        prior = self._fitted.prior_ratings
        ratings, counts = self._columns.numbers("rating"), self._columns.numbers("rating_count")
        if ratings is None:
            return None
        counts = np.nan_to_num(counts) if counts is not None else np.full(len(self), prior)
        mean = np.nanmean(ratings)
        quality: Floats = (ratings * counts + mean * prior) / (counts + prior)
        return quality

    def _dates(self, field: str) -> Iterator[tuple[float, Rows]]:
        for text, rows in self._columns.postings(field):
            try:
                yield date.fromisoformat(text[:10]).toordinal(), rows
            except ValueError:
                continue

    def _read(self, field: str) -> _Pairs | None:
        """Numbers out of texts: measures, sizes in pixels, names that a scale knows."""
        scale = next((of for name, of in self._scales.items() if name in _words(field)), {})
        found: list[tuple[float, Rows]] = []
        total = 0
        for text, rows in self._columns.postings(field):
            total += len(rows)
            value = _value(text, scale)
            if value is not None:
                found.append((value, rows))
        read = sum(len(rows) for _, rows in found)
        return _by_row(found) if read and read >= _MOSTLY * total else None


def packed(rows: Mask) -> bytes:
    """Rows as a key: a bit each."""
    return np.packbits(rows).tobytes()


def unpacked(key: bytes, n: int) -> Mask:
    """What ``packed`` made of ``n`` rows."""
    return np.unpackbits(np.frombuffer(key, np.uint8), count=n).view(np.bool_)


def room(n: int, most: int) -> int:
    """How many arrays of a number for each of ``n`` rows a cache may keep: ``most``, in large catalogs fewer."""
    return max(_LEAST_KEPT, min(most, _KEPT_NUMBERS // max(n, 1)))


def _by_row(found: Iterable[tuple[float, Rows]]) -> _Pairs:
    """Numbers by row, ascending; of a row with several the last."""
    numbers, rows = zip(*found, strict=True) if (found := list(found)) else ((), ())
    every = np.concatenate([*rows, np.empty(0, np.int64)]).astype(np.int64)
    values = np.repeat(np.array(numbers, np.float64), [len(of) for of in rows])
    known, last = np.unique(every[::-1], return_index=True)
    return known, values[::-1][last]


def _value(text: str, scale: Mapping[str, float]) -> float | None:
    folded = " ".join(text.casefold().split())
    if folded in scale:
        return scale[folded]
    if area := _AREA.search(folded):
        return float(area[1]) * float(area[2])
    if channels := _CHANNELS.fullmatch(folded):
        return float(channels[1])
    match = _NUMBER.fullmatch(text)
    return number_value(match[1]) if match else None


def _words(field: str) -> list[str]:
    return [word for word in re.split(r"[^a-z0-9]+", field.removeprefix("attributes.").lower()) if word]


def _shown_name(field: str) -> str:
    words = _words(field)
    return " ".join(words[:-1] if _unit(words) else words)


def _unit(words: Sequence[str]) -> str:
    """The last word of an attribute's name if it is a unit; empty for others, and where two are ("watt hours")."""
    if len(words) < 2 or (words[-1] not in UNITS and words[-1] not in _SHOWN_UNITS) or words[-2] in UNITS:
        return ""
    return words[-1]
