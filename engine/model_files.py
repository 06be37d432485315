"""Model directories: a card in JSON, ``model.onnx`` and ``tokenizer.json``, used only when their checksums match.

A model that takes adapters has the same once more as ``adaptable.onnx``, with the adapters' matrices as inputs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Generic, Protocol, TypeVar

import msgspec
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from engine.adapters import ADAPTABLE, MATRICES, Adapter, AdapterBase, Matrix
from engine.errors import AdapterError, ModelError

MODEL, TOKENIZER = "model.onnx", "tokenizer.json"
MAX_CHARACTERS = 4_000  # of one text; more cannot fit into any window and would only cost tokenisation
_INPUTS = ("input_ids", "attention_mask")
_UNKNOWN = ("[UNK]", "<unk>")
_LETTERS_PER_TOKEN = 1.25


class Card(Protocol):
    """What every card says: its format, and the checksums of the files beside it by name."""

    @property
    def format(self) -> int: ...

    @property
    def sha256(self) -> dict[str, str]: ...


C = TypeVar("C", bound=Card)


@dataclass(frozen=True, slots=True)
class Graph:
    """A session, and the matrices of an adapter where it takes some, by input.

    They are NumPy arrays, which onnxruntime reads where they are: no call converts or copies them.
    """

    session: ort.InferenceSession
    matrices: Mapping[str, Matrix]

    def run(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """The model's one output."""
        feeds = {"input_ids": ids, "attention_mask": mask, **self.matrices}
        output: NDArray[np.float32] = self.session.run(None, feeds)[0]
        return output


@dataclass(frozen=True, slots=True)
class ModelKind(Generic[C]):
    """One kind of model: its noun, its card's file and type, where the shipped ones lie, how to get another."""

    noun: str
    card_file: str
    card_type: type[C]
    shipped: Path
    remedy: str

    def find(self, name: str) -> Path:
        """The directory of the shipped model of that name, or else the directory ``name``."""
        shipped = self.shipped / name
        return shipped if (shipped / self.card_file).exists() else Path(name)

    def lasting(self, name: str) -> str:
        """``name``, as a path that holds wherever it is read from if it is that of a directory."""
        found = self.find(name)
        return name if found.parent == self.shipped or not found.is_dir() else str(found.resolve())

    def read_card(self, directory: Path) -> C:
        path = directory / self.card_file
        try:
            card = msgspec.json.decode(path.read_bytes(), type=self.card_type)
        except OSError as error:
            shipped = sorted(p.parent.name for p in self.shipped.glob(f"*/{self.card_file}"))
            raise ModelError(
                f"no {self.noun} in {directory}: {self.card_file} cannot be read ({error.strerror}). "
                f"Shipped {self.noun}s: {', '.join(shipped) or 'none'}; {self.remedy}"
            ) from error
        except msgspec.MsgspecError as error:
            raise ModelError(f"{path}: {error}") from error
        if card.format != 1 or not {MODEL, TOKENIZER} <= set(card.sha256):
            raise ModelError(
                f"{path}: format {card.format} with checksums of {sorted(card.sha256)} is not one this version reads"
            )
        return card


class ModelFiles(Generic[C]):
    """A model directory with its card read. Every method raises ModelError naming the file."""

    def __init__(self, kind: ModelKind[C], directory: Path) -> None:
        self.directory, self.kind = directory, kind
        self.card = kind.read_card(directory)

    def session(
        self, gives: str, fits: Callable[[Any], bool], adapters: AdapterBase | None = None
    ) -> ort.InferenceSession:  # fmt: skip
        """The model on one thread. It must take ids and mask, both int64, and give one output that ``fits``.

        ``gives`` describes that output. With ``adapters``, the graph that takes their targets' matrices as well.
        """
        expected = dict.fromkeys(_INPUTS, "tensor(int64)")
        if adapters:
            expected |= {f"{target}.{matrix}": "tensor(float)" for target in adapters.targets for matrix in MATRICES}
        matrices = " and the matrices that the card names, in float32," if adapters else ""
        takes = f"{' and '.join(_INPUTS)} in int64{matrices}"
        return self.graph(ADAPTABLE if adapters else MODEL, expected, takes, gives, fits)

    def opened(self, name: str, threads: int = 1) -> ort.InferenceSession:
        """The graph in the file ``name``, whatever it takes. Raises ModelError where onnxruntime cannot run it."""
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 4
        model = self.checked(name)
        try:
            # From bytes: a model loaded so cannot name other files to be read.
            return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ModelError(f"{self.directory / name} is not a model onnxruntime can run: {error}") from error

    def graph(
        self, name: str, inputs: Mapping[str, str], takes: str, gives: str, fits: Callable[[Any], bool]
    ) -> ort.InferenceSession:  # fmt: skip
        """The graph in the file ``name`` on one thread. It must take ``inputs``, types by name, and give one output
        that ``fits``. ``takes`` and ``gives`` describe both.
        """
        path, session = self.directory / name, self.opened(name)
        taken, outputs = {i.name: i.type for i in session.get_inputs()}, session.get_outputs()
        if taken != inputs or len(outputs) != 1 or not fits(outputs[0]):
            raise ModelError(
                f"{path} takes {taken} and gives {[(o.name, o.type, o.shape) for o in outputs]}; "
                f"the model of a {self.kind.noun} takes {takes} and gives {gives}"
            )
        return session

    def tokenizer(self) -> Tokenizer:
        """Without truncation or padding."""
        data = self.checked(TOKENIZER)
        try:
            tokenizer = Tokenizer.from_buffer(data)
        except Exception as error:
            raise ModelError(f"{self.directory / TOKENIZER} cannot be read: {error}") from error
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def checked(self, name: str) -> bytes:
        """The bytes of a file that has its checksum."""
        path = self.directory / name
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ModelError(f"{path} cannot be read: {error.strerror}") from error
        if hashlib.sha256(data).hexdigest() != self.card.sha256.get(name):
            raise ModelError(
                f"{path} does not match its checksum in {self.kind.card_file}: it was changed or cut short. "
                "Get it again."
            )
        return data


class AdaptableGraph(Generic[C]):
    """A model's graph that takes an adapter's matrices. It is opened when the first adapter comes: a model that has
    none needs neither the time nor the memory. Thread-safe.
    """

    def __init__(
        self, files: ModelFiles[C], name: str, base: AdapterBase | None, gives: str, fits: Callable[[Any], bool]
    ) -> None:
        self._files, self._name, self._base, self._gives, self._fits = files, name, base, gives, fits
        self._session: ort.InferenceSession | None = None
        self._lock = Lock()

    def graph(self, adapter: Adapter) -> Graph:
        """Raises AdapterError where the adapter is for another model, ModelError where the graph cannot be used."""
        noun = self._files.kind.noun
        if adapter.card.kind != noun:
            raise AdapterError(
                f"the adapter {adapter.card.name} is of kind {adapter.card.kind}, and {self._name} of kind {noun}"
            )
        inputs = adapter.inputs(self._base, self._name)
        with self._lock:
            if self._session is None:
                self._session = self._files.session(self._gives, self._fits, self._base)
        return Graph(self._session, inputs)


def understands(query: Encoding) -> bool:
    """Whether there is more in a query, encoded without special tokens, than unknown tokens and single letters.

    There is not for scripts that the model never learnt; what it makes of such a query is arbitrary.
    """
    pieces = zip(query.tokens, query.offsets, strict=True)
    known = [end - start for token, (start, end) in pieces if token not in _UNKNOWN]
    return 2 * len(known) > len(query.tokens) and sum(known) > _LETTERS_PER_TOKEN * len(known)
