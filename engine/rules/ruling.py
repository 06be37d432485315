"""What the rules say of one search.

Conflicts are settled in the order that ``RuleIndex`` keeps. A redirect and a replacement are those of the first rule
that has one. What any rule hides is hidden, whatever another pins. Of two products pinned to one rank the first rule's
gets it and the other the next that is free; a product pinned twice has the first rule's rank. Boosts and buries add up.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from engine.columns import Columns
from engine.errors import InvalidFilterError
from engine.filters import Filter
from engine.lexical.retriever import QueryExpansion
from engine.rules.matching import Asked, RuleIndex
from engine.rules.schema import Rule, texts
from engine.types import Mask, Routed, Rows, RuleAction, RuleEffect, Scores

_BEHIND = -1.0  # what moves down by so much falls behind all that does not


class Ruling:
    """The rules that are for one search. Rules on words come first, those on types once the query has been routed."""

    def __init__(self, index: RuleIndex, columns: Columns, asked: Asked) -> None:
        self._index, self._columns, self._asked = index, columns, asked
        self._numbers: dict[int, Asked] = dict.fromkeys(index.of_words(asked), asked)
        #: Those that are for this search, in the order in which conflicts are settled.
        self.rules: tuple[Rule, ...] = self._in_order()
        #: What a rule asks for and this catalog cannot do, in words.
        self.problems: list[str] = []
        self._pinned: tuple[tuple[int, int, Rule], ...] = ()

    @property
    def n_rules(self) -> int:
        """How many there are in all."""
        return len(self._index)

    def _in_order(self) -> tuple[Rule, ...]:
        return tuple(self._index.rules[number] for number in sorted(self._numbers))

    def corrected(self, text: str) -> None:
        """Adds the rules that are for the query as it was probably meant."""
        if text != self._asked.text:
            asked = self._index.asked(text, self._asked.locale, self._asked.context, self._asked.now)
            for number in self._index.of_words(asked):
                self._numbers.setdefault(number, asked)
            self._asked, self.rules = asked, self._in_order()

    def routed(self, routed: Routed | None) -> None:
        """Adds the rules that are for the type asked for."""
        for number in self._index.of_types(self._asked, routed):
            self._numbers.setdefault(number, self._asked)
        self.rules = self._in_order()

    @property
    def replacement(self) -> str:
        """What to search for in place of the query; empty where that is the query."""
        return next((rule.then.replace for rule in self.rules if rule.then.replace), "")

    @property
    def redirect(self) -> str:
        return next((rule.then.redirect for rule in self.rules if rule.then.redirect), "")

    @property
    def expansions(self) -> tuple[QueryExpansion, ...]:
        """What is searched beside the query."""
        return tuple(
            QueryExpansion(text, "synonym", self._index.origin(number, asked))
            for number, asked in sorted(self._numbers.items())
            for text in texts(self._index.rules[number].then.synonyms)
        )

    def allowed(self, allowed: Mask | None) -> Mask | None:
        """The rows that ``allowed``, filters and hides leave; None where that is all."""
        for rule in self.rules:
            for filter, _ in rule.keep:
                passes = self._mask(rule, filter)
                if passes is not None:
                    allowed = passes if allowed is None else allowed & passes
            for filter, _ in rule.hide:
                passes = self._mask(rule, filter)
                if passes is not None:
                    allowed = ~passes if allowed is None else allowed & ~passes
        return allowed

    @property
    def moves(self) -> bool:
        """Whether any rule boosts or buries."""
        return any(rule.moves for rule in self.rules)

    def lift(self, rows: Rows) -> tuple[Scores, Mask]:
        """What each row gains, float32 (n,), from -1 to 1, and which fall behind all others, bool (n,)."""
        total = np.zeros(len(rows), np.float32)
        for rule in self.rules:
            for move in rule.moves:
                total += np.float32(move.by) * self._passing(rule, move.filters, rows)
        return np.clip(total, -1, 1), total <= _BEHIND

    def pins(self, allowed: Mask | None) -> dict[int, int]:
        """The row of each rank that is pinned, of rows that are allowed."""
        if any(rule.then.pin for rule in self.rules):
            self._pinned = tuple(self._pinning(allowed))
        return {rank: row for rank, row, _ in self._pinned}

    def _pinning(self, allowed: Mask | None) -> Iterator[tuple[int, int, Rule]]:
        taken: set[int] = set()
        pinned: set[int] = set()
        for rule in self.rules:
            for product_id, rank in sorted(rule.then.pin.items(), key=lambda item: item[1]):
                row = self._columns.row(product_id)
                if row is None or row in pinned or (allowed is not None and not allowed[row]):
                    continue
                while rank in taken:
                    rank += 1
                taken.add(rank)
                pinned.add(row)
                yield rank, row, rule

    def effects(self, rows: Rows) -> list[tuple[RuleEffect, ...]]:
        """What rules did to each of some rows, once the search is arranged."""
        found: list[list[RuleEffect]] = [[] for _ in rows]
        places = {row: place for place, row in enumerate(rows.tolist())}
        for rank, row, rule in self._pinned:
            if row in places:
                found[places[row]].append(RuleEffect(rule.id, "pin", f"to rank {rank}"))
        for rule, filters, action, said in self._judging():
            for effects, passes in zip(found, self._passing(rule, filters, rows).tolist(), strict=True):
                if passes or action == "filter":
                    effects.append(RuleEffect(rule.id, action, said if passes else f"not {said}"))
        return [tuple(effects) for effects in found]

    def _judging(self) -> Iterator[tuple[Rule, tuple[Filter, ...], RuleAction, str]]:
        """Each filter that decides something, what that is, and how it reads of what passes."""
        for rule in self.rules:
            for move in rule.moves:
                yield rule, move.filters, "boost" if move.by > 0 else "bury", f"{move.by:+.3f} for {move.text}"
            for filter, text in rule.hide:
                yield rule, (filter,), "hide", text
            for filter, text in rule.keep:
                yield rule, (filter,), "filter", text

    def _mask(self, rule: Rule, filter: Filter) -> Mask | None:
        """All rows that pass; None, and told, where the catalog has no such field."""
        try:
            return self._columns.mask([filter])
        except InvalidFilterError as error:
            self._tell(rule, error)
            return None

    def _passing(self, rule: Rule, filters: tuple[Filter, ...], rows: Rows) -> Mask:
        """Which of some rows pass; none, and told, where the catalog has no such field."""
        try:
            return self._columns.passing(filters, rows)
        except InvalidFilterError as error:
            self._tell(rule, error)
            return np.zeros(len(rows), np.bool_)

    def _tell(self, rule: Rule, error: InvalidFilterError) -> None:
        problem = f"{rule.id}: {error}"
        if problem not in self.problems:
            self.problems.append(problem)

    @property
    def note(self) -> str:
        """The rules and what they do, in words."""
        return "; ".join([*(f"{rule.id}: {_does(rule)}" for rule in self.rules), *self.problems])


def _does(rule: Rule) -> str:
    return ", ".join(name for name in rule.then.__struct_fields__ if getattr(rule.then, name))
