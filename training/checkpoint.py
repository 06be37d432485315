"""Where a run stands: one safetensors file, replaced whole, from which the same steps follow as without a stop.

Batches are a function of seed and epoch and the learning rate one of the step, and nothing else is drawn at random, so
weights, the optimizer's moments and the position are all there is to keep.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from engine.errors import ModelError

E = TypeVar("E", bound=msgspec.Struct)

_FILE = "checkpoint.safetensors"
_METRICS = "metrics.jsonl"
_WEIGHTS, _MOMENTS = "weights/", "optimizer/"


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


class Evaluation(msgspec.Struct, frozen=True):
    """A line of ``metrics.jsonl``: nDCG@10 by dev set, and ``rmse`` on the scale of those that have a rating."""

    step: int
    epoch: float
    minutes: float
    loss: float
    learning_rate: float
    pairs_per_second: float
    ndcg: dict[str, float]
    mean: float
    rmse: dict[str, float] = {}


def exists(run: Path) -> bool:
    return (run / _FILE).exists()


def save(run: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, position: Position) -> None:
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


def load(run: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Position:
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


def read_evaluations(run: Path, kind: type[E], n: int | None = None) -> list[E]:
    """The first ``n`` lines of the run's metrics, all when None."""
    path = run / _METRICS
    lines = path.read_bytes().splitlines()[:n] if path.exists() else []
    return [msgspec.json.decode(line, type=kind) for line in lines]


def write_evaluations(run: Path, evaluations: Sequence[msgspec.Struct]) -> None:
    """Replaces the run's metrics."""
    part = run / f"{_METRICS}.part"
    part.write_bytes(b"".join(msgspec.json.encode(evaluation) + b"\n" for evaluation in evaluations))
    os.replace(part, run / _METRICS)
