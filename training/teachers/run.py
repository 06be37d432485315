"""A cross-encoder of ours as a teacher: the ``best`` directory of a run.

It is asked some thousand pairs at a time. Its logits can be kept in a file as they come, so that a kill loses little
and every run on the same data finds them.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import groupby
from pathlib import Path

import msgspec
import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from engine.errors import ConfigError
from training.data.pairs import Pairs
from training.data.sources import Group
from training.metrics import Scores
from training.models.cross_encoder import CrossEncoder
from training.report import RECIPE, Recipe
from training.teachers import Done, Pair

_WEIGHTS = "model.safetensors"
_ASKED_AT_ONCE = 4096  # pairs
_log = logging.getLogger(__name__)


class RunTeacher:
    """Labels pairs with the calibrated probability of a run's cross-encoder."""

    def __init__(self, directory: Path) -> None:
        """Reads the card; the model is opened when it is first asked.

        Raises ConfigError where ``directory`` is not the ``best`` of a run.
        """
        try:
            card = (directory / RECIPE).read_bytes()
            self._recipe = msgspec.json.decode(card, type=Recipe)
            weights = (directory / _WEIGHTS).read_bytes()
        except (OSError, msgspec.MsgspecError) as error:
            raise ConfigError(
                f"teacher.path {directory} has no usable {RECIPE} and {_WEIGHTS} ({error}); name the best directory of "
                "a run"
            ) from error
        self._directory = directory
        self._digest = hashlib.sha256(weights + card)
        self.fingerprint = self._digest.hexdigest()

    def fingerprint_on(self, data: bytes) -> str:
        """Of what the teacher says of this data."""
        digest = self._digest.copy()
        digest.update(data)
        return digest.hexdigest()

    def label(self, pairs: Sequence[Pair], progress: Done = lambda *_: None) -> Scores:
        """As ``Labeller``."""
        return self.probabilities(self.logits(list(_groups(pairs)), None, progress))

    def probabilities(self, logits: Scores, temperature: float = 1.0) -> Scores:
        """What logits mean, float32 (n,)."""
        calibrated = (self._recipe.scale * logits + self._recipe.offset) / temperature
        return (0.5 + 0.5 * np.tanh(calibrated / 2)).astype(np.float32)

    def logits(self, groups: Sequence[Group], kept: Path | None, progress: Done) -> Scores:
        """Of all pairs, float32 (n,) in their order; ``kept`` is a file that has the first of them, or all."""
        logits = _read(kept)
        n = sum(len(group.labels) for group in groups)
        if len(logits) == n:
            return logits
        pairs = Pairs.of(groups, self._model.encode, self._recipe.query_tokens, self._recipe.product_tokens)
        texts = pairs.texts(pairs.everything())
        for begin in range(len(logits), n, _ASKED_AT_ONCE):
            _log.info("asking the teacher: %d of %d pairs are scored", begin, n)
            asked = texts[begin : begin + _ASKED_AT_ONCE]
            logits = np.concatenate([logits, self._model.score(asked, _beyond(begin, n, progress))])
            _write(kept, logits)
        return logits

    @cached_property
    def _model(self) -> CrossEncoder:
        return CrossEncoder.open(self._directory)


def _groups(pairs: Sequence[Pair]) -> Iterator[Group]:
    for query, asked in groupby(pairs, key=lambda pair: pair.query):
        products = tuple(pair.product for pair in asked)
        yield Group(query, query, products, (None,) * len(products), (0.0,) * len(products))


def _beyond(begin: int, n: int, progress: Done) -> Done:
    return lambda done, _: progress(begin + done, n)


def _read(kept: Path | None) -> Scores:
    if kept is None or not kept.exists():
        return np.empty(0, np.float32)
    with safe_open(kept, framework="np") as file:
        found: Scores = file.get_tensor("logits")
    return found


def _write(kept: Path | None, logits: Scores) -> None:
    """Replaces the file, at once; another run may be at it too."""
    if kept is None:
        return
    part = kept.with_suffix(f".{os.getpid()}.part")
    save_file({"logits": torch.from_numpy(logits)}, part)
    part.replace(kept)
