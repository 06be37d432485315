"""What the command shows on a terminal: results as tables, builds as bars."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from engine.builder import DENSE, LEXICAL
from engine.explain import printable, timings, why
from engine.product import Product
from engine.types import SearchResult

_MAX_SHOWN = 12  # values of a facet
_PLAIN_WIDTH = 160  # columns, where output goes to a file or a pipe


def print_result(result: SearchResult) -> None:
    """Prints hits as a table, then facets, then what each stage took."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
    if result.hits:
        table = Table(box=None, pad_edge=False)
        table.add_column("#", justify="right")
        table.add_column("score", justify="right")
        table.add_column("title", ratio=3)
        table.add_column("price", justify="right", no_wrap=True)
        table.add_column("why", ratio=2, style="dim")
        for hit in result.hits:
            cells = (str(hit.rank), f"{hit.score:.3f}", hit.product.title, _price(hit.product), why(hit))
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


def _text(text: str) -> Text:
    """Not a bare string, in which rich would read brackets as mark-up."""
    return Text(printable(text))


def _price(product: Product) -> str:
    if product.price is None:
        return ""
    return f"{product.currency} {product.price:,.2f}".removesuffix(".00").strip()


@contextmanager
def progress_bars() -> Iterator[tuple[Callable[[int, int], None], Callable[[str, int, int | None], None]]]:
    """A bar for reading, by bytes, and one for vectors, by products: the two callbacks that move them."""
    columns = (
        TextColumn("{task.description:<8}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[detail]}"),
        TimeRemainingColumn(),
    )  # fmt: skip
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        text = bars.add_task("text", total=None, detail="")
        vectors = bars.add_task("vectors", total=None, detail="", visible=False)
        began = 0.0

        def read(done: int, total: int) -> None:
            bars.update(text, completed=done, total=total)

        def built(stage: str, done: int, total: int | None) -> None:
            nonlocal began
            if stage == LEXICAL:
                began = time.perf_counter()
                bars.update(text, detail=f"{done:,} products")
            elif stage == DENSE:
                rate = done / (time.perf_counter() - began)
                detail = f"{done:,} products, {rate:,.0f} a second"
                bars.update(vectors, completed=done, total=total, visible=True, detail=detail)

        yield read, built
