"""Where a run stands: one safetensors file, replaced whole, from which the same steps follow as without a stop.

Batches are a function of seed and epoch and the learning rate one of the step, and nothing else is drawn at random, so
weights, the optimizer's moments and the position are all there is to keep.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from engine.errors import ModelError

_FILE = "checkpoint.safetensors"
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
