"""A decoder on onnxruntime, as ``aisle export`` writes it: on CPUs, without torch or transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from engine.errors import ConfigError, ModelError
from engine.model_files import MODEL, TOKENIZER, ModelFiles, ModelKind

CARD = "decoder.json"
INPUTS = ("input_ids", "keys", "values")
OUTPUTS = ("logits", "new_keys", "new_values")

Logits = NDArray[np.float32]
#: Keys and values of what was read, float32 (layers, heads, tokens, head size).
State = tuple[NDArray[np.float32], NDArray[np.float32]]


class DecoderCard(msgspec.Struct, frozen=True, kw_only=True):
    """A model directory's card. ``sha256`` covers ``model.onnx`` and ``tokenizer.json``.

    A prompt stands between ``before`` and ``after``, as the model's chat template has it; ``end`` is the token that
    ends an answer. ``source`` and ``license`` are for people.
    """

    format: int = 1
    name: str
    layers: Annotated[int, Meta(ge=1)]
    heads: Annotated[int, Meta(ge=1)]
    head_size: Annotated[int, Meta(ge=1)]
    max_tokens: Annotated[int, Meta(ge=16)]
    before: str
    after: str
    end: int
    sha256: dict[str, str]
    source: str = ""
    license: str = ""


DECODERS = ModelKind(
    "decoder", CARD, DecoderCard, Path(__file__).parent / "models",
    f"or name a directory with {CARD}, {MODEL} and {TOKENIZER}",
)  # fmt: skip


class OnnxDecoder:
    """Implements ``ranking.listwise.decoders.Decoder``. Raises ModelError on a directory that cannot be used.

    What a prompt has in common with the one before it, which is at least what the prompts' file says before the query,
    is not read again.
    """

    def __init__(self, directory: Path, threads: int) -> None:
        files = ModelFiles(DECODERS, directory)
        self.card, self._tokenizer = files.card, files.tokenizer()
        self._session = _session(files, threads)
        self._lock = Lock()
        self._before: tuple[Sequence[int], State] | None = None  # the last prompt

    def n_tokens(self, prompt: str) -> int:
        return len(self._tokenizer.encode(prompt, add_special_tokens=False).ids)

    def complete(self, prompt: str, begin: str, max_tokens: int) -> str:
        """Greedily, a token at a time, with keys and values kept."""
        logits, state = self._prompt(self._ids(prompt, begin))
        said: list[int] = []
        while len(said) < max_tokens:
            token = int(logits.argmax())
            if token == self.card.end:
                break
            said.append(token)
            logits, state = self.read([token], state)
        return str(self._tokenizer.decode(said))

    def first(self, prompts: Sequence[str], begin: str, words: Sequence[str]) -> NDArray[np.float32]:
        wanted = [self._word(word) for word in words]
        return np.stack([self._prompt(self._ids(prompt, begin))[0][wanted] for prompt in prompts])

    def _prompt(self, ids: Sequence[int]) -> tuple[Logits, State]:
        """``read``, from where these ids differ from the last prompt's, or from the last id."""
        known, state = self._before or ((), None)
        n = next(
            (place for place, (one, other) in enumerate(zip(known, ids, strict=False)) if one != other), len(known)
        )
        n = min(n, len(ids) - 1)
        logits, now = self.read(ids[n:], (state[0][:, :, :n], state[1][:, :, :n]) if state and n else None)
        self._before = ids, now
        return logits, now

    def read(self, ids: Sequence[int], state: State | None = None) -> tuple[Logits, State]:
        """What follows ``ids``, float32 (vocabulary,), after what ``state`` is of."""
        shape = self.card.layers, self.card.heads, 0, self.card.head_size
        keys, values = state or (np.zeros(shape, np.float32), np.zeros(shape, np.float32))
        feeds = dict(zip(INPUTS, (np.array([ids], np.int64), keys, values), strict=True))
        with self._lock:
            logits, new_keys, new_values = self._session.run(None, feeds)
        return logits, (new_keys, new_values)

    def _ids(self, prompt: str, begin: str) -> list[int]:
        text = f"{self.card.before}{prompt}{self.card.after}{begin}"
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        if len(ids) > self.card.max_tokens:
            raise ConfigError(
                f"a prompt has {len(ids)} tokens, {self.card.name} reads {self.card.max_tokens}; make window smaller"
            )
        return ids

    def _word(self, word: str) -> int:
        for text in (word, f" {word}"):
            ids = self._tokenizer.encode(text, add_special_tokens=False).ids
            if len(ids) == 1:
                return int(ids[0])
        raise ModelError(f"{self.card.name} has no token {word!r} of its own; take reading = permutation")


def _session(files: ModelFiles[DecoderCard], threads: int) -> Any:
    session = files.opened(MODEL, max(threads, 1))
    found = tuple(one.name for one in session.get_inputs()), tuple(one.name for one in session.get_outputs())
    if found != (INPUTS, OUTPUTS):
        path = files.directory / MODEL
        raise ModelError(f"{path} takes {found[0]} and gives {found[1]}; a decoder takes {INPUTS} and gives {OUTPUTS}")
    return session
