"""Text encoders on onnxruntime: one text per run, so that a vector never depends on what else is encoded.

Nothing is padded and nothing is batched: dynamic 8-bit quantisation scales by what is in the batch, so batches would
change vectors. Cores are used by encoding several texts at once, each on one thread.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from engine.errors import ModelError
from engine.product import Product
from engine.seams import Embeddings
from engine.text import encoded_text

SHIPPED = Path(__file__).parent.parent / "models"
CARD = "encoder.json"
_MAX_CHARACTERS = 4_000  # of one text; more cannot fit into any window and would only cost tokenisation
_UNKNOWN = ("[UNK]", "<unk>")
_LETTERS_PER_TOKEN = 1.25
_INPUTS = ("input_ids", "attention_mask")


class EncoderCard(msgspec.Struct, frozen=True, kw_only=True):
    """What ``encoder.json`` says of the model beside it. ``sha256`` covers every other file that is read."""

    format: int
    name: str
    dim: int
    max_tokens: int
    sha256: dict[str, str]
    query_prefix: str = ""
    product_prefix: str = ""


class OnnxEncoder:
    """An encoder directory: ``encoder.json``, ``model.onnx`` (ids and mask in, unit vectors out), ``tokenizer.json``.

    Thread-safe. ``max_tokens`` is the lower of what was asked and what the model can see. ``n_texts`` and
    ``n_truncated`` count the products encoded and those that were cut there.
    """

    def __init__(self, directory: str | Path, *, max_tokens: int = 96, threads: int = 1) -> None:
        self.directory = Path(directory)
        self.card = _read_card(self.directory)
        model, tokenizer = (_read_checked(self.directory, name, self.card) for name in ("model.onnx", "tokenizer.json"))
        self._session = _session(model, self.directory, self.card.dim)
        self._tokenizer = _tokenizer(tokenizer, self.directory)
        self.max_tokens = min(max_tokens, self.card.max_tokens)
        self._threads = threads
        self.n_texts = self.n_truncated = 0
        self._query = lru_cache(maxsize=10_000)(self._encode_query)

    @classmethod
    def named(cls, name: str, *, max_tokens: int = 96, threads: int = 1) -> OnnxEncoder:
        """The shipped encoder of that name, or the one in the directory ``name``."""
        return cls(SHIPPED / name if is_shipped(name) else name, max_tokens=max_tokens, threads=threads)

    @property
    def dim(self) -> int:
        return self.card.dim

    @property
    def fingerprint(self) -> str:
        """The model's name and checksum, and how much of a text it sees."""
        return f"{self.card.name}:{self.card.sha256['model.onnx'][:16]}:{self.max_tokens}"

    def encode_queries(self, queries: Sequence[str]) -> Embeddings:
        """Float32 (n, dim), unit length. Recent queries come from a cache."""
        if not queries:
            return np.empty((0, self.dim), np.float32)
        return np.stack([self._query(query) for query in queries])

    def encode_products(self, products: Sequence[Product]) -> Embeddings:
        """Float32 (n, dim), unit length, in input order; uses ``threads`` cores."""
        texts = [self.card.product_prefix + encoded_text(product)[:_MAX_CHARACTERS] for product in products]
        encodings = self._tokenizer.encode_batch(texts)
        self.n_texts += len(texts)
        self.n_truncated += sum(len(encoding.ids) > self.max_tokens for encoding in encodings)
        if self._threads == 1 or len(texts) < 2:
            vectors = [self._run(encoding) for encoding in encodings]
        else:
            with ThreadPoolExecutor(self._threads) as pool:
                vectors = list(pool.map(self._run, encodings))
        return np.stack(vectors) if vectors else np.empty((0, self.dim), np.float32)

    def understands(self, query: str) -> bool:
        """Whether the tokenizer finds more in the query than unknown tokens and single letters.

        It does not for scripts the model never learnt; a vector of such a query is near to arbitrary products.
        """
        encoding = self._tokenizer.encode(query[:_MAX_CHARACTERS], add_special_tokens=False)
        pieces = zip(encoding.tokens, encoding.offsets, strict=True)
        known = [end - start for token, (start, end) in pieces if token not in _UNKNOWN]
        return 2 * len(known) > len(encoding.tokens) and sum(known) > _LETTERS_PER_TOKEN * len(known)

    def _encode_query(self, query: str) -> NDArray[np.float32]:
        vector = self._run(self._tokenizer.encode(self.card.query_prefix + query[:_MAX_CHARACTERS]))
        vector.flags.writeable = False
        return vector

    def _run(self, encoding: Encoding) -> NDArray[np.float32]:
        ids = encoding.ids
        if len(ids) > self.max_tokens:
            ids = [*ids[: self.max_tokens - 1], ids[-1]]  # keeps the closing special token
        row = np.array([ids], np.int64)
        outputs = self._session.run(None, {"input_ids": row, "attention_mask": np.ones_like(row)})
        vector: NDArray[np.float32] = outputs[0][0]
        return vector


def is_shipped(name: str) -> bool:
    """Whether an encoder of that name comes with Aisle."""
    return (SHIPPED / name / CARD).exists()


def _read_card(directory: Path) -> EncoderCard:
    path = directory / CARD
    try:
        card = msgspec.json.decode(path.read_bytes(), type=EncoderCard)
    except OSError as error:
        shipped = sorted(p.parent.name for p in SHIPPED.glob(f"*/{CARD}"))
        raise ModelError(
            f"no encoder in {directory}: {CARD} cannot be read ({error.strerror}). "
            f"Shipped encoders: {', '.join(shipped)}; convert another with: aisle convert MODEL --out DIR"
        ) from error
    except msgspec.MsgspecError as error:
        raise ModelError(f"{path}: {error}") from error
    if card.format != 1 or not {"model.onnx", "tokenizer.json"} <= set(card.sha256):
        raise ModelError(
            f"{path}: format {card.format} with checksums of {sorted(card.sha256)} is not one this version reads"
        )
    return card


def _read_checked(directory: Path, name: str, card: EncoderCard) -> bytes:
    try:
        data = (directory / name).read_bytes()
    except OSError as error:
        raise ModelError(f"{directory / name} cannot be read: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != card.sha256[name]:
        raise ModelError(
            f"{directory / name} does not match its checksum in {CARD}: it was changed or cut short. Get it again."
        )
    return data


def _session(model: bytes, directory: Path, dim: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        # From bytes: a model loaded so cannot name other files to be read.
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(f"{directory / 'model.onnx'} is not a model onnxruntime can run: {error}") from error
    inputs, outputs = tuple(i.name for i in session.get_inputs()), session.get_outputs()
    if set(inputs) != set(_INPUTS) or len(outputs) != 1 or outputs[0].shape[-1] != dim:
        raise ModelError(
            f"{directory / 'model.onnx'} takes {inputs} and gives {[o.shape for o in outputs]}; "
            f"an encoder takes {_INPUTS} and gives one (n, {dim})"
        )
    return session


def _tokenizer(data: bytes, directory: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_buffer(data)
    except Exception as error:
        raise ModelError(f"{directory / 'tokenizer.json'} cannot be read: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
