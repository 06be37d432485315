"""A cross-encoder in miniature: its logit is the cosine between the query's words and the product's, times six.

Words have fixed random directions, so that it answers by words in common, and any token that changes changes a score.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from engine.adapters import ADAPTABLE, AdapterBase
from engine.product import Product
from ranking.card import CARD, RerankerCard

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
DIM = 48
ADAPTERS = AdapterBase(base="0123456789abcdef", targets={"words": (DIM, DIM)})
_SEPARATOR = SPECIAL.index("[SEP]")


def write_model(directory: Path, products: list[Product], *, adaptable: bool = False, **card: Any) -> Path:
    """A reranker directory whose tokenizer knows the words of ``products``. ``card`` overrides what its card says.

    ``adaptable`` lets an adapter change the words' directions: its one target is ``words``.
    """
    directory.mkdir(parents=True, exist_ok=True)
    text = " ".join(" ".join((p.title, p.description, *p.category)) for p in products)
    words = sorted({word for word, _ in split_words().pre_tokenize_str(text.lower())})
    word_level(words).save(str(directory / "tokenizer.json"))
    onnx.save(_model(len(SPECIAL) + len(words)), str(directory / "model.onnx"))
    if adaptable:
        onnx.save(_model(len(SPECIAL) + len(words), adaptable=True), str(directory / ADAPTABLE))
        card = {"adapters": ADAPTERS, **card}
    seal(directory, **card)
    return directory


def seal(directory: Path, **card: Any) -> None:
    """Writes the card of the files that are there."""
    sha256 = checksums(directory)
    settings = {"name": "words", "query_tokens": 8, "product_tokens": 24, "sha256": sha256, **card}
    (directory / CARD).write_bytes(msgspec.json.encode(RerankerCard(**settings)))


def checksums(directory: Path) -> dict[str, str]:
    files = [directory / name for name in ("model.onnx", "tokenizer.json", ADAPTABLE)]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.exists()}


class SlowSession:
    """A session that takes ``seconds`` a row longer, and counts rows. It fails where ``broken`` says so."""

    def __init__(self, session: Any, seconds: float = 0.0, broken: bool = False) -> None:
        self._session, self.seconds, self.broken = session, seconds, broken
        self.n_rows = 0

    def run(self, names: Any, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        if self.broken:
            raise RuntimeError("the model is gone")
        rows = len(feeds["input_ids"])
        self.n_rows += rows
        time.sleep(self.seconds * rows)
        return self._session.run(names, feeds)


def split_words() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(r"\w+"), "removed", invert=True)


def word_level(words: list[str]) -> Tokenizer:
    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = split_words()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", _SEPARATOR), ("[CLS]", SPECIAL.index("[CLS]")))
    return tokenizer


def directions(vocabulary: int) -> np.ndarray:
    """Of words, float32 (n, DIM); special tokens have none."""
    drawn = np.random.default_rng(11).standard_normal((vocabulary, DIM)).astype(np.float32)
    drawn[: len(SPECIAL)] = 0
    return drawn


#: How an adapter changes ``plain``, what was looked up of the directions, to ``words``.
ADAPTING = [
    ("MatMul", ["plain", "words.A"], "low"),
    ("MatMul", ["low", "words.B"], "change"),
    ("Add", ["plain", "change"], "words"),
]
MATRICES = {"words.A": [DIM, "rank"], "words.B": ["rank", DIM]}


def graph_of(
    steps: list[Any], constants: Mapping[str, Any], adaptable: bool, output: str, shape: list[Any]
) -> onnx.ModelProto:  # fmt: skip
    """A model of ids and mask, and of matrices where it is adaptable."""
    nodes = [helper.make_node(op, ins, [out], **(rest[0] if rest else {})) for op, ins, out, *rest in steps]
    inputs = [
        helper.make_tensor_value_info(n, TensorProto.INT64, ["n", "length"]) for n in ("input_ids", "attention_mask")
    ]
    for name, size in MATRICES.items() if adaptable else ():
        inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, size))
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)]
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "words", inputs, outputs, weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 8
    return made


def _model(vocabulary: int, adaptable: bool = False) -> onnx.ModelProto:
    """The query is what stands before the first separator, the product what stands after it."""
    constants = {
        "directions": directions(vocabulary), "separator": np.int64(_SEPARATOR), "axis": np.int64(1),
        "last": np.array([2]), "along": np.array([1]), "one": np.float32(1), "small": np.float32(1e-3),
        "six": np.float32(6),
    }  # fmt: skip
    steps = [
        ("Equal", ["input_ids", "separator"], "ends"),
        ("Cast", ["ends"], "ends_f", {"to": TensorProto.FLOAT}),
        ("CumSum", ["ends_f", "axis"], "part", {"exclusive": 1}),
        ("Min", ["part", "one"], "in_product"),
        ("Cast", ["attention_mask"], "mask", {"to": TensorProto.FLOAT}),
        ("Mul", ["in_product", "mask"], "product_mask"),
        ("Sub", ["mask", "product_mask"], "query_mask"),
        ("Gather", ["directions", "input_ids"], "plain" if adaptable else "words"),
        *(ADAPTING if adaptable else ()),
    ]
    for side in ("query", "product"):
        steps += [
            ("Unsqueeze", [f"{side}_mask", "last"], f"{side}_column"),
            ("Mul", ["words", f"{side}_column"], f"{side}_words"),
            ("ReduceSum", [f"{side}_words", "along"], f"{side}_sum", {"keepdims": 0}),
            ("ReduceL2", [f"{side}_sum"], f"{side}_norm", {"axes": [1], "keepdims": 1}),
            ("Add", [f"{side}_norm", "small"], f"{side}_length"),
            ("Div", [f"{side}_sum", f"{side}_length"], f"{side}_unit"),
        ]
    steps += [
        ("Mul", ["query_unit", "product_unit"], "common"),
        ("ReduceSum", ["common", "along"], "cosine", {"keepdims": 0}),
        ("Mul", ["cosine", "six"], "logits"),
    ]
    return graph_of(steps, constants, adaptable, "logits", ["n"])
