"""Candidates that nobody judged, found by the project's own hybrid search: negatives, and what a teacher labels.

A product that was not judged may well be relevant. So no negative is taken whose text has all of the query's words, and
``hard`` ones are drawn from the whole depth rather than off the top, where most such products are.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence

from engine.analysis.analyzer import Analyzer
from engine.config import EngineConfig, IndexConfig, SearchConfig
from engine.product import Product
from engine.search import SearchEngine
from engine.text import lexical_fields
from training.config import NegativeSettings, QueriesSource
from training.sources import Catalogs, Progress

_MIDDLE = 5  # the middle of a search ends at a fifth of its depth
_log = logging.getLogger(__name__)


class Pool:
    """Products that candidates are drawn from, searched by ``engine``."""

    def __init__(self, engine: SearchEngine, products: Mapping[str, Product]) -> None:
        self._engine, self._products = engine, products
        self._ids = list(products)
        self._analyzer = Analyzer()
        self._terms: dict[str, frozenset[str]] = {}

    def negatives(self, query: str, judged: Sequence[Product], settings: NegativeSettings, seed: str) -> list[Product]:
        """At most ``hard`` + ``random`` products, none of them judged; the same for the same seed."""
        draw = random.Random(seed)
        taken = {product.product_id for product in judged}
        wanted = frozenset(self._analyzer.terms(query))
        near = [id for id in self._found(query, settings.depth) if self._fits(id, taken, wanted)]
        hard = draw.sample(near, min(settings.hard, len(near)))
        taken.update(near)
        far = draw.sample(self._ids, min(10 * settings.random, len(self._ids)))
        others = [id for id in far if self._fits(id, taken, wanted)][: settings.random]
        return [self._products[id] for id in (*hard, *others)]

    def spread(self, query: str, source: QueriesSource, seed: str) -> list[Product]:
        """The ``best`` products, and at most ``middle`` and ``deep`` from further down; the same for the same seed."""
        draw = random.Random(seed)
        found = self._found(query, source.depth)
        end = max(source.best, source.depth // _MIDDLE)
        middle, deep = found[source.best : end], found[end:]
        drawn = draw.sample(middle, min(source.middle, len(middle))), draw.sample(deep, min(source.deep, len(deep)))
        return [self._products[id] for id in (*found[: source.best], *drawn[0], *drawn[1])]

    def _found(self, query: str, depth: int) -> list[str]:
        return [hit.product.product_id for hit in self._engine.search(query, depth).hits]

    def _fits(self, product_id: str, taken: set[str], wanted: frozenset[str]) -> bool:
        if product_id in taken:
            return False
        terms = self._terms.get(product_id)
        if terms is None:
            text = " . ".join(lexical_fields(self._products[product_id]).values())
            terms = self._terms[product_id] = frozenset(self._analyzer.terms(text))
        return not wanted <= terms


class Pools:
    """Pools by the catalogs that they hold. Each is indexed once, when it is first asked for."""

    def __init__(self, catalogs: Catalogs, progress: Progress) -> None:
        self._catalogs, self._progress = catalogs, progress
        self._pools: dict[tuple[str, ...], Pool] = {}

    def of(self, paths: Sequence[str]) -> Pool:
        """Of all the catalogs' products; of those of the same id one is taken, whatever the order of ``paths``."""
        key = tuple(sorted(set(paths)))
        if key not in self._pools:
            self._pools[key] = self.over({id: product for path in key for id, product in self._catalogs[path].items()})
        return self._pools[key]

    def over(self, products: Mapping[str, Product]) -> Pool:
        """Of ``products``, which are indexed now."""
        _log.info("indexing %d products to find candidates in", len(products))
        config = EngineConfig(index=IndexConfig(reranker=""), search=SearchConfig(rerank_depth=0))
        engine = SearchEngine.build(
            products.values(), None, config,
            progress=lambda stage, done, total: self._progress(f"indexing, {stage}", done, total or len(products)),
        )  # fmt: skip
        return Pool(engine, products)
