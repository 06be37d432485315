"""Whether a product fits a vague query: predicates over its fields that a shop's person would sign, kept as data.

A predicate is a JSON object; a product fits where every part holds: ``category``, one of some paths that its own begins
with; ``most`` and ``least``, that it is among a share of those categories' products by a field, of which it has one;
``top`` and ``bottom``, that it has one of so many highest or lowest values there; ``has`` and ``lacks``, words that a
field says or does not say; ``min``, ``max`` and ``min_date``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

import msgspec

from engine.columns import PATH_SEPARATOR
from engine.product import Product

HERE = Path(__file__).with_name("vague")


class Share(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The best ``share`` of the products that have ``field``, or those with one of its best ``values``."""

    field: str
    share: float = 0.0
    values: int = 0


class Fits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A predicate; see the module."""

    category: tuple[str, ...]
    most: Share | None = None
    least: Share | None = None
    top: Share | None = None
    bottom: Share | None = None
    has: dict[str, tuple[str, ...]] = {}
    lacks: dict[str, tuple[str, ...]] = {}
    min: dict[str, float] = {}
    max: dict[str, float] = {}
    min_date: str = ""


class VagueQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of a file of judged queries. All of them are made up."""

    query_id: str
    split: str
    query: str
    kind: str
    fits: Fits


def read_queries(path: Path) -> list[VagueQuery]:
    return [msgspec.json.decode(line, type=VagueQuery) for line in path.read_bytes().splitlines()]


class Judge:
    """Says which products of a catalog fit."""

    def __init__(self, products: Sequence[Product]) -> None:
        self._products = products

    def fitting(self, fits: Fits) -> set[str]:
        """The ids of the products that fit."""
        of_category = [product for product in self._products if _within(product, fits.category)]
        out = [product for product in of_category if _says(product, fits)]
        for share, high in ((fits.most, True), (fits.least, False), (fits.top, True), (fits.bottom, False)):
            if share is not None:
                # The cheapest of what has five stars is the cheapest of those.
                best = _best(out if share.values else of_category, share, high=high)
                out = [product for product in out if product.product_id in best]
        return {product.product_id for product in out}


def _within(product: Product, paths: Sequence[str]) -> bool:
    own = PATH_SEPARATOR.join(product.category)
    return any(own == path or own.startswith(path + PATH_SEPARATOR) for path in paths)


def _best(products: Sequence[Product], share: Share, *, high: bool) -> set[str]:
    values = {product.product_id: value(product, share.field) for product in products}
    known = {product_id: found for product_id, found in values.items() if found is not None}
    ordered = sorted(set(known.values()) if share.values else known.values(), reverse=high)
    if not ordered:
        return set()
    place = min(share.values or max(1, round(share.share * len(ordered))), len(ordered)) - 1
    limit = ordered[place]
    return {product_id for product_id, found in known.items() if (found >= limit if high else found <= limit)}


def _says(product: Product, fits: Fits) -> bool:
    if any(not _said(product, field, words) for field, words in fits.has.items()):
        return False
    if any(_said(product, field, words) for field, words in fits.lacks.items()):
        return False
    if fits.min_date and not product.released >= fits.min_date:
        return False
    return _between(product, fits.min, 1) and _between(product, fits.max, -1)


def _between(product: Product, limits: Mapping[str, float], sign: int) -> bool:
    for field, limit in limits.items():
        found = value(product, field)
        if found is None or sign * found < sign * limit:
            return False
    return True


def _said(product: Product, field: str, words: Sequence[str]) -> bool:
    found = product.attributes.get(field)
    text = " ".join(found) if isinstance(found, list) else str(found)
    return found is not None and any(word in text.lower() for word in words)


def value(product: Product, field: str) -> float | None:
    """A number field of a product, or its day of release; None where it has none."""
    if field == "released":
        return float(date.fromisoformat(product.released[:10]).toordinal()) if product.released else None
    found = product.attributes.get(field, getattr(product, field, None))
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None
