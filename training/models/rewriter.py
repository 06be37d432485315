"""A query rewriter in torch: a transformers encoder, and a small decoder that may copy the query's own tokens.

The next token's probability is a mixture of the vocabulary's and of a pointer at the query (See et al. 2017, "Get To
The Point", section 2.2), so that codes and rare words survive, which no small vocabulary has whole.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional
from transformers import AutoModel

from engine.errors import ConfigError, ModelError
from qpt.beam import beam_search
from qpt.rewriter import never_said, spelt, vocabulary_of
from training.methods import Adapted, adapt, reopened
from training.methods.modules import MASKED
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
from training.models.vocabulary import pruned
from training.settings import ModelSettings

Sequences = list[list[int]]

_DECODER = "decoder.safetensors"
_MULTIPLE = 8
_LEAST = 1e-9  # of a probability, whose logarithm is taken


class RewriterModel(Reader):
    """Encoder, decoder and tokenizer. A rewrite has at most ``rewrite_tokens``, a query ``query_tokens``."""

    def __init__(
        self, base: BaseModel, module: EncoderDecoder, adapted: Adapted, tokenizer: Any, query_tokens: int,
        bf16: str = "auto",
    ) -> None:  # fmt: skip
        super().__init__(base, module, tokenizer, bf16)
        self.module: EncoderDecoder
        self.adapted, self.query_tokens = adapted, query_tokens
        self.rewrite_tokens = module.decoder.longest - 1
        words = vocabulary_of(tokenizer.backend_tokenizer)
        self._words, self._never = words, never_said(words)

    @classmethod
    def load(
        cls, settings: ModelSettings, texts: Iterable[str], vocabulary: int, rewrite_tokens: int, layers: int,
        bf16: str = "auto",
    ) -> RewriterModel:  # fmt: skip
        """The base model, cut to a ``vocabulary`` of the words of ``texts``, under a decoder of fresh ``layers``; or,
        where the base is a rewriter that a run saved, that one whole.

        Raises ModelError when it cannot be loaded, ConfigError when ``settings`` do not fit it.
        """
        base = find_base(settings.base)
        if (Path(base.location) / _DECODER).exists():
            return cls._resumed(base, settings, rewrite_tokens, bf16)
        encoder, tokenizer = load_transformer(base, AutoModel)
        encoder.pooler = None
        require_room(
            settings.query_tokens + 2, settings, encoder, base.name,
            f"model.query_tokens {settings.query_tokens} with 2 special tokens",
        )  # fmt: skip
        keep_layers(encoder, settings.layers, base.name)
        tokenizer, kept = pruned(tokenizer, texts, vocabulary, base.name)
        _keep_words(encoder, kept)
        adapted = adapt(encoder, settings, base.name)
        return cls(
            base, EncoderDecoder(adapted.model, layers, rewrite_tokens + 1), adapted, tokenizer,
            settings.query_tokens, bf16,
        )  # fmt: skip

    @classmethod
    def _resumed(cls, base: BaseModel, settings: ModelSettings, rewrite_tokens: int, bf16: str) -> RewriterModel:
        encoder, tokenizer = load_transformer(base, AutoModel)
        encoder.pooler = None
        adapted = adapt(reopened(encoder, Path(base.location)).plain(), settings, base.name)
        model = cls(base, _with_decoder(adapted.model, base), adapted, tokenizer, settings.query_tokens, bf16)
        if model.rewrite_tokens != rewrite_tokens:
            raise ConfigError(
                f"model.rewrite_tokens is {rewrite_tokens}, and {base.name} was trained for {model.rewrite_tokens}; "
                "give the same"
            )
        return model

    @classmethod
    def open(cls, directory: Path, query_tokens: int) -> RewriterModel:
        """One that ``save`` wrote, in fp32. Raises ModelError."""
        base = local_base(directory)
        encoder, tokenizer = load_transformer(base, AutoModel)
        encoder.pooler = None
        adapted = reopened(encoder, directory)
        return cls(base, _with_decoder(adapted.model, base), adapted, tokenizer, query_tokens, "off")

    def save(self, directory: Path) -> None:
        with quietly():
            self.adapted.plain().save_pretrained(directory)
        self.tokenizer.save_pretrained(directory)
        weights = self.module.decoder.state_dict()
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}, directory / _DECODER)

    def sequences(self, texts: Sequence[str], n_tokens: int) -> Sequences:
        """Ids of each text, cut, between the first token and the last."""
        first, last = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        return [[first, *ids.tolist(), last] for ids in self.encode(texts, n_tokens)]

    def log_probabilities(
        self, queries: Sequences, rewrites: Sequences, module: EncoderDecoder | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Of each rewrite given its query, the sum over tokens, and how many tokens; float32 (n,) both.

        ``module`` stands in for the one that is trained.
        """
        ids, mask = padded(queries, _MULTIPLE, self.device)
        # Filled up, but not beyond the places there are.
        said, kept = (filled[:, : self.rewrite_tokens + 2] for filled in padded(rewrites, _MULTIPLE, self.device))
        with self.autocast():
            found = (module or self.module)(ids, mask, said[:, :-1], said[:, 1:])
        counted = kept[:, 1:].float()
        return (found * counted).sum(dim=1)[: len(queries)], counted.sum(dim=1)[: len(queries)]

    @torch.inference_mode()
    def rewrites(self, query: str, beams: int) -> list[tuple[str, float]]:
        """Texts with the mean log-probability of their tokens, best first; as ``qpt.rewriter`` says them."""
        ids = torch.tensor(self.sequences([query], self.query_tokens), device=self.device)
        mask = torch.ones_like(ids)
        memory = self.module.memory(ids, mask)

        def step(prefixes: NDArray[np.int64]) -> NDArray[np.float32]:
            n = len(prefixes)
            said = torch.from_numpy(prefixes).to(self.device)
            found = self.module.following(memory.expand(n, -1, -1), ids.expand(n, -1), mask.expand(n, -1), said)
            out: NDArray[np.float32] = found.float().cpu().numpy()
            return out

        found = beam_search(
            step, self.tokenizer.cls_token_id, self.tokenizer.sep_token_id, width=beams, longest=self.rewrite_tokens,
            never=self._never,
        )  # fmt: skip
        return [(spelt([self._words[i] for i in one.ids]), one.score) for one in found]


class EncoderDecoder(nn.Module):
    """Words have one embedding, for reading, saying and being said."""

    def __init__(self, encoder: Any, n_layers: int, longest: int) -> None:
        super().__init__()
        self.encoder = encoder
        config = encoder.config
        self.decoder = Decoder(config.hidden_size, config.num_attention_heads, n_layers, longest)

    @property
    def words(self) -> torch.Tensor:
        """Float32 (vocabulary, d)."""
        weight: torch.Tensor = self.encoder.get_input_embeddings().weight
        return weight

    def forward(
        self, ids: torch.Tensor, mask: torch.Tensor, said: torch.Tensor, following: torch.Tensor
    ) -> torch.Tensor:
        """The log-probability of each token of ``following``, after those of ``said`` up to its place: (n, tokens)."""
        words, copied, share = self.decoder(self.memory(ids, mask), mask, self._embedded(said), self.words)
        spoken = functional.log_softmax(words.float(), dim=-1).gather(2, following[:, :, None])[:, :, 0].exp()
        pointed = (copied.float() * (ids[:, None, :] == following[:, :, None])).sum(dim=2)
        share = share.float()[:, :, 0]
        likely: torch.Tensor = (1 - share) * spoken + share * pointed
        return (likely + _LEAST).log()

    def memory(self, ids: torch.Tensor, mask: torch.Tensor, attention: torch.Tensor | None = None) -> torch.Tensor:
        """What the decoder sees of queries: float32 (n, tokens, d). ``attention`` stands in for the mask."""
        hidden: torch.Tensor = self.encoder(
            input_ids=ids, attention_mask=mask if attention is None else attention
        ).last_hidden_state
        return hidden

    def following(
        self, memory: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor, said: torch.Tensor
    ) -> torch.Tensor:
        """Log-probabilities of the token after ``said``, int64 (n, tokens): float32 (n, vocabulary)."""
        words, copied, share = self.decoder(memory, mask, self._embedded(said), self.words)
        spoken = (1 - share[:, -1]) * functional.softmax(words[:, -1], dim=-1)
        likely: torch.Tensor = spoken.scatter_add(1, ids, share[:, -1] * copied[:, -1])
        return (likely + _LEAST).log()

    def _embedded(self, said: torch.Tensor) -> torch.Tensor:
        return functional.embedding(said, self.words)


class Decoder(nn.Module):
    """Layers of attention to what was said, to the query, and a feed-forward one, each after a norm."""

    def __init__(self, width: int, n_heads: int, n_layers: int, longest: int) -> None:
        super().__init__()
        self.places = nn.Embedding(longest, width)
        nn.init.normal_(self.places.weight, std=0.02)
        self.layers = nn.ModuleList(_Layer(width, n_heads) for _ in range(n_layers))
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, width)
        self.pointer, self.share = nn.Linear(width, width), nn.Linear(2 * width, 1)

    @property
    def longest(self) -> int:
        """How many tokens may have been said, the first included."""
        return len(self.places.weight)

    def forward(
        self, memory: torch.Tensor, mask: torch.Tensor, said: torch.Tensor, words: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits of words (n, tokens, vocabulary), shares of the query's places (n, tokens, query), and how much the
        latter count (n, tokens, 1), after each place of ``said``, embedded (n, tokens, d)."""
        n = said.shape[1]
        hidden = said + self.places.weight[:n]
        unseen = (1 - torch.tril(torch.ones(n, n, device=said.device)))[None, None] * MASKED
        masked = (1 - mask[:, None, None, :].float()) * MASKED
        for layer in self.layers:
            hidden = layer(hidden, memory, unseen, masked)
        hidden = self.norm(hidden)
        scores = self.pointer(hidden) @ memory.transpose(1, 2) / memory.shape[-1] ** 0.5
        copied = functional.softmax(scores.float() + masked[:, 0], dim=-1)
        seen = copied.to(memory.dtype) @ memory
        share = torch.sigmoid(self.share(torch.cat([hidden, seen], dim=-1)))
        return self.output(hidden) @ words.T, copied, share


class _Layer(nn.Module):
    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.own, self.query = _Attention(width, n_heads), _Attention(width, n_heads)
        self.forth, self.back = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))

    def forward(
        self, hidden: torch.Tensor, memory: torch.Tensor, unseen: torch.Tensor, masked: torch.Tensor
    ) -> torch.Tensor:
        first, second, third = self.norms
        own = first(hidden)
        hidden = hidden + self.own(own, own, unseen)
        hidden = hidden + self.query(second(hidden), memory, masked)
        deeper: torch.Tensor = self.back(functional.gelu(self.forth(third(hidden))))
        return hidden + deeper


class _Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017), in operations that any exporter can trace."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads, self.per_head = n_heads, width // n_heads
        self.asks, self.keys, self.values, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, asking: torch.Tensor, asked: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
        asks, keys, values = (
            self._split(self.asks(asking)),
            self._split(self.keys(asked)),
            self._split(self.values(asked)),
        )
        scores = asks @ keys.transpose(2, 3) / self.per_head**0.5
        seen = functional.softmax(scores + masked, dim=-1).to(values.dtype) @ values
        out: torch.Tensor = self.out(seen.transpose(1, 2).flatten(2))
        return out

    def _split(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden.reshape(hidden.shape[0], hidden.shape[1], self.n_heads, self.per_head).transpose(1, 2)


def frozen(module: EncoderDecoder) -> EncoderDecoder:
    """A copy that does not move: what a model is to stay near to."""
    return copy.deepcopy(module).requires_grad_(False)


def _keep_words(encoder: Any, kept: NDArray[np.int64]) -> None:
    """Leaves the embeddings of these ids."""
    words = nn.Embedding(len(kept), encoder.config.hidden_size)
    words.weight.data = encoder.get_input_embeddings().weight.data[torch.from_numpy(kept)].clone()
    encoder.set_input_embeddings(words)
    encoder.config.vocab_size = len(kept)
    encoder.config.pad_token_id = None


def _with_decoder(encoder: Any, base: BaseModel) -> EncoderDecoder:
    """The encoder under the decoder that was saved beside it. Raises ModelError."""
    path = Path(base.location) / _DECODER
    try:
        weights = load_file(path)
        n_layers = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("layers."))
        module = EncoderDecoder(encoder, n_layers, len(weights["places.weight"]))
        module.decoder.load_state_dict(weights)
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise ModelError(f"{path} cannot be read ({error}). Train it anew") from error
    return module
