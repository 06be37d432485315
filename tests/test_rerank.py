"""Reranking as a stage of a search: what it does to order, scores, pages and reports; what an index keeps for it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.indexes import made_of
from benchmarks.systems import SYSTEMS
from engine import (
    Candidates,
    EngineConfig,
    Equal,
    IndexConfig,
    IndexCorruptError,
    IndexMismatchError,
    ModelError,
    SearchConfig,
    SearchEngine,
    SearchResult,
    StageReport,
)
from engine.builder import build_index
from engine.fusion import reranked
from engine.storage.manifest import current_version, read_manifest
from engine.types import Scored
from ranking.cross_encoder import CrossEncoderModel
from tests.conftest import HashedWordsEncoder, synthetic_products, write_manifest
from tests.rerankers import SlowSession, seal, write_model

QUERY = "acme phone with a bright camera"
DEPTH = SearchConfig().rerank_depth


def ids(result: SearchResult) -> list[str]:
    return [hit.product.product_id for hit in result.hits]


def stage(result: SearchResult) -> StageReport:
    return next(report for report in result.stages if report.stage == "rerank")


class Scripted:
    """A reranker, and the model it comes from, that gives what it is told to for all rows."""

    fingerprint = "scripted"

    def __init__(self, answer: Callable[[np.ndarray], np.ndarray]) -> None:
        self.answer, self.deadlines = answer, []

    def build(self, directory: Path, products) -> str:
        (directory / "products").write_text(str(sum(1 for _ in products)))
        return "scripted"

    def open(self, directory: Path, threads: int) -> Scripted:
        assert (directory / "products").read_text() == "120"
        return self

    def understands(self, query: str) -> bool:
        return "холодильник" not in query

    def score(self, query: str, rows: np.ndarray, deadline: float | None) -> Scored:
        self.deadlines.append(deadline)
        return Scored(np.asarray(self.answer(rows), np.float32), "as scripted")


def falling(rows: np.ndarray) -> np.ndarray:
    """The last candidate is the most probable."""
    return np.linspace(0.1, 0.9, len(rows))


@pytest.fixture(scope="module")
def scripted_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("scripted")
    build_index(synthetic_products(), directory, encoder=HashedWordsEncoder(), reranker=Scripted(falling))
    return directory


@pytest.fixture
def scripted(scripted_directory: Path) -> Callable[..., SearchEngine]:
    def load(answer: Callable[[np.ndarray], np.ndarray], **config) -> SearchEngine:
        return SearchEngine.load(
            scripted_directory, SearchConfig(**config), encoder=HashedWordsEncoder(), reranker=Scripted(answer)
        )

    return load


@pytest.fixture(scope="module")
def index(reranker_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("index")
    config = EngineConfig(index=IndexConfig(encoder="", reranker=str(reranker_directory)))
    build_index(synthetic_products(), directory, config, encoder=HashedWordsEncoder())
    return directory


@pytest.fixture(scope="module")
def subject(index: Path) -> SearchEngine:
    return SearchEngine.load(index, encoder=HashedWordsEncoder())


class TestBlending:
    @settings(max_examples=200, deadline=None)
    @given(
        fused=st.lists(st.floats(-1, 30, width=32), min_size=1, max_size=40),
        probabilities=st.lists(st.one_of(st.floats(0, 1, width=32), st.just(float("nan"))), max_size=40),
        weight=st.floats(0, 1),
    )
    def test_a_permutation_that_never_rises(self, fused, probabilities, weight) -> None:
        ranking = Candidates.ranked(np.arange(len(fused)) * 3, np.array(fused, np.float32))
        given = np.array(probabilities[: len(fused)], np.float32)
        found = reranked(ranking, given, weight)
        assert sorted(found.rows.tolist()) == sorted(ranking.rows.tolist())
        assert (np.diff(found.scores) <= 0).all()
        assert found.scores.dtype == np.float32
        known = np.isfinite(given)
        assert set(found.rows[: known.sum()]) == set(ranking.rows[: len(given)][known])
        unknown = np.concatenate([ranking.rows[: len(given)][~known], ranking.rows[len(given) :]])
        np.testing.assert_array_equal(found.rows[known.sum() :], unknown)

    def test_the_score_is_the_weighted_sum(self) -> None:
        fused = Candidates(np.array([5, 2, 9, 7]), np.array([1.6, 0.8, 0.4, 0.2], np.float32))
        found = reranked(fused, np.array([0.1, np.nan, 0.9], np.float32), 0.7)
        assert found.rows.tolist() == [9, 5, 2, 7]
        np.testing.assert_allclose(found.scores, [0.7 * 0.9 + 0.3 * 0.25, 0.7 * 0.1 + 0.3, 0.3 * 0.5, 0.3 * 0.125])

    def test_the_more_probable_of_equals_comes_first(self) -> None:
        fused = Candidates(np.arange(20), np.ones(20, np.float32))
        probabilities = np.random.default_rng(1).random(20).astype(np.float32)
        np.testing.assert_array_equal(reranked(fused, probabilities, 0.3).rows, np.argsort(-probabilities))


class TestStage:
    def test_reports_and_traces(self, subject: SearchEngine) -> None:
        result = subject.search(QUERY, 60)
        assert [report.stage for report in result.stages][-3:] == ["rerank", "hydrate", "describe"]
        report = stage(result)
        assert (report.status, report.n_in, report.n_out) == ("ran", DEPTH, DEPTH)
        traces = [hit.trace[-1] for hit in result.hits]
        assert {trace.stage for trace in traces} == {"rerank"}
        probabilities = [trace.score for trace in sorted(traces[:DEPTH], key=lambda trace: trace.rank)]
        assert probabilities == sorted(probabilities, reverse=True)
        assert all(0 <= probability <= 1 for probability in probabilities)
        assert all(trace.rank is None for trace in traces[DEPTH:])
        assert [hit.score for hit in result.hits] == sorted((hit.score for hit in result.hits), reverse=True)

    def test_the_order_is_the_rerankers(self, scripted) -> None:
        fused = ids(scripted(falling, rerank_depth=0).search(QUERY, 40))
        turned = ids(scripted(falling, rerank_depth=30, rerank_weight=1.0).search(QUERY, 40))
        assert turned == fused[29::-1] + fused[30:]

    def test_an_index_without_a_reranker_has_no_stage(self, small: SearchEngine) -> None:
        assert all(report.stage != "rerank" for report in small.search(QUERY).stages)

    def test_off(self, subject: SearchEngine, index: Path) -> None:
        off = SearchConfig(rerank_depth=0)
        for engine in (subject.configured(off), SearchEngine.load(index, off, encoder=HashedWordsEncoder())):
            assert all(report.stage != "rerank" for report in engine.search(QUERY).stages)

    @pytest.mark.parametrize("retriever", ["lexical", "dense"])
    def test_after_one_retriever(self, subject: SearchEngine, retriever: str) -> None:
        result = subject.configured(SearchConfig(retrievers=(retriever,))).search(QUERY, 20)
        assert stage(result).status == "ran"
        assert all(0 <= hit.score <= 1 for hit in result.hits)

    def test_it_helps(self, subject: SearchEngine) -> None:
        """To the miniature a word is worth the same in every field; to BM25 here a description's is worth nothing."""
        plain = SearchConfig(retrievers=("lexical",), field_weights={"brand": 1.0}, rerank_weight=1.0, rerank_depth=0)
        query = "acme protects from drops"
        found = [
            np.mean(["Case" in hit.product.title for hit in subject.configured(config).search(query, 10).hits])
            for config in (plain, msgspec.structs.replace(plain, rerank_depth=50))
        ]
        assert found[0] < 0.5
        assert found[1] == 1.0

    def test_explained(self, subject: SearchEngine) -> None:
        hit = subject.search(QUERY, 3).hits[2]
        explained = subject.explain(QUERY, hit.product.product_id)
        assert (explained.rank, explained.trace) == (hit.rank, hit.trace)

    def test_a_query_in_no_known_word_is_left_alone(self, scripted) -> None:
        result = scripted(falling).search("acme холодильник")
        assert (stage(result).status, result.degraded) == ("skipped", False)
        assert ids(result) == ids(scripted(falling, rerank_depth=0).search("acme холодильник"))

    def test_nothing_found(self, subject: SearchEngine) -> None:
        assert subject.search(QUERY, filters=[Equal("brand", "Nobody")]).hits == ()

    def test_threads_give_the_same_answers(self, subject: SearchEngine) -> None:
        queries = [f"acme {kind} {n}" for n in range(10) for kind in ("phone", "fridge")]
        one_by_one = [ids(subject.search(query, 20)) for query in queries]
        fresh = SearchEngine.load(subject.version.parent.parent, encoder=HashedWordsEncoder())
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(lambda query: ids(fresh.search(query, 20)), queries)) == one_by_one
        assert [ids(result) for result in fresh.search_batch(queries, 20)] == one_by_one


class TestPages:
    @pytest.mark.parametrize("query", [QUERY, "acme", "P0007"])
    @pytest.mark.parametrize("depth", [7, 20])
    def test_pages_are_the_list_cut_up(self, subject: SearchEngine, query: str, depth: int) -> None:
        """Pages end within the reranked part, at its end, and far beyond the first tier."""
        shallow = subject.configured(SearchConfig(depth=depth, rerank_depth=10))
        whole = shallow.search(query, 80)
        pages = [shallow.search(query, 5, offset=offset) for offset in range(0, 80, 5)]
        assert list(itertools.chain.from_iterable(map(ids, pages))) == ids(whole)
        assert len(set(ids(whole))) == len(whole.hits)
        scores = [hit.score for page in pages for hit in page.hits]
        assert scores == sorted(scores, reverse=True)
        assert len(whole.hits) > 40 or query == "P0007"


class TestDegrading:
    def test_no_time_at_all_leaves_the_fused_order(self, subject: SearchEngine) -> None:
        result = subject.search(QUERY, 20, deadline_ms=0)
        assert stage(result).status == "degraded"
        assert stage(result).note == f"0 of {DEPTH} scored; 0.0 ms left"
        lexical = subject.configured(SearchConfig(retrievers=("lexical",), rerank_depth=0))
        assert ids(result) == ids(lexical.search(QUERY, 20))

    def test_what_was_not_scored_stays_in_its_order_behind(self, scripted) -> None:
        def some(rows: np.ndarray) -> np.ndarray:
            return np.where(np.arange(len(rows)) < 12, falling(rows), np.nan)

        result = scripted(some, rerank_weight=1.0).search(QUERY, 60)
        assert (stage(result).status, stage(result).n_out) == ("degraded", 12)
        assert stage(result).note == f"12 of {DEPTH} scored; as scripted"
        fused = ids(scripted(some, rerank_depth=0).search(QUERY, 60))
        assert ids(result) == fused[11::-1] + fused[12:]
        assert [hit.trace[-1].rank for hit in result.hits] == [*range(1, 13), *[None] * 48]

    def test_time_for_some(self, index: Path, reranker_directory: Path) -> None:
        model = CrossEncoderModel(reranker_directory)
        model.session = SlowSession(model.session, 0.01)
        engine = SearchEngine.load(index, SearchConfig(threads=1), encoder=HashedWordsEncoder(), reranker=model)
        started = time.perf_counter()
        result = engine.search("a new acme phone", 10, deadline_ms=250)
        assert time.perf_counter() - started < 0.25 + 0.25
        n, n_in = stage(result).n_out, stage(result).n_in
        assert 0 < n < 26
        assert n_in == DEPTH
        assert stage(result).note.startswith(f"{n} of {DEPTH} scored; ")
        assert stage(result).note.endswith(" ms left")

    def test_an_error_leaves_the_fused_order(self, scripted) -> None:
        engine = scripted(falling)

        def fail(rows: np.ndarray) -> np.ndarray:
            raise RuntimeError("the model is gone")

        engine._ranker.reranker.answer = fail
        result = engine.search(QUERY, 20)
        assert result.degraded
        assert (stage(result).status, stage(result).note) == ("degraded", "RuntimeError: the model is gone")
        assert ids(result) == ids(scripted(falling, rerank_depth=0).search(QUERY, 20))

    def test_time_is_left_for_the_stages_after_it(self, scripted) -> None:
        engine = scripted(falling)
        for _ in range(3):
            engine.search(QUERY, 100, explain=True, facets=["brand"])
        reranker = engine._ranker.reranker
        reserves = []
        for k, explain in ((0, False), (10, False), (100, False), (100, True)):
            before = time.perf_counter()
            engine.search(QUERY, k, explain=explain, deadline_ms=1e6)
            reserves.append(before + 1e3 - reranker.deadlines[-1])
        assert reserves == sorted(reserves)
        assert reserves[3] - reserves[0] > 5e-3  # explaining a hundred hits takes that long on any machine


class TestIndex:
    def edit(self, index: Path, **changes) -> None:
        path = current_version(index) / "manifest.json"
        write_manifest(path.parent, {**msgspec.json.decode(path.read_bytes()), **changes})

    @pytest.fixture
    def own(self, tmp_path: Path, reranker_directory: Path) -> Path:
        config = EngineConfig(index=IndexConfig(encoder="", reranker=str(reranker_directory)))
        return build_index(synthetic_products(20), tmp_path / "own", config)

    def test_the_configured_model_is_used(self, own: Path) -> None:
        assert stage(SearchEngine.load(own).search(QUERY)).status == "ran"
        manifest = read_manifest(current_version(own))
        assert manifest.notes["rerank"].startswith("words (")
        assert {"rerank/tokens.bin", "rerank/offsets.npy"} < set(manifest.files)

    def test_a_directory_is_found_from_anywhere(
        self, tmp_path: Path, reranker_directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(reranker_directory.parent)
        config = EngineConfig(index=IndexConfig(encoder="", reranker=reranker_directory.name))
        build_index(synthetic_products(3), tmp_path / "own", config)
        monkeypatch.chdir("/")
        assert stage(SearchEngine.load(tmp_path / "own").search("acme")).status == "ran"

    def test_a_model_trained_anew_reads_the_same_index(self, own: Path, tmp_path: Path) -> None:
        again = write_model(tmp_path / "again", synthetic_products(), name="again", scale=3.0, query_tokens=5)
        engine = SearchEngine.load(own, reranker=CrossEncoderModel(again))
        assert stage(engine.search(QUERY)).status == "ran"

    @pytest.mark.parametrize("part", ["tokenizer", "product_tokens"])
    def test_what_reads_other_tokens_is_refused(self, own: Path, tmp_path: Path, part: str) -> None:
        if part == "tokenizer":
            other = write_model(tmp_path / "other", synthetic_products(2))
        else:
            other = write_model(tmp_path / "other", synthetic_products(), product_tokens=23)
        with pytest.raises(IndexMismatchError, match=r"reranker.*Build the index again"):
            SearchEngine.load(own, reranker=CrossEncoderModel(other))

    def test_an_index_without_tokens_refuses_a_reranker(self, small_directory: Path, reranker_directory: Path) -> None:
        with pytest.raises(IndexMismatchError, match="reranker 'none'"):
            SearchEngine.load(
                small_directory, encoder=HashedWordsEncoder(), reranker=CrossEncoderModel(reranker_directory)
            )

    def test_a_missing_model_is_named_and_only_needed_for_reranking(self, own: Path) -> None:
        config = read_manifest(current_version(own)).config
        self.edit(own, config=msgspec.to_builtins(msgspec.structs.replace(config, reranker="gone")))
        with pytest.raises(ModelError, match="no reranker in gone"):
            SearchEngine.load(own)
        assert SearchEngine.load(own, SearchConfig(rerank_depth=0)).search(QUERY).hits

    def test_an_index_of_format_1_is_read(self, small_directory: Path, tmp_path: Path) -> None:
        SearchEngine.load(small_directory, encoder=HashedWordsEncoder()).save(tmp_path / "old")
        path = current_version(tmp_path / "old") / "manifest.json"
        old = msgspec.json.decode(path.read_bytes())
        del old["reranker"], old["config"]["reranker"], old["notes"]["rerank"]
        write_manifest(path.parent, {**old, "format_version": 1})
        assert SearchEngine.load(tmp_path / "old", encoder=HashedWordsEncoder()).search(QUERY).hits

    @pytest.mark.parametrize("name", ["tokens.bin", "offsets.npy"])
    def test_damage(self, own: Path, name: str) -> None:
        path = current_version(own) / "rerank" / name
        path.write_bytes(path.read_bytes()[:-3])
        for verify in (True, False):
            with pytest.raises(IndexCorruptError):
                SearchEngine.load(own, verify=verify)


class TestBenchmarks:
    def test_what_shapes_the_index(self, tmp_path: Path) -> None:
        assert not any(name.startswith("rank") for name in made_of(IndexConfig(reranker="")))
        directory = write_model(tmp_path, synthetic_products(3))
        config = IndexConfig(reranker=str(directory))
        before = made_of(config)
        assert "ranking.tokens" in before
        seal(directory, scale=2.0)
        assert made_of(config)["reranker"] != before["reranker"]

    def test_only_systems_that_say_so_rerank(self) -> None:
        depths = {name: getattr(system, "search", {}).get("rerank_depth") for name, system in SYSTEMS.items()}
        reranking = {"hybrid+rerank", "hybrid+onepass", "hybrid+listwise", "hybrid+route+rerank"}
        assert {name for name, depth in depths.items() if depth is None} == {*reranking, "bm25s", "stock-rrf"}
