"""Measures vague, superlative, negated and foreign queries against predicates that say what fits::

python benchmarks/needs.py --set sample --split dev --out results/needs.json

The sets are ``benchmarks/needs/synthetic_SET.*``, all made up. ``precision_at_3`` is of at most as many hits as the
catalog has fitting products. Every fact told of a hit is read back from the product.
"""

from __future__ import annotations

import shlex
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
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
from benchmarks.needs_judgments import Judge, Judged, below, read_judged
from benchmarks.needs_reasons import Releases, read_back
from benchmarks.progress import Bars
from benchmarks.report import table
from benchmarks.results import write_result
from benchmarks.significance import bootstrap_interval
from benchmarks.systems import System, factory
from engine.config import EngineConfig
from engine.product import Product
from engine.search import SearchEngine
from engine.types import SearchResult

FOLDER = Path(__file__).resolve().parent / "needs"
SETS = (
    "sample", "second", "mission", "ja", "es", "second_ja", "second_es", "icecat", "second_icecat", "off_domain",
    "second_off_domain", "third", "third_icecat", "third_off_domain",
)  # fmt: skip
_BASELINES = ("bm25", "dense")
_ICECAT, _OFF_DOMAIN = "icecat", "off_domain"  # the ends of the names of sets on another catalog, and on any
_IN_DOMAIN = {
    SAMPLE: ("sample", "second", "third", "mission", "ja", "es"),
    _ICECAT: ("icecat", "second_icecat", "third_icecat"),
}
_DEEP = 3
_STAGE = "needs"
_WARM = 20
_PLAIN = 200

Figures = dict[str, list[float]]
_Set = Annotated[str, typer.Option("--set", help=f"One of {', '.join(SETS)}.")]
_Catalog = Annotated[str, typer.Option(help="What an off-domain set is asked of: sample, or a folder of --data.")]
_Half = Annotated[str | None, typer.Option("--split", help="dev or final.", show_default="both")]


def judged_of(set_name: str, split: str | None = None) -> list[Judged]:
    """The judged queries of a set, of one half where ``split`` names it. Raises DataError."""
    if set_name not in SETS or split not in (None, "dev", "final"):
        raise DataError(
            f"there is no set {set_name!r} with split {split!r}; sets: {', '.join(SETS)}; splits: dev, final"
        )
    return [row for row in read_judged(FOLDER / f"synthetic_{set_name}.jsonl") if split in (None, row.split)]


def off_domain_queries(set_name: str = _OFF_DOMAIN) -> list[str]:
    lines = (FOLDER / f"synthetic_{set_name}.tsv").read_text(encoding="utf-8").splitlines()
    return [line.split("\t")[1] for line in lines]


def measure(
    rank: Callable[[str], Sequence[str]], rows: Iterable[Judged], judge: Judge, seed: int
) -> dict[str, Any]:  # fmt: skip
    """Per kind and over all: shares, 95 % bootstrap intervals, the queries whose first hit does not fit.

    ``rank`` gives the ids of a query's hits, best first.
    """
    figures: dict[str, Figures] = defaultdict(lambda: defaultdict(list))
    wrong = {}
    for row in rows:
        fitting, found = judge.fitting(row.fits), rank(row.query)
        first = float(bool(found) and found[0] in fitting)
        deep = min(_DEEP, len(fitting))
        precision = sum(product_id in fitting for product_id in found[:_DEEP]) / deep if deep else 0.0
        if not first:
            wrong[row.query_id] = row.query
        for kind in ("all", row.kind):
            figures[kind]["first_fits"].append(first)
            figures[kind]["precision_at_3"].append(precision)
    kinds = {
        kind: {"n": len(found["first_fits"])} | {name: _interval(values, seed) for name, values in found.items()}
        for kind, found in figures.items()
    }
    return {"kinds": kinds, "wrong": wrong}


def type_first(answers: Mapping[str, SearchResult], rows: Iterable[Judged], judge: Judge, seed: int) -> dict[str, Any]:
    """Whether the first type and the type of the first hit are as the row says, over the rows that say."""
    paths = {p.product_id: " > ".join(p.category) for p in judge.products}
    routed, hit = [], []
    for row in (row for row in rows if row.types):
        answer = answers[row.query]
        first = answer.route.product_types[0].type_id if answer.route and answer.route.product_types else ""
        routed.append(float(any(below(first, path) for path in row.types)))
        top = paths[answer.hits[0].product.product_id] if answer.hits else ""
        hit.append(float(any(below(top, path) for path in row.types)))
    return {"n": len(hit), "routed": _interval(routed, seed), "hit": _interval(hit, seed)} if hit else {}


def reasons(answers: Iterable[SearchResult], products: Mapping[str, Product]) -> dict[str, Any]:
    """How many told facts are true, false and of no form that can be read; which are not true, and of which product.

    ``acted`` counts the answers whose stage for needs did something; ``told``, those of them whose first product is
    told a fact beyond its type.
    """
    verdicts: Counter[str] = Counter()
    odd: dict[str, str] = {}
    acted = told = 0
    releases = Releases(list(products.values()))
    for answer in answers:
        skus = answer.route.skus if answer.route else ()
        facts = [read_back(sku, products[sku.product_id], releases) for sku in skus]
        for fact, verdict in (pair for found in facts for pair in found):
            verdicts[verdict] += 1
            if verdict in ("false", "unknown"):
                odd[fact] = verdict
        if any(stage.stage == _STAGE and stage.status == "ran" and stage.note for stage in answer.stages):
            acted += 1
            first = facts[0] if facts else []
            told += any(verdict == "true" and not fact.startswith("is of the type") for fact, verdict in first)
    return {"facts": dict(verdicts), "not_true": odd, "acted": acted, "told": told}


def refused(answer: SearchResult) -> bool:
    """Acts on no type and marks the hits as merely the nearest."""
    return answer.route is None or (answer.route.action == "none" and bool(answer.route.nearest))


def stage_ms(answers: Iterable[SearchResult]) -> dict[str, float]:
    """p50 of the whole search and of each stage, in ms."""
    times: dict[str, list[float]] = defaultdict(list)
    for answer in answers:
        for report in answer.stages:
            times[report.stage].append(report.elapsed_ms)
        times["search"].append(answer.elapsed_ms)
    return {stage: float(np.percentile(ms, 50)) for stage, ms in times.items()}


def _interval(values: Sequence[float], seed: int) -> dict[str, Any]:
    held = np.array(values)
    return {"mean": float(held.mean()), "interval": bootstrap_interval(held, seed)}


def _ids(system: System, query: str) -> list[str]:
    return [product_id for product_id, _ in system.rank(query, 10)]


def _answers(engine: SearchEngine, queries: Iterable[str]) -> dict[str, SearchResult]:
    return {query: engine.search(query, 10) for query in queries}


def _abstention(engine: SearchEngine, set_name: str, split: str | None, base: SearchSet, seed: int) -> dict[str, Any]:
    """Off-domain queries that are refused, and in-domain ones that are, by set."""
    asked = {set_name: off_domain_queries(set_name), base.name: list(base.queries.values())}
    asked |= {f"needs {name}": [r.query for r in judged_of(name, split)] for name in _IN_DOMAIN.get(base.name, ())}
    answers = {name: _answers(engine, queries) for name, queries in asked.items()}
    shares = {
        name: {"n": len(found)} | _interval([float(refused(answer)) for answer in found.values()], seed)
        for name, found in answers.items()
    }
    taken = {query: str(answer.route.reason) for query, answer in answers[set_name].items()
             if answer.route and not refused(answer)}  # fmt: skip
    wrongly = {name: [query for query, answer in found.items() if refused(answer)]
               for name, found in answers.items() if name != set_name}  # fmt: skip
    return {"catalog": base.name, "refused": shares, "not_refused": taken, "wrongly": wrongly}


def _needs(
    bench: Workbench, engine: SearchEngine, rows: Sequence[Judged], plain: Sequence[str], seed: int
) -> dict[str, Any]:
    products = list(bench.products())
    judge = Judge(products)
    _answers(engine, plain[:_WARM])  # what is set up lazily; none of these is timed
    answers = _answers(engine, [row.query for row in rows])
    systems: dict[str, Callable[[str], Sequence[str]]] = {
        "default": lambda query: [hit.product.product_id for hit in answers[query].hits]
    }
    for name in _BASELINES:
        system = factory(name)(bench)
        systems[name] = partial(_ids, system)
    times = {"needs": stage_ms(answers.values()), "plain": stage_ms(_answers(engine, plain[_WARM:]).values())}
    return {
        "systems": {name: measure(rank, rows, judge, seed) for name, rank in systems.items()},
        "type_first": type_first(answers, rows, judge, seed),
        "reasons": reasons(answers.values(), {p.product_id: p for p in products}),
        "stage_ms_p50": times,
    }  # fmt: skip


def main(
    set_name: _Set = SAMPLE,
    split: _Half = None,
    catalog: _Catalog = SAMPLE,
    data: options.Data = None,
    config: options.Config = None,
    index: options.Index = None,
    out: Annotated[Path, typer.Option("--out", "--json", help="The result (JSON).")] = Path("results/needs.json"),
    seed: options.Seed = 1,
) -> None:
    """Measure vague queries: does the first hit fit, do the first three, is what is told of them true.

    BM25 alone and the cosine alone stand beside. With --set off_domain: how many are refused, and of queries that the
    catalog can answer how many are.

    Example: python benchmarks/needs.py --set sample --split dev --out results/needs.json
    """
    errors, console = Console(stderr=True), Console()
    with options.errors_to(errors):
        off_domain = set_name in SETS and set_name.endswith(_OFF_DOMAIN)
        rows = [] if off_domain else judged_of(set_name, split)
        name = catalog if off_domain else _ICECAT if set_name.endswith(_ICECAT) else SAMPLE
        base = load_set(name, "synthetic" if name == SAMPLE else "dev", data)
        settings = EngineConfig.read(config) if config else EngineConfig()
        with Bars(errors) as bars:
            bench = Workbench(base.corpus, settings, index or default_root(), bars.report, bars.say)
            engine, _ = bench.engine(settings)
            plain = list(base.queries.values())[:_PLAIN]
            result = (
                _needs(bench, engine, rows, plain, seed) if rows else _abstention(engine, set_name, split, base, seed)
            )
    result = {
        "set": set_name, "split": split or "both", **result, "config": msgspec.to_builtins(settings),
        "command": shlex.join(["python", *sys.argv]), "machine": machine(),
    }  # fmt: skip
    write_result(out, result)
    _show(result, console)
    console.print(f"written: {out}", highlight=False, soft_wrap=True)


def _show(result: Mapping[str, Any], console: Console) -> None:
    heading = f"{result['set']} {result['split']}"
    if "refused" in result:
        found = result["refused"]
        console.print(
            table(heading, [["queries", "n", "refused"], *([k, str(v["n"]), _cell(v)] for k, v in found.items())])
        )
        return
    cells = [["system", "kind", "n", "first fits", "precision@3"]]
    for name, system in result["systems"].items():
        for kind, found in system["kinds"].items():
            if kind == "all" or name == "default":
                cells.append([name, kind, str(found["n"]), _cell(found["first_fits"]), _cell(found["precision_at_3"])])
    console.print(table(heading, cells))
    if typed := result["type_first"]:
        console.print(f"right type: routed {_cell(typed['routed'])}, first hit {_cell(typed['hit'])}", highlight=False)
    told, times = result["reasons"], result["stage_ms_p50"]
    console.print(f"facts told: {told['facts']}; acted on {told['acted']}, told {told['told']}", highlight=False)
    spent = [f"{name} {ms['search']:.1f} ms ({ms.get(_STAGE, 0.0):.2f} for needs)" for name, ms in times.items()]
    console.print(f"p50: {', '.join(spent)}", highlight=False)


def _cell(figure: Mapping[str, Any]) -> str:
    low, high = figure["interval"]
    return f"{figure['mean']:.3f} ({low:.3f} … {high:.3f})"


if __name__ == "__main__":
    typer.run(main)
