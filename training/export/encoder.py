"""Converts a sentence-transformers model to the encoder directory that ``engine.dense.encoder`` serves.

The converted model takes ids and mask and gives unit vectors, so that serving needs onnxruntime and a tokenizer only.
It is compared with the original before it is published, and refused when it differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime as ort
import torch
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

import engine
from engine.adapters import AdapterBase
from engine.dense.encoder import CARD, EncoderCard, OnnxEncoder
from engine.errors import ConfigError, ModelError
from engine.product import from_json
from engine.seams import Embeddings
from engine.text import encoded_text
from training.export import (
    MODEL,
    OPSET,
    README,
    TOKENIZER,
    checksums,
    power_of_ten,
    publishing,
    torch_on_one_thread,
    write_graph,
    write_json,
    write_tokenizer,
)
from training.export.adaptable import quantise_adaptable, targets_of, write_adaptable
from training.export.quantize import Feeds, to_8_bits
from training.methods import reopened
from training.methods.modules import SolidPrefix, SolidPrompt
from training.methods.saved import fingerprint, read_recipe
from training.models import BaseModel, find_base, licence
from training.models.bi_encoder import load_sentence_transformer, transformer_of
from training.report import Recipe
from training.settings import Targets

_SAMPLE = Path(engine.__file__).parent / "sample" / "corpus.jsonl"
_MAX_DEVIATION = 1e-4  # of a cosine from 1: fp32 ONNX against the original
_MIN_MEAN_COSINE = 0.98  # 8 bits against fp32
_DEFAULT_TOKENS = 512  # where neither the model nor its tokenizer sets a limit


class Figures(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Measurements for the model card: what they are, and per row its columns' numbers."""

    caption: str
    rows: dict[str, dict[str, float | int | str]]

    @classmethod
    def read(cls, path: str | Path) -> Figures:
        """Reads a JSON file. Raises ConfigError naming it."""
        try:
            return msgspec.json.decode(Path(path).read_bytes(), type=cls)
        except OSError as error:
            raise ConfigError(f"cannot read the figures {path}: {error.strerror}") from error
        except msgspec.MsgspecError as error:
            raise ConfigError(f"{path}: {error}") from error


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a conversion gave. Cosines are against fp32 ONNX, None without 8 bits; sizes in bytes."""

    directory: Path
    card: EncoderCard
    n_texts: int
    max_deviation: float
    mean_cosine: float | None
    min_cosine: float | None
    fp32_bytes: int
    model_bytes: int


def convert(
    model: str | Path,
    out: str | Path,
    *,
    quantize: bool = True,
    max_tokens: int | None = None,
    query_prefix: str | None = None,
    product_prefix: str | None = None,
    dimensions: int | None = None,
    adapters: Targets | None = None,
    figures: Figures | None = None,
) -> Conversion:
    """Writes ``model``, a directory or a hub's name, as an encoder directory ``out``; replaces an encoder there.

    ``quantize`` stores weights in 8 bits: a quarter of the size, and faster. ``max_tokens`` can lower the model's own
    limit. A prefix of None is the model's own prompt for queries and documents. ``dimensions`` keeps so many numbers of
    a vector, for models that were trained to be cut. ``adapters`` says of which layers adapters of queries may be
    chosen per request; then there is a second graph. ``figures`` go into the model card.
    The same input gives the same bytes with the same versions of the tools. Raises ModelError when the model cannot be
    loaded or converted, or when what came out differs from it; then ``out`` is as it was.
    """
    out = Path(out)
    with publishing(out, CARD, "encoder") as work:
        source = find_base(str(model))
        recipe = read_recipe(Path(source.location)) or Recipe()
        name = recipe.name or source.name
        original = _load(source)
        original.max_seq_length = limit = _token_limit(original, max_tokens, name)
        original.truncate_dim = _dimensions(original, dimensions, name)
        base = _export(original, work, name, adapters)
        _write_card(work, name, limit, query_prefix, product_prefix, original.prompts or {}, base)
        conversion = _checked(original, work, out, quantize)
        (work / README).write_text(_model_card(conversion, source, recipe, figures), encoding="utf-8")
    return conversion


# Loading


def _load(source: BaseModel) -> SentenceTransformer:
    """With eager attention, which the exporter can trace and onnxruntime fuses, and without peft."""
    original = load_sentence_transformer(source, "eager")
    holder = transformer_of(original)
    if Path(source.location).is_dir():
        holder.model = reopened(holder.model, Path(source.location)).solid()
    return original


def _token_limit(original: SentenceTransformer, wanted: int | None, name: str) -> int:
    transformer = transformer_of(original).model
    room = getattr(transformer.config, "max_position_embeddings", _DEFAULT_TOKENS)
    if isinstance(transformer, SolidPrefix | SolidPrompt):
        room -= transformer.n_tokens
    own = min(original.max_seq_length or _DEFAULT_TOKENS, room)
    if wanted is not None and not 8 <= wanted <= own:
        raise ConfigError(f"max_tokens is {wanted}; {name} takes from 8 to {own}")
    return wanted or own


def _dimensions(original: SentenceTransformer, wanted: int | None, name: str) -> int | None:
    whole = original.get_embedding_dimension()
    if wanted is not None and not 1 <= wanted <= whole:
        raise ConfigError(f"dimensions is {wanted}; {name} gives vectors of {whole}, of which it can keep 1 to {whole}")
    return wanted


# Converting


class _Exported(torch.nn.Module):
    """The whole model with ids and mask in and unit vectors out, whatever else its layers could take."""

    def __init__(self, original: SentenceTransformer) -> None:
        super().__init__()
        self.original = original

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        features = self.original({"input_ids": input_ids, "attention_mask": attention_mask})
        return torch.nn.functional.normalize(features["sentence_embedding"][:, : self.original.truncate_dim], dim=-1)


def _export(original: SentenceTransformer, work: Path, name: str, adapters: Targets | None) -> AdapterBase | None:
    """Writes fp32 ``model.onnx`` and ``tokenizer.json``, and ``adaptable.onnx``; returns what adapters fit that."""
    tokenizer = write_tokenizer(original.tokenizer, work, name)
    ids = torch.tensor([tokenizer.encode(text).ids[:4] for text in ("one two three four", "five six seven eight")])
    exported, transformer = _Exported(original), transformer_of(original).model
    write_graph(exported, ids, "embedding", work, name)
    if adapters is None:
        return None
    shapes = write_adaptable(exported, targets_of(transformer, adapters), ids, "embedding", work, name)
    weights = {path: tensor for path, tensor in transformer.state_dict().items() if not path.startswith("pooler.")}
    return AdapterBase(base=fingerprint(weights), targets=shapes)


def _write_card(
    work: Path, name: str, limit: int, query_prefix: str | None, product_prefix: str | None,
    prompts: Mapping[str, str], adapters: AdapterBase | None,
) -> None:  # fmt: skip
    session = ort.InferenceSession((work / MODEL).read_bytes(), providers=["CPUExecutionProvider"])
    card = EncoderCard(
        format=1,
        name=name,
        dim=session.get_outputs()[0].shape[-1],
        max_tokens=limit,
        sha256={},
        query_prefix=prompts.get("query", "") if query_prefix is None else query_prefix,
        product_prefix=prompts.get("document", "") if product_prefix is None else product_prefix,
        adapters=adapters,
    )
    _seal(work, card)


def _seal(work: Path, card: EncoderCard) -> EncoderCard:
    """Writes the card with the checksums of what is there now."""
    sealed = msgspec.structs.replace(card, sha256=checksums(work))
    write_json(work / CARD, sealed)
    return sealed


# Checking and publishing


def _checked(original: SentenceTransformer, work: Path, out: Path, quantize: bool) -> Conversion:
    """Quantises, and compares each step with the one before. Raises ModelError when they differ too much."""
    texts = _sample_texts()
    served = OnnxEncoder(work, max_tokens=original.max_seq_length)
    single = served.encode_queries(texts)
    reference = _reference(original, [served.card.query_prefix + text for text in texts])
    deviation = 1 - float(_cosines(single, reference).min())
    if not deviation <= _MAX_DEVIATION:
        raise ModelError(
            f"the converted {served.card.name} is not the original: over {len(texts)} texts a cosine deviates by "
            f"{deviation:.1e}, allowed is {_MAX_DEVIATION:.0e}. Nothing was written"
        )
    card, mean, least = served.card, None, None
    fp32_bytes = (work / MODEL).stat().st_size
    if quantize:
        feeds = _calibration(work, texts[::2], card.max_tokens)
        to_8_bits(work / MODEL, work / f"{MODEL}.8", feeds)
        (work / f"{MODEL}.8").replace(work / MODEL)
        if card.adapters:
            quantise_adaptable(work, card.adapters, to_8_bits, feeds)
        card = _seal(work, card)
        cosines = _cosines(OnnxEncoder(work, max_tokens=card.max_tokens).encode_queries(texts), single)
        mean, least = float(cosines.mean()), float(cosines.min())
        if not mean >= _MIN_MEAN_COSINE:
            raise ModelError(
                f"{card.name} does not survive 8 bits: the mean cosine to fp32 over {len(texts)} texts is {mean:.3f}, "
                f"at least {_MIN_MEAN_COSINE} is needed. Convert it with quantize=False (--no-quantize)"
            )
    size = (work / MODEL).stat().st_size
    return Conversion(out, card, len(texts), max(deviation, 0.0), mean, least, fp32_bytes, size)


def _calibration(work: Path, texts: list[str], limit: int) -> list[Feeds]:
    tokenizer = Tokenizer.from_file(str(work / TOKENIZER))
    rows = [np.array([tokenizer.encode(text).ids[:limit]], np.int64) for text in texts]
    return [{"input_ids": row, "attention_mask": np.ones_like(row)} for row in rows]


def _reference(original: SentenceTransformer, texts: list[str]) -> Embeddings:
    with torch_on_one_thread():
        vectors = original.encode(texts, prompt="", batch_size=1, normalize_embeddings=True, show_progress_bar=False)
    return np.asarray(vectors, np.float32)


def _sample_texts() -> list[str]:
    """Titles, and texts long enough to be cut, of the sample catalog."""
    lines = _SAMPLE.read_bytes().splitlines()
    products = [from_json(line) for line in lines]
    return [product.title for product in products[::2]] + [encoded_text(product) for product in products[::8]]


def _cosines(left: Embeddings, right: Embeddings) -> Embeddings:
    return np.asarray((left.astype(np.float64) * right).sum(axis=1))


# The model card


def _model_card(conversion: Conversion, source: BaseModel, recipe: Recipe, figures: Figures | None) -> str:
    card, bits = conversion.card, 32 if conversion.mean_cosine is None else 8
    done = [
        f"Exported to ONNX (opset {OPSET}): ids and mask in, pooled unit vectors of {card.dim} numbers out.",
        f"Texts are cut at {card.max_tokens} tokens.",
    ]
    if bits == 8:
        done.append(
            "Smoothed (SmoothQuant); weights in 8 bits per channel, activations as it runs. Not trained further."
        )
    for kind, prefix in (("queries", card.query_prefix), ("products", card.product_prefix)):
        if prefix:
            done.append(f"{kind.capitalize()} are encoded after the prefix {prefix!r}.")
    lines = [
        f"# {card.name}, as an encoder for product search", "",
        f"- Source: {recipe.source or source.origin}",
        f"- Licence: {recipe.license or f'{licence(source.location)}, that of the source'}", "",
        *([recipe.card.strip(), ""] if recipe.card else []),
        "## What was done", "", *(f"- {line}" for line in done),
        f"- Tools: torch {torch.__version__.partition('+')[0]}, sentence-transformers "
        f"{metadata.version('sentence-transformers')}, onnxruntime {ort.__version__}.", "",
        "## What came out", "", f"Compared over {conversion.n_texts} texts of the sample catalog.", "",
        "| | |", "|---|---|", f"| size as fp32 | {conversion.fp32_bytes / 1e6:.1f} MB |",
        f"| size as shipped | {conversion.model_bytes / 1e6:.1f} MB |",
        f"| largest deviation of a cosine, fp32 ONNX against torch | {power_of_ten(conversion.max_deviation)} |",
    ]  # fmt: skip
    if conversion.mean_cosine is not None:
        lines.append(f"| mean cosine, 8 bits against fp32 | {conversion.mean_cosine:.4f} |")
        lines.append(f"| lowest cosine, 8 bits against fp32 | {conversion.min_cosine:.4f} |")
    return "\n".join([*lines, *_table(figures), ""])


def _table(figures: Figures | None) -> list[str]:
    if figures is None or not figures.rows:
        return []
    columns = list(dict.fromkeys(column for row in figures.rows.values() for column in row))
    lines = ["", "## What it costs in quality", "", figures.caption, "", f"| | {' | '.join(columns)} |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    for name, row in figures.rows.items():
        lines.append(f"| {name} | {' | '.join(str(row.get(column, '')) for column in columns)} |")
    return lines
