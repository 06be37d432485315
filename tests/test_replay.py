"""What is kept between trials changes no ranking: settings tried give what a SearchEngine with them gives."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from benchmarks.families import FAMILIES, settings_of
from benchmarks.nested import Values
from benchmarks.replay import ReplayEngine, Settings
from engine import EngineConfig, IndexConfig, Product, SearchConfig, SearchEngine
from engine.builder import build_index
from qpt.router import TypeRouter
from tests.conftest import HashedWordsEncoder, synthetic_products

QUERIES = (
    "acme phone", "phone under 500", "red case without drops", "RT101C", "tv 40 inch", "globex fridge 105",
    "phnoe case", "screen for films", "acme tv phone", "zzzz", "fridge not white under 900",
)  # fmt: skip


def products() -> list[Product]:
    return [
        msgspec.structs.replace(p, title=f"{p.title} S2{i % 5} Ultra" if i % 4 == 0 else p.title)
        for i, p in enumerate(synthetic_products(160))
    ]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory, reranker_directory: Path) -> Path:
    found = tmp_path_factory.mktemp("replay")
    build_index(
        products(), found, EngineConfig(index=IndexConfig(reranker=str(reranker_directory))),
        encoder=HashedWordsEncoder(),
    )  # fmt: skip
    return found


@pytest.fixture(scope="module")
def plain(directory: Path) -> SearchEngine:
    return SearchEngine.load(directory, SearchConfig(threads=1), encoder=HashedWordsEncoder())


@pytest.fixture(scope="module")
def replay(directory: Path) -> ReplayEngine:
    return ReplayEngine.load(directory, SearchConfig(threads=1), encoder=HashedWordsEncoder())


def drawn(seed: int) -> Settings:
    """All families up to a drawn one, at drawn places."""
    rng = np.random.default_rng(seed)
    values: Values = {}
    for family in FAMILIES[: int(rng.integers(1, len(FAMILIES) + 1))]:
        values |= family.switches
        values |= {name: span.value(float(rng.random())) for name, span in family.ranges.items()}
    search = SearchConfig(depth=40, threads=1)
    return settings_of(values, Settings(search=search))


def searched(plain: SearchEngine, settings: Settings, query: str) -> tuple[list[str], list[float]]:
    engine = plain.configured(settings.search)
    assert isinstance(plain._router, TypeRouter)
    engine._reader = engine._reader.acting(plain._router.with_numbers(settings.router), settings.guidance)
    hits = engine.search(query, 60).hits
    return [hit.product.product_id for hit in hits], [hit.score for hit in hits]


def tried(replay: ReplayEngine, settings: Settings, query: str) -> tuple[list[str], list[float]]:
    final = replay.trying(settings).rank(query, 60).final
    return [replay.product_ids[row] for row in final.rows[:60].tolist()], final.scores[:60].tolist()


def test_drawn_settings_give_the_rankings_of_a_search_engine(plain: SearchEngine, replay: ReplayEngine) -> None:
    rankings = set()
    for seed in range(25):
        settings = drawn(seed)
        for query in QUERIES:
            expected = searched(plain, settings, query)
            assert tried(replay, settings, query) == expected, (seed, query)
            rankings.add(tuple(expected[0][:10]))
    assert len(rankings) > 3 * len(QUERIES)  # the settings did change something


def test_trying_again_after_others_gives_the_same(replay: ReplayEngine) -> None:
    settings = [drawn(seed) for seed in (3, 8, 3, 21, 8)]
    found = [[tried(replay, each, query) for query in QUERIES] for each in settings]
    assert found[0] == found[2]
    assert found[1] == found[4]
    assert found[0] != found[1]


def test_models_are_asked_once(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replay = ReplayEngine.load(directory, SearchConfig(threads=1), encoder=HashedWordsEncoder())
    settings = settings_of({"rerank_depth": 10, "rerank_weight": 0.3}, Settings(search=SearchConfig(threads=1)))
    first = [tried(replay, settings, query) for query in QUERIES]

    def gone(*_: object, **__: object) -> None:
        raise AssertionError("a model was asked again")

    monkeypatch.setattr(HashedWordsEncoder, "encode_queries", gone)
    monkeypatch.setattr(replay._ranker.reranker._inner, "score", gone)  # type: ignore[union-attr]
    assert [tried(replay, settings, query) for query in QUERIES] == first
    other = msgspec.structs.replace(settings, search=msgspec.structs.replace(settings.search, rerank_weight=0.9))
    assert [tried(replay, other, query) for query in QUERIES] != first


def test_a_reranker_from_outside_takes_the_place_of_the_index_s(replay: ReplayEngine, directory: Path) -> None:
    other = ReplayEngine.load(directory, SearchConfig(threads=1), encoder=HashedWordsEncoder())
    other.rerank_with(None)
    settings = settings_of({"rerank_depth": 10, "rerank_weight": 1.0}, Settings(search=SearchConfig(threads=1)))
    bare = settings_of({}, Settings(search=SearchConfig(threads=1)))
    assert tried(other, settings, "acme phone") == tried(replay, bare, "acme phone")
    assert tried(replay, settings, "acme phone") != tried(replay, bare, "acme phone")
