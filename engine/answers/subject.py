"""What a question calls the product that it is about: "the fridge" of a refrigerator, "this tag" of a SmartTag2."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import takewhile

import numpy as np

from engine.analysis.analyzer import STOP_WORDS
from engine.answers.attributes import AttributeIndex
from engine.answers.lexicon import WORDS
from engine.answers.wording import Word, words_of
from engine.product import Product

_POINTING = frozenset({"the", "this", "that", "these", "those", "my", "your"})
_DOERS = ("er", "or")  # a projector projects
_LEAST_PART = 3  # letters of a word that one of the product's may end in
_LONGEST = 3  # words of a name of a kind of products, such as "washer dryer"
_LEAVES = 2  # names of a category's path, from its end, that say what a product is


class SubjectWords:
    """Finds words that stand for a product. Thread-safe.

    ``least_cosine`` is the encoder's, of a noun and the name of a category, from which the noun means such a product.
    """

    def __init__(self, attributes: AttributeIndex, least_cosine: float) -> None:
        self._attributes, self._least = attributes, least_cosine
        self._cosine = lru_cache(maxsize=20_000)(self._cosine_of)

    def pointed(self, text: str, product: Product) -> tuple[Word, ...]:
        """The nouns of a question that point at the product, in order: after a "the" or "this", and no part of a longer
        name ("the case size") unless they stand where a subject does ("does this microwave hold").
        """
        words = words_of(text)
        found: list[Word] = []
        for place, word in enumerate(words):
            if word.text not in _POINTING:
                continue
            run = list(takewhile(lambda noun: self.means(noun, product), words[place + 1 : place + 1 + _LONGEST]))
            after = words[place + 1 + len(run) : place + 2 + len(run)]
            if after and not _is_function(after[0]) and not _is_subject(words, place):
                continue
            found += run
        return tuple(found)

    def means(self, word: Word, product: Product) -> bool:
        """Whether a noun is what the product is called, or what products of its category are; no value of it."""
        if not word.text.isalpha() or self._attributes.values_have(word, product):
            return False
        if calls(word, product, _LEAST_PART):
            return True
        if self._attributes.names(word) or self._attributes.embed is None:
            return False
        return any(self._cosine(word.text, name) >= self._least for name in product.category[-_LEAVES:])

    def _cosine_of(self, word: str, category: str) -> float:
        if self._attributes.embed is None:
            return 0.0
        one, other = self._attributes.embed([word, category])
        return float(np.dot(one, other))


def calls(word: Word, product: Product, least: int = 0) -> bool:
    """Whether a word is of the product's title or categories, but for a number or a doer's ending; with ``least`` also
    one of that many letters in which such a word ends.
    """
    for text in (product.title, *product.category):
        for own in words_of(text):
            bare = own.text.rstrip("0123456789")
            if word.stem == own.stem or word.text == bare or own.stem in (word.stem + ending for ending in _DOERS):
                return True
            if least and len(word.text) >= least and (bare.endswith(word.text) or own.stem.endswith(word.stem)):
                return True
    return False


def _is_subject(words: Sequence[Word], place: int) -> bool:
    """Whether the determiner at a place stands after a verb and no "what is"."""
    verb = words[place - 1].text if place else ""
    first = words[place - 2].text if place > 1 else ""
    return verb in WORDS.question.auxiliary and first not in WORDS.question.wh


def _is_function(word: Word) -> bool:
    q = WORDS.question
    return word.text in STOP_WORDS | q.auxiliary | q.carrier | q.subject | q.wh | q.person
