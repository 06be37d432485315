"""Measures in questions and texts, and whether two say the same."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from engine.analysis.units import UNITS
from engine.answers.lexicon import WORDS
from engine.answers.wording import Word

#: Units as so many of another; of two that a shop may mean (1 TB is 1000 or 1024 GB) either is right.
_SCALES: dict[str, tuple[str, tuple[float, ...]]] = {
    "tb": ("gb", (1024.0, 1000.0)), "mb": ("gb", (1 / 1024, 1 / 1000)), "kw": ("w", (1000.0,)), "mw": ("w", (0.001,)),
    "khz": ("hz", (1e3,)), "mhz": ("hz", (1e6,)), "ghz": ("hz", (1e9,)), "g": ("kg", (0.001,)), "lb": ("kg", (0.4536,)),
    "ml": ("l", (0.001,)), "cm": ("mm", (10.0,)), "m": ("mm", (1000.0,)), "in": ("mm", (25.4,)), "ft": ("mm", (304.8,)),
    "hr": ("min", (60.0,)), "hours": ("min", (60.0,)), "minutes": ("min", (1.0,)), "stars": ("star", (1.0,)),
    "tonnage": ("ton", (1.0,)), "lumens": ("lumen", (1.0,)),
}  # fmt: skip
_CLOSE = 0.006  # how far, as a share, two measures of unlike units may be apart, for shops round
_BOUNDS = re.compile(
    r"\b(?P<least>more than|over|above|at least|minimum of|bigger than|larger than|longer than|heavier than|"
    r"faster than)|(?P<most>less than|under|below|at most|maximum of|up to|smaller than|lighter than)\b",
    re.IGNORECASE,
)


_RANGE = re.compile(r"(\d+(?:\.\d+)?)(?:\s*(?:-|–|to)\s*(\d+(?:\.\d+)?)|\+)")


@dataclass(frozen=True, slots=True)
class Measure:
    """A number and its unit's canonical name, empty where it has none; ``[start:end]`` is where it stands."""

    value: float
    unit: str
    start: int
    end: int


def measures(words: Sequence[Word]) -> Iterator[Measure]:
    """The numbers among words, each with the unit after it."""
    for place, word in enumerate(words):
        if word.number is not None:
            after = words[place + 1] if place + 1 < len(words) else None
            near = after.text if after and after.start - word.end <= 1 else ""
            unit = UNITS.get(near, near if near in WORDS.unit else "")
            yield Measure(word.number, unit, word.start, after.end if unit and after else word.end)


def same_measure(value: float, unit: str, measure: Measure) -> bool | None:
    """Whether a measure says ``value`` in ``unit``; None where its unit measures something else."""
    ours, theirs = _in_base(value, unit), _in_base(measure.value, measure.unit or unit)
    if ours[0] != theirs[0]:
        return None
    if not measure.unit or UNITS.get(unit, unit) == measure.unit:
        return value == measure.value
    return any(abs(a - b) <= _CLOSE * max(abs(a), abs(b)) for a in ours[1] for b in theirs[1])


def in_range(text: str, number: float) -> bool | None:
    """Whether a number is in a range such as ``3-4`` or ``6+``; None where a text is no range."""
    found = _RANGE.fullmatch(text.strip())
    if not found:
        return None
    return float(found[1]) <= number <= float(found[2] or "inf")


def measures_alike(unit: str, other: str) -> bool:
    """Whether two units measure the same thing."""
    return bool(unit) and bool(other) and _in_base(0, unit)[0] == _in_base(0, other)[0]


def bound_spans(text: str) -> list[tuple[int, int]]:
    """Where bounds stand that a number follows."""
    return [m.span() for m in _BOUNDS.finditer(text) if text[m.end() :].lstrip()[:1].isdigit()]


def bound_before(text: str, at: int) -> str:
    """``least`` or ``most`` where a bound stands right before a place of a text, else empty."""
    for match in _BOUNDS.finditer(text[:at]):
        if not text[match.end() : at].strip():
            return match.lastgroup or ""
    return ""


def within(value: float, unit: str, measure: Measure, bound: str) -> bool | None:
    """Whether ``value`` is at least, or at most, a measure; None where that measures something else."""
    ours, theirs = _in_base(value, unit), _in_base(measure.value, measure.unit or unit)
    if ours[0] != theirs[0]:
        return None
    return ours[1][0] >= theirs[1][0] if bound == "least" else ours[1][0] <= theirs[1][0]


def _in_base(value: float, unit: str) -> tuple[str, tuple[float, ...]]:
    base, factors = _SCALES.get(unit, (UNITS.get(unit, unit), (1.0,)))
    return base, tuple(value * factor for factor in factors)
