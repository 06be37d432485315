"""A decoder's graph in 4 or 8 bits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Bits = Literal[4, 8, 32]
_CONTRIB = "com.microsoft"
_IN_8_BITS = 4  # what onnxruntime calls that accuracy_level
_BLOCK = 32  # numbers that share a scale


def to_whole_numbers(path: Path, bits: Bits) -> None:
    """Replaces the graph by one whose matrices are of whole numbers; what they multiply is made 8 bits as it comes."""
    graph = onnx.load(str(path))
    weights = {tensor.name: tensor for tensor in graph.graph.initializer}
    made: list[onnx.NodeProto] = []
    products = _Products(bits)
    for node in graph.graph.node:
        matrix = numpy_helper.to_array(weights[node.input[1]]) if _is_product(node, weights) else None
        if matrix is None or len(matrix) % _BLOCK:
            made.append(node)
        else:
            made += products.of(node.input[0], matrix, node.input[1], node.output[0])
    del graph.graph.node[:]
    graph.graph.node.extend(made)
    graph.graph.initializer.extend(products.tensors.values())
    used = {name for node in graph.graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.graph.initializer if tensor.name not in used]:
        graph.graph.initializer.remove(tensor)
    graph.opset_import.append(helper.make_opsetid(_CONTRIB, 1))
    onnx.save(graph, str(path))


def _is_product(node: onnx.NodeProto, weights: Mapping[str, onnx.TensorProto]) -> bool:
    return node.op_type == "MatMul" and node.input[1] in weights


class _Products:
    """Nodes that multiply by a matrix of whole numbers, and their ``tensors`` by name.

    In 4 bits numbers share a scale in blocks, and onnxruntime makes 8 bits of the input. In 8 bits a column of the
    matrix shares one, and so does a row of the input, which is a token: so what a token becomes depends on no other,
    and prompts can be read in parts. That multiplies three times as fast as blocks of 8 bits do where a core has VNNI.
    """

    def __init__(self, bits: Bits) -> None:
        self._bits, self._rounded = bits, set[str]()
        self.tensors: dict[str, onnx.TensorProto] = {}
        for name, value in (("least", 1e-9), ("one", 1.0), ("highest", 127.0), ("middle", 128.0)):
            self._keep(name, np.array(value, np.float32))
        self._keep("zero", np.array(128, np.uint8))

    def of(self, given: str, matrix: NDArray[np.float32], name: str, output: str) -> list[onnx.NodeProto]:
        """``output`` as ``given`` times ``matrix``, which has this name."""
        if self._bits == 4:
            numbers, scales = in_blocks(matrix)
            inputs = [given, self._keep(name, numbers), self._keep(f"{name}.scales", scales)]
            shape = {"K": matrix.shape[0], "N": matrix.shape[1]}
            return [
                helper.make_node(
                    "MatMulNBits", inputs, [output], domain=_CONTRIB, bits=4, block_size=_BLOCK,
                    accuracy_level=_IN_8_BITS, **shape,
                )
            ]  # fmt: skip
        numbers, scales = in_columns(matrix)
        inputs = [f"{given}.8", self._keep(name, numbers), self._name("one"), self._keep(f"{name}.scales", scales)]
        nodes = [] if given in self._rounded else list(self._rows(given))
        self._rounded.add(given)
        return [
            *nodes,
            helper.make_node(
                "MatMulIntegerToFloat", [*inputs, self._name("zero")], [f"{output}.8"], domain=_CONTRIB
            ),
            helper.make_node("Mul", [f"{output}.8", f"{given}.scale"], [output]),
        ]  # fmt: skip

    def _rows(self, given: str) -> Iterator[onnx.NodeProto]:
        """Each row in 8 bits, from 1 to 255 with 128 for 0, and its scale."""
        least, highest, middle = map(self._name, ("least", "highest", "middle"))
        steps: list[tuple[str, list[str], str, dict[str, Any]]] = [
            ("ReduceMax", [f"{given}.size"], "largest", {"axes": [-1]}),
            ("Max", [f"{given}.largest", least], "above", {}),
            ("Div", [f"{given}.above", highest], "scale", {}), ("Div", [given, f"{given}.scale"], "scaled", {}),
            ("Round", [f"{given}.scaled"], "whole", {}), ("Add", [f"{given}.whole", middle], "raised", {}),
            ("Cast", [f"{given}.raised"], "8", {"to": onnx.TensorProto.UINT8}),
        ]  # fmt: skip
        yield helper.make_node("Abs", [given], [f"{given}.size"])
        for operation, inputs, result, attributes in steps:
            yield helper.make_node(operation, inputs, [f"{given}.{result}"], **attributes)

    def _name(self, name: str) -> str:
        return f"{name}.{self._bits}"

    def _keep(self, name: str, values: NDArray[Any]) -> str:
        self.tensors[self._name(name)] = numpy_helper.from_array(values, self._name(name))
        return self._name(name)


def in_columns(matrix: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """A matrix (K, N) as whole numbers from -127 to 127, (K, N), and scales (N,)."""
    scales = np.maximum(np.abs(matrix).max(axis=0), 1e-9).astype(np.float32) / 127
    return np.rint(matrix / scales).astype(np.int8), scales


def in_blocks(matrix: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A matrix (K, N) as ``MatMulNBits`` has it in 4 bits: numbers (N, K / 32, 16) and scales (N, K / 32).

    The number farthest from 0 of each block becomes the lowest of the range, as in llama.cpp's Q4_0; 8 stands for 0,
    and two numbers share a byte, the first in its low half.
    """
    blocks = matrix.T.reshape(matrix.shape[1], -1, _BLOCK).astype(np.float32)
    farthest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=2)[..., None], axis=2)
    scales = np.where(farthest == 0, 1, farthest / -8).astype(np.float32)
    numbers = np.clip(np.rint(blocks / scales) + 8, 0, 15).astype(np.uint8)
    return numbers[..., 0::2] | (numbers[..., 1::2] << 4), np.ascontiguousarray(scales[..., 0])
