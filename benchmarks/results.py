"""The result of a run, as JSON, and TREC run files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.data import SearchSet
from benchmarks.indexes import write_atomically
from benchmarks.measure import Measured
from benchmarks.metrics import NDCG, RECALL, Ranking, means, strictly_decreasing
from benchmarks.significance import bootstrap_interval, compare_all

COMPARED = (NDCG, RECALL)


def assemble(search_set: SearchSet, measured: Sequence[Measured], seed: int, about: dict[str, Any]) -> dict[str, Any]:
    """The result as plain values: the set, every system, every comparison, then what ``about`` adds."""
    compared = {m.name: m.per_query for m in measured}
    return {
        "set": search_set.name,
        "split": search_set.split,
        "systems": {m.name: _system(m, seed) for m in measured},
        "comparisons": [asdict(comparison) for comparison in compare_all(compared, COMPARED, seed)],
        "n_queries": len(search_set.queries),
        "n_queries_not_judged": search_set.n_not_judged,
        "n_judged_not_asked": search_set.n_not_asked,
        "n_judgments": sum(map(len, search_set.qrels.values())),
        "relevant_from": search_set.grading.relevant,
        "gains": search_set.grading.gains,
        "seed": seed,
        **about,
    }


def _system(measured: Measured, seed: int) -> dict[str, Any]:
    intervals = {
        name: bootstrap_interval(np.array(list(values.values())), seed) for name, values in measured.per_query.items()
    }
    per_query = {
        query_id: {name: values[query_id] for name, values in measured.per_query.items()}
        for query_id in measured.rankings
    }
    return {
        "metrics": means(measured.per_query),
        "intervals": intervals,
        "latency_ms": measured.latency_ms,
        "stages_ms": measured.stages,
        "build": {**msgspec.to_builtins(measured.build), "products_per_second": measured.build.products_per_second},
        "peak_memory_mb": measured.peak_memory_mb,
        "n_empty": sum(not ranking for ranking in measured.rankings.values()),
        "degraded": measured.degraded,
        "per_query": per_query,
    }


def write_result(path: Path, result: dict[str, Any]) -> None:
    write_atomically(path, msgspec.json.format(msgspec.json.encode(result)) + b"\n")


def write_run(folder: Path, name: str, rankings: dict[str, Ranking]) -> Path:
    """A TREC run file: ``query_id Q0 product_id rank score system``, ranks from 1, scores strictly decreasing."""
    tag = file_name(name)
    lines = [
        f"{query_id} Q0 {product_id} {rank} {score:.9g} {tag}\n"
        for query_id, ranking in rankings.items()
        for rank, (product_id, score) in enumerate(strictly_decreasing(ranking), 1)
    ]
    path = folder / f"{tag}.run"
    write_atomically(path, "".join(lines).encode())
    return path


def file_name(name: str) -> str:
    """A system's name without characters that files or run columns cannot hold."""
    return re.sub(r"[^\w.+-]+", "-", name)
