"""Rewrites by rule, to compare a trained rewriter with, and to see what any rewriter could gain."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from engine.analysis.analyzer import STOP_WORDS, Analyzer
from engine.analysis.vocabulary import Vocabulary
from engine.product import Product
from engine.seams import Encoder
from engine.search import SearchEngine
from engine.types import Rewrite

NAMES = ("random", "drop", "spelling", "type", "feedback", "near")
_WORD = re.compile(r"[^\W\d_]{3,}")
_TITLES = 10  # of the first results, whose words are added
_TRIES = 8  # rewrites by one rule
_NEIGHBOURS, _ENCODED = 3, 2_500  # near words of a word, among so many of the catalog's most common
_RARE = 5  # products; a word that fewer have may be a slip


@dataclass(frozen=True, slots=True)
class Fixed:
    """A rewriter that says one thing, whatever it is asked."""

    text: str

    def rewrite(self, query: str) -> Sequence[Rewrite]:
        return [Rewrite(self.text, 0.0)]


@dataclass(frozen=True, slots=True)
class ByOneRule:
    """A rewriter of the texts that one rule gives."""

    rule: Callable[[str], list[str]]

    def rewrite(self, query: str) -> Sequence[Rewrite]:
        return [Rewrite(text, -float(place)) for place, text in enumerate(self.rule(query))]


class Rules:
    """Each gives at most 8 rewrites of a query, best first by what can be known without judgments.

    ``random`` adds a word of the catalog that has nothing to do with the query: what comes of that is chance.
    """

    def __init__(self, engine: SearchEngine, products: Iterable[Product], encoder: Encoder, seed: int) -> None:
        self._engine, self._encoder, self._rng = engine, encoder, random.Random(seed)
        self._analyzer = Analyzer(engine.manifest.config.language)
        counts = Counter(word for product in products for word in set(_words(product.title)))
        self._counts, self._vocabulary = counts, Vocabulary(counts)
        self._common = [word for word, _ in counts.most_common(_ENCODED)]
        self._vectors = encoder.encode_queries(self._common)

    @property
    def by_name(self) -> dict[str, Callable[[str], list[str]]]:
        return {name: getattr(self, name) for name in NAMES}

    def random(self, query: str) -> list[str]:
        return [f"{query} {word}" for word in self._rng.sample(self._common, min(_TRIES, len(self._common)))]

    def drop(self, query: str) -> list[str]:
        """Without one word, the rarest first."""
        return [self._with(query, place, "") for place in self._rarest(query)][:_TRIES] if " " in query.strip() else []

    def spelling(self, query: str) -> list[str]:
        """With a rare word as the catalog has one like it."""
        words = query.lower().split()
        rare = [place for place in self._rarest(query) if self._counts[words[place]] < _RARE]
        near = ((place, word) for place in rare for word, _ in self._vocabulary.nearest(words[place]))
        return [self._with(query, place, word) for place, word in near if word != words[place]][:_TRIES]

    def type(self, query: str) -> list[str]:
        """With the name of a product type that the query is likely to ask for."""
        route = self._engine.search(query, 1).route
        return [f"{query} {found.name.lower()}" for found in (route.product_types if route else ())][:_TRIES]

    def feedback(self, query: str) -> list[str]:
        """With a word that the first results' titles have most."""
        titles = [hit.product.title for hit in self._engine.search(query, _TITLES).hits]
        return [f"{query} {word}" for word in self._lacking(query, titles)][:_TRIES]

    def near(self, query: str) -> list[str]:
        """With a word in place of another that is near it in meaning, by the encoder; the rarest word first."""
        words, stems = query.lower().split(), set(self._analyzer.terms(query))
        found = []
        for place in self._rarest(query):
            order = np.argsort(-(self._vectors @ self._encoder.encode_queries([words[place]])[0]), kind="stable")
            near = (self._common[i] for i in order[: 4 * _NEIGHBOURS])
            other = [word for word in near if not stems.intersection(self._analyzer.terms(word))][:_NEIGHBOURS]
            found += [self._with(query, place, word) for word in other]
        return found[:_TRIES]

    def wanted(self, query: str, titles: Sequence[str]) -> list[str]:
        """With a word of the products that are wanted: what only somebody who knew them could say."""
        return [f"{query} {word}" for word in self._lacking(query, titles)][:_TRIES]

    def _lacking(self, query: str, titles: Sequence[str]) -> list[str]:
        stems = set(self._analyzer.terms(query))
        counts = Counter(word for title in titles for word in dict.fromkeys(_words(title)))
        return [word for word, _ in counts.most_common() if not stems.intersection(self._analyzer.terms(word))]

    def _rarest(self, query: str) -> list[int]:
        """Places of the query's words of letters, those of fewest products first."""
        words = query.lower().split()
        said = [place for place, word in enumerate(words) if _WORD.fullmatch(word) and word not in STOP_WORDS]
        return sorted(said, key=lambda place: self._counts[words[place]])

    def _with(self, query: str, place: int, word: str) -> str:
        words = query.lower().split()
        return " ".join([*words[:place], *([word] if word else []), *words[place + 1 :]])


def _words(text: str) -> list[str]:
    return [word for word in _WORD.findall(text.lower()) if word not in STOP_WORDS]
