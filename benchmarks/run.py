"""Measures systems on a search set: quality, significance, latency, build and memory, in one command::

python benchmarks/run.py --set sample --split synthetic --systems bm25,dense,hybrid --out results/sample.json
"""

from __future__ import annotations

import logging
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: the repository is what is imported from, not this folder
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import msgspec
import typer
from rich.console import Console

from benchmarks import options, report
from benchmarks.data import SAMPLE, SearchSet, load_set, read_titles
from benchmarks.indexes import Workbench, default_root, write_atomically
from benchmarks.machine import machine
from benchmarks.measure import Measured, measure, warm_up_texts
from benchmarks.plot import draw
from benchmarks.progress import Bars
from benchmarks.results import assemble, file_name, write_result, write_run
from benchmarks.systems import SYSTEMS, factory
from engine.config import EngineConfig
from engine.errors import AisleError, ConfigError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run, and where its files go."""

    systems: tuple[str, ...]
    k: int
    pool: bool
    seed: int
    warm_up: int
    out: Path
    runs: Path
    command: str


class RunFailedError(AisleError):
    """A system failed; what was measured before it is written."""


def run(search_set: SearchSet, bench: Workbench, plan: Plan, bars: Bars) -> dict[str, Any]:
    """Measures the systems in order, and writes all files anew after each one. Returns the result."""
    _check(plan)
    titles = read_titles(search_set.corpus)
    about = _about(search_set, bench, plan, titles)
    warm_up = warm_up_texts(list(titles.values()), search_set, plan.warm_up)
    done: list[Measured] = []
    result: dict[str, Any] = {}
    for name in plan.systems:
        try:
            with bars.counting(f"{name}: queries", len(search_set.queries)) as tick:
                measured = measure(
                    name, bench, search_set, k=plan.k, pool=plan.pool, warm_up=warm_up, tick=tick
                )  # fmt: skip
        except Exception as error:
            logger.debug("system %s failed", name, exc_info=True)
            kept = f" What is done ({', '.join(m.name for m in done)}) is in {plan.out}." if done else ""
            raise RunFailedError(f"system {name!r} failed: {type(error).__name__}: {error}.{kept}") from error
        if measured.degraded:
            bars.say(f"{name}: {len(measured.degraded)} stages degraded, first {measured.degraded[0]}")
        done.append(measured)
        result = assemble(search_set, done, plan.seed, {**about, "complete": len(done) == len(plan.systems)})
        write_run(plan.runs, name, measured.rankings)
        write_result(plan.out, result)
    _write_pages(result, search_set, done, titles, plan.out)
    return result


def _check(plan: Plan) -> None:
    if not plan.systems or len(set(map(file_name, plan.systems))) < len(plan.systems):
        given = ",".join(plan.systems)
        raise ConfigError(f"--systems is {given!r}; name one or more, each once: {', '.join(SYSTEMS)}")
    for name in plan.systems:
        factory(name)


def _about(search_set: SearchSet, bench: Workbench, plan: Plan, titles: dict[str, str]) -> dict[str, Any]:
    judged = {product_id for grades in search_set.qrels.values() for product_id in grades}
    return {
        "k": plan.k,
        "pool": plan.pool,
        "n_products": len(titles),
        "n_judged_not_in_catalog": len(judged - titles.keys()),
        "config": msgspec.to_builtins(bench.config),
        "index_root": str(bench.root),
        "command": plan.command,
        "machine": machine(),
    }


def _write_pages(
    result: dict[str, Any], search_set: SearchSet, done: list[Measured], titles: dict[str, str], out: Path
) -> None:
    picture = out.with_suffix(".png")
    rankings = {measured.name: measured.rankings for measured in done}
    page = report.markdown(result, search_set.queries, rankings, titles, picture.name)
    write_atomically(out.with_suffix(".md"), page.encode())
    draw(result, picture)


def main(
    set_name: options.Set = SAMPLE,
    split: options.Split = None,
    systems: options.Systems = "bm25,dense,hybrid",
    data: options.Data = None,
    queries: options.Queries = None,
    qrels: options.Qrels = None,
    relevant: options.Relevant = None,
    first: options.First = None,
    pool: options.Pool = False,
    k: options.K = 100,
    config: options.Config = None,
    adapter: options.Adapters = None,
    onepass: options.OnePass = None,
    listwise: options.Listwise = None,
    index: options.Index = None,
    out: options.Out = None,
    runs: options.Runs = None,
    seed: options.Seed = 1,
    warm_up: options.WarmUp = 20,
    as_json: options.Json = False,
) -> None:
    """Measure search systems: quality with intervals and significance, latency, build speed, size and memory.

    Quality comes from ir-measures and counts every judged query. Latency is per query, one at a time.

    Example: python benchmarks/run.py --data DATA --set icecat --systems bm25,hybrid --out results/icecat.json
    """
    errors = Console(stderr=True)
    split = split or ("synthetic" if set_name == SAMPLE else "dev")
    out = out or Path("results") / f"{set_name}-{split}.json"
    names = tuple(name.strip() for name in systems.split(",") if name.strip())
    plan = Plan(names, k, pool, seed, warm_up, out, runs or out.parent, shlex.join(["python", *sys.argv]))
    with options.errors_to(errors):
        search_set = load_set(set_name, split, data, queries=queries, qrels=qrels, first=first, relevant=relevant)
        with Bars(errors) as bars:
            bench = Workbench(
                search_set.corpus, EngineConfig.read(config) if config else EngineConfig(),
                index or default_root(), bars.report, bars.say, tuple(adapter or ()), options.lists(onepass, listwise),
            )  # fmt: skip
            result = run(search_set, bench, plan, bars)
    report.show(result, report.tables(result), out, f"; runs in {plan.runs}", as_json=as_json)


if __name__ == "__main__":
    typer.run(main)
