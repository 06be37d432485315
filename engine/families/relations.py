"""Finds in a query what it says of a model by another: "cheaper than X", "X alternative", "like X but smaller"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.analysis.analyzer import STOP_WORDS
from engine.families.words import FamilyWords, Kind
from engine.understanding.words import Token, tokens

_LONGEST_COMPARATIVE = 3  # words before a "than"
_LONGEST_NAME = 6  # words of X
_BUT = "but"
_ENDS = frozenset(
    {"for", "under", "below", "above", "within", "with", "without", "in", "between", "around", "less", "up"}
)
_NO_NAMES = frozenset({"this", "that", "it", "those", "these", "one", "new", "the", "a", "an", "my", "old"})


@dataclass(frozen=True, slots=True)
class Relation:
    """``kind`` of relation to what ``about`` names, the words of ``query[start:end]``; ``text`` is all of it as
    written.

    ``otherwise`` are the words after a "but", before a "than", or comparatives: what shall be otherwise. ``elsewhere``
    is the name of an entry for another maker's thing, and ``foreign`` the words that are it; both empty for what a
    catalog may have. ``rest`` are all other words. ``weak`` says that the words may mean something else, ``bare`` that
    only a "but" tells of the relation. ``spans`` are the places in the query that are read by this.
    """

    kind: Kind
    text: str
    about: tuple[Token, ...]
    otherwise: tuple[str, ...] = ()
    elsewhere: str = ""
    foreign: tuple[str, ...] = ()
    rest: tuple[str, ...] = ()
    weak: bool = False
    bare: bool = False
    spans: tuple[tuple[int, int], ...] = ()

    @property
    def name(self) -> str:
        return " ".join(token.text for token in self.about)


class RelationReader:
    """Thread-safe."""

    def __init__(self, words: FamilyWords, comparatives: frozenset[str] = frozenset()) -> None:
        """``comparatives`` are words that say what shall be otherwise wherever they stand, as "cheaper"."""
        self._but, self._comparatives = words.but.words, comparatives
        self._phrases: list[tuple[tuple[str, ...], Kind, bool]] = []
        self._weak = {_words(text) for phrases in words.relation.values() for text in phrases.weak}
        for kind, phrases in words.relation.items():
            self._phrases += [(_words(text), kind, True) for text in phrases.before]
            self._phrases += [(_words(text), kind, False) for text in phrases.after]
        self._phrases.sort(key=lambda phrase: -len(phrase[0]))
        self._elsewhere = {_words(text): name for name, entry in words.elsewhere.items() for text in entry.words}
        self._first = {phrase[0][0] for phrase in self._phrases} | {name[0] for name in self._elsewhere}
        self._first.add(_BUT)

    def read(self, query: str) -> Relation | None:
        """The first and longest relation of a query; None where it has none. Never raises."""
        found = tokens(query)
        words = [token.text for token in found]
        if self._first.isdisjoint(words):  # the usual case
            return None
        for phrase, kind, before in self._phrases:
            at = _find(words, phrase)
            if at < 0:
                continue
            end = at + len(phrase)
            about = self._after(found, end) if before else self._before(found, at)
            if about:
                start = max(at - _LONGEST_COMPARATIVE, 0) if kind == "than" else at
                return self._relation(query, found, kind, about, (start, end))
        if _BUT in words and (about := self._before(found, words.index(_BUT))):  # "X but smaller"
            at = words.index(_BUT)
            return self._relation(query, found, "like", about, (at, at + 1))
        return self._bare(query, found)

    def elsewhere(self, about: Sequence[Token]) -> tuple[str, tuple[str, ...]]:
        """The entry for another maker's thing that a name has, and its words; empty for none."""
        words = [token.text for token in about]
        for name, entry in self._elsewhere.items():
            if _find(words, name) >= 0:
                return entry, name
        return "", ()

    def _after(self, found: Sequence[Token], start: int) -> tuple[Token, ...]:
        """The words after a phrase, up to a but or what begins another thing."""
        out: list[Token] = []
        for token in found[start : start + _LONGEST_NAME + 1]:
            if token.text in self._but or token.text in _ENDS:
                break
            if token.text in _NO_NAMES and not out:
                continue
            out.append(token)
        return tuple(out[:_LONGEST_NAME])

    def _before(self, found: Sequence[Token], end: int) -> tuple[Token, ...]:
        """The words before a phrase, from the last that is of the grammar."""
        out: list[Token] = []
        for token in reversed(found[max(end - _LONGEST_NAME, 0) : end]):
            if token.text in STOP_WORDS or token.text in _ENDS:
                break
            out.insert(0, token)
        return tuple(out)

    def _relation(
        self, query: str, found: Sequence[Token], kind: Kind, about: tuple[Token, ...], phrase: tuple[int, int]
    ) -> Relation:  # fmt: skip
        otherwise: tuple[Token, ...] = ()
        words = [token.text for token in found]
        last = found.index(about[-1]) + 1
        if last < len(found) and words[last] in self._but:
            otherwise = tuple(found[last + 1 : last + 4])
        elif kind == "like":  # "s24 alternative cheaper"
            read = (*found[slice(*phrase)], *about)
            otherwise = tuple(token for token in found if token.text in self._comparatives and token not in read)
        parts = (*found[slice(*phrase)], *about, *otherwise)
        start, end = min(part.start for part in parts), max(part.end for part in parts)
        words_of = (
            tuple(token.text for token in otherwise) if kind != "than" else tuple(words[phrase[0] : phrase[1] - 1])
        )
        entry, name = self.elsewhere(found)
        return Relation(
            kind, query[start:end], about, words_of, entry, name, _rest(words, (*words[slice(*phrase)], *name)),
            tuple(words[slice(*phrase)]) in self._weak, words[phrase[0]] == _BUT,
            ((found[phrase[0]].start, found[phrase[1] - 1].end), *((token.start, token.end) for token in otherwise)),
        )  # fmt: skip

    def _bare(self, query: str, found: Sequence[Token]) -> Relation | None:
        """A query that only names another maker's thing is for the likes of it."""
        entry, name = self.elsewhere(found)
        if not entry:
            return None
        words = [token.text for token in found]
        at = _find(words, name)
        about = tuple(found[at : at + len(name)])
        text = query[about[0].start : about[-1].end]
        return Relation("like", text, about, (), entry, name, _rest(words, name), weak=True)


def _rest(words: Sequence[str], read: Sequence[str]) -> tuple[str, ...]:
    return tuple(word for word in words if word not in read)


def _words(text: str) -> tuple[str, ...]:
    return tuple(token.text for token in tokens(text))


def _find(words: Sequence[str], phrase: Sequence[str]) -> int:
    """Where ``phrase`` begins in ``words``; -1 where it is not."""
    n = len(phrase)
    return next((at for at in range(len(words) - n + 1) if tuple(words[at : at + n]) == tuple(phrase)), -1)
