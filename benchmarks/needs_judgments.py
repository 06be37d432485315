"""Judged queries whose judgments are predicates over product fields, so that a shop's person can read and sign them.

A predicate is JSON, one of::

    {"category": "Home Appliances > Refrigerators"}                     of this type or of one below it
    {"field": "attributes.capacity_l", "op": ">=", "value": 400}        a field, compared; see ``_OPS``
    {"percentile": "price", "within": CATEGORY, "at_most": 0.4}         where a product stands among its type
    {"rank": "price", "within": CATEGORY, "order": "lowest", "best": 3} the first of its type, equal values together
    {"all": [...]}, {"any": [...]}, {"not": ...}

``within`` is a category or a list of them; ``where``, a predicate, narrows it further, or stands in its place where a
catalog has no categories. A product that does not say a field, or says it as text where a number is compared, meets no
comparison of it.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from benchmarks.data import DataError
from engine.columns import PATH_SEPARATOR
from engine.product import Product

Predicate = Mapping[str, Any]
Split = Literal["dev", "final"]
Kind = Literal["gradable", "superlative", "use", "recipient", "family", "negation", "budget", "relation", "type"]
KINDS: tuple[str, ...] = get_args(Kind)
_WITHIN = " > "  # how paths are written in predicates
_DATE = re.compile(r"\d{4}-\d\d-\d\d$")
_ORDERS = ("<", "<=", ">", ">=")


class Judged(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A query and what fits it. ``types`` are the categories its first type must be of, where that is judged."""

    query_id: str
    query: str
    kind: Kind
    split: Split
    fits: dict[str, Any]
    types: tuple[str, ...] = ()


def split_of(query: str) -> Split:
    """Dev or final by the query's own text, half and half, so that no hand chose."""
    return "dev" if hashlib.sha256(query.encode()).digest()[0] % 2 == 0 else "final"


def read_judged(path: Path) -> list[Judged]:
    """The rows of a JSON Lines file. Raises DataError that names the line."""
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            rows.append(msgspec.json.decode(line, type=Judged))
        except msgspec.MsgspecError as error:
            raise DataError(f"{path.name}, line {number}: {error}") from error
    return rows


class Judge:
    """Says which products of a catalog meet a predicate. Rows are the catalog's, in its order."""

    def __init__(self, products: Sequence[Product]) -> None:
        self.products = products
        self._paths = [_WITHIN.join(p.category) for p in products]

    def fitting(self, predicate: Predicate) -> frozenset[str]:
        """The ids of the products that meet it. Raises DataError for what is no predicate."""
        return frozenset(self.products[row].product_id for row in self._rows(predicate))

    def _rows(self, predicate: Predicate) -> set[int]:
        match dict(predicate):
            case {"all": [first, *rest]}:
                return self._rows(first).intersection(*map(self._rows, rest))
            case {"any": [first, *rest]}:
                return self._rows(first).union(*map(self._rows, rest))
            case {"not": inner}:
                return set(range(len(self.products))) - self._rows(inner)
            case {"category": str(prefix)}:
                return {row for row, path in enumerate(self._paths) if below(path, prefix)}
            case {"field": str(name), "op": str(op), "value": value} if op in _OPS:
                held = ((row, field_of(product, name)) for row, product in enumerate(self.products))
                return {row for row, found in held if _comparable(found, value, op) and _OPS[op](found, value)}
            case {"percentile": str(name)}:
                return self._percentile(name, predicate)
            case {"rank": str(name), "order": "lowest" | "highest", "best": int()}:
                return self._ranked(name, predicate)
        raise DataError(f"{predicate!r} is no predicate; see benchmarks/needs_judgments.py for what there is")

    def _percentile(self, name: str, predicate: Predicate) -> set[int]:
        """Of n values, the share below plus half the share that is equal."""
        held = self._among(name, predicate)
        values = sorted(held.values())
        least, most = predicate.get("at_least", 0.0), predicate.get("at_most", 1.0)
        place = {v: (bisect_left(values, v) + bisect_right(values, v)) / (2 * len(values)) for v in values}
        return {row for row, value in held.items() if least <= place[value] <= most}

    def _ranked(self, name: str, predicate: Predicate) -> set[int]:
        held = self._among(name, predicate)
        values = sorted(held.values(), reverse=predicate["order"] == "highest")
        return {row for row, value in held.items() if values.index(value) < predicate["best"]}

    def _among(self, name: str, predicate: Predicate) -> dict[int, Any]:
        within = predicate.get("within", [])
        groups = [{"any": [{"category": path} for path in ([within] if isinstance(within, str) else within)]}]
        wheres = [predicate["where"]] if "where" in predicate else []
        rows = self._rows({"all": [*(groups if within else []), *wheres]})
        held = {row: field_of(self.products[row], name) for row in sorted(rows)}
        return {row: value for row, value in held.items() if value not in (None, "") and _ordered(value)}


def field_of(product: Product, name: str) -> Any:
    """A field or ``attributes.NAME`` as the product says it, None where it does not; a path is joined."""
    if name.startswith("attributes."):
        return product.attributes.get(name.removeprefix("attributes."))
    value = getattr(product, name)
    return PATH_SEPARATOR.join(value) if name == "category" else value


def below(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(prefix + _WITHIN)


def _ordered(value: Any) -> bool:
    return isinstance(value, (int, float)) or (isinstance(value, str) and _DATE.match(value) is not None)


def _comparable(found: Any, value: Any, op: str) -> bool:
    if found is None:
        return False
    return op not in _ORDERS or (_ordered(found) and isinstance(found, str) == isinstance(value, str))


def _has(found: Any, value: str) -> bool:
    """Whole words of a text, or of any text of a list, in any case."""
    texts = found if isinstance(found, (list, tuple)) else [found]
    pattern = re.compile(rf"(?<!\w){re.escape(value)}(?!\w)", re.IGNORECASE)
    return any(pattern.search(str(text)) for text in texts)


_OPS: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda found, value: bool(found == value),
    "!=": lambda found, value: bool(found != value),
    "<": lambda found, value: bool(found < value),
    "<=": lambda found, value: bool(found <= value),
    ">": lambda found, value: bool(found > value),
    ">=": lambda found, value: bool(found >= value),
    "in": lambda found, value: found in value,
    "has": _has,
}
