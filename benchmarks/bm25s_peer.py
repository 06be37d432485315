"""bm25s as a peer: the library itself, unfielded, on the same terms that our own index holds."""

from __future__ import annotations

import time
from collections.abc import Collection

import numpy as np

from benchmarks.indexes import Build, Workbench, peak_memory_mb
from engine.analysis.analyzer import Analyzer
from engine.builder import in_language
from engine.errors import MissingExtraError
from engine.lexical.bm25 import K1, B
from engine.text import lexical_fields


class Bm25s:
    """All fields of a product are one document. Lives in memory, so its index has no size on disk."""

    def __init__(self, bench: Workbench) -> None:
        try:
            import bm25s
        except ImportError as error:
            raise MissingExtraError("bench", "bm25s") from error
        started = time.perf_counter()
        index, products = in_language(bench.config.index, bench.products())
        self._analyzer = Analyzer(index.language)
        self._ids: list[str] = []
        documents: list[list[str]] = []
        for product in products:
            self._ids.append(product.product_id)
            documents.append([t for text in lexical_fields(product).values() for t in self._analyzer.terms(text)])
        self._rows = {product_id: row for row, product_id in enumerate(self._ids)}
        self._index = bm25s.BM25(method="lucene", k1=K1, b=B, backend="numba")
        self._index.index(documents, show_progress=False)
        seconds = time.perf_counter() - started
        self.build = Build(products=len(self._ids), seconds=seconds, bytes=None, peak_memory_mb=peak_memory_mb())

    def rank(self, query: str, k: int, allowed_ids: Collection[str] | None = None) -> list[tuple[str, float]]:
        terms = [term for term in self._analyzer.terms(query) if term in self._index.vocab_dict]
        if not terms:
            return []
        mask = None
        if allowed_ids is not None:
            mask = np.zeros(len(self._ids), np.float32)
            mask[[self._rows[i] for i in allowed_ids if i in self._rows]] = 1
        rows, scores = self._index.retrieve([terms], k=min(k, len(self._ids)), show_progress=False, weight_mask=mask)
        # A score of 0 is no match; bm25s fills up to k with those.
        return [(self._ids[row], float(score)) for row, score in zip(rows[0], scores[0], strict=True) if score > 0]
