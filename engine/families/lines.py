"""Series of models, derived from a catalog's titles where releases, or else prices, rise with the numbers.

A number in a name may as well say how big or how dear a thing is: A14, A34 and A54 came out together. So a series needs
at least two generations whose later number is the later product; where the whole is not such a series, but its numbers
are of two digits, those that share the first may be one each ("Galaxy A5x": A53, A54, A55).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import combinations, pairwise
from statistics import median
from typing import TypeVar

import msgspec

from engine.families.names import SeriesName, series_name
from engine.families.words import FamilyNumbers, NameWords
from engine.product import Product


class Model(msgspec.Struct, frozen=True):
    """One generation of one variant. ``released`` is the earliest of its products, ISO 8601, empty where unknown;
    ``price`` the lowest; ``rows`` are its products, ascending.
    """

    label: str
    number: int
    variant: tuple[str, ...]
    released: str
    price: float | None
    rows: tuple[int, ...]


class Line(msgspec.Struct, frozen=True):
    """A series: its models by number, then variant. ``evidence`` says what bears it out: ``released`` or ``price``."""

    name: str
    brand: str
    kind: tuple[str, ...]
    evidence: str
    concordance: float
    models: tuple[Model, ...]

    @property
    def numbers(self) -> tuple[int, ...]:
        """The generations, ascending."""
        return tuple(sorted({model.number for model in self.models}))


@dataclass(slots=True)
class _Draft:
    label: str
    released: str = ""
    price: float | None = None
    rows: list[int] = field(default_factory=list)

    def add(self, row: int, product: Product) -> None:
        self.rows.append(row)
        if product.released and (not self.released or product.released < self.released):
            self.released = product.released
        if product.price is not None and (self.price is None or product.price < self.price):
            self.price = product.price


_Value = TypeVar("_Value", str, float)
_Key = tuple[tuple[str, ...], str, str]  # kind, brand, series
_Drafts = dict[tuple[int, tuple[str, ...]], _Draft]


class LineBuilder:
    """Collects products, row by row, in one pass; ``lines`` gives the series."""

    def __init__(self, words: NameWords, numbers: FamilyNumbers) -> None:
        self._words, self._numbers = words, numbers
        self._drafts: dict[_Key, _Drafts] = defaultdict(dict)
        self._shown: dict[_Key, str] = {}

    def add(self, row: int, product: Product) -> None:
        name = series_name(product.title, product.brand, self._words)
        if name is None:
            return
        kind = product.category[:-1] or product.category
        key = (kind, product.brand.casefold(), name.series.casefold())
        self._shown.setdefault(key, name.series)
        self._draft(key, name).add(row, product)

    def _draft(self, key: _Key, name: SeriesName) -> _Draft:
        return self._drafts[key].setdefault((name.number, name.variant), _Draft(name.label))

    def lines(self) -> Iterator[Line]:
        """The series that something bears out, by brand and name."""
        for key in sorted(self._drafts):
            yield from self._line(key, self._drafts[key], self._shown[key])

    def _line(self, key: _Key, drafts: _Drafts, shown: str) -> Iterator[Line]:
        line = self._borne_out(key, drafts, shown)
        if line is not None:
            yield line
            return
        tens: dict[int, _Drafts] = defaultdict(dict)
        for (number, variant), draft in drafts.items():
            if number >= 10:
                tens[number // 10][number, variant] = draft
        if len(tens) > 1:
            for ten, part in sorted(tens.items()):
                line = self._borne_out(key, part, f"{shown}{ten}x")
                if line is not None:
                    yield line

    def _borne_out(self, key: _Key, drafts: _Drafts, shown: str) -> Line | None:
        n_generations = len({number for number, _ in drafts})
        if n_generations < self._numbers.least_generations:
            return None
        released, pairs = concordance({of: draft.released for of, draft in drafts.items() if draft.released})
        evidence = "released"
        if not pairs:
            evidence = "price"
            released, pairs = concordance({of: d.price for of, d in drafts.items() if d.price is not None})
            if n_generations < self._numbers.least_priced_generations:
                return None
        if not pairs or released < self._numbers.least_concordance or not self._paced(drafts):
            return None
        models = tuple(
            Model(draft.label, number, variant, draft.released, draft.price, tuple(draft.rows))
            for (number, variant), draft in sorted(drafts.items())
        )
        return Line(shown, key[1], key[0], evidence, round(released, 3), models)

    def _paced(self, drafts: _Drafts) -> bool:
        """Whether numbers go up in small steps, and releases are some months apart, where they are known."""
        first: dict[int, str] = {}
        for (number, _), draft in drafts.items():
            if draft.released:
                first[number] = min(draft.released, first.get(number, draft.released))
        ascending = sorted({number for number, _ in drafts})
        steps = [high - low for low, high in pairwise(ascending)]
        days = [_days(first[low], first[high]) for low, high in pairwise(sorted(first))]
        known = [gap for gap in days if gap is not None]
        slow = not known or median(known) >= self._numbers.least_gap_days
        return median(steps) <= self._numbers.largest_step and slow


def _days(earlier: str, later: str) -> int | None:
    """Days between two dates in ISO 8601, None where one is none."""
    try:
        return (date.fromisoformat(later[:10]) - date.fromisoformat(earlier[:10])).days
    except ValueError:
        return None


def concordance(values: Mapping[tuple[int, tuple[str, ...]], _Value]) -> tuple[float, int]:
    """The share of pairs of generations of one variant of which the higher number has the higher value, and how many
    pairs there are. Where no variant has two, the lowest values of the generations are compared.
    """
    by_variant: dict[tuple[str, ...], list[_Value]] = defaultdict(list)
    lowest: dict[int, _Value] = {}
    for (number, variant), value in sorted(values.items(), key=lambda item: item[0]):
        by_variant[variant].append(value)
        lowest[number] = min(value, lowest.get(number, value))
    pairs = [pair for of_one in by_variant.values() for pair in combinations(of_one, 2)]
    pairs = pairs or list(combinations([lowest[number] for number in sorted(lowest)], 2))
    return sum(low < high for low, high in pairs) / max(len(pairs), 1), len(pairs)


def derive(products: Iterable[Product], words: NameWords, numbers: FamilyNumbers) -> tuple[Line, ...]:
    """The series of a catalog; rows are the products' places."""
    builder = LineBuilder(words, numbers)
    for row, product in enumerate(products):
        builder.add(row, product)
    return tuple(builder.lines())


def generations(line: Line, variant: Sequence[str] | None = None) -> list[tuple[int, str, tuple[int, ...]]]:
    """Number, label and rows of each generation, of one variant or of all, ascending."""
    out: dict[int, tuple[str, list[int]]] = {}
    for model in line.models:
        if variant is None or model.variant == tuple(variant):
            out.setdefault(model.number, (model.label, []))[1].extend(model.rows)
    return [(number, label, tuple(rows)) for number, (label, rows) in sorted(out.items())]
