"""Dense retrieval: the products whose vectors are nearest to the query's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.dense.vectors import VectorIndex
from engine.seams import Embeddings, Encoder
from engine.types import Candidates, Mask, Rows


class DenseRetriever:
    """An encoder before a vector index.

    ``min_similarity`` is the cosine that the nearest product must reach for there to be any answer.
    """

    def __init__(self, encoder: Encoder, index: VectorIndex, min_similarity: float) -> None:
        self.encoder, self.index, self._floor = encoder, index, min_similarity

    def adapted(self, encoder: Encoder | None) -> DenseRetriever:
        """This one with ``encoder`` before the same vectors; itself without one."""
        return DenseRetriever(encoder, self.index, self._floor) if encoder else self

    def retrieve(self, query: str, k: int, *, allowed: Mask | None = None) -> Candidates:
        """The ``k`` nearest products by cosine; none when the query means nothing to the encoder or to the catalog."""
        return self.retrieve_near(query, k, allowed=allowed)[0]

    def retrieve_near(self, query: str, k: int, *, allowed: Mask | None = None) -> tuple[Candidates, float]:
        """As ``retrieve``, and the cosine of the nearest product, 1 where there is no telling."""
        if not self.encoder.understands(query):
            return Candidates.empty(), 1.0
        found = self.index.search(self.vector(query), k, allowed)
        near = float(found.scores[0]) if len(found) else 1.0
        return found if near >= self._floor else Candidates.empty(), near

    def vector(self, query: str) -> NDArray[np.float32]:
        """The query's unit vector, float32 (dim,)."""
        vector: NDArray[np.float32] = self.encoder.encode_queries([query])[0]
        return vector

    def vectors(self, rows: Rows) -> Embeddings:
        """The products' vectors, float32 (n, dim)."""
        return self.index.vectors(rows)
