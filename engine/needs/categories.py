"""Categories by what they are called: "watch" is what "Smartwatches" are, and not what "Watch Straps" are."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import dropwhile

import numpy as np

from engine.analysis.analyzer import STOP_WORDS
from engine.analysis.analyzer import singular as short_singular
from engine.columns import PATH_SEPARATOR, Columns
from engine.needs.numbers import NUMBERS, NeedNumbers
from engine.types import Mask, Rows
from engine.understanding.everyday import COMMON, is_everyday
from engine.understanding.words import GRAMMAR, contrary

_Path = tuple[tuple[str, ...], Rows]
_Named = tuple[str, Rows]
#: Which products are called by words, bool (n_products,); None where none is.
NamedBy = Callable[[tuple[str, ...]], Mask | None]

_COMPOUND = 4  # letters that a word has at least, to be the end of a longer one
LINKS = frozenset({"for", "with", "without", "under", "in", "to", "of", "from", "on", "that", "which", "and", "or"})
_LEADING = frozenset({"on", "of", "for", "in"})  # to the thing, after a word that has been read
_PARTS = re.compile(r"[&/,+]|\band\b")


class Categories:
    """The category paths of one index, those nearest the root first. Thread-safe."""

    def __init__(
        self, columns: Columns, numbers: NeedNumbers = NUMBERS, having: Callable[[str], Mask] | None = None
    ) -> None:
        """``having`` gives the rows of products that have a word; None where nothing tells."""
        self._having = having
        self._n, self._typical_share, self._named_share = len(columns), numbers.typical_share, numbers.category_share
        listed = columns.postings("category") if "category" in columns.fields else ()
        self._paths = sorted(((tuple(path.split(PATH_SEPARATOR)), rows) for path, rows in listed), key=_depth)
        self._at = dict(self._paths)
        self._by_head: dict[str, list[int]] = defaultdict(list)  # the last words of names' parts, and whose they are
        for place, (path, _) in enumerate(self._paths):
            for words in filter(None, _parts(path[-1])):
                self._by_head[words[-1]].append(place)
        self.words = frozenset(word for path, _ in self._paths for name in path for word in _words(name))
        self._called = lru_cache(maxsize=4096)(self._paths_called)
        self._usual = lru_cache(maxsize=4096)(self._usual_of)

    def called(self, words: Iterable[str]) -> list[tuple[str, Mask]]:
        """For each word that is what a category is called, the first such category's name, and the rows of all such."""
        out = []
        for word in words:
            found = self._called(word)
            if found:
                out.append((found[0][0][-1], self._mask([rows for _, rows in found])))
        return out

    def named(
        self, asked: Sequence[str], called_by: NamedBy = lambda words: None
    ) -> tuple[tuple[str, ...], Mask] | None:
        """The categories that a query names, and their rows; None where it names none.

        What a thing is called stands before the first word that says what it is for, or with; of several such words the
        one that the fewest products are is meant: a "foldable phone" is a foldable, and a "phone case" a case. Of
        categories in several places those with the most products are meant: a "phone" is none of "Wired Earphones".
        Who says no more than "phone" means what most are, and none of a few "Feature Phones". ``called_by`` it and the
        word before it may be something else: what is "fully automatic" is not "Semi Automatic".
        """
        words = before_links(asked)
        best: tuple[tuple[str, ...], Mask] | None = None
        for before, word in zip(("", *words), words, strict=False):
            found = self._undenied(word, words) if word else ()
            if not found:
                continue
            _, meant, _ = self._meant(found, word, words)
            mask = self._mask([rows for _, rows in meant])
            both = called_by((before, word)) if before else None
            if both is not None and not self._most(mask, both):
                continue
            if best is None or mask.sum() < best[1].sum():
                best = tuple(name for name, _ in meant), mask
        return best

    def _meant(
        self, found: Sequence[_Path], word: str, words: Sequence[str]
    ) -> tuple[tuple[str, ...], list[_Named], bool]:
        """Of categories that are called ``word``: those that another word tells of, or the typical ones, without what
        is rare in them; of several places those where the most products are. With the category above, and whether
        another word tells.
        """
        others = {singular(other) for other in words if other and other != word} - GRAMMAR
        telling = [(path, rows) for path, rows in found if others.intersection(_words(path[-1])[:-1])]
        parents = Counter[tuple[str, ...]]()
        for path, rows in telling or found:
            parents[path[:-1]] += len(rows)
        [(parent, n)] = parents.most_common(1)
        called = [(path[-1], rows) for path, rows in telling or found if path[:-1] == parent]
        typical = [of for of in called if len(of[1]) >= self._typical_share * n]
        rare = [rows for _, rows in called if len(rows) < self._typical_share * n]
        if telling or any(self._may_mean(rare, other, parent) for other in others):
            return parent, called, bool(telling)
        return parent, [(name, self._usual((*parent, name))) for name, _ in typical], False

    def _may_mean(self, rare: Sequence[Rows], word: str, parent: tuple[str, ...]) -> bool:
        """Whether a word may ask for what is ``rare``: it says more than the rest, and some that are rare have it."""
        if is_everyday(word) or self._names_above(word, parent):
            return False
        return self._having is None or not rare or bool(self._having(word)[np.concatenate(rare)].any())

    def _names_above(self, word: str, parent: tuple[str, ...]) -> bool:
        """Whether a word is what the category ``parent``, or one above it, is called: a "mobile phone" is any phone."""
        return any(path == parent[: len(path)] for path, _ in self._called(word))

    def _usual_of(self, path: tuple[str, ...]) -> Rows:
        """The rows of a category without those of its parts that are rare beside its largest: "mobiles" are no keypad
        phones where nearly all are smartphones.
        """
        rows, parts = self._at[path], [within for below, within in self._paths if below[:-1] == path]
        least = self._typical_share * max(map(len, parts), default=0)
        rare = [within for within in parts if len(within) < least]
        return np.setdiff1d(rows, np.concatenate(rare)) if rare else rows

    def head(self, asked: Sequence[str], tells: Callable[[str], bool], named: NamedBy) -> Mask | None:
        """The rows of what a query's own noun is called; None where no category is, or another word names another.

        The noun is the last word before the first that says what the thing is for, or with, but for those that only
        say which one, of which ``tells`` knows: a "monitor arm" is no monitor, a "monitor 4k" is. Where several
        categories beside each other are called so, all beside them are meant: foldables are phones as well. It counts
        only where the products that are ``named`` by it are there, and by it and the word before it: most shops file
        "guitar" straps and picks elsewhere than guitars, and a "fitness tracker" is no tracker.
        """
        words = before_links(asked)
        while words and not self._called(words[-1]) and tells(words[-1]):
            words.pop()
        found = self._undenied(words[-1], words) if words and words[-1] else ()
        if not found:
            return None
        parent, meant, told = self._meant(found, words[-1], words)
        beside = [rows for _, rows in meant] if told else [rows for path, rows in found if path[:-1] == parent]
        above = self._at.get(parent) if len(beside) > 1 and not told else None
        all_called = self._mask([above] if above is not None else beside)
        mask = all_called & (~self._mask(beside) | self._mask([rows for _, rows in meant]))
        both = named(tuple(words[-2:])) if len(words) > 1 and words[-2] else None
        if both is not None:
            return mask if self._most(all_called, both) else None
        if not self._most(all_called, named((words[-1],))):
            return None
        others = (rows for word in filter(None, words[:-1]) for _, rows in self._called(word))
        return mask if all(mask[rows].any() for rows in others) else None

    def covers(self, word: str, rows: Mask) -> bool:
        """Whether all of ``rows`` are in categories that are called so."""
        found = self._called(word) if word else ()
        return bool(found) and bool(self._mask([of for _, of in found])[rows].all())

    def _most(self, mask: Mask, named: Mask | None) -> bool:
        """Whether enough of the products of a name, if there are any, are in ``mask``."""
        return named is None or (mask & named).sum() >= self._named_share * named.sum()

    def is_called(self, text: str) -> bool:
        """Whether a category is called so: "power bank" is a thing, and no power."""
        return bool(self._called(text))

    def above(self, name: str) -> Mask | None:
        """The rows of the category above the first of this name; None where it has none."""
        for path, _ in self._paths:
            if path[-1] == name and len(path) > 1:
                return self._mask([self._at[path[:-1]]]) if path[:-1] in self._at else None
        return None

    def _undenied(self, word: str, words: Sequence[str]) -> Sequence[_Path]:
        """The categories called ``word`` that no other word denies: "wireless earphones" are not wired."""
        others = [other for other in words if other != word]
        return [
            (path, rows)
            for path, rows in self._called(word)
            if not any(contrary(other, said) for said in _words(path[-1]) for other in others)
        ]

    def _paths_called(self, word: str) -> tuple[tuple[tuple[str, ...], Rows], ...]:
        wanted = _words(word)
        if not wanted:
            return tuple((path, rows) for path, rows in self._paths if _is_called(path[-1], wanted))
        heads = [head for head in self._by_head if head == wanted[-1] or _same_head([head], wanted)]
        places = sorted({place for head in heads for place in self._by_head[head]})
        return tuple(self._paths[place] for place in places if _is_called(self._paths[place][0][-1], wanted))

    def _mask(self, rows: Sequence[Rows]) -> Mask:
        mask = np.zeros(self._n, np.bool_)
        mask[np.concatenate(rows)] = True
        return mask


def singular(word: str) -> str:
    """An English plural's singular, as far as its ending tells."""
    if len(word) > 4 and word.endswith(("ches", "shes", "xes")):
        return word[:-2]
    if len(word) <= 3:
        return short_singular(word) or word
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _is_called(name: str, wanted: list[str]) -> bool:
    """Whether the last words of a name, or of a part of it ("Cases & Covers"), are these, or end in the only one."""
    return any(
        words[-len(wanted) :] == wanted or (len(wanted) == 1 and _same_head(words, wanted)) for words in _parts(name)
    )


def _parts(name: str) -> list[list[str]]:
    """The words of each part of a category's name."""
    return [_words(part) for part in _PARTS.split(name.lower())]


def _same_head(left: Sequence[str], right: Sequence[str]) -> bool:
    """Whether the last words, of a category and asked for, are the same, or one is the end of the other."""
    if not left or not right:
        return False
    if right[-1] in COMMON:  # "outdoor" is no door
        return left[-1] == right[-1]
    shorter, longer = sorted((left[-1], right[-1]), key=len)
    return longer == shorter or (len(shorter) >= _COMPOUND and longer.endswith(shorter))


def _words(name: str) -> list[str]:
    return [singular(word) for word in re.split(r"[^a-z0-9]+", name.lower()) if word]


def before_links(asked: Sequence[str]) -> list[str]:
    """The words that say what a thing is, before the first that says what it is for, or with; a "which" may lead, and
    words that have been read and lead to it: a "sale on tv" is of televisions.
    """
    words = list(asked[1:] if asked[:1] == ["which"] else asked)
    first = next((at for at, word in enumerate(words) if word), 0)
    if first and words[first] in _LEADING:
        words = list(dropwhile(STOP_WORDS.__contains__, words[first + 1 :]))
    around = zip(("", *words), words, (*words[1:], ""), strict=False)
    links = (at for at, (before, word, after) in enumerate(around) if word in LINKS and not _counts(before, after))
    return words[: next(links, len(words))]


def _counts(before: str, after: str) -> bool:
    """Whether a word between these is the "in" of "2 in 1 laptop"."""
    return before.isdigit() and after.isdigit()


def _depth(path: tuple[tuple[str, ...], Rows]) -> tuple[int, tuple[str, ...]]:
    return len(path[0]), path[0]
