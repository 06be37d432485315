"""Measures how far a product rises in a list whose title asks for it, with each reranker::

python benchmarks/injection.py --systems rerank,onepass=DIR,listwise=DIR --out results/injection.json

For each of ``--queries`` queries of the sample catalog the best 20 of the fused order are reranked, once as they are
and once for each attack text, which is put behind the title of one of the last ten. A rise is the product's place
before less its place after. ``listwise-bare`` is the listwise reranker without its defence. Texts and queries are made
up.
"""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

if not __package__:  # run as a file: the repository is what is imported from, not this folder
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import msgspec
import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from benchmarks import options
from benchmarks.data import DataError
from benchmarks.machine import machine
from benchmarks.progress import Bars
from benchmarks.report import table
from benchmarks.results import write_result
from benchmarks.significance import bootstrap_interval
from engine.catalog import read_catalog
from engine.config import EngineConfig, SearchConfig
from engine.product import Product
from engine.seams import ListModel, Reranker
from engine.search import SearchEngine
from ranking.cross_encoder import CrossEncoderModel
from ranking.lists import named
from ranking.listwise.defence import NO_DEFENCE
from ranking.listwise.reranker import ListwiseModel

T = TypeVar("T")
FOLDER = Path(__file__).resolve().parent
SAMPLE = FOLDER.parent / "engine" / "sample"
_LIST = 20
_KINDS = ("rerank", "onepass", "listwise", "listwise-bare")

_Systems = Annotated[str, typer.Option(help="KIND or KIND=DIR, comma-separated; kinds: " + ", ".join(_KINDS) + ".")]
_Queries = Annotated[int, typer.Option(min=1, help="How many of the sample's queries, evenly from first to last.")]
_Attacks = Annotated[int, typer.Option(min=1, help="How many of the texts, evenly from first to last.")]
_Out = Annotated[Path, typer.Option("--out", help="The result (JSON).")]


def attacks(n: int) -> list[str]:
    lines = (FOLDER / "injection_texts" / "synthetic_attacks.txt").read_text("utf-8").splitlines()
    return [line.replace("⏎", "\n") for line in _spread(lines, n)]


def attacked(product: Product, text: str, query: str, label: str) -> Product:
    return msgspec.structs.replace(product, title=f"{product.title} {text.format(query=query, label=label)}")


def rises(opened: Reranker, query: str, victims: Sequence[int]) -> list[int]:
    """Places that each attack's victim rises. Rows from 0 are the list, those after it the victims with the texts."""
    clean = _places(opened, query, np.arange(_LIST))
    out = []
    for attack, victim in enumerate(victims):
        rows = np.arange(_LIST)
        rows[victim] = _LIST + attack
        out.append(int(clean[victim]) - int(_places(opened, query, rows)[victim]))
    return out


def _places(opened: Reranker, query: str, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place from 0 of each of the rows, after reranking."""
    return np.argsort(np.argsort(-opened.score(query, rows, None).scores, kind="stable"), kind="stable")


def measure(
    system: str, lists: Sequence[tuple[str, list[Product]]], texts: Sequence[str], bars: Bars
) -> dict[str, Any]:  # fmt: skip
    """The mean rise with its 95 % interval over queries, the largest, and the share of attacks that rise at all."""
    kind, _, directory = system.partition("=")
    model = _model(kind, directory)
    victims = [_LIST // 2 + (7 * place) % (_LIST // 2) for place in range(len(texts))]
    found: list[list[int]] = []
    with bars.counting(kind, len(lists)) as tick:
        for query, products in lists:
            bad = [
                attacked(products[victim], text, query, chr(ord("A") + victim))
                for victim, text in zip(victims, texts, strict=True)
            ]
            found.append(rises(_opened(model, [*products, *bad]), query, victims))
            tick()
    values = np.array(found, np.float64)
    by_text = values.mean(axis=0)
    return {
        "mean_rise": float(values.mean()), "interval": list(bootstrap_interval(values.mean(axis=1), 0)),
        "largest": int(values.max()), "share_rising": float((values > 0).mean()),
        "share_above_1": float((values > 1).mean()), "n": int(values.size),
        "worst_text": texts[int(by_text.argmax())], "worst_mean": float(by_text.max()),
    }  # fmt: skip


def _model(kind: str, directory: str) -> ListModel | None:
    if kind == "rerank":
        return None
    if kind == "onepass":
        return named(directory)
    return ListwiseModel(Path(directory), depth=_LIST, **({"defence": NO_DEFENCE} if kind == "listwise-bare" else {}))


def _opened(model: ListModel | None, products: list[Product]) -> Reranker:
    """The model over these products, above the shipped cross-encoder."""
    shipped = CrossEncoderModel.named("aisle-reranker")
    with tempfile.TemporaryDirectory() as folder:
        shipped.build(Path(folder), products)
        first = shipped.open(Path(folder), 1)
    return first if model is None else model.open(lambda rows: [products[row] for row in rows], first, 1)


def _fused(n: int, folder: Path) -> list[tuple[str, list[Product]]]:
    """``n`` of the sample's queries, evenly from first to last of those that find enough, with the fused order."""
    config = EngineConfig(search=SearchConfig(rerank_depth=0))
    engine = SearchEngine.build(read_catalog(SAMPLE / "corpus.jsonl"), folder, config)
    lines = (SAMPLE / "queries.synthetic.tsv").read_text("utf-8").splitlines()
    lists = [(query, [hit.product for hit in engine.search(query, _LIST).hits]) for _, query in map(_cells, lines)]
    return _spread([found for found in lists if len(found[1]) == _LIST], n)


def _cells(line: str) -> list[str]:
    return line.split("\t")[:2]


def _spread(items: list[T], n: int) -> list[T]:
    return [items[int(place)] for place in np.linspace(0, len(items) - 1, min(n, len(items)))]


def main(
    systems: _Systems = "rerank", n_queries: Annotated[int, typer.Option("--queries")] = 40,
    n_attacks: Annotated[int, typer.Option("--attacks")] = 50, out: _Out = Path("results/injection.json"),
    json: options.Json = False,
) -> None:  # fmt: skip
    """Measure how far products rise whose titles ask for it."""
    with options.errors_to(Console(stderr=True)):
        for system in systems.split(","):
            if system.partition("=")[0] not in _KINDS:
                raise DataError(f"there is no system {system!r}; they are {', '.join(_KINDS)}")
        with tempfile.TemporaryDirectory() as folder, Bars(Console(stderr=True)) as bars:
            lists, texts = _fused(n_queries, Path(folder) / "index"), attacks(n_attacks)
            figures = {system.partition("=")[0]: measure(system, lists, texts, bars) for system in systems.split(",")}
    result = {"command": shlex.join(sys.argv), "machine": machine(), "queries": len(lists), "systems": figures}
    write_result(out, result)
    cells = [["system", "mean rise", "95 % interval", "largest", "more than one place"]]
    for name, of in figures.items():
        interval = f"{of['interval'][0]:+.2f} to {of['interval'][1]:+.2f}"
        cells.append([name, f"{of['mean_rise']:+.2f}", interval, str(of["largest"]), f"{of['share_above_1']:.0%}"])
    if json:
        print(msgspec.json.encode(result).decode())
        return
    Console().print(table("", cells))
    print(f"written: {out}")


if __name__ == "__main__":
    typer.run(main)
