"""Measures vague and superlative queries on the sample catalog, by predicates that say which products fit::

python benchmarks/needs.py --split dev --out results/needs.json

The queries, all made up, are in ``benchmarks/vague/``: half of the sample's dev, half kept for a final figure.
Beside the search as it is stands the same without needs. Facts that a route tells of a
product are read back from the product; queries about other things must get no type, judged ones one.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

if not __package__:  # run as a file: the repository is what is imported from, not this folder
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import msgspec
import numpy as np
import typer
from rich.console import Console

from benchmarks import options
from benchmarks.data import SAMPLE, load_set
from benchmarks.indexes import Workbench, default_root
from benchmarks.machine import machine
from benchmarks.needs_judging import HERE, Judge, VagueQuery, read_queries
from benchmarks.progress import Bars
from benchmarks.report import table
from benchmarks.results import write_result
from benchmarks.significance import bootstrap_interval
from engine.config import EngineConfig
from engine.errors import AisleError
from engine.product import Product
from engine.search import SearchEngine
from engine.types import SearchResult

_FIRST = 3  # hits that should fit
_FACT = re.compile(r"(?P<name>[a-z][a-z_ ]*?) (?P<value>-?\d+(?:\.\d+)?)(?: [A-Za-z/ ]+)?")
_NOT_FACTS = ("is of the type", "is popular", "is the nearest", "has the model")

_Split = Annotated[str, typer.Option(help="dev, or final: half of the queries, to be looked at once.")]
_Which = Annotated[
    str, typer.Option(help="sample; mission: those that Aisle was begun for; ja, es: other languages, all of them.")
]


def measure(engine: SearchEngine, judge: Judge, queries: Sequence[VagueQuery], seed: int) -> dict[str, Any]:
    """``first``, whether the first hit fits, and ``precision@3``, each with a 95 % bootstrap interval and by kind."""
    first, precise = defaultdict(list), defaultdict(list)
    wrong: dict[str, str] = {}
    for query in queries:
        fitting = judge.fitting(query.fits)
        hits = [hit.product for hit in engine.search(query.query, _FIRST).hits]
        fits = [product.product_id in fitting for product in hits] + [False] * (_FIRST - len(hits))
        for kind in ("all", query.kind):
            first[kind].append(float(fits[0]))
            precise[kind].append(float(np.mean(fits)))
        if not all(fits):
            wrong[query.query] = "".join("+" if fit else "-" for fit in fits)
    return {
        "first": _summed(first, seed),
        f"precision@{_FIRST}": _summed(precise, seed),
        "n_queries": len(queries),
        "wrong": wrong,
    }


def _summed(values: Mapping[str, Sequence[float]], seed: int) -> dict[str, Any]:
    return {
        kind: {
            "n": len(of_kind),
            "mean": float(np.mean(of_kind)),
            "interval": bootstrap_interval(np.array(of_kind), seed),
        }
        for kind, of_kind in values.items()
    }


def facts(engine: SearchEngine, queries: Sequence[VagueQuery]) -> dict[str, Any]:
    """How many facts with a number were told of products, and which of them the products do not bear out."""
    told, false = 0, []
    for query in queries:
        result = engine.search(query.query, 5)
        by_id = {hit.product.product_id: hit.product for hit in result.hits}
        for sku in result.route.skus if result.route else ():
            for part in re.split(r"[;,] ", sku.reason):
                match = _FACT.fullmatch(part)
                if match and not part.startswith(_NOT_FACTS) and "≤" not in part and sku.product_id in by_id:
                    told += 1
                    if not _true(by_id[sku.product_id], match["name"], float(match["value"])):
                        false.append(f"{sku.product_id}: {part}")
    return {"told": told, "false": false}


def _true(product: Product, name: str, value: float) -> bool:
    wanted = set(re.split(r"[ _]", name))
    fields: dict[str, object] = {**product.attributes, "price": product.price, "rating": product.rating}
    fields["popularity"] = product.popularity
    return any(
        isinstance(found, int | float) and abs(found - value) < 1e-6 and wanted <= set(re.split(r"[ _]", field))
        for field, found in fields.items()
    )


def abstaining(engine: SearchEngine, inside: Sequence[str], outside: Sequence[str]) -> dict[str, Any]:
    """What share of queries about other things get no type, and of judged ones; which ones were wrongly refused."""
    refused = [text for text in inside if _abstains(engine.search(text, 1))]
    return {
        "off_domain": float(np.mean([_abstains(engine.search(text, 1)) for text in outside])),
        "in_domain": len(refused) / len(inside),
        "wrongly": refused,
    }


def _abstains(result: SearchResult) -> bool:
    route = result.route
    return bool(route and route.action == "none" and "cosine" in route.reason)


def main(
    which: _Which = "sample", split: _Split = "dev", config: options.Config = None, index: options.Index = None,
    out: Annotated[Path, typer.Option(help="The result (JSON).")] = Path("results/needs.json"),
    seed: options.Seed = 1, as_json: options.Json = False,
) -> None:  # fmt: skip
    """Measure vague queries: does the first hit fit, do the first three, are told facts true, what is refused.

    Example: python benchmarks/needs.py --split dev --out results/needs.json
    """
    errors = Console(stderr=True)
    try:
        sample = load_set(SAMPLE, "synthetic", None)
        settings = EngineConfig.read(config) if config else EngineConfig()
        every = read_queries(HERE / f"{which}.synthetic.jsonl")
        queries = [query for query in every if query.split == split] if which == "sample" else every
        outside = (HERE / "off_domain.synthetic.tsv").read_text(encoding="utf-8").splitlines()[1:]
        with Bars(errors) as bars:
            bench = Workbench(sample.corpus, settings, index or default_root(), bars.report, bars.say)
            engine, _ = bench.engine(settings)
            judge = Judge(list(bench.products()))
        plain = engine.configured(msgspec.structs.replace(engine.config, needs=""))
        systems = {
            "default": measure(engine, judge, queries, seed),
            "without needs": measure(plain, judge, queries, seed),
        }
        result = {
            "queries": which, "split": split if which == "sample" else "all", "systems": systems,
            "facts": facts(engine, queries),
            "abstains": abstaining(engine, list(sample.queries.values()), [line.split("\t")[1] for line in outside]),
        }  # fmt: skip
    except AisleError as error:
        errors.print(f"error: {error}", style="red", markup=False, highlight=False)
        raise typer.Exit(1) from error
    result |= {"command": shlex.join(["python", *sys.argv]), "machine": machine()}
    write_result(out, result)
    if as_json:
        print(out.read_text(encoding="utf-8"))
        return
    _print(result, out)


def _print(result: Mapping[str, Any], out: Path) -> None:
    console = Console()
    for name, system in result["systems"].items():
        cells = [["queries", "n", "first fits", "95 %", f"precision@{_FIRST}", "95 %"]]
        for kind, first in system["first"].items():
            precise = system[f"precision@{_FIRST}"][kind]
            cells.append([kind, str(first["n"]), *_shown(first), *_shown(precise)])
        console.print(table(f"{result['queries']}, {result['split']}: {name}", cells))
    told, abstains = result["facts"], result["abstains"]
    console.print(f"facts told {told['told']}, not borne out {len(told['false'])}", highlight=False)
    console.print(
        f"about other things: no type {abstains['off_domain']:.2f}; judged queries refused {abstains['in_domain']:.3f}",
        highlight=False,
    )
    console.print(f"written: {out}", highlight=False, soft_wrap=True)


def _shown(value: Mapping[str, Any]) -> tuple[str, str]:
    low, high = value["interval"]
    return f"{value['mean']:.3f}", f"{low:.3f} … {high:.3f}"


if __name__ == "__main__":
    typer.run(main)
