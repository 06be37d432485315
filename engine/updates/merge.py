"""A new version of the products there are, once changes have piled up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from engine.builder import Progress, build_index, open_reranker, open_router
from engine.config import EngineConfig
from engine.dense.retriever import DenseRetriever
from engine.documents import DocumentStore, document_text
from engine.errors import UpdateError
from engine.product import Product
from engine.seams import Embeddings, Encoder, RerankerModel, RouterModel
from engine.storage.change_log import ChangeLog
from engine.storage.manifest import current_name
from engine.types import Rows

if TYPE_CHECKING:
    from engine.search import SearchEngine

__all__ = ["Progress", "merge"]


class _KnownVectors:
    """An ``Encoder`` that has already encoded an index's products and documents."""

    def __init__(self, dense: DenseRetriever, rows: dict[str, int], documents: DocumentStore | None) -> None:
        self._encoder, self._index, self._rows = dense.encoder, dense.index, rows
        self._documents: dict[str, Embeddings] = {}
        if documents is not None and documents.vectors is not None:
            self._documents = dict(zip(map(document_text, documents.passages), documents.vectors, strict=True))

    @property
    def dim(self) -> int:
        return self._encoder.dim

    @property
    def fingerprint(self) -> str:
        return self._encoder.fingerprint

    def understands(self, query: str) -> bool:
        return self._encoder.understands(query)

    def encode_queries(self, queries: Sequence[str]) -> Embeddings:
        new = [query for query in queries if query not in self._documents]
        if len(new) == len(queries):
            return self._encoder.encode_queries(queries)
        encoded = dict(zip(new, self._encoder.encode_queries(new), strict=True)) if new else {}
        return np.stack([self._documents[query] if query in self._documents else encoded[query] for query in queries])

    def encode_products(self, products: Sequence[Product]) -> Embeddings:
        rows: Rows = np.array([self._rows[product.product_id] for product in products], np.int64)
        return self._index.vectors(rows)


def merge(
    engine: SearchEngine, n_commits: int, progress: Progress, reranker: RerankerModel | None, router: RouterModel | None
) -> bool:  # fmt: skip
    """Builds and publishes what a snapshot holds after its first ``n_commits``; whether there were any.

    What is committed meanwhile goes into the new version's log. Vectors, of products and documents, are those of the
    index; the rest is built anew.
    Raises UpdateError where the engine was loaded without the index's vectors, or another version was published.
    """
    if not n_commits:
        return False
    index, before = engine.version.parent.parent, engine.version.name
    manifest, dense = engine.manifest, engine._ranker.dense
    rows = engine._columns.rows
    products = engine._products.get(rows)
    documents = engine._opened.documents
    encoder: Encoder | None = None
    if manifest.dense_kind:
        if dense is None:
            raise UpdateError("the engine was loaded without dense retrieval, so it has no vectors to merge")
        of_ids = {product.product_id: row for product, row in zip(products, rows.tolist(), strict=True)}
        encoder = _KnownVectors(dense, of_ids, documents)
    old = ChangeLog(index, before)

    def settle(name: str) -> None:
        if current_name(index) != before:
            raise UpdateError("another version was published while this one was merged; merge again")
        new, end = ChangeLog(index, name), 0
        later = [batch for batch, _ in old.read() if batch.number > n_commits]
        if any(batch.undo is not None for batch in later):
            raise UpdateError("the index went back to an earlier commit while it was merged; merge again")
        for number, batch in enumerate(later, 1):
            end = new.append(msgspec.structs.replace(batch, number=number), end)

    config = EngineConfig(index=manifest.config, search=engine.config)
    build_index(
        products, index, config, encoder=encoder, reranker=reranker or open_reranker(manifest.config.reranker),
        router=router or (open_router(manifest.config.router) if encoder else None), progress=progress,
        documents=documents.passages if documents else None,
        scale=dense.index.scale if dense and dense.index.kind == "sq8" else None, settle=settle,
    )  # fmt: skip
    return True
