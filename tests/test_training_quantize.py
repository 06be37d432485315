"""Smoothing changes nothing in float, and leaves 8 bits closer to it where channels have outliers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from training import quantize
from training.quantize import to_8_bits


def inputs() -> np.ndarray:
    """Rows in which two of 32 channels are outliers."""
    rows = np.random.default_rng(3).standard_normal((50, 32)).astype(np.float32)
    rows[:, [4, 17]] *= 60
    return rows


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """One product with constant weights, which are small where the inputs are large."""
    weights = np.random.default_rng(4).standard_normal((32, 16)).astype(np.float32) * 0.1
    weights[[4, 17]] /= 30
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["rows", "weights"], ["out"], name="product")],
        "outliers",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", 32])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 16])],
        [numpy_helper.from_array(weights, "weights")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 8
    onnx.save(made, str(tmp_path / "model.onnx"))
    return tmp_path / "model.onnx"


def run(model: bytes) -> np.ndarray:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    output: np.ndarray = session.run(None, {"rows": inputs()})[0]
    return output


def test_smoothing_changes_nothing_in_float(model):
    graph = onnx.load(str(model))
    quantize._smooth(graph, [{"rows": inputs()}])
    np.testing.assert_allclose(run(graph.SerializeToString()), run(model.read_bytes()), rtol=1e-4, atol=1e-4)


def test_eight_bits_lose_less_when_smoothed(model, tmp_path, monkeypatch):
    exact = run(model.read_bytes())
    to_8_bits(model, tmp_path / "smoothed.onnx", [{"rows": inputs()}])
    monkeypatch.setattr(quantize, "_smooth", lambda *_: None)
    to_8_bits(model, tmp_path / "plain.onnx", [])
    smoothed, plain = (np.abs(run((tmp_path / f"{n}.onnx").read_bytes()) - exact).mean() for n in ("smoothed", "plain"))
    assert smoothed < 0.5 * plain
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx", "plain.onnx", "smoothed.onnx"]
