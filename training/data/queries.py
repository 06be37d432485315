"""From catalog files to a file of generated examples: reads, indexes, derives types, makes queries, writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import msgspec
import numpy as np

from engine.analysis.analyzer import Analyzer
from engine.catalog import read_catalog
from engine.config import EngineConfig, IndexConfig, available_cores
from engine.dense.encoder import OnnxEncoder
from engine.product import Product
from engine.seams import Embeddings, Encoder
from engine.search import SearchEngine
from qpt.product_types import ProductTypes, derive
from qpt.title_types import read_heads
from qpt.types_file import read_types, write_types
from training.data.generate import generate, write_queries

#: What finds candidates: the hybrid search alone. What a model will rerank is to come from there, routed or not.
_INDEX = EngineConfig(index=IndexConfig(reranker="", router=""))
Progress = Callable[[str, int, int, str], None]


@dataclass(frozen=True, slots=True)
class Made:
    """What was written: queries by kind, examples, and the file of product types, to be read and corrected."""

    kinds: Mapping[str, int]
    n_examples: int
    types_file: Path
    types: ProductTypes


def make_queries(
    catalogs: Sequence[Path],
    out: Path,
    *,
    n_queries: int,
    seed: int = 0,
    taxonomy: Path | None = None,
    encoder: Encoder | None = None,
    progress: Progress = lambda task, done, total, detail: None,
) -> Made:
    """Writes examples of ``n_queries`` queries over all ``catalogs`` to ``out``, and their types to ``out``.types.tsv.

    Corrections in a types file that is already there are kept, and count. Products of several catalogs have the
    catalog's number, from 1, before their ids. ``encoder`` stands in for the shipped one. Raises AisleErrors.
    """
    types_file = out.with_name(f"{out.name}.types.tsv")
    corrections = read_types(types_file).corrections if types_file.exists() else None
    shops = [list(read_catalog(path)) for path in catalogs]
    if len(shops) > 1:
        shops = [[_numbered(product, n) for product in shop] for n, shop in enumerate(shops, 1)]
    products = [product for shop in shops for product in shop]
    engine, types = searchable(shops, taxonomy, encoder=encoder, progress=progress)
    types = types.corrected(corrections) if corrections else types
    write_types(types_file, types, products)
    made = generate(
        products, engine, types, n_queries, seed=seed, progress=lambda done, total: progress("queries", done, total, "")
    )
    return Made(Counter(q.kind for q in made), write_queries(out, made, products), types_file, types)


def searchable(
    shops: Sequence[Sequence[Product]],
    taxonomy: Path | None = None,
    *,
    encoder: Encoder | None = None,
    progress: Progress = lambda task, done, total, detail: None,
) -> tuple[SearchEngine, ProductTypes]:
    """An index of all products, in a temporary folder, and the types of each shop's, joined.

    ``taxonomy`` has names of types that titles may be read by; ``encoder`` stands in for the shipped one.
    """
    remembering = _Remembering(encoder or OnnxEncoder.named(IndexConfig().encoder, threads=available_cores()))
    engine = SearchEngine.build(
        [product for shop in shops for product in shop], config=_INDEX, encoder=remembering,
        progress=lambda stage, done, total: progress(stage, done, total or 0, "products"),
    )  # fmt: skip
    heads = read_heads(taxonomy, Analyzer()) if taxonomy else None
    types = reduce(ProductTypes.joined, (derive(shop, remembering.encode_products(shop), heads) for shop in shops))
    return engine, types


def _numbered(product: Product, number: int) -> Product:
    return msgspec.structs.replace(product, product_id=f"{number}:{product.product_id}")


class _Remembering:
    """An encoder that encodes each product once: the index and the types need the same vectors."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._vectors: dict[str, Embeddings] = {}
        self.dim, self.fingerprint = encoder.dim, encoder.fingerprint
        self.understands, self.encode_queries = encoder.understands, encoder.encode_queries

    def encode_products(self, products: Sequence[Product]) -> Embeddings:
        new = [product for product in products if product.product_id not in self._vectors]
        for product, vector in zip(new, self._encoder.encode_products(new) if new else (), strict=True):
            self._vectors[product.product_id] = vector
        return np.stack([self._vectors[product.product_id] for product in products])
