"""A learnt combiner: what its file may hold, what it serves, and what it does in a search."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import ModelError, SearchConfig, SearchEngine
from engine.builder import build_index
from engine.explain import as_dict, render
from engine.features import FEATURES
from ranking.combiner import BASE, CombinerFile, FittedCombiner, Line, Trees
from tests.conftest import HashedWordsEncoder, synthetic_products
from tests.test_rerank import Scripted, falling
from tests.test_rewriter_search import Says

QUERY = "acme phone with a bright camera"
NAMES = ("probability", "lexical", "price")
#: Two trees: the first asks for probability and, in what is probable, for the price; the second for the words.
TREES = {
    "roots": [0, 5], "feature": [0, -1, 2, -1, -1, 1, -1, -1], "threshold": [0.5, 0, 0.25, 0, 0, 0.5, 0, 0],
    "left": [1, -1, 3, -1, -1, 6, -1, -1], "right": [2, -1, 4, -1, -1, 7, -1, -1],
    "value": [0.5, -1.0, 2.0, 3.0, 1.0, 0.0, -0.5, 0.5],
}  # fmt: skip


def made(model: Trees | Line | None = None, **said: Any) -> FittedCombiner:
    about = {"name": "test", "features": list(NAMES), "scale": 2.0, "offset": -0.25, "encoder": "", "reranker": ""}
    return FittedCombiner(CombinerFile(**{**about, "model": model or Trees(**TREES), **said}))


def line(**weights: float) -> FittedCombiner:
    """A combiner of these features alone, for the index of ``engine_with``."""
    model = Line(weights=list(weights.values()), means=[0.0] * len(weights))
    return made(
        model, features=list(weights), scale=1.0, offset=0.0, encoder=HashedWordsEncoder.fingerprint,
        reranker=Scripted.fingerprint,
    )  # fmt: skip


def rows_of(**values: list[float]) -> np.ndarray:
    out = np.full((len(next(iter(values.values()))), len(FEATURES)), 0.5, np.float32)
    for name, column in values.items():
        out[:, list(FEATURES).index(name)] = column
    return out


class TestServing:
    def test_a_candidate_goes_down_every_tree(self) -> None:
        values = rows_of(probability=[0.4, 0.6, 0.6, 0.5], price=[0.1, 0.25, 0.3, 0.9], lexical=[0.0, 0.5, 0.6, 1.0])
        expected = [-1 - 0.5, 3 - 0.5, 1 + 0.5, -1 + 0.5]
        np.testing.assert_allclose(made().log_odds(values), 2 * np.array(expected) - 0.25)
        np.testing.assert_allclose(made().scores(values), 1 / (1 + np.exp(0.25 - 2 * np.array(expected))), rtol=1e-6)

    def test_what_features_add_makes_the_log_odds(self) -> None:
        combiner = made()
        for row in np.random.default_rng(3).random((40, len(FEATURES)), np.float32):
            parts = combiner.parts(row)
            assert parts[0] == (BASE, 2 * 0.5 - 0.25)
            np.testing.assert_allclose(sum(value for _, value in parts), combiner.log_odds(row[None])[0])
            assert [name for name, _ in parts[1:]] == sorted(dict(parts[1:]), key=lambda name: -abs(dict(parts)[name]))

    def test_each_step_of_a_path_goes_to_what_was_asked(self) -> None:
        (row,) = rows_of(probability=[0.9], price=[0.1], lexical=[0.9])
        assert dict(made().parts(row)) == {BASE: 0.75, "probability": 3.0, "price": 2.0, "lexical": 1.0}

    def test_a_line_adds_weight_times_distance_from_the_mean(self) -> None:
        combiner = made(Line(weights=[2.0, -1.0, 0.0], means=[0.5, 0.5, 0.5]))
        (row,) = rows_of(probability=[1.0], lexical=[0.75], price=[0.0])
        assert combiner.parts(row) == ((BASE, -0.25), ("probability", 2.0), ("lexical", -0.5))
        assert combiner.log_odds(row[None])[0] == pytest.approx(2 * (1.0 - 0.25) - 0.25)

    @pytest.mark.parametrize("model", [Trees(**TREES), Line(weights=[2.0, -1.0, 0.5], means=[0.5, 0.1, 0.2])])
    def test_a_score_does_not_depend_on_other_candidates(self, model: Trees | Line) -> None:
        rng = np.random.default_rng(5)
        values, order = rng.random((50, len(FEATURES)), np.float32), rng.permutation(50)
        together = made(model).scores(values)
        np.testing.assert_array_equal(made(model).scores(values[order]), together[order])
        np.testing.assert_array_equal(np.concatenate([made(model).scores(row[None]) for row in values]), together)

    def test_a_file_is_read_as_it_was_written(self, tmp_path: Path) -> None:
        before = made(learnt_from={"shop": 20}, figures={"shop": {"combiner": 0.5}}, notes="a note")
        before.write(tmp_path / "c.json")
        assert FittedCombiner.read(tmp_path / "c.json").file == before.file

    def test_what_it_was_not_fitted_for_it_does_not_fit(self) -> None:
        combiner = made(encoder="e", reranker="r")
        assert combiner.misfit("e", "r") == ""
        assert "encoder 'e'" in combiner.misfit("other", "r")
        assert "reranker 'r'" in combiner.misfit("e", "other")
        assert "margin" in made(features=["probability", "lexical", "margin"]).misfit("", "")


def _changed(**changes: Any) -> dict[str, Any]:
    return {"model": {**TREES, "kind": "trees", **changes}}


class TestHostileFiles:
    @pytest.mark.parametrize(
        "changes",
        [
            _changed(left=[0, -1, 3, -1, -1, 6, -1, -1]),  # back to itself
            _changed(right=[2, -1, 1, -1, -1, 7, -1, -1]),  # back up
            _changed(right=[2, -1, 4, -1, -1, 8, -1, -1]),  # beyond the end
            _changed(left=[1, -1, -3, -1, -1, 6, -1, -1]),
            _changed(left=[1, -1]),
            _changed(roots=[]),
            _changed(roots=[0, 8]),
            _changed(roots=[-1]),
            _changed(roots=[0] * 9),
            _changed(feature=[3, -1, 2, -1, -1, 1, -1, -1]),
            _changed(feature=[-2, -1, 2, -1, -1, 1, -1, -1]),
            _changed(feature=[2**70, -1, 2, -1, -1, 1, -1, -1]),
            _changed(threshold=["0.5"] * 8),
            _changed(value=[]),
            _changed(code="import os"),
            _changed(kind="pickle"),
            {"model": {"kind": "linear", "weights": [1.0, 2.0], "means": [0.0, 0.0]}},
            {"features": []},
            {"features": ["probability", "probability", "price"]},
            {"scale": 0.0},
            {"scale": -1.0},
            {"surprise": 1},
        ],
    )
    def test_what_makes_no_model_is_refused(self, tmp_path: Path, changes: dict[str, Any]) -> None:
        path = tmp_path / "c.json"
        path.write_text(json.dumps({**msgspec.to_builtins(made().file), **changes}))
        with pytest.raises(ModelError, match=r"c\.json"):
            FittedCombiner.read(path)

    @pytest.mark.parametrize("value", ["1e999", "-1e999", "NaN"])
    def test_numbers_that_are_none(self, tmp_path: Path, value: str) -> None:
        path = tmp_path / "c.json"
        for field in ('"offset":-0.25', '"value":[0.5', '"threshold":[0.5'):
            text = msgspec.json.encode(made().file).decode()
            assert field in text
            path.write_text(text.replace(field, field.replace("-0.25", value).replace("0.5", value)))
            with pytest.raises(ModelError, match=r"c\.json"):
                FittedCombiner.read(path)

    @pytest.mark.parametrize("data", [b"", b"{}", b"[" * 100_000, b"\xff\xfe", b" " * (9 << 20)])
    def test_bytes_that_are_no_combiner(self, tmp_path: Path, data: bytes) -> None:
        (tmp_path / "c.json").write_bytes(data)
        with pytest.raises(ModelError, match=r"c\.json"):
            FittedCombiner.read(tmp_path / "c.json")

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="aisle train combiner"):
            FittedCombiner.read(tmp_path / "nowhere.json")

    def test_a_tree_without_end(self) -> None:
        n = 200  # a chain: each node's left child is a leaf, its right one the next node
        nodes = range(n)
        chain = Trees(
            roots=[0], feature=[0] * n + [-1], threshold=[0.0] * (n + 1), left=[*(n for _ in nodes), -1],
            right=[*(i + 1 for i in nodes), -1], value=[0.0] * (n + 1),
        )  # fmt: skip
        with pytest.raises(ModelError, match="deeper"):
            made(chain)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("combined")
    build_index(synthetic_products(), target, encoder=HashedWordsEncoder(), reranker=Scripted(falling))
    return target


@pytest.fixture
def engine_with(directory: Path) -> Callable[..., SearchEngine]:
    def load(combiner: Any = None, answer: Callable[[np.ndarray], np.ndarray] = falling, **config: Any) -> SearchEngine:
        settings = SearchConfig(**config)
        loaded = SearchEngine.load(directory, settings, encoder=HashedWordsEncoder(), reranker=Scripted(answer))
        return loaded.configured(settings, combiner=combiner) if combiner else loaded

    return load


def ids(result: Any) -> list[str]:
    return [hit.product.product_id for hit in result.hits]


class TestInASearch:
    def test_a_combiner_decides_the_order_of_the_best(self, engine_with: Callable[..., SearchEngine]) -> None:
        bare = ids(engine_with(rerank_depth=0).search(QUERY, 40))
        found = engine_with(line(probability=3.0)).search(QUERY, 40)
        assert ids(found) == bare[:30][::-1] + bare[30:]  # the last candidate is the most probable
        np.testing.assert_allclose(
            [hit.score for hit in found.hits[:30]], 1 / (1 + np.exp(-3 * np.linspace(0.9, 0.1, 30))), rtol=1e-5
        )
        assert [report.status for report in found.stages if report.stage == "combine"] == ["ran"]

    def test_scores_never_rise_and_pages_are_stable(self, engine_with: Callable[..., SearchEngine]) -> None:
        engine = engine_with(line(price=-2.0, lexical=1.0), depth=40)
        found = engine.search(QUERY, 100)
        assert all(a.score >= b.score for a, b in itertools.pairwise(found.hits))
        pages = [ids(engine.search(QUERY, 20, offset=offset)) for offset in range(0, 100, 20)]
        assert list(itertools.chain.from_iterable(pages)) == ids(found)

    def test_features_are_what_the_stages_found(self, engine_with: Callable[..., SearchEngine]) -> None:
        seen: list[np.ndarray] = []

        class Seeing(FittedCombiner):
            def scores(self, values: np.ndarray) -> np.ndarray:
                seen.append(values)
                return np.linspace(1, 0.5, len(values), dtype=np.float32)

        engine = engine_with(Seeing(line(probability=1.0).file))
        hits = engine.search("acme phone under 500", 30).hits
        assert len(hits) == len(seen[-1])
        value = dict(zip(FEATURES, seen[-1].T, strict=True))
        traces = [{trace.stage: trace for trace in hit.trace} for hit in hits]
        np.testing.assert_allclose(value["probability"], np.linspace(0.1, 0.9, len(hits)), rtol=1e-6)
        np.testing.assert_allclose(value["probability_gap"], value["probability"] - 0.9, atol=1e-6)
        lexical = np.array([trace["lexical"].score or 0.0 for trace in traces])
        np.testing.assert_allclose(value["lexical"] * lexical.max(), lexical, rtol=1e-5)
        for place, trace in enumerate(traces):
            if trace["dense"].score is not None:
                assert value["cosine"][place] == pytest.approx(trace["dense"].score, abs=0.02)  # kept in 8 bits
        np.testing.assert_allclose(value["rank"], 1 / np.log2(np.arange(2, len(hits) + 2)), rtol=1e-6)
        assert value["fused"][0] == 1
        assert (np.diff(value["fused"]) <= 0).all()
        cheap = np.array([(hit.product.price or 1e9) < 500 for hit in hits])
        assert cheap.any()
        np.testing.assert_array_equal(value["limits"], np.where(cheap, 1, -1))
        np.testing.assert_array_equal(value["brand"], [1 if hit.product.brand == "Acme" else -1 for hit in hits])
        known = [place for place, hit in enumerate(hits) if hit.product.price is not None]
        by_price = sorted(known, key=lambda place: hits[place].product.price or 0)
        assert (np.diff(value["price"][by_price]) > 0).all()
        assert {*value["price"][[p for p in range(len(hits)) if p not in known]]} <= {np.float32(0.5)}
        assert {*value["query_words"]} == {3}

    def test_what_a_rewrite_found_has_its_cosine_with_the_query(self, engine_with: Callable[..., SearchEngine]) -> None:
        seen: list[np.ndarray] = []

        class Seeing(FittedCombiner):
            def scores(self, values: np.ndarray) -> np.ndarray:
                seen.append(values[:, list(FEATURES).index("cosine")])
                return np.linspace(1, 0.5, len(values), dtype=np.float32)

        combiner = Seeing(line(probability=1.0).file)
        config = SearchConfig(depth=20, rerank_depth=60, rewrite_below=1.0)
        engine = engine_with(combiner).configured(config, combiner=combiner, rewriter=Says("globex phone case"))
        result = engine.search("mobile screen", 60)
        assert ("rewrite", "ran") in [(report.stage, report.status) for report in result.stages]
        hits = result.hits[: len(seen[-1])]
        only_rewritten = [hit.trace for hit in hits if not any(t.rank for t in hit.trace if t.stage == "fusion")]
        assert only_rewritten
        encoder = HashedWordsEncoder()
        cosines = encoder.encode_products([hit.product for hit in hits]) @ encoder.encode_queries(["mobile screen"])[0]
        np.testing.assert_allclose(seen[-1], cosines, atol=0.02)  # kept in 8 bits

    def test_explanations_add_up(self, engine_with: Callable[..., SearchEngine]) -> None:
        engine = engine_with(line(probability=3.0, price=-1.0, lexical=0.5))
        hit = engine.search(QUERY, 5, explain=True).hits[2]
        (trace,) = (trace for trace in hit.trace if trace.stage == "combine")
        assert {name for name, _ in trace.parts} == {BASE, "probability", "price", "lexical"}
        np.testing.assert_allclose(
            sum(value for _, value in trace.parts), np.log(hit.score / (1 - hit.score)), rtol=1e-4
        )
        assert engine.explain(QUERY, hit.product.product_id).trace == hit.trace
        assert not any(trace.parts for trace in engine.search(QUERY, 5).hits[2].trace)
        stages = {stage["stage"]: stage for stage in as_dict(hit)["stages"]}
        assert stages["combine"]["parts"] == dict(trace.parts)
        assert "parts" not in stages["rerank"]
        assert f"{dict(trace.parts)['probability']:+8.3f}  probability" in render(hit)

    def test_what_has_no_probability_stays_behind(self, engine_with: Callable[..., SearchEngine]) -> None:
        bare = ids(engine_with(rerank_depth=0).search(QUERY, 40))

        def half(rows: np.ndarray) -> np.ndarray:
            return np.where(np.arange(len(rows)) % 2, np.nan, falling(rows))

        found = engine_with(line(probability=3.0), half).search(QUERY, 40)
        assert ids(found) == bare[:30:2][::-1] + bare[1:30:2] + bare[30:]

    @pytest.mark.parametrize(
        ("combiner", "why"),
        [
            (made(encoder="another"), "encoder 'another'"),
            (made(features=["probability", "lexical", "margin"]), "margin"),
        ],
    )
    def test_one_that_does_not_fit_leaves_the_blend(
        self, engine_with: Callable[..., SearchEngine], combiner: Any, why: str
    ) -> None:
        found, blend = (engine_with(one).search(QUERY, 40) for one in (combiner, None))
        (report,) = (report for report in found.stages if report.stage == "combine")
        assert report.status == "degraded"
        assert why in report.note
        assert [(hit.product.product_id, hit.score) for hit in found.hits] == [
            (hit.product.product_id, hit.score) for hit in blend.hits
        ]

    @pytest.mark.parametrize(("query", "config"), [(QUERY, {"retrievers": ("lexical",)}), ("zzyzx", {})])
    def test_where_nothing_was_fused_there_is_nothing_to_weigh(
        self, engine_with: Callable[..., SearchEngine], query: str, config: dict[str, Any]
    ) -> None:
        found = engine_with(line(probability=3.0), min_similarity=0.99, **config).search(query, 40)
        (report,) = (report for report in found.stages if report.stage == "combine")
        assert report.status == "skipped"
        assert "together" in report.note
        assert not found.degraded
        assert found.hits

    def test_one_that_fails_leaves_the_blend(self, engine_with: Callable[..., SearchEngine]) -> None:
        class Failing(FittedCombiner):
            def scores(self, values: np.ndarray) -> np.ndarray:
                raise RuntimeError("out of order")

        found = engine_with(Failing(line(probability=1.0).file)).search(QUERY, 40)
        assert found.degraded
        assert ids(found) == ids(engine_with().search(QUERY, 40))

    def test_a_configuration_names_its_file(self, directory: Path, tmp_path: Path) -> None:
        line(probability=3.0).write(tmp_path / "c.json")
        models = {"encoder": HashedWordsEncoder(), "reranker": Scripted(falling)}
        engine = SearchEngine.load(directory, SearchConfig(combiner=str(tmp_path / "c.json")), **models)
        assert "combine" in [report.stage for report in engine.search(QUERY).stages]
        assert "combine" not in [report.stage for report in engine.configured(SearchConfig()).search(QUERY).stages]
        with pytest.raises(ModelError, match=r"nowhere\.json"):
            SearchEngine.load(directory, SearchConfig(combiner=str(tmp_path / "nowhere.json")), **models)


class TestProperties:
    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.tuples(*[st.floats(0, 1, width=32)] * 3), min_size=1, max_size=30))
    def test_all_at_once_is_one_by_one(self, rows: list[tuple[float, float, float]]) -> None:
        values = rows_of(**{name: [row[place] for row in rows] for place, name in enumerate(NAMES)})

        def walk(node: int, row: tuple[float, ...]) -> float:
            while TREES["feature"][node] != -1:
                asked = row[TREES["feature"][node]] <= TREES["threshold"][node]
                node = TREES["left" if asked else "right"][node]
            return TREES["value"][node]

        expected = [2 * sum(walk(root, row) for root in TREES["roots"]) - 0.25 for row in rows]
        np.testing.assert_allclose(made().log_odds(values), expected, atol=1e-12)
