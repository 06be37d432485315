"""A fine-tuned cross-encoder on onnxruntime: query and product read together, one logit out.

Products were tokenised when the index was built, the query is tokenised once. Candidates of like length make small
batches, on one pool of threads for all searches; the searching thread only waits, and never beyond its deadline.

Nothing here changes between calls: an adapter makes a view of the reranker, and a search has the view it asked for.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from engine.adapters import Adapter
from engine.errors import AdapterError, ModelError
from engine.latency import LatencyEstimate
from engine.model_files import (
    MAX_CHARACTERS,
    MODEL,
    TOKENIZER,
    AdaptableGraph,
    Graph,
    ModelFiles,
    ModelKind,
    understands,
)
from engine.product import Product
from engine.text import encoded_text
from engine.types import Rows, Scored, Scores
from ranking.cache import ScoreCache
from ranking.card import CARD, RerankerCard
from ranking.pool import FairPool
from ranking.tokens import TokenStore

RERANKERS = ModelKind(
    "reranker", CARD, RerankerCard, Path(__file__).parent / "models",
    f"or name a directory with {CARD}, {MODEL} and {TOKENIZER}",
)  # fmt: skip

# Candidates in a batch: with a deadline, which can lose a batch, and without one. Small ones take two threads a sixth
# more time.
_BATCH, UNHURRIED = 4, 16
_LEAST_AT_ONCE = 4  # batches sorted by length together: fewer fill up more, more begin with worse candidates
_WARM_UPS = 3
_CACHED = 100_000  # scores, about 10 MB
_ENCODED = 1_000  # queries: understood, then scored, without being tokenised twice
_TOKENISED_AT_ONCE = 256
_GIVES = "one output logits, float32 (n,)"


class CrossEncoderModel:
    """A model directory, before it meets an index: ``reranker.json``, ``model.onnx`` and ``tokenizer.json``.

    The model takes ids and mask, int64 (n, length), of ``[CLS] query [SEP] product [SEP]`` and gives ``logits``,
    float32 (n,). Raises ModelError on what cannot be used.
    """

    def __init__(self, directory: str | Path) -> None:
        files = ModelFiles(RERANKERS, Path(directory))
        self.card = files.card
        self.session = files.session(_GIVES, _fits)
        self.adaptable = AdaptableGraph(files, self.card.name, self.card.adapters, _GIVES, _fits)
        self.tokenizer = files.tokenizer()
        self.special = _special_ids(self.tokenizer, files.directory / TOKENIZER)
        self._vocabulary = 1 + max(self.tokenizer.get_vocab().values())

    @classmethod
    def named(cls, name: str) -> CrossEncoderModel:
        """The shipped reranker of that name, or the one in the directory ``name``."""
        return cls(RERANKERS.find(name))

    @staticmethod
    def lasting(name: str) -> str:
        """``name``, absolute if it is that of a directory."""
        return RERANKERS.lasting(name)

    @property
    def fingerprint(self) -> str:
        """The tokenizer and how much of a product is kept: a model trained anew may still read the same index."""
        return f"{self.card.sha256[TOKENIZER][:16]}:{self.card.product_tokens}"

    def build(self, directory: Path, products: Iterable[Product]) -> str:
        """Tokenises products; returns how many tokens were kept."""
        count = total = 0

        def tokenised() -> Iterator[list[int]]:
            nonlocal count, total
            for ids in self.tokenised(products):
                count, total = count + 1, total + len(ids)
                yield ids

        TokenStore.write(directory, tokenised(), self._vocabulary)
        return f"{self.card.name} ({total / max(count, 1):.0f} tokens a product, at most {self.card.product_tokens})"

    def tokenised(self, products: Iterable[Product]) -> Iterator[list[int]]:
        """What is kept of each product."""
        iterator = iter(products)
        while batch := [encoded_text(p)[:MAX_CHARACTERS] for p in islice(iterator, _TOKENISED_AT_ONCE)]:
            for encoding in self.tokenizer.encode_batch_fast(batch, add_special_tokens=False):
                yield encoding.ids[: self.card.product_tokens]

    def open(self, directory: Path, threads: int) -> CrossEncoder:
        """The reranker of the index that ``build`` wrote for, on ``threads`` threads."""
        return CrossEncoder(self, TokenStore(directory, self._vocabulary), threads)


class CrossEncoder:
    """Implements ``engine.seams.Reranker``. A score does not depend on what else is scored."""

    def __init__(self, model: CrossEncoderModel, tokens: TokenStore, threads: int) -> None:
        self._card, self._adaptable, self._graph = model.card, model.adaptable, Graph(model.session, {})
        self._scale, self._offset = model.card.scale, model.card.offset
        self._tokenised = model.tokenised
        self._encode = lru_cache(maxsize=_ENCODED)(partial(_encode, model.tokenizer))
        self._special, self._tokens, self._threads = model.special, tokens, threads
        self._pool = FairPool[Scores](threads)
        self._cache = ScoreCache(_CACHED)
        self._token_latency = LatencyEstimate()  # seconds a token, on one thread
        self._lateness = LatencyEstimate()  # seconds: how much later than asked a busy machine wakes a thread
        self._warm_up()

    def adapted(self, adapter: Adapter) -> CrossEncoder:
        """This reranker with the adapter's matrices and calibration, and with scores and guesses at latency of its own;
        the graph, the products' tokens and the threads are shared.

        Raises AdapterError where the adapter is not for this model.
        """
        view = copy.copy(self)
        view._graph = self._adaptable.graph(adapter)
        view._scale, view._offset = adapter.card.scale, adapter.card.offset
        view._cache = ScoreCache(_CACHED)
        try:
            probabilities = view._warm_up()
        except ModelError as error:
            raise AdapterError(f"with the adapter {adapter.card.name} {error}") from error
        if not np.isfinite(probabilities).all():
            raise AdapterError(f"{self._card.name} with {adapter.card.name} gives no numbers: train the adapter again")
        return view

    def append(self, products: Sequence[Product]) -> None:
        """Makes rows of more products, for this reranker and all its adapted views."""
        self._tokens.append(list(self._tokenised(products)))

    def understands(self, query: str) -> bool:
        """Whether the tokenizer knows the query's words, or most of its letters."""
        return understands(self._encode(query))

    def score(self, query: str, rows: Rows, deadline: float | None) -> Scored:
        """Probabilities, from the cache where they are known. Shapes, order and deadline as the seam has them."""
        if deadline is not None:
            deadline -= self._lateness.upper
        if not len(rows) or (deadline is not None and deadline <= time.perf_counter()):
            self._lateness.fade()
            return Scored(np.full(len(rows), np.nan, np.float32))
        start = self.start(query)
        scores = self._cache.get(start.tobytes(), rows)
        missing = np.flatnonzero(np.isnan(scores))
        note = f"{len(rows) - len(missing)} from the cache" if len(missing) < len(rows) else ""
        lengths = self._tokens.lengths(rows[missing]) + len(start) + 1
        n = self._n_fitting(lengths, deadline)
        batches = self._submit(start, rows, missing[:n], lengths[:n], deadline)
        self._wait(batches, deadline)
        for future, places in batches.items():
            if future.done() and not future.cancelled():
                scores[places] = future.result()
        return Scored(scores, note)

    def start(self, query: str) -> NDArray[np.int64]:
        """The ids before the product's, int64 (n,). A long query is cut, so that the product stays whole."""
        first, between, _ = self._special
        return np.array([first, *self._encode(query).ids[: self._card.query_tokens], between], np.int64)

    def _n_fitting(self, lengths: NDArray[np.int64], deadline: float | None) -> int:
        """How many of the first candidates can be scored in time if no other search is under way."""
        if deadline is None or not len(lengths):
            return len(lengths)
        affordable = (deadline - time.perf_counter()) / self._token_latency.upper * self._threads
        if affordable < lengths[0]:
            self._token_latency.fade()
        return int(np.searchsorted(np.cumsum(lengths), affordable, side="right"))

    def _submit(
        self, start: NDArray[np.int64], rows: Rows, places: Rows, lengths: NDArray[np.int64], deadline: float | None
    ) -> dict[Future[Scores], Rows]:
        """Starts on the rows at ``places``; gives each batch's places by its future."""
        now, cost = time.perf_counter(), self._token_latency.upper / self._threads
        before = np.cumsum(lengths) - lengths
        batches = {}
        for batch in batches_of(lengths, self._threads, UNHURRIED if deadline is None else _BATCH):
            job = partial(self._score_batch, start, rows[places[batch]], deadline)
            batches[self._pool.submit(now + cost * float(before[batch].min()), job)] = places[batch]
        return batches

    def _wait(self, batches: Collection[Future[Scores]], deadline: float | None) -> None:
        """Until all are done, one has failed, or time is up; then no more of them begin."""
        wait(batches, None if deadline is None else max(deadline - time.perf_counter(), 0), return_when=FIRST_EXCEPTION)
        late = 0.0 if deadline is None else time.perf_counter() - deadline
        for future in batches:
            future.cancel()
        if late > 0:
            self._lateness.add(late)
        else:
            self._lateness.fade()

    def _score_batch(self, start: NDArray[np.int64], rows: Rows, deadline: float | None) -> Scores:
        """Probabilities of ``rows``; all NaN if it is too late to begin.

        They go to the cache even if nobody waits for them any more.
        """
        if deadline is not None and deadline <= time.perf_counter():
            return np.full(len(rows), np.nan, np.float32)
        probabilities = self.probabilities(*self.inputs(start, rows))
        self._cache.put(start.tobytes(), rows, probabilities)
        return probabilities

    def probabilities(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> Scores:
        """Float32 (n,): what the model makes of a batch."""
        began = time.perf_counter()
        logits = self._graph.run(ids, mask).astype(np.float64)
        self._token_latency.add((time.perf_counter() - began) / ids.size)
        # The logistic function, in a form that does not overflow.
        probabilities = 0.5 + 0.5 * np.tanh((self._scale * logits + self._offset) / 2)
        return np.asarray(probabilities, np.float32)

    def inputs(self, start: NDArray[np.int64], rows: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """A batch's ids and mask, int64 (n, longest); the mask is 0 where a shorter one is filled up."""
        products = [self._tokens[row] for row in rows.tolist()]
        shape = (len(rows), len(start) + max(map(len, products)) + 1)
        ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        ids[:, : len(start)] = start
        for place, product in enumerate(products):
            end = len(start) + len(product)
            ids[place, len(start) : end] = product
            ids[place, end] = self._special[2]
            mask[place, : end + 1] = 1
        return ids, mask

    def _warm_up(self) -> Scores:
        """Sets up what the runtime sets up lazily, and measures what a token costs. Gives the scores of that."""
        rows = np.arange(min(_BATCH, len(self._tokens)))
        start = np.full(self._card.query_tokens + 2, self._special[0], np.int64)
        try:
            for _ in range(_WARM_UPS):
                self._token_latency = LatencyEstimate()  # so that only the last one counts
                probabilities = self.probabilities(*self.inputs(start, rows))
        except Exception as error:
            raise ModelError(f"the reranker {self._card.name} cannot score this index's products: {error}") from error
        if probabilities.shape != rows.shape:
            raise ModelError(
                f"the reranker {self._card.name} gave {probabilities.shape} logits for {len(rows)} products; one each"
            )
        return probabilities


def _fits(output: Any) -> bool:
    return (output.name, output.type, len(output.shape)) == ("logits", "tensor(float)", 1)


def _encode(tokenizer: Tokenizer, query: str) -> Encoding:
    return tokenizer.encode(query[:MAX_CHARACTERS], add_special_tokens=False)


def batches_of(lengths: NDArray[np.int64], threads: int, size: int) -> Iterator[NDArray[np.int64]]:
    """Places in batches of like length, at most ``size`` in one, as many at a time as keep all threads busy, the best
    placed first.
    """
    at_once = size * max(threads, _LEAST_AT_ONCE)
    for group in np.array_split(np.arange(len(lengths)), -(-len(lengths) // at_once) or 1):
        by_length = group[np.argsort(lengths[group], kind="stable")]
        rounds = -(-len(group) // (threads * size))
        if rounds == 1 and len(group) >= 2 * threads * _BATCH:
            rounds = 2  # or the thread that got the short ones would wait for the other
        if n_batches := min(len(group), threads * rounds):
            yield from np.array_split(by_length, n_batches)


def _special_ids(tokenizer: Tokenizer, path: Path) -> tuple[int, int, int]:
    """What stands before the query, between query and product, and after the product."""
    ids = tokenizer.encode("", "").ids
    if len(ids) != 3:
        raise ModelError(
            f"{path} puts {len(ids)} special tokens around a pair; a reranker reads [CLS] query [SEP] product [SEP]"
        )
    return ids[0], ids[1], ids[2]
