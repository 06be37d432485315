"""What the choice of a fine-tuning method costs and brings: the same data, the same steps, every method.

    python benchmarks/methods.py --data DATA

A reranker begins as one that has learnt the other set, an encoder as the stock model; each is then trained on one set
and judged on its dev queries, and on those of the other set for what it has forgotten. Each method takes the learning
rate, of three, that is best on a share of the training queries. Every run is a process of its own, so that its memory
can be told; runs that are there already are not repeated.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that it runs from anywhere without being installed

from benchmarks.indexes import write_atomically
from benchmarks.machine import machine
from benchmarks.method_runs import OTHER, RATES, STOCK, Job, Measured, run, write_sets
from benchmarks.plot import draw_methods
from benchmarks.significance import Values, bootstrap_interval, permutation_p

_DEV = "dev"  # of product types, which have no other set
_LEARNT = {"reranker": 120}  # steps that a reranker has learnt the other set before it is fine-tuned
_RATE = 1.5e-4
_MEMORY_STEPS = 6
#: Has the C library give back at once what is freed, so that memory held is memory in use.
_OWN_PAGES = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_TOP_PAD_": "0"}
_WIDTH = 150  # characters

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    data: Annotated[Path, typer.Option(envvar="AISLE_DATA", help="The folder of the search sets.")],
    out: Annotated[Path, typer.Option(help="Where runs are kept, and the result as JSON and PNG.")] = Path(
        "results/methods"
    ),
    tasks: Annotated[str, typer.Option(help="Which, comma-separated.")] = "reranker,encoder,types",
    methods: Annotated[str, typer.Option(help="Which, comma-separated.")] = ",".join(RATES),
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each method, but for types, which have one.")] = 3,
    steps: Annotated[int, typer.Option(min=1, help="Of every run.")] = 60,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time, each on one thread.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Compare fine-tuning methods. It needs the extras train and bench, and some hours of two cores.

    Example: python benchmarks/methods.py --data DATA --tasks reranker --methods full,lora --seeds 1 --steps 20
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    out.mkdir(parents=True, exist_ok=True)
    with Progress(console=Console(stderr=True)) as bars:
        bench = _Bench(data.absolute(), out.absolute(), methods.split(","), seeds, steps, jobs, bars)
        rates: dict[str, dict[str, float]] = {}
        results: dict[str, dict[str, dict[str, Any]]] = {}
        for task in tasks.split(","):
            rates[task], results[task] = bench.task(task)
    result = {"machine": machine(), "steps": steps, "seeds": seeds, "rates": rates, "tasks": results}
    write_atomically(out / "methods.json", msgspec.json.format(msgspec.json.encode(result)))
    draw_methods(results, out / "methods.png")
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(result)).decode())
    else:
        for task, found in results.items():
            Console(width=_WIDTH).print(_table(task, found))
        typer.echo(f"\n{out / 'methods.json'}, {out / 'methods.png'}")


class _Bench:
    """Runs jobs, some at a time."""

    def __init__(
        self, data: Path, out: Path, methods: Sequence[str], seeds: int, steps: int, jobs: int, bars: Progress
    ) -> None:
        self._data, self._sets, self._runs = data, out / "sets", out / "runs"
        self._methods, self._seeds, self._steps, self._jobs, self._bars = methods, seeds, steps, jobs, bars
        self._runs.mkdir(exist_ok=True)
        write_sets(data, self._sets, lambda *_: None)

    def task(self, task: str) -> tuple[dict[str, float], dict[str, dict[str, Any]]]:
        """The rates chosen, and by set that was trained on what each method came to."""
        sets = ["wands_queries"] if task == "types" else list(OTHER)
        bases = {name: self._base(task, name) for name in sets}
        job = partial(Job, task=task, steps=self._steps)
        trials = [
            job(train=sets[0], method=method, rate=rate, seed=0, base=bases[sets[0]], tuning=True)
            for method in self._methods
            for rate in RATES[method]
        ]  # fmt: skip
        tried = self._all(f"{task}: choosing rates", trials)
        rates = {
            method: max((one for one in tried if one.job.method == method), key=lambda one: one.score).job.rate
            for method in self._methods
        }
        wanted = [
            job(train=name, method=method, rate=rates[method], seed=seed, base=bases[name])
            for name in sets
            for seed in range(1 if task == "types" else self._seeds)
            for method in self._methods
        ]
        measured = self._all(f"{task}: training", wanted)
        memory = {one.job.method: one.memory_mb for one in self._memory(task, [job for job in wanted if job.seed == 0])}
        of_set = {name: [one for one in measured if one.job.train == name] for name in sets}
        return rates, {name: _summary(name, found, memory) for name, found in of_set.items()}

    def _memory(self, task: str, jobs: Sequence[Job]) -> list[Measured]:
        """Of a few steps of each method on the first set."""
        few = [
            msgspec.structs.replace(job, steps=_MEMORY_STEPS, memory=True) for job in jobs if job.train == jobs[0].train
        ]
        os.environ.update(_OWN_PAGES)  # the C library of a process reads them when that begins
        try:
            return self._all(f"{task}: memory", few)
        finally:
            for name in _OWN_PAGES:
                del os.environ[name]

    def _base(self, task: str, name: str) -> str:
        """Where a run on this set begins: for rerankers with what full fine-tuning learnt of the other set."""
        if task not in _LEARNT:
            return STOCK
        job = Job(task=task, train=OTHER[name], method="full", rate=_RATE, seed=100, steps=_LEARNT[task])
        self._all(f"{task}: a base that knows {OTHER[name]}", [job])
        return str(self._runs / job.name / "best")

    def _all(self, label: str, jobs: Sequence[Job]) -> list[Measured]:
        bar = self._bars.add_task(label, total=len(jobs))
        context = get_context("spawn")
        with ProcessPoolExecutor(self._jobs, mp_context=context, max_tasks_per_child=1) as pool:
            waiting = {pool.submit(run, job, self._data, self._sets, self._runs, 1): job for job in jobs}
            found = {}
            for future in as_completed(waiting):
                found[waiting[future]] = future.result()
                self._bars.advance(bar)
        return [found[job] for job in jobs]


def _summary(name: str, measured: Sequence[Measured], memory: Mapping[str, float]) -> dict[str, Any]:
    """By method. A query's value is its mean over seeds; intervals are over queries."""
    before = next((one.before for one in measured if one.before), {})
    by_method = {method: [one for one in measured if one.job.method == method] for method in _methods(measured)}
    own, other = (name, OTHER[name]) if name in OTHER else (_DEV, "")
    full = _values(by_method["full"], own) if "full" in by_method else None
    out: dict[str, Any] = {}
    for method, runs in by_method.items():
        values = _values(runs, own)
        row: dict[str, Any] = {
            "trained": runs[0].trained, "share": runs[0].trained / runs[0].weights, "rate": runs[0].job.rate,
            "saved_bytes": runs[0].saved_bytes,
            "seconds_per_step": float(np.median([r.seconds_per_step for r in runs])),
            "memory_mb": memory[method], "quality": float(values.mean()),
            "interval": bootstrap_interval(values, 0), "by_seed": [float(_values([r], own).mean()) for r in runs],
        }  # fmt: skip
        if full is not None and method != "full":
            row["against_full"] = float((values - full).mean() / full.mean())
            row["p"] = permutation_p(values - full, 0)
        if other and before:
            now, then = _values(runs, other), np.array(list(before[other].values()))
            row["before"] = float(np.mean(list(before[own].values())))
            row["other_before"], row["other"] = float(then.mean()), float(now.mean())
            row["forgotten"], row["forgotten_interval"] = float((now - then).mean()), bootstrap_interval(now - then, 0)
            row["forgotten_p"] = permutation_p(now - then, 0)
        out[method] = row
    return out


def _methods(measured: Iterable[Measured]) -> list[str]:
    return list(dict.fromkeys(one.job.method for one in measured))


def _values(runs: Sequence[Measured], name: str) -> Values:
    values: Values = np.mean([list(one.per_query[name].values()) for one in runs], axis=0)
    return values


def _table(task: str, found: dict[str, dict[str, Any]]) -> Table:
    table = Table(title=task, caption="quality: nDCG@10 of judged products, MRR of types; 95 % intervals over queries")
    heads = ("trained on", "method", "weights", "share", "saved", "s/step", "MB", "quality", "vs. full", "other set")
    for head in heads:
        table.add_column(head, justify="left" if head in ("trained on", "method") else "right")
    for name, by_method in found.items():
        for method, row in by_method.items():
            low, high = row["interval"]
            quality = f"{row['quality']:.3f} ({low:.3f}-{high:.3f})"
            table.add_row(
                name, method, f"{row['trained']:,}", f"{row['share']:.3%}", f"{row['saved_bytes'] / 1e6:.2f} MB",
                f"{row['seconds_per_step']:.2f}", f"{row['memory_mb']:.0f}", quality,
                f"{row['against_full']:+.1%} p {row['p']:.2f}" if "p" in row else "",
                f"{row['forgotten']:+.3f} p {row['forgotten_p']:.2f}" if "forgotten" in row else "",
            )  # fmt: skip
        table.add_section()
    return table


if __name__ == "__main__":
    app()
