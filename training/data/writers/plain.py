"""Queries that say what a thing is: its type, and of which brand, colour, size, or without what."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from training.data.judging import Want
from training.data.shelf import is_short
from training.data.writers.desk import Desk

_NEGATED_RANGE, _NEGATED_PRODUCTS = (0.08, 0.6), 200  # share of a type's titles that hold a word worth ruling out
_NOUN_SHARE, _NOUN_LAST = 0.8, 0.65  # of queries that say several things: that name the type, and that end with it


def write_type(desk: Desk, row: int) -> Want | None:
    return desk.named("type", row)


def write_brand(desk: Desk, row: int) -> Want | None:
    return desk.joined(desk.named("brand", row), desk.shelf.facts[row].brand[:3], 0.8)


def write_attribute(desk: Desk, row: int) -> Want | None:
    value = _value(desk, row)
    return desk.joined(desk.named("attribute", row), value.split(), 0.6) if value else None


def write_words(desk: Desk, row: int) -> Want | None:
    words = desk.some(desk.telling(row), desk.rng.choice((1, 1, 2)))
    return desk.joined(desk.named("words", row), words, 0.6)


def write_measure(desk: Desk, row: int) -> Want | None:
    said, want = desk.measures(row), desk.named("measure", row)
    if not said or want is None:
        return None
    unit, number = desk.rng.choice(said)
    value = desk.measure(unit, number)
    query = f"{value} {want.query}" if desk.rng.random() < 0.7 else f"{want.query} {value}"
    return replace(want, query=query, measure=(unit, number))


def write_several(desk: Desk, row: int) -> Want | None:
    """Two or three things in any order, mostly with the type: ``samsung tv 55in``, ``4k 55in``."""
    facts = desk.shelf.facts[row]
    parts = [" ".join(facts.brand[:3]), _value(desk, row), *desk.some(desk.telling(row), 1)]
    said = [part for part in dict.fromkeys(parts) if part]
    want = desk.named("several", row) if desk.rng.random() < _NOUN_SHARE else Want("several", "", row)
    if want is None:
        return None
    said = [s for s in said if not frozenset().union(*desk.terms(s.split())) <= want.named]
    said = desk.some(said, desk.rng.choice((1, 2, 2, 3)))
    words = desk.terms([word for part in said for word in part.split()])
    measures = desk.measures(row)
    measure = desk.rng.choice(measures) if measures and desk.rng.random() < 0.6 else None
    said += [desk.measure(*measure)] if measure else []
    if len(said) < 2:
        return None
    desk.rng.shuffle(said)
    if want.query:
        at = len(said) if desk.rng.random() < _NOUN_LAST else desk.rng.randrange(len(said))
        said.insert(at, want.query)
    return replace(want, query=" ".join(said), words=words, measure=measure)


def write_negation(desk: Desk, row: int) -> Want | None:
    """Rules out a word that some titles of the type have, and the source has nowhere."""
    want = desk.named("negation", row)
    if want is None:
        return None
    shelf, rng = desk.shelf, desk.rng
    rows = shelf.rows_of[next(iter(want.types))][:_NEGATED_PRODUCTS]
    counts = Counter(w for r in rows for w in set(shelf.content(r)) if len(w) > 3 and w.isalpha())
    low, high = (share * len(rows) for share in _NEGATED_RANGE)
    facts, terms = shelf.facts[row], shelf.token_terms
    words = [w for w, n in sorted(counts.items()) if low <= n <= high and not terms(w) & (facts.terms | want.named)]
    if not words or len(rows) < 8:
        return None
    word, no = rng.choice(words), rng.choice(("without", "without", "no", "not"))
    return replace(want, query=f"{want.query} {no} {word}", excluded=terms(word))


def _value(desk: Desk, row: int) -> str:
    """A value of an attribute that shoppers see, lower case; empty where the product has none."""
    attributes = desk.shelf.products[row].attributes.items()
    values = [v for k, v in attributes if k in desk.shelf.facets and isinstance(v, str) and is_short(v)]
    return desk.rng.choice(values).lower() if values else ""
