"""Adapters: their files, which are hostile, and models with them."""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from engine import AdapterError, AdapterInfo, ModelError
from engine.adapters import Adapter
from engine.dense.encoder import OnnxEncoder
from ranking.cross_encoder import CrossEncoder, CrossEncoderModel
from ranking.tokens import TokenStore
from tests.adapters import QUERY, ROWS, made, pair, raw, sized
from tests.conftest import synthetic_products
from tests.encoders import write_encoder
from tests.reranker_contract import PointwiseContract
from tests.rerankers import ADAPTERS, DIM, directions, write_model
from tests.test_dense import EncoderContract


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
