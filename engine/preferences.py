"""What a query wants more of, beyond words and limits: the contract of everything that reads such wants.

"big fridge", "best phone for gaming", "latest foldable", "cheaper than S24": each is a ``Preference``, numbers by row
and a fact in words for every product that meets it. They are found once the route is known, for what is big depends
on what it is: ``WantsOf``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import chain, zip_longest

import numpy as np

from engine.types import Candidates, Mask, Routed, Rows, Scores


@dataclass(frozen=True, slots=True, eq=False)
class Preference:
    """``text``, words of the query as read, asks for more of something.

    ``fit`` is float32 (n_products,), from 0 to 1: how well each product meets it, NaN where a product does not say,
    which neither wins nor vanishes. ``weight`` is what a whole fit adds to fused scores, of which the best is 1.
    ``orders`` says that it is a superlative: what is relevant enough is put in the order of ``fit``. ``fact`` tells of
    a row what meets the want, as the product says it ("refresh rate 120 Hz"), empty where it does not. ``reason`` says
    what was made of the words ("big → most capacity_l").
    """

    text: str
    fit: Scores
    weight: float
    fact: Callable[[int], str]
    reason: str
    orders: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Scope:
    """What wants are relative to: the types that the route chose, by name, and the rows that are of them.

    ``rows``, bool (n_products,), is None where no type was chosen; then there is nothing to be relative to.
    """

    rows: Mask | None
    names: tuple[str, ...] = ()

    @property
    def members(self) -> Mask:
        """``rows``, of a scope that has any."""
        assert self.rows is not None
        return self.rows


def scope_of(routed: Routed | None, likely: float) -> Scope:
    """The types that the router chose, or else the likeliest, if its probability is ``likely``; without rows where
    there is none.
    """
    if routed is None or routed.members is None:
        return Scope(None)
    types = routed.chosen or tuple(found for found in routed.product_types[:1] if found.probability >= likely)
    if not types:
        return Scope(None)
    rows = np.logical_or.reduce([routed.members(found.type_id) for found in types])
    return Scope(rows, tuple(found.name for found in types)) if rows.any() else Scope(None)


@dataclass(frozen=True, slots=True, eq=False)
class Wants:
    """All that one query wants. ``scope``, bool (n_products,), are the products that it is wanted of, None where there
    is no telling; ``groups`` are the types that take turns where it names none.

    ``qualifying_share`` is of the best score, from which a product is relevant enough for a superlative to order it,
    ``unknown_fit`` what counts as the fit of a product that does not say, ``of_a_type`` what products of ``groups``
    gain, and ``wanted_quantile`` that of what is wanted from which products are looked for on their own.
    """

    preferences: tuple[Preference, ...] = ()
    scope: Mask | None = None
    groups: tuple[Scope, ...] = ()
    qualifying_share: float = 0.0
    unknown_fit: float = 0.5
    of_a_type: float = 0.0
    wanted_quantile: float = 0.5

    def __bool__(self) -> bool:
        return bool(self.preferences)

    @property
    def orders(self) -> bool:
        """Whether the order of the best is changed once more, at the end."""
        return bool(self.groups) or any(preference.orders for preference in self.preferences)

    @property
    def rows(self) -> Mask | None:
        """The rows that meet best what is wanted, to be looked for on their own; None where nothing is."""
        if not self.preferences:
            return None
        total, known = self._sum(None)
        return np.asarray(known & (total >= np.quantile(total[known], self.wanted_quantile))) if known.any() else None

    def preferred(self, found: Candidates) -> Candidates:
        """With what products gain that meet the wants, and lose that do not."""
        total, _ = self._sum(found.rows)
        if self.groups:
            total += np.float32(self.of_a_type) * np.logical_or.reduce(
                [group.members[found.rows] for group in self.groups]
            )
        return Candidates.ranked(found.rows, found.scores + total)

    def relevant(self, found: Candidates) -> Rows:
        """The rows of ``found`` that are relevant enough for superlatives to put them in order, by all but these."""
        others = replace(self, preferences=tuple(one for one in self.preferences if not one.orders), groups=())
        scores = others.preferred(found) if others else found
        relevant: Rows = scores.rows[scores.scores >= self.qualifying_share * scores.scores[0]]
        return relevant

    def ordered(self, found: Candidates, relevant: Rows, meets: Mask | None = None) -> Candidates:
        """The rows that are ``relevant`` in the order that superlatives ask for, or types in turn; the rest as it was.

        ``meets``, bool (n_products,), are those within the query's limits, None where it has none: the others come
        after. Scores are dealt out anew, so that they never rise down the list.
        """
        if not len(found):
            return found
        order = self._by_superlatives(found, relevant, meets)
        if self.groups:
            order = self._in_turns(found.rows, order, meets)
        return Candidates(found.rows[order], found.scores)

    def _by_superlatives(self, found: Candidates, relevant: Rows, meets: Mask | None) -> Rows:
        fits = [preference.fit[found.rows] for preference in self.preferences if preference.orders]
        places = np.arange(len(found))
        if not fits:
            return places
        fit = np.sum(fits, axis=0)
        qualifies = ~np.isnan(fit) & np.isin(found.rows, relevant)
        best = places[qualifies]
        outside = np.zeros(len(best), np.bool_) if meets is None else ~meets[found.rows[best]]
        return np.concatenate([best[np.lexsort((best, -fit[best], outside))], places[~qualifies]])

    def _in_turns(self, rows: Rows, order: Rows, meets: Mask | None) -> Rows:
        """Places by the types in turn, each type's in order; what is of none, or beyond a limit, comes after."""
        left = np.ones(len(order), np.bool_) if meets is None else meets[rows[order]]
        turns = []
        for group in self.groups:
            mine = left & group.members[rows[order]]
            turns.append(order[mine].tolist())
            left &= ~mine
        dealt = [place for place in chain.from_iterable(zip_longest(*turns)) if place is not None]
        first = np.array(dealt, np.int64)
        return np.concatenate([first, order[~np.isin(order, first)]])

    def _sum(self, rows: Rows | None) -> tuple[Scores, Mask]:
        """Weights times fits, less what a product of the middle has, and which rows say anything."""
        fits = [preference.fit if rows is None else preference.fit[rows] for preference in self.preferences]
        known = [~np.isnan(fit) for fit in fits]
        parts = [
            preference.weight * (np.where(says, fit, self.unknown_fit) - 0.5)
            for preference, fit, says in zip(self.preferences, fits, known, strict=True)
        ]
        return np.sum(parts, axis=0).astype(np.float32), np.logical_or.reduce(known)


NO_WANTS = Wants()
#: What is wanted, for a route and what was found, best first.
WantsOf = Callable[[Routed | None, Candidates], Wants]
