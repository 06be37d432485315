"""Exports a fine-tuned cross-encoder to the reranker directory that ``ranking.cross_encoder`` serves.

The graph takes ids and mask and gives logits. Its last layer is computed for the first token only, which is all that
the head reads. It is compared with the original, tokenisation included, and refused when it differs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import engine
from engine.adapters import ADAPTABLE, AdapterBase
from engine.catalog import read_catalog
from engine.errors import ConfigError, ModelError
from engine.model_files import MAX_CHARACTERS, MODEL
from engine.text import encoded_text
from ranking.card import CARD, RerankerCard
from ranking.cross_encoder import CrossEncoderModel
from training.data.examples import Example, read_examples, require_both_classes
from training.export import (
    OPSET,
    README,
    checksums,
    files_table,
    first_line,
    publishing,
    tools,
    torch_on_one_thread,
    without_progress_bars,
    write_graph,
    write_json,
    write_tokenizer,
)
from training.export.adaptable import quantise_adaptable, targets_of, write_adaptable
from training.export.quantize import Feeds, to_static_8_bits
from training.methods import reopened
from training.methods.modules import MASKED, SolidPrompt, attend
from training.methods.saved import fingerprint, read_recipe
from training.metrics import TORCH, Parity, Scores, compare
from training.models import layers_of
from training.models.prune import take_out_silent
from training.report import RECIPE, Recipe
from training.settings import Targets

PARITY = "parity.json"
TOLERANCE = 0.005  # of nDCG@10, relative: 8 bits against torch
FP32, INT8 = "fp32", "8 bits"
_SAMPLE = Path(engine.__file__).parent / "sample"
_SAMPLE_PER_QUERY = 12
_MAX_DEVIATION = 1e-3  # of a logit: fp32 ONNX against the original
_MAX_CALIBRATION = 512  # pairs; more change nothing
_BATCH = 8
Sequences = list[list[int]]


@dataclass(frozen=True, slots=True)
class Export:
    """What an export gave; sizes in bytes."""

    directory: Path
    card: RerankerCard
    parity: Parity
    fp32_bytes: int
    model_bytes: int


@dataclass(frozen=True, slots=True)
class _Original:
    model: Any
    tokenizer: Any
    recipe: Recipe


def export(
    model: str | Path,
    out: str | Path,
    *,
    quantize: bool = True,
    adapters: Targets | None = None,
    judged: str | Path | None = None,
    calibration: str | Path | None = None,
    tolerance: float = TOLERANCE,
) -> Export:
    """Writes ``model``, a directory that transformers saved, as a reranker directory ``out``; replaces one there.

    ``quantize`` makes 8 bits of it, with scales found on the ``calibration`` examples, and measures the loss on the
    ``judged`` ones. Without these files, both are queries and products of the sample catalog, and the loss is against
    the order that the original gives. ``adapters`` says of which layers adapters may be chosen per request; then there
    is a second graph. The same input gives the same bytes with the same versions of the tools.

    Raises ModelError when the model cannot be loaded or converted, when fp32 deviates from it, or when 8 bits lose more
    than ``tolerance`` of its nDCG@10; then ``out`` is as it was.
    """
    if not 0 <= tolerance < 1:
        raise ConfigError(f"tolerance is {tolerance}; it is a share of nDCG@10, from 0 to below 1")
    model, out = Path(model), Path(out)
    with publishing(out, CARD, "reranker") as work:
        fitting, examples = examples_of(calibration, judged)
        original = _load(model)
        card = _write_fp32(original, work, adapters)
        logits = {TORCH: _torch_logits(original, examples), FP32: _served_logits(work, examples)}
        fp32_bytes = (work / MODEL).stat().st_size
        labels = Path(judged).name if judged else None
        parity = _checked_fp32(card, compare(examples, labels, logits))
        if quantize:
            card = _quantise(card, work, fitting)
            logits[INT8] = _served_logits(work, examples)
            parity = _checked_int8(card, compare(examples, labels, logits), tolerance)
        done = Export(out, card, parity, fp32_bytes, (work / MODEL).stat().st_size)
        write_json(work / PARITY, parity)
        (work / README).write_text(_model_card(done, original.recipe, work), encoding="utf-8")
    return done


# Pairs


def examples_of(calibration: str | Path | None, judged: str | Path | None) -> tuple[list[Example], list[Example]]:
    """Those to calibrate on, and those to compare on, in the order of their queries' ids."""
    fitting, examples = (
        read_examples(path) if path else _sample(half) for half, path in ((0, calibration), (1, judged))
    )
    if judged:
        require_both_classes(judged, examples)
    return fitting[:: -(-len(fitting) // _MAX_CALIBRATION)], sorted(examples, key=lambda example: example.query_id)


def _sample(half: int) -> list[Example]:
    """Every other query of the sample catalog, with some of the products it was judged with. Labels mean nothing."""
    products = {product.product_id: encoded_text(product) for product in read_catalog(_SAMPLE / "corpus.jsonl")}
    rows = (line.split("\t") for line in (_SAMPLE / "queries.synthetic.tsv").read_text("utf-8").splitlines())
    queries = dict(list(rows)[half::2])
    judgments = (line.split() for line in (_SAMPLE / "qrels.synthetic.txt").read_text("utf-8").splitlines())
    return [
        Example(query_id, queries[query_id], 0.0, products[product_id])
        for query_id, of_query in groupby(judgments, lambda judgment: judgment[0])
        if query_id in queries
        for _, _, product_id, _ in _spread(list(of_query), _SAMPLE_PER_QUERY)
    ]


def _spread(items: list[Any], n: int) -> list[Any]:
    """At most ``n`` of the items, evenly from first to last."""
    return items[:: max(len(items) // n, 1)][:n]


# Loading


def _load(directory: Path) -> _Original:
    """The model, in fp32, with its tokenizer. Nothing is fetched, unpickled or run that the directory brings."""
    recipe = _recipe(directory)
    if not list(directory.glob("*.safetensors")):
        pickles = "".join(f", and {path.name} is a pickle, which could run code" for path in directory.glob("*.bin"))
        raise ModelError(
            f"{directory} has no *.safetensors{pickles}. Give a directory that transformers' save_pretrained wrote"
        )
    safe = {"local_files_only": True, "trust_remote_code": False}
    try:
        with without_progress_bars():
            tokenizer = AutoTokenizer.from_pretrained(str(directory), **safe)
            # Eager attention is what the exporter can trace.
            model, found = AutoModelForSequenceClassification.from_pretrained(
                str(directory), use_safetensors=True, attn_implementation="eager", dtype=torch.float32,
                output_loading_info=True, **safe,
            )  # fmt: skip
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"cannot load the model {directory} ({first_line(error)}). Give the directory of a cross-encoder that "
            "transformers' save_pretrained wrote, with its tokenizer beside it"
        ) from error
    if found["missing_keys"]:
        raise ModelError(
            f"{directory} lacks the weights {', '.join(sorted(found['missing_keys'])[:3])}: it is no fine-tuned "
            "cross-encoder. Train it first"
        )
    if model.config.num_labels != 1:
        raise ModelError(f"{directory} has num_labels {model.config.num_labels}; a reranker gives 1 logit")
    room, needed = model.config.max_position_embeddings, recipe.query_tokens + recipe.product_tokens + 3
    if needed > room:
        raise ModelError(
            f"{directory / RECIPE}: query_tokens {recipe.query_tokens} and product_tokens {recipe.product_tokens} with "
            f"3 special tokens make {needed}, and the model reads at most {room}. Lower them"
        )
    return _Original(reopened(model.eval(), directory).solid(), tokenizer, recipe)


def _recipe(directory: Path) -> Recipe:
    recipe = read_recipe(directory) or Recipe()
    return msgspec.structs.replace(recipe, name=recipe.name or directory.absolute().name)


# Converting


class _Exported(torch.nn.Module):
    """The model with ids and mask in and logits out, one a row, all of token type 0."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)
        take_out_silent(self.model)
        layers = layers_of(self.model)
        prompted = any(isinstance(module, SolidPrompt) for module in model.modules())  # then others are first
        if layers and not prompted and hasattr(layers[-1], "feed_forward_chunk"):
            layers[-1] = _FirstToken(layers[-1])

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        mask = (1 - attention_mask[:, None, None, :].float()) * MASKED
        logits: torch.Tensor = self.model(input_ids=input_ids, attention_mask=mask).logits
        return logits[:, 0]


class _FirstToken(torch.nn.Module):
    """A layer as BERT has it, for the first token only, which attends to all of them."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        first = hidden[:, :1]
        context = attend(self.layer.attention.self, first, hidden, mask)
        result: torch.Tensor = self.layer.feed_forward_chunk(self.layer.attention.output(context, first))
        return result


def _write_fp32(original: _Original, work: Path, adapters: Targets | None) -> RerankerCard:
    recipe = original.recipe
    write_tokenizer(original.tokenizer, work, recipe.name)
    ids = torch.arange(1, 9).reshape(2, 4) % original.model.config.vocab_size
    exported, base = _Exported(original.model), None
    write_graph(exported, ids, "logits", work, recipe.name)
    if adapters:
        shapes = write_adaptable(
            exported, targets_of(exported.model, adapters), ids, "logits", work, recipe.name
        )  # fmt: skip
        base = AdapterBase(base=fingerprint(original.model.state_dict()), targets=shapes)
    card = RerankerCard(
        name=recipe.name, query_tokens=recipe.query_tokens, product_tokens=recipe.product_tokens, scale=recipe.scale,
        offset=recipe.offset, sha256={}, source=recipe.source, license=recipe.license, adapters=base,
    )  # fmt: skip
    return _seal(work, card)


def _seal(work: Path, card: RerankerCard) -> RerankerCard:
    """Writes the card with the checksums of what is there now."""
    sealed = msgspec.structs.replace(card, sha256=checksums(work))
    write_json(work / CARD, sealed)
    return sealed


def _quantise(card: RerankerCard, work: Path, fitting: Sequence[Example]) -> RerankerCard:
    served = CrossEncoderModel(work)
    feeds = [batch for _, batch in _batches(_served_sequences(served, fitting))]
    to_static_8_bits(work / MODEL, work / f"{MODEL}.8", feeds)
    (work / f"{MODEL}.8").replace(work / MODEL)
    if card.adapters:
        quantise_adaptable(work, card.adapters, to_static_8_bits, feeds)
    return _seal(work, card)


# Comparing


def _torch_logits(original: _Original, examples: Sequence[Example]) -> Scores:
    tokenizer, recipe = original.tokenizer, original.recipe

    def encode(texts: list[str]) -> Sequences:
        cut = [text[:MAX_CHARACTERS] for text in texts]
        return list(tokenizer(cut, add_special_tokens=False, verbose=False)["input_ids"])

    def logits(feeds: Feeds) -> NDArray[np.float32]:
        rows: torch.Tensor = original.model(**{name: torch.from_numpy(array) for name, array in feeds.items()}).logits
        return rows[:, 0].numpy()

    special = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.sep_token_id
    with torch.inference_mode(), torch_on_one_thread():
        return _run(_sequences(encode, special, recipe.query_tokens, recipe.product_tokens, examples), logits)


def _served_logits(work: Path, examples: Sequence[Example]) -> Scores:
    served = CrossEncoderModel(work)
    return _run(_served_sequences(served, examples), lambda feeds: served.session.run(None, dict(feeds))[0])


def _served_sequences(served: CrossEncoderModel, examples: Sequence[Example]) -> Sequences:
    def encode(texts: list[str]) -> Sequences:
        cut = [text[:MAX_CHARACTERS] for text in texts]
        return [encoding.ids for encoding in served.tokenizer.encode_batch(cut, add_special_tokens=False)]

    return _sequences(encode, served.special, served.card.query_tokens, served.card.product_tokens, examples)


def _sequences(
    encode: Callable[[list[str]], Sequences],
    special: tuple[int, int, int],
    query_tokens: int,
    product_tokens: int,
    examples: Sequence[Example],
) -> Sequences:
    first, between, last = special
    queries, products = encode([e.query for e in examples]), encode([e.product for e in examples])
    return [
        [first, *query[:query_tokens], between, *product[:product_tokens], last]
        for query, product in zip(queries, products, strict=True)
    ]


def _run(sequences: Sequences, model: Callable[[Feeds], Any]) -> Scores:
    logits = np.empty(len(sequences), np.float32)
    for places, feeds in _batches(sequences):
        logits[places] = model(feeds)
    return logits


def _batches(sequences: Sequences) -> Iterator[tuple[NDArray[np.int64], Feeds]]:
    """Places in ``sequences``, of like length, and the model's inputs for them."""
    lengths = np.array([len(sequence) for sequence in sequences])
    order = np.argsort(lengths, kind="stable")
    for begin in range(0, len(order), _BATCH):
        places = order[begin : begin + _BATCH]
        mask = (np.arange(lengths[places].max()) < lengths[places, None]).astype(np.int64)
        ids = np.zeros_like(mask)
        ids[mask == 1] = np.concatenate([sequences[place] for place in places])
        yield places, {"input_ids": ids, "attention_mask": mask}


def _checked_fp32(card: RerankerCard, parity: Parity) -> Parity:
    deviation = parity.forms[FP32].max_difference
    if not deviation <= _MAX_DEVIATION:
        raise ModelError(
            f"the exported {card.name} is not the original: over {parity.n_pairs} pairs a logit deviates by "
            f"{deviation:.1e}, allowed is {_MAX_DEVIATION:.0e}. Nothing was written"
        )
    return parity


def _checked_int8(card: RerankerCard, parity: Parity, tolerance: float) -> Parity:
    if not parity.loss(INT8) <= tolerance:
        raise ModelError(
            f"{card.name} does not survive 8 bits: over {parity.n_queries} queries it loses {parity.loss(INT8):.2%} of "
            f"nDCG@10 by {parity.judged_by}, allowed is {tolerance:.2%}. Nothing was written. Keep fp32 (--fp32), "
            "calibrate on pairs like those it will score (--calibration) or allow more (--tolerance)"
        )
    return parity


# The model card


def _model_card(done: Export, recipe: Recipe, work: Path) -> str:
    card, parity = done.card, done.parity
    exported = [
        f"Exported to ONNX (opset {OPSET}): ids and mask in, one logit a pair out; the last layer computes the first "
        "token only.",
        f"Reads [CLS] query [SEP] product [SEP], the query cut to {card.query_tokens} tokens, the product to "
        f"{card.product_tokens}.",
        f"A logit's probability of relevance is sigmoid({card.scale:g} · logit + {card.offset:g}).",
    ]
    if card.adapters:
        n = len(card.adapters.targets)
        exported.append(
            f"Adapters to {n} layers can be chosen per request: {ADAPTABLE} takes their matrices as inputs."
        )
    if INT8 in parity.forms:
        exported.append(
            "Smoothed (SmoothQuant); weights in 8 bits per channel, activations in 8 bits with scales that stay the "
            "same, so that a score does not depend on what else is scored. Not trained further."
        )
    notes = recipe.card.strip() or "The trainer left no notes on data, recipe, metrics and limits."
    lines = [
        f"# {card.name}, a reranker for product search", "",
        f"- Source: {card.source or 'not stated'}", f"- Licence: {card.license or 'not stated'}", "",
        notes, "",
        "## Export", "", *(f"- {line}" for line in exported),
        tools(), "",
        "## Parity", "",
        f"Against the original in torch, over {parity.n_pairs} pairs of {parity.n_queries} queries; nDCG@10 by "
        f"{parity.judged_by}.", "", *parity.table(), "",
        *files_table(card.sha256, work), "",
        f"As fp32 the model has {done.fp32_bytes / 1e6:.1f} MB. To use it, name this directory as the reranker when an "
        "index is built: `aisle build CATALOG --out INDEX --reranker DIR`.", "",
    ]  # fmt: skip
    return "\n".join(lines)
