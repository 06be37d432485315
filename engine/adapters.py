"""Adapters: low-rank matrices that change a model's layers a little, each in a file of its own.

A target is a linear layer of the model; with an adapter it gives ``linear(x) + (x @ A) @ B`` (LoRA: Hu et al. 2021,
arXiv 2106.09685). An adapter's file is safetensors: ``TARGET.A`` and ``TARGET.B`` in float32, and in the header's
metadata the entry ``aisle``, the JSON of its ``AdapterCard``. It comes from outside and is checked before it is used.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from engine.errors import AdapterError

Matrix = NDArray[np.float32]
AdapterKind = Literal["reranker", "encoder"]

#: A model directory's graph that takes matrices, and what the two of each target are called there and in files.
ADAPTABLE = "adaptable.onnx"
MATRICES = ("A", "B")
METADATA = "aisle"  # the entry of a file's metadata that is its card
KINDS: tuple[AdapterKind, ...] = get_args(AdapterKind)

_FORMAT = 1
_SWAPPED = ("lora", "qlora")
_MAX_BYTES = 64_000_000
_MAX_RANK = 256
_MAX_LISTED = 3
_NAME = re.compile(r"\w[\w.-]{0,63}")
_IN_ATTENTION = (
    "its keys, values or tokens enter every layer's attention, so that all states of query and product change, in a "
    "graph of another shape. Export it with its model, as a model of its own"
)
_IN_LAYERS = (
    "it does more to a layer than add the product of two small matrices. "
    "Export it with its model, as a model of its own"
)


class AdapterBase(msgspec.Struct, frozen=True, kw_only=True):
    """What a model's card says of the adapters that fit it.

    ``base`` is the fingerprint of the weights they are trained on; ``targets`` are the layers that can be adapted, by
    name, with how many numbers go in and come out.
    """

    base: str
    targets: dict[str, tuple[Annotated[int, Meta(ge=1)], Annotated[int, Meta(ge=1)]]]


class AdapterCard(msgspec.Struct, frozen=True, kw_only=True):
    """What an adapter is. ``base`` is the fingerprint of the weights that it was trained on.

    With a reranker's, a logit's probability of relevance is ``sigmoid(scale · logit + offset)`` (Platt 1999), in place
    of what the model's own card says. ``source``, ``license`` and ``notes`` (markdown: data, recipe, limits) are for
    people.
    """

    format: int = _FORMAT
    name: str
    kind: AdapterKind
    method: str
    base: str
    scale: float = 1.0
    offset: float = 0.0
    source: str = ""
    license: str = ""
    notes: str = ""


class _Kind(msgspec.Struct):
    kind: str = ""


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """An adapter that an engine has. ``size`` is of its matrices, in bytes; ``problem`` says why it cannot be used,
    and is empty where it can.
    """

    name: str
    kind: AdapterKind
    method: str = ""
    license: str = ""
    size: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """A card, and per target ``A``, float32 (in, rank), and ``B``, float32 (rank, out), which has LoRA's scaling.

    Raises AdapterError where they are no adapter that can be chosen per request.
    """

    card: AdapterCard
    matrices: Mapping[str, tuple[Matrix, Matrix]]

    def __post_init__(self) -> None:
        _require_usable(self.card, self.matrices)

    @classmethod
    def read(cls, path: str | Path) -> Adapter:
        """Raises AdapterError naming the file, what was found in it and what to do."""
        path = Path(path)
        data = _bytes(path)
        try:
            tensors = deserialize(data)  # type: ignore[no-untyped-call]
            card = _card(data)
            _require_swappable(card)
            return cls(card, _paired({name: _matrix(name, tensor) for name, tensor in tensors}))
        except SafetensorError as error:
            raise AdapterError(
                f"{path} is no safetensors file, or was cut short ({error}). Get or export it again"
            ) from error
        except AdapterError as error:
            raise AdapterError(f"{path}: {error}") from error

    def write(self, path: str | Path) -> None:
        """Writes the file that ``read`` reads. The same adapter gives the same bytes."""
        Path(path).write_bytes(self.to_bytes())

    def to_bytes(self) -> bytes:
        tensors = {
            f"{target}.{name}": np.ascontiguousarray(matrix, np.float32)
            for target, pair in sorted(self.matrices.items())
            for name, matrix in zip(MATRICES, pair, strict=True)
        }
        return bytes(save(tensors, {METADATA: msgspec.json.encode(self.card).decode()}))

    def named(self, name: str) -> Adapter:
        """The same under another name."""
        return Adapter(msgspec.structs.replace(self.card, name=name), self.matrices)

    @property
    def info(self) -> AdapterInfo:
        size = sum(matrix.nbytes for pair in self.matrices.values() for matrix in pair)
        return AdapterInfo(self.card.name, self.card.kind, self.card.method, self.card.license, size)

    def inputs(self, base: AdapterBase | None, model: str) -> dict[str, Matrix]:
        """The graph's inputs by name: the matrices, and for targets that the adapter leaves out, zeros.

        ``base`` is what the card of ``model`` says. Raises AdapterError where the adapter is not for it.
        """
        card = self.card
        if base is None:
            raise AdapterError(
                f"the {card.kind} {model} takes no adapters: its directory has no {ADAPTABLE}. Export it again with one"
            )
        if card.base != base.base:
            raise AdapterError(
                f"the adapter {card.name} was trained on the base {card.base[:16]!r}, and the {card.kind} {model} is "
                f"{base.base[:16]!r}. Train it on that, or use an index with the model that it was trained on"
            )
        differing = [
            f"{target} {a.shape[0]} → {b.shape[1]}, there {_size(base.targets.get(target))}"
            for target, (a, b) in self.matrices.items()
            if base.targets.get(target) != (a.shape[0], b.shape[1])
        ]
        if differing:
            raise AdapterError(
                f"the adapter {card.name} is not for the {card.kind} {model}: {_listed(differing)}. "
                f"Its layers are {_listed(base.targets)}"
            )
        inputs = {}
        for target, (n_in, n_out) in base.targets.items():
            pair = self.matrices.get(target) or (np.zeros((n_in, 1), np.float32), np.zeros((1, n_out), np.float32))
            for name, matrix in zip(MATRICES, pair, strict=True):
                inputs[f"{target}.{name}"] = np.ascontiguousarray(matrix)  # or every call would copy it
        return inputs


def require_name(name: str) -> None:
    """Raises AdapterError unless ``name`` can be an adapter's, and a part of a file's name."""
    if not _NAME.fullmatch(name):
        raise AdapterError(
            f"the adapter's name is {name[:80]!r}; it must be at most 64 letters, digits, '.', '_' and '-', and begin "
            "with a letter or a digit. Give another with --name"
        )


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise AdapterError(f"{path} cannot be read: {error.strerror}. Name an adapter's file") from error
    if len(data) > _MAX_BYTES:
        raise AdapterError(f"{path} has over {_MAX_BYTES // 1_000_000} MB; an adapter of a low rank has a few at most")
    return data


def _card(data: bytes) -> AdapterCard:
    """Of the header's metadata, which safetensors' reader, that has accepted ``data``, does not give."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    text = (header.get("__metadata__") or {}).get(METADATA)
    if text is None:
        raise AdapterError(f"its metadata has no entry {METADATA!r}, so it is no adapter of Aisle's. Export it as one")
    try:
        kind = msgspec.json.decode(text, type=_Kind).kind
        if kind not in KINDS:
            raise AdapterError(
                f"its kind is {kind[:40]!r}, and adapters can be chosen per request for a {' and an '.join(KINDS)}, of "
                "which they move queries alone. One that moves products' vectors needs an index of its own, and one of "
                "product types its own classifier: use the model that was saved beside it"
            )
        return msgspec.json.decode(text, type=AdapterCard)
    except msgspec.MsgspecError as error:
        raise AdapterError(f"its card cannot be read: {error}. Export it again") from error


def _matrix(name: str, tensor: Mapping[str, object]) -> Matrix:
    dtype, shape, data = tensor["dtype"], tensor["shape"], tensor["data"]
    assert isinstance(data, (bytes, bytearray))
    assert isinstance(shape, list)
    if dtype != "F32":
        raise AdapterError(f"the tensor {name} is {dtype}; matrices are F32. Export it again")
    return np.frombuffer(data, "<f4").astype(np.float32).reshape(shape)


def _paired(tensors: Mapping[str, Matrix]) -> dict[str, tuple[Matrix, Matrix]]:
    targets = {name.rpartition(".")[0] for name in tensors}
    expected = {f"{target}.{matrix}" for target in targets for matrix in MATRICES}
    if odd := sorted(expected ^ tensors.keys()):
        raise AdapterError(f"every target has one A and one B, and it is not so with {_listed(odd)}. Export it again")
    return {target: (tensors[f"{target}.A"], tensors[f"{target}.B"]) for target in sorted(targets)}


def _require_swappable(card: AdapterCard) -> None:
    if card.format != _FORMAT:
        raise AdapterError(f"its format is {card.format}, and this version of aisle reads {_FORMAT}")
    if card.method not in _SWAPPED:
        in_attention = {"prefix", "prompt"} & set(re.split(r"\W|_", card.method.lower()))
        raise AdapterError(
            f"it was made by {card.method!r}, and only what was made by {' or '.join(_SWAPPED)} can be chosen per "
            f"request: {_IN_ATTENTION if in_attention else _IN_LAYERS}"
        )


def _require_usable(card: AdapterCard, matrices: Mapping[str, tuple[Matrix, Matrix]]) -> None:
    _require_swappable(card)
    require_name(card.name)
    if not (math.isfinite(card.scale) and card.scale > 0 and math.isfinite(card.offset)):
        raise AdapterError(
            f"scale is {card.scale} and offset {card.offset}; both must be finite and scale above 0. Calibrate it again"
        )
    if not matrices:
        raise AdapterError("it has no matrices, so it changes nothing. Export it again")
    for target, (a, b) in matrices.items():
        if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0] or not 1 <= a.shape[1] <= _MAX_RANK or not b.size:
            raise AdapterError(
                f"{target} has A {a.shape} and B {b.shape}; they must be (in, rank) and (rank, out), rank from 1 to "
                f"{_MAX_RANK}. Export it again"
            )
        if a.dtype != np.float32 or b.dtype != np.float32:
            raise AdapterError(f"{target} holds {a.dtype} and {b.dtype}; matrices are float32")
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            raise AdapterError(f"{target} holds numbers that are not finite: its training failed. Train it again")


def _size(shape: tuple[int, int] | None) -> str:
    return f"{shape[0]} → {shape[1]}" if shape else "none of that name"


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = len(names) - _MAX_LISTED
    return "; ".join(names[:_MAX_LISTED]) + (f" and {more} more" if more > 0 else "")
