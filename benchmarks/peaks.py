"""How fast this machine multiplies matrices: what a model's speed is a share of."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper

_ROWS, _DEPTH = 512, 1024  # (512, 1024) by (1024, 1024): nothing but the product counts, and it is soon over
_SECONDS = 0.4  # for which each is repeated


def peaks(threads: int) -> dict[str, float]:
    """GOP/s by kind of number on that many threads, a multiply-add counted as two: the best of many repetitions.

    ``fp32`` and ``int8`` are onnxruntime's (MatMul; MatMulInteger of uint8 by int8), ``bf16`` is torch's.
    """
    draw = np.random.default_rng(0)
    floats = draw.standard_normal((_ROWS, _DEPTH), np.float32)
    weights = draw.standard_normal((_DEPTH, _DEPTH), np.float32)
    unsigned = draw.integers(0, 256, (_ROWS, _DEPTH), np.uint8)
    signed = draw.integers(-127, 128, (_DEPTH, _DEPTH), np.int8)
    torch.set_num_threads(threads)
    left, right = torch.from_numpy(floats).bfloat16(), torch.from_numpy(weights).bfloat16()
    return {
        "fp32": _best(_session("MatMul", floats, weights, TensorProto.FLOAT, threads)),
        "bf16": _best(lambda: left @ right),
        "int8": _best(_session("MatMulInteger", unsigned, signed, TensorProto.INT32, threads)),
    }


def _session(kind: str, left: Any, right: Any, result: int, threads: int) -> Callable[[], object]:
    """One product whose right side is constant, as a model's weights are."""
    graph = helper.make_graph(
        [helper.make_node(kind, ["left", "right"], ["product"])], kind,
        [helper.make_tensor_value_info("left", helper.np_dtype_to_tensor_dtype(left.dtype), left.shape)],
        [helper.make_tensor_value_info("product", result, [_ROWS, _DEPTH])],
        [numpy_helper.from_array(right, "right")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"left": left})


def _best(product: Callable[[], object]) -> float:
    best, until = float("inf"), time.perf_counter() + _SECONDS
    while time.perf_counter() < until:
        began = time.perf_counter()
        product()
        best = min(best, time.perf_counter() - began)
    return 2 * _ROWS * _DEPTH * _DEPTH / best / 1e9
