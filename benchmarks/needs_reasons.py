"""Reads the facts that a result tells of a product back, and checks them against the product."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Literal, TypeGuard

import Stemmer

from benchmarks.needs_judgments import field_of
from engine.product import Product
from engine.types import SkuCandidate

Verdict = Literal["true", "false", "unknown", "no fact"]
_NUMBER = r"-?\d[\d,]*(?:\.\d+)?"
_RANGE = re.compile(rf"^(\w[\w ]*?) (?P<low>{_NUMBER})–(?P<high>{_NUMBER})(?: .*)?$")
_LIMIT = re.compile(rf"^(\w[\w ]*?) (?P<op>[≤≥<>]) (?P<value>{_NUMBER})(?: .*)?$")
_AMOUNT = re.compile(rf"^(?P<value>{_NUMBER}) ?(?P<unit>[A-Za-z]+)\b")
_PLACE = re.compile(r"^(?P<label>.+?): (?P<place>newest|the one before the newest) of (?P<series>.+)$")
_AGE = re.compile(r"^(?P<label>.+?): (?P<age>later|earlier) than (?P<other>.+)$")
_stem = Stemmer.Stemmer("english").stemWord
_WORDS = re.compile(r"[^\W_]+")
_SPARE = ("is the nearest", "is popular", "has the model code")  # of a comparison, not of one field
_FIELDS = ("price", "rating", "rating_count", "popularity", "released", "brand", "model", "availability")
_FLAGS = {"yes": True, "true": True, "no": False, "false": False}
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "≤": lambda a, b: a <= b, "≥": lambda a, b: a >= b, "<": lambda a, b: a < b, ">": lambda a, b: a > b,
}  # fmt: skip


class Releases:
    """When models came out, by the catalog: what a "newest" is read back by."""

    def __init__(self, products: Sequence[Product]) -> None:
        self._dated = [(p.title, p.released) for p in products if p.released]
        self.of = cache(self._first)

    def _first(self, label: str) -> str:
        """The day of the first product whose title has the label; empty where none has, or says."""
        return min((day for title, day in self._dated if _in_title(label).search(title)), default="")

    def verdict(self, fact: str, product: Product) -> Verdict | None:
        """Of "S25: newest of S23, S24, S25", or "S25: later than S24"; None for other facts."""
        if found := _PLACE.match(fact):
            series = found["series"].split(", ")
            at = len(series) - (1 if found["place"] == "newest" else 2)
            days = [*map(self.of, series[:at]), self.of(found["label"]), *map(self.of, series[at + 1 :])]
            days = [day for day in days if day]  # a shop may not say when an old one came out
            same = _generation(series[at]) == _generation(found["label"])
            own = self.of(found["label"])
            return _dated(same and days == sorted(days), [own, *days], found["label"], product)
        if found := _AGE.match(fact):
            days = [self.of(found["other"]), self.of(found["label"])]
            return _dated((days[0] < days[1]) == (found["age"] == "later"), days, found["label"], product)
        return None


def _dated(holds: bool, days: Sequence[str], label: str, product: Product) -> Verdict:
    if not all(days):
        return "unknown"
    return _word(holds and _in_title(label).search(product.title) is not None)


@cache
def _in_title(label: str) -> re.Pattern[str]:
    """How titles have a model's label: "Z Flip5" may be "Z Flip 5"."""
    parts = r"\s?".join(map(re.escape, re.findall(r"[^\W\d_]+|\d+|\+", label)))
    return re.compile(rf"(?<![^\W_]){parts}(?![^\W_])", re.IGNORECASE)


def _generation(label: str) -> str:
    return "".join(re.findall(r"\d+", label)[:1])


def read_back(candidate: SkuCandidate, product: Product, releases: Releases | None = None) -> list[tuple[str, Verdict]]:
    """Each fact of the reason and of the features, and whether the product, or when others came out, bears it out."""
    told = [fact for part in candidate.reason.split("; ") for fact in _facts(part, product, releases)]
    wrong: list[tuple[str, Verdict]] = [
        (f"{name} {value}", "false")
        for name, value in candidate.features.items()
        if not _shown(field_of(product, f"attributes.{name}"), value)
    ]
    return told + wrong


def counted(told: list[tuple[str, Verdict]]) -> Counter[str]:
    return Counter(verdict for _, verdict in told)


def _facts(part: str, product: Product, releases: Releases | None) -> list[tuple[str, Verdict]]:
    """A part that says nothing as a whole is taken apart at its commas."""
    if releases is not None and (dated := releases.verdict(part, product)):
        return [(part, dated)]
    whole = _verdict(part, product)
    pieces = part.split(", ")
    if whole != "unknown" or len(pieces) == 1:
        return [(part, whole)]
    return [(piece, _verdict(piece, product)) for piece in pieces]


def _verdict(fact: str, product: Product) -> Verdict:
    text = fact.split(": ", 1)[-1].strip()
    if text.startswith(_SPARE):
        return "no fact"
    if text.startswith("says "):
        said = map(_stem, _WORDS.findall(_text(product).lower()))
        return _word(_stem(text.removeprefix("says ")) in said)
    if text.startswith("is of the type "):
        return _word(text.removeprefix("is of the type ") in product.category)
    if found := _RANGE.match(text):
        held = _held(found[1], product)
        return _word(_number(found["low"]) <= held <= _number(found["high"])) if _is_number(held) else "unknown"
    if found := _LIMIT.match(text):
        held = _held(found[1], product)
        return _word(_COMPARE[found["op"]](held, _number(found["value"]))) if _is_number(held) else "unknown"
    if values := list(_values(text, product)):
        return _word(any(_same(held, told) for held, told in values))
    if found := _AMOUNT.match(text):
        return _amount(_number(found["value"]), found["unit"].casefold(), product)
    return "unknown"


def _text(product: Product) -> str:
    return " ".join([product.title, *product.bullets, product.description, *map(str, product.attributes.values())])


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


def _values(text: str, product: Product) -> Iterator[tuple[object, str | None]]:
    """What a product holds by the longest name that begins a text, with or without its unit, and the rest of it."""
    words = text.split()
    for length in range(len(words), 0, -1):
        name = "_".join(words[:length])
        told = " ".join(words[length:]) or None
        plain = {key: re.sub("_+", "_", key) for key in product.attributes}
        keys = [key for key, read in plain.items() if name in (read, read.rpartition("_")[0])]
        named: dict[str, object] = {key: product.attributes[key] for key in keys}
        if not named and (own := _held(name, product)) is not None:
            named = {name: own}
        if named:
            of_unit = [held for key, held in named.items() if told and told.casefold().endswith(key.rpartition("_")[2])]
            yield from ((held, told) for held in of_unit or named.values())
            return


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
