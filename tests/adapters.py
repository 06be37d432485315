"""Adapters in miniature, for tests: any of a name, and files with anything in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from engine.adapters import Adapter, AdapterCard
from tests.reranker_contract import N
from tests.rerankers import ADAPTERS, DIM

QUERY = "acme phone with a bright camera"
ROWS = np.arange(0, N, 3)


def made(name: str, kind: str = "reranker", *, size: float = 0.05, rank: int = 4, **card: Any) -> Adapter:
    """An adapter of the miniatures, another one for every name."""
    draw = np.random.default_rng(sum(name.encode()))
    a, b = (draw.standard_normal(shape).astype(np.float32) for shape in ((DIM, rank), (rank, DIM)))
    fields = {"method": "lora", "base": ADAPTERS.base, "license": "MIT", **card}
    return Adapter(AdapterCard(name=name, kind=kind, **fields), {"words": (a, b * np.float32(size))})


def sized(target: str, n_in: int, n_out: int) -> Adapter:
    return Adapter(made("sized").card, {target: (np.ones((n_in, 2), np.float32), np.ones((2, n_out), np.float32))})


def raw(path: Path, tensors: dict[str, Any] | None = None, **card: Any) -> Path:
    """A file with anything in it."""
    told = {"format": 1, "name": "x", "kind": "reranker", "method": "lora", "base": "b", **card}
    path.write_bytes(save(tensors if tensors is not None else pair(), {"aisle": json.dumps(told)}))
    return path


def pair(a: tuple[int, ...] = (4, 2), b: tuple[int, ...] = (2, 4), dtype: Any = np.float32) -> dict[str, np.ndarray]:
    return {"words.A": np.ones(a, dtype), "words.B": np.ones(b, dtype)}
