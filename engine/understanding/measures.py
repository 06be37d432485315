"""Measures in a query to a field of the catalog and bounds in its unit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from engine.understanding.facts import MeasureField
from engine.understanding.quantities import Quantity, Side
from engine.understanding.words import tokens

#: Units that measure the same thing, each as a multiple of the first. A query's "139 cm" finds a field in inches.
_DIMENSIONS: tuple[dict[str, float], ...] = (
    {"mm": 1.0, "cm": 10.0, "in": 25.4, "ft": 304.8, "yd": 914.4, "m": 1000.0},
    {"g": 1.0, "mg": 0.001, "kg": 1000.0, "oz": 28.3495, "lb": 453.592},
    {"ml": 1.0, "l": 1000.0, "qt": 946.353, "gal": 3785.41},
    {"mb": 1.0, "gb": 1024.0, "tb": 1024.0 * 1024.0},
    {"w": 1.0, "mw": 0.001, "kw": 1000.0},
    {"hz": 1.0, "khz": 1e3, "mhz": 1e6, "ghz": 1e9},
)
#: How far from a plain number a measure may be, as a share of it: what shops round, shoppers round as well.
_TOLERANCE = {"l": 0.05, "ml": 0.05, "kg": 0.06, "g": 0.05, "w": 0.05, "kw": 0.05, "mah": 0.05, "ton": 0.04}
_TOLERANCE |= dict.fromkeys(("star", "gb", "mp", "core", "pack"), 0.0)
_SLACK = 0.01  # the same of any other unit, and of converted numbers
_INCHES = (0.5, 0.9)  # below and above a whole number of inches: 54.6 and 15.6 are sold as 55 and 15
_DECIMAL_INCHES = 0.06
_AROUND = 0.15  # of a number, on both sides, that "around" leaves
_BEYOND = 1e-6  # share of a number by which "more than" is more
_TERABYTE = 1000.0 / 1024.0  # drives count 1,000 GB to a terabyte, memory 1,024
_CLEAR = 3.0  # times as many products as all other fields have with a measure, so that only one field is meant
_NEAR = 12  # characters from a measure within which a field's name is about it


@dataclass(frozen=True, slots=True)
class Measured:
    """A field that may be meant, bounds in its unit (None being open), and how many products are within.

    ``named``: the query says the field's name beside the measure. ``exact``: the field has the query's unit. ``sure``:
    and no other field is likely.
    """

    field: MeasureField
    low: float | None
    high: float | None
    count: int
    named: bool
    exact: bool
    sure: bool = False


def find_field(query: str, q: Quantity, measures: tuple[MeasureField, ...]) -> Measured | None:
    """The field that a measure is most likely about: one named beside it, else one of its unit, else what most have."""
    near = {token.text for token in tokens(query[max(0, q.start - _NEAR) : q.end + _NEAR])}
    options = [_measured(near, q, field, factor) for field, factor in _fields(q.unit, measures)]
    options = [option for option in options if option.count] or [option for option in options if option.exact]
    if not options:
        return None
    best = max(options, key=lambda option: (option.named, option.exact, option.count))
    others = sum(option.count for option in options) - best.count
    clear = best.named or best.count >= _CLEAR * others
    return replace(best, sure=bool(best.count) and best.exact and clear and not q.spaced_in)


def _fields(unit: str, measures: tuple[MeasureField, ...]) -> Iterator[tuple[MeasureField, float]]:
    """The fields that measure ``unit`` or what it converts to, and what one ``unit`` is in theirs."""
    same = next((dimension for dimension in _DIMENSIONS if unit in dimension), {unit: 1.0})
    for field in measures:
        if field.unit in same:
            yield field, same[unit] / same[field.unit]


def _measured(near: set[str], q: Quantity, field: MeasureField, factor: float) -> Measured:
    low, high = _limits(q, factor, field.unit)
    exact = q.unit == field.unit or (q.unit, field.unit) == ("tb", "gb")
    return Measured(field, low, high, field.count(low, high), not field.words.isdisjoint(near), exact)


def _limits(q: Quantity, factor: float, unit: str) -> tuple[float | None, float | None]:
    """A quantity in a field's unit; a plain number with room on both sides, as shops and shoppers round."""
    low, high = (None if value is None else value * factor for value in (q.low, q.high))
    if q.side:
        low, high = widened(low, high, q.side)
        if q.beyond:
            return low and low * (1 + _BEYOND), high and high * (1 - _BEYOND)
        return low, high
    value = low or 0.0
    if unit == "in" and factor == 1.0:
        below, above = _INCHES if value == round(value) else (_DECIMAL_INCHES, _DECIMAL_INCHES)
        return value - below, value + above
    if q.unit == "tb" and unit == "gb":
        return value * _TERABYTE, value
    slack = value * (_TOLERANCE.get(unit, _SLACK) if factor == 1.0 else _SLACK)
    return value - slack, value + slack


def widened(low: float | None, high: float | None, side: Side) -> tuple[float | None, float | None]:
    """Bounds, moved outwards by "around"."""
    if side == "around":
        return (low or 0.0) * (1 - _AROUND), (high or 0.0) * (1 + _AROUND)
    return low, high
