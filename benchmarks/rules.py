"""What a shop's rules cost a search: the same searches without rules and with 1,000, in turn::

python benchmarks/rules.py --rules 0,10,1000,10000 --products 50000 --out results/rules.json

The catalog is the sample, repeated up to ``--products`` under new ids. The rules are made from its titles, by chance:
phrases, words, whole queries, types and contexts, which pin, boost, bury, hide, filter and search beside. So that the
searches do not hide what rules cost, they are by words alone unless ``--encoder`` says otherwise.
"""

from __future__ import annotations

import shlex
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
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
from benchmarks.latency_plan import numbers
from benchmarks.machine import machine
from benchmarks.report import table
from benchmarks.results import write_result
from benchmarks.significance import bootstrap_interval
from engine.builder import build_index
from engine.catalog import read_catalog
from engine.config import EngineConfig, IndexConfig, SearchConfig, toml_value
from engine.product import Product
from engine.search import SearchEngine
from engine.understanding.words import tokens

_CONTEXT = {"channel": "app"}
_KINDS = ("phrase", "phrase", "phrase", "query", "contains", "type", "context")
_WARM_UP = 20  # searches of each engine before the first that is timed


def catalog(n: int) -> Iterator[Product]:
    """The sample's products, again and again under new ids, ``n`` in all, or once where that is fewer."""
    products = list(read_catalog(load_set(SAMPLE, "synthetic").corpus))
    for place in range(max(n, len(products))):
        product, again = products[place % len(products)], place // len(products)
        suffix = f"-{again}" if again else ""
        yield msgspec.structs.replace(product, product_id=product.product_id + suffix)


def made_rules(n: int, products: Sequence[Product], queries: Sequence[str], seed: int) -> str:
    """A file of ``n`` rules. A tenth of phrases is of the queries', so that some are for some of them."""
    rng = np.random.default_rng(seed)
    texts = [product.title for product in products]
    lines: list[str] = []
    for number in range(n):
        kind = _KINDS[number % len(_KINDS)]
        text = rng.choice(queries) if rng.random() < 0.1 else rng.choice(texts)
        words = [token.text for token in tokens(str(text))]
        start, length = int(rng.integers(len(words))), int(rng.integers(2, 5))
        said = " ".join(words[start : start + length])
        product = products[int(rng.integers(len(products)))]
        conditions: dict[str, dict[str, object]] = {
            "query": {"query": str(text)},
            "type": {"type": product.category[-1], "phrase": said},
            "context": {"phrase": said, "context": {"channel": "app"}},
        }
        when = conditions.get(kind, {kind: said})
        then = _actions(product, number)
        lines += [
            "[[rule]]", f'id = "made-{number}"', 'note = "made by the benchmark"', f"when = {toml_value(when)}",
            f"then = {toml_value(then)}",
        ]  # fmt: skip
    return "\n".join(lines)


def _actions(product: Product, number: int) -> dict[str, object]:
    brand = f"brand={product.brand}"
    actions: tuple[dict[str, object], ...] = (
        {"pin": {product.product_id: 1 + number % 8}},
        {"boost": [{"where": f"price>={product.price or 0}", "by": 0.1}]},
        {"bury": [{"where": [brand, "availability=out_of_stock"]}]},
        {"hide": f"product_id={product.product_id}"},
        {"filter": brand},
        {"synonyms": product.category[-1]},
    )
    return actions[number % len(actions)]


def measure(directory: Path, queries: Sequence[str], files: dict[int, Path], rounds: int, seed: int) -> dict[str, Any]:
    """For each number of rules what they add to a search, in ms, against the same search without any.

    A query is searched by all engines before the next is, in an order that changes from round to round; of the rounds
    each query counts its median. Times are those that the searching thread was at work, which another program's load
    does not change.
    """
    plain = SearchEngine.load(directory)
    started = time.perf_counter()
    engines = {n: plain.configured(msgspec.structs.replace(plain.config, rules=str(path))) for n, path in files.items()}
    loading = time.perf_counter() - started
    engines[-1] = plain
    for engine in engines.values():
        for query in queries[:_WARM_UP]:
            engine.search(query, context=_CONTEXT)
    rng = np.random.default_rng(seed)
    times = {n: np.zeros((rounds, len(queries))) for n in engines}
    fired = dict.fromkeys(engines, 0)
    for turn in range(rounds):
        for place, query in enumerate(queries):
            for n in rng.permutation(list(engines)).tolist():
                begun = time.thread_time()
                result = engines[n].search(query, context=_CONTEXT)
                times[n][turn, place] = (time.thread_time() - begun) * 1e3
                fired[n] += len(result.rules)
    without = np.median(times[-1], axis=0)
    rows = []
    for n in files:
        added = np.median(times[n], axis=0) - without
        rows.append(
            {
                "rules": n,
                "fired": fired[n] / rounds / len(queries),
                "added_ms_mean": float(added.mean()),
                "added_ms_interval": bootstrap_interval(added, seed),
                "added_ms_p50": float(np.median(added)),
                "added_ms_p99": float(np.percentile(added, 99)),
            }
        )
    return {"without_ms_p50": float(np.median(without)), "loading_s": loading, "added": rows}


def main(
    rules: Annotated[str, typer.Option(help="Numbers of rules, comma-separated.")] = "0,10,100,1000,10000",
    products: Annotated[int, typer.Option(help="Products in the catalog.")] = 423,
    encoder: Annotated[str, typer.Option(help="What makes vectors: a name, a directory, or none.")] = "none",
    rounds: Annotated[int, typer.Option(min=1, help="Searches per query and engine.")] = 9,
    out: Annotated[Path, typer.Option(help="The result (JSON).")] = Path("results/rules.json"),
    seed: options.Seed = 1,
    as_json: options.Json = False,
) -> None:
    """Measure what a shop's rules add to a search."""
    console = Console(stderr=True)
    with options.errors_to(console):
        counts = numbers("--rules", rules)
        queries = list(load_set(SAMPLE, "synthetic").queries.values())
        with tempfile.TemporaryDirectory() as folder:
            directory, known = Path(folder, "index"), list(catalog(products))
            index = IndexConfig(encoder="" if encoder == "none" else encoder, reranker="")
            build_index(known, directory, EngineConfig(index=index, search=SearchConfig()))
            files = {n: Path(folder, f"rules-{n}.toml") for n in counts}
            for n, path in files.items():
                path.write_text(made_rules(n, known[:500], queries, seed), encoding="utf-8")
            found = measure(directory, queries, files, rounds, seed)
    result = {
        "n_products": len(known), "n_queries": len(queries), **found,
        "command": shlex.join(["python", *sys.argv]), "machine": machine(),
    }  # fmt: skip
    write_result(out, result)
    if as_json:
        print(out.read_text(encoding="utf-8"))
        return
    head = ["rules", "fired a search", "added ms, mean", "95 %", "p50", "p99"]
    cells = [
        [
            f"{row['rules']:,}", f"{row['fired']:.2f}", f"{row['added_ms_mean']:.3f}",
            "{:.3f} to {:.3f}".format(*row["added_ms_interval"]), f"{row['added_ms_p50']:.3f}",
            f"{row['added_ms_p99']:.3f}",
        ]
        for row in found["added"]
    ]  # fmt: skip
    title = f"{len(known):,} products, {len(queries)} queries; a search without rules {found['without_ms_p50']:.2f} ms"
    Console().print(table(title, [head, *cells]))


if __name__ == "__main__":
    typer.run(main)
