"""Fitting combiners: what is served is what was fitted, sense is kept, a rule that clicks follow is found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from engine import ConfigError, EngineConfig, IndexConfig, SearchConfig, SearchEngine
from engine.builder import build_index
from engine.cli import app
from engine.features import FEATURES
from ranking.combiner import CombinerFile, FittedCombiner, Line, Trees
from tests.conftest import synthetic_products
from training.combiner import BLEND, COMBINED, CombinerConfig, ask, blended, folds, measured, train
from training.combiner_fit import FALLING, RISING, Asked, FitSettings, boosted, fit, flattened
from training.combiner_fit import _groups as groups_of

N = 60
KINDS = ("trees", "linear")


def asked(n: int = N, seed: int = 0, source: str = "made", **weights: float) -> list[Asked]:
    """Queries with 20 random candidates each; the best quarter by these weighted features is relevant."""
    rng = np.random.default_rng(seed)
    names, out = list(FEATURES), []
    for number in range(n):
        values = rng.random((20, len(names))).astype(np.float32)
        wanted = sum(weight * values[:, names.index(name)] for name, weight in weights.items())
        labels = (wanted >= np.quantile(wanted, 0.75)).astype(np.float64)
        ids = tuple(f"p{place}" for place in range(20))
        out.append(
            Asked(source, f"query {number}", ids, values, labels, ideal=float((1 / np.log2(np.arange(2, 7))).sum()))
        )
    return out


def served(model: Trees | Line, chosen: FitSettings) -> FittedCombiner:
    about = {"name": "t", "scale": 1.0, "offset": 0.0, "encoder": "", "reranker": ""}
    return FittedCombiner(CombinerFile(features=list(chosen.features), model=model, **about))


def fitted(examples: list[Asked], **said: Any) -> FittedCombiner:
    chosen = FitSettings(**{"least": 5, **said})
    return served(fit(examples, chosen), chosen)


def test_arrays_serve_what_lightgbm_predicts() -> None:
    chosen = FitSettings(
        kind="trees", features=("price", "probability", "lexical", "outside"), least=5, leaves=12, trees=40
    )
    examples = asked(probability=1.0, price=-2.0, lexical=0.5)
    booster = boosted(list(groups_of(examples, chosen)), chosen)
    combiner = served(flattened(booster.dump_model()), chosen)
    values = np.concatenate([one.values for one in asked(30, seed=9)])
    columns = [list(FEATURES).index(name) for name in chosen.features]
    predicted = booster.predict(values[:, columns].astype(np.float64))
    assert predicted.std() > 0.1
    np.testing.assert_allclose(combiner.log_odds(values), predicted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_what_labels_follow_is_found(kind: str) -> None:
    examples = asked(probability=1.0, price=-2.0)
    combiner = fitted(examples[:40], kind=kind)
    precision = [
        one.labels[np.argsort(-combiner.log_odds(one.values))[:5]].mean() for one in examples[40:]
    ]  # a random order has 0.25
    assert np.mean(precision) > 0.75


@pytest.fixture(scope="module", params=KINDS)
def contrary(request: pytest.FixtureRequest) -> FittedCombiner:
    """Fitted on labels that say the contrary of sense, and something sensible beside."""
    against = dict.fromkeys(sorted(RISING), -1.0) | dict.fromkeys(sorted(FALLING), 1.0)
    return fitted(asked(**against, popularity=2.0), kind=request.param)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_sense_is_kept_whatever_labels_say(contrary: FittedCombiner, data: st.DataObject) -> None:
    row = np.random.default_rng(data.draw(st.integers(0, 10_000))).random(len(FEATURES)).astype(np.float32)
    name = data.draw(st.sampled_from(sorted(RISING | FALLING)))
    sweep = np.repeat(row[None], 21, axis=0)
    sweep[:, list(FEATURES).index(name)] = np.linspace(-1, 1, 21)
    steps = np.diff(contrary.log_odds(sweep)) * (1 if name in RISING else -1)
    assert (steps >= -1e-12).all()


def test_the_contrary_combiner_learnt_something(contrary: FittedCombiner) -> None:
    values = np.full((2, len(FEATURES)), 0.5, np.float32)
    values[:, list(FEATURES).index("popularity")] = [0.1, 0.9]
    low, high = contrary.log_odds(values)
    assert high > low + 0.1


def test_the_same_queries_make_the_same_combiner() -> None:
    for kind in KINDS:
        assert fitted(asked(price=1.0), kind=kind).file == fitted(asked(price=1.0), kind=kind).file


def test_what_nobody_judged_is_irrelevant_or_left_out() -> None:
    examples = asked(price=1.0)
    for one in examples:  # what is cheap and what is popular was not judged: it is no worse than the rest
        one.labels[one.values[:, list(FEATURES).index("popularity")] > 0.5] = np.nan
    out, irrelevant = (fitted(examples, unjudged=how) for how in ("out", "irrelevant"))
    values = np.full((2, len(FEATURES)), 0.5, np.float32)
    values[:, list(FEATURES).index("popularity")] = [0.9, 0.1]
    values[:, list(FEATURES).index("price")] = 0.9
    assert np.diff(irrelevant.log_odds(values))[0] > 0.5
    assert abs(np.diff(out.log_odds(values))[0]) < 0.5


def test_sources_are_held_out_in_turn_and_queries_of_the_only_one() -> None:
    two = asked(15, source="a", price=1.0) + asked(10, source="b", price=1.0)
    assert folds(two, 1) == [frozenset(range(15)), frozenset(range(15, 25))]
    one = folds(asked(23, price=1.0), 1)
    assert len(one) == 5
    assert sorted(place for fold in one for place in fold) == list(range(23))


def test_nothing_to_learn_is_said() -> None:
    flat = asked(30)  # without weights all are relevant
    with pytest.raises(ConfigError, match="different labels"):
        fitted(flat)
    with pytest.raises(ConfigError, match="at least 20"):
        folds(asked(19, price=1.0), 1)


@pytest.mark.parametrize(
    "said", [{"features": ("margin",)}, {"features": ()}, {"features": ("rank", "rank")}, {"leaves": 1}, {"l2": -1.0}]
)
def test_settings_that_cannot_work(said: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(said))):
        FitSettings(**said)


# ------------------------------------------------------------------------------------------------------ a whole shop


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, reranker_directory: Path) -> Path:
    """A catalog, its index and a log of clicks on the cheapest of what was asked for."""
    folder = tmp_path_factory.mktemp("shop")
    products = synthetic_products()
    config = EngineConfig(index=IndexConfig(reranker=str(reranker_directory), router=""))
    build_index(products, folder / "index", config)
    lines = ["query\tproduct_id\tclicks"]
    for number in range(40):
        kind = ("phone", "fridge", "tv", "case")[number % 4]
        brand = ("acme", "globex")[number // 4 % 2]
        query = f"{brand} {kind} {('', 'new', 'good', 'best', 'nice')[number // 8]}".strip()
        fitting = [p for p in products if kind in p.title.lower() and p.brand.lower() == brand and p.price]
        cheapest = sorted(fitting, key=lambda product: product.price or 0)[:3]
        lines += [f"{query}\t{product.product_id}\t{5 - place}" for place, product in enumerate(cheapest)]
    (folder / "clicks.tsv").write_text("\n".join(lines) + "\n")
    (folder / "catalog.jsonl").write_bytes(b"\n".join(map(msgspec.json.encode, products)))
    (folder / "combiner.toml").write_text(
        f"""
name = "cheap-first"

[fit]
least = 5

[[source]]
kind = "clicks"
name = "shop"
index = "{folder}/index"
catalog = "{folder}/catalog.jsonl"
path = "{folder}/clicks.tsv"
"""
    )
    return folder


def test_a_shop_learns_what_its_clicks_follow(shop: Path) -> None:
    out = shop / "cheap.json"
    run = CliRunner().invoke(app, ["train", "combiner", str(shop / "combiner.toml"), "--out", str(out)])
    assert run.exit_code == 0, run.output
    combiner = FittedCombiner.read(out)
    figures = combiner.file.figures["shop"]
    assert figures[COMBINED] > figures[BLEND] + 0.2
    assert combiner.file.learnt_from == {"shop": 40}
    engine = SearchEngine.load(shop / "index", SearchConfig(combiner=str(out)))
    result = engine.search("acme fridge for the kitchen", 5)
    assert not result.degraded
    prices = [hit.product.price for hit in result.hits]
    blend = [
        hit.product.price for hit in engine.configured(SearchConfig()).search("acme fridge for the kitchen", 5).hits
    ]
    assert np.mean([price for price in prices if price]) < np.mean([price for price in blend if price])


def test_indexes_of_other_models_do_not_mix(shop: Path, reranker_directory: Path, tmp_path: Path) -> None:
    config = EngineConfig(index=IndexConfig(reranker=str(reranker_directory), encoder=""))
    build_index(synthetic_products(), tmp_path / "index", config)
    text = (shop / "combiner.toml").read_text()
    source = text[text.index("[[source]]") :]
    second = source.replace('name = "shop"', 'name = "other"').replace(f"{shop}/index", f"{tmp_path}/index")
    (tmp_path / "two.toml").write_text(text + second)
    with pytest.raises(ConfigError, match="different pairs of encoder and reranker"):
        train(CombinerConfig.read(tmp_path / "two.toml"), SearchConfig(), tmp_path / "two.json")


def test_a_query_that_finds_nothing_counts_as_nothing() -> None:
    nothing = Asked("made", "?", (), np.empty((0, len(FEATURES)), np.float32), np.empty(0), ideal=1.0)
    chosen = FitSettings(least=5)
    for examples, share in ((asked(price=1.0), 1.0), (asked(price=1.0) + [nothing] * N, 0.5)):
        raw = fitted(examples, kind=chosen.kind).file
        figures = measured(raw, examples, chosen, 0.3).file.figures["made"]
        assert figures[COMBINED] == pytest.approx(share, abs=0.1)
        assert figures[BLEND] < figures[COMBINED]


def test_what_is_asked_is_in_the_order_before_reranking(shop: Path) -> None:
    engine = SearchEngine.load(shop / "index")
    (one,) = ask(engine, [("acme fridge", {"P0001": 1.0, "P9999": 0.5, "P0002": None})], "s")
    bare = engine.configured(SearchConfig(rerank_depth=0)).search("acme fridge", 30)
    assert list(one.ids) == [hit.product.product_id for hit in bare.hits]
    whole = engine.search("acme fridge", 30)
    assert [one.ids[place] for place in blended(one.values, SearchConfig().rerank_weight)] == [
        hit.product.product_id for hit in whole.hits
    ]
    assert one.ideal == pytest.approx(1 + 0.5 / np.log2(3))
    assert {one.ids[place] for place in np.flatnonzero(~np.isnan(one.labels))} <= {"P0001"}
