"""Nearest vectors with faiss: a scan for small catalogs, a graph or an inverted index for large ones."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import faiss
import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError, IndexCorruptError
from engine.seams import Embeddings
from engine.types import Candidates, Mask, Rows

Kind = Literal["exact", "sq8", "hnsw", "ivf"]

_FILE = "vectors.faiss"
_SCALE = "scale.npy"
_EXACT_LIMIT = 10_000  # products; a float scan of these takes about as long as an 8-bit scan of 40,000
_SCAN_LIMIT = 200_000  # products; an 8-bit scan of these takes about 4 ms on one core
_SCALE_QUANTILE = 0.9999  # of the components' magnitudes: this one becomes 127, the few above it are cut
_TRAIN_LIMIT = 50_000  # vectors that quantisers learn from
_ADD_BATCH = 10_000
_HNSW_LINKS = 32
_HNSW_BUILD, _HNSW_SEARCH = 120, 256  # candidates kept while building and searching the graph
_IVF_PROBES = 32


def choose_kind(n: int, dim: int, memory_mb: int = 0) -> tuple[Kind, str]:
    """The index for ``n`` vectors and the reason, in words. ``memory_mb`` 0 means half of this machine's memory."""
    budget = (memory_mb or physical_memory_mb() // 2) * 1_000_000
    graph_bytes = n * (dim + _HNSW_LINKS * 2 * 4 + 16)
    if n <= _EXACT_LIMIT and n * dim * 4 <= budget:
        return "exact", f"{n} products: a scan of float vectors is exact and fast enough up to {_EXACT_LIMIT}"
    if n <= _SCAN_LIMIT:
        return "sq8", f"{n} products: an 8-bit scan is fast enough up to {_SCAN_LIMIT}"
    need = f"{graph_bytes // 1_000_000} MB of the {budget // 1_000_000} MB allowed"
    if graph_bytes <= budget:
        return "hnsw", f"{n} products: a graph, {need}"
    return "ivf", f"{n} products: an inverted index, as a graph would take {need}"


def physical_memory_mb() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1_000_000


class VectorIndex:
    """Unit vectors by row, searched by inner product, which for unit vectors is the cosine. Thread-safe.

    The 8-bit scan keeps vectors and queries as whole numbers, ``scale`` times the components: products of integers are
    two and a half times faster than faiss's usual 8-bit codes, which are decoded to floats, at the same recall.
    """

    def __init__(self, index: faiss.Index, kind: Kind, scale: float = 1.0) -> None:
        self._index, self.kind, self._scale = index, kind, scale

    @classmethod
    def build(
        cls, directory: Path, vectors: NDArray[np.float32], kind: Kind, threads: int, scale: float | None = None
    ) -> VectorIndex:
        """Indexes float32 (n, dim), which may be a memory map; reads it in slices.

        ``scale``, for sq8, is that of an index which the vectors come from: then its whole numbers stay what they are.
        """
        n, dim = vectors.shape
        faiss.omp_set_num_threads(threads)
        index = _empty(kind, n, dim)
        if kind != "sq8":
            scale = 1.0
        elif scale is None:
            scale = _scale(_sample(vectors))
        if not index.is_trained:
            index.train(_sample(vectors))
        for batch in _slices(vectors):
            index.add(batch if kind != "sq8" else _whole(batch, scale))
        faiss.write_index(index, str(directory / _FILE))
        np.save(directory / _SCALE, np.float32(scale))
        return cls.open(directory, kind)

    @classmethod
    def open(cls, directory: Path, kind: Kind) -> VectorIndex:
        try:
            index = faiss.read_index(str(directory / _FILE))
            scale = float(np.load(directory / _SCALE, allow_pickle=False))
        except (RuntimeError, OSError, ValueError) as error:
            raise IndexCorruptError(f"the vectors in {directory} cannot be read: {error}") from error
        if kind == "ivf":
            index.make_direct_map()
        return cls(index, kind, scale)

    @property
    def scale(self) -> float:
        """What components were multiplied by before rounding; 1 where they were not."""
        return self._scale

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def search(self, vector: NDArray[np.float32], k: int, allowed: Mask | None = None) -> Candidates:
        """The ``k`` nearest allowed rows to ``vector``, float32 (dim,)."""
        k = min(k, len(self))
        if allowed is not None:
            n_allowed = int(np.count_nonzero(allowed))
            k = min(k, n_allowed)
            # Graphs and inverted lists lose their way when few rows pass, so those rows are scanned.
            if self.kind in ("hnsw", "ivf") and 0 < n_allowed <= max(10_000, len(self) // 50):
                return self._scan(vector, k, allowed)
        if k <= 0:
            return Candidates.empty()
        faiss.omp_set_num_threads(1)  # per calling thread: one search uses one core, cores serve other searches
        query = vector if self.kind != "sq8" else _whole(vector, self._scale)
        scores, rows = self._index.search(query[None], k, params=self._parameters(k, allowed))
        found = rows[0] >= 0
        return Candidates.ranked(rows[0][found], scores[0][found] / np.float32(self._scale**2))

    def vectors(self, rows: Rows) -> Embeddings:
        """The stored vectors of ``rows``, float32 (n, dim), as exact as the index keeps them."""
        if not len(rows):
            return np.empty((0, self._index.d), np.float32)
        faiss.omp_set_num_threads(1)
        stored: Embeddings = self._index.reconstruct_batch(rows)
        return stored / np.float32(self._scale)

    def _scan(self, vector: NDArray[np.float32], k: int, allowed: Mask) -> Candidates:
        """Looks at every allowed row where faiss keeps it, which is ten times as fast as fetching the rows."""
        faiss.omp_set_num_threads(1)
        if self.kind == "hnsw":
            stored = faiss.downcast_index(self._index.storage)
            parameters = faiss.SearchParameters(sel=_selector(allowed))
        else:
            stored = self._index
            parameters = faiss.SearchParametersIVF(nprobe=stored.nlist, sel=_selector(allowed))
        scores, rows = stored.search(vector[None], k, params=parameters)
        found = rows[0] >= 0
        return Candidates.ranked(rows[0][found], scores[0][found])

    def _parameters(self, k: int, allowed: Mask | None) -> faiss.SearchParameters | None:
        selector = None if allowed is None else _selector(allowed)
        if self.kind == "hnsw":
            return faiss.SearchParametersHNSW(efSearch=max(_HNSW_SEARCH, 2 * k), sel=selector)
        if self.kind == "ivf":
            return faiss.SearchParametersIVF(nprobe=_IVF_PROBES, sel=selector)
        return None if selector is None else faiss.SearchParameters(sel=selector)


def _selector(allowed: Mask) -> faiss.IDSelector:
    return faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))


def _empty(kind: Kind, n: int, dim: int) -> faiss.Index:
    metric = faiss.METRIC_INNER_PRODUCT
    if kind == "exact":
        return faiss.IndexFlatIP(dim)
    if kind == "sq8":
        return faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_8bit_direct_signed, metric)
    if kind == "hnsw":
        index = faiss.IndexHNSWSQ(dim, faiss.ScalarQuantizer.QT_8bit, _HNSW_LINKS, metric)
        index.hnsw.efConstruction = _HNSW_BUILD
        return index
    if kind == "ivf":
        lists = max(1, min(int(4 * n**0.5), n // 39))
        return faiss.index_factory(dim, f"IVF{lists},SQ8", metric)
    raise ConfigError(f"dense_index is {kind!r}; it must be auto, exact, sq8, hnsw or ivf")


def _sample(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """At most 50,000 vectors from all over the catalog."""
    return np.ascontiguousarray(vectors[:: max(1, len(vectors) // _TRAIN_LIMIT)][:_TRAIN_LIMIT])


def _scale(vectors: NDArray[np.float32]) -> float:
    return 127 / max(float(np.quantile(np.abs(vectors), _SCALE_QUANTILE)), 1e-6)


def _whole(vectors: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
    whole: NDArray[np.float32] = np.clip(np.rint(vectors * np.float32(scale)), -128, 127)
    return whole


def _slices(vectors: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(vectors), _ADD_BATCH):
        yield np.ascontiguousarray(vectors[start : start + _ADD_BATCH])
