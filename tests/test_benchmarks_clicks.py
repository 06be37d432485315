"""The benchmark of clicks: what bias costs a ranker is found, and comes back, on data made here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer

from benchmarks.clicks import _write_log, fit, main, run_seed, summary
from benchmarks.synthetic_clicks import Asked, Shoppers, synthetic_log, synthetic_shop_log
from training.curation.logs import LogReader


def asked() -> list[Asked]:
    """40 queries of 12 products: of ten features the first two make a product good, and so does what none says."""
    rng = np.random.default_rng(5)
    out = []
    for number in range(40):
        features = rng.standard_normal((12, 10))
        worth = features[:, 0] + features[:, 1] + 2 * rng.standard_normal(12)
        good = (worth >= np.sort(worth)[-3]).astype(np.float64)
        out.append(Asked(f"query {number}", tuple(f"p{i}" for i in range(12)), good, features))
    return out


def test_the_log_is_what_the_model_says() -> None:
    query = asked()[:1]
    shoppers = Shoppers(pages=4000, depth=4, noise=0.0, jitter=0.0)
    pages = [json.loads(line) for line in synthetic_log(query, np.eye(10)[0], shoppers, 3)]
    assert len(pages) == 4000
    order = np.argsort(-query[0].features[:, 0])[:4]
    assert pages[0]["products"] == [f"p{i}" for i in order]
    rates = [np.mean([product in page["clicked"] for page in pages]) for product in pages[0]["products"]]
    assert rates == pytest.approx(query[0].labels[order] / np.arange(1, 5), abs=0.03)


def test_a_shop_log_has_what_nobody_should_learn_from() -> None:
    lines = synthetic_shop_log(asked(), np.ones(10), Shoppers(pages=2, depth=3), 1)
    pages = [json.loads(line) for line in lines]
    assert {"program-1", "program-2"} <= {page["session"] for page in pages}
    assert any("jo@example.com" in page["query"] for page in pages)


def test_a_log_is_written_that_curation_reads(tmp_path: Path) -> None:
    _write_log(tmp_path / "log.jsonl.gz", asked(), Shoppers(pages=2, depth=3), 1)
    reader = LogReader()
    known = {f"p{i}" for i in range(12)}
    gone = reader.read(str(tmp_path / "log.jsonl.gz"), 0, {}, known, "the catalog", None)
    assert len(gone) == 1
    assert len(set(reader.impressions().queries)) > 16


def test_ridge_finds_what_makes_a_product_good() -> None:
    weights = fit([(query, query.labels) for query in asked()])
    assert np.abs(weights[2:]).max() < 0.5 * min(weights[:2])


def test_bias_costs_and_curation_brings_it_back(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"product_id": f"p{i}", "title": f"Thing {i}"}) + "\n" for i in range(12)))
    shoppers = Shoppers(pages=60, depth=8, eta=1.5)
    found = summary([run_seed(asked(), corpus, shoppers, seed) for seed in range(1, 5)], 1)
    assert found["raw clicks"]["ndcg@10"] < found["true labels of what was shown"]["ndcg@10"]
    assert found["all-pairs"]["recovered"] > 0.5
    assert found["all-pairs"]["log_error"] < 0.15
    assert found["raw clicks"]["recovered"] == 0


def test_an_unknown_set_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        main("nowhere", "dev", tmp_path, out=tmp_path / "out.json")
    assert "has no set 'nowhere'" in " ".join(capsys.readouterr().err.split())
