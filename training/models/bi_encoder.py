"""A bi-encoder in torch: a sentence-transformers model that makes a vector of a text, whose cosines are compared."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from sentence_transformers import SentenceTransformer
from torch.nn import functional
from transformers.utils import cached_file

from engine.errors import ModelError
from engine.seams import Embeddings
from training.export import first_line
from training.methods import Adapted, adapt, reopened
from training.models import (
    BaseModel,
    Ids,
    Kind,
    Reader,
    attention,
    find_base,
    keep_layers,
    local_base,
    padded,
    quietly,
    require_room,
)
from training.settings import ModelSettings

_MULTIPLE = 8
_ENCODED_AT_ONCE = 64


class BiEncoder(Reader):
    """Texts in, vectors out, by transformer, pooling and whatever else the model has after it.

    A text is read as ``[CLS] text [SEP]``, after the model's own prompt for queries or for documents if it has one.
    """

    def __init__(self, base: BaseModel, model: SentenceTransformer, adapted: Adapted, bf16: str = "auto") -> None:
        self.model, self.adapted = model, adapted
        transformer_of(model).model = adapted.model
        super().__init__(base, model, model.tokenizer, bf16)

    @classmethod
    def load(cls, settings: ModelSettings, product_tokens: int, bf16: str = "auto") -> BiEncoder:
        """The base model; only what is to be trained takes gradients.

        Raises ModelError when it cannot be loaded, ConfigError when ``settings`` do not fit it.
        """
        base = find_base(settings.base)
        model = load_sentence_transformer(base, attention())
        transformer = transformer_of(model).model
        require_room(
            max(settings.query_tokens, product_tokens) + 2, settings, transformer, base.name,
            f"model.query_tokens {settings.query_tokens} or product_tokens {product_tokens} with 2 special tokens",
        )  # fmt: skip
        keep_layers(transformer, settings.layers, base.name)
        if getattr(transformer, "pooler", None) is not None:
            transformer.pooler = None  # which no vector is made of
        return cls(base, model, adapt(transformer, settings, base.name), bf16)

    @classmethod
    def open(cls, directory: Path, bf16: str = "auto") -> BiEncoder:
        """One that ``save`` wrote. Raises ModelError."""
        base = local_base(directory)
        model = load_sentence_transformer(base, attention())
        return cls(base, model, reopened(transformer_of(model).model, directory), bf16)

    def save(self, directory: Path) -> None:
        """Writes the model as sentence-transformers does; what has no place there is for the adapter beside it."""
        holder = transformer_of(self.model)
        holder.model = self.adapted.plain()
        try:
            with quietly(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.model.save(str(directory), create_model_card=False)
        finally:
            holder.model = self.adapted.model

    def encode(self, texts: Sequence[str], n_tokens: int, kind: Kind = "document") -> list[Ids]:
        prompt = (self.model.prompts or {}).get(kind) or ""
        return super().encode([prompt + text for text in texts], n_tokens)

    def vectors(self, texts: Sequence[Ids]) -> torch.Tensor:
        """float32 (n, d), of unit length, for ids without special tokens."""
        first, last = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        ids, mask = padded([[first, *text.tolist(), last] for text in texts], _MULTIPLE, self.device)
        with self.autocast():
            found: torch.Tensor = self.model({"input_ids": ids, "attention_mask": mask})["sentence_embedding"]
        return functional.normalize(found[: len(texts)].float(), dim=1)

    @torch.inference_mode()
    def embed(self, texts: Sequence[Ids], progress: Callable[[int, int], None] = lambda *_: None) -> Embeddings:
        """Vectors, float32 (n, d), in the order of the texts. Those of like length are encoded together."""
        order = np.argsort([len(text) for text in texts], kind="stable")
        out: Embeddings | None = None
        for begin in range(0, len(order), _ENCODED_AT_ONCE):
            places = order[begin : begin + _ENCODED_AT_ONCE]
            found = self.vectors([texts[place] for place in places]).cpu().numpy()
            out = np.empty((len(texts), found.shape[1]), np.float32) if out is None else out
            out[places] = found
            progress(min(begin + _ENCODED_AT_ONCE, len(order)), len(order))
        return np.empty((0, 0), np.float32) if out is None else out


def transformer_of(model: SentenceTransformer) -> Any:
    """The part that holds the transformer, as its ``model``."""
    return model[0]


def load_sentence_transformer(source: BaseModel, attention: str) -> SentenceTransformer:
    """The model in fp32. Nothing is unpickled, and no code of its own is run. Raises ModelError."""
    try:
        with quietly():
            if not Path(source.location).is_dir():  # else a hub out of reach would be tried anew for every file
                cached_file(source.location, "modules.json", _raise_exceptions_for_missing_entries=False)
            found = SentenceTransformer(
                source.location, device="cpu", trust_remote_code=False,
                model_kwargs={"attn_implementation": attention, "use_safetensors": True},
            )  # fmt: skip
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"cannot load the model {source.name!r} ({first_line(error)}). Give the directory of a "
            "sentence-transformers model, or its name on a hub where there is a network"
        ) from error
    return found.float().eval()
