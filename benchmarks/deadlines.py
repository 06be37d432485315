"""How well a deadline is kept while every core searches."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from benchmarks.indexes import Workbench
from engine.config import available_cores

_LATE = 10.0  # ms, which a deadline may be missed by at p99


def kept(
    bench: Workbench, queries: Sequence[str], deadline_ms: float, warm_up: Sequence[str], tick: Callable[[], None]
) -> dict[str, Any]:
    """Searches all queries by the deadline, on as many threads as there are cores, after ``warm_up`` without one.

    The engine is loaded for it, so that no score is in its cache. ``late_ms`` are percentiles of how long after the
    deadline a search came back, below 0 before it; ``scored`` is the mean share of the candidates that were scored.
    """
    engine, _ = bench.engine(bench.config)
    for query in warm_up:
        engine.search(query)

    def search(query: str) -> tuple[float, list[float]]:
        began = time.perf_counter()
        result = engine.search(query, deadline_ms=deadline_ms)
        late = (time.perf_counter() - began) * 1e3 - deadline_ms
        tick()
        reranked = (stage for stage in result.stages if stage.stage == "rerank" and stage.status != "skipped")
        return late, [stage.n_out / stage.n_in for stage in reranked]

    threads = available_cores()
    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(search, queries))
    late = np.array([ms for ms, _ in found])
    shares = [share for _, of_search in found for share in of_search]
    p50, p99 = np.percentile(late, [50, 99])
    return {
        "deadline_ms": deadline_ms,
        "searches": len(late),
        "threads": threads,
        "late_ms": {"p50": float(p50), "p99": float(p99), "max": float(late.max())},
        "kept_within_10_ms": float((late <= _LATE).mean()),
        "scored": float(np.mean(shares)) if shares else 0.0,
    }
