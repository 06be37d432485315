"""The readings of a query: which words each stretch of it may have been meant as."""

from __future__ import annotations

import re
from dataclasses import dataclass

from engine.analysis.analyzer import fold

_ATOM = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*|\d+(?:[.,/]\d+)*")


@dataclass(frozen=True, slots=True)
class Atom:
    """A run of letters or of digits. ``text`` is lower case without accents.

    ``touches`` says that the run before touches it, ``spaced`` that one space is all that is between.
    """

    text: str
    start: int
    end: int
    number: bool
    touches: bool
    spaced: bool


def atoms(query: str) -> list[Atom]:
    """Runs of letters and of digits, in order."""
    found: list[Atom] = []
    end = -1
    ascii_only = query.isascii()
    for match in _ATOM.finditer(query.lower() if ascii_only else query):  # lower() keeps the places of ASCII only
        start = match.start()
        spaced = start == end + 1 and query[end] == " "
        text = match.group() if ascii_only else fold(match.group()).lower()
        found.append(Atom(text, start, match.end(), text[:1].isdigit(), start == end, spaced))
        end = match.end()
    return found


@dataclass(frozen=True, slots=True)
class Reading:
    """Atoms ``[start, end)`` read as ``words`` (numbers of known words; -1 for what stays as it is and is unknown).

    ``cost`` is the channel's: what it takes to have typed the atoms for the words. ``text`` is what replaces them, None
    where nothing changes.
    """

    start: int
    end: int
    words: tuple[int, ...]
    cost: float
    text: str | None = None
    reason: str = ""
