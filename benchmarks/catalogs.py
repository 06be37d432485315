"""Catalogs that settings are tried on: their queries, their index opened for trying, and what a trial is worth.

Each catalog may have a process of its own, so that all are searched at once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from types import TracebackType

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.data import SearchSet, load_set
from benchmarks.indexes import Workbench
from benchmarks.metrics import JUDGED, JUDGED_ONLY, NDCG, RECALL, QuickJudge
from benchmarks.replay import ReplayEngine, Settings
from engine.builder import open_reranker
from engine.config import EngineConfig, SearchConfig
from engine.errors import ConfigError

DEPTH = 100  # products ranked for each query
_RECALL_WEIGHT = 0.5
_SPARSE = 0.8  # share of the best ten that was judged, below which plain nDCG mostly tells who was judged
_STAGES = ("lexical", "dense", "fusion", "feedback", "rerank", "final")  # those that every query goes through
_SOURCE = re.compile(r"([^:@]+):([^:@]+)(?:@(\d+))?")

#: Metric to a figure for each query, float64 (n_queries,).
Figures = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Source:
    """Splits of a set, whose queries count as one; ``n`` of them are drawn, all where it is None."""

    name: str
    splits: tuple[str, ...]
    n: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a process needs to open a catalog. The index has no reranker; ``reranker`` is opened on ``tokens``."""

    found: SearchSet
    directory: Path
    search: SearchConfig
    reranker: str
    tokens: Path


def parse_sources(text: str) -> list[Source]:
    """The sources in ``SET:SPLIT[+SPLIT…][@N],…``. Raises ConfigError."""
    found = []
    for entry in filter(None, map(str.strip, text.split(","))):
        match = _SOURCE.fullmatch(entry)
        if not match:
            raise ConfigError(f"--sets has {entry!r}; write SET:SPLIT, SET:SPLIT+SPLIT or either with @N")
        found.append(Source(match[1], tuple(match[2].split("+")), int(match[3]) if match[3] else None))
    names = [source.name for source in found]
    if len(names) < 2 or len(set(names)) < len(names):
        raise ConfigError(f"--sets names {', '.join(names) or 'nothing'}; name two or more sets, each once")
    return found


def read_source(source: Source, data: Path | None, seed: int) -> SearchSet:
    """The queries of all its splits as one set, or a seeded draw of them. Raises DataError."""
    parts = [load_set(source.name, split, data) for split in source.splits]
    queries = {query_id: text for part in parts for query_id, text in part.queries.items()}
    ids = list(queries)
    if source.n is not None and source.n < len(ids):
        ids = [ids[i] for i in sorted(np.random.default_rng(seed).choice(len(ids), source.n, replace=False))]
    qrels = {query_id: grades for part in parts for query_id, grades in part.qrels.items()}
    return replace(
        parts[0], split="+".join(source.splits), queries={i: queries[i] for i in ids}, qrels={i: qrels[i] for i in ids}
    )


def plan(found: SearchSet, bench: Workbench, tokens: Path) -> Plan:
    """Builds the catalog's index where it is not kept, and in ``tokens``, an empty folder, what the reranker reads.

    That lies apart from the index, which would otherwise be built anew for every reranker.
    """
    config = bench.config
    bare = EngineConfig(index=msgspec.structs.replace(config.index, reranker=""), search=config.search)
    whole = msgspec.structs.replace(
        config.search, retrievers=("lexical", "dense"), rerank_depth=0, route_weight=1.0, threads=1
    )
    if reranker := open_reranker(config.index.reranker):
        reranker.build(tokens, bench.products())
    return Plan(found, bench.index(bare)[0], whole, config.index.reranker, tokens)


def objective(figures: Figures, sparse: bool) -> NDArray[np.float64]:
    """nDCG@10 + 0.5 · R@100 for each query; where judgments are sparse, nDCG@10 of the judged products counts half."""
    quality = (figures[NDCG] + figures[JUDGED_ONLY]) / 2 if sparse else figures[NDCG]
    return quality + _RECALL_WEIGHT * figures[RECALL]


def is_sparse(figures: Figures) -> bool:
    return float(figures[JUDGED].mean()) < _SPARSE


class Catalog:
    """One catalog, opened."""

    def __init__(self, plan: Plan) -> None:
        self._engine = ReplayEngine.load(plan.directory, plan.search, verify=False)
        self._queries = list(plan.found.queries.values())
        self._judged = list(plan.found.qrels.values())
        self._judge = QuickJudge(plan.found.qrels, plan.found.grading)
        if reranker := open_reranker(plan.reranker):
            self._engine.rerank_with(reranker.open(plan.tokens, 1))

    def measure(self, settings: Settings) -> Figures:
        """Of whole rankings with these settings."""
        engine = self._engine.trying(settings)
        ids = engine.product_ids
        rankings = [engine.rank(query, DEPTH).final.rows[:DEPTH] for query in self._queries]
        return self._judge.judge([[ids[row] for row in rows.tolist()] for rows in rankings])

    def stages(self, settings: Settings) -> Figures:
        """nDCG@10 of the judged products alone, in the order of each stage by itself and in the final one."""
        engine = self._engine.trying(settings)
        rows = {product_id: row for row, product_id in enumerate(engine.product_ids)}
        orders: dict[str, list[list[str]]] = {}
        for place, (query, grades) in enumerate(zip(self._queries, self._judged, strict=True)):
            allowed = np.zeros(len(rows), np.bool_)
            allowed[[rows[i] for i in grades if i in rows]] = True
            ranking = engine.rank(query, 1, allowed)
            for stage, found in (*ranking.stages, ("final", ranking.final)):
                if stage not in _STAGES:
                    continue
                of_stage = orders.setdefault(stage, [[] for _ in self._queries])
                of_stage[place] = [engine.product_ids[row] for row in found.rows.tolist()]
        return {stage: self._judge.judge(of_stage)[NDCG] for stage, of_stage in orders.items()}


class Catalogs:
    """All catalogs by name, each in its own process, or all in this one. A context manager."""

    def __init__(self, plans: dict[str, Plan], processes: bool) -> None:
        self.names = list(plans)
        self._here: dict[str, Catalog] = {} if processes else {name: Catalog(plan) for name, plan in plans.items()}
        context = get_context("spawn")  # a fork would share the models' threads
        self._pools: dict[str, Executor] = {
            name: ProcessPoolExecutor(1, context, _open, (plan,)) for name, plan in plans.items() if processes
        }

    def __enter__(self) -> Catalogs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with ExitStack() as stack:
            for pool in self._pools.values():
                stack.callback(pool.shutdown, cancel_futures=True)

    def measure(self, asked: Sequence[tuple[str, Settings]]) -> list[Figures]:
        """The figures of each (catalog, settings), in order."""
        if self._here:
            return [self._here[name].measure(settings) for name, settings in asked]
        futures = [self._pools[name].submit(_measure, settings) for name, settings in asked]
        return [future.result() for future in futures]

    def stages(self, settings: Settings) -> dict[str, Figures]:
        """For each catalog, ``Catalog.stages``."""
        if self._here:
            return {name: catalog.stages(settings) for name, catalog in self._here.items()}
        futures = {name: pool.submit(_stages, settings) for name, pool in self._pools.items()}
        return {name: future.result() for name, future in futures.items()}


_opened: list[Catalog] = []  # of a process of its own: its catalog


def _open(plan: Plan) -> None:
    _opened.append(Catalog(plan))


def _measure(settings: Settings) -> Figures:
    return _opened[0].measure(settings)


def _stages(settings: Settings) -> Figures:
    return _opened[0].stages(settings)
