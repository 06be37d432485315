"""Smoothing changes nothing in float, and leaves 8 bits closer to it where channels have outliers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from training.export import quantize
from training.export.quantize import to_8_bits, to_static_8_bits


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


def layered(to: Path) -> Path:
    """A table looked up by id, then two products that share an input, one with a bias, and their sum."""
    random = np.random.default_rng(5)
    constants = {
        "table": random.standard_normal((50, 32)), "left": random.standard_normal((32, 16)) * 0.1,
        "right": random.standard_normal((32, 16)) * 0.1, "bias": random.standard_normal(16),
    }  # fmt: skip
    constants["table"][:, [4, 17]] *= 60
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "ids"], ["rows"], name="look-up"),
            helper.make_node("MatMul", ["rows", "left"], ["left_out"], name="left_product"),
            helper.make_node("Add", ["bias", "left_out"], ["with_bias"], name="left_bias"),
            helper.make_node("MatMul", ["rows", "right"], ["right_out"], name="right_product"),
            helper.make_node("Add", ["with_bias", "right_out"], ["out"], name="sum"),
        ],
        "layered",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", "tokens"])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", "tokens", 16])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 8
    onnx.save(made, str(to))
    return to


def looked_up(model: Path, ids: np.ndarray) -> np.ndarray:
    output: np.ndarray = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"]).run(None, {"ids": ids})[0]
    return output


def test_static_eight_bits_are_close_and_a_row_keeps_its_result_in_any_batch(tmp_path):
    model, ids = layered(tmp_path / "model.onnx"), np.arange(40).reshape(8, 5)
    to_static_8_bits(model, tmp_path / "static.onnx", [{"ids": row[None]} for row in ids])
    exact, together = looked_up(model, ids), looked_up(tmp_path / "static.onnx", ids)
    assert 1e-4 < np.abs(together - exact).mean() < 0.02 * exact.std()
    np.testing.assert_array_equal(
        together, np.concatenate([looked_up(tmp_path / "static.onnx", row[None]) for row in ids])
    )
    nodes = [node.op_type for node in onnx.load(str(tmp_path / "static.onnx")).graph.node]
    assert sorted(nodes) == sorted(
        [
            "Gather",
            "Cast",
            "Gather",
            "Mul",
            "Mul",
            "QuantizeLinear",
            "MatMulIntegerToFloat",
            "MatMulIntegerToFloat",
            "Add",
        ]
    )
    assert (tmp_path / "static.onnx").stat().st_size < model.stat().st_size


def test_what_was_not_seen_in_calibration_is_clipped(tmp_path):
    model = layered(tmp_path / "model.onnx")
    to_static_8_bits(model, tmp_path / "static.onnx", [{"ids": np.array([[1, 2]])}])
    assert np.isfinite(looked_up(tmp_path / "static.onnx", np.arange(50)[None])).all()


def test_static_eight_bits_lose_less_when_smoothed(tmp_path, monkeypatch):
    model, ids = layered(tmp_path / "model.onnx"), np.arange(50)[None]
    to_static_8_bits(model, tmp_path / "smoothed.onnx", [{"ids": ids}])
    monkeypatch.setattr(quantize, "_factors", lambda inputs, weights: np.ones_like(inputs))
    to_static_8_bits(model, tmp_path / "plain.onnx", [{"ids": ids}])
    exact = looked_up(model, ids)
    smoothed, plain = (np.abs(looked_up(tmp_path / f"{n}.onnx", ids) - exact).mean() for n in ("smoothed", "plain"))
    assert smoothed < 0.7 * plain
