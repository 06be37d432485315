"""Wants that are relative to a product: "cheaper than S24", "alternative to Tab S9", "upgrade from Watch5".

``relations.toml`` has the phrases. The product is looked up by its name among the catalog's titles; where the shop
lacks it, as of another maker's, nothing is made of the phrase, and words and meaning find what is near.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from engine.analysis.analyzer import STOP_WORDS
from engine.columns import PATH_SEPARATOR, Columns
from engine.filters import Equal
from engine.needs.measures import Measures
from engine.preferences import Preference, Scope
from engine.product import Product
from engine.types import Rows, Scores
from engine.understanding.words import tokens

_LOOKED_UP = 20  # products found by the words of a name, among which those are that have it
_LEAST = 5  # products that a category has at least, beside the one named, to be compared within
_END = re.compile(r"\s+(?:but|under|below|within|for|with|in|that|which)\b|[,;?!]")
_SLOT = "{}"


class Phrases(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``relations.toml``: phrases with a place for a product's name, by what they mean."""

    like: tuple[str, ...] = ()
    newer: tuple[str, ...] = ()
    than: dict[str, tuple[str, ...]] = {}

    def by_kind(self) -> dict[str, tuple[str, ...]]:
        return {"like": self.like, "newer": self.newer, **self.than}


@dataclass(frozen=True, slots=True)
class Relation:
    """``corrected[start:end]`` relates what is wanted to the product called ``name``.

    ``kind`` is ``like``, ``newer`` or the name of a direction in the lexicon.
    """

    kind: str
    name: str
    start: int
    end: int


class Relations:
    """Finds relations in queries and the products they name. Thread-safe; bound to one index."""

    def __init__(
        self, columns: Columns, measures: Measures, found: Callable[[str, int], Rows],
        products: Callable[[Rows], Sequence[Product]],
    ) -> None:  # fmt: skip
        """``found`` gives rows by the words of a text, the best first, and at most so many."""
        self._columns, self._measures, self._found, self._products = columns, measures, found, products
        phrases = msgspec.toml.decode(Path(__file__).with_name("relations.toml").read_bytes(), type=Phrases)
        every = [(kind, phrase) for kind, of_kind in phrases.by_kind().items() for phrase in of_kind]
        every.sort(key=lambda found: -len(found[1]))
        self._patterns = [(kind, _pattern(phrase)) for kind, phrase in every]

    def read(self, query: str) -> Relation | None:
        """The relation that a query states, by its longest phrase; None where it states none."""
        for kind, pattern in self._patterns:
            match = pattern.search(query)
            if match is None:
                continue
            name = match["name"]
            if (end := _END.search(name)) is not None and pattern.pattern.endswith(_OPEN):
                name = name[: end.start()]
            if any(token.text not in STOP_WORDS for token in tokens(name)):
                start = match.start()
                return Relation(kind, name.strip(), start, match.start("name") + len(name))
        return None

    def named(self, relation: Relation) -> Rows:
        """The rows of the products that are called so, the best first; none where the shop has no such product."""
        wanted = {token.text for token in tokens(relation.name)} - STOP_WORDS
        rows = self._found(relation.name, _LOOKED_UP)
        called = [
            row
            for row, product in zip(rows.tolist(), self._products(rows), strict=True)
            if wanted <= {token.text for token in tokens(f"{product.title} {product.model} {product.brand}")}
        ]
        return np.array(called, np.int64)

    def scope(self, named: Rows) -> Scope:
        """The narrowest category of the first product named that has enough others to compare it with."""
        [product] = self._products(named[:1])
        for depth in range(len(product.category) - 1, 0, -1):
            rows = self._columns.mask([Equal("category", PATH_SEPARATOR.join(product.category[:depth]))])
            if rows is not None and rows.sum() - len(named) >= _LEAST:
                return Scope(rows, (product.category[depth - 1],))
        return Scope(None)

    def preference(
        self, relation: Relation, named: Rows, scope: Scope, field: str, *, most: bool, weight: float
    ) -> Preference | None:
        """What the relation asks of the products in ``scope``; ``field`` is what they are compared by.

        None where the products named do not tell it.
        """
        numbers = self._measures.numbers(field) if field else None
        if numbers is None or np.isnan(numbers[named]).all():
            return None
        value = float(np.nanmedian(numbers[named]))
        if relation.kind == "like":
            places = self._measures.places(field, scope.members, most=True)
            fit = 1 - np.abs(places - np.nanmean(places[named])).astype(np.float32)
        else:
            beyond = numbers > value if most else numbers < value
            fit = np.where(np.isnan(numbers), np.nan, beyond).astype(np.float32)
        fit[~scope.members] = np.nan
        fit[named] = 0.0
        compared = f"{field.removeprefix('attributes.')} {_told(relation.kind, most)} that of {relation.name}"
        return Preference(relation.name, fit, weight, partial(self._fact, field, fit), f"{relation.kind} → {compared}")

    def _fact(self, field: str, fit: Scores, row: int) -> str:
        return self._measures.fact(field, row) if fit[row] >= 0.5 else ""


_OPEN = r"(?P<name>.+)$"


def _pattern(phrase: str) -> re.Pattern[str]:
    """Of a phrase whose name is at its end, the rest of the query; of one in between, what is before the next word."""
    before, after = (re.escape(part) for part in phrase.split(_SLOT))
    if after:
        return re.compile(rf"{before}(?P<name>[^,;]+?){after}\b", re.IGNORECASE)
    return re.compile(rf"\b{before}{_OPEN}", re.IGNORECASE)


def _told(kind: str, most: bool) -> str:
    return "near" if kind == "like" else "above" if most else "below"
