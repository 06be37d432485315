"""Constraints in plain words to filters: prices, measures, ratings, households, colours, brands.

Every constraint says which words it was read from, why, and whether those words can only mean that. What the catalog
has no field for is no constraint; only a price always is one, so that an explanation can say why it had no effect.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from engine.analysis.analyzer import STOP_WORDS
from engine.filters import Filter, In, Range
from engine.understanding.facts import CatalogFacts, NamedValues, Names
from engine.understanding.household import find_household, size_for
from engine.understanding.measures import find_field, widened
from engine.understanding.quantities import Quantity, quantities
from engine.understanding.words import Token, tokens

Kind = Literal["price", "measure", "rating", "household", "color", "brand"]
Span = tuple[int, int]

_RATED = re.compile(r"\brat(?:ed|ing)\b|\breview", re.IGNORECASE)
_SURE_BRAND = 3  # products that make a brand more than an accident of the feed
_BASIC_COLORS = frozenset({
    "black", "white", "gray", "grey", "red", "blue", "green", "yellow", "orange", "pink", "purple", "brown", "beige",
    "navy", "maroon", "violet", "teal", "turquoise", "silver", "gold", "ivory", "burgundy", "lavender", "magenta",
    "cyan",
})  # fmt: skip
_DENYING = frozenset({"not", "no", "without", "except", "excluding", "but"})
_DENIAL = re.compile(r"\b(?:not|no|without|except|excluding|other\s+than)\s+(?:an?\s+|the\s+)?$", re.IGNORECASE)
_SAME = {"grey": "gray", "gray": "grey", "golden": "gold"}


@dataclass(frozen=True, slots=True)
class Constraint:
    """``text``, which is ``query[start:end]``, asks for ``filter``.

    ``filter`` is None where the catalog cannot answer; ``reason`` says so. ``sure`` says that the words can only mean
    that, so that a caller may filter; otherwise it should only prefer. ``denied`` asks for what does not fit the
    filter: "not 3 star".
    """

    kind: Kind
    field: str
    filter: Filter | None
    start: int
    end: int
    text: str
    reason: str
    sure: bool
    denied: bool = False


def parse(query: str, facts: CatalogFacts, taken: Iterable[Span] = ()) -> tuple[Constraint, ...]:
    """The constraints of ``query``, in its order, none overlapping another of its kind or a ``taken`` span.

    Never raises; filters name only fields and values that the catalog has.
    """
    words = tokens(query)
    taken = list(taken)
    found: list[Constraint] = []
    for quantity in quantities(query):
        constraint = _price(query, quantity, facts) or _measure(query, quantity, facts)
        if constraint and not _overlaps(constraint, taken):
            found.append(constraint)
            taken.append((constraint.start, constraint.end))
    found += _household(query, words, facts)
    named: tuple[tuple[Kind, Names], ...] = (("brand", facts.brands), ("color", facts.colors))
    for kind, names in named:
        spans = list(taken)
        for constraint in _named(query, words, kind, names, facts):
            if not _overlaps(constraint, spans):
                found.append(constraint)
                if kind == "brand" and constraint.sure:
                    taken.append((constraint.start, constraint.end))
    return tuple(sorted(found, key=lambda c: (c.start, c.end)))


def _overlaps(constraint: Constraint, spans: Sequence[Span]) -> bool:
    return any(constraint.start < end and start < constraint.end for start, end in spans)


def _price(query: str, q: Quantity, facts: CatalogFacts) -> Constraint | None:
    """A price has a currency, or a side and no unit; without a currency it must be one that the catalog could ask."""
    if q.unit or (not q.side and not q.currency):
        return None
    if not (q.currency or q.scaled) and not _like_a_price(q, facts):
        return None
    text = query[q.start : q.end]
    reason = ""
    if facts.price.bounds is None:
        reason = "the catalog has no prices"
    elif q.currency and facts.currency and q.currency != facts.currency:
        reason = f"the catalog's prices are in {facts.currency}, not {q.currency}"
    if reason:
        return Constraint("price", "price", None, q.start, q.end, text, reason, False)
    # A price alone is a budget.
    low, high = (None, q.high) if not q.side else widened(q.low, q.high, q.side)
    sure = bool(q.side) and (bool(q.currency or q.scaled) or _ends_there(query, q))
    return Constraint(
        "price", "price", Range("price", low, high), q.start, q.end, text, shown("price", low, high), sure
    )


def _like_a_price(q: Quantity, facts: CatalogFacts) -> bool:
    if facts.price.bounds is None:
        return False
    least, most = facts.price.bounds
    return all(value is None or least / 2 <= value <= most * 2 for value in (q.low, q.high))


def _ends_there(query: str, q: Quantity) -> bool:
    """Whether no noun follows that the number could count ("at least 4 ports")."""
    after = re.match(r"\s+([^\W\d_]+)", query[q.end :])
    return after is None or after[1].lower() in STOP_WORDS or after[1].lower() in _DENYING


def _measure(query: str, q: Quantity, facts: CatalogFacts) -> Constraint | None:
    if not q.unit or q.currency or q.scaled:
        return None
    if q.unit == "star" and _is_rating(query, q, facts):
        low, high = (q.low, q.high) if q.side else (q.low, None)
        text, reason = query[q.start : q.end], shown("rating", low, high)
        return Constraint("rating", "rating", Range("rating", low, high), q.start, q.end, text, reason, bool(q.side))
    found = find_field(query, q, facts.measures)
    if found is None or (q.spaced_in and _color_follows(query, q, facts)):
        return None
    bounds = shown(found.field.field, found.low, found.high, found.field.unit)
    if q.beyond:
        bounds = bounds.replace("≥", ">").replace("≤", "<")
    denial = None if q.side else _DENIAL.search(query[: q.start])
    start = denial.start() if denial else q.start
    reason = f"not {bounds}" if denial else bounds if found.count else f"no product has {bounds}"
    return Constraint(
        "measure", found.field.field, found.field.filter(found.low, found.high), start, q.end, query[start : q.end],
        reason, found.sure, denied=denial is not None,
    )  # fmt: skip


def _color_follows(query: str, q: Quantity, facts: CatalogFacts) -> bool:
    """Whether the "in" of ``q`` leads to a colour ("galaxy s 23 in black")."""
    after = [token.text for token in tokens(query[q.end :])]
    return bool(after) and facts.colors.at(after, 0) is not None


def _is_rating(query: str, q: Quantity, facts: CatalogFacts) -> bool:
    """Stars are a customers' rating where they are "and up" or "rated", or the catalog rates no energy."""
    if facts.rating.bounds is None or not 1 <= (q.low or q.high or 0) <= 5:
        return False
    rated = bool(_RATED.search(query)) and "energy" not in query.lower()
    energy = any(field.unit == "star" for field in facts.measures)
    return not energy or (q.side == "at least" and not rated) or (rated and bool(q.side))


def _household(query: str, words: list[Token], facts: CatalogFacts) -> Iterator[Constraint]:
    household = find_household(query)
    if household is None:
        return
    people, start, end = household.people, household.start, household.end
    text, why = query[start:end], f"{household.people} people"
    name, sizes = facts.people
    values = [value for value, least, most in sizes if least <= people <= most]
    if values:
        yield Constraint("household", name, In(name, values), start, end, text, f"{why}: {name} {values[0]}", True)
    size = size_for(people, words)
    fields = [field for field in facts.measures if size and field.unit == size[0]]
    if size and fields:
        # A shop has one field for this as a rule; where it has more, most products have the one that is meant.
        field = max(fields, key=lambda field: ("capacity" in field.words, field.count(size[1], size[2])))
        reason = f"{why}: {shown(field.field, size[1], size[2], size[0])}"
        found = field.filter(size[1], size[2])
        if found:
            yield Constraint("household", field.field, found, start, end, text, reason, False)


def _named(query: str, words: list[Token], kind: Kind, names: Names, facts: CatalogFacts) -> Iterator[Constraint]:
    """Names of brands or colours among the words, the longest first where they begin alike."""
    texts = [token.text for token in words]
    at = 0
    while at < len(words):
        found = names.at(texts, at)
        other = names.get((_SAME.get(texts[at], ""),)) if kind == "color" else None
        # A feed's brand column holds anything; a stop word is no brand.
        if (found is None and other is None) or texts[at] in STOP_WORDS:
            at += 1
            continue
        name, end = found or (other, at + 1)
        assert name is not None
        values = tuple(dict.fromkeys((*name.values, *other.values))) if other and end == at + 1 else name.values
        sure = (
            not _BASIC_COLORS.isdisjoint(texts[at:end]) if kind == "color" else _sure_brand(name, texts[at:end], facts)
        )
        start, stop = words[at].start, words[end - 1].end
        yield Constraint(
            kind, name.field, In(name.field, values), start, stop, query[start:stop],
            f"{name.field} {' '.join(texts[at:end])}", sure,
        )  # fmt: skip
        at = end


def _sure_brand(name: NamedValues, words: Sequence[str], facts: CatalogFacts) -> bool:
    if name.ordinary or name.count < _SURE_BRAND:
        return False
    return len(words) > 1 or (words[0] not in _BASIC_COLORS and facts.colors.get(tuple(words)) is None)


def shown(field: str, low: float | None, high: float | None, unit: str = "") -> str:
    """Bounds as people write them: ``price ≤ 60000``, ``screen_size_in 54.5–55.9 in``."""
    tail = f" {unit}" if unit else ""
    if low is None or high is None:
        return f"{field} {'≤' if low is None else '≥'} {_number(high if low is None else low)}{tail}"
    return f"{field} {_number(low)}{tail}" if low == high else f"{field} {_number(low)}–{_number(high)}{tail}"


def _number(value: float | None) -> str:
    return f"{round(value or 0.0, 2):.10g}"
