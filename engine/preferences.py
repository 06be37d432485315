"""What a query wants more of, beyond words and limits: the contract of everything that reads such wants.

"big fridge", "best phone for gaming", "latest foldable", "cheaper than S24": each is a ``Preference``, numbers by row
and a fact in words for every product that meets it. A ``PreferenceSource`` finds them once the route is known, for what
is big depends on what it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from engine.types import Mask, Scores
from engine.understanding.understand import Understood


@dataclass(frozen=True, slots=True, eq=False)
class Preference:
    """``text``, words of the query as read, asks for more of something.

    ``fit`` is float32 (n_products,), from 0 to 1: how well each product meets it, NaN where a product does not say,
    which neither wins nor falls behind. ``weight``, from 0 to 1, is what a whole fit adds to the score of the best hit,
    which is 1. ``orders`` says that it is a superlative: what is relevant enough is put in the order of ``fit``.
    ``fact`` tells of a row what meets the want, as the product says it ("refresh_rate_hz 120"), empty where it does
    not. ``reason`` says of the preference as a whole what was made of the words ("big: capacity_l, most first").
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

    ``rows``, bool (n_products,), is None where no type was chosen; then wants are relative to a product's own type.
    """

    rows: Mask | None
    names: tuple[str, ...] = ()


class PreferenceSource(Protocol):
    """Reads wants out of a query. Thread-safe; bound to one index."""

    def preferences(self, understood: Understood, scope: Scope) -> tuple[Preference, ...]:
        """In the order of the query's words; none where it has no such want. Never raises, whatever the text."""
        ...
