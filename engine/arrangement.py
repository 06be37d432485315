"""The last say on an order: rules, what cannot be bought behind what can, one product a group, diversity, and pins.

Each tier of candidates is arranged on its own, and a deeper one only adds to what is there, so that pages stay as they
were. Pins stand within the first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from engine.diversity import Limits
from engine.grouping import Groups
from engine.types import Candidates, Mask, Rows, Scores

ARRANGE = "arrange"  # the stage, as reports and traces name it

#: For some rows what they gain, float32 (n,), and which fall behind all others, bool (n,).
Lift = Callable[[Rows], tuple[Scores, Mask]]


class Arrangement:
    """Arranges the tiers of one search, in their order.

    ``lift`` moves rows; ``behind``, bool (n_products,), has those that come after all others; ``groups`` has the group
    of each row, of which one is shown; ``pins`` the row of each pinned rank, from 1; ``limits`` say how many of a
    field's value may be among the first results. None, or none, leaves that out.
    ``allowed``, bool (n_products,), has the rows that may be shown, None where that is all.
    """

    def __init__(
        self, lift: Lift | None = None, behind: Mask | None = None, groups: Groups | None = None,
        pins: Mapping[int, int] | None = None, allowed: Mask | None = None, limits: Limits | None = None,
    ) -> None:  # fmt: skip
        self._lift, self._behind, self._groups, self.allowed = lift, behind, groups, allowed
        self._limits = limits
        self._pins = dict(sorted((pins or {}).items()))
        self._seen: list[Rows] = []
        self._shown_groups = np.empty(0, np.int64)

    @property
    def note(self) -> str:
        """What it does, in words."""
        return ", ".join(
            said
            for does, said in (
                (self._lift, "lifted by rules"),
                (self._behind is not None, "what is out of stock behind"),
                (self._groups, f"one a {self._groups.field}" if self._groups else ""),
                (self._limits, self._limits.note if self._limits else ""),
                (self._pins, f"{len(self._pins)} pinned"),
            )
            if does
        )

    def first(self, found: Candidates) -> Candidates:
        """The first tier in its new order, pins among it."""
        found = self._moved(found)
        pinned = np.fromiter(self._pins.values(), np.int64, len(self._pins))
        self._seen = [found.rows]
        if self._groups is not None:
            self._shown_groups = self._groups.of[pinned]
        found = self._one_a_group(found)
        if len(pinned):
            found = self._with_pins(found, pinned)
        if self._limits is None or not len(found):
            return found
        places = {place for place, row in enumerate(found.rows.tolist()) if row in self._pins.values()}
        return self._limits.spread(found, places, self._last(found.rows) > 0)

    def _with_pins(self, found: Candidates, pinned: Rows) -> Candidates:
        """``found`` with the ``pinned`` rows at their ranks."""
        left = ~np.isin(found.rows, pinned)
        rows, scores = found.rows[left].tolist(), found.scores[left].tolist()
        for rank, row in self._pins.items():
            place = min(rank - 1, len(rows))
            rows.insert(place, row)
            # That of the one before, or at the top of the one after it: a pin says nothing of relevance.
            scores.insert(place, scores[place - 1] if place else scores[0] if scores else 1.0)
        self._seen.append(pinned)
        return Candidates(np.array(rows, np.int64), np.array(scores, np.float32))

    def deeper(self, shown: Candidates, found: Candidates) -> Candidates:
        """``shown``, and after it what a deeper tier adds."""
        new = ~np.isin(found.rows, np.concatenate(self._seen))
        added = self._moved(Candidates(found.rows[new], found.scores[new]))
        self._seen.append(added.rows)
        added = self._one_a_group(added)
        lowest = shown.scores[-1] if len(shown) else np.float32(np.inf)
        return Candidates(
            np.concatenate([shown.rows, added.rows]),
            np.concatenate([shown.scores, np.minimum(added.scores, lowest)]),
        )

    @cached_property
    def most(self) -> float:
        """How many results there can be: as many as there are groups among the rows that are allowed."""
        return self._groups.count(self.allowed) if self._groups is not None else float("inf")

    @property
    def found(self) -> Rows:
        """All candidates so far, of which one a group is shown, ascending."""
        return np.unique(np.concatenate(self._seen)) if self._seen else np.empty(0, np.int64)

    def group(self, row: int, k: int) -> tuple[str, int, Rows] | None:
        """The field by which a row that is shown is grouped, how many rows its group has, and the first ``k`` of the
        others: those that the first tier, which every page has, found, in its order, and then by row. None where
        nothing is grouped.
        """
        if self._groups is None:
            return None
        members = self._groups.members(row)
        if self.allowed is not None:
            members = members[self.allowed[members]]
        tier = self._seen[0]
        found = tier[(self._groups.of[tier] == self._groups.of[row]) & (tier != row)][:k]
        rest = members[: 2 * k + 1]  # of which at most k + 1 have been found
        rest = rest[(rest != row) & ~np.isin(rest, found)][: k - len(found)]
        return self._groups.field, len(members), np.concatenate([found, rest])

    def _moved(self, found: Candidates) -> Candidates:
        if not len(found) or (self._lift is None and self._behind is None):
            return found
        scores = found.scores if self._lift is None else found.scores + self._lift(found.rows)[0]
        order = np.lexsort((np.arange(len(found)), -scores, self._last(found.rows)))
        return Candidates(found.rows[order], np.minimum.accumulate(scores[order]))

    def _last(self, rows: Rows) -> NDArray[np.int8]:
        """For each row 0, or more the further behind all others it falls, int8 (n,)."""
        last = np.zeros(len(rows), np.int8) if self._lift is None else self._lift(rows)[1].astype(np.int8)
        return last if self._behind is None else last + 2 * self._behind[rows].astype(np.int8)

    def _one_a_group(self, found: Candidates) -> Candidates:
        """The first of each group that is not yet shown."""
        if self._groups is None or not len(found):
            return found
        of = self._groups.of[found.rows]
        _, first = np.unique(of, return_index=True)
        first = np.sort(first[~np.isin(of[first], self._shown_groups)])
        self._shown_groups = np.concatenate([self._shown_groups, of[first]])
        return Candidates(found.rows[first], found.scores[first])
