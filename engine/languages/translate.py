"""A query in another language, read in English for a catalog in English.

What is translated is added: the shopper's own words are searched as well. Words that the lexicon lacks stay as they
are, so that a brand or a model's name is read, and what nobody knows is told as missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile

from engine.analysis.analyzer import fold
from engine.languages.detect import detect, language_of
from engine.languages.lexicon import Entry, Lexicon
from engine.languages.scripts import UNSPACED
from engine.understanding.words import tokens

_MYRIADS = {"億": 1e8, "万": 1e4, "千": 1e3}
_LARGE = re.compile(r"\d+(?:[.,]\d+)*(?:[億万千]\d*)+")
_DIGITS = str.maketrans("一二三四五六七八九", "123456789")
_SPELT = re.compile(r"[一二三四五六七八九](?=[億万千人])")
_GROUPED = re.compile(r"(?<![\d.,])\d{1,3}(?:\.\d{3})+(?![\d.])")  # 1.500 is one and a half thousand in Spanish


@dataclass(frozen=True, slots=True)
class Translation:
    """``term`` of the query, as normalised, is ``english``."""

    term: str
    english: str


@dataclass(frozen=True, slots=True)
class Translated:
    """A query's text in English, its language, and what was translated, in the query's order."""

    text: str
    language: str
    translations: tuple[Translation, ...]


@dataclass(frozen=True, slots=True)
class _Piece:
    """A term with its entry, or a stretch of text without one."""

    text: str
    entry: Entry | None

    @property
    def english(self) -> str:
        return self.text if self.entry is None else self.entry.english


class Translator:
    """Reads queries of one catalog, which is in English. Thread-safe."""

    def __init__(self, words: Lexicon, known: Callable[[str], bool]) -> None:
        """``known`` tells of a word, lower case without accents, whether the catalog has it."""
        self._words, self._known = words, known

    def read(self, query: str, locale: str = "") -> Translated | None:
        """The query in English; None where it is in English, or nothing of it could be translated.

        ``locale`` says the language, but for a script that English does not have.
        """
        language = detect(query, self._words, self._known)
        language = language if language == "ja" else language_of(locale) or language
        if language == "en":
            return self._regional(query, locale.replace("_", "-").lower())
        pieces = self._japanese(query) if language == "ja" else self._spaced(query, language)
        found = tuple(Translation(p.text, p.english) for p in pieces if p.entry and p.english and p.text != p.english)
        if not found:
            return None
        return Translated(_in_order(pieces), language, found)

    def _regional(self, query: str, locale: str) -> Translated | None:
        """What words of an English query mean in its country; the query stays as it is."""
        if locale not in self._words.phrases:
            return None
        found = tuple(Translation(p.text, p.english) for p in self._spaced(query, locale) if p.entry)
        return Translated(query, locale, found) if found else None

    def _spaced(self, query: str, language: str) -> list[_Piece]:
        """Pieces of a query with spaces: the longest phrase at each word, and what is between as it is."""
        query = query if language.startswith("en") else _GROUPED.sub(lambda n: n.group().replace(".", ""), query)
        found = tokens(query)
        stems = self._words.stems(language, [token.text for token in found])
        phrases, longest = self._words.phrases[language], self._words.longest[language]
        pieces: list[_Piece] = []
        at = done = 0
        while at < len(found):
            ends = range(min(at + longest, len(found)), at, -1)
            end = next((end for end in ends if stems[at:end] in phrases), at + 1)
            start, stop = found[at].start, found[end - 1].end
            gap, entry = query[done:start], phrases.get(stems[at:end])
            if pieces and entry is None and pieces[-1].entry is None and not any(map(str.isspace, gap)):
                pieces[-1] = _Piece(pieces[-1].text + query[done:stop].lower(), None)  # 1.5, usb-c
            else:
                pieces += [_Piece(part, None) for part in gap.split()]
                pieces.append(_Piece(query[start:stop].lower(), entry))
            at, done = end, stop
        return [*pieces, *(_Piece(gap, None) for gap in query[done:].split())]

    def _japanese(self, query: str) -> list[_Piece]:
        """Pieces of a query without spaces: the longest term at each place, and what no term begins in as it is."""
        text = _SPELT.sub(lambda digit: digit.group().translate(_DIGITS), fold(query).lower())
        text = _LARGE.sub(lambda number: _number(number.group()), text)
        terms, longest = self._words.written["ja"], self._words.longest["ja"]
        pieces: list[_Piece] = []
        at = 0
        while at < len(text):
            ends = range(min(at + longest, len(text)), at, -1)
            end = next((end for end in ends if text[at:end] in terms and _whole(text, at, end)), 0)
            if end:
                pieces.append(_Piece(text[at:end], terms[text[at:end]]))
            elif text[at].isspace():
                end = at + 1
            else:
                end = _unknown_end(text, at)
                run_on = pieces and pieces[-1].entry is None and UNSPACED.match(pieces[-1].text) and text[at - 1] != " "
                if run_on and UNSPACED.match(text[at]):
                    pieces[-1] = _Piece(pieces[-1].text + text[at:end], None)
                else:
                    pieces.append(_Piece(text[at:end], None))
            at = end
        return pieces


def _unknown_end(text: str, at: int) -> int:
    """Where the stretch without a term that begins at ``at`` ends: after one character, or a word of Latin letters."""
    if UNSPACED.match(text[at]):
        return at + 1
    return at + len("".join(takewhile(lambda c: not c.isspace() and not UNSPACED.match(c), text[at:])))


def _whole(text: str, start: int, end: int) -> bool:
    """Whether no Latin word or number is cut at ``start`` or ``end``."""
    return not any(
        0 < cut < len(text) and text[cut - 1].isascii() and text[cut].isascii() and text[cut - 1 : cut + 1].isalnum()
        for cut in (start, end)
    )


def _number(text: str) -> str:
    """Digits with 億, 万 and 千 as digits alone: ``1万5千`` → ``15000``."""
    total, digits = 0.0, ""
    for character in text:
        if character in _MYRIADS:
            total += float(digits.replace(",", "") or 1) * _MYRIADS[character]
            digits = ""
        else:
            digits += character
    return f"{total + float(digits.replace(',', '') or 0):.10g}"


def _in_order(pieces: list[_Piece]) -> str:
    """The English of pieces; what stands before another comes with it at the end, where it is about that alone."""
    out: list[_Piece] = []
    last: list[str] = []
    for piece in pieces:
        if piece.entry is None or not piece.entry.before:
            out.append(piece)
            continue
        while out and not out[-1].english:
            out.pop()
        about = [out.pop()] if out else []
        while about and out and _belongs(out[-1], about[0]):
            about.insert(0, out.pop())
        last += [piece.english, *(other.english for other in about)]
    return " ".join(filter(None, (*(piece.english for piece in out), *last)))


def _belongs(left: _Piece, right: _Piece) -> bool:
    """Whether a piece is one with the next: a number with its unit, or the words of a name without a term."""
    return left.entry is None and (right.entry is None or left.text.replace(".", "").isdecimal())
