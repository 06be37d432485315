"""Labels that are a teacher's, wholly or in part: another cross-encoder's probabilities.

It is asked once, some thousand pairs at a time. Its answers are kept beside the data as they come, so that a kill loses
little and every run on the same data finds them.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from engine.errors import ConfigError
from training.config import TeacherSettings
from training.cross_encoder import CrossEncoder
from training.export import RECIPE, Recipe
from training.metrics import Scores
from training.pairs import Pairs
from training.sources import Group, Progress

_WEIGHTS = "model.safetensors"
_ASKED_AT_ONCE = 4096  # pairs
_log = logging.getLogger(__name__)


def taught(pairs: Pairs, groups: Sequence[Group], settings: TeacherSettings, data: Path, progress: Progress) -> Pairs:
    """The pairs with labels mixed as ``settings`` say; those that nobody judged get the teacher's alone.

    ``groups`` are the same pairs as text, which ``data`` holds.

    Raises ConfigError where the teacher's directory is not the ``best`` of a run.
    """
    directory = Path(settings.path)
    try:
        card = (directory / RECIPE).read_bytes()
        recipe = msgspec.json.decode(card, type=Recipe)
        weights = (directory / _WEIGHTS).read_bytes()
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(
            f"teacher.path {directory} has no usable {RECIPE} and {_WEIGHTS} ({error}); name the best directory of a "
            "run"
        ) from error
    made_of = hashlib.sha256(weights + card + (data / "data.json").read_bytes()).hexdigest()
    logits = _logits(directory, recipe, groups, data / f"teacher-{made_of[:16]}.safetensors", progress)
    given = 0.5 + 0.5 * np.tanh((recipe.scale * logits + recipe.offset) / settings.temperature / 2)
    judged = np.array([label is not None for group in groups for label in group.labels])
    share = np.where(judged, settings.weight, 1.0)
    mixed = (share * given + (1 - share) * pairs.all_labels).astype(np.float32)
    return replace(pairs, labels=np.split(mixed, np.cumsum([len(labels) for labels in pairs.labels])[:-1]))


def _logits(directory: Path, recipe: Recipe, groups: Sequence[Group], kept: Path, progress: Progress) -> Scores:
    """Of all pairs, in their order; ``kept`` has the first of them, or all."""
    logits = _read(kept)
    n = sum(len(group.labels) for group in groups)
    if len(logits) == n:
        return logits
    teacher = CrossEncoder.open(directory)
    pairs = Pairs.of(groups, teacher.encode, recipe.query_tokens, recipe.product_tokens)
    texts = pairs.texts(pairs.everything())
    for begin in range(len(logits), n, _ASKED_AT_ONCE):
        _log.info("asking the teacher: %d of %d pairs are scored", begin, n)
        asked = texts[begin : begin + _ASKED_AT_ONCE]
        logits = np.concatenate([logits, teacher.score(asked, _beyond(begin, n, progress))])
        _write(kept, logits)
    return logits


def _beyond(begin: int, n: int, progress: Progress) -> Callable[[int, int], None]:
    return lambda done, _: progress("asking the teacher", begin + done, n)


def _read(kept: Path) -> Scores:
    if not kept.exists():
        return np.empty(0, np.float32)
    with safe_open(kept, framework="np") as file:
        found: Scores = file.get_tensor("logits")
    return found


def _write(kept: Path, logits: Scores) -> None:
    """Replaces the file, at once; another run may be at it too."""
    part = kept.with_suffix(f".{os.getpid()}.part")
    save_file({"logits": torch.from_numpy(logits)}, part)
    part.replace(kept)
