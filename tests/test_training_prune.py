"""Pruning: what goes is what matters least, it stays away in training, and taking it out changes no logit."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
)

from engine.errors import ConfigError
from ranking.cross_encoder import CrossEncoderModel
from tests.training_sets import settings, write_base, write_set
from training.export.quantize import to_static_8_bits
from training.export.reranker import export
from training.models.prune import prune, take_out_silent
from training.run import train

HEADS, NEURONS, SIZE = 4, 24, 8
IDS = torch.arange(1, 31).reshape(3, 10)


@pytest.fixture
def model() -> BertForSequenceClassification:
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=40, hidden_size=HEADS * SIZE, num_hidden_layers=2, num_attention_heads=HEADS,
        intermediate_size=NEURONS, max_position_embeddings=16, num_labels=1, initializer_range=0.3,
    )  # fmt: skip
    return BertForSequenceClassification(config).eval()


def logits(model: BertForSequenceClassification) -> torch.Tensor:
    found: torch.Tensor = model(input_ids=IDS).logits[:, 0]
    return found


def pruned(model: BertForSequenceClassification, heads: int, neurons: int) -> None:
    prune(model, (logits(model).square().mean() for _ in range(2)), heads, neurons)


def silent(linear: torch.nn.Linear, size: int) -> list[int]:
    weight = linear.weight.detach().abs().sum(dim=0).reshape(-1, size).sum(dim=1)
    return (weight == 0).nonzero()[:, 0].tolist()


def test_what_does_nothing_goes_first(model) -> None:
    """A head whose values are all 0, and neurons that nothing reaches, change no loss."""
    first = model.bert.encoder.layer[0]
    with torch.no_grad():
        first.attention.self.value.weight[SIZE : 2 * SIZE] = 0
        first.attention.self.value.bias[SIZE : 2 * SIZE] = 0
        for rows in (first.intermediate.dense.weight, first.intermediate.dense.bias):
            rows[[2, 5, 11]] = 0
    before = logits(model).detach()
    pruned(model, HEADS - 1, NEURONS - 3)
    assert silent(first.attention.output.dense, SIZE) == [1]
    assert silent(first.output.dense, 1) == [2, 5, 11]
    second = model.bert.encoder.layer[1]
    assert (len(silent(second.attention.output.dense, SIZE)), len(silent(second.output.dense, 1))) == (1, 3)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not torch.equal(logits(model), before)  # the second layer had none to spare


def test_what_is_silent_stays_so_in_training(model) -> None:
    pruned(model, 2, 10)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    before = [silent(layer.attention.output.dense, SIZE) for layer in model.bert.encoder.layer]
    for _ in range(3):
        logits(model).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert [silent(layer.attention.output.dense, SIZE) for layer in model.bert.encoder.layer] == before
    assert [len(silent(layer.output.dense, 1)) for layer in model.bert.encoder.layer] == [NEURONS - 10] * 2


@pytest.mark.parametrize(("heads", "neurons"), [(2, 10), (0, 5), (1, 0), (HEADS, NEURONS)])
def test_taking_out_what_is_silent_leaves_the_logits(model, heads: int, neurons: int) -> None:
    pruned(model, heads, neurons)
    expected = logits(model).detach()
    take_out_silent(model)
    for layer in model.bert.encoder.layer:
        assert layer.attention.self.query.out_features == (heads or HEADS) * SIZE
        assert layer.output.dense.in_features == layer.intermediate.dense.out_features == (neurons or NEURONS)
    torch.testing.assert_close(logits(model), expected)


def test_a_layer_that_is_all_silent_keeps_one(model) -> None:
    model.bert.encoder.layer[0].output.dense.weight.data.zero_()
    expected = logits(model).detach()
    take_out_silent(model)
    assert model.bert.encoder.layer[0].output.dense.in_features == 1
    torch.testing.assert_close(logits(model), expected)


@pytest.mark.parametrize(("heads", "neurons", "named"), [(5, 0, "heads is 5"), (0, 25, "neurons is 25")])
def test_more_than_there_are_is_refused(model, heads: int, neurons: int, named: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"model.{named}")):
        pruned(model, heads, neurons)


def test_another_architecture_is_left_whole_or_refused() -> None:
    config = DistilBertConfig(vocab_size=40, dim=32, n_layers=1, n_heads=4, hidden_dim=16, num_labels=1)
    other = DistilBertForSequenceClassification(config)
    take_out_silent(other)
    assert other.distilbert.transformer.layer[0].attention.n_heads == 4
    with pytest.raises(ConfigError, match="not built like BERT"):
        prune(other, [], 2, 8)


def test_a_run_prunes_goes_on_and_its_model_is_served_without_what_was_pruned(tmp_path: Path) -> None:
    base, data = write_base(tmp_path / "base"), write_set(tmp_path / "set")
    config = settings(base, data, model={"heads": 1, "neurons": 20, "activation": "relu"}, training={"epochs": 8})

    class KilledError(Exception):
        pass

    def kill(task: str, done: int, total: int, detail: str = "") -> None:
        if task == "training" and done == 7:
            raise KilledError

    whole = train(config, tmp_path / "whole")
    with pytest.raises(KilledError):
        train(config, tmp_path / "killed", progress=kill)
    train(config, tmp_path / "killed")
    left, right = (load_file(tmp_path / run / "best" / "model.safetensors") for run in ("whole", "killed"))
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)
    assert whole.best.evaluation.score > 0.9
    assert ((left["bert.encoder.layer.0.output.dense.weight"] != 0).any(axis=0)).sum() == 20
    told = (tmp_path / "whole" / "best" / "training.json").read_text()
    assert "1 attention heads of each, 20 feed-forward neurons of each, activation relu" in told
    done = export(tmp_path / "whole" / "best", tmp_path / "served", tolerance=0.2)
    graph = onnx.load(str(tmp_path / "served" / "model.onnx")).graph
    shapes = {tuple(tensor.dims) for tensor in graph.initializer if tensor.data_type == TensorProto.INT8}
    assert {(32, 16), (16, 32), (32, 20), (20, 32)} <= shapes
    assert not [node for node in graph.node if node.op_type == "Relu"]
    assert done.parity.forms["fp32"].max_difference < 1e-4
    assert CrossEncoderModel(tmp_path / "served").card.name == "tiny"


def test_pruning_is_of_full_fine_tuning(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="heads and neurons are of full fine-tuning"):
        settings(tmp_path, tmp_path, model={"method": "lora", "heads": 2})


def rectified(to: Path, also_used: str = "") -> Path:
    """Two layers with a ReLU between them, whose neurons differ much in size. ``also_used`` names a value of which
    a second result is made.
    """
    random = np.random.default_rng(5)
    sizes = np.geomspace(0.05, 20, 24)
    constants = {
        "first": random.standard_normal((16, 24)) * sizes, "bias": random.standard_normal(24) * sizes,
        "second": random.standard_normal((24, 8)) / sizes[:, None],
    }  # fmt: skip
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "first"], ["before"], name="first_product"),
            helper.make_node("Add", ["before", "bias"], ["biased"], name="first_bias"),
            helper.make_node("Relu", ["biased"], ["rectified"], name="relu"),
            helper.make_node("MatMul", ["rectified", "second"], ["out"], name="second_product"),
            *([helper.make_node("Neg", [also_used], ["also"], name="negative")] if also_used else []),
        ],
        "rectified",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 16])],
        [
            helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 8]),
            *([helper.make_tensor_value_info("also", TensorProto.FLOAT, None)] if also_used else []),
        ],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 8
    onnx.save(made, str(to))
    return to


def test_a_relu_becomes_part_of_the_eight_bits_after_it(tmp_path: Path) -> None:
    x = np.random.default_rng(1).standard_normal((60, 16)).astype(np.float32)
    to_static_8_bits(rectified(tmp_path / "model.onnx"), tmp_path / "static.onnx", [{"x": x}])
    nodes = [node.op_type for node in onnx.load(str(tmp_path / "static.onnx")).graph.node]
    assert nodes == ["Mul", "QuantizeLinear", "MatMulIntegerToFloat", "QuantizeLinear", "MatMulIntegerToFloat"]
    exact, found = (results(tmp_path / name, x) for name in ("model.onnx", "static.onnx"))
    assert 1e-4 < np.abs(found[0] - exact[0]).mean() < 0.03 * exact[0].std()


@pytest.mark.parametrize("also_used", ["biased", "rectified", "bias"])
def test_a_relu_stays_where_others_read_what_it_is_made_of(tmp_path: Path, also_used: str) -> None:
    x = np.random.default_rng(1).standard_normal((60, 16)).astype(np.float32)
    to_static_8_bits(rectified(tmp_path / "model.onnx", also_used), tmp_path / "static.onnx", [{"x": x}])
    exact, found = (results(tmp_path / name, x) for name in ("model.onnx", "static.onnx"))
    for of_one, of_other in zip(exact, found, strict=True):
        assert np.abs(of_other - of_one).mean() < 0.03 * of_one.std()


def results(model: Path, x: np.ndarray) -> list[np.ndarray]:
    found: list[np.ndarray] = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"]).run(None, {"x": x})
    return found
