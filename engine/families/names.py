"""The name of a model in a title: "Galaxy S24 Ultra" is of the series Galaxy S, its 24th generation, variant Ultra."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from engine.analysis.units import UNITS
from engine.families.words import NameWords
from engine.understanding.words import Token, tokens

_CODE = re.compile(r"([a-z]+)(\d{1,2})")  # longer numbers are codes' own
_NUMBER = re.compile(r"\d{1,2}")
_ORDINAL = re.compile(r"(\d{1,2})(?:st|nd|rd|th)")
_BREAK = re.compile(r"[,|;:•–—]|\s[-/]\s")
_READ = 9  # words of a title that are looked at: a name stands at its beginning
_BASE = 2  # words before a number that are of the series' name
PLUS = "plus"


@dataclass(frozen=True, slots=True)
class SeriesName:
    """``series`` is what generations share, as written, ``number`` which generation, ``variant`` the words after it,
    lower case and sorted; ``end`` is where the name ends in the title.
    """

    series: str
    number: int
    variant: tuple[str, ...]
    label: str


def own_tokens(title: str, ends: frozenset[str]) -> Iterator[Token]:
    """The words of a product's own name: none after "for" or "with", which tell of other products."""
    for token in tokens(title):
        if token.text in ends:
            return
        yield token


def series_name(title: str, brand: str, words: NameWords) -> SeriesName | None:
    """The first name of a model with a generation's number in a title; None where it has none."""
    found = list(own_tokens(title, words.ends))[:_READ]
    brands = {token.text for token in tokens(brand)}
    for at, token in enumerate(found):
        split = _split(found, at, title, words)
        if split is None:
            continue
        prefix, number, end, base_end = split
        base = _base(found, base_end, title, brands, words)
        lettered = prefix and prefix not in words.no_series and len(prefix) > 1
        if (not base and not lettered) or (prefix in words.no_series and len(prefix) > 1):
            continue
        variant, last = _variant(found, end, title, words)
        start = base[0].start if base else token.start
        shown_base = title[base[0].start : base[-1].end] if base else ""
        shown = title[token.start : token.start + len(prefix)]
        series = " ".join(filter(None, (shown_base, shown)))
        return SeriesName(series, number, variant, title[start:last])
    return None


def _split(found: Sequence[Token], at: int, title: str, words: NameWords) -> tuple[str, int, int, int] | None:
    """Prefix, number, the word after both and the word where the base ends, if a generation's number is at ``at``."""
    token = found[at]
    if code := _CODE.fullmatch(token.text):
        return code[1], int(code[2]), at + 1, at
    after = found[at + 1] if at + 1 < len(found) else None
    ordinal = _ORDINAL.fullmatch(token.text)
    if ordinal and after is not None and after.text in words.ordinal:
        return "", int(ordinal[1]), at + 2, at
    if not at or not _NUMBER.fullmatch(token.text) or token.text.startswith("0"):
        return None
    touches = title[token.end : token.end + 1]
    if touches in ('"', "'", ".", "/", "-", "%", "″", "°") or (after is not None and after.text in UNITS):
        return None
    if title[found[at - 1].end : token.start].strip():
        return None  # "(27 …", "A, 5": no one name
    return "", int(token.text), at + 1, at


def _base(found: Sequence[Token], end: int, title: str, brands: set[str], words: NameWords) -> list[Token]:
    """The words right before, of the name of the series: neither the brand's nor measures nor beyond a comma."""
    base: list[Token] = []
    for token in reversed(found[:end]):
        nearer = base[0] if base else found[end] if end < len(found) else None
        gap = title[token.end : nearer.start] if nearer is not None else ""
        stops = token.text in brands or token.text in UNITS or token.text in words.no_series
        if stops or not token.text.isalpha() or _BREAK.search(gap) or "(" in gap or ")" in gap or len(base) == _BASE:
            break
        base.insert(0, token)
    return base


def _variant(found: Sequence[Token], at: int, title: str, words: NameWords) -> tuple[tuple[str, ...], int]:
    """The variant's words from ``at`` on, and where they end in the title."""
    variant: list[str] = []
    last = found[at - 1].end
    if title[last : last + 1] == "+":
        variant, last = [PLUS], last + 1
    while at < len(found) and found[at].text in words.variants and not title[last : found[at].start].strip(" "):
        variant.append(found[at].text)
        last = found[at].end
        if title[last : last + 1] == "+":
            variant.append(PLUS)
            last += 1
        at += 1
    return tuple(sorted(variant)), last
