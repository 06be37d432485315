"""The models that can order candidates, behind one seam."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from engine.endpoints.cache import AnswerCache, cache_key
from engine.endpoints.chat import Chat
from engine.endpoints.settings import EndpointSettings
from engine.errors import ConfigError, MissingExtraError
from ranking.listwise.settings import Decoders, ListwiseSettings


class Decoder(Protocol):
    """A language model. Thread-safe. ``begin`` is what its answer begins with."""

    def n_tokens(self, prompt: str) -> int:
        """How many tokens a prompt is, or about how many."""
        ...

    def complete(self, prompt: str, begin: str, max_tokens: int) -> str:
        """The most probable answer of at most ``max_tokens``, without ``begin``. Raises AisleError."""
        ...

    def first(self, prompts: Sequence[str], begin: str, words: Sequence[str]) -> NDArray[np.float32]:
        """Logits (n_prompts, n_words): how probable each word is as the next token after ``begin``."""
        ...


#: The class for each kind of settings. By name: one stands above this package.
_CLASSES = {
    "OnnxSettings": "ranking.listwise.onnx:OnnxDecoder",
    "TransformersSettings": "training.models.decoder:TransformersDecoder",
}


def open_decoder(settings: ListwiseSettings, directory: Path, threads: int) -> Decoder:
    """The decoder that ``settings`` name; its path is taken from ``directory``. Raises ConfigError, ModelError,
    MissingExtraError, EndpointError.
    """
    wanted: Decoders = settings.decoder
    if isinstance(wanted, EndpointSettings):
        return EndpointDecoder(wanted)
    module, attribute = _CLASSES[type(wanted).__name__].split(":")
    try:
        made = cast("Callable[[Path, int], Decoder]", getattr(import_module(module), attribute))
    except ModuleNotFoundError as error:
        raise MissingExtraError("train", error.name or module) from error
    return made(directory / wanted.path, threads)


class EndpointDecoder:
    """A chat model behind an endpoint. Every answer is kept on disk, so that none is paid for twice."""

    def __init__(self, settings: EndpointSettings) -> None:
        self._settings = settings
        self._cache = AnswerCache(Path(settings.cache))
        self._chat = Chat(settings, self._cache.spent, on_cost=self._cache.spend)

    def n_tokens(self, prompt: str) -> int:
        return len(prompt.encode()) // 3

    def complete(self, prompt: str, begin: str, max_tokens: int) -> str:
        """The model begins anew: what it is to begin with it has to be told by the prompt. The settings limit it."""
        key = cache_key((self._settings.url, self._settings.model, str(self._settings.temperature), prompt))
        kept = self._cache.get(key)
        if kept is None:
            kept = self._chat.complete(prompt)
            self._cache.put(key, kept)
        return kept

    def first(self, prompts: Sequence[str], begin: str, words: Sequence[str]) -> NDArray[np.float32]:
        raise ConfigError("an endpoint gives text alone; take reading = permutation")
