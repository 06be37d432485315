"""Tasks: each says what an example, a batch, a loss and a dev metric are. Which weights move is a method's affair
(``training.methods``), and all the rest a run's (``training.run``).

A new task is one file here, with a configuration whose ``task`` opens it, and a line in ``TASKS``.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol, TypeVar

import torch

from engine.errors import ConfigError
from training.report import Best, Notes, Quality, Recipe
from training.settings import RunConfig

#: The configuration of each task, by the name that ``aisle train`` has for it.
TASKS = {
    "reranker": "training.tasks.reranker:RerankerConfig",
    "one-pass": "training.tasks.one_pass:OnePassConfig",
    "listwise": "training.tasks.listwise:ListwiseConfig",
    "encoder": "training.tasks.encoder:EncoderConfig",
    "types": "training.tasks.types:TypesConfig",
    "rewriter": "training.tasks.rewriter:RewriterConfig",
}

B = TypeVar("B")


class Task(Protocol[B]):
    """What is learnt from what, opened for one run.

    ``module`` has the weights; those that take gradients are trained. ``score`` names the metric that ``judge`` gives.
    """

    @property
    def module(self) -> torch.nn.Module: ...

    @property
    def score(self) -> str: ...

    def batches(self, epoch: int) -> Sequence[B]:
        """As many in every epoch, the same whenever asked."""
        ...

    def loss(self, batch: B) -> tuple[torch.Tensor, int]:
        """Of a batch, and of how many examples it is."""
        ...

    def judge(self) -> Quality:
        """How good the model is now, on dev."""
        ...

    def recipe(self, quality: Quality) -> Recipe:
        """What goes with the model, but for the card, where it is as good as that."""
        ...

    def notes(self) -> Notes:
        """For the card."""
        ...

    def save(self, directory: Path, recipe: Recipe) -> None:
        """Writes the model with its tokenizer, and its adapter alone where the method has one, into ``directory``."""
        ...

    def finish(self, run: Path, best: Best) -> object:
        """What is still to be done when all steps are: a test, an export. Raises ModelError on a model of no use."""
        ...


def config_of(name: str) -> type[RunConfig]:
    """The configuration of the task of that name. Raises ConfigError naming the tasks."""
    if name not in TASKS:
        raise ConfigError(f"there is no task {name!r}; tasks are {', '.join(TASKS)}")
    module, attribute = TASKS[name].split(":")
    found: type[RunConfig] = getattr(import_module(module), attribute)
    return found
