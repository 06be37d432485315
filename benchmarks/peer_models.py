"""The peers' model in every form that is measured: a checkpoint, its export as Aisle serves it, and its plain trace."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from tokenizers import Tokenizer
from transformers import AutoModelForSequenceClassification, BertConfig, BertForSequenceClassification
from transformers import PreTrainedTokenizerFast as FastTokenizer

from benchmarks.graphs import Graph, Shape
from engine.model_files import MODEL
from ranking.card import CARD
from ranking.cross_encoder import RERANKERS, CrossEncoderModel
from training.export import without_progress_bars, write_graph, write_json
from training.export.quantize import without_advice
from training.export.reranker import export

_POSITIONS = 512


@dataclass(frozen=True, slots=True)
class PeerModel:
    """``checkpoint`` is transformers', ``fp32`` a reranker directory; ``plain`` and ``plain_int8`` are graphs.

    ``origin`` says, for people, whose weights these are.
    """

    checkpoint: Path
    fp32: Path
    plain: Path
    plain_int8: Path
    origin: str


def peer_model(checkpoint: Path | None, served: CrossEncoderModel, graph: Graph, work: Path) -> PeerModel:
    """Makes the forms below ``work``; without a checkpoint, of random weights in the shape of the ``served`` one.

    Raises ModelError where the checkpoint cannot be used.
    """
    origin = str(checkpoint)
    if checkpoint is None:
        origin = f"random weights in the shape of {served.card.name}: speed does not depend on weights"
        checkpoint = _random(graph.shape(), served, work / "checkpoint")
    fp32, plain = work / "fp32", work / "plain"
    _export(checkpoint, fp32, served, work)
    plain.mkdir()
    _trace(checkpoint, plain)
    with without_advice():
        quantize_dynamic(plain / MODEL, plain / "int8.onnx", per_channel=True, weight_type=QuantType.QInt8)
    return PeerModel(checkpoint, fp32, plain / MODEL, plain / "int8.onnx", origin)


def _random(shape: Shape, served: CrossEncoderModel, directory: Path) -> Path:
    tokenizer: Tokenizer = served.tokenizer
    first, separator, _ = map(tokenizer.id_to_token, served.special)
    FastTokenizer(
        tokenizer_object=tokenizer, cls_token=first, sep_token=separator, pad_token=tokenizer.id_to_token(0)
    ).save_pretrained(directory)  # fmt: skip
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=shape.vocabulary, hidden_size=shape.hidden, intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_labels=1,
        max_position_embeddings=_POSITIONS,
    )  # fmt: skip
    with without_progress_bars():
        BertForSequenceClassification(config).save_pretrained(directory)
    return directory


def _export(checkpoint: Path, out: Path, served: CrossEncoderModel, work: Path) -> None:
    """The checkpoint as Aisle serves it in fp32, reading as much of a query and a product as ``served`` does."""
    judged = work / "judged.jsonl"  # the least that the export's comparison takes: speed is measured here, not quality
    product = {"product_id": "p", "title": "a product"}
    rows = [{"query_id": "q", "query": "a query", "label": label, "product": product} for label in (0.0, 1.0)]
    judged.write_text("".join(json.dumps(row) + "\n" for row in rows))
    export(checkpoint, out, quantize=False, judged=judged)
    window = {name: getattr(served.card, name) for name in ("query_tokens", "product_tokens")}
    write_json(out / CARD, msgspec.structs.replace(RERANKERS.read_card(out), **window))


class _Plain(torch.nn.Module):
    """The model as it is, ids and mask in, one logit a row out."""

    def __init__(self, checkpoint: Path) -> None:
        super().__init__()
        with without_progress_bars():
            self.model = AutoModelForSequenceClassification.from_pretrained(
                str(checkpoint), attn_implementation="eager", dtype=torch.float32, use_safetensors=True,
                local_files_only=True, trust_remote_code=False,
            ).eval()  # fmt: skip

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits[:, 0]


def _trace(checkpoint: Path, out: Path) -> None:
    write_graph(_Plain(checkpoint), torch.arange(1, 9).reshape(2, 4), "logits", out, str(checkpoint))
