"""Products by row: lines of JSON and where each begins, read through a memory map."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from engine.errors import IndexCorruptError
from engine.product import Product, from_json, to_json
from engine.types import Rows

_LINES = "products.jsonl"
_OFFSETS = "products.offsets.npy"


class ProductStore:
    """All products of an index version, row by row. Thread-safe."""

    def __init__(self, directory: Path) -> None:
        try:
            self._offsets = np.load(directory / _OFFSETS, allow_pickle=False)
            with (directory / _LINES).open("rb") as file:
                self._lines = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise IndexCorruptError(f"the products in {directory} cannot be read: {error}") from error
        if len(self._lines) != self._offsets[-1]:
            raise IndexCorruptError(f"the products in {directory} are cut short")

    @classmethod
    def write(cls, directory: Path, products: Iterable[Product]) -> Iterator[Product]:
        """Writes products while passing them on, so that a catalog is read once. Read with the constructor after."""
        offsets = [0]
        with (directory / _LINES).open("wb") as file:
            for product in products:
                offsets.append(offsets[-1] + file.write(to_json(product) + b"\n"))
                yield product
        np.save(directory / _OFFSETS, np.array(offsets, np.int64))

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __iter__(self) -> Iterator[Product]:
        return (self[row] for row in range(len(self)))

    def __getitem__(self, row: int) -> Product:
        try:
            return from_json(self._lines[self._offsets[row] : self._offsets[row + 1]])
        except msgspec.MsgspecError as error:
            raise IndexCorruptError(f"the product in row {row} cannot be read: {error}") from error

    def get(self, rows: Rows) -> list[Product]:
        """The products of ``rows``, in their order."""
        return [self[int(row)] for row in rows]


class JoinedProducts(ProductStore):
    """The products of a store, some of them changed, and more rows after its own."""

    def __init__(self, base: ProductStore, added: Sequence[Product], changed: Mapping[int, Product]) -> None:
        self._base, self._added, self._changed = base, added, changed

    def __len__(self) -> int:
        return len(self._base) + len(self._added)

    def __getitem__(self, row: int) -> Product:
        if row in self._changed:
            return self._changed[row]
        n = len(self._base)
        return self._base[row] if row < n else self._added[row - n]
