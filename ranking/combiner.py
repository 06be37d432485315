"""A learnt combiner behind the engine's ``Combiner`` seam: boosted trees or a line, served from plain arrays.

It is one JSON file, written by ``aisle train combiner`` and read as hostile input.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Protocol

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from engine.errors import ModelError
from engine.features import FEATURES
from engine.types import Features, Scores

Matrix = NDArray[np.float64]

FORMAT = 1
BASE = "(base)"  # the part that no feature adds
_MOST_BYTES = 8 << 20
_MOST_NODES = 50_000
_MOST_DEPTH = 32
_LEAF = -1


class Trees(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="trees", tag_field="kind"):
    """A sum of binary trees, whose nodes stand in one list: a node before its children, all arrays as long.

    Where feature ``feature[i]`` of a candidate is at most ``threshold[i]`` it goes on at ``left[i]``, else at
    ``right[i]``; ``feature`` is -1 in a leaf, whose children are not looked at. ``value`` of a leaf is what the tree
    adds; of an inner node, the mean of what its leaves add. ``roots`` are the trees' first nodes.
    """

    roots: list[int]
    feature: list[int]
    threshold: list[float]
    left: list[int]
    right: list[int]
    value: list[float]


class Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="linear", tag_field="kind"):
    """The sum over features of ``weights`` · (feature - ``means``)."""

    weights: list[float]
    means: list[float]


class CombinerFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the file says.

    The probability of relevance is ``sigmoid(scale · model + offset)`` (Platt 1999). ``features`` are those of
    ``engine.features``, in the order in which the model numbers them. ``encoder`` and ``reranker`` are the fingerprints
    of the models that the features came from. ``learnt_from`` (queries by source), ``figures`` (nDCG@10 on sources that
    it was not fitted on, by source, then by order), ``license`` and ``notes`` are for people.
    """

    format: int = FORMAT
    name: str
    features: Annotated[list[str], Meta(min_length=1)]
    model: Trees | Line
    scale: Annotated[float, Meta(gt=0)]
    offset: float
    encoder: str
    reranker: str
    learnt_from: dict[str, int] = {}
    figures: dict[str, dict[str, float]] = {}
    license: str = ""
    notes: str = ""


class _Model(Protocol):
    def raw(self, x: Matrix) -> Matrix:
        """What the model makes of rows of its features, float64 (n,)."""
        ...

    def parts(self, x: Matrix) -> tuple[float, Matrix]:
        """Of one candidate, float64 (n_features,): what there is at first and what each feature adds to that."""
        ...


class FittedCombiner:
    """Implements ``engine.seams.Combiner``. Read-only and thread-safe."""

    def __init__(self, file: CombinerFile) -> None:
        """Raises ModelError naming the part of ``file`` that makes no model."""
        self.file = file
        if len(set(file.features)) < len(file.features):
            raise _unusable("features", f"{file.features} has one twice")
        if not np.isfinite([file.scale, file.offset]).all():
            raise _unusable("scale", f"{file.scale} or offset {file.offset} is no number")
        n = len(file.features)
        self._model: _Model = _Forest(file.model, n) if isinstance(file.model, Trees) else _Sum(file.model, n)
        self._unknown = [name for name in file.features if name not in FEATURES]
        places = {name: place for place, name in enumerate(FEATURES)}
        self._columns = np.array([places.get(name, 0) for name in file.features])

    @classmethod
    def read(cls, path: str | Path) -> FittedCombiner:
        """The one in a file. Raises ModelError naming file and field on anything that is not whole."""
        path = Path(path)
        try:
            with path.open("rb") as opened:
                data = opened.read(_MOST_BYTES + 1)
            if len(data) > _MOST_BYTES:
                raise _unusable("size", f"is over {_MOST_BYTES} bytes")
            return cls(msgspec.json.decode(data, type=CombinerFile))
        except OSError as error:
            raise ModelError(
                f"the combiner {path} cannot be read ({error.strerror}); give a file that aisle train combiner wrote"
            ) from error
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ModelError) as error:
            raise ModelError(f"the combiner {path}: {error}") from error

    def write(self, path: str | Path) -> None:
        """Writes what ``read`` gives back equal."""
        Path(path).write_bytes(msgspec.json.encode(self.file) + b"\n")

    def misfit(self, encoder: str, reranker: str) -> str:
        """As the seam has it. Probabilities are calibrated, so that a reranker is only known by what it reads."""
        if self._unknown:
            return f"{self.file.name} weighs {', '.join(self._unknown)}, which this version does not know; fit it anew"
        for part, own, here in (("encoder", self.file.encoder, encoder), ("reranker", self.file.reranker, reranker)):
            if own != here:
                return f"{self.file.name} was fitted with the {part} {own!r}, the index has {here!r}; fit it anew"
        return ""

    def scores(self, values: Features) -> Scores:
        # The logistic function, in a form that does not overflow.
        return np.asarray(0.5 + 0.5 * np.tanh(self.log_odds(values) / 2), np.float32)

    def log_odds(self, values: Features) -> NDArray[np.float64]:
        """Of the scores, float64 (n,)."""
        raw = self._model.raw(values[:, self._columns].astype(np.float64))
        return np.asarray(self.file.scale * raw + self.file.offset)

    def parts(self, values: NDArray[np.float32]) -> tuple[tuple[str, float], ...]:
        base, added = self._model.parts(values[self._columns].astype(np.float64))
        odds = (added * self.file.scale).tolist()
        most = sorted(zip(self.file.features, odds, strict=True), key=lambda part: -abs(part[1]))
        return ((BASE, base * self.file.scale + self.file.offset), *(part for part in most if part[1]))


class _Sum:
    def __init__(self, line: Line, n_features: int) -> None:
        self._weights, self._means = _numbers("weights", line.weights), _numbers("means", line.means)
        if not len(self._weights) == len(self._means) == n_features:
            raise _unusable("weights", f"or means are not {n_features}, one a feature")

    def raw(self, x: Matrix) -> Matrix:
        # Not @: that may wake BLAS's threads, and a search uses one core.
        return np.asarray(np.einsum("ij,j->i", x - self._means, self._weights))

    def parts(self, x: Matrix) -> tuple[float, Matrix]:
        return 0.0, (x - self._means) * self._weights


class _Forest:
    """All trees at once: every candidate goes down every tree by one step at a time. A leaf leads to itself."""

    def __init__(self, trees: Trees, n_features: int) -> None:
        feature, left, right = (_places(trees, name) for name in ("feature", "left", "right"))
        self._threshold, self._value = (_numbers(name, getattr(trees, name)) for name in ("threshold", "value"))
        self._roots = _places(trees, "roots")
        n = len(feature)
        if not 0 < n <= _MOST_NODES or {len(left), len(right), len(self._threshold), len(self._value)} != {n}:
            raise _unusable("model", f"its arrays are not of one length from 1 to {_MOST_NODES}")
        if not len(self._roots) or self._roots.min() < 0 or self._roots.max() >= n or len(self._roots) > n:
            raise _unusable("roots", f"are not from 0 to {n - 1}")
        if feature.min() < _LEAF or feature.max() >= n_features:
            raise _unusable("feature", f"is not from {_LEAF} to {n_features - 1}")
        itself, inner = np.arange(n), feature != _LEAF
        for name, children in (("left", left), ("right", right)):
            # A child stands behind its parent: no walk ever comes back.
            if (children[inner] <= itself[inner]).any() or (children[inner] >= n).any():
                raise _unusable(name, "has a child that does not stand behind its parent")
        # Left and right child beside each other, so that one look-up takes the step.
        self._children = np.stack([np.where(inner, left, itself), np.where(inner, right, itself)], axis=1).ravel()
        self._feature = np.where(inner, feature, 0)
        self._depth = self._deepest(inner)

    def _deepest(self, inner: NDArray[np.bool_]) -> int:
        """Steps from a root to the furthest leaf."""
        nodes, depth = np.unique(self._roots), 0
        while inner[nodes].any():
            depth += 1
            if depth > _MOST_DEPTH:
                raise _unusable("model", f"has a tree deeper than {_MOST_DEPTH}")
            at = nodes[inner[nodes]]
            nodes = np.unique(self._children.reshape(-1, 2)[at])
        return depth

    def raw(self, x: Matrix) -> Matrix:
        n, width = x.shape
        flat, starts = x.ravel(), (np.arange(n) * width)[:, None]
        nodes = np.broadcast_to(self._roots, (n, len(self._roots)))
        for _ in range(self._depth):
            nodes = self._next(nodes, flat.take(starts + self._feature.take(nodes)))
        return np.asarray(self._value.take(nodes).sum(axis=1))

    def parts(self, x: Matrix) -> tuple[float, Matrix]:
        """What changes along each tree's path goes to the feature that was asked (Saabas 2014)."""
        added, nodes = np.zeros(len(x)), self._roots
        for _ in range(self._depth):
            asked = self._feature[nodes]
            below = self._next(nodes, x[asked])
            np.add.at(added, asked, self._value[below] - self._value[nodes])
            nodes = below
        return float(self._value[self._roots].sum()), added

    def _next(self, nodes: NDArray[np.int64], x: Matrix) -> NDArray[np.int64]:
        return self._children.take(2 * nodes + (x > self._threshold.take(nodes)))


def _places(trees: Trees, name: str) -> NDArray[np.int64]:
    try:
        return np.array(getattr(trees, name), np.int64)
    except OverflowError as error:
        raise _unusable(name, "has a number that is too large") from error


def _numbers(name: str, values: Sequence[float]) -> Matrix:
    numbers = np.array(values, np.float64)
    if not np.isfinite(numbers).all():
        raise _unusable(name, "has something that is no number")
    return numbers


def _unusable(field: str, what: str) -> ModelError:
    return ModelError(f"{field} {what}; fit it anew with aisle train combiner")
