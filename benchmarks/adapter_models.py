"""Models for ``benchmarks/adapters.py``: of random weights, which take as long as trained ones of their shape."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from transformers import BertConfig, BertForSequenceClassification, BertModel

from benchmarks.adapters import Shape
from engine.adapters import ADAPTABLE, Adapter, AdapterBase
from engine.dense.encoder import CARD as ENCODER_CARD
from engine.dense.encoder import SHIPPED, EncoderCard
from engine.model_files import MODEL, TOKENIZER
from engine.storage.manifest import checksum
from ranking.card import CARD, RerankerCard
from ranking.cross_encoder import CrossEncoderModel
from training.data.examples import read_examples
from training.export import write_graph
from training.export.adaptable import quantise_adaptable, targets_of, write_adaptable
from training.export.quantize import Feeds, to_8_bits, to_static_8_bits
from training.export.reranker import _Exported, _load, _run, _served_sequences, _torch_logits
from training.methods.saved import fingerprint
from training.metrics import TORCH, Parity, compare
from training.settings import Targets

_VOCABULARY = 30_522  # of the tokenizer that ships
_WIDTH, _HEADS, _NEURONS = 384, 12, 1536  # MiniLM's
_HEAD = _WIDTH // _HEADS
_EXAMPLE = torch.arange(1, 9).reshape(2, 4)


def write_reranker(directory: Path, shape: Shape, targets: Targets) -> Path:
    """A reranker directory in 8 bits with static scales, as ``aisle export`` makes them, that takes adapters."""
    model: Any = _random(BertForSequenceClassification(_config(shape, num_labels=1)))
    with torch.no_grad():
        for layer in model.bert.encoder.layer:  # what is silent is taken out when it is exported
            layer.attention.output.dense.weight[:, shape.heads * _HEAD :] = 0
            layer.output.dense.weight[:, shape.neurons :] = 0
    exported = _Exported(model)
    feeds = list(_feeds(3, 8, 48))
    files = _Files(directory, "logits", feeds, to_static_8_bits)
    adapters = files.write(exported, exported.model, targets, fingerprint(model.state_dict()))
    card = RerankerCard(
        name="random", query_tokens=24, product_tokens=48, sha256=files.sha256, adapters=adapters
    )  # fmt: skip
    (directory / CARD).write_bytes(msgspec.json.encode(card))
    return directory


def write_encoder(directory: Path, layers: int, targets: Targets) -> Path:
    """An encoder directory in 8 bits, as ``aisle convert`` makes them, that takes adapters."""
    model = _random(BertModel(_config(Shape(layers, _HEADS, _NEURONS, "gelu")), add_pooling_layer=False))
    files = _Files(directory, "embedding", list(_feeds(20, 1, 12)), to_8_bits)
    adapters = files.write(_Pooled(model), model, targets, fingerprint(model.state_dict()))
    card = EncoderCard(
        format=1, name="random", dim=_WIDTH, max_tokens=256, sha256=files.sha256, adapters=adapters
    )  # fmt: skip
    (directory / ENCODER_CARD).write_bytes(msgspec.json.encode(card))
    return directory


def parity(reranker: Path, trained: Path, judged: Path) -> Parity:
    """How far a reranker directory with the adapter of a run's ``best`` is from that model, merged, in torch.

    The bias of a head is part of an adapter's calibration, and of no logit that is compared here.
    """
    examples = sorted(read_examples(judged), key=lambda example: example.query_id)
    served = CrossEncoderModel(reranker)
    graph = served.adaptable.graph(Adapter.read(trained / "adapter.safetensors"))

    def logits(feeds: Feeds) -> Any:
        return graph.run(*(feeds[name].astype(np.int64) for name in ("input_ids", "attention_mask")))

    adapted = _run(_served_sequences(served, examples), logits)
    reference = _torch_logits(_load(trained), examples)
    return compare(examples, judged.name, {TORCH: reference, "adapted": adapted + (reference - adapted).mean()})


@dataclass(frozen=True, slots=True)
class _Files:
    directory: Path
    output: str
    feeds: list[Feeds]
    quantise: Any

    def write(self, module: torch.nn.Module, model: torch.nn.Module, targets: Targets, base: str) -> AdapterBase:
        self.directory.mkdir(parents=True)
        shutil.copy(SHIPPED / "all-MiniLM-L6-v2" / TOKENIZER, self.directory)
        write_graph(module, _EXAMPLE, self.output, self.directory, "random")
        self.quantise(self.directory / MODEL, self.directory / "8", self.feeds)
        (self.directory / "8").replace(self.directory / MODEL)
        shapes = write_adaptable(
            module, targets_of(model, targets), _EXAMPLE, self.output, self.directory, "random"
        )  # fmt: skip
        adapters = AdapterBase(base=base, targets=shapes)
        quantise_adaptable(self.directory, adapters, self.quantise, self.feeds)
        return adapters

    @property
    def sha256(self) -> dict[str, str]:
        return {name: checksum(self.directory / name).sha256 for name in (MODEL, TOKENIZER, ADAPTABLE)}


class _Pooled(torch.nn.Module):
    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weights = attention_mask[:, :, None].float()
        return torch.nn.functional.normalize((hidden * weights).sum(1) / weights.sum(1), dim=-1)


def _config(shape: Shape, **more: Any) -> Any:
    return BertConfig(
        vocab_size=_VOCABULARY, hidden_size=_WIDTH, num_hidden_layers=shape.layers, num_attention_heads=_HEADS,
        intermediate_size=_NEURONS, max_position_embeddings=256, hidden_act=shape.activation,
        attn_implementation="eager", **more,
    )  # fmt: skip


def _random(model: Any) -> Any:
    """With biases that differ: equal ones would become one constant, which the quantiser does not take in."""
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weight, std=0.02)
    return model.eval()


def _feeds(n: int, rows: int, tokens: int) -> Iterator[Feeds]:
    draw = np.random.default_rng(1)
    for _ in range(n):
        ids = draw.integers(1_000, _VOCABULARY, (rows, tokens))
        yield {"input_ids": ids, "attention_mask": np.ones_like(ids)}
