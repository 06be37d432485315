"""Encoders and vector indexes, each through the contract of its seam."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.dense.encoder import SHIPPED, OnnxEncoder
from engine.dense.vectors import VectorIndex, choose_kind
from engine.errors import ModelError
from engine.product import Product
from tests.conftest import HashedWordsEncoder, synthetic_products


class EncoderContract:
    encoder: Any

    @pytest.fixture(scope="class")
    @classmethod
    def subject(cls):
        return cls.encoder()

    def test_shape_type_and_length(self, subject):
        vectors = subject.encode_queries(["samsung fridge", "tv"])
        assert vectors.shape == (2, subject.dim)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)

    def test_a_vector_does_not_depend_on_the_batch(self, subject):
        products = synthetic_products(9)
        together = subject.encode_products(products)
        alone = np.concatenate([subject.encode_products([p]) for p in products])
        np.testing.assert_array_equal(together, alone)

    def test_like_is_nearer_than_unlike(self, subject):
        query = subject.encode_queries(["fridge"])[0]
        fridge, phone = subject.encode_products(
            [Product(product_id="1", title="fridge double door"), Product(product_id="2", title="mobile phone case")]
        )
        assert query @ fridge > query @ phone

    @pytest.mark.parametrize("text", ["", " ", "\x00", "🙂", "x" * 100_000])
    def test_any_text_has_a_vector(self, subject, text):
        assert np.isfinite(subject.encode_queries([text])).all()


class TestHashedWords(EncoderContract):
    encoder = HashedWordsEncoder


class TestShipped(EncoderContract):
    encoder = partial(OnnxEncoder.named, "all-MiniLM-L6-v2", threads=2)

    def test_meaning_not_letters(self, subject):
        query = subject.encode_queries(["refrigerator"])[0]
        near, far = subject.encode_queries(["fridge freezer", "refreshing navigator"])
        assert query @ near > query @ far

    def test_what_is_cut_off_is_counted(self):
        encoder = OnnxEncoder.named("all-MiniLM-L6-v2", max_tokens=16)
        long = Product(product_id="1", title="fridge " * 40)
        encoder.encode_products([long, Product(product_id="2", title="fridge")])
        assert (encoder.n_texts, encoder.n_truncated) == (2, 1)


class TestHostileModels:
    @pytest.fixture
    def directory(self, tmp_path: Path) -> Path:
        return Path(shutil.copytree(SHIPPED / "all-MiniLM-L6-v2", tmp_path / "model"))

    @pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
    def test_a_changed_file_is_refused(self, directory, name):
        data = (directory / name).read_bytes()
        (directory / name).write_bytes(data[: len(data) // 2])
        with pytest.raises(ModelError, match="checksum"):
            OnnxEncoder(directory)

    @pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "encoder.json"])
    def test_a_missing_file_is_named(self, directory, name):
        (directory / name).unlink()
        with pytest.raises(ModelError, match=name):
            OnnxEncoder(directory)

    def test_an_unknown_name_lists_the_known_ones(self):
        with pytest.raises(ModelError, match="all-MiniLM-L6-v2"):
            OnnxEncoder.named("no-such-encoder")

    @pytest.mark.parametrize(("name", "data"), [("model.onnx", b"not a model"), ("tokenizer.json", b"{}")])
    def test_a_file_of_another_kind_is_refused(self, directory, name, data):
        import hashlib

        import msgspec

        (directory / name).write_bytes(data)
        card = msgspec.json.decode((directory / "encoder.json").read_bytes())
        card["sha256"][name] = hashlib.sha256(data).hexdigest()
        (directory / "encoder.json").write_bytes(msgspec.json.encode(card))
        with pytest.raises(ModelError, match=name):
            OnnxEncoder(directory)


def unit_vectors(n: int, dim: int = 32, seed: int = 5) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((n, dim), np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("kind", ["exact", "sq8", "hnsw", "ivf"])
class TestVectorIndex:
    @pytest.fixture
    def vectors(self):
        return unit_vectors(3_000)

    @pytest.fixture
    def index(self, kind, vectors, tmp_path):
        return VectorIndex.build(tmp_path, vectors, kind, threads=2)

    def test_finds_the_nearest(self, index, vectors, kind):
        queries = unit_vectors(20, seed=6)
        recall = []
        for query in queries:
            nearest = set(np.argsort(-(vectors @ query))[:50].tolist())
            recall.append(len(nearest & set(index.search(query, 50).rows.tolist())) / 50)
        # Random vectors have no clusters, the worst case for an inverted index.
        assert np.mean(recall) > {"exact": 0.999, "sq8": 0.95, "hnsw": 0.9, "ivf": 0.3}[kind]

    def test_best_first_ties_by_row(self, index):
        found = index.search(unit_vectors(1, seed=7)[0], 100)
        keys = list(zip(-found.scores, found.rows, strict=True))
        assert keys == sorted(keys)

    @pytest.mark.parametrize("share", [0.0, 0.002, 0.2])
    def test_allowed_gives_k_if_k_exist(self, index, vectors, share):
        allowed = np.random.default_rng(8).random(len(vectors)) < share
        found = index.search(unit_vectors(1, seed=9)[0], 5, allowed)
        assert allowed[found.rows].all()
        assert len(found) == min(5, np.count_nonzero(allowed))

    def test_k_above_the_size(self, index, vectors, kind):
        found = index.search(vectors[0], 10_000_000)
        assert found.rows[0] == 0
        assert len(found) == len(vectors) or kind in ("hnsw", "ivf")

    def test_vectors_come_back(self, index, vectors):
        rows = np.array([5, 2_999, 0])
        np.testing.assert_allclose(index.vectors(rows), vectors[rows], atol=0.02)


@pytest.mark.parametrize(
    ("n", "memory_mb", "kind"),
    [(400, 0, "exact"), (20_000, 0, "sq8"), (1_000_000, 4_000, "hnsw"), (1_000_000, 500, "ivf"), (9_000, 1, "sq8")],
)
def test_the_index_follows_size_and_memory(n, memory_mb, kind):
    chosen, reason = choose_kind(n, 384, memory_mb)
    assert chosen == kind
    assert str(n) in reason
