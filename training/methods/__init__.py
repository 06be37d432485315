"""Methods: which weights of a model move in training. Any task can be trained by any of them.

``METHODS`` has them by the name that a configuration's ``model.method`` gives. Whatever the method, a model's head,
which is all of it but the transformer, is trained too: it is new, or new to its task.
"""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.adapters import Matrix
from engine.errors import ConfigError, MissingExtraError
from training.export.adaptable import targets_of
from training.methods.modules import Bottleneck, Prompted, SolidPrefix, SolidPrompt, bitsandbytes, in_full
from training.methods.saved import fingerprint, load_into, read_recipe
from training.models.prune import audible, keep_silent
from training.settings import ModelSettings

_PEFT = "base_model.model."  # what peft puts before the names of a model that it wraps
_QUIET = 0.02  # standard deviation of a fresh prefix: keys and values near 0 change little at first


@dataclass(frozen=True, slots=True)
class Method:
    """``apply`` prepares a model: what takes gradients after is trained. Returns the model, which may be another.

    ``folds`` says that what is trained can be folded into the model's own weights, or is among them. ``describe`` is
    for people.
    """

    apply: Callable[[Any, ModelSettings, str], Any]
    folds: bool
    describe: Callable[[ModelSettings], str]


@dataclass(frozen=True, slots=True)
class Adapted:
    """A model prepared by a method. ``base`` is the fingerprint of the weights it had before, ``head`` its head's."""

    model: Any
    settings: ModelSettings
    base: str
    head: dict[str, torch.Tensor]

    @property
    def method(self) -> Method:
        return METHODS[self.settings.method]

    def plain(self) -> Any:
        """The model as transformers knows it: with what folds folded in, in a copy, and without what does not."""
        if self.settings.method in ("full", "bitfit"):
            return self.model
        copied = copy.deepcopy(self.model)
        return folded(copied) if self.method.folds else without_adapter(copied)

    def solid(self) -> Any:
        """A copy that computes the same without peft, in operations that can be traced and exported."""
        return solid(folded(copy.deepcopy(self.model)))

    def matrices(self) -> tuple[dict[str, tuple[Matrix, Matrix]], float]:
        """LoRA's matrices by layer, as adapters have them, and what the logit gains.

        The head of a cross-encoder, with one output, is such a pair of rank 1, its bias that number. Of a pruned model
        what goes into silent heads and neurons, or comes out of them, is left out, as it is when it is exported.
        """
        found, heard = lora_matrices(self.model), audible(self.model)
        for path, (rows, columns) in heard.items():
            if path in found:
                a, b = found[path]
                found[path] = a[rows], b[:, columns]
        now, shift = dict(self.model.named_parameters()), 0.0
        for name, began in self.head.items():
            change = (now[name] - began).detach().float().cpu().numpy()
            if change.ndim == 2:
                found[name.removesuffix(".weight")] = change.T.copy(), np.ones((1, 1), np.float32)
            else:
                shift += float(change.sum())
        return found, shift

    def tensors(self) -> dict[str, torch.Tensor]:
        """What the method trained, by the parameters' names."""
        named = self.model.named_parameters()
        return {name: parameter.detach() for name, parameter in named if parameter.requires_grad}


def adapt(model: Any, settings: ModelSettings, name: str) -> Adapted:
    """Prepares a model to be trained. Raises ConfigError where the method or a setting does not fit it."""
    base = fingerprint(model.state_dict())
    inside = {id(parameter) for parameter in model.base_model.parameters()}
    named = list(model.named_parameters())
    head = {path: parameter for path, parameter in named if id(parameter) not in inside}
    began = {path: parameter.detach().clone() for path, parameter in head.items()}
    adapted = METHODS[settings.method].apply(model, settings, name)
    for parameter in head.values():
        parameter.requires_grad_(True)
    return Adapted(adapted, settings, base, began)


def reopened(model: Any, directory: Path) -> Adapted:
    """A model loaded from what a run saved, with its adapter put back where that was not folded into its weights."""
    recipe = read_recipe(directory)
    settings = recipe.model if recipe else None
    if settings is None or METHODS[settings.method].folds:
        return Adapted(model, ModelSettings(), "", {})
    adapted = adapt(model, settings, directory.name)
    load_into(adapted.model, directory)
    return adapted


# Methods


def _full(model: Any, settings: ModelSettings, name: str) -> Any:
    if settings.freeze_embeddings:
        getattr(model.base_model, "embeddings", model.get_input_embeddings()).requires_grad_(False)
    return model


def _lora(model: Any, settings: ModelSettings, name: str) -> Any:
    """Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models"."""
    with _peft() as peft:
        base = model.base_model
        targets = list(targets_of(base, settings.targets))
        config = peft.LoraConfig(r=settings.rank, lora_alpha=2 * settings.rank, target_modules=targets)
        base.requires_grad_(False)
        peft.inject_adapter_in_model(config, base)
    keep_silent(_lora_layers(base).values())
    return model


def _qlora(model: Any, settings: ModelSettings, name: str) -> Any:
    """Dettmers et al. 2023, "QLoRA: Efficient Finetuning of Quantized LLMs": LoRA beside weights of 4 bits, nf4."""
    base = model.base_model
    for path, linear in _linears(base).items():
        base.set_submodule(path, _four_bits(linear))
    return _lora(model, settings, name)


def _prefix(model: Any, settings: ModelSettings, name: str) -> Any:
    """Li and Liang 2021, "Prefix-Tuning: Optimizing Continuous Prompts for Generation": keys and values per layer."""
    base = model.base_model
    if not {"past_key_values", "cache"} & set(inspect.signature(base.forward).parameters):
        raise ConfigError(
            f"model.method {settings.method} gives every layer keys and values to begin with, which {name} "
            f"({type(base).__name__}) does not take; use prompt, lora or bottleneck"
        )
    with _peft() as peft:
        config = peft.PrefixTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=settings.virtual_tokens)
        inner = peft.get_peft_model(base, config)
    torch.nn.init.normal_(inner.prompt_encoder["default"].embedding.weight, std=_QUIET)
    return _replaced(model, Prompted(inner, 0))


def _prompt(model: Any, settings: ModelSettings, name: str) -> Any:
    """Lester et al. 2021, "The Power of Scale for Parameter-Efficient Prompt Tuning": begins as words of the model."""
    base = model.base_model
    words = base.get_input_embeddings().weight.detach()
    with _peft() as peft:
        config = peft.PromptTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=settings.virtual_tokens)
        inner = peft.get_peft_model(base, config)
    drawn = torch.randint(len(words), (settings.virtual_tokens,))
    inner.prompt_encoder["default"].embedding.weight.data.copy_(words[drawn])
    return _replaced(model, Prompted(inner, settings.virtual_tokens))


def _bottleneck(model: Any, settings: ModelSettings, name: str) -> Any:
    base = model.base_model
    base.requires_grad_(False)
    for path in _outputs(base, name):
        base.set_submodule(path, Bottleneck(base.get_submodule(path), settings.bottleneck))
    return model


def _bitfit(model: Any, settings: ModelSettings, name: str) -> Any:
    """Ben Zaken et al. 2022, "BitFit": the biases of the layers' linear maps, and no other weight."""
    base = model.base_model
    base.requires_grad_(False)
    biases = [m.bias for path, m in _linears(base).items() if path.startswith("encoder.") and m.bias is not None]
    if not biases:
        raise ConfigError(f"model.method bitfit trains biases, and the layers of {name} have none; use lora")
    for bias in biases:
        bias.requires_grad_(True)
    return model


def _lora_and_prefix(model: Any, settings: ModelSettings, name: str) -> Any:
    matrices = [p for path, p in _lora(model, settings, name).named_parameters() if ".lora_" in path]
    model = _prefix(model, settings, name)
    for parameter in matrices:  # which peft froze with the rest when it put the prefix before
        parameter.requires_grad_(True)
    return model


METHODS: dict[str, Method] = {
    "full": Method(
        _full, True, lambda s: f"full fine-tuning{', embeddings frozen' if s.freeze_embeddings else ''}"
    ),
    "lora": Method(_lora, True, lambda s: f"LoRA of rank {s.rank} on {s.targets} layers"),
    "qlora": Method(_qlora, True, lambda s: f"QLoRA of rank {s.rank} on {s.targets} layers, the base in 4 bits (nf4)"),
    "prefix": Method(_prefix, False, lambda s: f"prefix tuning, {s.virtual_tokens} virtual tokens a layer"),
    "prompt": Method(_prompt, False, lambda s: f"prompt tuning, {s.virtual_tokens} virtual tokens"),
    "bottleneck": Method(_bottleneck, False, lambda s: f"bottleneck adapters of width {s.bottleneck}"),
    "bitfit": Method(_bitfit, True, lambda s: "BitFit: biases alone"),
    "lora+prefix": Method(
        _lora_and_prefix, False, lambda s: f"LoRA of rank {s.rank} and a prefix of {s.virtual_tokens} virtual tokens"
    ),
}  # fmt: skip


# Taking models apart


def folded(model: Any) -> Any:
    """The model with LoRA's products added to the weights they stand beside; in place."""
    for path, layer in _lora_layers(model).items():
        linear = layer.get_base_layer()
        delta = layer.get_delta_weight("default")
        linear = in_full(linear)
        linear.weight.data += delta.to(linear.weight.dtype)
        model.set_submodule(path, linear)
    return model


def without_adapter(model: Any) -> Any:
    """The model as it was before a method put something into it; in place."""
    found = _prompted(model)
    model = _replaced(model, found.inner.get_base_model()) if found else model
    for path, module in list(model.named_modules()):
        if isinstance(module, Bottleneck):
            model.set_submodule(path, module.inner)
    for path, layer in _lora_layers(model).items():
        model.set_submodule(path, layer.get_base_layer())
    return model


def solid(model: Any) -> Any:
    """The model with peft's prefix or prompt as a module of its own; in place."""
    found = _prompted(model)
    if found is None:
        return model
    weight = found.inner.prompt_encoder["default"].embedding.weight.detach()
    base = found.inner.get_base_model()
    if found.n_tokens:
        return _replaced(model, SolidPrompt(base, weight))
    config = base.config
    size = config.hidden_size // config.num_attention_heads
    shape = (len(weight), config.num_hidden_layers * 2, config.num_attention_heads, size)
    keys_and_values = weight.view(shape).permute(1, 2, 0, 3)
    return _replaced(model, SolidPrefix(base, keys_and_values[0::2], keys_and_values[1::2]))


def lora_matrices(model: Any) -> dict[str, tuple[Matrix, Matrix]]:
    """Of every layer with LoRA by its path: A, float32 (in, rank), and B, (rank, out), with LoRA's scale in B.

    Raises ConfigError on DoRA, and where there is no LoRA.
    """
    found = {}
    for path, layer in _lora_layers(model).items():
        if getattr(layer, "use_dora", {}).get("default"):
            raise ConfigError(f"{path} has a DoRA, which is more than two matrices; fold it into the model instead")
        first, second = layer.lora_A["default"].weight, layer.lora_B["default"].weight * layer.scaling["default"]
        a, b = (weight.detach().float().cpu().numpy().T.copy() for weight in (first, second))
        found[path.removeprefix(_PEFT)] = (a, b)
    if not found:
        raise ConfigError("the model has no LoRA on any layer; adapt it first")
    return found


def _lora_layers(model: Any) -> dict[str, Any]:
    return {path: m for path, m in model.named_modules() if hasattr(m, "lora_A") and hasattr(m, "get_delta_weight")}


def _prompted(model: Any) -> Prompted | None:
    return next((module for module in model.modules() if isinstance(module, Prompted)), None)


def _replaced(model: Any, base: Any) -> Any:
    """The model with another transformer, which is all there is where it has no head."""
    prefix = getattr(model, "base_model_prefix", "")
    if isinstance(model, Prompted) or not hasattr(model, prefix):
        return base
    setattr(model, prefix, base)
    return model


def _linears(base: Any) -> dict[str, torch.nn.Linear]:
    return {path: m for path, m in base.named_modules() if isinstance(m, torch.nn.Linear)}


def _outputs(base: Any, name: str) -> list[str]:
    """Where a layer's attention and its feed-forward part end, as BERT has them."""
    found = [path for path in _linears(base) if path.endswith((".attention.output.dense", ".output.dense"))]
    if not found:
        raise ConfigError(
            f"model.method bottleneck puts adapters where BERT's layers have their outputs, and {name} "
            f"({type(base).__name__}) is built otherwise; use lora"
        )
    return found


def _four_bits(linear: torch.nn.Linear) -> Any:
    library = bitsandbytes()
    out = library.nn.Linear4bit(
        linear.in_features, linear.out_features, bias=linear.bias is not None, quant_type="nf4"
    )  # fmt: skip
    out.weight = library.nn.Params4bit(linear.weight.detach(), requires_grad=False, quant_type="nf4")
    out.bias = linear.bias
    out.support_avx512bf16_for_cpu = False  # it would pack weights for inference, from which no gradient comes back
    out.register_forward_pre_hook(_in_autocast)
    return out.to(linear.weight.device)  # which quantises


def _in_autocast(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Lets 4-bit layers take part in autocast: their outputs, kept for the backward pass, then have 16 bits too."""
    kind = inputs[0].device.type
    return (inputs[0].to(torch.get_autocast_dtype(kind)),) if torch.is_autocast_enabled(kind) else inputs


@contextmanager
def _peft() -> Iterator[Any]:
    try:
        import peft
    except ImportError as error:
        raise MissingExtraError("train", "peft") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers for a property by its older name
        warnings.filterwarnings("ignore", "You are trying to modify a model with PEFT for a second time")
        yield peft
