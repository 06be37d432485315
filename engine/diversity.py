"""Diversity: at most so many products of a brand, or of any other field's value, among the first results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError, InvalidQueryError
from engine.grouping import Groups
from engine.types import Candidates, Mask, Rows


class AtMost(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """At most ``n`` products with one value of ``field`` among the first ``first`` results.

    Products without a value are not limited. Raises ConfigError on numbers below 1.
    """

    field: str
    n: int
    first: int = 10

    def __post_init__(self) -> None:
        for name in ("n", "first"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ConfigError(
                    f"at_most of {self.field!r}: {name} is {value!r}; it must be a whole number, 1 or more"
                )

    @classmethod
    def parsed(cls, text: str) -> AtMost:
        """``FIELD=N``, or ``FIELD=N/FIRST``: ``brand=2/10``. Raises ConfigError."""
        field, _, numbers = text.partition("=")
        n, _, first = numbers.partition("/")
        if not field or not n.isdecimal() or (first and not first.isdecimal()) or numbers.endswith("/"):
            raise ConfigError(f"at-most is {text!r}; write FIELD=N or FIELD=N/FIRST, such as brand=2/10")
        return cls(field, int(n), int(first)) if first else cls(field, int(n))

    def __str__(self) -> str:
        return f"at most {self.n} of a {self.field} in the first {self.first}"


class Limits:
    """Limits of one search, each with the groups of its field."""

    def __init__(self, limits: Sequence[AtMost], groups: Callable[[str], Groups]) -> None:
        """``groups`` gives those of a field. Raises InvalidQueryError, and InvalidFilterError on an unknown field."""
        for limit in limits:
            if not isinstance(limit, AtMost):
                raise InvalidQueryError(f"at_most has {limit!r}; give a list of AtMost, such as AtMost('brand', 2)")
        self._limits = [(limit, groups(limit.field).of) for limit in limits]

    @property
    def note(self) -> str:
        return ", ".join(str(limit) for limit, _ in self._limits)

    def spread(self, found: Candidates, pinned: Collection[int], behind: Mask) -> Candidates:
        """``found`` with what is too many of a value after the first results, where others take its place.

        Places in ``pinned`` keep their rows, which count. What is ``behind``, bool (n,) by place, takes no place of
        what is not. What is left is never fewer, and all else stays in its order. Scores never rise down the list.
        """
        end = min(max(limit.first for limit, _ in self._limits), len(found))
        values = [(limit, of[found.rows]) for limit, of in self._limits]
        counts = [Counter(int(of[place]) for place in pinned if place < min(end, limit.first)) for limit, of in values]
        left = [place for place in range(len(found)) if place not in pinned]
        order: list[int] = []
        for rank in range(end):
            if rank in pinned:
                order.append(rank)
                continue
            place = _next(left, rank, values, counts, behind)
            left.remove(place)
            order.append(place)
            for (_, of), count in zip(values, counts, strict=True):
                count[int(of[place])] += 1
        rest = iter(left)
        order += [rank if rank in pinned else next(rest) for rank in range(end, len(found))]
        places = np.array(order, np.int64)
        return Candidates(found.rows[places], np.minimum.accumulate(found.scores[places]))


def _next(
    left: Sequence[int], rank: int, values: Sequence[tuple[AtMost, Rows]], counts: Sequence[Counter[int]],
    behind: NDArray[np.bool_],
) -> int:  # fmt: skip
    """The first place of those ``left`` that no limit keeps from ``rank``; the first where there is none."""
    for place in left:
        if behind[place] and not behind[left[0]]:
            break
        if all(
            rank >= limit.first or count[int(of[place])] < limit.n
            for (limit, of), count in zip(values, counts, strict=True)
        ):
            return place
    return left[0]
