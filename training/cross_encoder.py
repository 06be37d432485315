"""A cross-encoder in torch: a transformers encoder that reads a query and a product together and gives one logit.

What it reads is what ``ranking.cross_encoder`` serves: ``[CLS] query [SEP] product [SEP]``, all of token type 0.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch.nn import functional
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
from transformers.activations import ACT2FN
from transformers.utils import logging as transformers_logging

from engine.errors import ConfigError, MissingExtraError, ModelError
from engine.model_files import MAX_CHARACTERS
from training.base_models import BaseModel, find_base
from training.config import ModelSettings
from training.metrics import Scores
from training.onnx_files import first_line, without_progress_bars
from training.pairs import Ids
from training.prune import layers_of
from training.settings import EncoderSettings

# oneDNN compiles a kernel per shape and keeps it; with sizes rounded up there are few.
_MULTIPLE = 16
_SCORED_AT_ONCE = 64


class CrossEncoder:
    """A model with its tokenizer, on the GPU where there is one.

    Dropout stays off in training too: runs are of few epochs, and drawing its masks takes CPUs a good part of the time.
    """

    def __init__(self, base: BaseModel, model: Any, tokenizer: Any, bf16: str = "auto") -> None:
        self.base, self.model, self.tokenizer = base, model.eval(), tokenizer
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model.to(self.device)
        _head_in_fp32(self.model)
        self.bf16 = has_bf16(self.device) if bf16 == "auto" else bf16 == "on"
        self._special = [tokenizer.cls_token_id, tokenizer.sep_token_id]
        if None in self._special:
            raise ModelError(f"{base.name} has a tokenizer without [CLS] or [SEP], between which a pair is read")

    @classmethod
    def load(cls, settings: ModelSettings, bf16: str = "auto") -> CrossEncoder:
        """The base model with a fresh head, or with the one it has; only what is to be trained takes gradients.

        Raises ModelError when it cannot be loaded, ConfigError when ``settings`` do not fit it.
        """
        base = find_base(settings.base)
        model, tokenizer = _load_pair_reader(base)
        room = model.config.max_position_embeddings
        if settings.query_tokens + settings.product_tokens + 3 > room:
            raise ConfigError(
                f"model.query_tokens {settings.query_tokens} and product_tokens {settings.product_tokens} with 3 "
                f"special tokens are more than the {room} that {base.name} reads; lower them"
            )
        if settings.activation:
            _activate(model, settings.activation, base.name)
        return cls(base, adapted(model, settings, base.name, "SEQ_CLS"), tokenizer, bf16)

    @classmethod
    def open(cls, directory: Path, bf16: str = "auto") -> CrossEncoder:
        """One that ``save`` wrote. Raises ModelError."""
        base = BaseModel(str(directory), directory.name, f"the local model {directory.name}")
        return cls(base, *_load_pair_reader(base), bf16)

    def save(self, directory: Path) -> None:
        """Writes model and tokenizer as transformers does; LoRA's matrices are merged into a copy first."""
        with quietly():
            merged(self.model).save_pretrained(directory)
        self.tokenizer.save_pretrained(directory)

    def encode(self, texts: list[str], n_tokens: int) -> list[Ids]:
        """Ids of each text, without special tokens, at most ``n_tokens``."""
        cut = [text[:MAX_CHARACTERS] for text in texts]
        found = self.tokenizer(cut, add_special_tokens=False, truncation=True, max_length=n_tokens)["input_ids"]
        return [np.array(ids, np.int32) for ids in found]

    def logits(self, pairs: Sequence[tuple[Ids, Ids]]) -> torch.Tensor:
        """float32 (n,), for (query, product) ids."""
        ids, mask = self._inputs(pairs)
        with self._autocast():
            logits: torch.Tensor = self.model(input_ids=ids, attention_mask=mask).logits
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

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16)


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies matrices in bfloat16, and not by way of float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in ("amx_bf16", "avx512_bf16", "arm_bf16", "bf16"))


def padded(
    sequences: Sequence[Sequence[int]], multiple: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Ids and mask, int64, both dimensions rounded up; a row that fills up attends to its first token."""
    shape = _rounded(len(sequences), multiple), _rounded(max(map(len, sequences)), multiple)
    ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    mask[len(sequences) :, 0] = 1
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = sequence
        mask[row, : len(sequence)] = 1
    return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)


def _load_pair_reader(base: BaseModel) -> tuple[Any, Any]:
    return load_transformer(base, AutoModelForSequenceClassification, num_labels=1)


def load_transformer(base: BaseModel, kind: Any, **config: Any) -> tuple[Any, Any]:
    """A model of the transformers class ``kind`` in fp32, and its tokenizer. ``config`` changes its configuration.

    Nothing is unpickled, and no code of its own is run. Raises ModelError.
    """
    # Eager attention trains twice as fast on CPUs as the fused one, whose backward pass is slow there.
    attention = "sdpa" if torch.cuda.is_available() else "eager"
    try:
        with quietly():
            settings = AutoConfig.from_pretrained(base.location, trust_remote_code=False, **config)
            tokenizer = AutoTokenizer.from_pretrained(base.location, trust_remote_code=False)
            model = kind.from_pretrained(
                base.location, config=settings, use_safetensors=True, dtype=torch.float32,
                attn_implementation=attention, trust_remote_code=False,
            )  # fmt: skip
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"cannot load the model {base.name!r} ({first_line(error)}). Give the directory of a transformers encoder "
            "with safetensors, or its name on a hub where there is a network"
        ) from error
    return model, tokenizer


def adapted(model: Any, settings: EncoderSettings, name: str, task: str) -> Any:
    """The model with the layers that are wanted, only what is to be trained taking gradients.

    ``task`` is what peft calls it. Raises ConfigError where ``settings`` do not fit the model.
    """
    if settings.layers:
        _keep_layers(model, settings.layers, name)
    if settings.freeze_embeddings:
        model.base_model.embeddings.requires_grad_(False)
    return _with_lora(model, settings.rank, task) if settings.method == "lora" else model


def merged(model: Any) -> Any:
    """The model, or where it has LoRA's matrices a copy into which these are merged."""
    return copy.deepcopy(model).merge_and_unload() if hasattr(model, "merge_and_unload") else model


@contextmanager
def quietly() -> Iterator[None]:
    """Without bars, and without the news that a fresh head was not in the file."""
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        with without_progress_bars():
            yield
    finally:
        transformers_logging.set_verbosity(before)


def _keep_layers(model: Any, layers: Sequence[int], name: str) -> None:
    there = layers_of(model)
    if not there:
        raise ConfigError(f"model.layers cannot be chosen of {name}, whose layers are not where BERT has them")
    if layers[-1] >= len(there):
        raise ConfigError(f"model.layers names {layers[-1]}; {name} has the layers 0 to {len(there) - 1}")
    model.base_model.encoder.layer = torch.nn.ModuleList([there[place] for place in layers])
    model.config.num_hidden_layers = len(layers)


def _activate(model: Any, activation: str, name: str) -> None:
    layers = layers_of(model)
    if not layers or not hasattr(getattr(layers[0], "intermediate", None), "intermediate_act_fn"):
        raise ConfigError(f"model.activation cannot be chosen of {name}, whose layers are not built like BERT's")
    for layer in layers:
        layer.intermediate.intermediate_act_fn = ACT2FN[activation]
    model.config.hidden_act = activation


def _with_lora(model: Any, rank: int, task: str) -> Any:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise MissingExtraError("train", "peft") from error
    settings = LoraConfig(task_type=task, r=rank, lora_alpha=2 * rank, target_modules="all-linear")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers for a property by its older name
        return get_peft_model(model, settings)


def _head_in_fp32(model: torch.nn.Module) -> None:
    """Has the last layer multiply in fp32: logits of eight bits would tie, and a ranking is made of them."""
    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and module.out_features == 1:
            module.forward = partial(_in_fp32, module)  # type: ignore[method-assign]


def _in_fp32(head: torch.nn.Linear, hidden: torch.Tensor) -> torch.Tensor:
    with torch.autocast(hidden.device.type, enabled=False):
        return functional.linear(hidden.float(), head.weight, head.bias)


def _rounded(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple
