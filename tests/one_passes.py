"""A one-pass encoder in miniature: at every token, the cosine between the query's words and those of its own part."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engine.product import Product
from ranking.onepass import CARD, INPUTS, OnePassCard
from tests.rerankers import checksums, directions, write_model


def write_one_pass(directory: Path, products: list[Product], list_size: int = 7) -> Path:
    """A directory whose tokenizer knows the words of ``products``."""
    write_model(directory, products)
    vocabulary = numpy_helper.to_array(onnx.load(str(directory / "model.onnx")).graph.initializer[0]).shape[0]
    onnx.save(_model(vocabulary), str(directory / "model.onnx"))
    card = OnePassCard(
        name="words", query_tokens=8, product_tokens=24, list_size=list_size, sha256=checksums(directory)
    )  # fmt: skip
    (directory / CARD).write_bytes(msgspec.json.encode(card))
    return directory


def _model(vocabulary: int) -> onnx.ModelProto:
    constants = {
        "directions": directions(vocabulary), "first": np.array([1]), "last": np.array([2]), "query": np.int64(0),
        "small": np.float32(1e-3), "six": np.float32(6),
    }  # fmt: skip
    steps = [
        ("Gather", ["directions", "input_ids"], "words", {}),
        ("Unsqueeze", ["parts", "last"], "mine", {}),
        ("Unsqueeze", ["parts", "first"], "others", {}),
        ("Equal", ["mine", "others"], "same", {}),
        ("Cast", ["same"], "together", {"to": TensorProto.FLOAT}),
        ("MatMul", ["together", "words"], "part_sum", {}),
        ("Equal", ["mine", "query"], "asked", {}),
        ("Cast", ["asked"], "query_mask", {"to": TensorProto.FLOAT}),
        ("Mul", ["words", "query_mask"], "query_words", {}),
        ("ReduceSum", ["query_words", "first"], "query_sum", {"keepdims": 1}),
    ]
    for side in ("part", "query"):
        steps += [
            ("ReduceL2", [f"{side}_sum"], f"{side}_norm", {"axes": [2], "keepdims": 1}),
            ("Add", [f"{side}_norm", "small"], f"{side}_length", {}),
            ("Div", [f"{side}_sum", f"{side}_length"], f"{side}_unit", {}),
        ]
    steps += [
        ("Mul", ["part_unit", "query_unit"], "common", {}),
        ("ReduceSum", ["common", "last"], "cosine", {"keepdims": 0}),
        ("Mul", ["cosine", "six"], "logits", {}),
    ]
    graph = helper.make_graph(
        [helper.make_node(op, ins, [out], **more) for op, ins, out, more in steps], "words",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "length"]) for name in INPUTS],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", "length"])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 8
    return made
