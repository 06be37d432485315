"""The command about needs: ``aisle needs``."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.tree import Tree

from engine.arguments import AsJson, ConfigFile, Index, print_json, search_config
from engine.errors import ConfigError
from engine.needs.lexicon import SHIPPED, Lexicon, read_text
from engine.needs.shown import ShownNeed
from engine.search import SearchEngine
from engine.terminal import console, plain


def needs(
    index: Index,
    as_json: AsJson = False,
    write: Annotated[
        Path | None,
        typer.Option("--write", metavar="FILE", help="Write the entries there, to edit and name as `needs` in [search]."),
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Show what "big", "cheapest" or "for gaming" ask of the products of each category.

    For a direction the attribute that it means there, with its 10th, 50th and 90th percentiles and the product that has
    the most of it; for a use what it wants, what the catalog's own texts add, and the product that meets it best.

    Example: aisle needs demo-index
    """
    settings = search_config(config)
    if write is not None:
        if write.exists():
            raise ConfigError(f"--write {write} exists; name a file that does not")
        write.write_text(read_text(settings.needs), encoding="utf-8")
        typer.echo(f'{write}: edit it, and name it under [search]: needs = "{write}"')
        return
    engine = SearchEngine.load(index, settings)
    found = engine.needs()
    titles = engine.titles([need.best for need in found])
    if as_json:
        print_json([{**msgspec.to_builtins(need), "best": title} for need, title in zip(found, titles, strict=True)])
        return
    _print(list(zip(found, titles, strict=True)))


def _print(found: list[tuple[ShownNeed, str]]) -> None:
    for category, needs_of in groupby(found, key=lambda one: one[0].category):
        tree = Tree(plain(category))
        for need, title in needs_of:
            asks = ", ".join(need.asks)
            if need.percentiles:
                asks += f" ({' / '.join(f'{value:,.10g}' for value in need.percentiles)})"
            if need.learnt:
                asks += f"; learnt of {need.saying} products: {', '.join(need.learnt)}"
            tree.add(plain(f"{need.name}: {asks}; first {title}"))
        console().print(tree)


__all__ = ["SHIPPED", "Lexicon", "needs"]
