"""The commands about product types: ``aisle route`` and ``types``. The latter loads ``qpt`` when it is run."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import typer

from engine.analysis.analyzer import Analyzer
from engine.arguments import AsJson, Catalog, ConfigFile, Index, Query, Taxonomy, print_json, search_config
from engine.catalog import read_catalog
from engine.config import IndexConfig, available_cores
from engine.dense.encoder import OnnxEncoder
from engine.errors import ConfigError
from engine.product import Product
from engine.seams import Embeddings
from engine.search import SearchEngine
from engine.terminal import print_route, program, training_progress

_ENCODE_BATCH = 256


def route(index: Index, query: Query, as_json: AsJson = False, config: ConfigFile = None) -> None:
    """Show the way from a query to product types and products, and why it is that.

    Misspellings, limits and negations that were read in it; the probable product types; what the search does about
    them; and the products to go to.

    Example: aisle route demo-index "samzung double door fridge under 60k"
    """
    found = SearchEngine.load(index, search_config(config)).search(query).route
    if found is None:
        raise ConfigError(
            f"{index} has no router and the settings understand nothing, so there is no route. "
            "Build the index with an encoder and router = 'catalog', or name steps in understand"
        )
    if as_json:
        print_json({"query": query, **msgspec.to_builtins(found)})
    else:
        print_route(query, found)


def types(
    catalog: Catalog,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where the types go, tab-separated.")],
    taxonomy: Taxonomy = None,
) -> None:
    """Derive the product types of a catalog, for people to read and correct.

    They write in the column "correction": another type, "-" for none, or "< TYPE" for the type above. What is there
    is kept when the same command is run again, and is shown as it then counts.

    Example: aisle types products.csv --out types.tsv
    """
    product_types, types_file = import_module("qpt.product_types"), import_module("qpt.types_file")
    corrections = types_file.read_types(out).corrections if out.exists() else None
    heads = import_module("qpt.title_types").read_heads(taxonomy, Analyzer()) if taxonomy else None
    products = list(read_catalog(catalog))
    derived = product_types.derive(products, heads=heads)
    if _vectors_help(derived):
        derived = product_types.derive(products, _encoded(products), heads)
    found = derived.corrected(corrections) if corrections else derived
    types_file.write_types(out, found, products)
    typed = sum(typing.type_id is not None for typing in found.typings.values())
    n = len(corrections.types) + len(corrections.products) if corrections else 0
    typer.echo(f"{out}: {len(found.types):,} product types; {typed:,} of {len(products):,} products have one")
    if found.held_out_accuracy is not None:
        typer.echo(f"types by attributes are right for {found.held_out_accuracy:.0%} of titles held out")
    typer.echo(f"{n:,} corrections" if n else 'Correct them in the column "correction", and run this again.')
    typer.echo(f"\nUse them: {program()} build {catalog} --out INDEX --router {out}")


def _vectors_help(derived: Any) -> bool:
    """Whether there are products without a type, and titles that a classifier can learn from: vectors take minutes."""
    typings = derived.typings.values()
    return any(t.type_id is None for t in typings) and any(t.source == "title" for t in typings)


def _encoded(products: list[Product]) -> Embeddings:
    encoder = OnnxEncoder.named(IndexConfig().encoder, threads=available_cores())
    vectors = np.empty((len(products), encoder.dim), np.float32)
    with training_progress() as progress:
        for start in range(0, len(products), _ENCODE_BATCH):
            batch = products[start : start + _ENCODE_BATCH]
            vectors[start : start + len(batch)] = encoder.encode_products(batch)
            progress("vectors", start + len(batch), len(products), "")
    return vectors
