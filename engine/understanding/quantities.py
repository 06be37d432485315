"""Numbers in a query: how much, of what, and on which side of it.

``under ₹60,000`` → 60000 INR, at most; ``7-8 kg`` → from 7 to 8 kg; ``4 stars and up`` → 4 star, at least. Numbers that
are part of a name (``iphone 15``, ``s23``), of dimensions (``4x8``) or of a saying (``3 in 1``) have no side and no
unit, or are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from engine.analysis.units import UNITS
from engine.understanding.words import number_value

Side = Literal["", "at most", "at least", "around", "between"]

_CURRENCIES = {
    "INR": "₹ rs rs. inr rupee rupees", "USD": "$ usd dollar dollars bucks", "EUR": "€ eur euro euros", "GBP": "£ gbp",
    "JPY": "¥ jpy yen",
}  # fmt: skip
_CURRENCY = {spelling: code for code, spellings in _CURRENCIES.items() for spelling in spellings.split()}
_SCALES = {
    "k": 1e3, "thousand": 1e3, "lakh": 1e5, "lakhs": 1e5, "lac": 1e5, "lacs": 1e5, "crore": 1e7, "crores": 1e7,
}  # fmt: skip


def _any(spellings: Iterable[str]) -> str:
    return "|".join(sorted(map(re.escape, spellings), key=len, reverse=True))


_WORDS = _any(unit for unit in UNITS if unit.isalpha() and unit != "a")
_QUANTITY = re.compile(
    rf"""(?<![\w.,/#])(?<![a-z]-)
    (?:(?P<sign>[₹$€£¥]|\b(?:rs\.?|inr|usd|eur|gbp|jpy))\s*)?
    (?P<number>\d{{1,12}}(?:,\d{{1,3}}){{0,5}}(?:\.\d{{1,6}})?)
    (?:\s?(?P<scale>{_any(_SCALES)})\b)?
    (?P<plus>\+)?(?:/-)?
    (?:(?:\s*(?P<name>rs\.?|inr|rupees?|usd|dollars?|bucks|eur|euros?|gbp|jpy|yen|[€₹$£¥])(?!\w))
      |(?P<gap>[\s-]?)(?P<unit>(?:{_WORDS})\b\.?|["'](?!\w)))?
    (?![\w/]|\.\d|,\d|-[a-z])""",
    re.VERBOSE | re.IGNORECASE,
)
_BEFORE = re.compile(
    r"""(?:^|[\s(,])(?:(?P<most>under|below|(?:less|lesser|lower|cheaper|smaller|shorter|lighter|thinner|no\s+more|not\s+more)\s+than|up\s?to|within
      |at\s+most|not\s+(?:over|above|exceeding)|max(?:imum)?(?:\s+of)?|budget(?:\s+(?:of|is))?|<=?)
    |(?P<least>over|above|(?:more|greater|larger|bigger|higher|longer|taller|heavier|wider|no\s+less|not\s+less)\s+than|at\s?least|min(?:imum)?(?:\s+of)?
      |start(?:ing|s)\s+(?:at|from)|>=?)
    |(?P<around>around|about|approx(?:imately)?\.?|roughly|nearly|~)
    |(?P<between>between|from|range|priced?))\s*$""",
    re.VERBOSE | re.IGNORECASE,
)
_BEYOND = re.compile(r"[\s(,]*(?!no\b|not\b)\w+\s+than\b", re.IGNORECASE)
_BUDGET = re.compile(r"[\s(,]*budget\b", re.IGNORECASE)
_AFTER = re.compile(
    r"\s*(?:(?:and|or|&)\s+(?P<least>up|above|over|more|higher|better|larger)|(?P<most>(?:and|or)\s+(?:under|below|less|lower)"
    r"|max(?:imum)?))\b",
    re.IGNORECASE,
)
_BETWEEN = re.compile(r"\s*(?:(?P<dash>-|–|—)|to|till|and)\s*", re.IGNORECASE)
_TIMES_BEFORE = re.compile(r"[\dx×]\s?[x×]\s*$|\d\s*[x×]\s*$", re.IGNORECASE)
_TIMES_AFTER = re.compile(r"\s*[x×]\s*\d", re.IGNORECASE)
_LOOK_BACK = 24  # characters; the longest comparison is shorter
_PREPOSITION = re.compile(r"\s+(?:\d|an?\b|the\b|my\b|all\b)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Quantity:
    """``low`` and ``high`` (equal for a plain number; None leaves a side open) in ``unit`` (canonical, may be empty) or
    ``currency`` (a code, may be empty). ``scaled`` says that a k or lakh stood there; ``spaced_in``, that the unit is
    the word "in" a space apart, which may be a preposition; ``beyond``, that the number itself is not meant, as in
    "more than". The span covers the comparison too.
    """

    low: float | None
    high: float | None
    side: Side
    unit: str
    currency: str
    scaled: bool
    spaced_in: bool
    start: int
    end: int
    beyond: bool = False


def quantities(text: str) -> list[Quantity]:
    """The quantities of ``text`` in order; those without unit, currency and side are left out."""
    if not any(c.isdigit() for c in text):
        return []
    found = [
        _quantity(text, match)
        for match in _QUANTITY.finditer(text)
        if not _TIMES_BEFORE.search(text, max(0, match.start() - 6), match.start())
        and not _TIMES_AFTER.match(text, match.end())
    ]
    return [q for q in _sided(text, _ranges(text, found)) if q.unit or q.currency or q.side]


def _quantity(text: str, match: re.Match[str]) -> Quantity:
    scale = (match["scale"] or "").lower()
    value = number_value(match["number"]) * _SCALES.get(scale, 1.0)
    unit, end = (match["unit"] or "").lower().rstrip("."), match.end()
    spaced_in = unit == "in" and match["gap"] == " " and not match["unit"].endswith(".")
    if spaced_in and _PREPOSITION.match(text, end):
        unit, spaced_in, end = "", False, match.start("gap")
    currency = (match["sign"] or match["name"] or "").lower()
    side: Side = "at least" if match["plus"] else ""
    return Quantity(
        value, value, side, UNITS.get(unit, ""), _CURRENCY.get(currency, ""), bool(scale), spaced_in,
        match.start(), end,
    )  # fmt: skip


def _ranges(text: str, found: list[Quantity]) -> list[Quantity]:
    """Pairs that a dash, "to" or "and" joins to a range become one quantity."""
    out: list[Quantity] = []
    at = 0
    while at < len(found):
        pair = _range(text, found[at], found[at + 1]) if at + 1 < len(found) else None
        out.append(pair or found[at])
        at += 2 if pair else 1
    return out


def _range(text: str, left: Quantity, right: Quantity) -> Quantity | None:
    gap = _BETWEEN.fullmatch(text[left.end : right.start])
    before = _BEFORE.search(text, max(0, left.start - _LOOK_BACK), left.start)
    asked = bool(before and before["between"])
    if not gap or left.side or right.side or (gap[0].strip().lower() == "and" and not asked):
        return None
    if (left.unit and left.unit != right.unit) or (left.currency and right.currency not in ("", left.currency)):
        return None
    low, high = left.low or 0.0, right.high or 0.0
    if right.scaled and not left.scaled and low < 1000:
        low *= 1e3 if high < 1e6 else 1e5  # "10 to 20k", "1 to 2 lakh"
    if low >= high:
        return None
    return replace(
        right, low=low, side="between", currency=right.currency or left.currency, spaced_in=False,
        start=before.start() + (not before[0][0].isalpha()) if before and asked else left.start,
    )  # fmt: skip


def _sided(text: str, found: list[Quantity]) -> list[Quantity]:
    """Quantities with the side that the words before or after say."""
    out = []
    for q in found:
        before = _BEFORE.search(text, max(0, q.start - _LOOK_BACK), q.start)
        after = _AFTER.match(text, q.end)
        side: Side = q.side
        start, end = q.start, q.end
        if before and q.unit and _BUDGET.match(before[0]):
            before = None  # a "budget 43 inch tv" is a cheap one
        if not side and before and not before["between"]:
            side = "at most" if before["most"] else "at least" if before["least"] else "around"
            start = before.start() + (before[0][0] in " \t\n(,")
        elif not side and after:
            side, end = "at least" if after["least"] else "at most", after.end()
        low = None if side == "at most" else q.low
        high = None if side == "at least" else q.high
        beyond = bool(not q.side and before and _BEYOND.match(before[0]))
        out.append(replace(q, low=low, high=high, side=side, start=start, end=end, beyond=beyond))
    return out
