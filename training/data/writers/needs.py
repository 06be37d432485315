"""Queries that say what a thing is for, whom it is for, or only what wider kind it is of."""

from __future__ import annotations

from dataclasses import replace

from qpt.title_types import head, name_parts
from training.data.judging import Want
from training.data.uses import GATHERING, NO_GIFT, RECIPIENTS, USES
from training.data.writers.desk import Desk

_GIFTS = ("gift for {}", "gifts for {}", "gift ideas for {}", "present for {}", "birthday gift for {}")
_USED_RANGE, _LOOKED_AT = (0.02, 0.6), 200  # share of a type's products that speak for a use worth asking for
_LEAST_BELOW = 2  # types below a wider one


def write_use(desk: Desk, row: int) -> Want | None:
    """A type for a use that the product's title names, as few enough of its type do: ``laptop bag for travel``."""
    shelf, rng = desk.shelf, desk.rng
    facts, want = shelf.facts[row], desk.named("use", row)
    if want is None or facts.type_id is None:
        return None
    fitting = [(use, _terms(desk, use.evidence)) for use in USES if any(word in facts.tokens for word in use.evidence)]
    fitting = [(use, evidence) for use, evidence in fitting if not evidence & want.named]
    if not fitting:
        return None
    use, evidence = rng.choice(fitting)
    rows = desk.some(shelf.rows_of[facts.type_id], _LOOKED_AT)
    share = sum(bool(evidence & shelf.facts[r].terms) for r in rows) / len(rows)
    if not _USED_RANGE[0] <= share <= _USED_RANGE[1]:
        return None
    said, before = rng.choice(use.said), rng.choice(use.before) if use.before else ""
    query = f"{before} {want.query}" if before and rng.random() < 0.4 else f"{want.query} for {said}"
    return replace(want, query=query, evidence=evidence)


def write_gift(desk: Desk, row: int) -> Want | None:
    """Somebody to give to: any type that is known to please them answers; of others only the far ones do not."""
    shelf, rng = desk.shelf, desk.rng
    type_id = shelf.facts[row].type_id
    if type_id is None or type_id in shelf.accessories:
        return None
    heads = shelf.heads(shelf.types.types[type_id].name)
    fitting = [of for of in RECIPIENTS if heads & _terms(desk, of.heads)]
    if not fitting:
        return None
    recipient = rng.choice(fitting)
    wanted = _terms(desk, recipient.heads)
    names = {t: shelf.types.types[t].name for t in shelf.rows_of}
    types = frozenset(t for t, name in names.items() if shelf.heads(name) & wanted and not NO_GIFT & {*_words(name)})
    if type_id not in types:
        return None
    roots = {_root(desk, t) for t in types}
    near = frozenset(t for t in shelf.rows_of if t not in types and _root(desk, t) in roots)
    query = rng.choice(_GIFTS).format(rng.choice(recipient.said))
    return Want("gift", query, row, types - shelf.accessories, unsure=near | (types & shelf.accessories))


def write_parent(desk: Desk, row: int) -> Want | None:
    """A wider kind than the product's own: what is below it by name answers, what merely lies there may or may not."""
    shelf = desk.shelf
    type_id = shelf.facts[row].type_id
    parent = shelf.types.types[type_id].parent if type_id else None
    parts = name_parts(shelf.types.types[parent].name) if parent else []
    if parent is None or type_id is None or len(parts) != 1:
        return None
    below = [t for t in shelf.rows_of if t == parent or any(above.type_id == parent for above in shelf.types.above(t))]
    last = head(parts[0], shelf.analyzer)
    gathers = last in _terms(desk, GATHERING)
    types = frozenset(t for t in below if gathers or last in shelf.heads(shelf.types.types[t].name))
    if type_id not in types or len(types) < _LEAST_BELOW:
        return None
    return replace(desk.called("parent", row, parts[0], types), unsure=frozenset(below) - types)


def _root(desk: Desk, type_id: str) -> str:
    return next((above.type_id for above in reversed([*desk.shelf.types.above(type_id)])), type_id)


def _terms(desk: Desk, words: tuple[str, ...]) -> frozenset[str]:
    return frozenset().union(*desk.terms(words))


def _words(name: str) -> list[str]:
    return name.lower().split()
