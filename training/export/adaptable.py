"""Graphs whose LoRA matrices are inputs: one model then serves any number of adapters, each chosen per call.

A target is a linear layer; with an adapter it gives ``linear(x) + (x @ A) @ B``, LoRA's scaling being part of B (Hu et
al. 2021, arXiv 2106.09685). The branch reads the layer's input as it is, before any smoothing, and stays fp32 when
``training.export.quantize`` makes 8 bits of the graph, for its matrices are no constants.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import torch

from engine.adapters import ADAPTABLE, MATRICES, Adapter, AdapterBase, AdapterCard
from engine.errors import ConfigError
from training.export import INPUTS, trace
from training.export.quantize import Feeds
from training.settings import Targets

Shapes = dict[str, tuple[int, int]]

#: Which linear layers take matrices. Each costs time in every call that has an adapter: see docs/adapters.md.
_PARTS: dict[Targets, re.Pattern[str]] = {
    "all": re.compile(""),
    "attention": re.compile(r"\.attention\.|^pooler|\.pooler\.|classifier"),
    "query+value": re.compile(r"\.(query|value)$|^pooler|\.pooler\.|classifier"),
}
# A layer of which only the first token is computed is wrapped; its linears keep the names that training knows.
_WRAPPED = re.compile(r"(\.layer\.\d+)\.layer\b")


def targets_of(model: torch.nn.Module, targets: Targets = "query+value") -> dict[str, torch.nn.Linear]:
    """Linear layers of a transformer, by the names that ``named_modules`` gives them where it is trained.

    A head (pooler, classifier) is among them whatever the choice: it reads one token and costs nothing.
    Raises ConfigError on another choice, and where the model has none.
    """
    if targets not in get_args(Targets):
        raise ConfigError(f"targets is {targets!r}; it must be one of {', '.join(get_args(Targets))}")
    found = {
        _WRAPPED.sub(r"\1", name): module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and _PARTS[targets].search(name)
    }
    if not found:
        raise ConfigError(f"{type(model).__name__} has no linear layers that {targets!r} names; adapters need some")
    return found


def shapes_of(targets: Mapping[str, torch.nn.Linear]) -> Shapes:
    """Per target, how many numbers go in and come out."""
    return {name: (linear.in_features, linear.out_features) for name, linear in targets.items()}


def write_adaptable(
    model: torch.nn.Module, targets: Mapping[str, torch.nn.Linear], ids: torch.Tensor, output: str, work: Path,
    name: str,
) -> Shapes:  # fmt: skip
    """Traces ``model`` (ids and mask in, ``output`` out) to fp32 ``adaptable.onnx`` with matrices as further inputs.

    ``targets`` are linear layers of ``model``, which stays as it is. ``ids``, int64 (n, tokens), are an example.
    Returns the shapes of the targets that have a say in ``output``, for the card. Raises ModelError naming ``name``.
    """
    shapes = shapes_of(targets)
    matrices = [f"{target}.{matrix}" for target in shapes for matrix in MATRICES]
    axes = {**{n: {0: "batch", 1: "tokens"} for n in INPUTS}, output: {0: "batch"}}
    # Every target has a rank of its own: onnxruntime takes what has one name to have one size.
    axes |= {f"{target}.A": {1: f"rank_{place}"} for place, target in enumerate(shapes)}
    axes |= {f"{target}.B": {0: f"rank_{place}"} for place, target in enumerate(shapes)}
    names = [*INPUTS, *matrices]
    zeros = (matrix for n_in, n_out in shapes.values() for matrix in (torch.zeros(n_in, 1), torch.zeros(1, n_out)))
    example = (ids, torch.ones_like(ids), *zeros)
    trace(_Adaptable(model, targets), example, work / ADAPTABLE, names, output, axes, f"{name} with adapters")
    left = _drop_unused_inputs(work / ADAPTABLE)
    return {target: shape for target, shape in shapes.items() if f"{target}.A" in left}


def quantise_adaptable(
    work: Path, base: AdapterBase, quantise: Callable[[Path, Path, Sequence[Feeds]], None],
    calibration: Sequence[Feeds], adapters: Sequence[Adapter] = (),
) -> None:  # fmt: skip
    """Makes 8 bits of ``adaptable.onnx`` as ``quantise`` makes them of ``model.onnx``, on the same ``calibration``.

    Static scales are those of the model without an adapter, and shared by all that come: one that changes layers by
    much more than a tenth then goes beyond them, and is clipped. Of ``adapters`` that are at hand the scales take
    account. Raises AdapterError where one is not for ``base``.
    """
    nothing = AdapterCard(name="nothing", kind="reranker", method="lora", base=base.base)
    name, (n_in, n_out) = next(iter(base.targets.items()))
    plain = Adapter(nothing, {name: (np.zeros((n_in, 1), np.float32), np.zeros((1, n_out), np.float32))})
    matrices = [adapter.inputs(base, str(work)) for adapter in (plain, *adapters)]
    smaller = work / f"{ADAPTABLE}.8"
    quantise(work / ADAPTABLE, smaller, [{**feeds, **inputs} for inputs in matrices for feeds in calibration])
    smaller.replace(work / ADAPTABLE)


def _drop_unused_inputs(graph: Path) -> set[str]:
    """Takes out matrices that nothing reads: a pooler may be there, and nobody asks it. Returns all inputs left."""
    model = onnx.load(str(graph))
    read = {name for node in model.graph.node for name in node.input}
    for value in [value for value in model.graph.input if value.name not in read]:
        model.graph.input.remove(value)
    onnx.save(model, str(graph))
    return {value.name for value in model.graph.input}


class _Adaptable(torch.nn.Module):
    """A copy of ``model`` whose targets take A and B from further arguments, pair by pair in the targets' order."""

    def __init__(self, model: torch.nn.Module, targets: Mapping[str, torch.nn.Linear]) -> None:
        super().__init__()
        path_of = {id(module): path for path, module in model.named_modules()}
        self.model = copy.deepcopy(model)
        self.adapted: list[_AdaptedLinear] = []
        for linear in targets.values():
            adapted = _AdaptedLinear(self.model.get_submodule(path_of[id(linear)]))
            self.model.set_submodule(path_of[id(linear)], adapted)
            self.adapted.append(adapted)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, *matrices: torch.Tensor
    ) -> torch.Tensor:  # fmt: skip
        for place, linear in enumerate(self.adapted):
            linear.matrices = matrices[2 * place], matrices[2 * place + 1]
        result: torch.Tensor = self.model(input_ids, attention_mask)
        return result


class _AdaptedLinear(torch.nn.Module):
    matrices: tuple[torch.Tensor, torch.Tensor]

    def __init__(self, linear: torch.nn.Module) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = self.matrices
        result: torch.Tensor = self.linear(x) + (x @ first) @ second
        return result
