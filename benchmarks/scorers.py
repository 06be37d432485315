"""What is profiled: Aisle's reranker as it is served, and the same model by its peers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort
import torch
from sentence_transformers import CrossEncoder as TorchCrossEncoder
from tokenizers import Tokenizer

from benchmarks.graphs import Graph
from benchmarks.pairs import Products
from benchmarks.peer_models import PeerModel
from engine.model_files import MODEL, TOKENIZER
from engine.product import Product
from engine.types import Rows, Scores
from ranking.card import RerankerCard
from ranking.cross_encoder import RERANKERS, UNHURRIED, CrossEncoder, CrossEncoderModel, batches_of
from training.export import without_progress_bars

#: Scores the rows, for one query that it has not met.
Score = Callable[[str, Rows], Scores]


class Scorer(Protocol):
    """A system. ``numbers`` are those its matrices are of: fp32, bf16 or int8. ``graph`` is what it computes."""

    @property
    def name(self) -> str: ...

    @property
    def numbers(self) -> str: ...

    @property
    def graph(self) -> Graph: ...

    def over(self, products: Products, threads: int) -> Score:
        """Made ready for these products, on that many threads, with no score in any cache."""
        ...


@dataclass(frozen=True, slots=True)
class Split:
    """Where one call's time goes, in ms."""

    tokenise: float
    copy: float
    infer: float


class Aisle:
    """``ranking.cross_encoder`` over the tokens of an index. Indexes are kept below ``work``."""

    def __init__(self, name: str, numbers: str, directory: Path, work: Path) -> None:
        self.name, self.numbers, self.graph = name, numbers, Graph(directory / MODEL)
        self._model, self._work = CrossEncoderModel(directory), work
        self._indexes: dict[str, Path] = {}

    def over(self, products: Products, threads: int) -> Score:
        served = self._open(products, threads)

        def score(query: str, rows: Rows) -> Scores:
            scored = served.score(query, rows, None)
            assert not scored.note, "a query was met before, and its scores came from the cache"
            return scored.scores

        return score

    def splitting(self, products: Products) -> Callable[[str, Rows], tuple[Split, Scores]]:
        """Scores as ``over`` does on one thread, but one part after the other, each timed."""
        served = self._open(products, 1)

        def split(query: str, rows: Rows) -> tuple[Split, Scores]:
            began = time.perf_counter()
            start = served.start(query)
            tokenised = time.perf_counter()
            places = list(batches_of(products.tokens[rows] + len(start) + 1, 1, UNHURRIED))
            inputs = [served.inputs(start, rows[batch]) for batch in places]
            copied = time.perf_counter()
            probabilities = [served.probabilities(*batch) for batch in inputs]
            done = time.perf_counter()
            scores = np.empty(len(rows), np.float32)
            scores[np.concatenate(places)] = np.concatenate(probabilities)
            return Split((tokenised - began) * 1e3, (copied - tokenised) * 1e3, (done - copied) * 1e3), scores

        return split

    def _open(self, products: Products, threads: int) -> CrossEncoder:
        if products.length not in self._indexes:
            index = self._indexes[products.length] = Path(mkdtemp(dir=self._work))
            self._model.build(
                index, (Product(product_id=str(row), title=text) for row, text in enumerate(products.texts))
            )
        return self._model.open(self._indexes[products.length], threads)


class SentenceTransformer:
    """sentence-transformers' CrossEncoder in torch, with its defaults: batches of 32, sorted by length."""

    def __init__(self, numbers: str, peer: PeerModel, graph: Graph, card: RerankerCard) -> None:
        self.name, self.numbers, self.graph = f"CrossEncoder {numbers}", numbers, graph
        kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[numbers]
        with without_progress_bars():
            self._model = TorchCrossEncoder(
                str(peer.checkpoint), device="cpu", max_length=_window(card), local_files_only=True,
                model_kwargs={"dtype": kind},
            )  # fmt: skip

    def over(self, products: Products, threads: int) -> Score:
        def score(query: str, rows: Rows) -> Scores:
            pairs = [(query, products.texts[row]) for row in rows.tolist()]
            return np.asarray(self._model.predict(pairs, show_progress_bar=False), np.float32)

        torch.set_num_threads(threads)
        return score


class PlainOnnx:
    """onnxruntime alone: the plain trace in dynamic 8 bits, one batch padded to its longest, tokenised on request."""

    def __init__(self, peer: PeerModel, graph: Graph, card: RerankerCard) -> None:
        self.name, self.numbers, self.graph = "onnxruntime int8", "int8", graph
        self._peer, self._sessions = peer, dict[int, Any]()
        self._tokenizer = Tokenizer.from_file(str(peer.fp32 / TOKENIZER))
        self._tokenizer.enable_truncation(_window(card))
        self._tokenizer.enable_padding()

    def over(self, products: Products, threads: int) -> Score:
        session = self._sessions.get(threads) or self._sessions.setdefault(threads, self._session(threads))

        def score(query: str, rows: Rows) -> Scores:
            encodings = self._tokenizer.encode_batch([(query, products.texts[row]) for row in rows.tolist()])
            feeds = {
                "input_ids": np.array([encoding.ids for encoding in encodings], np.int64),
                "attention_mask": np.array([encoding.attention_mask for encoding in encodings], np.int64),
            }
            logits: Scores = session.run(None, feeds)[0]
            return logits

        return score

    def _session(self, threads: int) -> Any:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        return ort.InferenceSession(str(self._peer.plain_int8), options, providers=["CPUExecutionProvider"])


def all_scorers(directory: Path, peer: PeerModel, work: Path) -> list[Scorer]:
    """The baseline first. ``directory`` is the served reranker's; indexes go below ``work``."""
    plain, card = Graph(peer.plain), RERANKERS.read_card(directory)
    return [
        SentenceTransformer("fp32", peer, plain, card),
        SentenceTransformer("bf16", peer, plain, card),
        PlainOnnx(peer, plain, card),
        Aisle("Aisle fp32", "fp32", peer.fp32, work),
        Aisle("Aisle int8", "int8", directory, work),
    ]


def _window(card: RerankerCard) -> int:
    """Tokens of the longest pair that Aisle reads."""
    return card.query_tokens + card.product_tokens + 3
