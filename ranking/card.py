"""What ``reranker.json`` says of the cross-encoder beside it."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from engine.adapters import AdapterBase

CARD = "reranker.json"


class RerankerCard(msgspec.Struct, frozen=True, kw_only=True):
    """A model directory's card. ``sha256`` covers ``model.onnx``, ``tokenizer.json`` and ``adaptable.onnx``.

    The model reads ``[CLS] query [SEP] product [SEP]``, the query cut to ``query_tokens`` and the product to
    ``product_tokens``, special tokens not counted. A logit's probability of relevance is
    ``sigmoid(scale · logit + offset)`` (Platt 1999). ``adapters``, where there is an ``adaptable.onnx``, says which
    fit it. ``source`` and ``license`` are for people.
    """

    format: int = 1
    name: str
    query_tokens: Annotated[int, Meta(ge=1)]
    product_tokens: Annotated[int, Meta(ge=1)]
    scale: Annotated[float, Meta(gt=0)] = 1.0
    offset: float = 0.0
    sha256: dict[str, str]
    source: str = ""
    license: str = ""
    adapters: AdapterBase | None = None
