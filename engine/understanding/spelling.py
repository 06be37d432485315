"""Spelling against the catalog's own words: the likeliest reading of a query, spaces included.

A noisy channel (Kernighan, Church and Gale 1990): of all readings of the query, the one is taken that is likeliest as
the catalog's language and as the source of what was typed. Readings are found with a beam over the query's words, each
kept, corrected, split or joined with the next.

Never touched are everyday words of English, brands the catalog has, whatever has a digit beside its letters (a model
code, or what could be one; only spaces may be put between a number and whole known words), and words to which nothing
known is near enough.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.product import Product
from engine.understanding.channel import MAX_LETTERS, Channel, ChannelCosts, Option
from engine.understanding.everyday import COMMON
from engine.understanding.language import LanguageModel
from engine.understanding.lattice import Atom, Reading, atoms
from engine.understanding.words import GRAMMAR, NUMBER

_MAX_ATOMS = 24  # a longer text is no query, and is left alone
_RARE = 20  # sightings; a rarer word may be the catalog's own slip
_LINKS = frozenset("-/._")
_BEAM = 6  # readings kept per place


@dataclass(frozen=True, slots=True)
class Change:
    """``query[start:end]``, which is ``original``, was read as ``replacement``; ``reason`` says how."""

    start: int
    end: int
    original: str
    replacement: str
    reason: str


@dataclass(frozen=True, slots=True)
class Correction:
    """A query as it was probably meant, and what differs from what was typed, in order."""

    text: str
    changes: tuple[Change, ...] = ()


class SpellingModel:
    """Corrects queries. Thread-safe."""

    def __init__(self, language: LanguageModel, costs: ChannelCosts | None = None) -> None:
        self._language, self._costs = language, costs or ChannelCosts()
        self._channel = Channel(language, self._costs)
        self._brands = _by_first_word(language.brands)
        #: "E-Cloth" is asked for as "ecloth"
        self._glued_brands = frozenset(brand.replace(" ", "") for brand in language.brands)
        self._number = language.number.get(NUMBER, language.UNKNOWN)

    @classmethod
    def build(cls, products: Iterable[Product]) -> SpellingModel:
        """Counts the catalog's words in one pass."""
        return cls(LanguageModel.count(products))

    def grown(self, products: Iterable[Product]) -> SpellingModel:
        """This one with the words of more products."""
        return SpellingModel(self._language.grown(products), self._costs)

    def said(self, phrase: Sequence[str]) -> int:
        """How often the catalog has a phrase."""
        return self._language.phrase(phrase)

    def save(self, path: Path) -> None:
        """Writes one compact file."""
        self._language.save(path)

    @classmethod
    def load(cls, path: Path) -> SpellingModel:
        """Reads what ``save`` wrote. Raises IndexCorruptError on anything else."""
        return cls(LanguageModel.load(path))

    def correct(self, query: str, keep: Container[str] = frozenset()) -> Correction:
        """The likeliest reading of ``query``; what is not changed stays as typed.

        Words in ``keep`` (lower case, without accents) are not touched.
        """
        parts, readings = self._read(query, keep)
        if all(len(there) == 1 for there in readings):
            return Correction(query)
        return _rewritten(query, parts, self._best(readings))

    def is_plausible(self, query: str) -> bool:
        """Whether nothing in ``query`` so much as raises the question of another reading."""
        return all(len(there) == 1 for there in self._read(query, frozenset())[1])

    def _read(self, query: str, keep: Container[str]) -> tuple[list[Atom], list[list[Reading]]]:
        """The query's atoms, and for each the readings that begin with it; none for what is no query."""
        parts = atoms(query)
        if len(parts) > _MAX_ATOMS:
            return parts, []
        locked = self._locked(query, parts, keep)
        return parts, [self._readings(parts, at, locked) for at in range(len(parts))]

    def _locked(self, query: str, parts: list[Atom], keep: Container[str]) -> list[bool]:
        """Which atoms stay as they are: numbers, what touches them, the catalog's brands, and what other steps read."""
        locked = [
            atom.number
            or atom.text in GRAMMAR
            or atom.text in keep
            or (atom.text in COMMON and atom.text not in self._language)
            or atom.text in self._glued_brands
            or len(atom.text) > MAX_LETTERS
            or atom.touches
            or self._touched(parts, at)
            or _is_code_prefix(query, parts, at)
            for at, atom in enumerate(parts)
        ]
        for at, atom in enumerate(parts):
            for brand in self._brands.get(atom.text, ()):
                if [part.text for part in parts[at : at + len(brand)]] == list(brand):
                    locked[at : at + len(brand)] = [True] * len(brand)
                    break
        return locked

    def _readings(self, parts: list[Atom], at: int, locked: list[bool]) -> list[Reading]:
        atom = parts[at]
        known = self._language.number.get(atom.text, -1)
        if atom.number:
            return [Reading(at, at + 1, (self._number,), 0.0)]
        keep = Reading(at, at + 1, (known,), 0.0 if known >= 0 else self._channel.unknown(atom.text))
        if locked[at]:
            return [keep, *self._spaced(parts, at)] if atom.touches or self._touched(parts, at) else [keep]
        found, channel = [keep], self._channel
        if known < 0 or not self._plausible(parts, at, known):
            found += [
                Reading(at, at + 1, words, channel.real_word(known, words[0], cost), text, "spelling")
                for words, cost, text in channel.candidates(atom.text)
            ]
        if known < 0:
            found += [
                Reading(at, at + 1, numbers, cost, text, "space left out")
                for numbers, cost, text in (*channel.splits(atom.text), *channel.slipped_splits(atom.text))
            ]
        if at + 1 < len(parts) and parts[at + 1].spaced and not locked[at + 1] and not parts[at + 1].number:
            found += self._joined(parts, at)
        return found

    def _touched(self, parts: list[Atom], at: int) -> bool:
        return at + 1 < len(parts) and parts[at + 1].touches

    def _plausible(self, parts: list[Atom], at: int, known: int) -> bool:
        """Whether a known word was seen beside one of its neighbours, or has none that says anything."""
        language = self._language
        if language.counts[known] <= _RARE:
            return False
        if len(parts) == 1:
            return language.counts[language.group[known]] > 1
        left = language.number.get(parts[at - 1].text, -1) if at else -1
        right = language.number.get(parts[at + 1].text, -1) if at + 1 < len(parts) else -1
        if at and parts[at - 1].number:
            left = self._number
        if at + 1 < len(parts) and parts[at + 1].number:
            right = self._number
        return language.pair(left, known) > 0 or language.pair(known, right) > 0

    def _spaced(self, parts: list[Atom], at: int) -> list[Reading]:
        """Spaces between a number and the whole known words that touch it; short words could be part of a code."""
        atom = parts[at]
        known = self._language.number.get(atom.text, -1)
        if known >= 0 and len(atom.text) > 3:
            options: tuple[Option, ...] = (((known,), 0.0, atom.text),)
        else:
            options = self._channel.splits(atom.text) if known < 0 else ()
        out = []
        before, after = atom.touches, self._touched(parts, at)
        for numbers, cost, text in options:
            words = f"{' ' if before else ''}{text}{' ' if after else ''}"
            out.append(
                Reading(
                    at, at + 1, numbers, cost + (before + after) * self._costs.number_space, words, "space left out"
                )
            )
        return out

    def _joined(self, parts: list[Atom], at: int) -> list[Reading]:
        word = parts[at].text + parts[at + 1].text
        known = self._language.number.get(word, -1)
        if known >= 0:
            return [Reading(at, at + 2, (known,), self._costs.join, word, "space too many")]
        return []

    def _best(self, readings: list[list[Reading]]) -> list[Reading]:
        """The cheapest sequence of readings, by a beam over the place and the last word."""
        n = len(readings)
        #: per place: last word → (cost, reading that led there, its predecessor's last word)
        states: list[dict[int, tuple[float, tuple[Reading, ...]]]] = [{} for _ in range(n + 1)]
        states[0][-1] = (0.0, ())
        weight, cost_of = self._costs.language, self._language.cost
        for place in range(n):
            here = sorted(states[place].items(), key=lambda item: item[1][0])[:_BEAM]
            for reading in readings[place]:
                there = states[reading.end]
                for last, (cost, path) in here:
                    total, word = cost + reading.cost, last
                    for number in reading.words:
                        if number >= 0:
                            total += weight * cost_of(word, number)
                        word = number
                    if word not in there or total < there[word][0]:
                        there[word] = (total, (*path, reading))
        return list(min(states[n].values(), key=lambda state: state[0])[1])


def _is_code_prefix(query: str, parts: list[Atom], at: int) -> bool:
    """Whether a number follows after a hyphen, slash, dot or underscore, as in ``mlt-206``."""
    follower = parts[at + 1] if at + 1 < len(parts) else None
    return follower is not None and follower.number and query[parts[at].end : follower.start] in _LINKS


def _by_first_word(brands: Iterable[str]) -> dict[str, tuple[tuple[str, ...], ...]]:
    """Brands as words, longest first, by their first word."""
    found: dict[str, list[tuple[str, ...]]] = {}
    for brand in sorted(brands, key=lambda name: -len(name.split())):
        words = tuple(brand.split())
        found.setdefault(words[0], []).append(words)
    return {first: tuple(names) for first, names in found.items()}


def _rewritten(query: str, parts: list[Atom], readings: list[Reading]) -> Correction:
    changes = []
    text, end = [], 0
    for reading in readings:
        if reading.text is None:
            continue
        start, stop = parts[reading.start].start, parts[reading.end - 1].end
        changes.append(Change(start, stop, query[start:stop], reading.text, reading.reason))
        text += [query[end:start], reading.text]
        end = stop
    return Correction("".join(text) + query[end:], tuple(changes))
