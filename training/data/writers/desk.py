"""What every writer of made queries has at hand: the shelf, chance, and how shoppers put names and numbers."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TypeVar

from engine.analysis.units import UNITS
from training.data.judging import Want
from training.data.shelf import Shelf, read_measures

T = TypeVar("T")

_COMMON = 0.12  # of titles; a word in more of them says little
_ANY_PRODUCT = 0.35  # of draws are over all products, the others over types first, so that small types count


class Desk:
    """The shelf, the chance to draw with, and what the catalog's titles count up to."""

    def __init__(self, shelf: Shelf, rng: random.Random) -> None:
        self.shelf, self.rng = shelf, rng
        self.tokens = Counter(token for facts in shelf.facts for token in facts.tokens)
        self._types = [type_id for type_id in shelf.rows_of if shelf.names(type_id)]

    @cached_property
    def spellings(self) -> dict[str, list[str]]:
        """How each unit is written: as the catalog's titles have it, or as a shopper would anyway."""
        found: dict[str, list[str]] = {}
        for spelling, unit in UNITS.items():
            if spelling in self.tokens or spelling in _TYPED_UNITS:
                found.setdefault(unit, []).append(spelling)
        return found

    def row(self, among: Sequence[int] = ()) -> int:
        """A product's row: one of ``among``, where there are any."""
        if among:
            return self.rng.choice(among)
        if not self._types or self.rng.random() < _ANY_PRODUCT:
            return self.rng.randrange(len(self.shelf.facts))
        return self.rng.choice(self.shelf.rows_of[self.rng.choice(self._types)])

    def named(self, kind: str, row: int) -> Want | None:
        """A query of nothing but the type's name, in singular or plural; None where nobody calls it by its name."""
        type_id = self.shelf.facts[row].type_id
        names = self.shelf.names(type_id) if type_id else ()
        if not type_id or not names:
            return None
        return self.called(kind, row, self.rng.choice(names), frozenset({type_id}))

    def called(self, kind: str, row: int, name: str, types: frozenset[str]) -> Want:
        *modifiers, noun = name.split()
        modifiers = modifiers[modifiers[:1] == ["all"] :]  # a shelf of "All Phones" is asked for as phones
        draw = self.rng.random()
        noun = self.singular(noun) if draw < 0.5 else plural(self.singular(noun)) if draw < 0.8 else noun
        named = frozenset().union(*map(self.shelf.token_terms, [*modifiers, noun]))
        return Want(kind, " ".join([*modifiers, noun]), row, types, named)

    def singular(self, noun: str) -> str:
        """The form without its s that titles have most; ``noun`` itself where they have none."""
        forms = [noun[:-1]] if noun.endswith("s") and not noun.endswith("ss") else []
        forms += [noun[:-2]] * noun.endswith("es") + [f"{noun[:-3]}y"] * noun.endswith("ies")
        best = max(forms, key=lambda form: self.tokens[form], default=noun)
        return best if self.tokens[best] else noun

    def joined(self, want: Want | None, words: Sequence[str], first: float) -> Want | None:
        """``want`` with further words, which stand first in that share of queries; None where they add nothing."""
        words = [word for word in words if want and not self.shelf.token_terms(word) <= want.named]
        if want is None or not words:
            return None
        said = " ".join(words)
        query = f"{said} {want.query}" if self.rng.random() < first else f"{want.query} {said}"
        return replace(want, query=query, words=want.words + self.terms(words))

    def terms(self, words: Sequence[str]) -> tuple[frozenset[str], ...]:
        return tuple(map(self.shelf.token_terms, words))

    def telling(self, row: int) -> list[str]:
        """The words of a title that tell it from most others, in their order."""
        common = max(_COMMON * len(self.shelf.facts), 3)
        counts = self.shelf.frequencies
        words = [word for word in dict.fromkeys(self.shelf.content(row)) if word not in _EMPTY]
        return [w for w in words if any(counts[t] < common for t in self.shelf.token_terms(w))]

    def measures(self, row: int) -> list[tuple[str, float]]:
        """The unit and number of each measure that the title has."""
        return [said for said in read_measures(self.shelf.facts[row].title) if said not in _GENERATIONS]

    def measure(self, unit: str, number: float) -> str:
        """A measure as people write it: ``55 inch``, ``55in``, ``55"``, ``1.5 ton``."""
        spelled = self.rng.choice(self.spellings.get(unit, [unit]))
        gap = self.rng.choice(("", " ")) if spelled.isalpha() else ""
        return f"{number:g}{gap}{spelled}"

    def some(self, items: Sequence[T], n: int) -> list[T]:
        return some(items, n, self.rng)


#: A writer makes a query about the product in a row, or gives None where it cannot.
Write = Callable[[Desk, int], Want | None]

# Of the spellings that analysis reads, those that shoppers type, whatever a catalog prints.
_SPELLINGS = """
in inch inches " ft foot feet mm cm m gb gig gigs tb mb g gm gms gram kg kgs kilo lb lbs oz ml l ltr litre liter gallon
w watt watts v volt volts amp mah ton btu hz mp megapixel star pack pcs
"""
_TYPED_UNITS = frozenset(_SPELLINGS.split())
_EMPTY = frozenset({"most", "select", "series", "other"})  # words of titles that nobody asks for
_GENERATIONS = {("g", float(n)) for n in range(2, 7)}  # of mobile networks, which analysis reads as grams


def some(items: Sequence[T], n: int, rng: random.Random) -> list[T]:
    """``n`` of them, or all."""
    return rng.sample(items, min(n, len(items)))


def plural(noun: str) -> str:
    if noun.endswith("y") and not noun.endswith(("ay", "ey", "oy", "uy")):
        return f"{noun[:-1]}ies"
    if noun.endswith("s") and not noun.endswith("ss"):
        return noun  # ``scissors``
    return f"{noun}es" if noun.endswith(("ss", "x", "ch", "sh")) else f"{noun}s"
