"""What the command shows on a terminal: results as tables, builds as bars."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from engine.builder import DENSE, LEXICAL, RERANK
from engine.explain import printable, timings, why
from engine.product import Product
from engine.types import SearchResult

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
    """A bar for reading, by bytes, and by products one for vectors and one for tokens: the callbacks that move them."""
    columns = (
        TextColumn("{task.description:<8}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[detail]}"),
        TimeRemainingColumn(),
    )  # fmt: skip
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        text = bars.add_task("text", total=None, detail="")
        later = {
            stage: bars.add_task(name, total=None, detail="", visible=False)
            for stage, name in ((DENSE, "vectors"), (RERANK, "tokens"))
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
            detail = f"{done:,} products, {done / (now - began):,.0f} a second"
            bars.update(later[stage], completed=done, total=total, visible=True, detail=detail)
            if done == total:
                began = now

        yield read, built
