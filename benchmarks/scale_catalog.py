"""A catalog of any size, made of real products and variants of them, with vectors that cost next to nothing.

The first products are the real ones of Icecat and ESCI. After them come variants, round by round: variant number c of
a product has another colour and size at the end of its title, one word of its title less and one of another product's
more, a code of its own, and another price and number of ratings. All of it follows from the row.

Encoding a million texts takes most of an hour on two cores, and what is measured here does not depend on what a
vector means, only on how vectors lie. So the real products are encoded, and of ``_SAMPLE`` of them a variant as well:
the differences are how far, and in which directions, a variant's vector lies from its original's. Every other variant's
vector is its original's moved by one of these differences, drawn by row, at unit length again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.data import load_set
from benchmarks.progress import Bars
from engine.catalog import read_catalog
from engine.config import IndexConfig
from engine.dense.encoder import OnnxEncoder
from engine.product import Product
from engine.seams import Embeddings, Encoder

SETS = ("icecat", "esci")
_SAMPLE = 2_000  # variants that are encoded
_ENCODE_BATCH = 64
_COLOURS = ("black", "white", "silver", "red", "blue", "green", "grey", "gold", "pink", "orange", "purple", "brown")
_SIZES = ("small", "medium", "large", "compact", "wide", "slim", "tall", "mini", "double", "single")
_LEAST_WORDS = 4  # of a title that can spare one

Tick = Callable[[int, int], None]


class Distance(msgspec.Struct, frozen=True):
    """Cosines between products and variants of theirs, both encoded, and texts encoded a second on one thread."""

    mean: float
    p5: float
    p95: float
    texts_per_second: float


class VariedCatalog:
    """Products by row, without end. Rows from 0 to ``n_real`` are real ones."""

    def __init__(self, data: Path | None) -> None:
        """Reads the sets below ``data``. Raises DataError where they are not there."""
        corpora = [load_set(name, "dev", data).corpus for name in SETS]
        self._of([product for corpus in corpora for product in read_catalog(corpus)])

    @classmethod
    def of(cls, real: Sequence[Product]) -> VariedCatalog:
        """One of these real products."""
        catalog = cls.__new__(cls)
        catalog._of(real)
        return catalog

    def _of(self, real: Sequence[Product]) -> None:
        self.real, self.n_real = real, len(real)
        self._words = [product.title.split() for product in real]

    def products(self, n: int) -> Iterator[Product]:
        """The first ``n``."""
        return map(self.product, range(n))

    def product(self, row: int) -> Product:
        """The product of a row."""
        copy, original = divmod(row, self.n_real)
        plain = self.real[original]
        if not copy:
            return plain
        chance = random.Random(row)
        colour, size = chance.choice(_COLOURS), chance.choice(_SIZES)
        attributes = dict(plain.attributes)
        if "color" in attributes:
            attributes["color"] = colour
        return msgspec.structs.replace(
            plain,
            product_id=f"{plain.product_id}-{copy}",
            title=" ".join((*self._reworded(original, chance), colour, size)),
            model=f"{plain.model} V{copy}" if plain.model else "",
            attributes=attributes,
            price=None if plain.price is None else round(plain.price * chance.uniform(0.8, 1.25), 2),
            rating_count=None if plain.rating_count is None else int(plain.rating_count * chance.uniform(0.1, 2)),
            ean=(),
        )

    def _reworded(self, original: int, chance: random.Random) -> list[str]:
        words = list(self._words[original])
        if len(words) >= _LEAST_WORDS:
            del words[chance.randrange(len(words))]
        words.insert(chance.randrange(len(words) + 1), chance.choice(chance.choice(self._words)))
        return words


class MovedVectors:
    """An ``Encoder`` that knows the vectors of a varied catalog's products; of products alone, queries are encoded."""

    def __init__(
        self, catalog: VariedCatalog, work: Path, tick: Tick = lambda *_: None, encoder: Encoder | None = None
    ) -> None:
        """Encodes what must be, and keeps it below ``work`` for the next time; ``encoder`` is the shipped one by
        default.
        """
        self.encoder = encoder or OnnxEncoder.named(IndexConfig().encoder)
        self._rows = {product.product_id: row for row, product in enumerate(catalog.real)}
        self._n_real = catalog.n_real
        path = work / f"vectors-{self.encoder.fingerprint.replace(':', '-')}.npz"
        if not path.exists():
            real, moves, distance = self._encoded(catalog, tick)
            np.savez(path, real=real, moves=moves, distance=distance)
        kept = np.load(path, allow_pickle=False)
        self._real, self._moves = kept["real"], kept["moves"]
        self.distance = msgspec.convert(
            dict(zip(Distance.__struct_fields__, kept["distance"].tolist(), strict=True)), Distance
        )

    def _encoded(self, catalog: VariedCatalog, tick: Tick) -> tuple[Embeddings, Embeddings, NDArray[np.float32]]:
        """The vectors of real products, the differences of variants' from them, and ``Distance`` as numbers."""
        sample = np.random.default_rng(7).choice(catalog.n_real, min(_SAMPLE, catalog.n_real), replace=False)
        variants = [catalog.product(catalog.n_real + row) for row in sample.tolist()]
        texts = [*catalog.real, *variants]
        out, started = [], time.perf_counter()
        for start in range(0, len(texts), _ENCODE_BATCH):
            out.append(self.encoder.encode_products(texts[start : start + _ENCODE_BATCH]))
            tick(min(start + _ENCODE_BATCH, len(texts)), len(texts))
        rate = len(texts) / (time.perf_counter() - started)
        vectors = np.concatenate(out)
        real, varied = vectors[: catalog.n_real], vectors[catalog.n_real :]
        cosines = np.einsum("ij,ij->i", real[sample], varied)
        distance = np.array([cosines.mean(), *np.percentile(cosines, [5, 95]), rate], np.float32)
        return real, varied - real[sample], distance

    @property
    def dim(self) -> int:
        return self.encoder.dim

    @property
    def fingerprint(self) -> str:
        return self.encoder.fingerprint

    def understands(self, query: str) -> bool:
        return self.encoder.understands(query)

    def encode_queries(self, queries: Sequence[str]) -> Embeddings:
        return self.encoder.encode_queries(queries)

    def encode_products(self, products: Sequence[Product]) -> Embeddings:
        rows = np.array([self._row(product.product_id) for product in products], np.int64)
        return self.vectors(rows)

    def vectors(self, rows: NDArray[np.int64]) -> Embeddings:
        """Float32 (n, dim), unit length, of the products of some rows."""
        copies, originals = np.divmod(rows, self._n_real)
        vectors: Embeddings = self._real[originals]  # a copy, as indexing by an array is
        moved = copies > 0
        # A multiplier without a factor in common with the pool, so that neighbours draw differently.
        vectors[moved] += self._moves[rows[moved] * 7919 % len(self._moves)]
        vectors[moved] /= np.linalg.norm(vectors[moved], axis=1, keepdims=True)
        return vectors

    def _row(self, product_id: str) -> int:
        row = self._rows.get(product_id)
        if row is not None:
            return row
        original, _, copy = product_id.rpartition("-")
        return self._rows[original] + int(copy) * self._n_real


def moved_distance(data: Path, work: Path) -> Distance:
    """Encodes what must be below ``work``; how far variants are from their originals."""
    work.mkdir(parents=True, exist_ok=True)
    with Bars(Console(stderr=True)) as bars:
        return MovedVectors(VariedCatalog(data), work, partial(bars.report, "texts")).distance
