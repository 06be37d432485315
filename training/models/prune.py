"""Structured pruning: attention heads and feed-forward neurons that matter least are taken out of every layer.

In training what goes is silenced: its column in the layer's output is 0 and stays so, and the model keeps its shape.
When a model is exported, silent heads and neurons are taken out, which changes no result.

How much one matters is what the loss would change without it, to the first order: the magnitude of its output times its
gradient (Michel et al. 2019, "Are Sixteen Heads Really Better than One?"; Molchanov et al. 2019).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.errors import ConfigError
from training.methods.modules import Bottleneck, in_full
from training.models import layers_of


def prune(model: Any, losses: Iterable[Tensor], heads: int, neurons: int) -> None:
    """Silences all but ``heads`` heads and ``neurons`` neurons of every layer; 0 keeps all.

    ``losses`` are of one batch each, and computed as they are asked for; ``model`` has no gradients after. Raises
    ConfigError where it has fewer, or is not built like BERT.
    """
    parts = list(_parts(model))
    for name, wanted, n in (("heads", heads, parts[0][1]), ("neurons", neurons, parts[1][1])):
        if wanted > n:
            raise ConfigError(f"model.{name} is {wanted}; the model's layers have {n}")
    with _watched([output for output, _ in parts]) as seen:
        importance = [torch.zeros(n) for _, n in parts]
        for loss in losses:
            loss.backward()  # type: ignore[no-untyped-call]
            for place, (output, n) in enumerate(parts):
                importance[place] += _importance(seen[output], n)
    model.zero_grad()
    for place, (output, n) in enumerate(parts):
        if kept := (heads, neurons)[place % 2]:
            _silence(output, importance[place].topk(n - kept, largest=False).indices, n)


def take_out_silent(model: Any) -> None:
    """Takes out heads and neurons whose columns in their layer's output are 0; in place, and the logits stay."""
    for layer in layers_of(model):
        attention = layer.attention.self
        before, after = _linear(layer.attention.output.dense), _linear(layer.output.dense)
        kept = _heard(before, attention.num_attention_heads)
        columns = _columns(kept, attention.attention_head_size)
        for name in ("query", "key", "value"):
            _keep_rows(getattr(attention, name), columns)
        _keep_columns(before, columns)
        attention.num_attention_heads, attention.all_head_size = len(kept), len(columns)
        if hasattr(attention, "prefix"):
            attention.prefix = torch.nn.ParameterList(part[kept] for part in attention.prefix).requires_grad_(False)
        neurons = _heard(after, after.in_features)
        _keep_rows(layer.intermediate.dense, neurons)
        _keep_columns(after, neurons)


def audible(model: Any) -> dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Of the layers' linear maps by path, which of the numbers that go in and come out are of heads and neurons that
    are not silent; nothing of a model that is not built like BERT.
    """
    found: dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
    paths = {id(module): path for path, module in model.named_modules()}
    for layer in layers_of(model):
        if not hasattr(layer, "intermediate"):
            return {}
        attention = layer.attention.self
        before, after = (_own(_linear(part.dense)) for part in (layer.attention.output, layer.output))
        inner = _columns(_heard(before, attention.num_attention_heads), attention.attention_head_size).numpy()
        neurons = _heard(after, after.in_features).numpy()
        width = np.arange(before.out_features)
        for name in ("query", "key", "value"):
            found[paths[id(getattr(attention, name))]] = width, inner
        found[paths[id(layer.attention.output.dense)]] = inner, width
        found[paths[id(layer.intermediate.dense)]] = width, neurons
        found[paths[id(layer.output.dense)]] = neurons, width
    return found


def keep_silent(layers: Iterable[Any]) -> None:
    """Has LoRA give nothing for what a pruned layer does not hear, now and as it is trained."""
    for layer in layers:
        weight = _own(layer).weight
        heard = (weight.detach().abs().sum(dim=0) > 0).to(weight.dtype)
        first = layer.lora_A["default"].weight
        first.data *= heard
        first.register_hook(partial(torch.mul, heard))


def _own(module: Any) -> torch.nn.Linear:
    """A linear layer in fp32, without the LoRA that it may have."""
    return in_full(module.get_base_layer() if hasattr(module, "get_base_layer") else module)


def _linear(module: Any) -> torch.nn.Linear:
    linear: torch.nn.Linear = module.inner if isinstance(module, Bottleneck) else module
    return linear


def _parts(model: Any) -> Iterator[tuple[torch.nn.Linear, int]]:
    """Of each layer, what the heads and what the neurons go through, and how many there are of them."""
    layers = layers_of(model)
    if not len(layers) or not hasattr(layers[0], "intermediate"):
        raise ConfigError("model.heads and neurons cannot be chosen of a model that is not built like BERT")
    for layer in layers:
        yield layer.attention.output.dense, layer.attention.self.num_attention_heads
        yield layer.output.dense, layer.output.dense.in_features


@contextmanager
def _watched(modules: list[torch.nn.Linear]) -> Iterator[dict[torch.nn.Linear, Tensor]]:
    """The last input of each module, with its gradient once there is one."""
    seen: dict[torch.nn.Linear, Tensor] = {}

    def see(module: torch.nn.Linear, inputs: tuple[Tensor, ...]) -> None:
        seen[module] = inputs[0]
        inputs[0].retain_grad()

    handles = [module.register_forward_pre_hook(see) for module in modules]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _importance(output: Tensor, n: int) -> Tensor:
    """Float32 (n,): a mean over pairs. ``output`` is of shape (pairs, tokens, n · size)."""
    assert output.grad is not None
    effect = (output.detach() * output.grad).float().sum(dim=1)
    return effect.reshape(len(effect), n, -1).sum(dim=2).abs().mean(dim=0).cpu()


def _silence(output: torch.nn.Linear, which: Tensor, n: int) -> None:
    columns = _columns(which, output.in_features // n).to(output.weight.device)
    heard = torch.ones(output.in_features, device=output.weight.device)
    heard[columns] = 0
    output.weight.data *= heard
    output.weight.register_hook(partial(torch.mul, heard))  # type: ignore[no-untyped-call]


def _heard(output: torch.nn.Linear, n: int) -> Tensor:
    """Of ``n`` heads or neurons those that have any weight in ``output``; one at least, for a layer needs one."""
    weight = output.weight.detach().abs().sum(dim=0).reshape(n, -1).sum(dim=1)
    kept = weight.nonzero()[:, 0]
    return kept if len(kept) else torch.zeros(1, dtype=torch.long)


def _columns(which: Tensor, size: int) -> Tensor:
    return (which[:, None] * size + torch.arange(size)).flatten()


def _keep_rows(linear: torch.nn.Linear, rows: Tensor) -> None:
    linear.weight = torch.nn.Parameter(linear.weight.detach()[rows])
    linear.bias = torch.nn.Parameter(linear.bias.detach()[rows])
    linear.out_features = len(rows)


def _keep_columns(linear: torch.nn.Linear, columns: Tensor) -> None:
    linear.weight = torch.nn.Parameter(linear.weight.detach()[:, columns])
    linear.in_features = len(columns)
