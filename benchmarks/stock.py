"""What a shop can have in an afternoon, as a peer: bm25s and stock MiniLM, fused by reciprocal rank.

Texts are analysed as bm25s does it by itself, with its English stop words and Snowball's stems; all fields are one
document. Vectors are those of the shipped encoder ``all-MiniLM-L6-v2``, in 8 bits, ranked by cosine.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from benchmarks.indexes import Workbench
from benchmarks.systems import UNGUIDED, Ranked, Variant
from engine.errors import MissingExtraError
from engine.fusion import ReciprocalRankFusion
from engine.product import Product
from engine.text import lexical_fields
from engine.types import Candidates

_ENCODER = "all-MiniLM-L6-v2"
_DEPTH = 200  # products from either side
_DENSE = Variant(
    search={"retrievers": ("dense",), "min_similarity": -1.0, "rerank_depth": 0, **UNGUIDED},
    index={"encoder": _ENCODER, "reranker": ""},
)


class StockRrf:
    """Reciprocal rank fusion with the constant 60 of both."""

    def __init__(self, bench: Workbench) -> None:
        try:
            import bm25s
            import Stemmer
        except ImportError as error:
            raise MissingExtraError("bench", "bm25s") from error
        self._tokenize, self._stem = bm25s.tokenize, Stemmer.Stemmer("english")
        products = list(bench.products())
        self._ids = [product.product_id for product in products]
        self._rows = {product_id: row for row, product_id in enumerate(self._ids)}
        self._bm25 = bm25s.BM25()
        self._bm25.index(self._terms([_document(product) for product in products]), show_progress=False)
        self._dense = _DENSE(bench)
        self._fuse = ReciprocalRankFusion(60)

    def rank(self, query: str, k: int, allowed_ids: Collection[str] | None = None) -> Ranked:
        found = self._dense.rank(query, _DEPTH, allowed_ids)
        rows = np.array([self._rows[product_id] for product_id, _ in found], np.int64)
        dense = Candidates.ranked(rows, np.array([score for _, score in found], np.float32))
        fused = self._fuse([self._lexical(query, allowed_ids), dense], k)
        return [(self._ids[row], score) for row, score in zip(fused.rows.tolist(), fused.scores.tolist(), strict=True)]

    def _lexical(self, query: str, allowed_ids: Collection[str] | None) -> Candidates:
        terms = [term for term in self._terms([query])[0] if term in self._bm25.vocab_dict]
        if not terms:
            return Candidates.empty()
        mask = None
        if allowed_ids is not None:
            mask = np.zeros(len(self._ids), np.float32)
            mask[[self._rows[i] for i in allowed_ids if i in self._rows]] = 1
        k = min(_DEPTH, len(self._ids))
        rows, scores = self._bm25.retrieve([terms], k=k, show_progress=False, weight_mask=mask)
        matched = scores[0] > 0  # bm25s fills up to k with what does not match
        return Candidates.ranked(rows[0][matched].astype(np.int64), scores[0][matched])

    def _terms(self, texts: list[str]) -> list[list[str]]:
        terms: list[list[str]] = self._tokenize(
            texts, stopwords="en", stemmer=self._stem, return_ids=False, show_progress=False
        )
        return terms


def _document(product: Product) -> str:
    """The product's text, once: the summary repeats what the body has."""
    return " ".join(text for field, text in lexical_fields(product).items() if field != "summary")
