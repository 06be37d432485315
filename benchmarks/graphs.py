"""What an ONNX model computes: its multiply-adds by length, and the shape of the BERT it was made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from engine.errors import ModelError

#: Those that multiply matrices; what else a graph does is not counted, as is usual.
_PRODUCTS = ("MatMul", "Gemm", "MatMulIntegerToFloat")
_PROBED = (8, 16, 32)  # tokens

Lengths = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides how long a BERT takes."""

    vocabulary: int
    hidden: int
    intermediate: int
    layers: int
    heads: int


class Graph:
    """A cross-encoder's graph: ids and mask in, int64 (n, tokens)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._model = onnx.load(str(path))
        self._weights = {tensor.name: tuple(tensor.dims) for tensor in self._model.graph.initializer}
        self._products = [node for node in self._model.graph.node if node.op_type in _PRODUCTS]

    def multiply_adds(self, lengths: Lengths) -> float:
        """Of all matrix products over pairs of ``lengths`` tokens, their fillings left out."""
        return float(np.polyval(self._polynomial, lengths).sum())

    @property
    def in_8_bits(self) -> bool:
        return any(node.op_type == "MatMulIntegerToFloat" for node in self._products)

    def shape(self) -> Shape:
        """Raises ModelError where the graph is not that of a BERT."""
        tables = [dims for dims in self._weights.values() if len(dims) == 2]
        attentions = [node.output[0] for node in self._model.graph.node if node.op_type == "Softmax"]
        matrices = [self._weights[node.input[1]] for node in self._products if node.input[1] in self._weights]
        if not tables or not attentions or not matrices:
            raise ModelError(f"{self._path} is no BERT, so peers of its shape cannot be made; give --peer-model DIR")
        vocabulary, hidden = max(tables)
        heads = self._values(attentions[:1], 4)[attentions[0]].shape[1]
        return Shape(vocabulary, hidden, max(map(max, matrices)), len(attentions), heads)

    @cached_property
    def _polynomial(self) -> NDArray[np.float64]:
        """Multiply-adds of one pair as a polynomial of its length: attention squares it, nothing goes beyond."""
        return np.polyfit(_PROBED, [self._counted(length) for length in _PROBED], 2)

    def _counted(self, length: int) -> int:
        """Numbers in each product's result, times how many were multiplied for one of them."""
        names = {name for node in self._products for name in (node.output[0], *self._unknown(node))}
        values = self._values(sorted(names), length)
        return sum(values[node.output[0]].size * self._depth(node, values) for node in self._products)

    def _unknown(self, node: onnx.NodeProto) -> list[str]:
        """The input whose shape says how deep a product is, where no weight does."""
        return [] if node.input[1] in self._weights else [node.input[0]]

    def _depth(self, node: onnx.NodeProto, values: Mapping[str, NDArray[np.float32]]) -> int:
        weight = self._weights.get(node.input[1])
        if weight is None:
            return int(values[node.input[0]].shape[-1])
        transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        return int(weight[1 if transposed else 0])

    def _values(self, names: list[str], length: int) -> dict[str, NDArray[np.float32]]:
        """What the named values are for one pair of ``length`` tokens."""
        probe = onnx.ModelProto()
        probe.CopyFrom(self._model)
        probe.graph.output.extend(onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in names)
        options = ort.SessionOptions()
        options.log_severity_level = 4
        session = ort.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
        ids = np.ones((1, length), np.int64)
        return dict(zip(names, session.run(names, {"input_ids": ids, "attention_mask": ids}), strict=True))
