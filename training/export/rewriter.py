"""Exports a fine-tuned query rewriter to the directory that ``qpt.rewriter`` serves: fp32, and compared with torch."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from engine.errors import ModelError
from qpt.rewriter import CARD, DECODER, OnnxRewriter, RewriterCard
from training.export import (
    README,
    checksums,
    files_table,
    power_of_ten,
    publishing,
    tools,
    torch_on_one_thread,
    trace,
    write_graph,
    write_json,
    write_tokenizer,
)
from training.methods import folded, solid
from training.methods.modules import MASKED
from training.methods.saved import read_recipe
from training.models import licence
from training.models.rewriter import EncoderDecoder, RewriterModel

_MAX_DEVIATION = 1e-3  # of a log-probability that counts: ONNX against the original
_LEAST = -10.0  # a log-probability below says "never" in any digits
_PROBES = ("wireless mouse", "42 inch tv wall mount", "women's running shoes size 8", "rt28c3053s8 fridge")
_INPUTS = ("memory", "source_ids", "attention_mask", "prefix_ids")


@dataclass(frozen=True, slots=True)
class RewriterExport:
    """What an export gave. ``deviation`` is the largest of a log-probability; sizes in bytes."""

    directory: Path
    card: RewriterCard
    deviation: float
    model_bytes: int


def export_rewriter(directory: Path, out: Path, *, beams: int = 4) -> RewriterExport:
    """Writes the rewriter that a run saved in ``directory`` as the directory ``out``; replaces one there.

    Raises ModelError where it cannot be loaded or converted, or ONNX deviates from it; then ``out`` is as it was.
    """
    recipe = read_recipe(directory)
    if recipe is None or recipe.task != "rewriter":
        raise ModelError(f"{directory} is not what aisle train rewriter saves; name the directory best of such a run")
    model = RewriterModel.open(directory, recipe.query_tokens)
    module = _servable(model.module)
    with publishing(out, CARD, "query rewriter") as work:
        write_tokenizer(model.tokenizer, work, recipe.name)
        ids = torch.arange(1, 7).reshape(2, 3) % len(module.words)
        mask = torch.ones_like(ids)
        write_graph(_Reading(module), ids, "memory", work, recipe.name)
        axes = {
            "memory": {0: "beams", 1: "tokens"}, "source_ids": {0: "beams", 1: "tokens"},
            "attention_mask": {0: "beams", 1: "tokens"}, "prefix_ids": {0: "beams", 1: "said"},
            "log_probabilities": {0: "beams"},
        }  # fmt: skip
        with torch.no_grad():
            example = (_Reading(module)(ids, mask), ids, mask, ids[:, :2])
        trace(_Saying(module), example, work / DECODER, _INPUTS, "log_probabilities", axes, recipe.name)
        card = RewriterCard(
            name=recipe.name, query_tokens=recipe.query_tokens, rewrite_tokens=model.rewrite_tokens, beams=beams,
            sha256=checksums(work, DECODER), source=recipe.source,
            license=recipe.license or licence(model.base.location),
        )  # fmt: skip
        write_json(work / CARD, card)
        deviation = _deviation(model, OnnxRewriter(work))
        if not deviation <= _MAX_DEVIATION:
            raise ModelError(
                f"the exported {card.name} is not the original: a log-probability deviates by {deviation:.1e}, allowed "
                f"is {_MAX_DEVIATION:.0e}. Nothing was written"
            )
        size = sum((work / name).stat().st_size for name in card.sha256)
        (work / README).write_text("\n".join(_readme(card, recipe.card, deviation, work)), encoding="utf-8")
    return RewriterExport(out, card, deviation, size)


def _servable(module: EncoderDecoder) -> EncoderDecoder:
    """A copy whose encoder the exporter can trace."""
    module = copy.deepcopy(module).cpu()
    module.encoder = solid(folded(module.encoder))
    module.encoder.set_attn_implementation("eager")
    return module


class _Reading(torch.nn.Module):
    """The encoder, its padding masked as the exported cross-encoder's is."""

    def __init__(self, module: EncoderDecoder) -> None:
        super().__init__()
        self.module = module

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        masked = (1 - attention_mask[:, None, None, :].float()) * MASKED
        return self.module.memory(input_ids, attention_mask, masked)


class _Saying(torch.nn.Module):
    """The decoder: what the next token is."""

    def __init__(self, module: EncoderDecoder) -> None:
        super().__init__()
        self.module = module

    def forward(
        self, memory: torch.Tensor, source_ids: torch.Tensor, attention_mask: torch.Tensor, prefix_ids: torch.Tensor
    ) -> torch.Tensor:
        return self.module.following(memory, source_ids, attention_mask, prefix_ids)


def _deviation(model: RewriterModel, served: OnnxRewriter) -> float:
    """The largest, over what follows each beginning of some queries, among tokens that could be said."""
    worst = 0.0
    with torch_on_one_thread(), torch.inference_mode():
        for sequence in model.sequences(_PROBES, model.query_tokens):
            ids = torch.tensor([sequence])
            mask = torch.ones_like(ids)
            memory, step = model.module.memory(ids, mask), served.step(ids.numpy())
            for n in range(1, min(len(sequence), model.rewrite_tokens + 1)):
                original = model.module.following(memory, ids, mask, ids[:, :n]).numpy()
                found = step(ids[:, :n].numpy())
                counts = np.maximum(original, found) > _LEAST
                worst = max(worst, float(np.abs(original - found)[counts].max(initial=0.0)))
    return worst


def _readme(card: RewriterCard, notes: str, deviation: float, work: Path) -> Sequence[str]:
    return [
        f"# {card.name}, a query rewriter", "",
        f"- Source: {card.source or 'not stated'}", f"- Licence: {card.license or 'not stated'}", "",
        notes.strip(), "",
        "## Export", "",
        f"- Two graphs in fp32: model.onnx reads [CLS] query [SEP], the query cut to {card.query_tokens} tokens; "
        f"{DECODER} gives the log-probabilities of what follows a prefix of up to {card.rewrite_tokens} tokens. "
        f"{card.beams} beams are followed.",
        f"- Log-probabilities deviate from torch's by {power_of_ten(deviation)}.", tools(), "",
        *files_table(card.sha256, work), "",
    ]  # fmt: skip
