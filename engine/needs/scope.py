"""What a query wants something of: the products of the categories that it names, as far as its other words narrow them.

What is big depends on what it is, and the cheapest of 4K monitors is none of those that are not 4K.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from engine.columns import Columns
from engine.needs.categories import LINKS, Categories, singular
from engine.needs.kind_names import KindNames
from engine.needs.numbers import NUMBERS, NeedNumbers
from engine.preferences import Scope, scope_of
from engine.types import Mask, Routed, Rows
from engine.understanding.everyday import EVERYDAY, is_everyday
from engine.understanding.exclusions import ToldByFields
from engine.understanding.words import GRAMMAR

#: Words that ask for a thing without saying which.
EMPTY = frozenset({
    "", "something", "anything", "thing", "things", "stuff", "product", "products", "item", "items", "idea", "ideas",
    "suggest", "suggestion", "suggestions", "need", "want", "looking", "buy", "show", "option", "options", "lover",
    "use", "using", "device", "devices", "gadget", "gadgets", "electronics", "my", "me", "i", "who", "loves", "likes",
})  # fmt: skip


class Scopes:
    """Over one index. Thread-safe; which products have a word is kept."""

    def __init__(
        self, columns: Columns, told: ToldByFields, found: Callable[[str, int], Rows], numbers: NeedNumbers = NUMBERS,
        kinds: KindNames | None = None,
    ) -> None:  # fmt: skip
        """``found`` gives the rows of products that have words of a text, the best first, and at most so many.
        ``kinds`` are what things are called where the catalog has no categories.
        """
        self._columns, self._told, self._found, self._numbers = columns, told, found, numbers
        self._rows_of = lru_cache(maxsize=256)(self._mask_of)
        self.categories: Categories | KindNames = kinds or Categories(columns, numbers, self._rows_of)
        numeric = (
            name for name in columns.fields if name.startswith("attributes.") and columns.numbers(name) is not None
        )
        self._measured = {singular(word) for name in numeric for word in name.removeprefix("attributes.").split("_")}

    @property
    def guessed(self) -> bool:
        """Whether what things are called was learnt from titles, and is no category of the catalog's."""
        return isinstance(self.categories, KindNames)

    def counting(self, numbers: NeedNumbers) -> Scopes:
        """These with other numbers."""
        return Scopes(
            self._columns, self._told, self._found, numbers,
            self.categories if isinstance(self.categories, KindNames) else None,
        )  # fmt: skip

    def asked(self, words: Sequence[str]) -> Mask | None:
        """The rows of the categories that are called as the thing that a query asks for; None where there are none.

        ``words`` are the query's, empty where they are no part of what it is called.
        """
        return self.categories.head(list(map(self._known, words)), self._only_tells, self._told.named)

    def named(self, words: Sequence[str]) -> tuple[tuple[str, ...], Mask] | None:
        """The categories that words name, and their rows; None where they name none."""
        return self.categories.named(words, self._told.named)

    def of(self, routed: Routed | None, rest: Sequence[str], telling: Sequence[str]) -> Scope:
        """The categories that the words ``rest`` name, or else the types that the router found; of these the products
        that have the words ``telling``, where some have and others have not.

        Who wants a "phone" for something wants any, though it may be "Feature Phones" that the word is nearest to.
        """
        rest = list(map(self._known, rest))
        named, asked = self.named(rest), self.asked(rest)
        if named and asked is not None and not asked[named[1]].any():
            named = (), asked  # a "pen drive" is no pen
        scope = Scope(named[1], named[0]) if named else scope_of(routed, self._numbers.likely_type)
        if scope.rows is None:
            return scope
        above = self.categories.above(scope.names[0]) if scope.names else None
        telling = ["" if self.categories.covers(word, scope.rows) else word for word in telling]
        words = [w if self._narrows(w, before) else "" for before, w in zip(("", *telling), telling, strict=False)]
        rows, at = scope.rows, 0
        while at < len(words):
            said = tuple(telling[at : at + 2])
            tells = len(said) > 1 and all(said) and (any(words[at : at + 2]) or self._told.having(said) is not None)
            both = self._both(said, rows, all(words[at : at + 2])) if tells else None
            having = both if both is not None else self._having(words[at], rows)
            rows = self._narrowed(rows, having, above) if having is not None else rows
            at += 1 if both is None else 2
        return Scope(rows, scope.names)

    def knows(self, word: str) -> bool:
        """Whether anything is called so, or has it in a field."""
        return word in self.categories.words or singular(word) in self.categories.words or self._told.knows(word)

    def is_in_names(self, word: str) -> bool:
        """Whether any product's own name has the word."""
        return self._told.named((word,)) is not None

    def _known(self, word: str) -> str:
        """The word, if it is known; else empty."""
        return word if word and (word in LINKS or self.knows(word)) else ""

    def _only_tells(self, word: str) -> bool:
        """Whether a word after a thing's name says which one, and is no other thing."""
        return word in EMPTY or word in GRAMMAR or is_everyday(word) or self._told.having((word,)) is not None

    def _narrows(self, word: str, before: str) -> bool:
        """Whether a word tells which products of a type are meant; what names a type has been read already, and of the
        "ram" or "screen" that all have only how much of it tells.
        """
        if word in EMPTY or word.isdigit() or word in GRAMMAR or singular(word) in self.categories.words:
            return False
        if singular(word) in self._measured and not (self.guessed and self._told.having((word,)) is not None):
            return False  # of a thousand attributes one has nearly any word in its name, and a value tells more
        return word not in EVERYDAY and (self._told.knows(word) or not is_everyday(word, before))

    def _both(self, words: tuple[str, ...], rows: Mask, telling: bool) -> Mask | None:
        """The rows that have both words, if a field tells of them together, as of "noise cancelling", or names do, as
        of "fully automatic", or if both are ``telling`` and neither is anything alone among ``rows``, as of "fan
        edition"; else None.
        """
        told = self._told.having(words)
        if told is None and (names := self._told.named(words)) is not None and (rows & names).any():
            told = names
        alone = (self._having(word, rows) for word in words) if told is None else ()
        if told is not None or not telling or any(having is not None and (rows & having).any() for having in alone):
            return told
        texts = np.logical_and.reduce([self._rows_of(word) for word in words])
        return texts if texts.any() else None

    def _having(self, word: str, rows: Mask) -> Mask | None:
        """The rows that have a word: in a field if one tells of it among ``rows``, or else in their own names.

        In texts alone it says too little: others may have what one of them mentions.
        """
        if not word:
            return None
        told = self._told.having((word,))
        return told if told is not None and (rows & told).any() else self._told.named((word,))

    def _narrowed(self, rows: Mask, having: Mask, above: Mask | None) -> Mask:
        """Those of ``rows`` that are among ``having``, or of the category above; ``rows`` where it tells nothing."""
        inside = rows & having
        n = np.count_nonzero(inside)
        if n == 0 and above is not None:
            inside = above & having
            n = np.count_nonzero(inside)
        telling = self._numbers.least_having <= n < self._numbers.most_having * np.count_nonzero(rows)
        return inside if telling else rows

    def _mask_of(self, word: str) -> Mask:
        mask = np.zeros(len(self._columns), np.bool_)
        mask[self._found(word, len(self._columns))] = True
        return mask
