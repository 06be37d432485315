"""Structured filters: what a product must have to be an answer at all.

A field is a product's own (``brand``, ``category``, ``price``, ``rating``, ``availability``, …) or an attribute
(``color``, or ``attributes.color`` where a product field has the same name).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from engine.errors import InvalidFilterError

Value = str | bool | int | float


@dataclass(frozen=True, slots=True)
class Equal:
    """The field has this value. Text compares without case; a list holds any of its values.

    On ``category`` the value is a path (``"Home Appliances > Refrigerators"``), and everything below it passes.
    """

    field: str
    value: Value

    def __post_init__(self) -> None:
        _check_value(self.field, self.value)


@dataclass(frozen=True, slots=True)
class In:
    """The field has one of these values."""

    field: str
    values: tuple[Value, ...]

    def __init__(self, field: str, values: Sequence[Value]) -> None:
        if isinstance(values, str):
            raise InvalidFilterError(f"In({field!r}, …) takes a list of values, not the text {values!r}")
        for value in values:
            _check_value(field, value)
        object.__setattr__(self, "field", field)
        object.__setattr__(self, "values", tuple(values))


@dataclass(frozen=True, slots=True)
class Range:
    """The number is from ``at_least`` to ``at_most``, both included; None leaves that side open."""

    field: str
    at_least: float | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        if self.at_least is None and self.at_most is None:
            raise InvalidFilterError(f"Range({self.field!r}) needs at_least, at_most or both")
        for bound in (self.at_least, self.at_most):
            if bound is not None and (isinstance(bound, str) or math.isnan(bound)):
                raise InvalidFilterError(f"Range({self.field!r}) takes numbers, not {bound!r}")


@dataclass(frozen=True, slots=True)
class Exists:
    """The field has any value."""

    field: str


Filter = Equal | In | Range | Exists

_COMPARISON = re.compile(r"^\s*([^=<>:]+?)\s*(<=|>=|=|:)\s*(.*?)\s*$")


def parse_filter(text: str) -> Filter:
    """A filter from a command line.

    ``brand=Samsung``, ``color=red|blue``, ``price<=60000``, ``price>=300``, ``price=300..500``, ``has:energy_rating``.
    Raises InvalidFilterError on anything else.
    """
    match = _COMPARISON.match(text)
    if not match:
        raise InvalidFilterError(
            f"cannot read the filter {text!r}; "
            "write brand=Samsung, color=red|blue, price<=60000, price=300..500 or has:color"
        )
    field, operator, value = match.groups()
    if operator == ":":
        if field != "has":
            raise InvalidFilterError(f"cannot read the filter {text!r}; ':' is for has:FIELD only")
        return Exists(value)
    if operator == "=":
        low, dots, high = value.partition("..")
        if dots and (low or high) and all(not s or _is_number(s) for s in (low, high)):
            return Range(field, float(low) if low else None, float(high) if high else None)
        values = [_value(part) for part in value.split("|")]
        return Equal(field, values[0]) if len(values) == 1 else In(field, values)
    if not _is_number(value):
        raise InvalidFilterError(f"the filter {text!r} compares with {value!r}, which is no number")
    return Range(field, at_most=float(value)) if operator == "<=" else Range(field, at_least=float(value))


def _check_value(field: str, value: object) -> None:
    if not isinstance(value, (str, bool, int, float)):
        raise InvalidFilterError(
            f"the filter on {field!r} has the value {value!r}; it must be text, a flag or a number"
        )


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _value(text: str) -> Value:
    # Numbers stay text: only the field knows whether "007" is a number or a name.
    return text.lower() == "true" if text.lower() in ("true", "false") else text
