"""Households: how many people a query speaks of, and what size of an appliance suits them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from engine.understanding.words import Token

_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS = {word: number for number, word in enumerate(_WORDS, 1)}
_COUNT = rf"(\d{{1,2}}|{'|'.join(_WORDS)})"
_HOUSEHOLD = re.compile(
    rf"\b(?:for\s+)?(?:an?\s+|my\s+)?(?:family\s+of\s+{_COUNT}|{_COUNT}[\s-]+(?:members?|persons?|people)(?:\s+family)?"
    r"|(?P<six>(?:joint|large|big)\s+family)|(?P<two>couples?)|(?P<one>bachelors?))\b",
    re.IGNORECASE,
)
_HINT = re.compile(r"famil|member|person|people|couple|bachelor", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Appliance:
    """What size of an appliance suits how many people: (most people, least, most) in ``unit``, None being open."""

    words: frozenset[str]
    unit: str
    bands: tuple[tuple[int, float, float | None], ...]


#: Rules of thumb as appliance makers' buying guides give them, wide on purpose: they order results, they exclude none.
APPLIANCES = (
    Appliance(
        frozenset({"fridge", "fridges", "refrigerator", "refrigerators", "freezer"}), "l",
        ((2, 150, 300), (4, 230, 450), (6, 350, 650), (99, 500, None)),
    ),
    Appliance(
        frozenset({"washer", "washers", "washing", "laundry", "dryer"}), "kg",
        ((2, 5.5, 7.5), (4, 6.5, 8.5), (6, 8, 11), (99, 9, None)),
    ),
    Appliance(
        frozenset({"fryer", "airfryer", "cooker", "microwave", "oven"}), "l",
        ((2, 1.5, 22), (4, 3, 30), (6, 5, 35), (99, 6.5, None)),
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Household:
    """``query[start:end]`` speaks of so many ``people``."""

    people: int
    start: int
    end: int


def find_household(query: str) -> Household | None:
    """The first household that ``query`` names."""
    match = _HOUSEHOLD.search(query) if _HINT.search(query) else None
    if match is None:
        return None
    count = (match[1] or match[2] or ("6" if match["six"] else "2" if match["two"] else "1")).lower()
    people = _NUMBERS.get(count) or int(count)
    return Household(people, match.start(), match.end()) if people else None


def size_for(people: int, words: list[Token]) -> tuple[str, float, float | None] | None:
    """(unit, least, most) of the appliance that the query's words name; None where they name none."""
    for appliance in APPLIANCES:
        if any(token.text in appliance.words for token in words):
            least, most = next((low, high) for limit, low, high in appliance.bands if people <= limit)
            return appliance.unit, least, most
    return None
