"""A fine-tuned transformer as a ``TypeClassifier``, on onnxruntime: it reads a query's words, and no vector of it.

Made by ``aisle train types``. On disk it is a directory: ``query_types.json``, which has the taxonomy and the checksums
of the others, ``model.onnx`` and ``tokenizer.json``.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from engine.errors import ConfigError, ModelError
from engine.model_files import MAX_CHARACTERS, MODEL, TOKENIZER, ModelFiles, ModelKind, understands
from engine.product import Product
from engine.seams import Embeddings
from qpt.log_linear import log_shares
from qpt.softmax import Matrix
from qpt.taxonomy import Taxonomy, TypeNode

CARD = "query_types.json"
_WARM_UPS = 3


class TransformerCard(msgspec.Struct, frozen=True, kw_only=True):
    """What ``query_types.json`` says. ``sha256`` covers ``model.onnx`` and ``tokenizer.json``.

    The model reads ``[CLS] locale query [SEP]``, the query cut to ``query_tokens``; ``locales`` are those it knows,
    with the ids of their tokens. Logits are in the order of ``types``, ids of ``nodes``, and are divided by
    ``temperature``. ``conformal_scores`` ascend. ``calibrated_on``, ``source`` and ``license`` are for people.
    """

    format: int = 1
    name: str
    query_tokens: Annotated[int, Meta(ge=1, le=512)]
    locales: dict[str, Annotated[int, Meta(ge=0)]]
    types: Annotated[list[str], Meta(min_length=1)]
    nodes: list[TypeNode]
    version: str
    temperature: Annotated[float, Meta(gt=0)] = 1.0
    conformal_scores: list[Annotated[float, Meta(ge=0, le=1)]] = []
    calibrated_on: str = ""
    sha256: dict[str, str]
    source: str = ""
    license: str = ""

    @property
    def taxonomy(self) -> Taxonomy:
        return Taxonomy(self.nodes, self.version)


CLASSIFIERS = ModelKind(
    "query classifier", CARD, TransformerCard, Path(__file__).parent / "models",
    "train one with: aisle train types",
)  # fmt: skip


class TransformerHead:
    """Implements ``TypeClassifier``; read-only and thread-safe. It ignores vectors and uses one thread.

    Its ``reader`` stands for an encoder: ``QueryTypes(head, head.reader)`` encodes nothing beside it. Raises ModelError
    naming the file on a directory that cannot be used.
    """

    def __init__(self, directory: str | Path) -> None:
        files = ModelFiles(CLASSIFIERS, Path(directory))
        self.card = card = files.card
        self._directory = files.directory
        path = files.directory / CARD
        try:
            self.taxonomy = card.taxonomy
        except ConfigError as error:
            raise ModelError(f"{path}: the taxonomy cannot be used: {error}") from error
        self.types = tuple(card.types)
        if len(set(self.types)) < len(self.types) or not set(self.types) <= self.taxonomy.nodes.keys():
            raise ModelError(f"{path}: types come twice, or are not in the taxonomy. Train it anew")
        self.conformal_scores: NDArray[np.float32] = np.array(card.conformal_scores, np.float32)
        if (np.diff(self.conformal_scores) < 0).any():
            raise ModelError(f"{path}: conformal_scores do not ascend. Train it anew")
        self._session = files.session(
            f"one output logits, float32 (n, {len(self.types)})",
            lambda output: (output.name, output.type, len(output.shape)) == ("logits", "tensor(float)", 2),
        )
        self._tokenizer = files.tokenizer()
        special = self._tokenizer.encode("").ids
        if len(special) != 2:
            raise ModelError(
                f"{files.directory / TOKENIZER} puts {len(special)} special tokens around a query; a query classifier "
                "reads [CLS] query [SEP]"
            )
        self._first, self._last = special
        self.reader = QueryReader(self, f"{card.sha256[TOKENIZER][:16]}:none")
        self._warm_up(files.directory / MODEL)

    @property
    def encoder_fingerprint(self) -> str:
        """The reader's: there is no encoder whose vectors it takes."""
        return self.reader.fingerprint

    def save(self, directory: str | Path) -> None:
        """Copies its files to a directory; the card comes last, so that one without is not whole."""
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        for name in (MODEL, TOKENIZER, CARD):
            shutil.copyfile(self._directory / name, folder / name)

    def probabilities(self, queries: Sequence[str], vectors: Embeddings, locales: Sequence[str]) -> Matrix:
        """Float32 (n, types), each query by itself, so that none depends on others.

        Raises ConfigError where the numbers of queries and locales differ.
        """
        return np.exp(log_shares(self.logits(queries, locales) / np.float32(self.card.temperature)))

    def logits(self, queries: Sequence[str], locales: Sequence[str]) -> Matrix:
        """Float32 (n, types), before the temperature. Raises ConfigError as ``probabilities`` does."""
        if len(queries) != len(locales):
            raise ConfigError(f"there are {len(queries)} queries and {len(locales)} locales; give as many of each")
        logits = np.empty((len(queries), len(self.types)), np.float32)
        for row, (query, locale) in enumerate(zip(queries, locales, strict=True)):
            logits[row] = self._run(self.ids(query, locale))
        return logits

    def ids(self, query: str, locale: str) -> NDArray[np.int64]:
        """What the model reads of a query, int64 (1, tokens)."""
        said = self._tokenizer.encode(query[:MAX_CHARACTERS], add_special_tokens=False).ids[: self.card.query_tokens]
        place = [self.card.locales[locale]] if locale in self.card.locales else []
        return np.array([[self._first, *place, *said, self._last]], np.int64)

    def understands(self, query: str) -> bool:
        """Whether the tokenizer knows the query's words, or most of its letters."""
        return understands(self._tokenizer.encode(query[:MAX_CHARACTERS], add_special_tokens=False))

    def _run(self, ids: NDArray[np.int64]) -> Matrix:
        logits: Matrix = self._session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0][0]
        return logits

    def _warm_up(self, path: Path) -> None:
        """Sets up what the runtime sets up lazily, and sees that every locale's token is one of the model's."""
        try:
            shapes = {
                self._run(self.ids("", locale)).shape for locale in ("", *self.card.locales) for _ in range(_WARM_UPS)
            }
        except Exception as error:
            raise ModelError(f"{path} cannot read a query of {CARD}'s locales: {error}") from error
        if shapes != {(len(self.types),)}:
            raise ModelError(f"{path} gives logits of shapes {shapes} a query; {CARD} names {len(self.types)} types")


class QueryReader:
    """Stands where an encoder does, for a classifier that needs none: its vectors are of 0 dimensions."""

    dim = 0

    def __init__(self, head: TransformerHead, fingerprint: str) -> None:
        self.understands, self.fingerprint = head.understands, fingerprint

    def encode_queries(self, queries: Sequence[str]) -> Embeddings:
        return np.zeros((len(queries), 0), np.float32)

    def encode_products(self, products: Sequence[Product]) -> Embeddings:
        return np.zeros((len(products), 0), np.float32)
