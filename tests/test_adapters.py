"""Adapters in service: their files, which are hostile; the registry; searches that choose them; the commands."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import struct
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save
from typer.testing import CliRunner

from engine import AdapterError, AdapterInfo, EngineConfig, IndexConfig, ModelError, SearchConfig, SearchEngine
from engine.adapters import Adapter, AdapterCard
from engine.builder import build_index
from engine.cli import app
from engine.dense.encoder import OnnxEncoder
from ranking.cross_encoder import CrossEncoder, CrossEncoderModel
from ranking.tokens import TokenStore
from tests.conftest import HashedWordsEncoder, synthetic_products
from tests.encoders import write_encoder
from tests.reranker_contract import N, PointwiseContract
from tests.rerankers import ADAPTERS, DIM, directions, write_model
from tests.test_dense import EncoderContract

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


class TestFile:
    def test_round_trip(self, tmp_path: Path) -> None:
        adapter = made("diwali", scale=2.0, offset=-1.0, source="orders", notes="## Data\n\nNone.")
        adapter.write(tmp_path / "a.safetensors")
        again = Adapter.read(tmp_path / "a.safetensors")
        assert again.card == adapter.card
        for left, right in zip(again.matrices["words"], adapter.matrices["words"], strict=True):
            np.testing.assert_array_equal(left, right)
        assert again.to_bytes() == adapter.to_bytes() == (tmp_path / "a.safetensors").read_bytes()
        assert again.info == AdapterInfo("diwali", "reranker", "lora", "MIT", 2 * 4 * DIM * 4)

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"format": 2}, "its format is 2, and this version of aisle reads 1"),
            ({"method": "prefix"}, "enter every layer's attention"),
            ({"method": "prompt_tuning"}, "enter every layer's attention"),
            ({"method": "dora"}, "more to a layer than add the product of two small matrices"),
            ({"name": "../../etc/passwd"}, "letters, digits"),
            ({"name": ".hidden"}, "letters, digits"),
            ({"name": ""}, "letters, digits"),
            ({"name": "a\nb"}, "letters, digits"),
            ({"name": "x" * 65}, "letters, digits"),
            ({"kind": "router"}, "its kind is 'router'"),
            ({"scale": 0.0}, "scale is 0.0"),
            ({"scale": 1e999}, "card cannot be read"),
            ({"offset": "none"}, "card cannot be read"),
        ],
    )
    def test_a_card_that_cannot_be_used(self, tmp_path: Path, change: dict[str, Any], said: str) -> None:
        path = raw(tmp_path / "bad.safetensors", **change)
        with pytest.raises(AdapterError, match=said) as error:
            Adapter.read(path)
        assert str(path) in str(error.value)

    @pytest.mark.parametrize(
        ("tensors", "said"),
        [
            ({}, "no matrices"),
            ({"words.A": np.ones((4, 2), np.float32)}, "one A and one B, and it is not so with words.B"),
            ({**pair(), "prefix": np.ones(3, np.float32)}, "one A and one B"),
            (pair((4, 2), (3, 4)), r"A \(4, 2\) and B \(3, 4\)"),
            (pair((4, 2, 1), (2, 4)), "must be"),
            (pair((4, 0), (0, 4)), "must be"),
            (pair((4, 257), (257, 4)), "rank from 1 to 256"),
            (pair(dtype=np.float16), "is F16; matrices are F32"),
            ({**pair(), "words.A": np.full((4, 2), np.nan, np.float32)}, "not finite"),
            ({**pair(), "words.B": np.full((2, 4), np.inf, np.float32)}, "not finite"),
        ],
    )
    def test_matrices_that_cannot_be_used(self, tmp_path: Path, tensors: dict[str, Any], said: str) -> None:
        with pytest.raises(AdapterError, match=said):
            Adapter.read(raw(tmp_path / "bad.safetensors", tensors))

    def test_what_is_no_adapter(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "plain").write_bytes(save(pair()))
        with pytest.raises(AdapterError, match="no entry 'aisle'"):
            Adapter.read(tmp_path / "plain")
        with pytest.raises(AdapterError, match="none cannot be read: No such file"):
            Adapter.read(tmp_path / "none")
        with pytest.raises(AdapterError, match="cannot be read: Is a directory"):
            Adapter.read(tmp_path)
        (tmp_path / "long").write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
        with pytest.raises(AdapterError, match="cut short"):
            Adapter.read(tmp_path / "long")
        header = b'{"__metadata__":null,"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
        (tmp_path / "null").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
        with pytest.raises(AdapterError, match="no entry 'aisle'"):
            Adapter.read(tmp_path / "null")
        with pytest.raises(AdapterError, match="words holds float64 and float64; matrices are float32"):
            Adapter(made("x").card, {"words": (np.ones((4, 2)), np.ones((2, 4)))})
        monkeypatch.setattr("engine.adapters._MAX_BYTES", 100)
        with pytest.raises(AdapterError, match="MB; an adapter of a low rank has a few"):
            Adapter.read(raw(tmp_path / "large"))

    def test_cut_short_anywhere(self, tmp_path: Path) -> None:
        data = made("diwali").to_bytes()
        for end in [*range(0, 400, 7), len(data) // 2, len(data) - 1]:
            (tmp_path / "cut").write_bytes(data[:end])
            with pytest.raises(AdapterError, match=r"cut: |cut is"):
                Adapter.read(tmp_path / "cut")

    @settings(max_examples=200, deadline=None)
    @given(place=st.integers(0, 600), byte=st.integers(0, 255), junk=st.binary(max_size=40))
    def test_any_damage_is_an_adapter_error_or_an_adapter(
        self, tmp_path_factory: pytest.TempPathFactory, place: int, byte: int, junk: bytes
    ) -> None:
        data = bytearray(made("diwali").to_bytes())
        data[place] = byte
        path = tmp_path_factory.getbasetemp() / "damaged"
        for content in (bytes(data), junk, bytes(data[:8]) + junk):
            path.write_bytes(content)
            with contextlib.suppress(AdapterError):
                assert Adapter.read(path).matrices


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"), synthetic_products(), adaptable=True)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder"), synthetic_products())


@pytest.fixture(scope="module")
def store(reranker: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("rerank")
    CrossEncoderModel(reranker).build(directory, synthetic_products())
    return directory


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


class TestAdaptedReranker(PointwiseContract):
    """A view is a reranker like any other."""

    @pytest.fixture
    def reopen(self, reranker: Path, store: Path) -> Callable[[], CrossEncoder]:
        return lambda: CrossEncoderModel(reranker).open(store, 2).adapted(made("diwali"))

    @pytest.fixture
    def subject(self, reopen: Callable[[], CrossEncoder]) -> CrossEncoder:
        return reopen()


class TestAdaptedEncoder(EncoderContract):
    @pytest.fixture(scope="class")
    @classmethod
    def subject(cls, encoder: Path) -> OnnxEncoder:
        return OnnxEncoder(encoder, threads=2).adapted(made("diwali", "encoder"))


class TestModels:
    def test_an_adapted_reranker_scores_as_if_merged(self, reranker: Path, store: Path) -> None:
        """Adding ``A @ B`` to the identity is what the target does to the directions of words."""
        adapter = made("diwali", size=0.3, scale=0.5, offset=-1.0)
        a, b = adapter.matrices["words"]
        base = CrossEncoderModel(reranker).open(store, 1)
        before = base.score(QUERY, ROWS, None).scores
        found = base.adapted(adapter).score(QUERY, ROWS, None).scores
        merged = _merged_scores(reranker, store, np.eye(DIM, dtype=np.float32) + a @ b, 0.5, -1.0)
        np.testing.assert_allclose(found, merged, atol=1e-5)
        assert np.abs(found - before).max() > 0.1
        fresh = CrossEncoderModel(reranker).open(store, 1)
        np.testing.assert_array_equal(fresh.score(QUERY, ROWS, None).scores, before)

    def test_targets_that_are_left_out_stay_as_they_are(self, store: Path, tmp_path: Path) -> None:
        directory = write_model(tmp_path, synthetic_products(), adaptable=True)
        base = CrossEncoderModel(directory).open(store, 1)
        nothing = Adapter(made("nothing").card, {"words": (np.zeros((DIM, 3), np.float32), np.ones((3, DIM), "f4"))})
        np.testing.assert_allclose(
            base.adapted(nothing).score(QUERY, ROWS, None).scores, base.score(QUERY, ROWS, None).scores, atol=1e-6
        )
        assert set(nothing.inputs(ADAPTERS, "words")) == {"words.A", "words.B"}
        more = msgspec.structs.replace(ADAPTERS, targets={**ADAPTERS.targets, "head": (DIM, 1)})
        assert nothing.inputs(more, "words")["head.B"].shape == (1, 1)

    def test_an_adapted_encoder_moves_queries_and_no_products(self, encoder: Path) -> None:
        base = OnnxEncoder(encoder)
        before = base.encode_queries([QUERY])
        view = base.adapted(made("diwali", "encoder", size=0.3))
        moved = view.encode_queries([QUERY])
        np.testing.assert_allclose(np.linalg.norm(moved, axis=1), 1, rtol=1e-5)
        assert 0.1 < float(before[0] @ moved[0]) < 0.99
        np.testing.assert_array_equal(
            view.encode_products(synthetic_products(5)), base.encode_products(synthetic_products(5))
        )
        np.testing.assert_array_equal(base.encode_queries([QUERY]), before)
        np.testing.assert_array_equal(OnnxEncoder(encoder).encode_queries([QUERY]), before)
        assert view.fingerprint == base.fingerprint

    @pytest.mark.parametrize(
        ("adapter", "said"),
        [
            (made("other", base="f" * 64), "trained on the base 'ffffffffffffffff', and the reranker words is '0123"),
            (sized("words", 9, DIM), f"words 9 → {DIM}, there {DIM} → {DIM}"),
            (sized("more", 9, 9), "more 9 → 9, there none of that name.*Its layers are words"),
            (made("o", "encoder"), "of kind encoder, and words of kind reranker"),
        ],
    )  # fmt: skip
    def test_what_is_for_another_model(self, reranker: Path, store: Path, adapter: Adapter, said: str) -> None:
        with pytest.raises(AdapterError, match=said):
            CrossEncoderModel(reranker).open(store, 1).adapted(adapter)

    def test_a_model_that_takes_none(self, tmp_path: Path, store: Path) -> None:
        plain = CrossEncoderModel(write_model(tmp_path, synthetic_products())).open(store, 1)
        with pytest.raises(AdapterError, match=r"takes no adapters: its directory has no adaptable\.onnx"):
            plain.adapted(made("diwali"))

    def test_numbers_that_are_too_large(self, reranker: Path, encoder: Path, store: Path) -> None:
        huge = Adapter(made("huge").card, {"words": (np.full((DIM, 1), 3e38, "f4"), np.full((1, DIM), 3e38, "f4"))})
        with pytest.raises(AdapterError, match="gives no numbers"):
            CrossEncoderModel(reranker).open(store, 1).adapted(huge)
        card = msgspec.structs.replace(huge.card, kind="encoder")
        with pytest.raises(AdapterError, match="gives no numbers"):
            OnnxEncoder(encoder).adapted(Adapter(card, huge.matrices))

    @pytest.mark.parametrize("damage", ["cut", "gone", "not in the card", "other inputs"])
    def test_a_graph_that_cannot_be_used_is_met_when_an_adapter_comes(
        self, tmp_path: Path, store: Path, damage: str
    ) -> None:
        directory = write_model(tmp_path, synthetic_products(), adaptable=True)
        graph = directory / "adaptable.onnx"
        if damage == "cut":
            graph.write_bytes(graph.read_bytes()[:-9])
        elif damage == "gone":
            graph.unlink()
        else:
            card = json.loads((directory / "reranker.json").read_bytes())
            if damage == "other inputs":
                card["adapters"]["targets"] = {"sentences": [DIM, DIM]}
            else:
                del card["sha256"]["adaptable.onnx"]
            (directory / "reranker.json").write_text(json.dumps(card))
        opened = CrossEncoderModel(directory).open(store, 1)
        assert np.isfinite(opened.score(QUERY, ROWS, None).scores).all()
        adapter = made("diwali")
        if damage == "other inputs":
            adapter = Adapter(adapter.card, {"sentences": adapter.matrices["words"]})
        with pytest.raises(ModelError, match=r"adaptable\.onnx"):
            opened.adapted(adapter)


def _merged_scores(reranker: Path, store: Path, change: np.ndarray, scale: float, offset: float) -> np.ndarray:
    """By the formula, with every word's direction changed."""
    model = CrossEncoderModel(reranker)
    size = model.tokenizer.get_vocab_size()
    words = directions(size) @ change
    tokens = TokenStore(store, size)

    def unit(ids: Any) -> np.ndarray:
        total = words[np.asarray(ids, np.int64)].sum(axis=0)
        return total / (np.linalg.norm(total) + 1e-3)

    query = unit(model.tokenizer.encode(QUERY, add_special_tokens=False).ids[: model.card.query_tokens])
    logits = np.array([6 * (query @ unit(tokens[row])) for row in ROWS.tolist()])
    return 1 / (1 + np.exp(-(scale * logits + offset)))


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
