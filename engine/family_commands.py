"""The commands about a catalog's own language: ``aisle families``, its model series, and ``aisle synonyms``."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import typer

from engine.arguments import AsJson, Index, print_json
from engine.builder import open_encoder
from engine.columns import Columns
from engine.config import EngineConfig
from engine.errors import CatalogError, IndexMismatchError
from engine.families.lines import Line, generations
from engine.families.store import FAMILIES, ProductFamilies
from engine.families.type_words import TypeWord, learn, load, rules
from engine.storage.manifest import current_version, read_manifest
from engine.types import Rows
from engine.understanding.words import tokens

_LABELS = 8  # generations that a line of output names


def families(index: Index, as_json: AsJson = False) -> None:
    """Show the series of models that the catalog has, with their generations, and what bears them out.

    Example: aisle families shop-index
    """
    lines = _families(_version(index)).lines
    if as_json:
        print_json(msgspec.to_builtins(lines))
        return
    for line in lines:
        typer.echo(f"{line.name}  ({' > '.join(line.kind) or line.brand}; {_evidence(line)})")
        found = generations(line)
        shown = " < ".join(label for _, label, _ in found[-_LABELS:])
        typer.echo(f"    {'… < ' if len(found) > _LABELS else ''}{shown}")
    typer.echo(f"{len(lines)} series of {sum(len(line.models) for line in lines)} models")


def synonyms(
    index: Index,
    clicks: Annotated[
        Path | None,
        typer.Option("--clicks", metavar="FILE", help="Queries and what was chosen, as QUERY<TAB>PRODUCT_ID lines."),
    ] = None,
    write: Annotated[
        Path | None, typer.Option("--write", metavar="FILE", help="Write the strong ones as a file of synonyms.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show other people's words for the catalog's types, with the evidence for each.

    Strong ones are searched as what the catalog calls the type. With clicks they are learnt anew, for a file to edit
    and to name as "synonyms" in the settings.

    Example: aisle synonyms shop-index --clicks log.tsv --write synonyms.txt
    """
    version = _version(index)
    found = _learnt(version, clicks) if clicks else load(version / FAMILIES)
    if write:
        write.write_text("".join(f"{' '.join(word)} => {' '.join(name)}\n" for word, name in rules(found)))
    if as_json:
        print_json(msgspec.to_builtins(found))
        return
    for entry in found:
        typer.echo(f"{'on ' if entry.strong else 'off'} {entry.word} → {entry.name}  ({_told(entry)})")
    typer.echo(f"{sum(entry.strong for entry in found)} of {len(found)} words have strong evidence")


def _version(index: Path) -> Path:
    version = current_version(index)
    if not (version / FAMILIES).exists():
        raise IndexMismatchError(
            f"{index} was built by an aisle that kept no families. "
            f"Build it again with: aisle build CATALOG --out {index}"
        )
    return version


def _families(version: Path) -> ProductFamilies:
    return ProductFamilies.open(version / FAMILIES)


def _learnt(version: Path, clicks: Path) -> tuple[TypeWord, ...]:
    columns = Columns.open(version)
    encoder = open_encoder(EngineConfig(index=read_manifest(version).config))
    return learn(
        columns, _families(version), encoder.encode_queries if encoder else None, dict(_chosen(columns, clicks))
    )


def _chosen(columns: Columns, clicks: Path) -> Iterator[tuple[str, Rows]]:
    """For each word of the queries the rows chosen after it. Raises CatalogError naming a bad line."""
    rows = {product_id: int(of[0]) for product_id, of in columns.postings("product_id")}
    by_word: dict[str, list[int]] = defaultdict(list)
    with clicks.open(encoding="utf-8", newline="") as file:
        for number, line in enumerate(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE), 1):
            if len(line) != 2:
                raise CatalogError(str(clicks), number, None, "write a query, a tab and a product_id")
            if line[1] in rows:
                for token in tokens(line[0]):
                    by_word[token.text].append(rows[line[1]])
    return ((word, np.array(chosen, np.int64)) for word, chosen in by_word.items())


def _evidence(line: Line) -> str:
    what = "released in the order of their numbers" if line.evidence == "released" else "dearer with each number"
    return f"{line.concordance:.0%} of pairs {what}"


def _told(entry: TypeWord) -> str:
    parts = [f"{entry.inside} of {entry.titles} titles with it are {entry.type}"] if entry.titles else ["in no title"]
    parts.append(f"cosine {entry.cosine:.2f}, of the next type {entry.rival:.2f}")
    if entry.clicks:
        parts.append(f"{entry.clicked} of {entry.clicks} clicks")
    return "; ".join([*parts, *(["an everyday word for it"] if entry.prior else [])])
