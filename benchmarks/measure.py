"""Runs one system over one set and measures it, one query after another on one thread."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle

import numpy as np

from benchmarks.data import SearchSet
from benchmarks.indexes import Build, Workbench, peak_memory_mb
from benchmarks.metrics import PerQuery, Ranking, evaluate
from benchmarks.systems import factory
from engine.errors import AisleError

_WARM_UP_WORDS = 5


class BrokenSystemError(AisleError):
    """A system gave a ranking that breaks its contract."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One system's rankings and figures. ``latencies`` are in ms; ``stages`` are median ms of those that ran."""

    name: str
    rankings: dict[str, Ranking] = field(repr=False)
    per_query: PerQuery = field(repr=False)
    latencies: list[float] = field(repr=False)
    stages: dict[str, float]
    degraded: list[str]
    build: Build
    peak_memory_mb: float

    @property
    def latency_ms(self) -> dict[str, float]:
        p50, p95, p99 = np.percentile(self.latencies, [50, 95, 99])
        return {"p50": float(p50), "p95": float(p95), "p99": float(p99)}


def measure(
    name: str, bench: Workbench, search_set: SearchSet, *, k: int, pool: bool, warm_up: Sequence[str],
    tick: Callable[[], None] = lambda: None,
) -> Measured:  # fmt: skip
    """Makes the system, searches ``warm_up`` texts untimed, then every query, timed, and evaluates.

    A query is timed when its text is met for the first time, so no cache of embeddings or analyses answers for it.
    ``pool`` ranks only the products judged for the query. Raises BrokenSystemError.
    """
    started = time.perf_counter()
    system = factory(name)(bench)
    took = time.perf_counter() - started
    for text, grades in zip(warm_up, cycle(search_set.qrels.values()), strict=False):
        system.rank(text, k, grades.keys() if pool else None)
    rankings: dict[str, Ranking] = {}
    latencies: dict[str, float] = {}
    stages: dict[str, list[float]] = defaultdict(list)
    degraded: list[str] = []
    for query_id, query in search_set.queries.items():
        allowed = search_set.qrels[query_id].keys() if pool else None
        started = time.perf_counter()
        ranking = system.rank(query, k, allowed)
        latencies.setdefault(query, (time.perf_counter() - started) * 1e3)
        rankings[query_id] = _checked(name, query_id, ranking, k, allowed)
        for stage in getattr(getattr(system, "last", None), "stages", ()):
            if stage.status == "ran":
                stages[stage.stage].append(stage.elapsed_ms)
            elif stage.status == "degraded":
                degraded.append(f"{query_id}: {stage.stage}: {stage.note}")
        tick()
    build = getattr(system, "build", None) or Build(
        products=sum(1 for _ in bench.products()), seconds=took, bytes=None, peak_memory_mb=peak_memory_mb()
    )
    values = evaluate(search_set.qrels, rankings, search_set.grading)
    median_stages = {stage: float(np.median(ms)) for stage, ms in stages.items()}
    return Measured(
        name, rankings, values, list(latencies.values()), median_stages, degraded, build, peak_memory_mb()
    )  # fmt: skip


def warm_up_texts(titles: Sequence[str], queries: SearchSet, n: int) -> list[str]:
    """``n`` texts to warm up with: the first words of titles from all over the catalog, no query of the set."""
    asked = set(queries.queries.values())
    step = max(1, len(titles) // n)
    texts = (" ".join(title.split()[:_WARM_UP_WORDS]) for title in titles[::step])
    return [text for text in texts if text not in asked][:n]


def _checked(name: str, query_id: str, ranking: Ranking, k: int, allowed: object) -> Ranking:
    ids = [product_id for product_id, _ in ranking]
    problem = ""
    if len(ids) > k:
        problem = f"{len(ids)} products for k={k}"
    elif len(set(ids)) < len(ids):
        problem = "a product twice"
    elif not np.isfinite([score for _, score in ranking]).all():
        problem = "a score that is no finite number"
    elif allowed is not None and not set(ids) <= set(allowed):  # type: ignore[call-overload]
        problem = "a product that was not allowed"
    if problem:
        raise BrokenSystemError(f"system {name!r}, query {query_id!r}: its ranking has {problem}")
    return ranking
