"""The benchmark of query rewriting: what counts as rescued and as hurt, how a threshold is chosen, a whole run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer import Typer
from typer.testing import CliRunner

from benchmarks import rewriting
from benchmarks.data import Grading
from benchmarks.rewriting import Answers, choose, figures
from engine.config import EngineConfig, IndexConfig
from engine.product import to_json
from tests.conftest import synthetic_products
from tests.rerankers import write_model


def made(first: list[float], ndcg: list[float], probability: list[float] | None = None) -> Answers:
    n = len(first)
    return Answers(np.array(first), np.array(ndcg), np.array(probability or [0.5] * n), np.ones(n))


def test_rescued_and_hurt_are_of_poor_and_of_good_queries() -> None:
    before = made([1, 2, 3, 11, 40, np.inf], [1.0, 0.6, 0.5, 0.0, 0.0, 0.0])
    after = made([1, 9, 12, 10, 11, 3], [0.95, 0.4, 0.5, 0.3, 0.0, 0.5])
    found = figures(before, after, 1)
    assert (found["n"], found["poor"]) == (6, 3)
    assert found["rescued"] == pytest.approx(2 / 3)
    assert found["hurt"] == pytest.approx(2 / 3)  # one fell by 0.2, one left the first ten; 0.05 is no harm
    assert found["difference"] == pytest.approx(np.mean([-0.05, -0.2, 0.0, 0.3, 0.0, 0.5]))
    low, high = found["interval"]
    assert low < found["difference"] < high


def test_the_threshold_gains_most_and_hurts_few() -> None:
    """Rewriting helps where the best is improbable, and hurts elsewhere."""
    n = 100
    probability = [0.15] * 20 + [0.8] * 80
    before = made([20.0] * 20 + [1.0] * 80, [0.0] * 20 + [1.0] * 80, probability)
    after = made([2.0] * 20 + [15.0] * 80, [0.6] * 20 + [0.0] * 80, probability)
    assert choose([(before, after)]) == 0.2
    useless = made([20.0] * n, [0.0] * n, probability)
    assert choose([(useless, useless)]) == 0.0
    assert choose([(before, made([1.0] * n, [0.0] * n, probability))]) == 0.0
    assert choose([]) == 0.0


def test_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "data" / "synthetic_shop"
    folder.mkdir(parents=True)
    products = synthetic_products(40)
    (folder / "corpus.jsonl").write_bytes(b"\n".join(map(to_json, products)))
    (folder / "queries.dev.tsv").write_text("q1\tacme phone 101\nq2\tphone case protects\nq3\tunjudged\n")
    (folder / "qrels.dev.txt").write_text("q1 0 P0001 3\nq2 0 P0000 3\nq3 0 P0000 0\n")
    monkeypatch.setattr("benchmarks.data.GRADINGS", {"synthetic_shop": Grading(2)})
    config = EngineConfig(index=IndexConfig(reranker=str(write_model(tmp_path / "reranker", products))))
    config.write(tmp_path / "engine.toml")
    app = Typer()
    app.command()(rewriting.main)
    asked = f"--sets synthetic_shop:dev --data {tmp_path}/data --config {tmp_path}/engine.toml --index {tmp_path}/index"
    more = f"--out {tmp_path}/out.json --oracle --json --rules drop,feedback"
    done = CliRunner().invoke(app, f"{asked} {more}".split())
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "out.json").read_text())
    assert list(result["rewriters"]) == ["drop", "feedback"]
    at = result["rewriters"]["drop"]["synthetic_shop:dev"]
    assert (at["n"], at["chosen"]) == (2, 0.0), "the query without relevant products is left out; no other catalog"
    assert at["thresholds"]["1.0"]["rewritten"] > 0
    assert set(result["oracle"]["synthetic_shop:dev"]) >= {"wanted", "random"}
