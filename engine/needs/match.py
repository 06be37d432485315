"""Finds the lexicon's words in a query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from engine.needs.categories import singular
from engine.needs.lexicon import Lexicon
from engine.understanding.constraints import Constraint
from engine.understanding.understand import Understood
from engine.understanding.words import tokens

Kind = Literal["gradable", "use"]
_FOR = "for"
_WHOSE = frozenset({"a", "an", "the", "my", "our", "your", "his", "her", "their"})


@dataclass(frozen=True, slots=True)
class NeedWord:
    """Words ``start`` to ``end`` of a query, which name an entry of the lexicon, ``most`` if as a superlative."""

    kind: Kind
    name: str
    start: int
    end: int
    most: bool = False


class Matcher:
    """Thread-safe. The longest entry wins where several begin at a word, and a superlative over what is none; plurals
    count as their singulars, and "for my kids" as "for kids".
    """

    def __init__(self, lexicon: Lexicon) -> None:
        self._entries: dict[tuple[str, ...], tuple[Kind, str, bool]] = {}
        self._words: set[str] = set()
        for name, use in lexicon.use.items():
            self._add("use", name, use.words, most=False)
        for name, gradable in lexicon.gradable.items():
            self._add("gradable", name, gradable.words, most=False)
        for name, gradable in lexicon.gradable.items():
            self._add("gradable", name, gradable.superlatives, most=True)
        self.words = frozenset(self._words)
        self._longest = max((len(key) + (_FOR in key) for key in self._entries), default=0)

    def _add(self, kind: Kind, name: str, texts: Sequence[str], *, most: bool) -> None:
        for text in texts:
            words = [token.text for token in tokens(text)]
            self._words.update(words)
            self._entries[_key(words)] = (kind, name, most)

    def find(self, words: Sequence[str]) -> list[NeedWord]:
        """In the order of ``words``, none overlapping another. Empty words match nothing."""
        found: list[NeedWord] = []
        at = 0
        while at < len(words):
            for end in range(min(at + self._longest, len(words)), at, -1):
                entry = self._entries.get(_key(words[at:end]))
                if entry is not None and not self._outdone(words, at, end):
                    kind, name, most = entry
                    found.append(NeedWord(kind, name, at, end, most))
                    at = end
                    break
            else:
                at += 1
        return found

    def _outdone(self, words: Sequence[str], at: int, end: int) -> bool:
        """Whether a phrase from ``at`` on is a "for" and the beginning of a longer one: "for photo editing"."""
        if words[at] != _FOR:
            return False
        return any(_key(words[at + 1 : last]) in self._entries for last in range(end + 1, len(words) + 1))


def _asks_as_well(limit: Constraint) -> bool:
    """A colour is said of anything, and "bachelor" asks for what is small, as "family of 4" does not."""
    counted = any(c.isdigit() for c in limit.text) or " of " in limit.text
    return limit.kind == "color" or (limit.kind == "household" and not counted)


def _key(words: Sequence[str]) -> tuple[str, ...]:
    """The same for singular and plural, of "family" and of "movie" as well, and whosever what comes after "for" is."""
    last = len(words) - 1  # "for her" is for her
    told = (word for at, word in enumerate(words) if not (0 < at < last and words[at - 1] == _FOR and word in _WHOSE))
    return tuple(f"{one[:-2]}y" if len(one) > 4 and one.endswith("ie") else one for one in map(singular, told))


def free_words(
    understood: Understood, read: Sequence[tuple[int, int]] = (), known: frozenset[str] = frozenset()
) -> list[str]:
    """The query's words, empty where they say something else already: a limit, an exclusion, a model's name that has
    none of the words ``known``, or what was ``read`` from one place to another. What shops write as one word is one, in
    the place of its last: "ear phones".
    """
    taken = [*read, *((name.start, name.end) for name in understood.names if known.isdisjoint(name.words))]
    taken += [(excluded.start, excluded.end) for excluded in understood.excluded]
    taken += [(limit.start, limit.end) for limit in understood.constraints if not _asks_as_well(limit)]
    words = [
        "" if any(start < token.end and token.start < end for start, end in taken) else token.text
        for token in tokens(understood.corrected)
    ]
    for found in understood.synonyms:
        parts = words[found.start : found.end]
        glued = singular("".join(parts))
        if (
            len(parts) > 1
            and all(parts)
            and any(len(to) == 1 and singular(to[0]) == glued for to in found.replacements)
        ):
            words[found.start : found.end] = [*[""] * (len(parts) - 1), glued]
    return words
