"""The loop of every training run: steps, evaluations, checkpoints, early stopping."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch.nn.utils import clip_grad_norm_

from engine.errors import ConfigError
from training import checkpoint
from training.checkpoint import Position, trained_parameters
from training.settings import LoopSettings, Progress
from training.tasks import Task

B = TypeVar("B")

_LEAST_RATE = 0.05  # of the highest learning rate, at the end
_MAX_NORM = 1.0  # of all gradients together
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Moment:
    """Where a run stands when it is evaluated. ``loss`` and ``per_second``, of examples, are since the evaluation
    before, of which there were ``n_before``; ``best`` is what the best of them gave, -1 where there was none.
    """

    step: int
    epoch: float
    minutes: float
    loss: float
    learning_rate: float
    per_second: float
    n_before: int
    best: float


class Loop(Generic[B]):
    """Trains what takes gradients in the task's module; its checkpoints are in ``run``.

    ``evaluate`` gives how good the model is now, 0 or more. One better than the moment's ``best`` is to be kept.
    """

    def __init__(
        self, settings: LoopSettings, run: Path, task: Task[B], evaluate: Callable[[Moment], float], progress: Progress
    ) -> None:
        self._settings, self._run, self._task, self._progress = settings, run, task, progress
        self._model, self._judge = task.module, evaluate
        self._parameters = trained_parameters(self._model)
        self._optimizer = torch.optim.AdamW(
            self._parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        self._position = Position()
        self._per_epoch = len(task.batches(0))

    def train(self) -> Position:
        """From where the checkpoint is to the end, and where that was."""
        if checkpoint.exists(self._run):
            self._position = checkpoint.load(self._run, self._model, self._optimizer)
            _log.info("going on at step %d of the run in %s", self._position.step, self._run)
        self._began = time.perf_counter() - self._position.seconds
        self._kept = time.perf_counter()
        while not self._position.done:
            self._epoch()
        return self._position

    def _epoch(self) -> None:
        at = self._position
        batches = self._task.batches(at.epoch)
        for batch in batches[at.batch :]:
            self._step(batch)
            at.batch += 1
            out_of_time = 0 < self._settings.max_minutes <= self._minutes()
            if at.batch == len(batches):
                at.epoch, at.batch = at.epoch + 1, 0
            at.done = out_of_time or at.epoch == self._settings.epochs
            every = self._settings.evaluate_every
            if at.done or (at.step % every == 0 if every else at.batch == 0):
                self._evaluate()
            elif time.perf_counter() - self._kept > 60 * self._settings.checkpoint_minutes:
                self._keep()
            if at.done:
                return

    def _step(self, batch: B) -> None:
        began, at = time.perf_counter(), self._position
        rate = self._rate()
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        loss, n = self._task.loss(batch)
        if not torch.isfinite(loss):
            raise ConfigError(
                f"the loss is {loss.item()} at step {at.step + 1}; lower training.learning_rate, which is "
                f"{self._settings.learning_rate}, and start a new run"
            )
        loss.backward()  # type: ignore[no-untyped-call]
        clip_grad_norm_(self._parameters, _MAX_NORM)
        self._optimizer.step()
        self._optimizer.zero_grad()
        at.step, at.n_losses, at.n_pairs = at.step + 1, at.n_losses + 1, at.n_pairs + n
        at.loss += loss.item()
        at.train_seconds += time.perf_counter() - began
        total = self._settings.epochs * self._per_epoch
        self._progress("training", at.step, max(total, at.step), f"loss {at.loss / at.n_losses:.4f}")

    def _rate(self) -> float:
        """Up in a line, then down in a cosine to a twentieth: over all steps, or all minutes if those end first."""
        done = self._position.step / (self._settings.epochs * self._per_epoch)
        if self._settings.max_minutes:
            done = max(done, self._minutes() / self._settings.max_minutes)
        done = min(done + 1 / (self._settings.epochs * self._per_epoch), 1.0)
        if done < self._settings.warmup:
            return self._settings.learning_rate * done / self._settings.warmup
        fall = (1 + math.cos(math.pi * (done - self._settings.warmup) / (1 - self._settings.warmup))) / 2
        return self._settings.learning_rate * (_LEAST_RATE + (1 - _LEAST_RATE) * fall)

    def _minutes(self) -> float:
        return (time.perf_counter() - self._began) / 60

    def _evaluate(self) -> None:
        at = self._position
        moment = Moment(
            at.step, at.step / self._per_epoch, self._minutes(), at.loss / max(at.n_losses, 1),
            float(self._optimizer.param_groups[0]["lr"]), at.n_pairs / max(at.train_seconds, 1e-9),
            at.n_evaluations, at.best,
        )  # fmt: skip
        found = self._judge(moment)
        at.n_evaluations += 1
        at.loss, at.train_seconds, at.n_losses, at.n_pairs = 0.0, 0.0, 0, 0
        at.since_best += 1
        if found > at.best:
            at.best, at.best_step, at.since_best = found, at.step, 0
        at.done |= 0 < self._settings.patience <= at.since_best
        self._keep()

    def _keep(self) -> None:
        self._position.seconds = time.perf_counter() - self._began
        checkpoint.save(self._run, self._model, self._optimizer, self._position)
        self._kept = time.perf_counter()
