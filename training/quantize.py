"""ONNX models in 8 bits: smoothed first, so that dynamic quantisation loses a third of what it otherwise does.

Dynamic quantisation scales a layer's whole input by its largest value; a few channels with outliers then leave little
for the rest. Smoothing divides each input channel by a factor and multiplies its weights by the same, which changes
nothing in float and evens the channels out. Xiao et al. 2023, "SmoothQuant", arXiv 2211.10438, equation 4.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

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


def to_8_bits(model: Path, out: Path, calibration: Sequence[Feeds]) -> None:
    """Writes ``model`` with 8-bit weights, per channel, and inputs quantised as it runs.

    ``calibration`` are inputs like those it will get; 100 are plenty.
    """
    graph = onnx.load(str(model))
    _smooth(graph, calibration)
    smoothed = out.with_suffix(".smooth")
    try:
        onnx.save(graph, str(smoothed))
        with _without_advice():
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


def _factors(inputs: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Per channel, around 1: largest input to the strength, over largest weight to the rest."""
    factors = np.maximum(inputs, _SMALLEST) ** _STRENGTH / np.maximum(weights, _SMALLEST) ** (1 - _STRENGTH)
    factors /= np.exp(np.log(factors).mean())
    return np.clip(factors, 1 / _LARGEST_FACTOR, _LARGEST_FACTOR).astype(np.float32)


def _largest_inputs(
    model: onnx.ModelProto, names: list[str], calibration: Sequence[Feeds]
) -> dict[str, NDArray[np.float32]]:
    """The largest magnitude per channel that each named value takes over the calibration inputs."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    session = ort.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
    largest: dict[str, NDArray[np.float32]] = {}
    for feeds in calibration:
        for name, value in zip(names, session.run(names, dict(feeds)), strict=True):
            magnitude = np.abs(value).reshape(-1, value.shape[-1]).max(axis=0)
            largest[name] = np.maximum(largest[name], magnitude) if name in largest else magnitude
    return largest


@contextmanager
def _without_advice() -> Iterator[None]:
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
