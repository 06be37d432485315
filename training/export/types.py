"""Exports a fine-tuned query classifier to the directory that ``qpt.transformer_head`` serves.

It is compared with the original, tokenisation included: full precision is refused where it differs, 8 bits are kept
only where they lose no more accuracy than is allowed. Temperature and conformal scores are those of what is served.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch

from engine.errors import ModelError
from engine.model_files import MODEL
from qpt.calibration import calibration_error, fit_temperature
from qpt.conformal import nonconformity
from qpt.log_linear import log_shares
from qpt.softmax import Matrix
from qpt.transformer_head import CARD, TransformerCard, TransformerHead
from training.data.types import LabelledQueries
from training.export import (
    OPSET,
    README,
    checksums,
    files_table,
    publishing,
    tools,
    torch_on_one_thread,
    write_graph,
    write_json,
    write_tokenizer,
)
from training.export.quantize import Feeds, to_static_8_bits
from training.export.reranker import FP32, INT8, PARITY
from training.methods import folded, solid
from training.methods.modules import MASKED
from training.metrics import TORCH
from training.models.classifier import Classifier, TypeModel

_MAX_DEVIATION = 1e-3  # of a logit: fp32 ONNX against the original
_MAX_CALIBRATION = 512  # queries; more change nothing
_NOUN = "query classifier"


class TypeAgreement(msgspec.Struct, frozen=True):
    """One form of the model against torch, over the queries: differences of logits, the share with the same best type,
    and accuracy@1."""

    max_difference: float
    mean_difference: float
    same_best: float
    accuracy: float

    @classmethod
    def of(cls, reference: Matrix, logits: Matrix, queries: LabelledQueries) -> TypeAgreement:
        difference = np.abs(logits.astype(np.float64) - reference)
        best = logits.argmax(axis=1)
        return cls(
            float(difference.max()), float(difference.mean()), float((best == reference.argmax(axis=1)).mean()),
            float(queries.right[np.arange(len(best)), best].mean()),
        )  # fmt: skip


class TypeParity(msgspec.Struct, frozen=True):
    """Agreement by form of the model, torch itself first; ``kept`` is the form that is served."""

    n_queries: int
    kept: str
    forms: dict[str, TypeAgreement]

    def loss(self, form: str) -> float:
        """The accuracy@1 that ``form`` loses against torch, as a share of queries; negative where it gains."""
        return self.forms[TORCH].accuracy - self.forms[form].accuracy

    def table(self) -> list[str]:
        """Markdown, a line each."""
        return [
            "| | largest logit difference | mean | same best type | accuracy@1 |",
            "|---|---|---|---|---|",
            *(
                f"| {name}{' (kept)' * (name == self.kept)} | {form.max_difference:.1e} | {form.mean_difference:.1e} "
                f"| {form.same_best:.2%} | {form.accuracy:.4f} |"
                for name, form in self.forms.items()
            ),
        ]


class Calibration(msgspec.Struct, frozen=True):
    """What is served, on dev: the temperature, and the expected calibration error before and after it."""

    temperature: float
    ece_before: float
    ece: float


@dataclass(frozen=True, slots=True)
class TypeExport:
    """What an export gave; sizes in bytes."""

    directory: Path
    card: TransformerCard
    parity: TypeParity
    calibration: Calibration
    fp32_bytes: int
    model_bytes: int


def export_types(
    model: TypeModel,
    card: TransformerCard,
    fitting: LabelledQueries,
    dev: LabelledQueries,
    out: Path,
    *,
    tolerance: float,
    notes: str,
) -> TypeExport:
    """Writes ``model`` with the card's taxonomy, types and words as the directory ``out``; replaces one there.

    8-bit scales are found on queries of ``fitting``; parity and calibration are of ``dev``. 8 bits are kept where they
    lose at most ``tolerance`` of accuracy@1. Raises ModelError where the model cannot be converted or fp32 deviates
    from it; then ``out`` is as it was.
    """
    with publishing(out, CARD, _NOUN) as work:
        with torch_on_one_thread():
            reference = model.score(model.sequences(dev.queries, dev.locales))
        write_tokenizer(model.tokenizer, work, card.name)
        ids = torch.arange(1, 9).reshape(2, 4) % model.module.n_words
        write_graph(_Exported(model.module), ids, "logits", work, card.name)
        logits = {TORCH: reference, FP32: _served(work, card, dev)}
        forms = {name: TypeAgreement.of(reference, found, dev) for name, found in logits.items()}
        if not forms[FP32].max_difference <= _MAX_DEVIATION:
            raise ModelError(
                f"the exported {card.name} is not the original: over {len(dev)} queries a logit deviates by "
                f"{forms[FP32].max_difference:.1e}, allowed is {_MAX_DEVIATION:.0e}. Nothing was written"
            )
        fp32 = (work / MODEL).read_bytes()
        to_static_8_bits(work / MODEL, work / f"{MODEL}.8", list(_feeds(TransformerHead(work), fitting)))
        (work / f"{MODEL}.8").replace(work / MODEL)
        logits[INT8] = _served(work, card, dev)
        forms[INT8] = TypeAgreement.of(reference, logits[INT8], dev)
        kept = INT8 if forms[TORCH].accuracy - forms[INT8].accuracy <= tolerance else FP32
        if kept == FP32:
            (work / MODEL).write_bytes(fp32)
        parity = TypeParity(len(dev), kept, forms)
        card, calibration = _calibrated(card, logits[kept], dev)
        card = _seal(work, card)
        done = TypeExport(out, card, parity, calibration, len(fp32), (work / MODEL).stat().st_size)
        write_json(work / PARITY, parity)
        (work / README).write_text(_readme(done, notes, tolerance, work), encoding="utf-8")
    return done


class _Exported(torch.nn.Module):
    """The classifier, its padding masked as the exported cross-encoder's is."""

    def __init__(self, module: Classifier) -> None:
        super().__init__()
        self.module = copy.deepcopy(module).cpu()  # exporting leaves its mark on what is exported
        self.module.encoder = solid(folded(self.module.encoder))
        self.module.encoder.set_attn_implementation("eager")  # which the exporter can trace

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        masked = (1 - attention_mask[:, None, None, :].float()) * MASKED
        return self.module.logits(self.module.vectors(input_ids, attention_mask, masked))


def _served(work: Path, card: TransformerCard, queries: LabelledQueries) -> Matrix:
    _seal(work, card)
    return TransformerHead(work).logits(queries.queries, queries.locales)


def _seal(work: Path, card: TransformerCard) -> TransformerCard:
    """Writes the card with the checksums of what is there now."""
    sealed = msgspec.structs.replace(card, sha256=checksums(work))
    write_json(work / CARD, sealed)
    return sealed


def _feeds(head: TransformerHead, queries: LabelledQueries) -> Iterator[Feeds]:
    step = -(-len(queries) // _MAX_CALIBRATION)
    for query, locale in zip(queries.queries[::step], queries.locales[::step], strict=True):
        ids = head.ids(query, locale)
        yield {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def _calibrated(card: TransformerCard, logits: Matrix, dev: LabelledQueries) -> tuple[TransformerCard, Calibration]:
    temperature = fit_temperature(logits, dev.right, dev.importance.astype(np.float64))
    before, after = (np.exp(log_shares((logits / t).astype(np.float32))) for t in (1.0, temperature))
    scores = nonconformity(after, dev.right)
    made = msgspec.structs.replace(card, temperature=temperature, conformal_scores=scores.tolist())
    return made, Calibration(temperature, _error(before, dev), _error(after, dev))


def _error(likely: Matrix, dev: LabelledQueries) -> float:
    best, rows = likely.argmax(axis=1), np.arange(len(likely))
    return calibration_error(likely[rows, best].astype(np.float64), dev.right[rows, best])


def _readme(done: TypeExport, notes: str, tolerance: float, work: Path) -> str:
    card, parity, calibration = done.card, done.parity, done.calibration
    lines: Sequence[str] = [
        f"# {card.name}, a classifier of queries by product type", "",
        f"- Source: {card.source or 'not stated'}", f"- Licence: {card.license or 'not stated'}", "",
        notes.strip(), "",
        "## Export", "",
        f"- Exported to ONNX (opset {OPSET}), {parity.kept}: ids and mask in, a logit for each of {len(card.types)} "
        "types out. 8 bits have scales that stay the same (SmoothQuant), so that no query depends on another.",
        f"- Reads [CLS] locale query [SEP], the query cut to {card.query_tokens} tokens; locales: "
        f"{', '.join(card.locales) or 'none'}.",
        tools(), "",
        "## Parity", "",
        f"Over {parity.n_queries} queries of dev; 8 bits are kept where they lose at most {tolerance:.1%} of "
        "accuracy@1.", "", *parity.table(), "",
        "## Calibration", "",
        f"Logits are divided by {calibration.temperature:.3f}; the expected calibration error on dev goes from "
        f"{calibration.ece_before:.3f} to {calibration.ece:.3f}. {len(card.conformal_scores)} conformal scores, of "
        f"{card.calibrated_on}.", "",
        *files_table(card.sha256, work), "",
        f"As fp32 the model has {done.fp32_bytes / 1e6:.1f} MB. To use it: "
        "`qpt.transformer_head.TransformerHead(DIR)`.", "",
    ]  # fmt: skip
    return "\n".join(lines)
