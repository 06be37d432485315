"""``aisle update``, ``merge``, ``versions``, ``rollback`` and ``prune``: looking after an index that changes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from engine.arguments import AsJson, Index, print_json
from engine.config import SearchConfig
from engine.search import SearchEngine
from engine.storage import versions as stored
from engine.terminal import megabytes, program, progress_bars
from engine.updates.changes import read_changes

Wait = Annotated[float, typer.Option("--wait", metavar="SECONDS", min=0, help="How long to wait for another writer.")]
_WITHOUT_MODELS = SearchConfig(rerank_depth=0, needs="", understand=(), synonyms="", combiner="", rewriter="")


def update(
    index: Index,
    changes: Annotated[Path, typer.Argument(metavar="CHANGES", help="JSON lines, each with an op.")],
    wait: Wait = 10.0,
    as_json: AsJson = False,
) -> None:
    """Change products of an index: all changes of a file at once, or none.

    A line is {"op": "add", ...} with a whole product, which takes the place of one of the same id; {"op": "update",
    "product_id": ..., ...} with the fields that change; or {"op": "delete", "product_id": ...}. When this ends they are
    on the disk; running engines see them when they refresh.

    Example: aisle update shop-index prices.jsonl
    """
    wanted = list(read_changes(changes))
    engine = SearchEngine.load(index, _WITHOUT_MODELS)
    started = time.perf_counter()
    done = engine.commit(wanted, wait_s=wait)
    took = time.perf_counter() - started
    if as_json:
        print_json({"directory": str(index), "version": engine.version.name, **msgspec.structs.asdict(done)})
        return
    typer.echo(
        f"{index}: {done.put:,} put, {done.patched:,} patched, {done.deleted:,} deleted in {took:.1f} s"
        + (f"; {done.missing:,} deletes of products that are not there" if done.missing else "")
    )
    if done.number:
        typer.echo(f"\nTake it back: {program()} rollback {index} @{done.number - 1}")


def merge(index: Index, as_json: AsJson = False) -> None:
    """Publish a version of an index with all its changes in it.

    Needed once changes are many: they are held in memory, and what is learnt of a catalog (product types, series,
    pairs of words) follows them only now. The index can be searched and changed meanwhile.

    Example: aisle merge shop-index
    """
    engine = SearchEngine.load(index, _WITHOUT_MODELS)
    started = time.perf_counter()
    with progress_bars() as (_, built):
        merged = engine.merge(built)
    took = time.perf_counter() - started
    if as_json:
        print_json({"directory": str(index), "merged": merged, "version": engine.version.name, "n": len(engine)})
    elif merged:
        typer.echo(f"{index}: {len(engine):,} products in {took:.1f} s, version {engine.version.name}")
    else:
        typer.echo(f"{index} has no changes to merge")


def versions(index: Index, as_json: AsJson = False) -> None:
    """List the versions of an index, the newest first.

    Example: aisle versions shop-index
    """
    found = stored.versions(index)
    if as_json:
        print_json({"directory": str(index), "versions": msgspec.to_builtins(found)})
        return
    for version in found:
        marks = [name for name, on in (("current", version.is_current), ("open", version.is_open)) if on]
        said = version.problem or f"{version.n_products:,} products built, {version.commits:,} commits since"
        typer.echo(f"{version.name}  {said}, {megabytes(version.bytes)}{'  ' + ', '.join(marks) if marks else ''}")


def rollback(
    index: Index,
    version: Annotated[
        str | None, typer.Argument(metavar="VERSION", help="A name, or @3 for a commit. [default: the one before]")
    ] = None,
    wait: Wait = 10.0,
    as_json: AsJson = False,
) -> None:
    """Go back to an older version of an index, with the changes made to it, or to an earlier commit of one.

    Nothing is deleted: a later rollback, to the newer version's name, goes forward again.

    Example: aisle rollback shop-index @3
    """
    target = stored.rollback(index, version, wait_s=wait)
    if as_json:
        print_json({"directory": str(index), "version": target})
    else:
        typer.echo(f"{index} is now {target}; running engines follow when they refresh")


def prune(
    index: Index,
    keep: Annotated[int, typer.Option(min=1, help="How many versions stay, the newest ones.")] = 2,
    wait: Wait = 10.0,
    as_json: AsJson = False,
) -> None:
    """Delete old versions of an index, but never the current one, nor one that a live process has open.

    Example: aisle prune shop-index --keep 2
    """
    deleted, kept = stored.prune(index, keep, wait_s=wait)
    if as_json:
        print_json({"directory": str(index), "deleted": deleted, "kept_open": kept})
        return
    typer.echo(f"{index}: {len(deleted)} versions deleted{': ' + ', '.join(deleted) if deleted else ''}")
    for name in kept:
        typer.echo(f"{name} stays: a live process has it open")
