"""The benchmark of rules: what it makes is a file of rules, and what it measures is there."""

from __future__ import annotations

from itertools import islice

from benchmarks.rules import catalog, made_rules, measure
from engine import EngineConfig, IndexConfig
from engine.builder import build_index
from engine.rules.schema import parse_rules


def test_made_rules_are_valid_and_fire_and_cost_is_measured_beside_none(tmp_path):
    products = list(islice(catalog(0), 40))
    queries = ["samsung galaxy s25 ultra", "galaxy s24 cover", "titanium black 512gb"]
    text = made_rules(200, products, queries, 1)
    assert len(parse_rules(text.encode(), "made")) == 200
    build_index(products, tmp_path / "index", EngineConfig(index=IndexConfig(encoder="", reranker="")))
    (tmp_path / "rules.toml").write_text(text)
    found = measure(tmp_path / "index", queries, {200: tmp_path / "rules.toml"}, rounds=2, seed=1)
    (row,) = found["added"]
    assert row["rules"] == 200
    assert row["fired"] > 0
    assert found["without_ms_p50"] > 0


def test_the_catalog_repeats_the_sample_under_new_ids():
    ids = [product.product_id for product in catalog(1000)]
    assert len(ids) == len(set(ids)) == 1000
