"""Adapters in service: searches that choose them, many at once, and the commands."""

from __future__ import annotations

import gc
import json
import logging
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from engine import AdapterError, EngineConfig, IndexConfig, SearchConfig, SearchEngine
from engine.builder import build_index
from engine.cli import app
from tests.adapters import QUERY, made, raw
from tests.conftest import HashedWordsEncoder, synthetic_products
from tests.encoders import write_encoder
from tests.rerankers import write_model


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"), synthetic_products(), adaptable=True)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder"), synthetic_products())


@pytest.fixture(scope="module")
def index(reranker: Path, encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = EngineConfig(index=IndexConfig(encoder=str(encoder), reranker=str(reranker), router=""))
    return build_index(synthetic_products(), tmp_path_factory.mktemp("index"), config)


@pytest.fixture
def engine(index: Path) -> SearchEngine:
    return SearchEngine.load(index)


def ranked(engine: SearchEngine, query: str = QUERY, **more: Any) -> list[tuple[str, float]]:
    """Ids and what the reranker gave them, for all of a search."""
    hits = engine.search(query, 30, **more).hits
    return [(hit.product.product_id, hit.trace[-1].score or 0.0) for hit in hits]


class TestChoosing:
    def test_a_search_says_which_adapter_it_used(self, engine: SearchEngine) -> None:
        before = ranked(engine)
        info = engine.add_adapter(made("diwali", size=0.3))
        assert engine.adapters == (info,)
        result = engine.search(QUERY, adapter="diwali")
        notes = {report.stage: report.note for report in result.stages}
        assert notes["rerank"].startswith("adapter diwali")
        assert "adapter" not in notes["dense"]
        assert ranked(engine, adapter="diwali") != before
        assert ranked(engine) == before
        engine.add_adapter(made("diwali", "encoder", size=0.3))
        notes = {report.stage: report.note for report in engine.search(QUERY, adapter="diwali").stages}
        assert notes["dense"] == "adapter diwali"
        assert notes["rerank"].startswith("adapter diwali")
        assert [(each.name, each.kind) for each in engine.adapters] == [("diwali", "encoder"), ("diwali", "reranker")]

    def test_in_batches_and_explanations(self, engine: SearchEngine) -> None:
        engine.add_adapter(made("diwali", size=0.3))
        queries = [QUERY, "white fridge", "globex tv"]
        for result in engine.search_batch(queries, 5, adapter="diwali"):
            alone = engine.search(result.query, 5, adapter="diwali")
            assert [(hit.product.product_id, hit.score) for hit in result.hits] == [
                (hit.product.product_id, hit.score) for hit in alone.hits
            ]
        hit = engine.search(QUERY, 5, adapter="diwali").hits[3]
        explained = engine.explain(QUERY, hit.product.product_id, adapter="diwali")
        assert (explained.rank, explained.score, explained.trace) == (hit.rank, hit.score, hit.trace)

    def test_base_outputs_are_the_same_bits_before_during_and_after(self, index: Path) -> None:
        engine = SearchEngine.load(index)
        before = ranked(engine)
        fresh = SearchEngine.load(index)
        fresh.add_adapter(made("diwali", size=0.3))
        fresh.add_adapter(made("diwali", "encoder", size=0.3))
        adapted = ranked(fresh, adapter="diwali")
        assert ranked(fresh) == before
        fresh.remove_adapter("diwali")
        assert ranked(fresh) == before
        fresh.add_adapter(made("diwali", size=0.3))
        fresh.add_adapter(made("diwali", "encoder", size=0.3))
        assert ranked(fresh, adapter="diwali") == adapted != before

    def test_unknown_names(self, engine: SearchEngine) -> None:
        with pytest.raises(AdapterError, match="no adapter 'diwali'; there are none; add one with: aisle adapter add"):
            engine.search(QUERY, adapter="diwali")
        engine.add_adapter(made("summer"))
        engine.add_adapter(made("north"))
        for ask in (
            lambda: engine.search(QUERY, adapter="diwali"),
            lambda: engine.search_batch([QUERY], adapter="diwali"),
            lambda: engine.explain(QUERY, "P0001", adapter="diwali"),
            lambda: engine.remove_adapter("diwali"),
        ):
            with pytest.raises(AdapterError, match="no adapter 'diwali'; there are: north, summer"):
                ask()

    def test_what_does_not_fit_is_not_added(self, engine: SearchEngine, index: Path, small_directory: Path) -> None:
        engine.add_adapter(made("diwali"))
        before = engine.adapters
        with pytest.raises(AdapterError, match="trained on the base"):
            engine.add_adapter(made("diwali", base="ffff"))
        assert engine.adapters == before
        other = SearchEngine.load(small_directory, encoder=HashedWordsEncoder())
        with pytest.raises(AdapterError, match="for the reranker, and this engine was loaded without one"):
            other.add_adapter(made("diwali"))
        with pytest.raises(AdapterError, match="this index's encoder takes none"):
            other.add_adapter(made("diwali", "encoder"))

    def test_configured_engines_share_adapters(self, engine: SearchEngine) -> None:
        other = engine.configured(SearchConfig(rerank_weight=1.0))
        engine.add_adapter(made("diwali"))
        assert other.adapters == engine.adapters
        assert other.search(QUERY, adapter="diwali").hits
        other.remove_adapter("diwali")
        assert engine.adapters == ()
        assert engine.configured(SearchConfig(rerank_depth=0)).search(QUERY).hits

    def test_the_route_is_that_of_the_encoder_itself(self, encoder: Path, tmp_path: Path) -> None:
        config = EngineConfig(index=IndexConfig(encoder=str(encoder), reranker=""))
        engine = SearchEngine.load(build_index(synthetic_products(), tmp_path / "index", config))
        engine.add_adapter(made("diwali", "encoder", size=0.3))
        dense, router = engine._ranker.dense, engine._router
        assert dense is not None
        assert router is not None
        view = dense.adapted(engine._adapters.chosen("diwali").encoder)
        routed = [router.route(QUERY, by.vector(QUERY)).product_types for by in (dense, view)]
        assert routed[0] != routed[1]
        notes = [
            next(report.note for report in engine.search(QUERY, adapter=name).stages if report.stage == "route")
            for name in (None, "diwali")
        ]
        assert notes[0] == notes[1]


class TestConcurrency:
    NAMES = (None, "summer", "diwali", "north", "south")

    def test_requests_with_different_adapters_do_not_see_each_other(self, index: Path) -> None:
        """Exactly the scores that each gives when nothing else runs."""
        engine = SearchEngine.load(index)
        for name in self.NAMES[1:]:
            engine.add_adapter(made(name, size=0.3))
            if name != "south":
                engine.add_adapter(made(name, "encoder", size=0.3))
        queries = [f"{brand} {kind}" for brand in ("acme", "globex") for kind in ("phone", "fridge", "tv", "case")]
        asked = [(query, name) for query in queries for name in self.NAMES]
        alone = {ask: ranked(engine, ask[0], adapter=ask[1]) for ask in asked}
        assert len({str(alone["acme phone", name]) for name in self.NAMES}) == len(self.NAMES)
        fresh = SearchEngine.load(index)  # whose caches are empty
        for name in self.NAMES[1:]:
            fresh.add_adapter(made(name, size=0.3))
            if name != "south":
                fresh.add_adapter(made(name, "encoder", size=0.3))
        with ThreadPoolExecutor(16) as pool:
            found = list(pool.map(lambda ask: ranked(fresh, ask[0], adapter=ask[1]), asked * 3))
        for ask, answer in zip(asked * 3, found, strict=True):
            assert answer == alone[ask], ask

    def test_adding_replacing_and_removing_while_searching(self, engine: SearchEngine) -> None:
        """Every answer is that of one of the adapters that had the name, or the error that there is none."""
        versions = [made("diwali", size=size) for size in (0.2, 0.4)]
        expected = []
        for version in versions:
            engine.add_adapter(version)
            expected.append(ranked(engine, adapter="diwali"))
        base = ranked(engine)
        done, failed, seen = threading.Event(), list[BaseException](), set[int]()

        def search() -> None:
            try:
                while not done.is_set():
                    try:
                        seen.add(expected.index(ranked(engine, adapter="diwali")))
                    except AdapterError as error:
                        seen.add(-1 if "there is no adapter" in str(error) else -2)
                    assert ranked(engine) == base
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=search) for _ in range(4)]
        for thread in threads:
            thread.start()
        until = time.perf_counter() + 2
        while time.perf_counter() < until:
            for version in versions:
                engine.add_adapter(version)
                time.sleep(0.02)
            engine.remove_adapter("diwali")
            time.sleep(0.01)
        done.set()
        for thread in threads:
            thread.join()
        assert not failed
        assert seen == {-1, 0, 1}

    def test_a_request_under_way_keeps_what_it_began_with(self, engine: SearchEngine) -> None:
        engine.add_adapter(made("diwali", size=0.3))
        expected = ranked(engine, adapter="diwali")
        chosen = engine._adapters.chosen("diwali").reranker
        assert chosen is not None
        real, removed = chosen.score, list[bool]()

        def remove_first(*arguments: Any) -> Any:
            engine.remove_adapter("diwali")
            removed.append(True)
            return real(*arguments)

        chosen.score = remove_first  # type: ignore[method-assign]
        assert ranked(engine, adapter="diwali") == expected
        assert removed
        assert engine.adapters == ()

    def test_what_is_removed_is_given_back(self, engine: SearchEngine) -> None:
        engine.add_adapter(made("diwali"))
        engine.search(QUERY, adapter="diwali")
        view = weakref.ref(engine._adapters.chosen("diwali").reranker)
        engine.remove_adapter("diwali")
        gc.collect()
        assert view() is None


class TestOnDisk:
    def run(self, *arguments: object, code: int = 0) -> str:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == code, result.output
        return " ".join((result.stderr if code else result.stdout).split())

    @pytest.fixture
    def own(self, index: Path, tmp_path: Path) -> Path:
        SearchEngine.load(index).save(tmp_path / "own")
        return tmp_path / "own"

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        made("diwali", size=0.3).write(tmp_path / "any-name")
        return tmp_path / "any-name"

    def test_add_list_choose_remove(self, own: Path, file: Path) -> None:
        assert "has no adapters. Add one with:" in self.run("adapter", "list", own)
        said = self.run("adapter", "add", own, file)
        assert "added the adapter diwali for the reranker (lora, " in said
        assert "--adapter diwali" in said
        assert "replaced the adapter diwali" in self.run("adapter", "add", own, file)
        made("diwali", "encoder").write(file)
        assert "added the adapter diwali for the encoder" in self.run("adapter", "add", own, file)
        assert "added the adapter north" in self.run("adapter", "add", own, file, "--name", "north")
        listed = json.loads(CliRunner().invoke(app, ["adapter", "list", str(own), "--json"]).stdout)
        assert [(each["name"], each["kind"]) for each in listed["adapters"]] == [
            ("diwali", "encoder"), ("diwali", "reranker"), ("north", "encoder")
        ]  # fmt: skip
        assert "diwali reranker lora" in self.run("adapter", "list", own)
        assert "adapter diwali" in self.run("search", own, "acme phone", "--adapter", "diwali", "--json")
        assert self.run("explain", own, "acme phone", "P0000", "--adapter", "diwali")
        assert "there are: diwali, north" in self.run("search", own, "tv", "--adapter", "holi", code=2)
        assert "removed the adapter diwali for the encoder and the reranker" in self.run(
            "adapter", "remove", own, "diwali"
        )
        assert "there is no adapter 'diwali'; there are: north" in self.run("adapter", "remove", own, "diwali", code=2)

    def test_they_outlive_a_rebuild_and_go_along_when_saved(self, own: Path, file: Path, tmp_path: Path) -> None:
        self.run("adapter", "add", own, file)
        config = SearchEngine.load(own).manifest.config
        build_index(synthetic_products(40), own, EngineConfig(index=config))
        engine = SearchEngine.load(own)
        assert [info.name for info in engine.adapters] == ["diwali"]
        engine.save(tmp_path / "copy")
        assert SearchEngine.load(tmp_path / "copy").search(QUERY, adapter="diwali").hits
        assert "is intact" in self.run("verify", own)

    def test_what_does_not_fit_is_refused_and_leaves_nothing(self, own: Path, file: Path) -> None:
        made("diwali", base="ffff").write(file)
        assert "Train it on that" in self.run("adapter", "add", own, file, code=2)
        file.write_bytes(file.read_bytes()[:-5])
        assert "cut short" in self.run("adapter", "add", own, file, code=2)
        assert "with --name" in self.run("adapter", "add", own, raw(file, name="a/b"), code=2)
        made("diwali").write(file)
        assert "with --name" in self.run("adapter", "add", own, file, "--name", "../x", code=2)
        assert "Build one with: aisle build" in self.run("adapter", "add", own / "none", file, code=2)
        assert "Build one with: aisle build" in self.run("adapter", "remove", own / "none", "x", code=2)
        assert not (own / "adapters").exists()

    @pytest.mark.parametrize("damage", ["cut", "stale", "renamed"])
    def test_one_that_cannot_be_used_does_not_take_the_search_down(
        self, own: Path, file: Path, damage: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.run("adapter", "add", own, file)
        self.run("adapter", "add", own, file, "--name", "north")
        path = own / "adapters" / "diwali.reranker.safetensors"
        if damage == "cut":
            path.write_bytes(path.read_bytes()[:-5])
        elif damage == "stale":
            made("diwali", base="ffff").write(path)
        else:
            made("other").write(path)
        (own / "adapters" / "README.txt").write_text("of no interest")
        (own / "adapters" / "odd.safetensors").write_text("of no interest")
        said = {"cut": "cut short", "stale": "trained on the base", "renamed": "it was renamed"}[damage]
        with caplog.at_level(logging.WARNING):
            engine = SearchEngine.load(own)
        assert said in caplog.text
        assert engine.search(QUERY).hits
        assert engine.search(QUERY, adapter="north").hits
        with pytest.raises(AdapterError, match=f"diwali for the reranker cannot be used: .*{said}"):
            engine.search(QUERY, adapter="diwali")
        assert said in next(info.problem for info in engine.adapters if info.name == "diwali")
        assert said in self.run("adapter", "list", own, "--json")
        engine.add_adapter(made("diwali"))
        assert engine.search(QUERY, adapter="diwali").hits

    def test_without_reranking_its_adapters_are_kept_aside(self, own: Path, file: Path) -> None:
        self.run("adapter", "add", own, file)
        engine = SearchEngine.load(own, SearchConfig(rerank_depth=0))
        assert "for the reranker, and this engine was loaded without one" in engine.adapters[0].problem

    def test_help_teaches(self) -> None:
        for name in ("add", "list", "remove"):
            assert f"Example: aisle adapter {name}" in self.run("adapter", name, "--help")
        assert "--adapter NAME" in self.run("adapter", "--help")
