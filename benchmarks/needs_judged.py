"""Queries judged by predicates over products' fields, in place of lists of products, and the reading of both.

``benchmarks/needs/README.md`` describes the language. A predicate is judged over a whole catalog at once, for what is
big or cheap depends on what else there is.
"""

from __future__ import annotations

import hashlib
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.data import DataError
from engine.columns import PATH_SEPARATOR
from engine.product import Product
from engine.types import Mask

FOLDER = Path(__file__).parent / "needs"
Split = Literal["dev", "final"]
Predicate = Mapping[str, Any]

_ATTRIBUTES = "attributes."
_Value = str | bool | int | float | Sequence[str] | None
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


class JudgedQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``type`` names the product type asked for, empty where the query leaves it open; ``fits`` says what meets it."""

    query_id: str
    query: str
    kind: str
    split: Split
    type: str = ""
    fits: dict[str, Any]


def split_of(query: str) -> Split:
    """Which half a query is in: by its text alone, so that nobody can choose."""
    return "final" if hashlib.sha256(query.encode()).digest()[0] % 2 else "dev"


def read_judged(path: Path) -> list[JudgedQuery]:
    """In file order. Raises DataError on a line of another form, a repeated id or query, a split against the rule."""
    found: list[JudgedQuery] = []
    seen: set[str] = set()
    for number, line in enumerate(_text(path).splitlines(), 1):
        try:
            row = msgspec.json.decode(line, type=JudgedQuery)
        except msgspec.MsgspecError as error:
            raise DataError(f"{path}, line {number}: {error}") from error
        if seen & {row.query_id, row.query}:
            raise DataError(f"{path}, line {number}: {row.query_id!r} or its query was already given")
        if row.split != split_of(row.query):
            raise DataError(f"{path}, line {number}: split is {row.split!r}; by the query's hash it is the other")
        seen |= {row.query_id, row.query}
        found.append(row)
    return found


def read_types(path: Path) -> dict[str, Predicate]:
    """What products are of a type, by the name that shoppers give it. Raises DataError."""
    try:
        return msgspec.json.decode(_text(path), type=dict[str, dict[str, Any]])  # type: ignore[return-value]
    except msgspec.MsgspecError as error:
        raise DataError(f"{path}: {error}") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error


class Judge:
    """Says which products of a catalog meet a predicate. ``types`` are those that predicates name."""

    def __init__(self, products: Sequence[Product], types: Mapping[str, Predicate]) -> None:
        self._products, self._types = products, types
        self._masks: dict[str, Mask] = {}
        self._forms: dict[str, Callable[[Predicate], Mask]] = {
            "all": lambda p: np.logical_and.reduce([self.fits(part) for part in p["all"]]),
            "any": lambda p: np.logical_or.reduce([self.fits(part) for part in p["any"]]),
            "not": lambda p: ~self.fits(p["not"]),
            "type": lambda p: self.of_type(p["type"]),
            "category": self._category,
            "field": self._field,
            "percentile": self._percentile,
            "rank": self._rank,
        }

    def fits(self, predicate: Predicate) -> Mask:
        """bool (n_products,), in catalog order. Raises DataError on what the language does not have."""
        form = next((form for name, form in self._forms.items() if name in predicate), None)
        if form is None:
            raise DataError(f"{dict(predicate)} has none of the keys {', '.join(self._forms)}")
        try:
            return form(predicate)
        except (KeyError, TypeError, ValueError, re.error) as error:
            raise DataError(f"{dict(predicate)} is not a predicate: {error!r}") from error

    def of_type(self, name: str) -> Mask:
        """The products of a named type."""
        if name not in self._masks:
            if name not in self._types:
                raise DataError(f"there is no type {name!r}; there are {', '.join(self._types)}")
            self._masks[name] = self.fits(self._types[name])
        return self._masks[name]

    def _category(self, predicate: Predicate) -> Mask:
        wanted = predicate["category"].split(PATH_SEPARATOR)
        return np.array([list(product.category[: len(wanted)]) == wanted for product in self._products], bool)

    def _field(self, predicate: Predicate) -> Mask:
        holds = _test(predicate["op"], predicate.get("value"))
        values = (field_value(product, predicate["field"]) for product in self._products)
        return np.array([value is not None and holds(value) for value in values], bool)

    def _percentile(self, predicate: Predicate) -> Mask:
        """A value's percentile is the share of its group's values below it; equal ones count half."""
        group, codes = self._ordered(predicate["percentile"], predicate["within"])
        among = codes[group]
        share = np.array([np.mean(among < code) + np.mean(among == code) / 2 if len(among) else 0.0 for code in codes])
        low, high = predicate.get("at_least", 0.0), predicate.get("at_most", 1.0)
        fits: Mask = group & (share >= low) & (share <= high)
        return fits

    def _rank(self, predicate: Predicate) -> Mask:
        """A value's rank is one more than how many of its group's are better, so that equals share the best place."""
        group, codes = self._ordered(predicate["rank"], predicate["within"])
        among = codes[group]
        sign = {"high": 1, "low": -1}[predicate["best"]]
        ranks = 1 + np.array([np.count_nonzero(sign * among > sign * code) for code in codes])
        fits: Mask = group & (ranks <= predicate.get("at_most", 3))
        return fits

    def _ordered(self, field: str, within: str | Predicate) -> tuple[Mask, NDArray[np.int64]]:
        """The group's products that state the field, and the place of every product's value among all values."""
        group = self.of_type(within) if isinstance(within, str) else self.fits(within)
        values = [field_value(product, field) for product in self._products]
        stated = group & np.array([value is not None for value in values], bool)
        places = {value: place for place, value in enumerate(sorted({values[row] for row in np.flatnonzero(stated)}))}
        return stated, np.array([places[v] if ok else -1 for v, ok in zip(values, stated, strict=True)], np.int64)


def field_value(product: Product, field: str) -> _Value:
    """A product's field, or an attribute by ``attributes.NAME``; None where it does not say."""
    if field.startswith(_ATTRIBUTES):
        return product.attributes.get(field.removeprefix(_ATTRIBUTES))
    value: _Value = getattr(product, field, None)
    return value if value != "" else None


def _test(name: str, wanted: Any) -> Callable[[Any], bool]:
    """``has`` is for lists; ``matches`` searches text, or any item of a list, whatever the case."""
    if name == "present":
        return lambda value: True
    if name == "in":
        return lambda value: value in wanted
    if name == "has":
        return lambda value: wanted in value if isinstance(value, list | tuple) else value == wanted
    if name == "matches":
        pattern = re.compile(wanted, re.IGNORECASE)
        return lambda value: any(
            pattern.search(str(item)) for item in (value if isinstance(value, list | tuple) else [value])
        )
    compare = _COMPARE[name]
    return lambda value: compare(value, wanted)
