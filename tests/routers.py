"""A router by rule: a query's last known word says which kind of synthetic product it asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from engine.errors import IndexCorruptError
from engine.product import Product
from engine.types import Candidates, RouteAction, Routed, TypeProbability

_WORDS = {"phone": "Phones", "fridge": "Refrigerators", "tv": "Televisions", "case": "Cases"}
_ROWS = "rows.json"


class RuledRouter:
    """A router, and the model it comes from. ``action`` is what it says of a query that has a known word, and
    ``probability`` how sure it is of its type. ``broken`` makes it fail, and ``asked`` is what it was asked.
    """

    fingerprint = "ruled"

    def __init__(self, action: RouteAction = "filter", probability: float = 0.9) -> None:
        self.action, self.probability = action, probability
        self.broken = False
        self.asked: list[str] = []
        self._of_rows: list[str] = []

    def build(self, directory: Path, products: Iterable[Product], vectors: Any, encoder: Any) -> str:
        kinds = [product.category[-1] for product in products]
        assert vectors.shape == (len(kinds), encoder.dim)
        (directory / _ROWS).write_bytes(msgspec.json.encode(kinds))
        return "ruled"

    def open(self, directory: Path) -> RuledRouter:
        try:
            self._of_rows = msgspec.json.decode((directory / _ROWS).read_bytes(), type=list[str])
        except (OSError, msgspec.MsgspecError) as error:
            raise IndexCorruptError(f"{directory}: {error}") from error
        return self

    def route(self, query: str, vector: np.ndarray) -> Routed:
        self.asked.append(query)
        if self.broken:
            raise RuntimeError("the router is gone")
        wanted = [_WORDS[word] for word in query.lower().split() if word in _WORDS]
        if not wanted or self.action == "none":
            return Routed((), "none", (), "no type is named")
        rest = (1 - self.probability) / 3
        shares = {kind: self.probability if kind == wanted[-1] else rest for kind in _WORDS.values()}
        told = [TypeProbability(kind, kind, share) for kind, share in shares.items()]
        told.sort(key=lambda found: -found.probability)
        fit = np.array([shares[kind] for kind in self._of_rows], np.float32)
        inside = np.array([kind == wanted[-1] for kind in self._of_rows]) if self.action == "filter" else None
        reason = f"{wanted[-1]} is named"
        return Routed(tuple(told), self.action, (told[0],), reason, fit, inside, self._named(wanted[-1]))

    def _named(self, wanted: str) -> Callable[[int], str]:
        return lambda row: wanted if self._of_rows[row] == wanted else ""


class LookingRouter(RuledRouter):
    """One that takes a query for another once it has seen what was found: for the first of ``then`` at its first look
    in a search, and so on, as often as it may. ``found`` is what it has seen.
    """

    def __init__(self, *then: str, action: RouteAction = "filter") -> None:
        super().__init__(action)
        self.then = then
        self.found: list[Candidates] = []

    def route(self, query: str, vector: np.ndarray) -> Routed:
        self.found = []
        return replace(super().route(query, vector), revise=self._revise)

    def _revise(self, found: Candidates) -> Routed:
        self.found.append(found)
        said = super().route(self.then[len(self.found) - 1], np.empty(0, np.float32))
        return replace(said, revise=self._revise)
