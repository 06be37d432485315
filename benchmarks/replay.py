"""A search engine for trying settings: what the tried settings do not change is computed once and kept.

Kept for each query are its reading, its vector and nearest products, its lexical candidates for the field weights last
tried, what the head of the router says and what the reranker says of each product. The rest (fusion, feedback,
guidance, blending) is the engine's own code, so that a ranking is the one that a ``SearchEngine`` with these settings
gives. A trial takes a tenth of the time of searches: nothing is looked up twice, and no hit is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.config import SearchConfig
from engine.dense.retriever import DenseRetriever
from engine.dense.vectors import VectorIndex
from engine.guidance import NUMBERS as GUIDANCE_NUMBERS
from engine.guidance import GuidanceNumbers
from engine.lexical.retriever import LexicalRetriever, QueryExpansion
from engine.product import Product
from engine.ranker import Ranking, Request
from engine.seams import Embeddings, Encoder, Reranker
from engine.search import SearchEngine
from engine.storage.products import ProductStore
from engine.types import Candidates, Mask, Routed, Rows, Scored
from engine.understanding.understand import Understood
from qpt.router import NUMBERS as ROUTER_NUMBERS
from qpt.router import RouterNumbers, TypeRouter

_WEIGHTS_KEPT = 3  # sets of field weights whose lists are kept, the latest


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be tried on an index as it is."""

    search: SearchConfig = SearchConfig()
    guidance: GuidanceNumbers = GUIDANCE_NUMBERS
    router: RouterNumbers = ROUTER_NUMBERS


class ReplayEngine(SearchEngine):
    """Load it like a SearchEngine, with all stages that are to be tried switched on. Not for several threads."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        ranker = self._ranker
        if ranker.lexical is not None:
            ranker.lexical = _KeptLexical(ranker.lexical)
        if ranker.dense is not None:
            encoder, index = _KeptEncoder(ranker.dense.encoder), _KeptVectors(ranker.dense.index)
            ranker.dense = DenseRetriever(encoder, index, self.config.min_similarity)
        self.rerank_with(ranker.reranker)
        self._router = _KeptRouter(self._router) if isinstance(self._router, TypeRouter) else self._router
        self._numbers = GUIDANCE_NUMBERS
        self._reader = self._reader.acting(self._router, self._numbers)
        self._products = _KeptProducts(self.version)
        self._readings: dict[tuple[object, ...], tuple[Understood | None, str, tuple[QueryExpansion, ...]]] = {}

    def rerank_with(self, reranker: Reranker | None) -> None:
        """Takes ``reranker``, opened on this index's products, in place of the index's own."""
        self._ranker.reranker = _KeptReranker(reranker) if reranker is not None else None

    @cached_property
    def product_ids(self) -> list[str]:
        """By row."""
        return [product.product_id for product in ProductStore(self.version)]

    def trying(self, settings: Settings) -> ReplayEngine:
        """This engine with these settings; what is kept is shared."""
        plain = self.configured(settings.search)
        other = copy(self)
        other._live = None  # a view of this moment, which follows nothing
        other.config, other._ranker, other._numbers = plain.config, plain._ranker, settings.guidance
        if isinstance(self._router, _KeptRouter):
            other._router = self._router.with_numbers(settings.router)
        other._reader = plain._reader.acting(other._router, other._numbers)
        return other

    def rank(self, query: str, k: int, allowed: Mask | None = None) -> Ranking:
        """At least ``k`` rows, if so many match: those that ``search`` would make hits of, in its order."""
        return self._ranking(Request(query, None), k, allowed)[0]

    def _understood(self, request: Request) -> Understood | None:
        key = (self.config.understand, self.config.synonyms, self._ranker.lexical is None, request.query)
        if key not in self._readings:
            self._readings[key] = (super()._understood(request), request.meant, request.expansions)
        understood, request.meant, request.expansions = self._readings[key]
        return understood


class _KeptLexical(LexicalRetriever):
    """Plans, which no weight changes, are shared by all weights; lists are kept for those last tried."""

    def __init__(self, plain: LexicalRetriever) -> None:
        vars(self).update(vars(plain))
        self._lists: dict[tuple[object, ...], Candidates] = {}
        self._by_weights: dict[tuple[object, ...], _KeptLexical] = {}

    def configured(self, config: SearchConfig) -> LexicalRetriever:
        key = (config.field_tie, *sorted(config.field_weights.items()))
        if key not in self._by_weights:
            other = _KeptLexical(super().configured(config))
            other.plan, other._by_weights = self.plan, self._by_weights
            while len(self._by_weights) >= _WEIGHTS_KEPT:
                del self._by_weights[next(iter(self._by_weights))]
            self._by_weights[key] = other
        return self._by_weights[key]

    def retrieve(
        self, query: str, k: int, *, allowed: Mask | None = None, expansions: tuple[QueryExpansion, ...] = ()
    ) -> Candidates:
        if allowed is not None:
            return super().retrieve(query, k, allowed=allowed, expansions=expansions)
        key = (query, k, expansions)
        if key not in self._lists:
            self._lists[key] = super().retrieve(query, k, expansions=expansions)
        return self._lists[key]

    def retrieve_codes(self, query: str, k: int, *, allowed: Mask | None = None) -> Candidates:
        if allowed is not None:
            return super().retrieve_codes(query, k, allowed=allowed)
        key = ("codes", query, k)
        if key not in self._lists:
            self._lists[key] = super().retrieve_codes(query, k)
        return self._lists[key]


class _KeptEncoder:
    """An ``Encoder`` that encodes a query once."""

    def __init__(self, inner: Encoder) -> None:
        self._inner, self.dim, self.fingerprint = inner, inner.dim, inner.fingerprint
        self._vectors: dict[str, NDArray[np.float32]] = {}
        self.understands = cache(inner.understands)

    def encode_queries(self, queries: Sequence[str]) -> Embeddings:
        for query in queries:
            if query not in self._vectors:
                self._vectors[query] = self._inner.encode_queries([query])[0]
        return np.stack([self._vectors[query] for query in queries])

    def encode_products(self, products: Sequence[Product]) -> Embeddings:
        return self._inner.encode_products(products)


class _KeptVectors(VectorIndex):
    """Searches are kept, and the products' vectors as floats, 4 bytes a number."""

    def __init__(self, plain: VectorIndex) -> None:
        vars(self).update(vars(plain))
        self._decoded = plain.vectors(np.arange(len(plain)))
        self._found: dict[tuple[object, ...], Candidates] = {}

    def search(self, vector: NDArray[np.float32], k: int, allowed: Mask | None = None) -> Candidates:
        key = (vector.tobytes(), k, None if allowed is None else hash(np.packbits(allowed).tobytes()))
        if key not in self._found:
            self._found[key] = super().search(vector, k, allowed)
        return self._found[key]

    def vectors(self, rows: Rows) -> Embeddings:
        return self._decoded[rows]


class _KeptRouter:
    """A ``Router`` that asks the head of a ``TypeRouter`` once for each query."""

    def __init__(self, inner: TypeRouter) -> None:
        self._inner = inner
        self._likely: dict[str, NDArray[np.floating[Any]] | None] = {}

    def with_numbers(self, numbers: RouterNumbers) -> _KeptRouter:
        other = _KeptRouter(self._inner.with_numbers(numbers))
        other._likely = self._likely
        return other

    def route(self, query: str, vector: NDArray[np.float32]) -> Routed:
        if query not in self._likely:
            self._likely[query] = self._inner.probabilities(query, vector)
        likely = self._likely[query]
        return self._inner.route(query, vector) if likely is None else self._inner.routed(likely)


class _KeptReranker:
    """A ``Reranker`` that scores a product once for each query, as a pointwise one may."""

    def __init__(self, inner: Reranker) -> None:
        self._inner = inner
        self._scores: dict[str, dict[int, float]] = {}
        self.understands = cache(inner.understands)

    def score(self, query: str, rows: Rows, deadline: float | None) -> Scored:
        known = self._scores.setdefault(query, {})
        new = np.array([row for row in rows.tolist() if row not in known], np.int64)
        if len(new):
            known.update(zip(new.tolist(), self._inner.score(query, new, None).scores.tolist(), strict=True))
        return Scored(np.array([known[row] for row in rows.tolist()], np.float32))


class _KeptProducts(ProductStore):
    """Products that were read once; few are, of queries with names or exclusions."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._read: dict[int, Product] = {}

    def __getitem__(self, row: int) -> Product:
        if row not in self._read:
            self._read[row] = super().__getitem__(row)
        return self._read[row]
