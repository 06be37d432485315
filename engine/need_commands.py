"""The command about needs: ``aisle needs``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from engine.arguments import AsJson, ConfigFile, Index, print_json, search_config
from engine.config import SearchConfig
from engine.errors import ConfigError
from engine.needs.lexicon import SHIPPED
from engine.search import SearchEngine
from engine.terminal import print_needs


def needs(
    index: Index,
    as_json: AsJson = False,
    write: Annotated[
        Path | None,
        typer.Option(
            "--write", metavar="FILE", help="Write the entries there, to edit and name as `needs` in [search]."
        ),
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Show what "big", "cheapest" or "for gaming" ask of the products of each category.

    For a direction the attribute that it means there, with its 10th, 50th and 90th percentiles and the product that has
    the most of it; for a use what it wants, what the catalog's own texts add, and the product that meets it best.

    Example: aisle needs demo-index
    """
    settings = search_config(config) or SearchConfig()
    if write is not None:
        if write.exists():
            raise ConfigError(f"--write {write} exists; name a file that does not")
        write.write_bytes((SHIPPED if settings.needs in ("", "shipped") else Path(settings.needs)).read_bytes())
        typer.echo(f'{write}: edit it, and name it under [search]: needs = "{write}"')
        return
    engine = SearchEngine.load(index, settings)
    found = engine.needs()
    if as_json:
        print_json([{**msgspec.to_builtins(need), "best": title} for need, title in found])
    else:
        print_needs(found)
