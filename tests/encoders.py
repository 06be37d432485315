"""An encoder in miniature: a text's vector is the mean of its words' fixed random directions, of unit length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx

from engine.dense.encoder import CARD, EncoderCard
from engine.product import Product
from engine.text import encoded_text
from tests.rerankers import ADAPTERS, ADAPTING, DIM, SPECIAL, checksums, directions, graph_of, split_words, word_level


def write_encoder(directory: Path, products: list[Product], *, adaptable: bool = True, **card: Any) -> Path:
    """An encoder directory that knows the words of ``products``; an adapter can change ``words``, their directions."""
    directory.mkdir(parents=True, exist_ok=True)
    texts = " ".join(encoded_text(product) for product in products)
    words = sorted({word for word, _ in split_words().pre_tokenize_str(texts.lower())})
    word_level(words).save(str(directory / "tokenizer.json"))
    for name, adapting in (("model.onnx", False), ("adaptable.onnx", True))[: 1 + adaptable]:
        onnx.save(_model(len(SPECIAL) + len(words), adapting), str(directory / name))
    settings = {"adapters": ADAPTERS if adaptable else None, "sha256": checksums(directory), **card}
    made = EncoderCard(format=1, name="words", dim=DIM, max_tokens=64, **settings)
    (directory / CARD).write_bytes(msgspec.json.encode(made))
    return directory


def _model(vocabulary: int, adaptable: bool) -> onnx.ModelProto:
    constants = {"directions": directions(vocabulary), "small": np.float32(1e-3), "along": np.array([1])}
    constants["directions"][: len(SPECIAL)] = 1e-2  # so that every text has a vector
    steps = [
        ("Gather", ["directions", "input_ids"], "plain" if adaptable else "words"),
        *(ADAPTING if adaptable else ()),
        ("ReduceSum", ["words", "along"], "sum", {"keepdims": 0}),
        ("LpNormalization", ["sum"], "embedding", {"axis": -1, "p": 2}),
    ]
    return graph_of(steps, constants, adaptable, "embedding", ["n", DIM])
