"""Times systems against each other: all in turn, round after round, so that the machine's drifts hit all alike."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from benchmarks.pairs import Ask, Products
from benchmarks.scorers import Aisle, Scorer, Split
from benchmarks.significance import bootstrap_interval

_PAUSE = 0.002  # seconds, in which the threads of the call before stop spinning


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to go on: every system gets ``rounds`` calls, and goes on until it has taken ``seconds``."""

    rounds: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Timed:
    """A system's calls of one kind, in the order in which all systems met them: seconds and multiply-adds of each."""

    scorer: Scorer
    candidates: int
    seconds: list[float] = field(default_factory=list)
    multiply_adds: list[float] = field(default_factory=list)

    def figures(self, peaks: Mapping[str, float]) -> dict[str, Any]:
        """Percentiles in ms, pairs a second, GOP/s (a multiply-add is two) and their share of the machine's peak."""
        p50, p95, p99 = np.percentile(self.seconds, [50, 95, 99]) * 1e3
        gops = 2 * sum(self.multiply_adds) / sum(self.seconds) / 1e9
        return {
            "system": self.scorer.name,
            "rounds": len(self.seconds),
            "latency_ms": {"p50": float(p50), "p95": float(p95), "p99": float(p99)},
            "pairs_per_second": self.candidates * len(self.seconds) / sum(self.seconds),
            "gops": gops,
            "share_of_peak": gops / peaks[self.scorer.numbers],
        }

    def speedup(self, baseline: Timed, seed: int) -> dict[str, Any]:
        """How many times as fast as the baseline: the geometric mean over common rounds, with its 95 % interval."""
        n = min(len(self.seconds), len(baseline.seconds))
        logs = np.log(baseline.seconds[:n]) - np.log(self.seconds[:n])
        low, high = bootstrap_interval(logs, seed)
        return {"speedup": float(np.exp(logs.mean())), "interval": [float(np.exp(low)), float(np.exp(high))]}


def in_turn(
    scorers: Sequence[Scorer], products: Products, threads: int, asked: Iterator[Ask], effort: Effort
) -> list[Timed]:
    """Every system over the same calls, each begun by another one, after one call to warm up."""
    ready = [scorer.over(products, threads) for scorer in scorers]
    first = next(asked)
    timed = [Timed(scorer, len(first.rows)) for scorer in scorers]
    for score in ready:
        score(first.query, first.rows)
    for number, ask in enumerate(asked):
        left = [
            place
            for place, of_system in enumerate(timed)
            if number < effort.rounds or sum(of_system.seconds) < effort.seconds
        ]
        if not left:
            break
        turn = number % len(left)
        for place in left[turn:] + left[:turn]:
            time.sleep(_PAUSE)
            began = time.perf_counter()
            ready[place](ask.query, ask.rows)
            timed[place].seconds.append(time.perf_counter() - began)
            timed[place].multiply_adds.append(timed[place].scorer.graph.multiply_adds(ask.lengths))
    return timed


def median_split(aisle: Aisle, products: Products, asked: Iterator[Ask], seconds: float) -> dict[str, float]:
    """Median ms of a call's parts, over one call or as many as fit into ``seconds``."""
    split, parts, until = aisle.splitting(products), list[Split](), time.perf_counter() + seconds
    for ask in asked:
        parts.append(split(ask.query, ask.rows)[0])
        if time.perf_counter() > until:
            break
    return {part.name: float(np.median([getattr(of_call, part.name) for of_call in parts])) for part in fields(Split)}
