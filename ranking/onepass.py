"""A one-pass listwise encoder on onnxruntime: query and candidates in one pass, one logit a candidate.

The query is read once for all. A product's tokens look at themselves and at the query; the query's look at everything,
and it is through them that candidates see each other. So the order in which candidates come changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from engine.latency import LatencyEstimate
from engine.model_files import MAX_CHARACTERS, MODEL, TOKENIZER, ModelFiles, ModelKind, understands
from engine.seams import ProductSource, Reranker
from engine.text import encoded_text
from engine.types import Rows, Scored, Scores
from ranking.cache import Recent
from ranking.over import OverReranker

Ids = NDArray[np.int32]

CARD = "onepass.json"
INPUTS = ("input_ids", "parts", "positions")
_TOKENISED = 50_000  # products whose tokens are kept
_CACHED = 4_000  # lists
_GIVES = "one output logits, float32 (n, length)"


class OnePassCard(msgspec.Struct, frozen=True, kw_only=True):
    """A model directory's card. ``sha256`` covers ``model.onnx`` and ``tokenizer.json``.

    The model reads ``[CLS] query [SEP] product [SEP] product [SEP] …`` of at most ``list_size`` products, with the part
    and the position of each token, and gives a logit at every token; a product's is the one at the separator after it.
    Its probability is ``sigmoid(scale · logit + offset)`` (Platt 1999). ``source`` and ``license`` are for people.
    """

    format: int = 1
    name: str
    query_tokens: Annotated[int, Meta(ge=1)]
    product_tokens: Annotated[int, Meta(ge=1)]
    list_size: Annotated[int, Meta(ge=1)]
    scale: Annotated[float, Meta(gt=0)] = 1.0
    offset: float = 0.0
    sha256: dict[str, str]
    source: str = ""
    license: str = ""


ONE_PASSES = ModelKind(
    "one-pass encoder", CARD, OnePassCard, Path(__file__).parent / "models",
    f"or name a directory with {CARD}, {MODEL} and {TOKENIZER}",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ListIds:
    """A list as the model reads it: ``ids``, ``parts`` and ``positions``, int64 (length,), and where each product's
    separator is, ``places``, int64 (n,). A token's part is 0 in the query and from 1 in products.
    """

    ids: NDArray[np.int64]
    parts: NDArray[np.int64]
    positions: NDArray[np.int64]
    places: NDArray[np.int64]

    def feeds(self) -> dict[str, NDArray[np.int64]]:
        """The graph's inputs, of one row."""
        return dict(zip(INPUTS, (self.ids[None], self.parts[None], self.positions[None]), strict=True))


def list_ids(query: Ids, products: Sequence[Ids], special: tuple[int, int]) -> ListIds:
    """``[CLS] query [SEP] product [SEP] product [SEP] …``; ``special`` is [CLS] and [SEP].

    Every product begins at the position after the query, as if it were the only one. A separator inside a product's
    text would end it, and is left out.
    """
    first, separator = special
    texts = [[first, *query[query != separator], separator]]
    texts += [[*product[product != separator], separator] for product in products]
    lengths = np.array([len(text) for text in texts], np.int64)
    begins = np.cumsum(lengths) - lengths
    parts = np.repeat(np.arange(len(texts)), lengths)
    positions = np.arange(lengths.sum()) - np.repeat(begins, lengths) + np.where(parts > 0, lengths[0], 0)
    return ListIds(np.concatenate(texts).astype(np.int64), parts, positions, (begins + lengths - 1)[1:])


class OnePassModel:
    """Implements ``engine.seams.ListModel``. Raises ModelError on a directory that cannot be used."""

    def __init__(self, directory: Path) -> None:
        files = ModelFiles(ONE_PASSES, directory)
        self.card = files.card
        takes = f"{', '.join(INPUTS)} in int64"
        self.session = files.graph(MODEL, dict.fromkeys(INPUTS, "tensor(int64)"), takes, _GIVES, _fits)
        self.tokenizer = files.tokenizer()
        first, separator = self.tokenizer.encode("").ids
        self.special = first, separator

    def open(self, products: ProductSource, first: Reranker | None, threads: int) -> OnePass:
        return OnePass(self, products, first, threads)

    def encode(self, text: str, n_tokens: int) -> Ids:
        """Without special tokens, at most ``n_tokens``."""
        return np.array(self.tokenizer.encode(text[:MAX_CHARACTERS], add_special_tokens=False).ids[:n_tokens], np.int32)

    def logits(self, made: ListIds) -> Scores:
        """Float32 (n,), at the products' separators."""
        found: Scores = self.session.run(None, made.feeds())[0][0, made.places]
        return found

    def probabilities(self, query: Ids, products: Sequence[Ids]) -> Scores:
        """Float32 (n,), of one pass over one list."""
        logits = self.logits(list_ids(query, products, self.special)).astype(np.float64)
        # The logistic function, in a form that does not overflow.
        return np.asarray(0.5 + 0.5 * np.tanh((self.card.scale * logits + self.card.offset) / 2), np.float32)


class OnePass(OverReranker):
    """Implements ``engine.seams.Reranker``. A score depends on what else is in its list, but not on the order there.

    Where there is no time for a pass, the index's own reranker scores what it can.
    """

    def __init__(self, model: OnePassModel, products: ProductSource, first: Reranker | None, threads: int) -> None:
        super().__init__(first)
        self._model, card = model, model.card
        self._query = lru_cache(1_000)(lambda query: model.encode(query, card.query_tokens))
        self._product = lru_cache(_TOKENISED)(
            lambda row: model.encode(encoded_text(products(np.array([row]))[0]), card.product_tokens)
        )
        self._longest = card.query_tokens + 2 + card.list_size * (card.product_tokens + 1)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="one-pass")
        self._token_latency = LatencyEstimate()  # seconds a token, on one thread
        self._known: Recent[tuple[bytes, bytes], Scores] = Recent(_CACHED)

    def understands(self, query: str) -> bool:
        """Whether the tokenizer knows the query's words, or most of its letters."""
        return understands(self._model.tokenizer.encode(query[:MAX_CHARACTERS], add_special_tokens=False))

    def score(self, query: str, rows: Rows, deadline: float | None) -> Scored:
        """Probabilities, list by list, the best candidates in the first; as the seam has it."""
        left = None if deadline is None else deadline - time.perf_counter()
        scores = np.full(len(rows), np.nan, np.float32)
        if not len(rows) or (left is not None and left <= 0):
            return Scored(scores)
        ids = self._query(query)
        # Dealt out evenly: a list of one has nothing to compare.
        parts = np.array_split(np.arange(len(rows)), -(-len(rows) // self._model.card.list_size))
        if left is not None and left <= self._token_latency.upper * self._longest:
            self._token_latency.fade()
            if self._first is None:
                return Scored(scores, "no time for a pass")
            found = self._first.score(query, rows, deadline)
            return Scored(found.scores, "; ".join(filter(None, ("no time for a pass", found.note))), True)
        under_way = {self._pool.submit(self._list, ids, rows[part], deadline): part for part in parts}
        wait(under_way, None if deadline is None else max(deadline - time.perf_counter(), 0))
        for future, part in under_way.items():
            future.cancel()
            if future.done() and not future.cancelled():
                scores[part] = future.result()
        return Scored(scores)

    def _list(self, query: Ids, rows: Rows, deadline: float | None) -> Scores:
        """Of one list, from the cache where it is known; all NaN if it is too late to begin."""
        key = query.tobytes(), rows.tobytes()
        known = self._known.get(key)
        if known is not None:
            return known
        if deadline is not None and deadline <= time.perf_counter():
            return np.full(len(rows), np.nan, np.float32)
        products = [self._product(int(row)) for row in rows]
        began = time.perf_counter()
        found = self._model.probabilities(query, products)
        self._token_latency.add((time.perf_counter() - began) / (len(query) + sum(map(len, products)) + len(rows) + 2))
        self._known.put(key, found)
        return found


def _fits(output: Any) -> bool:
    return (output.name, output.type, len(output.shape)) == ("logits", "tensor(float)", 2)
