"""Text encoders on onnxruntime: one text per run, so that a vector never depends on what else is encoded.

Nothing is padded and nothing is batched: dynamic 8-bit quantisation scales by what is in the batch, so batches would
change vectors. Cores are used by encoding several texts at once, each on one thread.

An adapter moves queries' vectors only: the products' are in the index, and every adapter searches the same ones.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding

from engine.adapters import Adapter, AdapterBase
from engine.errors import AdapterError
from engine.model_files import MAX_CHARACTERS, MODEL, AdaptableGraph, Graph, ModelFiles, ModelKind, understands
from engine.product import Product
from engine.seams import Embeddings
from engine.text import encoded_text

SHIPPED = Path(__file__).parent.parent / "models"
CARD = "encoder.json"
_CACHED = 10_000  # queries


class EncoderCard(msgspec.Struct, frozen=True, kw_only=True):
    """What ``encoder.json`` says of the model beside it. ``sha256`` covers every other file that is read.

    ``adapters``, where there is an ``adaptable.onnx``, says which fit it.
    """

    format: int
    name: str
    dim: int
    max_tokens: int
    sha256: dict[str, str]
    query_prefix: str = ""
    product_prefix: str = ""
    adapters: AdapterBase | None = None


ENCODERS = ModelKind(
    "encoder", CARD, EncoderCard, SHIPPED, "convert another with: aisle convert MODEL --out DIR"
)  # fmt: skip


class OnnxEncoder:
    """An encoder directory: ``encoder.json``, ``model.onnx`` (ids and mask in, unit vectors out), ``tokenizer.json``.

    Thread-safe. ``max_tokens`` is the lower of what was asked and what the model can see. ``n_texts`` and
    ``n_truncated`` count the products encoded and those that were cut there.
    """

    def __init__(self, directory: str | Path, *, max_tokens: int = 96, threads: int = 1) -> None:
        files = ModelFiles(ENCODERS, Path(directory))
        self.card, dim = files.card, files.card.dim

        def fits(output: Any) -> bool:
            return bool(output.shape[-1:] == [dim])

        gives = f"one (n, {dim})"
        self._products = self._queries = Graph(files.session(gives, fits), {})
        self._adaptable = AdaptableGraph(files, self.card.name, self.card.adapters, gives, fits)
        self._tokenizer = files.tokenizer()
        self.max_tokens = min(max_tokens, self.card.max_tokens)
        self._threads = threads
        self.n_texts = self.n_truncated = 0
        self._query = lru_cache(maxsize=_CACHED)(self._encode_query)

    @classmethod
    def named(cls, name: str, *, max_tokens: int = 96, threads: int = 1) -> OnnxEncoder:
        """The shipped encoder of that name, or the one in the directory ``name``."""
        return cls(ENCODERS.find(name), max_tokens=max_tokens, threads=threads)

    def adapted(self, adapter: Adapter) -> OnnxEncoder:
        """This encoder with the adapter on its queries, and a cache of its own; all else is shared.

        Raises AdapterError where the adapter is not for this model.
        """
        view = copy.copy(self)
        view._queries = self._adaptable.graph(adapter)
        view._query = lru_cache(maxsize=_CACHED)(view._encode_query)
        try:
            vector = view.encode_queries(["a"])
        except Exception as error:
            raise AdapterError(f"{self.card.name} cannot encode with {adapter.card.name}: {error}") from error
        if not np.isfinite(vector).all():
            raise AdapterError(f"{self.card.name} with {adapter.card.name} gives no numbers: train the adapter again")
        return view

    @property
    def dim(self) -> int:
        return self.card.dim

    @property
    def fingerprint(self) -> str:
        """The model's name and checksum, and how much of a text it sees."""
        return f"{self.card.name}:{self.card.sha256[MODEL][:16]}:{self.max_tokens}"

    def encode_queries(self, queries: Sequence[str]) -> Embeddings:
        """Float32 (n, dim), unit length. Recent queries come from a cache."""
        if not queries:
            return np.empty((0, self.dim), np.float32)
        return np.stack([self._query(query) for query in queries])

    def encode_products(self, products: Sequence[Product]) -> Embeddings:
        """Float32 (n, dim), unit length, in input order; uses ``threads`` cores."""
        texts = [self.card.product_prefix + encoded_text(product)[:MAX_CHARACTERS] for product in products]
        encodings = self._tokenizer.encode_batch(texts)
        self.n_texts += len(texts)
        self.n_truncated += sum(len(encoding.ids) > self.max_tokens for encoding in encodings)
        if self._threads == 1 or len(texts) < 2:
            vectors = [self._run(self._products, encoding) for encoding in encodings]
        else:
            with ThreadPoolExecutor(self._threads) as pool:
                vectors = list(pool.map(partial(self._run, self._products), encodings))
        return np.stack(vectors) if vectors else np.empty((0, self.dim), np.float32)

    def understands(self, query: str) -> bool:
        """Whether the query's vector would mean anything; that of a script the model never learnt does not."""
        return understands(self._tokenizer.encode(query[:MAX_CHARACTERS], add_special_tokens=False))

    def _encode_query(self, query: str) -> NDArray[np.float32]:
        vector = self._run(self._queries, self._tokenizer.encode(self.card.query_prefix + query[:MAX_CHARACTERS]))
        vector.flags.writeable = False
        return vector

    def _run(self, graph: Graph, encoding: Encoding) -> NDArray[np.float32]:
        ids = encoding.ids
        if len(ids) > self.max_tokens:
            ids = [*ids[: self.max_tokens - 1], ids[-1]]  # keeps the closing special token
        row = np.array([ids], np.int64)
        vector: NDArray[np.float32] = graph.run(row, np.ones_like(row))[0]
        return vector
