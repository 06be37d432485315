"""The token ids of every product, packed by row, so that a search tokenises nothing but its query.

``tokens.bin`` holds the ids one product after the other, uint16 where the vocabulary allows and uint32 elsewhere, and
``offsets.npy`` where each product begins.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.errors import IndexCorruptError
from engine.types import Rows

TokenIds = NDArray[np.uint16] | NDArray[np.uint32]

_TOKENS = "tokens.bin"
_OFFSETS = "offsets.npy"


class TokenStore:
    """Products' token ids by row, read through a memory map. Thread-safe.

    ``vocabulary`` is how many ids there are, and must be what it was written with.
    """

    def __init__(self, directory: Path, vocabulary: int) -> None:
        try:
            self._offsets = np.load(directory / _OFFSETS, allow_pickle=False)
            size = (directory / _TOKENS).stat().st_size
            # As a plain array: slicing a memmap costs ten times as much. An empty file cannot be mapped.
            self._ids = np.asarray(
                np.memmap(directory / _TOKENS, _type(vocabulary), "r") if size else np.empty(0, _type(vocabulary))
            )
        except (OSError, ValueError, EOFError) as error:
            raise IndexCorruptError(f"the tokens in {directory} cannot be read: {error}. Build it again.") from error
        if self._offsets.ndim != 1 or not len(self._offsets) or self._offsets[-1] != len(self._ids):
            raise IndexCorruptError(f"the tokens in {directory} are cut short. Build the index again.")
        self._n_stored, self._more = len(self), list[TokenIds]()

    @staticmethod
    def write(directory: Path, products: Iterable[Sequence[int]], vocabulary: int) -> None:
        """Writes every product's ids, in row order, as they come."""
        offsets = [0]
        with (directory / _TOKENS).open("wb") as file:
            for ids in products:
                file.write(np.array(ids, _type(vocabulary)).tobytes())
                offsets.append(offsets[-1] + len(ids))
        np.save(directory / _OFFSETS, np.array(offsets, np.int64))

    def append(self, products: Sequence[Sequence[int]]) -> None:
        """Gives more products the rows after the last one, in memory. One thread at a time, beside any readers."""
        self._more += [np.array(ids, self._ids.dtype) for ids in products]
        ends = self._offsets[-1] + np.cumsum([len(ids) for ids in products], dtype=np.int64)
        self._offsets = np.concatenate([self._offsets, ends])

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, row: int) -> TokenIds:
        if row >= self._n_stored:
            return self._more[row - self._n_stored]
        return self._ids[self._offsets[row] : self._offsets[row + 1]]

    def lengths(self, rows: Rows) -> NDArray[np.int64]:
        """How many ids each of ``rows`` has."""
        lengths: NDArray[np.int64] = self._offsets[rows + 1] - self._offsets[rows]
        return lengths


def _type(vocabulary: int) -> np.dtype[np.uint16] | np.dtype[np.uint32]:
    return np.dtype("<u2") if vocabulary <= 1 << 16 else np.dtype("<u4")
