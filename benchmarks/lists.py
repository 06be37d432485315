"""How long rerankers of lists take beside the cross-encoder, in turns, on one thread: one part of a latency profile."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.significance import bootstrap_interval
from engine.product import Product
from engine.seams import ListModel, Reranker
from ranking.cross_encoder import CrossEncoderModel
from ranking.lists import named
from ranking.listwise.reranker import ListwiseModel
from ranking.listwise.settings import ListwiseSettings

ONE_PASS, LISTWISE = "onepass", "listwise"
_READINGS = ("first-token", "permutation", "yes-no")
_WARM_UPS = 1


def time_lists(
    model: CrossEncoderModel, lists: Mapping[str, Path], products: Sequence[Product], queries: Sequence[str],
    candidates: Sequence[int], rounds: int, seed: int, say: Callable[[str], None] = lambda _: None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Milliseconds of a call without a deadline, of ``rounds`` queries nobody asked before: the median, with its 95 %
    bootstrap interval, by system and number of candidates; and what of it was computing, which a busy machine changes
    little. A language model is read in all three ways, one window.
    """
    draw = np.random.default_rng(seed)
    out = []
    with tempfile.TemporaryDirectory(prefix="aisle-lists-") as folder:
        model.build(Path(folder), products)
        for n in candidates:
            systems = _systems(model, Path(folder), lists, products, n)
            times: dict[str, list[tuple[float, float]]] = {name: [] for name in systems}
            for query in queries[: rounds + _WARM_UPS]:
                rows = draw.choice(len(products), n, replace=False)
                for name, system in systems.items():
                    began = time.perf_counter(), time.process_time()
                    system.score(query, rows, None)
                    ended = time.perf_counter(), time.process_time()
                    times[name].append(((ended[0] - began[0]) * 1e3, (ended[1] - began[1]) * 1e3))
            for name, found in times.items():
                kept, cpu = np.array(found[_WARM_UPS:]).T
                out.append({
                    "system": name, "candidates": n, "rounds": len(kept), "ms_p50": float(np.median(kept)),
                    "interval": list(bootstrap_interval(kept, seed)), "cpu_ms_p50": float(np.median(cpu)),
                })  # fmt: skip
                say(f"{name}, {n} candidates: {np.median(kept):.1f} ms, {np.median(cpu):.1f} of them computing")
    return out


def _systems(
    model: CrossEncoderModel, folder: Path, lists: Mapping[str, Path], products: Sequence[Product], n: int
) -> dict[str, Reranker]:
    def opened(wanted: ListModel) -> Reranker:
        return wanted.open(lambda rows: [products[row] for row in rows], None, 1)

    systems: dict[str, Reranker] = {"cross-encoder": model.open(folder, 1)}
    if ONE_PASS in lists:
        systems["one-pass"] = opened(named(str(lists[ONE_PASS])))
    if LISTWISE in lists:
        once = msgspec.structs.replace(ListwiseSettings.read(lists[LISTWISE]).defence, shuffled=False)
        for reading in _READINGS:
            changes = {"reading": reading, "window": n, "depth": n, "defence": once, "token_ceiling": 1_000_000}
            systems[f"listwise, {reading}"] = opened(ListwiseModel(lists[LISTWISE], **changes))
    return systems
