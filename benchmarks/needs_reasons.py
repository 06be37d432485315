"""Reads the facts that a result tells of a product back, and checks them against the product."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Literal, TypeGuard

from benchmarks.needs_judgments import field_of
from engine.product import Product
from engine.types import SkuCandidate

Verdict = Literal["true", "false", "unknown", "no fact"]
_NUMBER = r"-?\d[\d,]*(?:\.\d+)?"
_RANGE = re.compile(rf"^(\w[\w ]*?) (?P<low>{_NUMBER})–(?P<high>{_NUMBER})(?: .*)?$")
_LIMIT = re.compile(rf"^(\w[\w ]*?) (?P<op>[≤≥<>]) (?P<value>{_NUMBER})(?: .*)?$")
_AMOUNT = re.compile(rf"^(?P<value>{_NUMBER}) ?(?P<unit>[A-Za-z]+)\b")
_VALUE = re.compile(r"^(?P<name>\w+)(?: (?P<value>.+))?$")
_SPARE = ("is the nearest", "is popular", "has the model code")  # of a comparison, not of one field
_FIELDS = ("price", "rating", "rating_count", "popularity", "released", "brand", "model", "availability")
_FLAGS = {"yes": True, "true": True, "no": False, "false": False}
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "≤": lambda a, b: a <= b, "≥": lambda a, b: a >= b, "<": lambda a, b: a < b, ">": lambda a, b: a > b,
}  # fmt: skip


def read_back(candidate: SkuCandidate, product: Product) -> list[tuple[str, Verdict]]:
    """Each fact of the reason and of the features, and whether the product bears it out."""
    told = [fact for part in candidate.reason.split("; ") for fact in _facts(part, product)]
    wrong: list[tuple[str, Verdict]] = [
        (f"{name} {value}", "false")
        for name, value in candidate.features.items()
        if not _shown(field_of(product, f"attributes.{name}"), value)
    ]
    return told + wrong


def counted(told: list[tuple[str, Verdict]]) -> Counter[str]:
    return Counter(verdict for _, verdict in told)


def _facts(part: str, product: Product) -> list[tuple[str, Verdict]]:
    """A part that says nothing as a whole is taken apart at its commas."""
    whole = _verdict(part, product)
    pieces = part.split(", ")
    if whole != "unknown" or len(pieces) == 1:
        return [(part, whole)]
    return [(piece, _verdict(piece, product)) for piece in pieces]


def _verdict(fact: str, product: Product) -> Verdict:
    text = fact.split(": ", 1)[-1].strip()
    if text.startswith(_SPARE):
        return "no fact"
    if text.startswith("is of the type "):
        return _word(text.removeprefix("is of the type ") in product.category)
    if found := _RANGE.match(text):
        held = _held(found[1], product)
        return _word(_number(found["low"]) <= held <= _number(found["high"])) if _is_number(held) else "unknown"
    if found := _LIMIT.match(text):
        held = _held(found[1], product)
        return _word(_COMPARE[found["op"]](held, _number(found["value"]))) if _is_number(held) else "unknown"
    if (found := _VALUE.match(text)) and (held := _held(found["name"], product)) is not None:
        return _word(_same(held, found["value"]))
    if found := _AMOUNT.match(text):
        return _amount(_number(found["value"]), found["unit"].casefold(), product)
    return "unknown"


def _amount(value: float, unit: str, product: Product) -> Verdict:
    """``120 Hz`` is true where an attribute in that unit is 120, false where there are some and none is."""
    held = [v for name, v in product.attributes.items() if unit in name.split("_") and _is_number(v)]
    return _word(value in held) if held else "unknown"


def _shown(held: object, told: object) -> bool:
    """Whether ``told`` is the value held, or the beginning of a long text."""
    return held == told or (isinstance(held, str) and isinstance(told, str) and told != "" and held.startswith(told))


def _held(name: str, product: Product) -> object:
    key = name.strip().replace(" ", "_")
    return field_of(product, key if key in _FIELDS else f"attributes.{key}")


def _same(held: object, told: str | None) -> bool:
    if isinstance(held, bool):
        return held is _FLAGS.get((told or "yes").casefold())
    if told is None:
        return False
    if _is_number(held):
        found = re.match(_NUMBER, told)
        return found is not None and _number(found[0]) == held
    texts = [str(one).casefold() for one in held] if isinstance(held, list) else [str(held).casefold()]
    return told.casefold() in texts or told.casefold() == ", ".join(texts)


def _number(text: str) -> float:
    return float(text.replace(",", ""))


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _word(holds: bool) -> Verdict:
    return "true" if holds else "false"
