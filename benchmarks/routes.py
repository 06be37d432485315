"""Measures routing from queries to product types and products, on the sample catalog's vague queries or a set's own::

python benchmarks/routes.py --out results/routes.json

A query's right types are those of its best judged products, and these are its right products. ``with_results`` is the
share of queries that have any hit, over all of the set's queries, the same with a slip of the hand in each, and the
same asked of another maker.
"""

from __future__ import annotations

import shlex
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

if not __package__:  # run as a file: the repository is what is imported from, not this folder
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import msgspec
import numpy as np
import typer
from rich.console import Console

from benchmarks import options
from benchmarks.data import SAMPLE, DataError, SearchSet, load_set
from benchmarks.indexes import Workbench, default_root
from benchmarks.machine import machine
from benchmarks.progress import Bars
from benchmarks.report import table
from benchmarks.results import write_result
from benchmarks.significance import bootstrap_interval
from engine.columns import PATH_SEPARATOR
from engine.config import EngineConfig
from engine.product import Product
from engine.search import SearchEngine
from engine.types import SearchResult
from qpt.calibration import calibration_error

_TOP = 5  # hits among which a right product must be
_VAGUE = "colloquial-"  # how the ids of the sample's vague queries begin
_FOREIGN = ("acme", "sony", "apple", "bosch", "zyxomat")  # makers that few catalogs have all of
_PER_BIN = 20

_Prefix = Annotated[
    str | None,
    typer.Option(help="Types and products are judged for queries whose ids begin so.", show_default=f"{_VAGUE} or all"),
]


def measure(
    engine: SearchEngine, products: Iterable[Product], search_set: SearchSet, prefix: str, seed: int
) -> dict[str, Any]:  # fmt: skip
    """Shares with 95 % bootstrap intervals, the calibration of the first type, and p50 of the stages in ms."""
    types = {p.product_id: PATH_SEPARATOR.join(p.category) for p in products}
    judged = {query_id: text for query_id, text in search_set.queries.items() if query_id.startswith(prefix)}
    if not judged:
        raise DataError(f"--prefix is {prefix!r}, with which none of the {len(search_set.queries)} queries begins")
    engine.search_batch(list(search_set.queries.values())[:20], _TOP)  # what is set up lazily
    answers = {query_id: engine.search(text, _TOP) for query_id, text in search_set.queries.items()}
    right: dict[str, list[float]] = defaultdict(list)
    stated: list[float] = []
    for query_id in judged:
        found = _right(answers[query_id], search_set.qrels[query_id], types)
        for name, value in found.items():
            right[name].append(value)
        route = answers[query_id].route
        stated.append(route.product_types[0].probability if route and route.product_types else 0.0)
    asked = {
        "queries": [bool(answer.hits) for answer in answers.values()],
        "with a slip": [bool(engine.search(text, 1).hits) for text in _slips(search_set.queries, seed)],
        "of another maker": [bool(engine.search(text, 1).hits) for text in _foreign(search_set.queries)],
    }
    every = [float(hit) for found in asked.values() for hit in found]
    hits = np.array(right["type_first"]) > 0
    return {
        "metrics": {name: float(np.mean(values)) for name, values in {**right, "with_results": every}.items()},
        "intervals": {name: bootstrap_interval(np.array(values), seed) for name, values in right.items()},
        "with_results": {name: float(np.mean(found)) for name, found in asked.items()},
        "calibration": {
            "stated": float(np.mean(stated)),
            "ece": calibration_error(np.array(stated), hits, max(1, len(stated) // _PER_BIN)),
        },
        "marked_nearest": float(np.mean([bool(a.route and a.route.nearest) for a in answers.values()])),
        "stage_ms_p50": _stages(list(answers.values())),
        "wrong": {query_id: judged[query_id] for query_id, hit in zip(judged, hits.tolist(), strict=True) if not hit},
        "n_judged": len(judged),
        "n_asked": len(every),
    }


def _right(answer: SearchResult, grades: Mapping[str, int], types: Mapping[str, str]) -> dict[str, float]:
    best = max(grades.values())
    products = {product_id for product_id, grade in grades.items() if grade == best}
    wanted = {types[product_id] for product_id in products if types.get(product_id)}
    above = {PATH_SEPARATOR.join(path[:n]) for t in wanted for path in [t.split(PATH_SEPARATOR)] for n in range(99)}
    route = answer.route
    return {
        "type_first": float(bool(route and route.product_types and route.product_types[0].type_id in wanted)),
        "chosen_right": float(bool(route and route.chosen and route.chosen[0].type_id in above)),
        f"product_in_top_{_TOP}": float(any(hit.product.product_id in products for hit in answer.hits)),
    }


def _slips(queries: Mapping[str, str], seed: int) -> Iterator[str]:
    """Each query with two letters of its longest word swapped, or one left out."""
    rng = np.random.default_rng(seed)
    for text in queries.values():
        word = max(text.split(), key=len)
        place = int(rng.integers(0, max(len(word) - 1, 1)))
        swapped = word[:place] + word[place + 1 : place + 2] + word[place : place + 1] + word[place + 2 :]
        slipped = swapped if rng.random() < 0.5 else word[:place] + word[place + 1 :]
        yield text.replace(word, slipped or word, 1)


def _foreign(queries: Mapping[str, str]) -> Iterator[str]:
    for place, text in enumerate(queries.values()):
        yield f"{_FOREIGN[place % len(_FOREIGN)]} {text}"


def _stages(answers: Sequence[SearchResult]) -> dict[str, float]:
    times: dict[str, list[float]] = defaultdict(list)
    for answer in answers:
        for report in answer.stages:
            times[report.stage].append(report.elapsed_ms)
        times["search"].append(answer.elapsed_ms)
    return {stage: float(np.percentile(ms, 50)) for stage, ms in times.items()}


def main(
    set_name: options.Set = SAMPLE,
    split: options.Split = None,
    prefix: _Prefix = None,
    data: options.Data = None,
    queries: options.Queries = None,
    qrels: options.Qrels = None,
    config: options.Config = None,
    index: options.Index = None,
    out: Annotated[Path, typer.Option(help="The result (JSON).")] = Path("results/routes.json"),
    seed: options.Seed = 1,
    as_json: options.Json = False,
) -> None:
    """Measure routing: is the first product type right, the type acted on, a product among the first five.

    Product types are the catalog's category paths, so the set must have them.

    Example: python benchmarks/routes.py --config shop.toml --out results/routes.json
    """
    errors = Console(stderr=True)
    split = split or ("synthetic" if set_name == SAMPLE else "dev")
    prefix = (_VAGUE if set_name == SAMPLE and queries is None else "") if prefix is None else prefix
    with options.errors_to(errors):
        search_set = load_set(set_name, split, data, queries=queries, qrels=qrels)
        settings = EngineConfig.read(config) if config else EngineConfig()
        with Bars(errors) as bars:
            bench = Workbench(search_set.corpus, settings, index or default_root(), bars.report, bars.say)
            engine, _ = bench.engine(settings)
            result = measure(engine, bench.products(), search_set, prefix, seed)
    result = {
        "set": set_name, "split": split, "prefix": prefix, **result, "config": msgspec.to_builtins(settings),
        "command": shlex.join(["python", *sys.argv]), "machine": machine(),
    }  # fmt: skip
    write_result(out, result)
    if as_json:
        print(out.read_text(encoding="utf-8"))
        return
    cells = [["measure", "share", "95 %"], *(_row(result, name) for name in result["metrics"])]
    heading = f"{set_name} {split}: {result['n_judged']} judged, {result['n_asked']} asked"
    console = Console()
    console.print(table(heading, cells))
    calibration = result["calibration"]
    console.print(f"first type stated {calibration['stated']:.2f}, ece {calibration['ece']:.2f}", highlight=False)
    console.print(f"written: {out}", highlight=False, soft_wrap=True)


def _row(result: dict[str, Any], name: str) -> list[str]:
    low, high = result["intervals"].get(name, (None, None))
    return [name, f"{result['metrics'][name]:.3f}", "" if low is None else f"{low:.3f} … {high:.3f}"]


if __name__ == "__main__":
    typer.run(main)
