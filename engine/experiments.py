"""Experiments on shoppers: who sees which of two searches, and two searches on one page.

What came of them is read from the log by ``benchmarks/experiments.py``.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace

from engine.errors import ConfigError
from engine.types import Hit, SearchResult


def arm_of(unit: str, experiment: str, shares: Mapping[str, float]) -> str:
    """The arm of a unit, a session or a shopper: the same one whenever, and in whatever process, it is asked.

    ``shares`` say which part of all units each arm gets; they add up to 1. Which arm a unit has in one experiment says
    nothing of the one it has in another. Raises ConfigError.
    """
    if not shares or any(share < 0 for share in shares.values()) or not math.isclose(sum(shares.values()), 1.0):
        raise ConfigError(f"the shares of {experiment!r} are {dict(shares)}; they must be 0 or more and add up to 1")
    digest = hashlib.blake2b(f"{experiment}\0{unit}".encode(errors="replace"), digest_size=8).digest()
    place = int.from_bytes(digest, "big") / 2**64
    for arm, share in shares.items():
        place -= share
        if place < 0:
            return arm
    return next(arm for arm, share in reversed(list(shares.items())) if share)  # what rounding leaves over


@dataclass(frozen=True, slots=True)
class Interleaved:
    """Two results on one page: ``hits`` with ranks of their own, and the team, "a" or "b", that each is of."""

    hits: tuple[Hit, ...]
    teams: tuple[str, ...]


def team_draft(a: SearchResult, b: SearchResult, k: int, seed: str) -> Interleaved:
    """The ``k`` best of two results by turns: in each round a coin says who picks first, and each picks its best that
    is not on the page yet.

    The same ``seed``, such as session and query, gives the same page. Radlinski, Kurup and Joachims 2008, "How Does
    Clickthrough Data Reflect Retrieval Quality?".
    """
    coin = random.Random(seed)
    left = {"a": list(a.hits), "b": list(b.hits)}
    taken: set[str] = set()
    picked: list[tuple[Hit, str]] = []
    while len(picked) < k and any(left.values()):
        for team in ("a", "b") if coin.random() < 0.5 else ("b", "a"):
            hits = left[team]
            while hits and hits[0].product.product_id in taken:
                hits.pop(0)
            if hits and len(picked) < k:
                hit = hits.pop(0)
                taken.add(hit.product.product_id)
                picked.append((hit, team))
    ranked = tuple(replace(hit, rank=rank) for rank, (hit, _) in enumerate(picked, 1))
    return Interleaved(ranked, tuple(team for _, team in picked))
