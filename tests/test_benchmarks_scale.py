"""What the benchmarks of scale, nonsense and serving rest on: the generator, exact neighbours, the front, contracts."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import fuzz, scale
from benchmarks.scale_catalog import MovedVectors, VariedCatalog
from benchmarks.scale_steps import DEPTH, Latency, Took, Vectors, every, nearest
from benchmarks.serving import in_threads, queries
from engine import SearchEngine
from tests.conftest import HashedWordsEncoder, synthetic_products


@pytest.fixture
def catalog() -> VariedCatalog:
    return VariedCatalog.of(synthetic_products(12))


class TestCatalog:
    def test_real_ones_first_and_variants_that_follow_from_their_rows(self, catalog):
        products = list(catalog.products(60))
        assert products[:12] == synthetic_products(12)
        assert len({product.product_id for product in products}) == 60
        assert products == list(catalog.products(60))
        for row in range(12, 60):
            variant, original = products[row], products[row % 12]
            assert variant.product_id == f"{original.product_id}-{row // 12}"
            assert variant.title not in (original.title, products[row - 12].title)
            assert variant.category == original.category
            shared = set(variant.title.split()) & set(original.title.split())
            assert len(shared) >= len(original.title.split()) - 2

    def test_vectors_are_of_rows_and_a_variants_is_as_far_as_measured(self, catalog, tmp_path):
        vectors = MovedVectors(catalog, tmp_path, encoder=HashedWordsEncoder())
        products = list(catalog.products(120))
        by_product = vectors.encode_products(products)
        np.testing.assert_array_equal(by_product, vectors.vectors(np.arange(120)))
        np.testing.assert_allclose(np.linalg.norm(by_product, axis=1), 1, atol=1e-5)
        np.testing.assert_array_equal(by_product[:12], HashedWordsEncoder().encode_products(products[:12]))
        moved = np.einsum("ij,ij->i", by_product[12:], by_product[np.arange(12, 120) % 12])
        assert abs(moved.mean() - vectors.distance.mean) < 0.1
        again = MovedVectors(catalog, tmp_path, encoder=HashedWordsEncoder())  # from what was kept
        np.testing.assert_array_equal(again.vectors(np.arange(120)), by_product)


def test_exact_neighbours_are_those_of_one_big_product():
    random = np.random.default_rng(3)
    stored, asked = (random.standard_normal((n, 8)).astype(np.float32) for n in (900, 4))
    for share in (1.0, 0.1):
        allowed = np.arange(900) if every(900, share) is None else np.flatnonzero(every(900, share))
        for query, found in zip(asked, nearest(stored, asked, share), strict=True):
            best = allowed[np.argsort(-(stored[allowed] @ query), kind="stable")][:DEPTH]
            assert found.tolist() == best.tolist()


def _kind(ms: float, recall: float, size: int) -> Vectors:
    latency = Latency(1, ms, ms, ms, ms, ms)
    return Vectors(build=Took(1, 1), bytes=size, latency=latency, recall_10=recall, recall_200=recall, filtered={})


def test_front():
    kinds = {"slow": _kind(9, 1.0, 4), "small": _kind(5, 0.99, 1), "worse": _kind(6, 0.9, 1), "fast": _kind(1, 0.9, 1)}
    assert scale.pareto(kinds) == ["slow", "small", "fast"]


def test_bad_arguments_are_told(capsys, tmp_path):
    for wrong in (["--sizes", "many"], ["--sizes", "10"], ["--kinds", "tree"], ["--data", str(tmp_path / "none")]):
        assert scale.main(["--data", str(tmp_path), "--work", str(tmp_path), *wrong]) == 1
        assert wrong[0] in capsys.readouterr().err


class TestFuzz:
    def test_nonsense_is_answered_or_refused_with_a_type(self, small: SearchEngine):
        report = fuzz.run(small, 150, seed=3)
        assert report.faults == []
        assert report.answered > 20
        assert report.errors["InvalidFilterError"] > 5

    def test_faults_are_told(self):
        def search(**asked):
            raise KeyError("price")

        engine = SimpleNamespace(products=lambda: iter(synthetic_products(5)), fields=["brand", "price"], search=search)
        report = fuzz.run(engine, 20, seed=3)
        assert report.n_faults > 0
        assert all("KeyError" in fault for fault in report.faults)

    def test_broken_contracts_are_told(self, small: SearchEngine):
        result = small.search("thing", 3)
        asked = {"k": 3, "offset": 0, "facets": []}
        assert fuzz.broken(asked, result) == ""
        assert "k=2" in fuzz.broken({**asked, "k": 2}, result)
        assert "ranks" in fuzz.broken({**asked, "offset": 1}, result)
        assert "facets" in fuzz.broken({**asked, "facets": ["brand"]}, result)


def test_eight_threads_answer_as_one(small: SearchEngine):
    report = in_threads(small, queries(small, 30), 8, 1.0)
    assert report.wrong == 0
    assert report.searches > 8
