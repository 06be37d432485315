"""What understanding and routing ask of a ranking, as numbers by row.

Nothing is ever hidden: what a query does not ask for falls back, and stays among the candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from engine.columns import Columns
from engine.config import SearchConfig
from engine.filters import Exists
from engine.types import Candidates, Mask, Routed, Rows, Scores
from engine.understanding.constraints import Constraint
from engine.understanding.understand import Understood

#: Fused scores go from 0 to 1, so that this puts a row behind all that it is not taken from.
_BEHIND = 1.0
_OUTSIDE = 0.15  # taken from what is not of the type that a query surely asks for
_EXCLUDED = 0.15  # a product that names what is not wanted may yet be right: texts say "fits belts with buckles"
_STRICT = frozenset({"price", "rating"})  # what shoppers mean to the letter; of colours and sizes shops say too little
_NAMED = 0.5  # of a limit's weight, for names, which the words of a query find as well
_WITNESSES, _AGREEMENT = 10, 0.3  # hits that are asked whether a route is right, and the share that must say so
_LIKELY = 0.5  # of the best fit, from which rows are looked for on their own


@dataclass(frozen=True, slots=True, eq=False)
class Guidance:
    """What to add to fused scores, which go from 0 to 1.

    ``route`` and ``constraints`` are float32 (n_products,), None where they ask for nothing; ``likely`` are the rows of
    the types that a route is about. ``excludes`` says which of some rows have what the query excludes, None where it
    excludes nothing. ``wanted`` are rows to look for on their own, so that what is asked for is among the candidates.
    ``limits`` are the constraints that some products do not meet, each with the rows that do.
    """

    route: Scores | None = None
    likely: Mask | None = None
    constraints: Scores | None = None
    excludes: Callable[[Rows], Mask] | None = None
    wanted: Mask | None = None
    limits: tuple[tuple[Constraint, Mask], ...] = ()

    def constrained(self, fused: Candidates, depth: int) -> Candidates:
        """With what constraints ask for, and with the best ``depth`` of them looked at for what is excluded."""
        scores = fused.scores.copy()
        if self.constraints is not None:
            scores += self.constraints[fused.rows]
        if self.excludes is not None:
            best = np.argsort(-scores, kind="stable")[:depth]
            scores[best] -= np.float32(_EXCLUDED) * self.excludes(fused.rows[best])
        return Candidates.ranked(fused.rows, scores)

    def agreed(self, fused: Candidates) -> bool:
        """Whether what was found by words and meaning bears the route out: some of the best are of its types."""
        assert self.likely is not None
        return bool(self.likely[fused.rows[:_WITNESSES]].mean() >= _AGREEMENT)

    def routed(self, fused: Candidates) -> Candidates:
        """With what the types asked for add."""
        assert self.route is not None
        return Candidates.ranked(fused.rows, fused.scores + self.route[fused.rows])


def guide(
    understood: Understood, routed: Routed | None, columns: Columns, config: SearchConfig,
    excludes: Callable[[Rows], Mask],
) -> Guidance:  # fmt: skip
    """The guidance for one query."""
    route, likely = _route(routed, config)
    limits = tuple(_limits(understood.constraints, columns))
    constraints, allowed = _constraints(limits, columns, config)
    wanted = likely if allowed is None else allowed if likely is None else likely & allowed
    return Guidance(route, likely, constraints, excludes if understood.excluded else None, wanted, limits)


def _route(routed: Routed | None, config: SearchConfig) -> tuple[Scores | None, Mask | None]:
    if routed is None or routed.fit is None:
        return None, None
    likely: Mask = routed.fit >= _LIKELY * routed.fit.max()
    added = np.float32(config.route_weight) * routed.fit
    if routed.inside is not None:
        added = added - np.float32(_OUTSIDE) * ~routed.inside
    return added, likely


def _limits(constraints: Sequence[Constraint], columns: Columns) -> Iterator[tuple[Constraint, Mask]]:
    """What every product meets is no limit."""
    for constraint in constraints:
        fits = columns.mask([constraint.filter]) if constraint.filter is not None else None
        if fits is not None and not fits.all():
            yield constraint, fits


def _constraints(
    limits: Sequence[tuple[Constraint, Mask]], columns: Columns, config: SearchConfig
) -> tuple[Scores | None, Mask | None]:
    """Products that fit rise a little; where limits are strict and the words sure, those that do not fall behind."""
    added: Scores | None = None
    allowed: Mask | None = None
    for constraint, fits in limits:
        added = np.zeros(len(columns), np.float32) if added is None else added
        added[fits] += config.constraint_weight * (_NAMED if constraint.kind in ("color", "brand") else 1.0)
        if constraint.sure and constraint.kind in _STRICT:
            says = columns.mask([Exists(constraint.field)])
            assert says is not None
            added[says & ~fits] -= _BEHIND
            allowed = fits if allowed is None else allowed & fits
    return added, allowed if allowed is not None and allowed.any() else None
