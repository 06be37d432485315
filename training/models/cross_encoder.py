"""A cross-encoder in torch: a transformers encoder that reads a query and a product together and gives one logit.

What it reads is what ``ranking.cross_encoder`` serves: ``[CLS] query [SEP] product [SEP]``, all of token type 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import AutoModelForSequenceClassification
from transformers.activations import ACT2FN

from engine.errors import ConfigError
from training.methods import Adapted, adapt, reopened
from training.metrics import Scores
from training.models import (
    BaseModel,
    Ids,
    Reader,
    find_base,
    keep_layers,
    layers_of,
    load_transformer,
    local_base,
    padded,
    quietly,
    require_room,
)
from training.settings import ModelSettings

_MULTIPLE = 16
_SCORED_AT_ONCE = 64


class CrossEncoder(Reader):
    """Query and product in, a logit out. ``adapted`` is the module with what its method made of it."""

    def __init__(self, base: BaseModel, adapted: Adapted, tokenizer: Any, bf16: str = "auto") -> None:
        super().__init__(base, adapted.model, tokenizer, bf16)
        self.adapted = adapted
        _head_in_fp32(self.module)
        self._special = [tokenizer.cls_token_id, tokenizer.sep_token_id]

    @classmethod
    def load(
        cls, settings: ModelSettings, product_tokens: int, *, activation: str = "", bf16: str = "auto"
    ) -> CrossEncoder:
        """The base model with a fresh head, or with the one it has; only what is to be trained takes gradients.

        Raises ModelError when it cannot be loaded, ConfigError when ``settings`` do not fit it.
        """
        base = find_base(settings.base)
        model, tokenizer = _load(base)
        require_room(
            settings.query_tokens + product_tokens + 3, settings, model, base.name,
            f"model.query_tokens {settings.query_tokens} and product_tokens {product_tokens} with 3 special tokens",
        )  # fmt: skip
        if activation:
            _activate(model, activation, base.name)
        keep_layers(model, settings.layers, base.name)
        return cls(base, adapt(model, settings, base.name), tokenizer, bf16)

    @classmethod
    def open(cls, directory: Path, bf16: str = "auto") -> CrossEncoder:
        """One that ``save`` wrote. Raises ModelError."""
        base = local_base(directory)
        model, tokenizer = _load(base)
        return cls(base, reopened(model, directory), tokenizer, bf16)

    def save(self, directory: Path) -> None:
        """Writes model and tokenizer as transformers does; what has no place there is for the adapter beside it."""
        with quietly():
            self.adapted.plain().save_pretrained(directory)
        self.tokenizer.save_pretrained(directory)

    def logits(self, pairs: Sequence[tuple[Ids, Ids]]) -> torch.Tensor:
        """float32 (n,), for (query, product) ids."""
        ids, mask = self._inputs(pairs)
        with self.autocast():
            logits: torch.Tensor = self.module(input_ids=ids, attention_mask=mask).logits
        return logits[: len(pairs), 0].float()

    @torch.inference_mode()
    def score(self, pairs: Sequence[tuple[Ids, Ids]], progress: Callable[[int, int], None] = lambda *_: None) -> Scores:
        """Logits, float32 (n,). Pairs of like length are scored together."""
        order = np.argsort([len(query) + len(product) for query, product in pairs], kind="stable")
        out = np.empty(len(pairs), np.float32)
        for begin in range(0, len(order), _SCORED_AT_ONCE):
            places = order[begin : begin + _SCORED_AT_ONCE]
            out[places] = self.logits([pairs[place] for place in places]).cpu().numpy()
            progress(min(begin + _SCORED_AT_ONCE, len(order)), len(order))
        return out

    def _inputs(self, pairs: Sequence[tuple[Ids, Ids]]) -> tuple[torch.Tensor, torch.Tensor]:
        first, separator = self._special
        return padded(
            [[first, *query.tolist(), separator, *product.tolist(), separator] for query, product in pairs],
            _MULTIPLE, self.device,
        )  # fmt: skip


def _load(base: BaseModel) -> tuple[Any, Any]:
    return load_transformer(base, AutoModelForSequenceClassification, num_labels=1)


def _activate(model: Any, activation: str, name: str) -> None:
    layers = layers_of(model)
    if not layers or not hasattr(getattr(layers[0], "intermediate", None), "intermediate_act_fn"):
        raise ConfigError(f"model.activation cannot be chosen of {name}, whose layers are not built like BERT's")
    for layer in layers:
        layer.intermediate.intermediate_act_fn = ACT2FN[activation]
    model.config.hidden_act = activation


def _head_in_fp32(model: torch.nn.Module) -> None:
    """Has the last layer multiply in fp32: logits of eight bits would tie, and a ranking is made of them."""
    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and module.out_features == 1:
            module.forward = partial(_in_fp32, module)  # type: ignore[method-assign]


def _in_fp32(head: torch.nn.Linear, hidden: torch.Tensor) -> torch.Tensor:
    with torch.autocast(hidden.device.type, enabled=False):
        return functional.linear(hidden.float(), head.weight, head.bias)
