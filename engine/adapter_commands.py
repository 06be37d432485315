"""``aisle adapter``: what seasons, regions and campaigns bring to an index's models, added and removed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from engine.adapters import Adapter
from engine.arguments import AsJson, Index, print_json
from engine.search import SearchEngine
from engine.storage.adapter_store import AdapterStore
from engine.storage.manifest import current_version
from engine.terminal import megabytes, print_adapters, program

AdapterName = Annotated[
    str | None, typer.Option("--adapter", metavar="NAME", help="Answer with this adapter, see aisle adapter.")
]

adapter = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="""Adapters of an index: small files that change how its models judge, for a season, a region or a campaign.

    A search chooses one by name, so one index serves them all: aisle search INDEX QUERY --adapter NAME. A name may
    stand for two files, one for the reranker and one for the encoder, which are chosen together. They stay when the
    index is built again.
    """,
)


@adapter.command()
def add(
    index: Index,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An adapter, as training exports it.")],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="What searches call it. [default: what the file says]")
    ] = None,
) -> None:
    """Add an adapter to an index, or replace that of the same name and kind.

    It is first tried on the index's models, and refused where it was made for others. Engines that are loaded from now
    on have it; one that is running takes it with SearchEngine.add_adapter.

    Example: aisle adapter add shop-index diwali.safetensors
    """
    found = Adapter.read(file)
    if name is not None:
        found = found.named(name)
    info = SearchEngine.load(index).add_adapter(found)
    replaced = AdapterStore(index).put(found)
    what = f"the adapter {info.name} for the {info.kind} ({info.method}, {megabytes(info.size)})"
    typer.echo(f"{index}: {'replaced' if replaced else 'added'} {what}")
    typer.echo(f'\nChoose it: {program()} search {index} "your query" --adapter {info.name}')


@adapter.command("list")
def list_(index: Index, as_json: AsJson = False) -> None:
    """List the adapters of an index, and what is wrong with those that cannot be used.

    Example: aisle adapter list shop-index
    """
    infos = SearchEngine.load(index).adapters
    if as_json:
        print_json({"directory": str(index), "adapters": msgspec.to_builtins(infos)})
    elif infos:
        print_adapters(infos)
    else:
        typer.echo(f"{index} has no adapters. Add one with: {program()} adapter add {index} FILE")


@adapter.command()
def remove(index: Index, name: Annotated[str, typer.Argument(metavar="NAME", help="As list says it.")]) -> None:
    """Remove an adapter from an index: that of the reranker, of the encoder, or both.

    An engine that is running keeps it until SearchEngine.remove_adapter or its end.

    Example: aisle adapter remove shop-index diwali
    """
    current_version(index)
    kinds = AdapterStore(index).remove(name)
    typer.echo(f"{index}: removed the adapter {name} for the {' and the '.join(kinds)}")
