"""What the benchmarks' commands share: their options, each with its type and its help, and how they fail."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.systems import SYSTEMS
from engine.errors import AisleError


@contextmanager
def errors_to(console: Console) -> Iterator[None]:
    """A user's mistake ends the command with what it is, on ``console``, and status 1."""
    try:
        yield
    except AisleError as error:
        console.print(f"error: {error}", style="red", markup=False, highlight=False)
        raise typer.Exit(1) from error


def _path(text: str, default: str | bool = False) -> object:
    return typer.Option(help=text, show_default=default)


Set = Annotated[str, typer.Option("--set", help="A folder of --data, or sample, which is the shipped catalog.")]
Split = Annotated[
    str | None, typer.Option(help="Which queries: train, dev, …", show_default="dev; synthetic for the sample")
]
Systems = Annotated[
    str,
    typer.Option(
        help=f"What to measure, comma-separated: {', '.join(SYSTEMS)}, or module:attribute. "
        "The report shows where the last one differs from the first."
    ),
]
Data = Annotated[Path | None, typer.Option(envvar="AISLE_DATA", help="The folder of the search sets.")]
Queries = Annotated[Path | None, _path("Queries (id<TAB>text) in place of the split's own.")]
Qrels = Annotated[Path | None, _path("Judgments (TREC qrels) in place of the split's own.")]
Relevant = Annotated[int | None, typer.Option(help="The lowest relevant grade.", show_default="the set's own")]
First = Annotated[int | None, typer.Option(min=1, help="Only the first N queries, by id (a-9 comes before a-10).")]
Pool = Annotated[bool, typer.Option("--pool", help="Rank only the products judged for each query.")]
K = Annotated[int, typer.Option(min=1, help="Results per query. R@100 and the full nDCG see no further than this.")]
Adapters = Annotated[
    list[Path] | None,
    typer.Option("--adapter", metavar="FILE", help="An adapter for systems whose name ends in +adapter; repeatable."),
]
OnePass = Annotated[Path | None, typer.Option("--onepass", help="The directory of a one-pass encoder.")]
Listwise = Annotated[Path | None, typer.Option("--listwise", help="The directory of a listwise reranker.")]
Config = Annotated[Path | None, _path("An engine configuration (TOML) to start from, in place of the defaults.")]
Index = Annotated[
    Path | None,
    _path(
        "Where indexes are kept. One is used again while catalog, settings, encoder and code are the same.",
        "~/.cache/aisle-bench",
    ),
]
Out = Annotated[
    Path | None,
    _path("The result (JSON); the report (.md) and plot (.png) go beside it.", "results/SET-SPLIT.json"),
]
Runs = Annotated[Path | None, _path("Folder of the TREC run files, SYSTEM.run.", "beside --out")]
Seed = Annotated[int, typer.Option(min=0, help="Of everything that is drawn at random.")]
WarmUp = Annotated[
    int, typer.Option(min=1, help="Searches before the first timed one. A JVM gets faster over thousands of them.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON, not as tables.")]

Reranker = Annotated[
    str,
    typer.Option(
        metavar="NAME_OR_DIR", help="The reranker that Aisle serves, in 8 bits: a shipped one's name, or a directory."
    ),
]
PeerModel = Annotated[
    Path | None,
    _path("The transformers checkpoint that peers and Aisle in fp32 run.", "random weights in the reranker's shape"),
]
Candidates = Annotated[str, typer.Option(help="Products scored in a call, comma-separated.")]
Threads = Annotated[
    str, typer.Option(help="Numbers of threads, comma-separated; more than there are cores are left out.")
]
Lengths = Annotated[
    str,
    typer.Option(
        "--lengths",
        help="Tokens of a product, comma-separated: whole numbers (all products are that long) and real (their own "
        "lengths). Peers are measured at the last one only.",
    ),
]
Rounds = Annotated[int, typer.Option(min=1, help="The fewest timed calls of each system, for each combination.")]
Seconds = Annotated[float, typer.Option(min=0, help="How long each system goes on, for each combination.")]
Deadlines = Annotated[
    str, typer.Option(help="Deadlines of searches in ms, comma-separated; empty leaves this part out.")
]
Quick = Annotated[
    bool, typer.Option("--quick", help="10 and 50 candidates of real lengths, few rounds: to try it out.")
]
ProfileOut = Annotated[
    Path, typer.Option("--out", help="The result (JSON); the report (.md) and plot (.png) go beside it.")
]

Sets = Annotated[str, typer.Option(help="SET:SPLIT or SET:SPLIT+SPLIT, with @N only N drawn queries; comma-separated.")]
Chosen = Annotated[
    Path,
    typer.Option("--out", help="The chosen configuration (TOML); the trials (.json), page and plot go beside it."),
]
Trials = Annotated[int, typer.Option(min=1, help="How many in a search for one family's numbers on one fold.")]
Serial = Annotated[bool, typer.Option("--serial", help="Search all catalogs in one process, not in one each.")]
Resume = Annotated[bool, typer.Option("--resume", help="Take the trials beside --out for done.")]


def lists(onepass: Path | None, listwise: Path | None) -> dict[str, Path]:
    """The directories that were given, by the part of a system's name."""
    return {name: path for name, path in (("onepass", onepass), ("listwise", listwise)) if path}
