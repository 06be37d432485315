"""A query classifier in torch: a transformers encoder, the mean of what it says of a query's tokens, an output layer.

A query is read as ``[CLS] locale query [SEP]``. Its locale is a token beyond the tokenizer's vocabulary, so that no
query can name one; a locale that was not trained on has no token, and the query is read without.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import AutoModel

from engine.errors import ModelError
from training.methods import Adapted, adapt, reopened
from training.models import (
    BaseModel,
    Reader,
    find_base,
    keep_layers,
    load_transformer,
    local_base,
    padded,
    quietly,
    require_room,
)
from training.settings import ModelSettings

Sequences = list[list[int]]

_HEAD = "head.safetensors"
# oneDNN compiles a kernel per shape and keeps it; queries are shorter than pairs, and so is what they are filled up to.
_MULTIPLE = 8
_SCORED_AT_ONCE = 64
# A logit is this times a product of a unit vector with a weight: cosines, which weights begin as, differ by tenths.
_SHARPNESS = 20.0


class TypeModel(Reader):
    """An encoder with an output per type, its tokenizer, and the locales it knows."""

    def __init__(
        self, base: BaseModel, module: Classifier, adapted: Adapted, tokenizer: Any, locales: Mapping[str, int],
        query_tokens: int, bf16: str = "auto",
    ) -> None:  # fmt: skip
        super().__init__(base, module, tokenizer, bf16)
        self.module: Classifier
        self.adapted = adapted
        self.locales, self.query_tokens = dict(locales), query_tokens  # locales with the ids of their tokens

    @classmethod
    def load(
        cls, settings: ModelSettings, names: Sequence[Sequence[str]], priors: NDArray[np.float32],
        locales: Sequence[str], bf16: str = "auto", *, output: str = "names",
    ) -> TypeModel:  # fmt: skip
        """The base model with outputs for types that have these ``names``, perhaps none, and a token per locale.

        ``priors``, float32 (types,), are shares of the types among what it will be asked; above 0. Outputs begin as the
        vectors of ``names``, or ``random``.

        Raises ModelError when it cannot be loaded, ConfigError when ``settings`` do not fit it.
        """
        base = find_base(settings.base)
        encoder, tokenizer = load_transformer(base, AutoModel)
        require_room(
            settings.query_tokens + 3, settings, encoder, base.name,
            f"model.query_tokens {settings.query_tokens} with 3 special tokens",
        )  # fmt: skip
        encoder.pooler = None
        keep_layers(encoder, settings.layers, base.name)
        n_words = len(encoder.get_input_embeddings().weight)
        adapted = adapt(encoder, settings, base.name)
        module = Classifier(adapted.model, len(names), len(locales))
        module.prior.data = torch.from_numpy(np.log(priors) / _SHARPNESS)
        ids = {locale: n_words + place for place, locale in enumerate(locales)}
        model = cls(base, module, adapted, tokenizer, ids, settings.query_tokens, bf16)
        if output == "names":
            model._begin_with(names)
        return model

    @classmethod
    def open(cls, directory: Path, locales: Mapping[str, int], query_tokens: int) -> TypeModel:
        """One that ``save`` wrote, in fp32. Raises ModelError."""
        base = local_base(directory)
        encoder, tokenizer = load_transformer(base, AutoModel)
        encoder.pooler = None
        adapted = reopened(encoder, directory)
        path = directory / _HEAD
        try:
            output = load_file(path)
            module = Classifier(adapted.model, len(output["prior"]), 0)
            module.output.data, module.prior.data = output["weight"], output["prior"]
        except (OSError, SafetensorError, KeyError) as error:
            raise ModelError(f"{path} cannot be read ({error}). Train it anew") from error
        return cls(base, module, adapted, tokenizer, locales, query_tokens, "off")

    def save(self, directory: Path) -> None:
        """Writes encoder, output layer and tokenizer; the locales' tokens become the vocabulary's last."""
        encoder = self.adapted.plain()
        words = encoder.get_input_embeddings()
        before = words.weight
        try:
            words.weight = torch.nn.Parameter(torch.cat([before, self.module.locales]).detach(), requires_grad=False)
            encoder.config.vocab_size = len(words.weight)
            with quietly():
                encoder.save_pretrained(directory)
        finally:
            words.weight, encoder.config.vocab_size = before, len(before)
        self.tokenizer.save_pretrained(directory)
        output = {"weight": self.module.output, "prior": self.module.prior}
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in output.items()}, directory / _HEAD)

    def sequences(self, queries: Sequence[str], locales: Sequence[str]) -> Sequences:
        """Ids of each query with what stands around it."""
        first, last = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        return [
            [first, *([self.locales[locale]] if locale in self.locales else []), *ids.tolist(), last]
            for ids, locale in zip(self.encode(queries, self.query_tokens), locales, strict=True)
        ]

    def logits(self, sequences: Sequences) -> torch.Tensor:
        """float32 (n, types)."""
        ids, mask = padded(sequences, _MULTIPLE, self.device)
        with self.autocast():
            logits: torch.Tensor = self.module(ids, mask)
        return logits[: len(sequences)]

    @torch.inference_mode()
    def score(
        self, sequences: Sequences, progress: Callable[[int, int], None] = lambda *_: None
    ) -> NDArray[np.float32]:
        """Logits, float32 (n, types)."""
        out = np.empty((len(sequences), len(self.module.output)), np.float32)
        for begin in range(0, len(sequences), _SCORED_AT_ONCE):
            some = sequences[begin : begin + _SCORED_AT_ONCE]
            out[begin : begin + len(some)] = self.logits(some).cpu().numpy()
            progress(begin + len(some), len(sequences))
        return out

    @torch.no_grad()
    def _begin_with(self, names: Sequence[Sequence[str]]) -> None:
        """Makes outputs of the vectors of the types' names, the mean where there are several; of none, zeros."""
        texts = [(row, name) for row, of_type in enumerate(names) for name in of_type if name.strip()]
        sums = torch.zeros_like(self.module.output)
        for begin in range(0, len(texts), _SCORED_AT_ONCE):
            some = texts[begin : begin + _SCORED_AT_ONCE]
            sequences = self.sequences([text for _, text in some], [""] * len(some))
            vectors = self.module.vectors(*padded(sequences, _MULTIPLE, self.device))[: len(some)]
            sums.index_add_(0, torch.tensor([row for row, _ in some], device=self.device), vectors)
        self.module.output.data = functional.normalize(sums)


class Classifier(torch.nn.Module):
    """Ids and mask, int64 (n, tokens), in; logits, float32 (n, types), out.

    ``output`` is float32 (types, d) and ``prior`` (types,); ``locales``, (locales, d), are embeddings of the ids beyond
    the vocabulary.
    """

    def __init__(self, encoder: Any, n_types: int, n_locales: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.n_words = len(encoder.get_input_embeddings().weight)
        width = encoder.config.hidden_size
        self.output = torch.nn.Parameter(torch.randn(n_types, width) * width**-0.5)
        self.prior = torch.nn.Parameter(torch.zeros(n_types))
        mean = encoder.get_input_embeddings().weight.detach().mean(dim=0)
        self.locales = torch.nn.Parameter(mean.repeat(n_locales, 1), requires_grad=n_locales > 0)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        vectors = self.vectors(ids, mask)
        with torch.autocast(ids.device.type, enabled=False):  # logits of eight bits would tie
            return self.logits(vectors)

    def logits(self, vectors: torch.Tensor) -> torch.Tensor:
        """Of vectors of unit length."""
        return _SHARPNESS * functional.linear(vectors, self.output, self.prior)

    def vectors(self, ids: torch.Tensor, mask: torch.Tensor, attention: torch.Tensor | None = None) -> torch.Tensor:
        """Float32 (n, d), of unit length. ``attention`` takes the place of the mask in the encoder."""
        attention = mask if attention is None else attention
        if len(self.locales):
            words = self.encoder.get_input_embeddings()(ids.clamp(max=self.n_words - 1))
            places = self.locales[(ids - self.n_words).clamp(min=0)].to(words.dtype)
            inputs = {"inputs_embeds": torch.where((ids >= self.n_words)[:, :, None], places, words)}
        else:
            inputs = {"input_ids": ids}
        hidden = self.encoder(attention_mask=attention, **inputs).last_hidden_state.float()
        kept = mask[:, :, None].float()
        return functional.normalize((hidden * kept).sum(dim=1) / kept.sum(dim=1))
