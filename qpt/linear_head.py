"""A linear head on the engine's encoder: weighted evidence per type, a softmax, a temperature. Fitted by ``head_fit``.

On disk it is a directory: ``types.json``, which has the taxonomy and the checksum of the other, and ``arrays.npz``.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError, ModelError
from engine.seams import Embeddings
from qpt.evidence import Evidence, ItemEvidence, NameEvidence, QueryWords
from qpt.log_linear import log_shares
from qpt.softmax import Matrix
from qpt.taxonomy import Taxonomy, TypeNode

CARD, ARRAYS = "types.json", "arrays.npz"
_ITEM_ARRAYS = ("vectors", "rows", "columns", "weights", "prototypes", "counts")
_WORD_ARRAYS = ("rows", "columns", "counts")
_FORMAT = 2
_MOST_CARD = 64 << 20  # bytes


class _Node(msgspec.Struct, frozen=True):
    id: str
    names: dict[str, str]
    parent: str | None = None


class HeadCard(msgspec.Struct, frozen=True, kw_only=True):
    """What ``types.json`` says. ``words`` are stems of labelled queries; ``weights`` are by kind of evidence;
    ``learnt_from`` and ``calibrated_on`` are for people: numbers of queries, by what they were.
    """

    format: int
    dim: int
    encoder: str
    version: str
    nodes: list[_Node]
    types: list[str]
    locales: list[str]
    name_locales: list[str]
    items: list[str]
    words: list[str]
    weights: dict[str, float]
    temperature: float
    learnt_from: dict[str, int]
    calibrated_on: str
    sha256: dict[str, str] = {}


class LinearHead:
    """A ``TypeClassifier`` that scores types by weighted evidence; read-only and thread-safe.

    ``card`` says what it was made of.
    """

    def __init__(
        self, card: HeadCard, taxonomy: Taxonomy, evidence: Evidence, conformal_scores: NDArray[np.float32]
    ) -> None:
        self.card, self.taxonomy, self.evidence = card, taxonomy, evidence
        self.types = tuple(card.types)
        self.conformal_scores = conformal_scores
        weights = np.array([card.weights[name] for name in evidence.feature_names])
        self._weights: Matrix = (weights / card.temperature).astype(np.float32)

    @property
    def encoder_fingerprint(self) -> str:
        return self.card.encoder

    def probabilities(self, queries: Sequence[str], vectors: Embeddings, locales: Sequence[str]) -> Matrix:
        """Float32 (n, types); 0 for types that a query's words rule out, unless they rule out all.

        Raises ConfigError where the numbers of queries, vectors and locales differ.
        """
        if not len(queries) == len(vectors) == len(locales) or vectors.shape[1:] != (self.card.dim,):
            raise ConfigError(
                f"there are {len(queries)} queries, vectors of shape {vectors.shape} and {len(locales)} locales; give "
                f"as many of each, and vectors of {self.card.dim} numbers"
            )
        logits: Matrix = self._weights @ self.evidence.features(queries, vectors, locales)
        for row, (query, locale) in enumerate(zip(queries, locales, strict=True)):
            denied = self.evidence.denied(query, locale)
            if 0 < len(denied) < len(self.types):
                logits[row, denied] = -np.inf
        return np.exp(log_shares(logits))

    def save(self, directory: str | Path) -> None:
        """Writes the directory; the card comes last, so that a head without one was not finished."""
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {
            "basis": self.evidence.basis,
            "mapping": self.evidence.mapping,
            "conformal_scores": self.conformal_scores,
        }
        for place, names in enumerate(self.evidence.names.values()):
            arrays |= {f"parts {place}": names.parts, f"whole {place}": names.whole}
        arrays |= {f"word {name}": getattr(self.evidence.words, name) for name in _WORD_ARRAYS}
        for kind, items in self.evidence.items.items():
            arrays |= {f"{kind} {name}": getattr(items, name) for name in _ITEM_ARRAYS}
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        (folder / ARRAYS).write_bytes(buffer.getvalue())
        sums = {ARRAYS: hashlib.sha256(buffer.getvalue()).hexdigest()}
        card = msgspec.structs.replace(self.card, sha256=sums)
        (folder / CARD).write_bytes(msgspec.json.format(msgspec.json.encode(card)))

    @classmethod
    def load(cls, directory: str | Path) -> LinearHead:
        """Reads what ``save`` wrote. Raises ModelError naming the file on anything else."""
        folder = Path(directory)
        card = _read_card(folder / CARD)
        arrays = _Arrays(folder / ARRAYS, card.sha256.get(ARRAYS, ""))
        basis = arrays.matrix("basis", (card.dim, None))
        n, width = len(card.types), basis.shape[1]
        try:
            taxonomy = Taxonomy((TypeNode(node.id, node.names, node.parent) for node in card.nodes), card.version)
            names = {
                locale: _names(arrays, place, [taxonomy.path(type_id, locale) for type_id in card.types], width)
                for place, locale in enumerate(card.name_locales)
            }
        except (ConfigError, KeyError) as error:
            raise ModelError(f"{folder / CARD}: the taxonomy cannot be used: {error}") from error
        items = {kind: _items(arrays, kind, n, width + len(card.locales)) for kind in card.items}
        evidence = Evidence(
            basis, names, arrays.matrix("mapping", (width, width)), _words(arrays, card), tuple(card.locales), items
        )
        if "" not in names or set(card.weights) != set(evidence.feature_names):
            raise ModelError(f"{folder / CARD}: its names or weights are not those of this format; fit it anew")
        return cls(card, taxonomy, evidence, arrays.matrix("conformal_scores", (None,)))


def made_card(taxonomy: Taxonomy, types: Sequence[str], evidence: Evidence, **said: Any) -> HeadCard:
    """The card of a head; ``said`` has the fields that the other arguments do not tell."""
    nodes = [_Node(node.type_id, dict(node.names), node.parent) for node in taxonomy.nodes.values()]
    return HeadCard(
        format=_FORMAT, dim=evidence.basis.shape[0], version=taxonomy.version, nodes=nodes, types=list(types),
        locales=list(evidence.locales), name_locales=list(evidence.names), items=list(evidence.items),
        words=list(evidence.words.words), **said,
    )  # fmt: skip


def _read_card(path: Path) -> HeadCard:
    try:
        if path.stat().st_size > _MOST_CARD:
            raise ModelError(f"{path} has {path.stat().st_size} bytes; a card has at most {_MOST_CARD}")
        card = msgspec.json.decode(path.read_bytes(), type=HeadCard)
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); give a directory that save() wrote") from error
    except msgspec.MsgspecError as error:
        raise ModelError(f"{path}: {error}") from error
    sane = card.format == _FORMAT and card.dim > 0 and 0 < card.temperature < float("inf") and len(card.types) > 0
    if not sane or not {*card.items} <= {"queries", "products"} or not all(map(np.isfinite, card.weights.values())):
        raise ModelError(f"{path}: format {card.format} with these values is not one this version reads; fit it anew")
    return card


class _Arrays:
    """The arrays of a head, checked one by one. Nothing is unpickled, and nothing compressed can grow."""

    def __init__(self, path: Path, checksum: str) -> None:
        self._path = path
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ModelError(f"{path} cannot be read: {error.strerror}") from error
        if hashlib.sha256(data).hexdigest() != checksum:
            raise ModelError(f"{path} does not match its checksum in {CARD}: it was changed or cut short. Fit it anew.")
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                    raise ModelError(f"{path} is compressed, which save() never does; fit it anew")
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                self._arrays: Mapping[str, NDArray[Any]] = {name: arrays[name] for name in arrays.files}
        except (ValueError, OSError, EOFError, zipfile.BadZipFile, MemoryError) as error:
            raise ModelError(f"{path} holds no arrays that can be read: {error}") from error

    def matrix(self, name: str, shape: tuple[int | None, ...]) -> Matrix:
        """Finite float32 of the shape; None allows any length."""
        found = self._found(name, np.float32, shape)
        if not np.isfinite(found).all():
            raise ModelError(f"{self._path}: {name!r} has values that are no numbers; fit it anew")
        return found

    def places(self, name: str, length: int, below: int) -> NDArray[np.int64]:
        """Int64 from 0 up to ``below``."""
        found = self._found(name, np.int64, (length,))
        if len(found) and not 0 <= found.min() <= found.max() < below:
            raise ModelError(f"{self._path}: {name!r} has values outside 0 … {below - 1}; fit it anew")
        return found

    def _found(self, name: str, kind: type, shape: tuple[int | None, ...]) -> NDArray[Any]:
        found = self._arrays.get(name)
        fits = found is not None and found.dtype == kind and found.ndim == len(shape)
        if found is None or not fits or any(w not in (None, g) for g, w in zip(found.shape, shape, strict=True)):
            given = "missing" if found is None else f"{found.dtype} {found.shape}"
            raise ModelError(f"{self._path}: {name!r} is {given}; it must be {kind.__name__} {shape}")
        return found


def _names(arrays: _Arrays, place: int, paths: Sequence[tuple[str, ...]], width: int) -> NameEvidence:
    whole = arrays.matrix(f"whole {place}", (len(paths), width))
    return NameEvidence(paths, arrays.matrix(f"parts {place}", (NameEvidence.count_parts(paths), width)), whole)


def _words(arrays: _Arrays, card: HeadCard) -> QueryWords:
    counts = arrays.matrix("word counts", (None,))
    rows = arrays.places("word rows", len(counts), len(card.words))
    columns = arrays.places("word columns", len(counts), len(card.types))
    if (np.diff(rows) < 0).any() or (counts <= 0).any() or len({*card.words}) != len(card.words):
        raise ModelError("the arrays of words are not in the order of this format; fit the head anew")
    return QueryWords(tuple(card.words), rows, columns, counts)


def _items(arrays: _Arrays, kind: str, n_types: int, wide: int) -> ItemEvidence:
    vectors = arrays.matrix(f"{kind} vectors", (None, wide))
    weights = arrays.matrix(f"{kind} weights", (None,))
    rows = arrays.places(f"{kind} rows", len(weights), len(vectors))
    columns = arrays.places(f"{kind} columns", len(weights), n_types)
    if (np.diff(columns) < 0).any() or len(np.unique(rows)) != len(vectors) or (weights <= 0).any():
        raise ModelError(f"the arrays of {kind} are not in the order of this format; fit the head anew")
    prototypes = arrays.matrix(f"{kind} prototypes", (n_types, wide))
    return ItemEvidence(vectors, rows, columns, weights, prototypes, arrays.matrix(f"{kind} counts", (n_types,)))
