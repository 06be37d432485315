"""Hard negatives: what the project's own hybrid search finds for a query, and nobody judged.

A product that was not judged may well be relevant. So none is taken whose text has all of the query's words, and
``hard`` ones are drawn from the whole depth rather than off the top, where most such products are.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from engine.analysis.analyzer import Analyzer
from engine.product import Product
from engine.search import SearchEngine
from engine.text import lexical_fields
from training.config import NegativeSettings


class NegativeMiner:
    """Draws negatives from one catalog, searched by ``engine``."""

    def __init__(self, engine: SearchEngine, products: Mapping[str, Product], settings: NegativeSettings) -> None:
        self._engine, self._products, self._settings = engine, products, settings
        self._ids = list(products)
        self._analyzer = Analyzer()
        self._terms: dict[str, frozenset[str]] = {}

    def mine(self, query: str, judged: Sequence[Product], seed: str) -> list[Product]:
        """At most ``hard`` + ``random`` products, none of them judged; the same for the same seed."""
        draw = random.Random(seed)
        taken = {product.product_id for product in judged}
        wanted = frozenset(self._analyzer.terms(query))
        hits = self._engine.search(query, self._settings.depth).hits
        near = [id for id in (hit.product.product_id for hit in hits) if self._fits(id, taken, wanted)]
        hard = draw.sample(near, min(self._settings.hard, len(near)))
        taken.update(near)
        far = draw.sample(self._ids, min(10 * self._settings.random, len(self._ids)))
        others = [id for id in far if self._fits(id, taken, wanted)][: self._settings.random]
        return [self._products[id] for id in (*hard, *others)]

    def _fits(self, product_id: str, taken: set[str], wanted: frozenset[str]) -> bool:
        if product_id in taken:
            return False
        terms = self._terms.get(product_id)
        if terms is None:
            text = " . ".join(lexical_fields(self._products[product_id]).values())
            terms = self._terms[product_id] = frozenset(self._analyzer.terms(text))
        return not wanted <= terms
