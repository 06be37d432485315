"""The steps of ``benchmarks.scale``, each in a process of its own, so that its memory is its own."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.data import load_set
from benchmarks.indexes import peak_memory_mb
from benchmarks.progress import Bars
from benchmarks.scale_catalog import SETS, MovedVectors, VariedCatalog
from benchmarks.systems import UNGUIDED
from engine import EngineConfig, IndexConfig, Range, SearchConfig, SearchEngine
from engine.builder import build_index
from engine.dense.vectors import Kind, VectorIndex
from engine.types import Mask, Rows

T = TypeVar("T")

WARM_UP = 20  # queries before any that is timed
DEPTH = 200  # neighbours looked for, as hybrid search does
SHARES = (0.01, 0.1, 0.5)  # of the catalog that filters leave
#: What a mode is searched with, beside the index's own settings.
MODES: dict[str, dict[str, Any]] = {
    "lexical": {"retrievers": ("lexical",), "rerank_depth": 0, "needs": "", **UNGUIDED},
    "hybrid": {"rerank_depth": 0, "needs": "", **UNGUIDED},
    "guided": {"rerank_depth": 0},
    "default": {},
}
_PRICED = 20_000  # products whose prices tell where a filter cuts
_SLICE = 20_000


class Latency(msgspec.Struct, frozen=True):
    """Of ``n`` queries, one after the other, in ms: what passed, and, ``cpu``, the processor time of all threads.

    On a machine that does other things as well the second is what counts; on an idle one a search of one thread takes
    as long as its processor time.
    """

    n: int
    p50: float
    p95: float
    p99: float
    cpu_p50: float
    cpu_p99: float

    @classmethod
    def of(cls, took: Sequence[Took]) -> Latency:
        wall, cpu = [1e3 * one.wall for one in took], [1e3 * one.cpu for one in took]
        return cls(
            len(took), *(float(np.percentile(wall, q)) for q in (50, 95, 99)),
            *(float(np.percentile(cpu, q)) for q in (50, 99)),
        )  # fmt: skip


class Took(NamedTuple):
    """Seconds that passed, and seconds of all threads' processor time."""

    wall: float
    cpu: float


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """What a build took. ``bytes`` is the index on disk; ``stages`` are seconds from the start, by what began then."""

    products: int
    seconds: float
    cpu_seconds: float
    peak_memory_mb: float
    bytes: int
    dense_kind: str
    stages: dict[str, float]


class Searched(msgspec.Struct, frozen=True, kw_only=True):
    """Searches of one mode. ``load`` is without and ``verified_load`` with reading every file for its checksum;
    ``memory_mb`` is what was resident at the end, ``own_memory_mb`` that of it which no file backs. ``stages`` are
    median ms; ``filtered`` are by the share of products that a filter leaves.
    """

    load: Took
    verified_load: Took
    memory_mb: float
    own_memory_mb: float
    latency: Latency
    filtered: dict[str, Latency]
    stages: dict[str, float]


class Vectors(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of vector index. ``recall`` is of the exact nearest 10 and 200; ``filtered`` as of ``Searched``, with
    the recall of the nearest 10 among what the filter leaves.
    """

    build: Took
    bytes: int
    latency: Latency
    recall_10: float
    recall_200: float
    filtered: dict[str, tuple[Latency, float]]


def queries(data: Path, n: int) -> list[str]:
    """``WARM_UP`` and ``n`` queries in a seeded order: the sets' dev splits' and real ones that nobody judged.

    Raises DataError.
    """
    found = [text for name in SETS for text in load_set(name, "dev", data).queries.values()]
    path = data / "esci_pairs" / "unlabelled_queries.tsv"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found += [query for query, _, locale in (line.partition("\t") for line in lines) if locale == "us"]
    order = np.random.default_rng(7).permutation(len(found))
    return [found[place] for place in order[: WARM_UP + n]]


def build(data: Path, work: Path, n: int, kind: str, threads: int) -> Built:
    """Builds the index of ``n`` products below ``work``."""
    with Bars(Console(stderr=True)) as bars:
        catalog, encoder = _opened(data, work, bars)
        target, stages = index_directory(work, n), dict[str, float]()
        started, cpu = time.perf_counter(), time.process_time()

        def progress(stage: str, done: int, total: int | None) -> None:
            stages.setdefault(stage, time.perf_counter() - started)
            bars.report(stage, done, total)

        config = EngineConfig(index=IndexConfig(dense_index=cast("Any", kind)), search=SearchConfig(threads=threads))
        shutil.rmtree(target, ignore_errors=True)
        build_index(catalog.products(n), target, config, encoder=encoder, progress=progress)
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    files = [path for path in target.rglob("*") if path.is_file()]
    return Built(
        products=n, seconds=seconds, cpu_seconds=cpu, peak_memory_mb=peak_memory_mb(),
        bytes=sum(path.stat().st_size for path in files), dense_kind=_kind_of(target), stages=stages,
    )  # fmt: skip


def search(data: Path, work: Path, n: int, mode: str, n_queries: int, threads: int) -> Searched:
    """Searches the index in a mode, after some queries that are not timed."""
    config, target = SearchConfig(threads=threads, **MODES[mode]), index_directory(work, n)
    verified, _ = _timed(lambda: SearchEngine.load(target, config))
    load, engine = _timed(lambda: SearchEngine.load(target, config, verify=False))
    asked = queries(data, n_queries)
    for query in asked[:WARM_UP]:
        engine.search(query)
    results = [_timed(partial(engine.search, query)) for query in asked[WARM_UP:]]
    stages: dict[str, list[float]] = {}
    for _, result in results:
        for stage in result.stages:
            if stage.status == "ran":
                stages.setdefault(stage.stage, []).append(stage.elapsed_ms)
    filtered = {}
    for share, most in price_filters(data).items():
        engine.search(asked[0], filters=[Range("price", None, most)])
        took = [_timed(partial(engine.search, q, filters=[Range("price", None, most)]))[0] for q in asked[WARM_UP:]]
        filtered[f"{share:g}"] = Latency.of(took)
    resident, own = memory_mb()
    return Searched(
        load=load, verified_load=verified, memory_mb=resident, own_memory_mb=own,
        latency=Latency.of([took for took, _ in results]), filtered=filtered,
        stages={stage: float(np.median(took)) for stage, took in stages.items()},
    )  # fmt: skip


def vectors(data: Path, work: Path, n: int, kind: str, n_queries: int, threads: int) -> Vectors:
    """Builds one kind of vector index of ``n`` products, and compares what it finds with the exact nearest."""
    with Bars(Console(stderr=True)) as bars:
        _, encoder = _opened(data, work, bars)
        asked = encoder.encode_queries(queries(data, n_queries))
        directory = work / f"vectors-{n}-{kind}"
        directory.mkdir(parents=True, exist_ok=True)
        with _written(encoder, n, work) as stored:
            exact = {share: nearest(stored, asked, share) for share in (1.0, *SHARES)}
            built, index = _timed(lambda: VectorIndex.build(directory, stored, cast("Kind", kind), threads))
    found: dict[float, list[Rows]] = {}
    took: dict[float, list[Took]] = {}
    for share in (1.0, *SHARES):
        allowed = every(n, share)
        runs = [_timed(partial(index.search, vector, DEPTH, allowed)) for vector in asked]
        took[share] = [time_ for time_, _ in runs[WARM_UP:]]
        found[share] = [candidates.rows for _, candidates in runs]
    size = sum(path.stat().st_size for path in directory.iterdir())
    shutil.rmtree(directory)
    return Vectors(
        build=built, bytes=size, latency=Latency.of(took[1.0]),
        recall_10=_recall(exact[1.0], found[1.0], 10), recall_200=_recall(exact[1.0], found[1.0], DEPTH),
        filtered={f"{s:g}": (Latency.of(took[s]), _recall(exact[s], found[s], 10)) for s in SHARES},
    )  # fmt: skip


def nearest(stored: NDArray[np.float32], asked: NDArray[np.float32], share: float) -> list[Rows]:
    """For each query the exact nearest ``DEPTH`` rows of a share of them, the nearest first; reads in slices."""
    allowed = every(len(stored), share)
    best = [(np.empty(0, np.float32), np.empty(0, np.int64))] * len(asked)
    for start in range(0, len(stored), _SLICE):
        rows = np.arange(start, min(start + _SLICE, len(stored)))
        rows = rows if allowed is None else rows[allowed[rows]]
        if not len(rows):
            continue
        cosines = stored[rows] @ asked.T
        for place in range(len(asked)):
            scores = np.concatenate([best[place][0], cosines[:, place]])
            both = np.concatenate([best[place][1], rows])
            kept = np.argsort(-scores, kind="stable")[:DEPTH]
            best[place] = scores[kept], both[kept]
    return [rows for _, rows in best]


def every(n: int, share: float) -> Mask | None:
    """A mask that leaves a share of ``n`` rows, one in so many; None for all."""
    if share == 1.0:
        return None
    mask = np.zeros(n, np.bool_)
    mask[:: round(1 / share)] = True
    return mask


def price_filters(data: Path) -> dict[float, float]:
    """The price up to which each share of the catalog goes; those without a price are beyond any."""
    catalog = VariedCatalog(data)
    rows = np.random.default_rng(7).integers(0, 10 * catalog.n_real, _PRICED)
    prices = [catalog.product(row).price for row in rows.tolist()]
    known = np.sort(np.array([np.inf if price is None else price for price in prices]))
    return {share: float(known[int(share * len(known))]) for share in SHARES}


def index_directory(work: Path, n: int) -> Path:
    return work / f"index-{n}"


def memory_mb() -> tuple[float, float]:
    """What this process holds in memory, and what of it no file backs. Linux only."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    resident, own = (int(fields[name].split()[0]) * 1024 / 1e6 for name in ("VmRSS", "RssAnon"))
    return resident, own


def _recall(exact: Sequence[Rows], found: Sequence[Rows], k: int) -> float:
    return float(
        np.mean([len(np.intersect1d(a[:k], b[:k])) / max(min(k, len(a)), 1) for a, b in zip(exact, found, strict=True)])
    )


def _opened(data: Path, work: Path, bars: Bars) -> tuple[VariedCatalog, MovedVectors]:
    work.mkdir(parents=True, exist_ok=True)
    catalog = VariedCatalog(data)
    return catalog, MovedVectors(catalog, work, partial(bars.report, "texts"))


@contextmanager
def _written(encoder: MovedVectors, n: int, work: Path) -> Iterator[NDArray[np.float32]]:
    """The vectors of ``n`` products, float32 (n, dim), on the disk for as long as the block runs."""
    path = work / f"vectors-{n}-{os.getpid()}.tmp"
    stored = np.memmap(path, np.float32, "w+", shape=(n, encoder.dim))
    try:
        for start in range(0, n, _SLICE):
            rows = np.arange(start, min(start + _SLICE, n))
            stored[rows] = encoder.vectors(rows)
        yield stored
    finally:
        path.unlink()


def _kind_of(index: Path) -> str:
    return SearchEngine.load(index, SearchConfig(rerank_depth=0), verify=False).manifest.dense_kind


def _timed(call: Callable[[], T]) -> tuple[Took, T]:
    started, cpu = time.perf_counter(), time.process_time()
    result = call()
    return Took(time.perf_counter() - started, time.process_time() - cpu), result
