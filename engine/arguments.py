"""What several commands of ``aisle`` take, and how they answer machines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from engine.config import EngineConfig, SearchConfig

Index = Annotated[Path, typer.Argument(metavar="INDEX", help="The directory of an index.")]
Query = Annotated[str, typer.Argument(metavar="QUERY", help="What a shopper would type.")]
Catalog = Annotated[Path, typer.Argument(metavar="CATALOG", help=".jsonl, .csv, .tsv (also .gz) or .parquet.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Settings, as TOML.")]
Taxonomy = Annotated[
    Path | None, typer.Option("--taxonomy", metavar="FILE", help="Type names, A > B > C a line, as Google's.")
]


def print_json(data: object) -> None:
    typer.echo(msgspec.json.format(msgspec.json.encode(data)).decode())


def search_config(path: Path | None) -> SearchConfig | None:
    return EngineConfig.read(path).search if path else None
