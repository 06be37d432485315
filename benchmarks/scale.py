"""What a catalog's size costs: building, loading, memory, searching, from thousands of products to a million.

The catalog is Icecat's and ESCI's products, varied (``benchmarks.scale_catalog`` says how, and where the vectors of a
million come from). For each size the index is built with 8-bit vectors, searched in four modes with and without
filters, and every kind of vector index is built of the same vectors and compared with the exact nearest.

    python -m benchmarks.scale --data DIR --sizes 20000,100000 --out scale.json --plot scale.png

Every step runs in a process of its own and is kept below ``--work`` once it is done: the same command goes on where it
was stopped. ``--again STEP`` forgets the steps whose names begin so, such as ``search`` or ``vectors-1000000``.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.data import DataError
from benchmarks.indexes import default_root, write_atomically
from benchmarks.machine import machine
from benchmarks.plot import draw_scale
from benchmarks.progress import Bars
from benchmarks.scale_catalog import Distance, moved_distance
from benchmarks.scale_steps import MODES, Built, Searched, Vectors, build, search, vectors
from engine.dense.vectors import choose_kind
from engine.errors import AisleError, ConfigError

S = TypeVar("S", Built, Searched, Vectors, Distance)

_KINDS = ("exact", "sq8", "hnsw", "ivf")
_DIM = 384
_MUCH_MEMORY = 1_000_000  # MB: so that ``auto`` chooses by the number of products alone


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """All of one size. ``front`` are the kinds of which none is better in time, recall and memory; ``auto`` is what the
    engine chooses where memory does not matter.
    """

    products: int
    build: Built
    search: dict[str, Searched]
    vectors: dict[str, Vectors]
    front: list[str]
    auto: str


class Steps:
    """Runs steps, or takes what they gave from where it is kept."""

    def __init__(self, directory: Path, again: Sequence[str], say: Callable[[str], None]) -> None:
        self._directory, self._again, self._say = directory, tuple(again), say
        directory.mkdir(parents=True, exist_ok=True)

    def __call__(self, name: str, kind: type[S], step: Callable[[], S]) -> S:
        """What ``step`` gives, run in a process of its own, or what is kept by that name."""
        path = self._directory / f"{name}.json"
        if path.exists() and not (self._again and name.startswith(self._again)):
            return msgspec.json.decode(path.read_bytes(), type=kind)
        self._say(f"{name} …")
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            result = pool.submit(step).result()
        write_atomically(path, msgspec.json.encode(result))
        return result


def run(
    data: Path, work: Path, sizes: Sequence[int], kinds: Sequence[str], n_queries: int, threads: int,
    steps: Steps, tick: Callable[[], None],
) -> tuple[Distance, list[Size]]:  # fmt: skip
    """Every step of every size, the smallest first."""
    distance = steps("texts", Distance, partial(moved_distance, data, work))
    found = []
    for n in sizes:
        built = steps(f"build-{n}", Built, partial(build, data, work, n, "sq8", threads))
        tick()
        searched = {}
        for mode in MODES:
            searched[mode] = steps(
                f"search-{n}-{mode}", Searched, partial(search, data, work, n, mode, n_queries, threads)
            )
            tick()
        by_kind = {}
        for kind in kinds:
            by_kind[kind] = steps(
                f"vectors-{n}-{kind}", Vectors, partial(vectors, data, work, n, kind, n_queries, threads)
            )
            tick()
        auto, _ = choose_kind(n, _DIM, _MUCH_MEMORY)
        found.append(Size(products=n, build=built, search=searched, vectors=by_kind, front=pareto(by_kind), auto=auto))
    return distance, found


def pareto(kinds: dict[str, Vectors]) -> list[str]:
    """The kinds to which no other is better in one of median time, recall of 200 and bytes, and as good in all."""
    costs = {name: (found.latency.cpu_p50, -found.recall_200, found.bytes) for name, found in kinds.items()}
    return [
        name
        for name, own in costs.items()
        if not any(other != own and all(b <= a for a, b in zip(own, other, strict=True)) for other in costs.values())
    ]


def show(console: Console, sizes: Sequence[Size]) -> None:
    """The figures as tables: seconds and milliseconds of processor time; where there are two, of the clock first."""
    searches = Table(
        "products", "build s", "peak MB", "index MB", "mode", "load s", "p50 ms", "p99 ms", "1 % / 10 % / 50 %",
        "resident MB",
    )  # fmt: skip
    kinds = Table(
        "products", "kind", "build s", "MB", "p50 ms", "p99 ms", "recall@10", "recall@200", "1 %", "10 %", "50 %", ""
    )
    for size in sizes:
        for mode, found in size.search.items():
            latency, built = found.latency, size.build
            searches.add_row(
                f"{size.products:,}", f"{built.cpu_seconds:.0f}", f"{built.peak_memory_mb:.0f}",
                f"{built.bytes / 1e6:.0f}", mode, f"{found.load.cpu:.1f}", _both(latency.p50, latency.cpu_p50),
                _both(latency.p99, latency.cpu_p99),
                " / ".join(f"{cut.cpu_p50:.1f}" for cut in found.filtered.values()),
                f"{found.memory_mb:.0f} ({found.own_memory_mb:.0f} its own)",
            )  # fmt: skip
        for kind, vectors_ in size.vectors.items():
            told = ["auto"] * (kind == size.auto) + ["front"] * (kind in size.front)
            kinds.add_row(
                f"{size.products:,}", kind, f"{vectors_.build.cpu:.0f}", f"{vectors_.bytes / 1e6:.0f}",
                f"{vectors_.latency.cpu_p50:.2f}", f"{vectors_.latency.cpu_p99:.2f}", f"{vectors_.recall_10:.3f}",
                f"{vectors_.recall_200:.3f}",
                *(f"{cut.cpu_p50:.2f} ms, {recall:.3f}" for cut, recall in vectors_.filtered.values()), ", ".join(told),
            )  # fmt: skip
    console.print(searches)
    console.print(kinds)


def _both(wall: float, cpu: float) -> str:
    return f"{wall:.1f} / {cpu:.1f}"


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("AISLE_DATA"), help="the sets' folder [AISLE_DATA]")
    parser.add_argument("--work", type=Path, default=default_root() / "scale", help="where indexes and steps are kept")
    parser.add_argument("--sizes", default="20000,100000,300000,1000000", help="products, by commas")
    parser.add_argument("--kinds", default=",".join(_KINDS), help="of vector indexes, by commas")
    parser.add_argument("--queries", type=int, default=300, help="that are timed in each mode")
    parser.add_argument("--threads", type=int, default=0, help="for builds and reranking; 0 for all cores")
    parser.add_argument("--again", action="append", default=[], metavar="STEP", help="run these steps anew")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--out", type=Path, help="a file for the figures")
    parser.add_argument("--plot", type=Path, help="a picture of time by the number of products")
    return parser.parse_args(given)


def _checked(arguments: argparse.Namespace) -> tuple[list[int], list[str]]:
    """Sizes and kinds. Raises ConfigError and DataError."""
    if arguments.data is None or not arguments.data.is_dir():
        raise DataError(f"--data is {arguments.data}; name the folder that has the sets icecat and esci")
    try:
        sizes = sorted({int(size) for size in arguments.sizes.split(",")})
    except ValueError as error:
        raise ConfigError(f"--sizes is {arguments.sizes!r}; write whole numbers, such as 20000,100000") from error
    kinds = list(dict.fromkeys(arguments.kinds.split(",")))
    if sizes[0] < 1000 or arguments.queries < 1:
        raise ConfigError(f"--sizes begins with {sizes[0]}, --queries is {arguments.queries}; 1000 and 1 are the least")
    if unknown := set(kinds) - set(_KINDS):
        raise ConfigError(f"--kinds has {min(unknown)!r}; there are {', '.join(_KINDS)}")
    return sizes, kinds


def main(given: Sequence[str] | None = None) -> int:
    arguments = _arguments(given)
    console = Console(stderr=True)
    try:
        sizes, kinds = _checked(arguments)
        with Bars(console) as bars, bars.counting("steps", len(sizes) * (1 + len(MODES) + len(kinds))) as tick:
            steps = Steps(arguments.work / "steps", arguments.again, bars.say)
            distance, found = run(
                arguments.data, arguments.work, sizes, kinds, arguments.queries, arguments.threads, steps, tick
            )
        report: dict[str, Any] = {"machine": machine(), "texts": distance, "sizes": found}
        text = msgspec.json.format(msgspec.json.encode(report))
        if arguments.out:
            write_atomically(arguments.out, text)
        if arguments.plot:
            draw_scale([msgspec.to_builtins(size) for size in found], arguments.plot)
    except AisleError as error:
        console.print(f"error: {error}", markup=False, style="red")
        return 1
    if arguments.json:
        print(text.decode())
    else:
        show(Console(width=180), found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
