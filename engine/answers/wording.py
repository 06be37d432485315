"""The words of a question as they are compared with those of a catalog: measures apart, endings off."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import Stemmer

from engine.analysis.analyzer import fold
from engine.analysis.units import UNITS
from engine.answers.lexicon import WORDS

_ATOM = re.compile(r"[^\W_]+(?:[.,]\d+)*(?:[a-z]+/s(?!\w))?(?:/s(?!\w))?(?:'[^\W\d_]+)?\+?")
_MEASURE = re.compile(r"(\d+(?:[.,]\d+)*)([a-z]+(?:/s)?)")
_NETWORKS = frozenset({"2g", "3g", "4g", "5g", "6g"})
_PER_SECOND = {"mb/s": "mbps", "gb/s": "gbps"}
_NUMBER = re.compile(r"\d+(?:,\d+)*(?:\.\d+)?")
_SPELT = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
)  # fmt: skip
_stemmer = Stemmer.Stemmer("english")


@dataclass(frozen=True, slots=True)
class Word:
    """``text`` is lower case without accents, ``stem`` without its ending; ``[start:end]`` is where it stands."""

    text: str
    stem: str
    start: int
    end: int

    @property
    def number(self) -> float | None:
        """Its value where it is a number, in digits or as a word."""
        if self.text in _SPELT:
            return float(_SPELT.index(self.text))
        return float(self.text.replace(",", "")) if _NUMBER.fullmatch(self.text) else None


@lru_cache(maxsize=100_000)
def stem(word: str) -> str:
    """English words without their ending."""
    return str(_stemmer.stemWord(word))


def words_of(text: str) -> list[Word]:
    """Words in order. A number and the unit after it are two: ``12GB`` is 12 and gb, but ``5g`` and ``4k`` are one.
    What ``words.toml`` joins is one: ``wi-fi``.
    """
    found: list[Word] = []
    folded = fold(text).lower() if text.isascii() else "".join(fold(c).lower()[:1] or " " for c in text)
    for match in _ATOM.finditer(folded):
        atom, start = match.group(), match.start()
        measure = _MEASURE.fullmatch(atom)
        unit = _PER_SECOND.get(measure[2], measure[2]) if measure else ""
        if measure and atom not in _NETWORKS and (unit in UNITS or unit in WORDS.unit):
            split = start + len(measure[1])
            found += [Word(measure[1], measure[1], start, split), Word(unit, unit, split, match.end())]
        else:
            atom = _PER_SECOND.get(atom, atom)
            found.append(Word(atom, stem(atom), start, match.end()))
    return list(_joined(found))


def _joined(words: Sequence[Word]) -> Iterator[Word]:
    at = 0
    while at < len(words):
        one = WORDS.joins.get(tuple(word.text for word in words[at : at + 2]), "")
        yield Word(one, stem(one), words[at].start, words[at + 1].end) if one else words[at]
        at += 2 if one else 1
