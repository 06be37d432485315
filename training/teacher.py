"""Labels that are part a teacher's: another cross-encoder's probabilities, asked for once and kept beside the data."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
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


def taught(pairs: Pairs, groups: Sequence[Group], settings: TeacherSettings, data: Path, progress: Progress) -> Pairs:
    """The pairs with labels mixed as ``settings`` say. ``groups`` are the same pairs as text, which ``data`` holds.

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
    of_group = np.split(given, np.cumsum([len(labels) for labels in pairs.labels])[:-1])
    mixed = [
        (settings.weight * teacher + (1 - settings.weight) * own).astype(np.float32)
        for teacher, own in zip(of_group, pairs.labels, strict=True)
    ]
    return replace(pairs, labels=mixed)


def _logits(directory: Path, recipe: Recipe, groups: Sequence[Group], kept: Path, progress: Progress) -> Scores:
    """Of all pairs, in their order."""
    if kept.exists():
        with safe_open(kept, framework="np") as file:
            found: Scores = file.get_tensor("logits")
        return found
    teacher = CrossEncoder.open(directory)
    pairs = Pairs.of(groups, teacher.encode, recipe.query_tokens, recipe.product_tokens)
    logits = teacher.score(
        pairs.texts(pairs.everything()), lambda done, total: progress("asking the teacher", done, total)
    )
    part = kept.with_suffix(".part")
    save_file({"logits": torch.from_numpy(logits)}, part)
    part.replace(kept)
    return logits
