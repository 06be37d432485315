"""ONNX models in 8 bits: smoothed first, so that quantisation loses a third of what it otherwise does.

Quantisation scales a layer's whole input by its largest value; a few channels with outliers then leave little for the
rest. Smoothing divides each input channel by a factor and multiplies its weights by the same, which changes nothing in
float and evens the channels out. Xiao et al. 2023, "SmoothQuant", arXiv 2211.10438, equation 4.

Dynamic scales (``to_8_bits``) are those of the batch at hand, so a row's result depends on its neighbours; static ones
(``to_static_8_bits``) are found once, on calibration inputs, and a row's result is its own.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

Feeds = Mapping[str, NDArray[np.int64] | NDArray[np.float32]]

_STRENGTH = 0.75  # 0 leaves all outliers to the inputs, 1 moves them all into the weights; best of 0.5 to 0.9 by cosine
_SMALLEST = 1e-5
_LARGEST_FACTOR = 100.0
_TINY = 1e-9  # a scale where all weights are 0
_CONTRIB = "com.microsoft"


def to_8_bits(model: Path, out: Path, calibration: Sequence[Feeds]) -> None:
    """Writes ``model`` with 8-bit weights, per channel, and inputs quantised as it runs.

    ``calibration`` are inputs like those it will get; 100 are plenty.
    """
    graph = onnx.load(str(model))
    _smooth(graph, calibration)
    smoothed = out.with_suffix(".smooth")
    try:
        onnx.save(graph, str(smoothed))
        with without_advice():
            quantize_dynamic(smoothed, out, per_channel=True, weight_type=QuantType.QInt8)
    finally:
        smoothed.unlink(missing_ok=True)


def _smooth(model: onnx.ModelProto, calibration: Sequence[Feeds]) -> None:
    """Puts a division by channel before every product with constant weights, and takes it back in the weights."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    layers = [node for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in weights]
    largest = _largest_inputs(model, sorted({node.input[0] for node in layers}), calibration)
    for number, node in enumerate(layers):
        weight = numpy_helper.to_array(weights[node.input[1]])
        factors = _factors(largest[node.input[0]], np.abs(weight).max(axis=1))
        weights[node.input[1]].CopyFrom(numpy_helper.from_array(weight * factors[:, None], node.input[1]))
        name = f"smooth_{number}"
        model.graph.initializer.append(numpy_helper.from_array(1 / factors, name))
        division = helper.make_node("Mul", [node.input[0], name], [f"{name}_out"], name=f"{name}_mul")
        node.input[0] = f"{name}_out"
        model.graph.node.insert(list(model.graph.node).index(node), division)


def to_static_8_bits(model: Path, out: Path, calibration: Sequence[Feeds]) -> None:
    """Writes ``model`` with 8-bit weights, per channel, and inputs quantised by scales that stay the same.

    Products with constant weights become onnxruntime's ``MatMulIntegerToFloat``, and the addition of a bias after one
    is part of it; so is a ReLU between two of them, as what is below 0 is clipped. Tables that the graph's inputs index
    are kept in 8 bits a row. ``calibration`` are inputs like those it will get: what goes beyond the range seen there
    is clipped to it.
    """
    graph = onnx.load(str(model))
    weights = {tensor.name: tensor for tensor in graph.graph.initializer}
    layers: dict[str, list[onnx.NodeProto]] = {}  # those with the same input share its quantisation
    for node in graph.graph.node:
        if node.op_type == "MatMul" and node.input[1] in weights:
            layers.setdefault(node.input[0], []).append(node)
    extremes = _extremes(graph, sorted(layers), calibration)
    for value, nodes in layers.items():
        _quantise_layers(graph, weights, nodes, extremes[value])
    inputs = {value.name for value in graph.graph.input}
    for node in [node for node in graph.graph.node if node.op_type == "Gather" and node.input[1] in inputs]:
        if node.input[0] in weights:
            _quantise_table(graph, weights, node)
    _drop_unused(graph)
    if not any(opset.domain == _CONTRIB for opset in graph.opset_import):
        graph.opset_import.append(helper.make_opsetid(_CONTRIB, 1))
    onnx.save(graph, str(out))


def _quantise_layers(
    model: onnx.ModelProto,
    weights: Mapping[str, onnx.TensorProto],
    nodes: Sequence[onnx.NodeProto],
    extremes: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> None:
    """Smooths and quantises the nodes' common input once, and their weights."""
    low, high = extremes
    value, matrices = nodes[0].input[0], [numpy_helper.to_array(weights[node.input[1]]) for node in nodes]
    factors = _factors(np.maximum(-low, high), np.abs(np.concatenate(matrices, axis=1)).max(axis=1))
    least, most = min(float((low / factors).min()), 0.0), max(float((high / factors).max()), _SMALLEST)
    scale = np.float32((most - least) / 255)
    zero = np.uint8(round(-least / float(scale)))
    scale_name, zero_name = (
        _constant(model, f"{value}_{kind}", array) for kind, array in (("scale", scale), ("zero", zero))
    )
    smoothed = _smoothed_before(model, value, len(nodes), factors)
    if smoothed is None:
        smoothed, smooth = f"{value}_smoothed", _constant(model, f"{value}_smooth", 1 / factors)
        _insert_before(model, nodes[0], helper.make_node("Mul", [value, smooth], [smoothed], name=f"{value}_smoothing"))
    quantising = helper.make_node(
        "QuantizeLinear", [smoothed, scale_name, zero_name], [f"{value}_8"], name=f"{value}_quantising"
    )
    _insert_before(model, nodes[0], quantising)
    for node, matrix in zip(nodes, matrices, strict=True):
        stored, scales = _rounded(matrix * factors[:, None], axis=0)
        names = [_constant(model, f"{node.name}_{kind}", array) for kind, array in (("8", stored), ("scales", scales))]
        output, bias = _take_bias(model, weights, node)
        fused = helper.make_node(
            "MatMulIntegerToFloat", [f"{value}_8", names[0], scale_name, names[1], zero_name, "", bias], [output],
            name=node.name, domain=_CONTRIB,
        )  # fmt: skip
        _insert_before(model, node, fused)
        model.graph.node.remove(node)


def _smoothed_before(
    model: onnx.ModelProto, value: str, users: int, factors: NDArray[np.float32]
) -> str | None:  # fmt: skip
    """The name of ``value``, smoothed, where a quantised layer and a ReLU give it to ``users`` products and to nobody
    else: the layer's own scales and bias take the factors, which are above 0, and the ReLU is taken out, for 8 bits
    whose zero is 0 hold nothing below. Else None.
    """
    makers = {output: node for node in model.graph.node for output in node.output}
    rectified = makers.get(value)
    layer = makers.get(rectified.input[0]) if rectified is not None and rectified.op_type == "Relu" else None
    if rectified is None or layer is None or layer.op_type != "MatMulIntegerToFloat":
        return None
    used = Counter(name for node in model.graph.node for name in node.input)
    used.update(output.name for output in model.graph.output)
    if used[value] != users or used[layer.output[0]] != 1 or (layer.input[6] and used[layer.input[6]] != 1):
        return None
    for tensor in model.graph.initializer:
        if tensor.name in (layer.input[3], layer.input[6]):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) / factors, tensor.name))
    model.graph.node.remove(rectified)
    return str(layer.output[0])


def _take_bias(
    model: onnx.ModelProto, weights: Mapping[str, onnx.TensorProto], node: onnx.NodeProto
) -> tuple[str, str]:
    """Takes a bias added to ``node``'s result, and nothing else is made of that, out of the graph.

    Returns the name of the result, and of the bias, empty without one.
    """
    users = [user for user in model.graph.node if node.output[0] in user.input]
    if len(users) == 1 and users[0].op_type == "Add":
        bias = next((name for name in users[0].input if name in weights and len(weights[name].dims) == 1), "")
        if bias:
            model.graph.node.remove(users[0])
            return users[0].output[0], bias
    return node.output[0], ""


def _quantise_table(model: onnx.ModelProto, weights: Mapping[str, onnx.TensorProto], node: onnx.NodeProto) -> None:
    """Rows in 8 bits with a scale each; what is looked up becomes float again."""
    table, ids, name = node.input[0], node.input[1], node.name
    stored, scales = _rounded(numpy_helper.to_array(weights[table]), axis=1)
    rows, per_row = _constant(model, f"{name}_table", stored), _constant(model, f"{name}_scales", scales[:, None])
    _insert_before(
        model, node,
        helper.make_node("Gather", [rows, ids], [f"{name}_row"], name=f"{name}_row"),
        helper.make_node("Cast", [f"{name}_row"], [f"{name}_float"], name=f"{name}_float", to=onnx.TensorProto.FLOAT),
        helper.make_node("Gather", [per_row, ids], [f"{name}_scale"], name=f"{name}_scale"),
        helper.make_node("Mul", [f"{name}_float", f"{name}_scale"], [node.output[0]], name=f"{name}_scaled"),
    )  # fmt: skip
    model.graph.node.remove(node)


def _rounded(matrix: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Whole numbers from -127 to 127, and the scales that make them the matrix again, one per line along ``axis``."""
    scales = np.maximum(np.abs(matrix).max(axis=axis, keepdims=True) / 127, _TINY).astype(np.float32)
    return np.rint(matrix / scales).astype(np.int8), scales.squeeze(axis)


def _constant(model: onnx.ModelProto, name: str, array: NDArray[Any] | np.generic) -> str:
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    return name


def _insert_before(model: onnx.ModelProto, node: onnx.NodeProto, *new: onnx.NodeProto) -> None:
    place = list(model.graph.node).index(node)
    for offset, made in enumerate(new):
        model.graph.node.insert(place + offset, made)


def _drop_unused(model: onnx.ModelProto) -> None:
    used = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def _factors(inputs: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Per channel, around 1: largest input to the strength, over largest weight to the rest."""
    factors = np.maximum(inputs, _SMALLEST) ** _STRENGTH / np.maximum(weights, _SMALLEST) ** (1 - _STRENGTH)
    factors /= np.exp(np.log(factors).mean())
    return np.clip(factors, 1 / _LARGEST_FACTOR, _LARGEST_FACTOR).astype(np.float32)


def _largest_inputs(
    model: onnx.ModelProto, names: list[str], calibration: Sequence[Feeds]
) -> dict[str, NDArray[np.float32]]:
    """The largest magnitude per channel that each named value takes over the calibration inputs."""
    extremes = _extremes(model, names, calibration)
    return {name: np.maximum(-low, high) for name, (low, high) in extremes.items()}


def _extremes(
    model: onnx.ModelProto, names: list[str], calibration: Sequence[Feeds]
) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """The least and the largest number per channel that each named value takes over the calibration inputs."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    session = ort.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
    extremes: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
    for feeds in calibration:
        for name, value in zip(names, session.run(names, dict(feeds)), strict=True):
            rows = value.reshape(-1, value.shape[-1])
            low, high = extremes.get(name, (rows[0], rows[0]))
            extremes[name] = np.minimum(low, rows.min(axis=0)), np.maximum(high, rows.max(axis=0))
    return extremes


@contextmanager
def without_advice() -> Iterator[None]:
    """Keeps the quantiser's advice to pre-process, which gains nothing here, out of the caller's log."""
    root, handler = logging.getLogger(), logging.NullHandler()

    def keep(record: logging.LogRecord) -> bool:
        return "pre-processing before quantization" not in record.getMessage()

    root.addHandler(handler)  # without one, its logging.warning would configure logging for the whole process
    root.addFilter(keep)
    try:
        yield
    finally:
        root.removeFilter(keep)
        root.removeHandler(handler)
