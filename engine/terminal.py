"""What the command shows on a terminal: results as tables, builds as bars."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from engine.adapters import AdapterInfo
from engine.builder import DENSE, LEXICAL, RERANK, ROUTE
from engine.explain import grouped, printable, timings, understanding, why
from engine.needs.shown import ShownNeed
from engine.types import Route, SearchResult, SkuCandidate, TypeProbability

_MAX_SHOWN = 12  # values of a facet
_PLAIN_WIDTH = 160  # columns, where output goes to a file or a pipe


def megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def program() -> str:
    """How this program is called: by its name where that finds it, else by its path."""
    called = Path(sys.argv[0])
    if called.name == "cli.py":
        return "python -m engine.cli"
    found = shutil.which(called.name)
    if found and called.exists() and called.samefile(found):
        return called.name
    return min(str(called), os.path.relpath(called), key=len)


def print_result(result: SearchResult) -> None:
    """Prints how the query was read, hits as a table, then facets, then what each stage took."""
    console = new_console()
    if said := understanding(result):
        console.print(_text(said))
    if result.redirect:
        console.print(_text(f"a rule redirects to {result.redirect}"))
    if result.hits:
        table = Table(box=None, pad_edge=False)
        table.add_column("#", justify="right")
        table.add_column("score", justify="right")
        table.add_column("title", ratio=3)
        table.add_column("price", justify="right", no_wrap=True)
        table.add_column("why", ratio=2, style="dim")
        for hit in result.hits:
            product = hit.product
            price = _price(product.price, product.currency)
            reasons = [why(hit), *(f"{effect.rule}: {effect.action} {effect.detail}" for effect in hit.rules)]
            if hit.group and hit.group.count > 1:
                reasons.append(grouped(hit.group))
            cells = (str(hit.rank), f"{hit.score:.3f}", product.title, price, "; ".join(reasons))
            table.add_row(*map(_text, cells))
        console.print(table)
    else:
        note = next((stage.note for stage in result.stages if stage.stage == "understand"), "")
        console.print(_text(f"no hits: {note}"))
    for field, counts in result.facets.items():
        shown = ", ".join(f"{count.value} {count.count}" for count in counts[:_MAX_SHOWN])
        more = f", and {len(counts) - _MAX_SHOWN} more" if len(counts) > _MAX_SHOWN else ""
        console.print(_text(f"{field}: {shown or 'no values'}{more}"))
    console.print(Text(timings(result), style="dim"))


#: What a search does with the types that a route has chosen.
_ACTIONS = {
    "filter": "filter: products of other types fall behind",
    "boost": "boost: products rise by the probability that they are of the type asked for",
    "none": "none: the order is that of words and meaning",
}


def print_route(query: str, route: Route) -> None:
    """Prints the way from a query to products as a tree."""
    tree = Tree(_text(query), guide_style="dim")
    if route.corrected != query:
        tree.add(_text(f"read as: {route.corrected}"))
    if route.notes:
        notes = tree.add("understood")
        for note in route.notes:
            notes.add(_text(note))
    if route.product_types:
        tree.add("product types").add(_types_table(route.product_types))
    tree.add(_text(_ACTIONS[route.action])).add(_text(route.reason))
    if route.nearest:
        tree.add(_text(f"nearest things: {route.nearest}"))
    if route.skus:
        tree.add("products").add(_skus_table(route.skus))
    else:
        tree.add("no products")
    new_console().print(tree)


def print_needs(found: Sequence[tuple[ShownNeed, str]]) -> None:
    """Prints, by category, what each need asks for there, and the title of the product that meets it best."""
    console = new_console()
    for category, of_category in groupby(found, key=lambda one: one[0].category):
        tree = Tree(_text(category))
        for need, title in of_category:
            asks = ", ".join(need.asks)
            if need.percentiles:
                asks += f" ({' / '.join(need.percentiles)})"
            if need.learnt:
                asks += f"; learnt of {need.saying} products: {', '.join(need.learnt)}"
            tree.add(_text(f"{need.name}: {asks}; first {title}"))
        console.print(tree)


def print_adapters(infos: Sequence[AdapterInfo]) -> None:
    """Prints adapters as a table, with what is wrong with those that cannot be used."""
    table = Table(box=None, pad_edge=False)
    for column in ("name", "for", "method", "size", "licence", "problem"):
        table.add_column(column, justify="right" if column == "size" else "left")
    for info in infos:
        size = megabytes(info.size) if info.size else ""
        table.add_row(*map(_text, (info.name, info.kind, info.method, size, info.license, info.problem)))
    new_console().print(table)


def _types_table(types: Sequence[TypeProbability]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(justify="right")
    for found in types:
        table.add_row(*map(_text, (f"{found.probability:.1%}", found.name, found.type_id)))
    return table


def _skus_table(skus: Sequence[SkuCandidate]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("product", no_wrap=True)
    table.add_column("title and features", ratio=3)
    table.add_column("price", justify="right", no_wrap=True)
    table.add_column("why", ratio=2)
    for sku in skus:
        features = ", ".join(f"{name} {_value(value)}" for name, value in sku.features.items())
        title = Text.assemble(printable(sku.title), ("\n" + printable(features) if features else "", "dim"))
        table.add_row(_text(sku.product_id), title, _text(_price(sku.price, sku.currency)), _text(sku.reason))
    return table


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "/".join(map(str, value)) if isinstance(value, list) else str(value)


def new_console() -> Console:
    """One that fits the terminal, or where output goes to a file or a pipe is as wide as lines may be."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _PLAIN_WIDTH)


def _text(text: str) -> Text:
    """Not a bare string, in which rich would read brackets as mark-up."""
    return Text(printable(text))


def _price(price: float | None, currency: str) -> str:
    return "" if price is None else f"{currency} {price:,.2f}".removesuffix(".00").strip()


@contextmanager
def training_progress() -> Iterator[Callable[[str, int, int, str], None]]:
    """A bar, moved by its callback (task, done, total, detail), and above it what training logs."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[detail]}"),
        TimeRemainingColumn(),
    )  # fmt: skip
    console = Console(stderr=True, width=None if sys.stderr.isatty() else _PLAIN_WIDTH)
    logger, handler = logging.getLogger("training"), RichHandler(console=console, show_path=False, show_level=False)
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
            bar = bars.add_task("", total=None, detail="")

            def moved(task: str, done: int, total: int, detail: str = "") -> None:
                bars.update(bar, description=task, completed=done, total=total, detail=detail)

            yield moved
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


@contextmanager
def progress_bars() -> Iterator[tuple[Callable[[int, int], None], Callable[[str, int, int | None], None]]]:
    """A bar for reading, by bytes, and by products for vectors, types and tokens: the callbacks that move them."""
    columns = (
        TextColumn("{task.description:<8}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[detail]}"),
        TimeRemainingColumn(),
    )  # fmt: skip
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        text = bars.add_task("text", total=None, detail="")
        later = {
            stage: bars.add_task(name, total=None, detail="", visible=False)
            for stage, name in ((DENSE, "vectors"), (ROUTE, "types"), (RERANK, "tokens"))
        }
        began = 0.0  # the stage after those that are done

        def read(done: int, total: int) -> None:
            bars.update(text, completed=done, total=total)

        def built(stage: str, done: int, total: int | None) -> None:
            nonlocal began
            now = time.perf_counter()
            if stage == LEXICAL:
                began = now
                bars.update(text, detail=f"{done:,} products")
                return
            detail = f"{done:,} products, {done / max(now - began, 1e-9):,.0f} a second"
            bars.update(later[stage], completed=done, total=total, visible=True, detail=detail)
            if done == total:
                began = now

        yield read, built
