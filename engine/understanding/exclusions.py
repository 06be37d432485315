"""What a query excludes or asks for, where a field of the catalog says it: a category, an attribute, a flag, a brand.

"Fridge not double door" is about the category "Double Door" or the door type of that name, which every product answers;
"s24 not ultra" about what products are called; "without buckle" is about nothing that a field tells, and is left to the
products' texts.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, lru_cache

import numpy as np
import Stemmer

from engine.columns import PATH_SEPARATOR, Columns
from engine.types import Mask, Rows
from engine.understanding.negation import Excluded
from engine.understanding.words import WITHOUT, contrary

_MOST_VALUES = 200  # of a field whose values are kinds of things and not names
_FLAG_VALUES = 2
_MOST_WORDS = 6  # of a value
_BEGINNING = 4  # letters that begin a longer word and stand for it: "touch" is "touchscreen"
_CATEGORY = "category"
_NAMES = ("brand", _CATEGORY)
_HYPHENED = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)+")
_LACKS = re.compile(r"without|w/o|with\s+out|sans|minus", re.IGNORECASE)


_stem = Stemmer.Stemmer("english").stemWord

#: A field, the words of a value of it and of the field's name, and the rows that have the value.
_Value = tuple[str, frozenset[str], frozenset[str], Rows]


class ToldByFields:
    """Looks phrases up in the columns of one index. Thread-safe; the columns are read when first asked."""

    def __init__(self, columns: Columns, in_names: Callable[[str], Rows] = lambda word: np.empty(0, np.int64)) -> None:
        """``in_names`` gives the rows of the products whose own names have a word, in whatever form."""
        self._columns, self._in_names = columns, in_names
        self.knows = lru_cache(maxsize=4096)(self._known)

    def excluded(self, phrase: Excluded) -> Iterator[Mask]:
        """The rows that have what a phrase excludes, bool (n_products,), by each way to tell of it: what fields say,
        and what products are called. "Without X" never means a category or a name: a belt without buckle may say so.
        """
        kinds = _LACKS.match(phrase.text) is None
        fields = self.having(phrase.words, kinds=kinds, names=True)
        named = self.named(phrase.words) if kinds else None
        for mask in (self._lacking(phrase.words), fields, named):
            if mask is not None and not mask.all():
                yield mask
        if fields is None and kinds:
            yield from self._begun(phrase.words)

    def contrary(self, words: Iterable[str]) -> Iterator[Mask]:
        """The rows that have the contrary of one of ``words`` and not itself: for "wireless earphones" wired ones."""
        for word in words:
            bare = word.removesuffix(WITHOUT)
            other = bare if bare != word else _stem(word) + WITHOUT
            if contrary(word, other) and self.knows(other):
                having, own = (self.having((said,), kinds=True, names=True) for said in (other, word))
                if having is not None and own is not None:
                    yield having & ~own

    def denied(self, phrase: Excluded) -> Mask | None:
        """The rows that a field says are without what a phrase excludes, bool (n_products,): of a flag, that it is not
        set. None where no flag tells, or the phrase says what a thing shall not be and not what it shall be without.
        """
        wanted = {_stem(word) for word in phrase.words} if _LACKS.match(phrase.text) else set()
        rows = [rows for said, rows in self._unset if wanted and all(_among(word, said) for word in wanted)]
        if not rows:
            return None
        mask = np.zeros(len(self._columns), np.bool_)
        mask[np.concatenate(rows)] = True
        return mask

    @cached_property
    def _unset(self) -> list[tuple[frozenset[str], Rows]]:
        """The names of flags, and the rows whose flag is not set."""
        fields = (field for field in self._columns.fields if field.startswith("attributes."))
        flags = ((field, dict(self._columns.postings(field))) for field in fields)
        return [
            (_words(field.removeprefix("attributes.")), values["false"])
            for field, values in flags
            if "false" in values and len(values) <= _FLAG_VALUES
        ]

    def _lacking(self, words: tuple[str, ...]) -> Mask | None:
        """The rows that no field says are without a thing, where some say it in a word: "wireless" is without wire."""
        without = self.having((f"{words[-1]}less",)) if len(words) == 1 else None
        return None if without is None else ~without

    def _begun(self, words: tuple[str, ...]) -> Iterator[Mask]:
        """The rows that have the first words, as many as a field tells of: what is "not yellow cat6" is not yellow."""
        for end in range(len(words) - 1, 0, -1):
            mask = self.having(words[:end], kinds=True, names=True)
            if mask is not None:
                if not mask.all():
                    yield mask
                return

    def having(self, words: tuple[str, ...], *, kinds: bool = False, names: bool = False) -> Mask | None:
        """The rows that have what ``words`` say, bool (n_products,); None where no field tells. ``names`` is whether
        those of brands and, if they are ``kinds`` as well, of categories may tell.
        """
        for said in (words, ("".join(words),)):  # "touch screen" is a "touchscreen"
            mask = self._rows(said, kinds=kinds, names=names)
            if mask is not None:
                return mask
        return None

    def _known(self, word: str) -> bool:
        """Whether a field or a product's own name has the word."""
        return self.having((word,), kinds=True, names=True) is not None or len(self._in_names(word)) > 0

    def named(self, words: tuple[str, ...]) -> Mask | None:
        """The rows of the products whose own names have all ``words``, bool (n_products,); None where none has."""
        mask = np.ones(len(self._columns), np.bool_)
        for word in words:
            having = np.zeros(len(self._columns), np.bool_)
            having[self._in_names(word)] = True
            mask &= having
        return mask if words and mask.any() else None

    def _rows(self, words: tuple[str, ...], *, kinds: bool, names: bool) -> Mask | None:
        """``kinds`` says whether categories may be meant: what is "without accessories" may be an accessory itself."""
        wanted = [_stem(word) for word in words]
        mask = np.zeros(len(self._columns), np.bool_)
        for field, said, named, rows in self._by_word.get(wanted[-1], ()) or self._beginning(wanted[-1]):
            if field in _NAMES and (not names or (field == _CATEGORY and not kinds)):
                continue
            told = [word for word in wanted if _among(word, said)]
            if told and all(_among(word, said) or _among(word, named) for word in wanted):
                mask[rows] = True
        return mask if mask.any() else None

    def _beginning(self, word: str) -> Iterable[_Value]:
        if len(word) < _BEGINNING:
            return ()
        first, last = bisect_left(self._sorted, word), bisect_left(self._sorted, f"{word}\uffff")
        return (entry for other in self._sorted[first:last] for entry in self._by_word[other])

    @cached_property
    def _sorted(self) -> list[str]:
        return sorted(self._by_word)

    @cached_property
    def _by_word(self) -> dict[str, list[_Value]]:
        """By a word of a value or of its field's name. Of a flag that is set the field's name is what it says."""
        out: dict[str, list[_Value]] = defaultdict(list)
        for field in self._columns.fields:
            if field not in _NAMES and not field.startswith("attributes."):
                continue
            values = list(self._columns.postings(field))
            if field not in _NAMES and len(values) > _MOST_VALUES:
                continue
            named = _words(field.removeprefix("attributes.")) if field not in _NAMES else frozenset[str]()
            for value, rows in values:
                if value == "true":
                    said, of = named, frozenset[str]()
                elif value == "false":
                    continue
                else:
                    said, of = _words(value.rsplit(PATH_SEPARATOR, 1)[-1]), named
                if len(said) <= _MOST_WORDS:
                    for word in said | of:
                        out[word].append((field, said, of, rows))
        return dict(out)


def _among(word: str, words: frozenset[str]) -> bool:
    return word in words or (len(word) >= _BEGINNING and any(_begins(word, other) for other in words))


def _begins(word: str, other: str) -> bool:
    """Whether a longer word begins with one and does not deny it, as "wireless" does wire."""
    return other.startswith(word) and not other.startswith(f"{word}less")


def _words(text: str) -> frozenset[str]:
    """Stems, and of words with hyphens the whole as well: "Wi-Fi" is "wifi"."""
    lower = text.lower()
    whole = (word.replace("-", "") for word in _HYPHENED.findall(lower))
    return frozenset(_stem(word) for word in (*re.split(r"[^a-z0-9]+", lower), *whole) if word)
