"""The one-pass encoder: trained small, exported, and served behind the seam."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

pytest.importorskip("torch")

from typer.testing import CliRunner

from engine import ModelError, SearchConfig, SearchEngine
from engine.cli import app
from engine.types import Scored
from ranking.lists import named
from ranking.onepass import OnePassModel, list_ids
from tests.conftest import HashedWordsEncoder, synthetic_products
from tests.training_sets import settings, write_base, write_set
from training.export.one_pass import export_one_pass
from training.run import Outcome, train
from training.tasks.one_pass import OnePassConfig

PRODUCTS = synthetic_products()


def products_of(rows: np.ndarray) -> list[Any]:
    return [PRODUCTS[row] for row in rows]


def test_what_is_read() -> None:
    made = list_ids(np.array([7, 8]), [np.array([1, 200, 2, 3]), np.array([4])], (100, 200))
    assert made.ids.tolist() == [100, 7, 8, 200, 1, 2, 3, 200, 4, 200]
    assert made.parts.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
    assert made.positions.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 4, 5]
    assert made.places.tolist() == [7, 9]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> OnePassConfig:
    base, data = write_base(tmp_path_factory.mktemp("base")), write_set(tmp_path_factory.mktemp("set"))
    tables = msgspec.to_builtins(settings(base, data, training={"epochs": 8}))
    for other in ("heads", "neurons", "activation"):
        del tables["model"][other]
    tables["model"] |= {"list_size": 5, "product_tokens": 8}
    tables["training"]["loss"] = "bce+listnet"
    return msgspec.convert(json.loads(json.dumps(tables)), OnePassConfig)


@pytest.fixture(scope="module")
def done(config: OnePassConfig, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return train(config, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def exported(done: Outcome, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "one-pass"
    found = CliRunner().invoke(app, ["export", str(done.directory / "best"), "--out", str(out), "--tolerance", "0.2"])
    assert found.exit_code == 0, found.output
    return out


def test_it_learns_what_a_random_ranking_does_not_know(done: Outcome) -> None:
    assert done.best.evaluation.score > 0.95


def test_what_is_served_orders_as_was_learnt(exported: Path) -> None:
    served = named(str(exported)).open(products_of, None, 2)
    rows = np.random.default_rng(3).permutation(120)[:15].astype(np.int64)
    scores = served.score("acme phone 108", rows, None).scores
    phones = rows % 4 == 0
    assert ((scores >= 0) & (scores <= 1)).all()
    assert scores[phones].mean() > scores[~phones].mean() + 0.3
    np.testing.assert_array_equal(scores, served.score("acme phone 108", rows, None).scores)


def test_a_score_depends_on_the_others_but_not_on_their_order(done: Outcome, tmp_path: Path) -> None:
    export_one_pass(done.directory / "best", tmp_path / "fp32", quantize=False)
    model = OnePassModel(tmp_path / "fp32")
    query = model.encode("acme phone 108", 8)

    def logits(*rows: int) -> np.ndarray:
        products = [model.encode(PRODUCTS[row].title, 8) for row in rows]
        return model.logits(list_ids(query, products, model.special))

    one, other, again = logits(8, 1, 2), logits(8, 4, 12), logits(2, 8, 1)
    assert abs(one[0] - other[0]) > 1e-5
    np.testing.assert_allclose(one, again[[1, 2, 0]], atol=1e-5)


class Counting:
    """A reranker that counts what it is asked."""

    n = 0

    def understands(self, query: str) -> bool:
        return True

    def score(self, query: str, rows: np.ndarray, deadline: float | None) -> Scored:
        self.n += 1
        return Scored(np.full(len(rows), 0.5, np.float32))


def test_without_time_the_other_reranker_scores(exported: Path) -> None:
    first = Counting()
    served = named(str(exported)).open(products_of, first, 1)
    served.score("acme phone", np.arange(5), None)  # how long a pass takes is known from the first
    scored = served.score("globex fridge", np.arange(5), time.perf_counter() + 1e-4)
    assert first.n == 1
    assert scored.degraded
    assert "no time for a pass" in scored.note
    late = served.score("globex tv", np.arange(5), time.perf_counter() - 1)
    assert np.isnan(late.scores).all()


def test_no_rows(exported: Path) -> None:
    assert named(str(exported)).open(products_of, None, 1).score("acme", np.empty(0, np.int64), None).scores.shape == (
        0,
    )


def test_in_a_search(exported: Path, small_directory: Path) -> None:
    config = SearchConfig(listwise=str(exported), rerank_weight=1.0)
    engine = SearchEngine.load(small_directory, config, encoder=HashedWordsEncoder())
    result = engine.search("acme phone 108", 5)
    report = next(report for report in result.stages if report.stage == "rerank")
    assert (report.status, report.n_in) == ("ran", report.n_out)


def test_a_changed_file_is_noticed(exported: Path, tmp_path: Path) -> None:
    for path in exported.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="does not match its checksum"):
        OnePassModel(tmp_path)
