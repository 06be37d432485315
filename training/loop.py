"""The loop of every training run: steps, evaluations, checkpoints, early stopping.

A checkpoint is one safetensors file, replaced whole, from which the same steps follow as without a stop: batches are a
function of seed and epoch and the learning rate one of the step, and nothing else is drawn at random, so weights, the
optimizer's moments and the position are all there is to keep.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.nn.utils import clip_grad_norm_

from engine.errors import ConfigError, ModelError
from training.settings import LoopSettings, Progress
from training.tasks import Task

B = TypeVar("B")

_LEAST_RATE = 0.05  # of the highest learning rate, at the end
_MAX_NORM = 1.0  # of all gradients together
_FILE = "checkpoint.safetensors"
_WEIGHTS, _MOMENTS = "weights/", "optimizer/"
_log = logging.getLogger(__name__)


class Position(msgspec.Struct):
    """How far a run is. ``epoch`` and ``batch`` are the next ones; ``loss`` sums those of ``n_losses`` steps since the
    last evaluation, in which ``n_pairs`` were trained on in ``train_seconds``."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    seconds: float = 0.0
    loss: float = 0.0
    n_losses: int = 0
    n_pairs: int = 0
    train_seconds: float = 0.0
    best: float = -1.0
    best_step: int = 0
    since_best: int = 0
    n_evaluations: int = 0
    done: bool = False


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
        self._steps = settings.epochs * self._per_epoch
        if settings.max_steps:
            self._steps = min(self._steps, settings.max_steps)

    def train(self) -> Position:
        """From where the checkpoint is to the end, and where that was."""
        if has_checkpoint(self._run):
            self._position = load_checkpoint(self._run, self._model, self._optimizer)
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
            at.done = out_of_time or at.step == self._steps
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
        self._progress("training", at.step, self._steps, f"loss {at.loss / at.n_losses:.4f}")

    def _rate(self) -> float:
        """Up in a line, then down in a cosine to a twentieth: over all steps, or all minutes if those end first."""
        done = self._position.step / self._steps
        if self._settings.max_minutes:
            done = max(done, self._minutes() / self._settings.max_minutes)
        done = min(done + 1 / self._steps, 1.0)
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
        save_checkpoint(self._run, self._model, self._optimizer, self._position)
        self._kept = time.perf_counter()


# Checkpoints


def has_checkpoint(run: Path) -> bool:
    return (run / _FILE).exists()


def save_checkpoint(run: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, position: Position) -> None:
    """Replaces the run's checkpoint, at once."""
    names = _trained(model)
    tensors = {_WEIGHTS + name: parameter.detach() for name, parameter in names.items()}
    for name, parameter in names.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{_MOMENTS}{key}/{name}"] = value
    part = run / f"{_FILE}.part"
    tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    save_file(tensors, part, metadata={"position": msgspec.json.encode(position).decode()})
    os.replace(part, run / _FILE)


def load_checkpoint(run: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Position:
    """Puts the run's checkpoint into model and optimizer. Raises ModelError when it cannot be read or is another's."""
    path = run / _FILE
    try:
        with safe_open(path, framework="pt") as file:
            position = msgspec.json.decode(file.metadata()["position"], type=Position)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        _put(tensors, model, optimizer)
    except (OSError, SafetensorError, msgspec.MsgspecError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"{path} cannot be read ({error}). Delete {run} to start anew") from error
    return position


def _put(tensors: Mapping[str, torch.Tensor], model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    names = _trained(model)
    with torch.no_grad():
        for name, parameter in names.items():
            parameter.copy_(tensors[_WEIGHTS + name])
    state = {}
    for number, name in enumerate(names):
        found = {key.split("/")[1]: key for key in tensors if key.startswith(_MOMENTS) and key.endswith(f"/{name}")}
        state[number] = {key: tensors[full] for key, full in found.items()}
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _trained(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Parameters that take gradients, by name, in the order in which the optimizer has them."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def trained_parameters(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    return list(_trained(model).values())
