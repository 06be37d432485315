"""The kind of thing that a query names, as ``engine.needs.categories`` has it for catalogs with categories."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

from engine.kinds.store import Kind, Kinds
from engine.kinds.titles import stem
from engine.needs.categories import NamedBy, before_links
from engine.types import Mask, Rows
from engine.understanding.synonyms import Synonyms

_SHOWN = 60  # kinds that a person may look through
_LONGEST = 3  # words of a synonym of a kind
_RARE = 0.2  # a noun of fewer products than this share of those of its synonym means the synonym


class KindNames:
    """Over one index. Thread-safe; what words name is kept."""

    words: frozenset[str] = frozenset()  # that name types and nothing else: no word of a title surely does

    def __init__(self, kinds: Kinds, synonyms: Synonyms) -> None:
        """``synonyms`` are other people's words for things, whether or not the catalog has them elsewhere."""
        self._kinds, self._synonyms = kinds, synonyms
        self._of = lru_cache(maxsize=4096)(self._called)

    def called(self, words: Iterable[str]) -> list[tuple[str, Mask]]:
        """For each word that is what a kind is called, the kind's name and its rows."""
        found = (self._of((word,)) for word in words)
        return [(kind.name, self._kinds.mask(kind.rows)) for kind in found if kind is not None]

    def named(
        self, asked: Sequence[str], called_by: NamedBy = lambda words: None
    ) -> tuple[tuple[str, ...], Mask] | None:
        """The kind that a query names, what it is called and its rows; None where it names none.

        It is the last that the words name before the first that says what the thing is for, or with.
        """
        words = before_links(asked)
        for end in range(len(words), 0, -1):
            kind = self._ending(words[:end])
            if kind is not None:
                return (kind.name, *self._typed(words[:end], kind)), self._kinds.mask(kind.rows)
        return None

    def head(self, asked: Sequence[str], tells: Callable[[str], bool], named: NamedBy) -> Mask | None:
        """The rows of what a query's own noun is called; None where no kind is. Words after it that only say which one,
        of which ``tells`` knows, are none.
        """
        words = before_links(asked)
        while words and self._ending(words) is None and tells(words[-1]):
            words.pop()
        kind = self._ending(words)
        return self._kinds.mask(kind.rows) if kind is not None else None

    def covers(self, word: str, rows: Mask) -> bool:
        """Whether all of ``rows`` are of the kind that is called so."""
        kind = self._of((word,)) if word else None
        return kind is not None and bool(self._kinds.mask(kind.rows)[rows].all())

    def is_called(self, text: str) -> bool:
        """Whether a kind is called so, in two words: one alone may as well be what something has, as "ports"."""
        words = tuple(text.split())
        return len(words) > 1 and self._of(words) is not None

    def above(self, name: str) -> Mask | None:
        """Kinds are in no tree."""
        return None

    def largest(self) -> list[tuple[str, Rows]]:
        """The kinds of one word that have the most products, with their rows: what a person may look through."""
        return [(kind.name, kind.rows) for kind in self._kinds.kinds if len(kind.key) == 1][:_SHOWN]

    def _ending(self, words: Sequence[str]) -> Kind | None:
        """The kind that the last words name, as many as can be; None where they name none, only say more of the kind
        before them, or what something has so many of.
        """
        for length in range(min(_LONGEST, len(words)), 0, -1):
            last = tuple(words[-length:])
            kind = self._of(last) if all(last) else None
            if kind is not None and len(words) > length and words[-length - 1].isdigit():
                return None  # of "24 ports" something has so many
            if kind is not None:
                before = self._of(tuple(words[-length - 1 : -length])) if len(words) > length else None
                return None if before is not None and length == 1 and stem(last[0]) in before.same else kind
        return None

    def _called(self, words: tuple[str, ...]) -> Kind | None:
        own = self._kinds.of(words)
        others = [
            kind
            for found in self._synonyms.expand(words)
            if (found.start, found.end) == (0, len(words))
            for phrase in found.replacements
            if (kind := self._kinds.of(phrase)) is not None
        ]
        best = max(others, key=lambda kind: len(kind.rows), default=None)
        if own is None or (best is not None and len(own.rows) < _RARE * len(best.rows)):
            return best
        return own

    def _typed(self, words: Sequence[str], kind: Kind) -> tuple[str, ...]:
        """The query's own word for the kind, where it is another."""
        return () if stem(words[-1]) == kind.key[-1] else (words[-1],)
