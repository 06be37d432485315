"""What a catalog can be asked for: its brands, its colours, its prices, and which fields measure what.

Nothing here is a list of ours: names and numbers are the catalog's. What is ours is how field names are read.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from engine.analysis.units import UNITS
from engine.columns import Columns
from engine.filters import Filter, In, Range
from engine.types import FacetCount
from engine.understanding.words import number_value, tokens

#: Fields whose name does not end in its unit, as feeds commonly have them, and the unit their numbers are in.
_NAMED = {
    "screen_size": "in", "display_size": "in", "display_diagonal": "in", "screen_diagonal": "in", "diagonal": "in",
    "tonnage": "ton", "ram": "gb", "internal_memory": "gb", "storage": "gb", "internal_storage": "gb",
    "storage_capacity": "gb", "total_storage_capacity": "gb", "energy_rating": "star", "energy_star_rating": "star",
    "star_rating": "star", "bee_rating": "star", "cable_length": "m", "battery_capacity": "mah", "refresh_rate": "hz",
}  # fmt: skip
_FAMILY = frozenset({"family_size", "household_size", "suitable_family_size"})
_SOCKETS = frozenset({"audio", "video", "hdmi", "usb", "dvi", "vga", "line", "microphone", "composite", "component"})
_COLOR_WORDS = frozenset({"color", "colour", "colors", "colours"})
_MEASURED = re.compile(r"\s*(\d+(?:,\d+)*(?:\.\d+)?)[\s-]*([a-z\"']+)\.?\s*", re.IGNORECASE)
_MOSTLY = 0.8  # of a text field's values that are measures of one unit, so that the field is one
_COLOR_PARTS = re.compile(r"[,/;&|+]|\band\b")
_AND = re.compile(r"\s*[&+]\s*")
_COLOR_LENGTH = 3  # words; a longer "color" is a description
_COLOR_SHARE = 0.001  # of the products with a colour that must have a name, whole, so that it is a colour's name
_PEOPLE = re.compile(r"\s*(\d+)\s*(?:(\+)|(?:-|–|to)\s*(\d+))?\s*")


@dataclass(frozen=True, slots=True)
class MeasureField:
    """A field that holds measures of one unit.

    ``values`` ascend, one per product; ``texts`` are (value, as written) where the field is text, and empty where it is
    numbers. ``words`` are its name's, without the unit.
    """

    field: str
    unit: str
    values: array[float]
    texts: tuple[tuple[float, str], ...] = ()
    words: frozenset[str] = frozenset()

    def count(self, low: float | None, high: float | None) -> int:
        """How many products are from ``low`` to ``high``, both included; None leaves that side open."""
        start = 0 if low is None else bisect_left(self.values, low)
        end = len(self.values) if high is None else bisect_right(self.values, high)
        return max(0, end - start)

    def filter(self, low: float | None, high: float | None) -> Filter | None:
        """A filter for those products; None where there is none."""
        if not self.count(low, high):
            return None
        if not self.texts:
            return Range(self.field, low, high)
        lowest, highest = (-np.inf if low is None else low), (np.inf if high is None else high)
        return In(self.field, [text for value, text in self.texts if lowest <= value <= highest])


class Extent:
    """From where to where the numbers of a field go. Read when first asked for: prices change by the second, and few
    queries speak of them. Thread-safe.
    """

    def __init__(self, columns: Columns | None = None, field: str = "") -> None:
        self._columns, self._field = columns, field

    @cached_property
    def bounds(self) -> tuple[float, float] | None:
        """The least number and the greatest; None where no product has any."""
        column = self._columns.column(self._field) if self._columns is not None else None
        return (float(column.numbers.min()), float(column.numbers.max())) if column and len(column.numbers) else None


@dataclass(frozen=True, slots=True)
class NamedValues:
    """A brand's or a colour's name: the values of ``field`` that have it, and how many products those are.

    ``ordinary`` says that the name is also a word of the catalog's categories, and may mean that.
    """

    field: str
    values: tuple[str, ...]
    count: int
    ordinary: bool = False


class Names:
    """Brands or colours by the words of their names, lower case."""

    def __init__(self, names: Mapping[tuple[str, ...], NamedValues] | None = None) -> None:
        self._names = dict(names or {})
        self._longest: dict[str, int] = {}
        for words in self._names:
            self._longest[words[0]] = max(len(words), self._longest.get(words[0], 0))

    def __len__(self) -> int:
        return len(self._names)

    def get(self, words: tuple[str, ...]) -> NamedValues | None:
        """The name that these words are, if any."""
        return self._names.get(words)

    def at(self, words: Sequence[str], start: int) -> tuple[NamedValues, int] | None:
        """The longest name that begins at ``words[start]``, and where it ends."""
        for end in range(min(start + self._longest.get(words[start], 0), len(words)), start, -1):
            found = self._names.get(tuple(words[start:end]))
            if found is not None:
                return found, end
        return None


@dataclass(frozen=True, slots=True)
class CatalogFacts:
    """What constraints are read against. Empty parts switch off what needs them.

    ``currency`` is the catalog's only one, or empty. ``people`` maps a family size field's values to (least, most)
    people.
    """

    brands: Names = field(default_factory=Names)
    colors: Names = field(default_factory=Names)
    measures: tuple[MeasureField, ...] = ()
    price: Extent = field(default_factory=Extent)
    rating: Extent = field(default_factory=Extent)
    currency: str = ""
    people: tuple[str, tuple[tuple[str, int, int], ...]] = ("", ())

    @classmethod
    def from_columns(cls, columns: Columns) -> CatalogFacts:
        """Reads an index's columns once: some tens of milliseconds for 50,000 products."""
        values = {name: columns.values(name) for name in columns.fields if name not in ("product_id", "model")}
        ordinary = {word.text for value in values.get("category", ()) for word in tokens(value.value)}
        currencies = values.get("currency", ())
        return cls(
            _brands(values.get("brand", ()), ordinary),
            _colors(values),
            tuple(_measures(columns, values)),
            Extent(columns, "price"),
            Extent(columns, "rating"),
            currencies[0].value.upper() if len(currencies) == 1 else "",
            _people(values),
        )

    def with_numbers_of(self, columns: Columns) -> CatalogFacts:
        """These, with the prices and ratings of columns of which nothing else has changed."""
        return replace(self, price=Extent(columns, "price"), rating=Extent(columns, "rating"))


def _words(text: str) -> tuple[str, ...]:
    return tuple(token.text for token in tokens(text))


def _brands(values: Iterable[FacetCount], ordinary: set[str]) -> Names:
    found: dict[tuple[str, ...], NamedValues] = {}
    for value in values:
        # "Black & Decker" and "Black+Decker" are asked for with an "and", or without.
        for words in {_words(value.value), _words(_AND.sub(" and ", value.value))}:
            if any(len(word) > 1 and not word.isdigit() for word in words):
                before = found.get(words, NamedValues("brand", (), 0))
                values_, count = (*before.values, value.value), before.count + value.count
                found[words] = NamedValues("brand", values_, count, ordinary.issuperset(words))
    return Names(found)


def _colors(values: Mapping[str, tuple[FacetCount, ...]]) -> Names:
    """Names of colours, from the colour field that most products have.

    A name is what is the whole of some products' value, or of a part of it between commas and slashes: "light" and
    "phantom" only ever stand before another word, "black" stands alone.
    """
    fields = [name for name in values if _COLOR_WORDS & set(_name(name))]
    best = max(fields, key=lambda name: sum(v.count for v in values[name]), default="")
    whole: Counter[tuple[str, ...]] = Counter()
    for value in values.get(best, ()):
        for part in _COLOR_PARTS.split(value.value.casefold()):
            words = _words(part)
            if 0 < len(words) <= _COLOR_LENGTH and all(word.isalpha() for word in words):
                whole[words] += value.count
    least = max(2.0, _COLOR_SHARE * sum(value.count for value in values.get(best, ())))
    names = {words for words, count in whole.items() if count >= least and len(words[-1]) > 2}
    found: dict[tuple[str, ...], list[FacetCount]] = {}
    for value in values.get(best, ()):
        for name in names.intersection(_stretches(_words(value.value))):
            found.setdefault(name, []).append(value)
    field_name = best.removeprefix("attributes.")
    return Names(
        {
            name: NamedValues(field_name, tuple(v.value for v in values_), sum(v.count for v in values_))
            for name, values_ in found.items()
        }
    )


def _stretches(words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for start in range(len(words)):
        for length in range(1, _COLOR_LENGTH + 1):
            yield words[start : start + length]


def _name(field_name: str) -> list[str]:
    """The words of a field's name: ``attributes.Screen size (in)`` → screen, size, in."""
    return [word for word in re.split(r"[^a-z0-9]+", field_name.removeprefix("attributes.").lower()) if word]


def _measures(columns: Columns, values: Mapping[str, tuple[FacetCount, ...]]) -> Iterator[MeasureField]:
    for name in columns.fields:
        words = _name(name)
        if name.startswith("attributes.") and words:
            unit = _NAMED.get("_".join(words)) or _unit_of(words)
            found = _numbers(columns, name, unit) if unit else None
            found = found or _texts(name, values.get(name, ()))
            if found:
                yield found


def _unit_of(words: list[str]) -> str:
    """The unit that a field's name ends in; "min" there is a minimum, and "hdmi in" a socket."""
    if len(words) < 2 or words[-1] == "min" or (words[-1] == "in" and not _SOCKETS.isdisjoint(words)):
        return ""
    return UNITS.get(words[-1], "")


def _numbers(columns: Columns, name: str, unit: str) -> MeasureField | None:
    numbers = columns.numbers(name)
    if numbers is None:
        return None
    values = array("d", np.sort(numbers[~np.isnan(numbers)]).tobytes())
    return MeasureField(name.removeprefix("attributes."), unit, values, (), _own_words(name))


def _texts(name: str, values: tuple[FacetCount, ...]) -> MeasureField | None:
    """A field whose texts are mostly measures of one unit, such as ``55 in``."""
    measured = [(m, v) for v in values if (m := _MEASURED.fullmatch(v.value)) and m[2].lower() in UNITS]
    if not measured:
        return None
    units: Counter[str] = Counter()
    for match, value in measured:
        units[UNITS[match[2].lower()]] += value.count
    unit, count = units.most_common(1)[0]
    if count < _MOSTLY * sum(value.count for value in values):
        return None
    kept = [(number_value(m[1]), v) for m, v in measured if UNITS[m[2].lower()] == unit]
    every = sorted(number for number, value in kept for _ in range(value.count))
    texts = tuple(sorted((number, value.value) for number, value in kept))
    return MeasureField(name.removeprefix("attributes."), unit, array("d", every), texts, _own_words(name))


def _own_words(name: str) -> frozenset[str]:
    words = _name(name)
    return frozenset(words[:-1] if len(words) > 1 and words[-1] in UNITS else words)


def _people(values: Mapping[str, tuple[FacetCount, ...]]) -> tuple[str, tuple[tuple[str, int, int], ...]]:
    """A family size field, and for how many people each of its texts is: ``5-6``, ``6+``, ``2``."""
    for name, texts in values.items():
        if "_".join(_name(name)) in _FAMILY:
            found = []
            for text in texts:
                if match := _PEOPLE.fullmatch(text.value):
                    least = int(match[1])
                    found.append((text.value, least, 99 if match[2] else int(match[3] or least)))
            return name.removeprefix("attributes."), tuple(found)
    return "", ()
