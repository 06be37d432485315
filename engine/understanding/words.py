"""The surface words of text: lower case and whole, as people write them. No stems, no codes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from engine.analysis.analyzer import STOP_WORDS, fold
from engine.analysis.units import UNITS

#: Stands for every number, measure and code: what is beside a number counts, which number it is does not.
NUMBER = "#"
#: Words that constraints and negations are read from; a speller must not take them for slips of the catalog's words.
GRAMMAR = STOP_WORDS | {unit for unit in UNITS if unit.isalpha()} | {
    "about", "above", "adult", "adults", "approx", "around", "atleast", "bachelor", "below", "best", "between",
    "bigger", "budget", "but", "cheap", "cheaper", "cheapest", "couple", "couples", "crore", "dollar", "dollars",
    "each", "euro", "euros", "except", "excluding", "exceeding", "family", "free", "good", "greater", "highest",
    "joint", "lac", "lakh", "large", "larger", "less", "lowest", "max", "maximum", "member", "members", "min",
    "minimum", "more", "nearly", "no", "not", "only", "other", "over", "people", "person", "persons", "price",
    "priced", "rated", "rating", "reviews", "roughly", "rupee", "rupees", "sans", "small", "smaller", "starting",
    "than", "thousand", "under", "until", "up", "upto", "without", "within", "one", "two", "three", "four", "five",
    "six", "seven", "eight", "nine", "ten", "versus", "vs",
}  # fmt: skip
#: What ends a word for a thing without another.
WITHOUT = "less"
_LEAST_BARE = 4  # letters before it: "unless" and "bless" say nothing of a thing
#: Groups of three digits, or as in India of two and then three.
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{2,3})*,\d{3}(?:\.\d+)?")
_TOKEN = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_WORD_OR_NUMBER = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*(?![\w])|\w*\d\w*(?:[.,/]\d+)*")


def surface_words(text: str) -> list[str]:
    """Words of ``text`` in order, lower case, without accents; what has a digit is ``#``, once for a row of such."""
    words: list[str] = []
    for word in _WORD_OR_NUMBER.findall(fold(text).lower()):
        if word.isalpha() or "'" in word:
            words.append(word)
        elif not words or words[-1] != NUMBER:
            words.append(NUMBER)
    return words


def contrary(word: str, other: str) -> bool:
    """Whether one word is of things without what the other has: "wireless" and "wired", which may be stems."""
    return _is_without(word, other) or _is_without(other, word)


def _is_without(word: str, other: str) -> bool:
    bare = word.removesuffix(WITHOUT)
    return bare != word and len(bare) >= _LEAST_BARE and other.startswith(bare) and not other.startswith(bare + WITHOUT)


def number_value(text: str) -> float:
    """Digits with separators as a number: ``1,50,000`` and ``150,000`` are the same, ``1,5`` is one and a half."""
    if _THOUSANDS.fullmatch(text) or text.count(",") > 1:
        return float(text.replace(",", ""))
    return float(text.replace(",", ".")) if "." not in text else float(text.replace(",", ""))


@dataclass(frozen=True, slots=True)
class Token:
    """A run of letters and digits, lower case without accents, and where it stands."""

    text: str
    start: int
    end: int


def tokens(text: str) -> list[Token]:
    """Runs of letters and digits, in order, with places in ``text`` as given."""
    if text.isascii():  # the usual case, and lower() keeps its places
        return [Token(match.group(), match.start(), match.end()) for match in _TOKEN.finditer(text.lower())]
    return [Token(fold(match.group()).lower(), match.start(), match.end()) for match in _TOKEN.finditer(text)]
