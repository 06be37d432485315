"""Candidates that nobody judged, found by the project's own search: negatives, and what a teacher labels.

A product that was not judged may well be relevant. So no negative is taken whose text has all of the query's words, and
``hard`` ones are drawn from the whole depth rather than off the top, where most such products are.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from engine.analysis.analyzer import Analyzer
from engine.config import EngineConfig, IndexConfig, SearchConfig
from engine.dense.encoder import OnnxEncoder
from engine.product import Product
from engine.search import SearchEngine
from engine.text import lexical_fields
from training.data.settings import NegativeSettings, QueriesSource
from training.data.sources import Catalogs, Drawn
from training.settings import Progress

Retriever = Literal["hybrid", "bm25", "model"]

#: How a search is done by one retriever alone.
_ALONE = {
    "bm25": SearchConfig(retrievers=("lexical",), understand=(), route_weight=0, rerank_depth=0),
    "model": SearchConfig(retrievers=("dense",), understand=(), route_weight=0, rerank_depth=0),
}
_MIDDLE = 5  # the middle of a search ends at a fifth of its depth
_log = logging.getLogger(__name__)


class Pool:
    """Products that candidates are drawn from, searched by ``engine``."""

    def __init__(self, engine: SearchEngine, products: Mapping[str, Product]) -> None:
        self._engine, self._products = engine, products
        self._ids = list(products)
        self._analyzer = Analyzer()
        self._terms: dict[str, frozenset[str]] = {}

    def negatives(self, query: str, judged: Sequence[Product], settings: NegativeSettings, seed: str) -> Drawn:
        """At most ``hard`` + ``random`` products, none of them judged; the same for the same seed."""
        draw = random.Random(seed)
        taken = {product.product_id for product in judged}
        wanted = frozenset(self._analyzer.terms(query))
        near = [id for id in self._found(query, settings.depth) if self._fits(id, taken, wanted)]
        hard = draw.sample(near, min(settings.hard, len(near)))
        taken.update(near)
        far = draw.sample(self._ids, min(10 * settings.random, len(self._ids)))
        others = [id for id in far if self._fits(id, taken, wanted)][: settings.random]
        return [(self._products[id], None) for id in (*hard, *others)]

    def spread(self, query: str, source: QueriesSource, seed: str) -> Drawn:
        """The ``best`` products, and at most ``middle``, ``deep`` and ``random`` others; the same for the same seed."""
        draw = random.Random(seed)
        scores = self._found(query, source.depth)
        found = list(scores)
        end = max(source.best, source.depth // _MIDDLE)
        middle, deep = found[source.best : end], found[end:]
        drawn = found[: source.best]
        drawn += draw.sample(middle, min(source.middle, len(middle))) + draw.sample(deep, min(source.deep, len(deep)))
        others = draw.sample(self._ids, min(source.random, len(self._ids))) if drawn else []
        drawn += [id for id in others if id not in scores]
        by_search = source.labels == "search"
        return [(self._products[id], scores.get(id, 0.0) if by_search else None) for id in drawn]

    def _found(self, query: str, depth: int) -> dict[str, float]:
        """Product ids, the best first, with their scores in shares of the best, from 0 to 1.

        What a query rules out falls below 0 in a search; as a label that is 0.
        """
        hits = self._engine.search(query, depth).hits
        best = hits[0].score if hits else 0.0
        return {hit.product.product_id: max(hit.score / best, 0.0) if best > 0 else 1.0 for hit in hits}

    def _fits(self, product_id: str, taken: set[str], wanted: frozenset[str]) -> bool:
        if product_id in taken:
            return False
        terms = self._terms.get(product_id)
        if terms is None:
            text = " . ".join(lexical_fields(self._products[product_id]).values())
            terms = self._terms[product_id] = frozenset(self._analyzer.terms(text))
        return not wanted <= terms


class Pools:
    """Pools by the catalogs that they hold. Each is indexed once, when it is first asked for.

    Negatives are found by ``retriever``, which for ``model`` is the bi-encoder ``base``.
    """

    def __init__(self, catalogs: Catalogs, retriever: Retriever, base: str, progress: Progress) -> None:
        self._catalogs, self._retriever, self._base, self._progress = catalogs, retriever, base, progress
        self._pools: dict[tuple[tuple[str, ...], Retriever], Pool] = {}

    def of(self, paths: Sequence[str], retriever: Retriever = "hybrid") -> Pool:
        """Of all the catalogs' products; of those of the same id one is taken, whatever the order of ``paths``."""
        key = tuple(sorted(set(paths))), retriever
        if key not in self._pools:
            products = {id: product for path in key[0] for id, product in self._catalogs[path].items()}
            self._pools[key] = self.over(products, retriever)
        return self._pools[key]

    def mined(self, paths: Sequence[str], products: Mapping[str, Product]) -> Pool:
        """Of the catalogs, or where there are none of ``products``, found as negatives are."""
        return self.of(paths, self._retriever) if paths else self.over(products, self._retriever)

    def over(self, products: Mapping[str, Product], retriever: Retriever = "hybrid") -> Pool:
        """Of ``products``, which are indexed now."""
        _log.info("indexing %d products to find candidates in", len(products))
        config = EngineConfig(index=IndexConfig(reranker=""), search=SearchConfig(rerank_depth=0))
        with TemporaryDirectory() as folder:
            encoder = None
            if retriever == "model":
                from training.export.encoder import convert  # and torch, which no other retriever needs

                convert(self._base, Path(folder) / "encoder")
                encoder = OnnxEncoder(Path(folder) / "encoder", threads=config.search.n_threads)
            engine = SearchEngine.build(
                products.values(), None, config, encoder=encoder,
                progress=lambda stage, done, total: self._progress(f"indexing, {stage}", done, total or len(products)),
            )  # fmt: skip
        return Pool(engine if retriever == "hybrid" else engine.configured(_ALONE[retriever]), products)
