"""The benchmark of adapters, on models in miniature."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner, Result

from benchmarks.adapters import main
from tests.conftest import synthetic_products
from tests.encoders import write_encoder
from tests.rerankers import write_model

app = Typer()
app.command()(main)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def models(tmp_path: Path) -> list[object]:
    products = synthetic_products(20)
    reranker = write_model(tmp_path / "reranker", products, adaptable=True)
    return ["--reranker", reranker, "--encoder", write_encoder(tmp_path / "encoder", products)]


def test_requests_are_compared_and_changes_and_additions_timed(models: list[object], tmp_path: Path) -> None:
    out = tmp_path / "out" / "adapters.json"
    done = run(*models, "--rounds", 3, "--candidates", "5,9", "--rank", 4, "--out", out, "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result == json.loads(out.read_text())
    reranker, encoder = result["measured"]
    assert [request["request"] for request in reranker["requests"]] == [
        f"{n} pairs, batches of {size}" for n in (5, 9) for size in (16, 4)
    ]
    assert [request["rounds"] for request in encoder["requests"]] == [15]
    for model, kind in ((reranker, "reranker"), (encoder, "encoder")):
        assert (model["kind"], model["targets"], model["rank"]) == (kind, 1, 4)
        assert model["bytes"] > 2 * 4 * 48 * 4
        assert model["add_ms"] > 0
        for request in model["requests"]:
            low, high = request["ratio_interval"]
            assert 0 < low <= request["ratio"] <= high
            assert request["merged_ms"] > 0
            assert request["adapted_ms"] > 0
    table = run(*models, "--rounds", 2, "--candidates", "5", "--out", out).stdout
    assert "reranker, reranker" in table
    assert "one query" in table


def test_a_model_that_takes_none_is_named(models: list[object], tmp_path: Path) -> None:
    plain = write_model(tmp_path / "plain", synthetic_products(3))
    done = run("--reranker", plain, *models[2:], "--out", tmp_path / "out.json")
    assert done.exit_code == 1
    assert "the reranker words takes no adapters" in done.output


def test_help_teaches() -> None:
    assert "Example: python benchmarks/adapters.py" in run("--help").output
