"""Dev catalogs as a search has them, whole: whether the products that are right come first among all.

An order of judged products alone does not tell: what nobody judged may come before them. Where it is right as well, it
counts against a model here, so both figures are looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from engine.seams import Embeddings
from engine.text import encoded_text
from training.data.pairs import Encode
from training.data.settings import DevSet
from training.data.sources import Catalogs, Group
from training.metrics import ndcg
from training.models import Ids

_FIRST = 10  # ranks that count


@dataclass(frozen=True, slots=True)
class WholeCatalog:
    """All products of a dev set as token ids, and for each query the gains of those that were judged, by row."""

    products: list[Ids]
    gains: dict[str, dict[int, float]]

    @classmethod
    def of(cls, dev_set: DevSet, groups: Sequence[Group], encode: Encode, product_tokens: int) -> WholeCatalog:
        """``groups`` are the dev set's queries. Raises CatalogError."""
        catalog = Catalogs()[dev_set.catalog]
        rows = {product_id: row for row, product_id in enumerate(catalog)}
        gains = {
            group.query_id: {
                rows[product.product_id]: gain for product, gain in zip(group.products, group.gains, strict=True)
            }
            for group in groups
        }
        texts = [encoded_text(product) for product in catalog.values()]
        return cls(encode(texts, product_tokens, "document"), gains)

    def ndcg_by_query(self, queries: Mapping[str, Embeddings], products: Embeddings) -> dict[str, float]:
        """nDCG@10 by query id, where what nobody judged has no gain.

        ``queries`` are vectors (d,) by id, ``products`` float32 (n, d), all of unit length. Equal cosines go by row.
        """
        return {query_id: self._ndcg(products @ queries[query_id], gains) for query_id, gains in self.gains.items()}

    def _ndcg(self, cosines: Embeddings, gains: Mapping[int, float]) -> float:
        first = np.argsort(-cosines, kind="stable")[:_FIRST].tolist()
        missed = [gain for row, gain in gains.items() if row not in set(first)]
        return ndcg([*(gains.get(row, 0.0) for row in first), *missed], _FIRST)
