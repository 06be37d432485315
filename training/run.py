"""A run, of any task by any method: trains, keeps the best by dev, and can be killed any time.

The run folder holds ``config.toml``, ``metrics.jsonl``, ``curves.png``, ``checkpoint.safetensors``, ``best.json`` and
``best/``: model, tokenizer and ``training.json``, which ``aisle export`` reads, and ``adapter.safetensors`` where the
method trains one. What a task adds is said where it is defined.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch

from engine.config import available_cores
from engine.errors import ConfigError
from training.export import publishing, write_json
from training.loop import Loop, Moment, has_checkpoint
from training.report import BEST, RECIPE, Best, Evaluation, card, read_evaluations, write_evaluations
from training.settings import Progress, RunConfig
from training.tasks import Task

CONFIG = "config.toml"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to. ``result`` is what its task gave at the end: for ranking tasks nDCG@10 on test, or None."""

    directory: Path
    best: Best
    steps: int
    minutes: float
    result: Any = None


def train(
    config: RunConfig, run: Path, *, data: Path | None = None, test: bool = False, progress: Progress = lambda *_: None
) -> Outcome:
    """Trains, or goes on where the run in this folder was stopped; a run that is done is only looked at again.

    ``data`` is where prepared data lies or goes, by default inside the run. ``test`` has the best model judged on the
    queries held out for that. Raises ConfigError where the folder's run had other settings or input, CatalogError and
    ExamplesError on input that cannot be used, ModelError on a model that cannot be loaded or came out of no use.
    """
    claim(run, config)
    settle(config)
    return train_task(config.task(run, data or run / "data", test, progress), config, run, progress)


def settle(config: RunConfig) -> None:
    """Threads and the seed, before anything is drawn at random: a model's fresh head is."""
    torch.set_num_threads(config.training.threads or available_cores())
    torch.manual_seed(config.seed)


def train_task(task: Task[Any], config: RunConfig, run: Path, progress: Progress) -> Outcome:
    """As ``train``, with a task that is open. The folder is the run's already."""
    position = Loop(config.training, run, task, _Judge(config, run, task), progress).train()
    best = Best.read(run)
    return Outcome(run, best, position.step, position.seconds / 60, task.finish(run, best))


class _Judge:
    """Evaluates the model when the loop asks, writes down what came out, and keeps the model if it is the best."""

    def __init__(self, config: RunConfig, run: Path, task: Task[Any]) -> None:
        self._config, self._run, self._task = config, run, task

    def __call__(self, moment: Moment) -> float:
        quality = self._task.judge()
        found = Evaluation(
            moment.step, moment.epoch, moment.minutes, moment.loss, moment.learning_rate, moment.per_second,
            quality.dev, quality.score,
        )  # fmt: skip
        if quality.score > moment.best:
            about = card(self._config, self._task.notes(), found)
            recipe = msgspec.structs.replace(self._task.recipe(quality), card=about)
            with publishing(self._run / BEST, RECIPE, "model") as work:
                self._task.save(work, recipe)
                write_json(work / RECIPE, recipe)
            Best(found, quality).write(self._run)
        write_evaluations(self._run, [*read_evaluations(self._run, moment.n_before), found], self._task.score)
        _log.info("%s", found)
        return quality.score


def claim(run: Path, config: RunConfig) -> None:
    """Makes the folder this run's. Raises ConfigError where it is another's."""
    path = run / CONFIG
    if has_checkpoint(run):
        changed = type(config).read(path).differences(config)
        if changed:
            raise ConfigError(
                f"{run} holds a run with another {', '.join(changed)}. Name another --out, or delete it to start anew"
            )
        return
    if run.exists() and any(run.iterdir()) and not path.exists():
        raise ConfigError(f"{run} is there and is no run folder; name another --out")
    run.mkdir(parents=True, exist_ok=True)
    config.write(path)
