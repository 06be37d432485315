"""The commands about a shop's log: ``aisle log rows`` and ``queries``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine.arguments import AsJson, print_json
from engine.explain import printable
from engine.feedback_rows import Counts, write_queries, write_rows
from engine.terminal import program

Directory = Annotated[Path, typer.Argument(metavar="LOG", help="The directory that the setting log names.")]

log = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="""What engine.log wrote of searches and clicks: as rows for training, and as queries to suggest.""",
)


@log.command()
def rows(
    directory: Directory,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="A .jsonl, or .jsonl.gz.")],
    as_json: AsJson = False,
) -> None:
    """Write a row for each product that was shown: where, and whether it was clicked.

    Both aisle curate (an input of kind log) and aisle train (a source of kind clicks) read them.

    Example: aisle log rows shop-log --out clicks.jsonl.gz
    """
    counts = write_rows(directory, out)
    _tell(counts, out, as_json)


@log.command()
def queries(
    directory: Directory,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Tab-separated.")],
    as_json: AsJson = False,
) -> None:
    """Write how often each query was searched for, to suggest them to others.

    Example: aisle log queries shop-log --out queries.tsv
    """
    counts = write_queries(directory, out)
    _tell(counts, out, as_json)
    if not as_json:
        typer.echo(f"\nSuggest them: {program()} build CATALOG --out INDEX --queries {out}")


def _tell(counts: Counts, out: Path, as_json: bool) -> None:
    if as_json:
        print_json({"out": str(out), **{name: getattr(counts, name) for name in counts.__slots__}})
        return
    typer.echo(f"{out}: {counts.pages:,} pages with {counts.clicks:,} products clicked")
    if counts.stray_clicks:
        typer.echo(f"{counts.stray_clicks:,} clicks are on no page of the log, or on no product of theirs")
    if counts.bad_lines:
        typer.echo(printable(f"{counts.bad_lines:,} of {counts.lines:,} lines are no event: {'; '.join(counts.bad)}"))
