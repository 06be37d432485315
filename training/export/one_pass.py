"""Exports a fine-tuned one-pass encoder to the directory that ``ranking.onepass`` serves.

The graph takes ids and mask and gives a logit at every token. It is compared with the original, tokenisation included,
and refused when it differs.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from engine.errors import ConfigError, ModelError
from engine.model_files import MODEL
from ranking.onepass import CARD, INPUTS, Ids, OnePassCard, OnePassModel, list_ids
from training.data.examples import Example
from training.export import (
    README,
    checksums,
    files_table,
    publishing,
    tools,
    torch_on_one_thread,
    trace,
    write_json,
    write_tokenizer,
)
from training.export.quantize import Feeds, to_static_8_bits
from training.export.reranker import FP32, INT8, PARITY, TOLERANCE, examples_of
from training.methods import folded, solid
from training.methods.saved import read_recipe
from training.metrics import TORCH, Parity, Scores, compare
from training.models.one_pass import IdList, OnePass, read
from training.report import Recipe

_MAX_DEVIATION = 1e-3  # of a logit: fp32 ONNX against the original
_CALIBRATED_ON = 64  # lists


@dataclass(frozen=True, slots=True)
class OnePassExport:
    """What an export gave; sizes in bytes."""

    directory: Path
    card: OnePassCard
    parity: Parity
    fp32_bytes: int
    model_bytes: int


def export_one_pass(
    directory: Path, out: Path, *, quantize: bool = True, judged: Path | None = None, calibration: Path | None = None,
    tolerance: float = TOLERANCE,
) -> OnePassExport:  # fmt: skip
    """Writes the encoder that a run saved in ``directory`` as the directory ``out``; replaces one there.

    ``quantize`` makes 8 bits of it, with scales found on lists of the ``calibration`` examples, and measures the loss
    on the ``judged`` ones; without these files both are of the sample catalog. Raises ModelError where it cannot be
    loaded or converted, fp32 deviates, or 8 bits lose more than ``tolerance`` of nDCG@10; then ``out`` is as it was.
    """
    recipe = read_recipe(directory)
    if recipe is None or recipe.task != "one-pass":
        raise ModelError(f"{directory} is not what aisle train one-pass saves; name the directory best of such a run")
    if not 0 <= tolerance < 1:
        raise ConfigError(f"tolerance is {tolerance}; it is a share of nDCG@10, from 0 to below 1")
    fitting, examples = examples_of(calibration, judged)
    with publishing(out, CARD, "one-pass encoder") as work:
        original = OnePass.open(directory, recipe.list_size, "off")
        _write_fp32(original, recipe, work)
        lists = _lists(OnePassModel(work), examples)
        with torch.inference_mode(), torch_on_one_thread():
            logits = {TORCH: original.score(lists)}
        logits[FP32] = _served(work, lists)
        fp32_bytes = (work / MODEL).stat().st_size
        parity = compare(examples, judged.name if judged else None, logits)
        deviation = parity.forms[FP32].max_difference
        if not deviation <= _MAX_DEVIATION:
            raise ModelError(f"the exported {recipe.name} is not the original: a logit deviates by {deviation:.1e}")
        if quantize:
            _quantise(work, _lists(OnePassModel(work), fitting)[:_CALIBRATED_ON])
            logits[INT8] = _served(work, lists)
            parity = compare(examples, judged.name if judged else None, logits)
            if not parity.loss(INT8) <= tolerance:
                raise ModelError(
                    f"{recipe.name} does not survive 8 bits: it loses {parity.loss(INT8):.2%} of nDCG@10, allowed is "
                    f"{tolerance:.2%}. Keep fp32 (--fp32), or allow more (--tolerance)"
                )
        card = OnePassModel(work).card
        done = OnePassExport(out, card, parity, fp32_bytes, (work / MODEL).stat().st_size)
        write_json(work / PARITY, parity)
        (work / README).write_text("\n".join(_readme(done, recipe, work)), encoding="utf-8")
    return done


class _Exported(torch.nn.Module):
    """Ids, parts and positions in, a logit at every token out, all of token type 0."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = solid(folded(copy.deepcopy(model)))

    def forward(self, input_ids: torch.Tensor, parts: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        return read(self.model, input_ids, parts, positions)


def _write_fp32(original: OnePass, recipe: Recipe, work: Path) -> None:
    write_tokenizer(original.tokenizer, work, recipe.name)
    ids = torch.arange(1, 9).reshape(2, 4) % original.module.config.vocab_size
    example = ids, torch.tensor([[0, 0, 1, 1]] * 2), torch.tensor([[0, 1, 2, 3]] * 2)
    axes = {name: {0: "batch", 1: "tokens"} for name in (*INPUTS, "logits")}
    trace(_Exported(original.module), example, work / MODEL, INPUTS, "logits", axes, recipe.name)
    _seal(
        work,
        OnePassCard(
            name=recipe.name, query_tokens=recipe.query_tokens, product_tokens=recipe.product_tokens,
            list_size=recipe.list_size, scale=recipe.scale, offset=recipe.offset,
            sha256={}, source=recipe.source, license=recipe.license,
        ),
    )  # fmt: skip


def _seal(work: Path, card: OnePassCard) -> None:
    """Writes the card with the checksums of what is there now."""
    write_json(work / CARD, msgspec.structs.replace(card, sha256=checksums(work)))


def _lists(served: OnePassModel, examples: Sequence[Example]) -> list[IdList]:
    """Each query's products in lists of the model's size, in the order of ``examples``."""
    card = served.card
    out: list[IdList] = []
    for _, group in groupby(examples, lambda example: example.query_id):
        of_query = list(group)
        query = served.encode(of_query[0].query, card.query_tokens)
        products: list[Ids] = [served.encode(example.product, card.product_tokens) for example in of_query]
        out += [(query, products[begin : begin + card.list_size]) for begin in range(0, len(products), card.list_size)]
    return out


def _served(work: Path, lists: Sequence[IdList]) -> Scores:
    """Logits as the directory's model gives them."""
    served = OnePassModel(work)
    made = (list_ids(query, products, served.special) for query, products in lists)
    return np.concatenate([served.logits(one) for one in made]).astype(np.float32)


def _quantise(work: Path, lists: Sequence[IdList]) -> None:
    served = OnePassModel(work)
    feeds: list[Feeds] = [list_ids(query, products, served.special).feeds() for query, products in lists]
    to_static_8_bits(work / MODEL, work / f"{MODEL}.8", feeds)
    (work / f"{MODEL}.8").replace(work / MODEL)
    _seal(work, served.card)


def _readme(done: OnePassExport, recipe: Recipe, work: Path) -> list[str]:
    card, parity = done.card, done.parity
    return [
        f"# {card.name}, a one-pass encoder for product search", "",
        f"- Source: {card.source or 'not stated'}", f"- Licence: {card.license or 'not stated'}", "",
        recipe.card.strip(), "",
        "## Export", "",
        f"- Reads [CLS] query [SEP] product [SEP] product [SEP] …, the query cut to {card.query_tokens} tokens, at "
        f"most {card.list_size} products cut to {card.product_tokens} each.",
        f"- A logit's probability of relevance is sigmoid({card.scale:g} · logit + {card.offset:g}).",
        tools(), "",
        "## Parity", "",
        f"Against the original in torch, over {parity.n_pairs} pairs of {parity.n_queries} queries; nDCG@10 by "
        f"{parity.judged_by}.", "", *parity.table(), "",
        *files_table(card.sha256, work), "",
    ]  # fmt: skip
