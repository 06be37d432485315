"""Engines that many tests share. The sample index uses the shipped encoder; the small one a deterministic stand-in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import engine
from engine.analysis.analyzer import Analyzer
from engine.builder import build_index
from engine.product import Product
from engine.text import encoded_text
from tests.rerankers import write_model
from tests.routers import RuledRouter

SAMPLE = Path(engine.__file__).parent / "sample"


class HashedWordsEncoder:
    """A stand-in for a slow model: a text is the sum of its words' fixed random directions."""

    dim = 64
    fingerprint = "hashed-words-64"

    def __init__(self) -> None:
        self._analyzer = Analyzer()

    def understands(self, query: str) -> bool:
        return True

    def encode_queries(self, queries: Sequence[str]) -> np.ndarray:
        return np.stack([self._encode(query) for query in queries])

    def encode_products(self, products: Sequence[Product]) -> np.ndarray:
        return np.stack([self._encode(encoded_text(product)) for product in products])

    def _encode(self, text: str) -> np.ndarray:
        total = np.full(self.dim, 1e-3, np.float32)
        for term in self._analyzer.terms(text):
            seed = int.from_bytes(hashlib.blake2b(term.encode(), digest_size=4).digest(), "big")
            total += np.random.default_rng(seed).standard_normal(self.dim, np.float32)
        return total / np.linalg.norm(total)


def synthetic_products(n: int = 120) -> list[Product]:
    """Phones, fridges, televisions and their accessories, by rule."""
    kinds = [
        ("Phone", ("Mobiles", "Phones"), "SM-A{0}B", "A phone with a long-lasting battery and a bright camera."),
        ("Fridge", ("Home", "Refrigerators"), "RT{0}C", "Keeps food fresh for a family of {1}."),
        ("TV", ("Home", "Televisions"), "QA{0}Q", "A {1} inch screen for films and sports."),
        ("Phone Case", ("Accessories", "Cases"), "EF-A{0}", "Protects the phone from drops."),
    ]
    colors = ["Black", "White", "Red"]
    products = []
    for i in range(n):
        name, category, model, text = kinds[i % len(kinds)]
        products.append(
            Product(
                product_id=f"P{i:04d}",
                title=f"{'Acme' if i % 3 else 'Globex'} {name} {100 + i}",
                brand="Acme" if i % 3 else "Globex",
                model=model.format(100 + i),
                description=text.format(i, i % 7 + 2),
                category=category,
                attributes={"color": colors[i % 3], "weight_kg": 1.5 * (i % 5), "smart": i % 2 == 0},
                price=100.0 + 10 * i if i % 10 else None,
                popularity=float(i),
            )
        )
    return products


def write_manifest(version: Path, manifest: dict[str, Any]) -> None:
    """Puts another manifest into a version, as builds did that left no checksum of it."""
    (version / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    (version / "manifest.sha256").unlink(missing_ok=True)


@pytest.fixture(scope="session")
def small_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("small")
    config = engine.EngineConfig(index=engine.IndexConfig(reranker=""))
    engine.SearchEngine.build(synthetic_products(), directory, config, encoder=HashedWordsEncoder())
    return directory


@pytest.fixture(scope="session")
def reranker_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-encoder in miniature that knows the words of the synthetic products."""
    return write_model(tmp_path_factory.mktemp("reranker"), synthetic_products())


@pytest.fixture(scope="session")
def small(small_directory: Path) -> engine.SearchEngine:
    return engine.SearchEngine.load(small_directory, encoder=HashedWordsEncoder())


@pytest.fixture(scope="session")
def sample_products() -> list[Product]:
    with (SAMPLE / "corpus.jsonl").open("rb") as lines:
        return [msgspec.json.decode(line, type=Product) for line in lines]


@pytest.fixture(scope="session")
def sample(sample_products: list[Product], tmp_path_factory: pytest.TempPathFactory) -> engine.SearchEngine:
    return engine.SearchEngine.build(sample_products, tmp_path_factory.mktemp("sample"))


def prefixed(products: list[Product]) -> list[Product]:
    """With a word that all have, so that every product is a candidate of every query that has it."""
    return [msgspec.structs.replace(product, title=f"Thing {product.title}") for product in products]


@pytest.fixture(scope="session")
def ruled_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("ruled")
    plain = engine.EngineConfig(index=engine.IndexConfig(reranker=""))
    build_index(prefixed(synthetic_products()), directory, plain, encoder=HashedWordsEncoder(), router=RuledRouter())
    return directory


@pytest.fixture
def load(ruled_directory: Path) -> Callable[..., engine.SearchEngine]:
    """Loads the index with a router by rule: all candidates are ranked in the first tier, unless told otherwise."""

    def opened(router: RuledRouter | None = None, **config: Any) -> engine.SearchEngine:
        return engine.SearchEngine.load(
            ruled_directory, engine.SearchConfig(**config), encoder=HashedWordsEncoder(), router=router or RuledRouter()
        )

    return opened
