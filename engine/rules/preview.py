"""What a file of rules would change: each query searched without and with it, and what in it can do nothing here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec
import numpy as np

from engine.columns import Columns
from engine.errors import InvalidFilterError
from engine.filters import Equal, Filter, In, Range
from engine.rules.schema import Rule
from engine.search import SearchEngine
from engine.types import RuleEffect, SearchResult


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """A product whose rank rules changed, by 0 where it is not among the first hits. ``why`` names the rules that did
    something to it; none did to those that only made room.
    """

    product_id: str
    before: int
    after: int
    why: tuple[RuleEffect, ...] = ()


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What rules do to the first ``k`` hits of a query: the products that moved, came and went, by their new ranks."""

    query: str
    rules: tuple[str, ...]
    replaced: str
    redirect: str
    moved: tuple[Moved, ...]

    @property
    def changes(self) -> bool:
        return bool(self.redirect or self.replaced or self.moved)


class Warned(msgspec.Struct, frozen=True, kw_only=True):
    """What of a rule does nothing, or not what it seems to."""

    rule: str
    reason: str


@dataclass(frozen=True, slots=True)
class Preview:
    """``changes`` by query, in order; ``warnings`` by rule; by rule how many of the queries it is for, ``fired``, and
    how many places of products it changed, ``touched``.
    """

    changes: tuple[Change, ...]
    warnings: tuple[Warned, ...]
    fired: Mapping[str, int]
    touched: Mapping[str, int]


def preview(
    engine: SearchEngine, rules: Sequence[Rule], path: str, queries: Sequence[str], now: float, *, k: int = 10,
    locale: str = "", context: Mapping[str, str] | None = None, progress: Callable[[int, int], None] = lambda *_: None,
) -> Preview:  # fmt: skip
    """Searches ``queries`` without and with the rules of the file ``path``, which are ``rules``.

    ``now``, in seconds since 1970, is the time by which rules hold.
    """
    engine = engine.snapshot()
    columns = engine._columns
    before = engine.configured(msgspec.structs.replace(engine.config, rules=""))
    after = engine.configured(msgspec.structs.replace(engine.config, rules=path), clock=lambda: now)
    changes, fired = [], Counter[str]()
    by_id = {rule.id: rule for rule in rules}
    for done, query in enumerate(queries, 1):
        plain = before.search(query, k, locale=locale)
        changed = after.search(query, k, locale=locale, context=context or {})
        fired.update(changed.rules)
        gone = partial(_gone, columns, [by_id[found] for found in changed.rules])
        changes.append(_change(query, plain, changed, gone))
        progress(done, len(queries))
    warnings = [
        *(Warned(rule=rule.id, reason=reason) for rule in rules for reason in _idle(rule, columns, now)),
        *_shadowed(rules),
    ]
    if queries:
        warnings += [
            Warned(rule=rule.id, reason=f"is for none of the {len(queries)} queries")
            for rule in rules
            if rule.enabled and rule.span.holds(now) and not fired[rule.id]
        ]
    touched = Counter(rule for change in changes for moved in change.moved for rule in {of.rule for of in moved.why})
    return Preview(tuple(changes), tuple(warnings), fired, touched)


def _change(
    query: str, before: SearchResult, after: SearchResult, gone: Callable[[str], tuple[RuleEffect, ...]]
) -> Change:
    """``gone`` says what rules did to a product that is no longer there."""
    old = {hit.product.product_id: hit.rank for hit in before.hits}
    new = {hit.product.product_id: hit.rank for hit in after.hits}
    stayed = (
        Moved(
            product_id=hit.product.product_id, before=old.get(hit.product.product_id, 0), after=hit.rank, why=hit.rules
        )
        for hit in after.hits
    )
    went = (
        Moved(product_id=product_id, before=rank, after=0, why=gone(product_id))
        for product_id, rank in old.items()
        if product_id not in new
    )
    read = after.route.corrected if after.route else ""
    usual = before.route.corrected if before.route else ""
    return Change(
        query=query,
        rules=after.rules,
        replaced=read if after.rules and read != usual else "",
        redirect=after.redirect,
        moved=(*(one for one in stayed if one.before != one.after), *went),
    )


def _gone(columns: Columns, rules: Sequence[Rule], product_id: str) -> tuple[RuleEffect, ...]:
    """Which of the rules that are for a search take a product away, or bury it."""
    row = columns.row(product_id)
    if row is None:
        return ()
    found = [
        RuleEffect(rule.id, "hide", text) for rule in rules for of, text in rule.hide if _passes((of,), columns, row)
    ]
    found += [
        RuleEffect(rule.id, "filter", f"not {text}")
        for rule in rules
        for of, text in rule.keep
        if not _passes((of,), columns, row, unknown=True)
    ]
    found += [
        RuleEffect(rule.id, "bury", f"{move.by:+.3f} for {move.text}")
        for rule in rules
        for move in rule.moves
        if move.by < 0 and _passes(move.filters, columns, row)
    ]
    return tuple(found)


def _idle(rule: Rule, columns: Columns, now: float) -> Iterator[str]:
    """What in a rule can do nothing with this catalog, or not now."""
    if not rule.enabled:
        yield "is switched off"
    elif now >= rule.span.ends:
        yield "is over"
    elif now < rule.span.starts:
        yield "has not begun"
    for product_id in rule.then.pin:
        if columns.row(product_id) is None:
            yield f"pins {product_id!r}, which the catalog does not have"
    for move in rule.moves:
        yield from _matching(move.filters, move.text, "boosts" if move.by > 0 else "buries", columns)
    for filter, text in rule.hide:
        yield from _matching((filter,), text, "hides", columns)
    for filter, text in rule.keep:
        yield from _matching((filter,), text, "leaves", columns)
    for product_id in rule.then.pin:
        row = columns.row(product_id)
        for filter, text in rule.hide:
            if row is not None and _passes((filter,), columns, row):
                yield f"pins {product_id!r} and hides it, by {text}"


def _matching(filters: tuple[Filter, ...], text: str, does: str, columns: Columns) -> Iterator[str]:
    try:
        mask = columns.mask(filters)
    except InvalidFilterError as error:
        yield f"{does} {text}: {error}"
        return
    if mask is not None and not mask.any():
        yield f"{does} {text}, which is of no product{_near(filters, columns)}"
    elif mask is not None and mask.all():
        yield f"{does} {text}, which is of every product"


def _near(filters: tuple[Filter, ...], columns: Columns) -> str:
    """Values that there are of a field that is filtered by one that there is not."""
    for filter in filters:
        if isinstance(filter, (Equal, In)):
            names = [count.value for count in columns.values(filter.field)][:3]
            names = names or [count.value for count in columns.values(f"attributes.{filter.field}")][:3]
            return f"; there is {', '.join(names)}" if names else ""
        if isinstance(filter, Range):
            return "; look at its bounds"
    return ""


def _passes(filters: tuple[Filter, ...], columns: Columns, row: int, *, unknown: bool = False) -> bool:
    """Whether a row passes; ``unknown`` where the catalog has no such field."""
    try:
        return bool(columns.passing(filters, np.array([row], np.int64))[0])
    except InvalidFilterError:
        return unknown


def _shadowed(rules: Sequence[Rule]) -> Iterator[Warned]:
    """Rules that another, for the very same searches, always comes before, with what they then cannot do."""
    alike: dict[bytes, list[Rule]] = {}
    for rule in rules:
        if rule.enabled:
            alike.setdefault(msgspec.json.encode(rule.when), []).append(rule)
    for group in alike.values():
        first, *others = sorted(group, key=lambda rule: (-rule.priority, rule.place))
        for other in others:
            overlap = first.span.within(other.span)
            if overlap.starts >= overlap.ends:
                continue
            for name in ("redirect", "replace"):
                if getattr(first.then, name) and getattr(other.then, name):
                    yield Warned(rule=other.id, reason=f"has a {name}, but {first.id!r} comes first for the same")
            for product_id, rank in other.then.pin.items():
                if rank in first.then.pin.values() and product_id not in first.then.pin:
                    yield Warned(
                        rule=other.id, reason=f"pins {product_id!r} to {rank}, where {first.id!r} pins another"
                    )
