"""The vectors of the build and those added since, searched together, without the dead ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.dense.vectors import VectorIndex
from engine.seams import Embeddings
from engine.types import Candidates, Mask, Rows


class JoinedVectors(VectorIndex):
    """A ``VectorIndex`` and more rows after its own, which are scanned. ``added`` is float32 (n, dim), unit vectors."""

    def __init__(self, base: VectorIndex, added: NDArray[np.float32], alive: Mask) -> None:
        """``alive``, bool (n_all,), are the rows that may be found."""
        self._base, self._added, self._alive = base, added, alive
        self.kind, self._scale = base.kind, base.scale
        self._alive_base = alive[: len(base)]
        self._all_base_alive = bool(self._alive_base.all())

    def __len__(self) -> int:
        return len(self._alive)

    def search(self, vector: NDArray[np.float32], k: int, allowed: Mask | None = None) -> Candidates:
        n = len(self._base)
        mask: Mask | None = None if self._all_base_alive else self._alive_base
        new = self._alive[n:]
        if allowed is not None:
            mask = allowed[:n] if mask is None else mask & allowed[:n]
            new = new & allowed[n:]
        found = self._base.search(vector, k, mask)
        rows = np.flatnonzero(new)
        if not len(rows) or k <= 0:
            return found
        # Not a matrix product, which may wake BLAS's threads: a search uses one core.
        scores = np.einsum("ij,j->i", self._added[rows], vector)
        return Candidates.ranked(
            np.concatenate([found.rows, rows + n]), np.concatenate([found.scores, scores.astype(np.float32)]), k
        )

    def vectors(self, rows: Rows) -> Embeddings:
        n = len(self._base)
        old = rows < n
        out = np.empty((len(rows), self._added.shape[1]), np.float32)
        if old.any():
            out[old] = self._base.vectors(rows[old])
        if not old.all():
            out[~old] = self._added[rows[~old] - n]
        return out
