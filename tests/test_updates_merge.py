"""Merges in the background, what a merge does not encode again, and what ``aisle info`` says of an index's changes."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from engine import ConfigError, EngineConfig, IndexConfig, SearchConfig, SearchEngine
from engine.cli import app
from engine.columns import Columns
from engine.storage.manifest import current_name
from engine.updates.summary import summary
from tests.conftest import HashedWordsEncoder, synthetic_products
from tests.test_updates import _product


@pytest.fixture
def index(small_directory: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_directory, tmp_path / "index"))


def _settled(engine: SearchEngine) -> None:
    until = time.monotonic() + 60
    while engine.info().merging and time.monotonic() < until:
        time.sleep(0.01)


class TestBackground:
    def test_merges_once_enough_has_changed(self, index):
        engine = SearchEngine.load(index, SearchConfig(merge_share=0.05), encoder=HashedWordsEncoder())
        built, version = len(engine), engine.version.name
        engine.update([{"product_id": product.product_id, "price": 5.0} for product in engine.products()])
        engine.commit()  # prices alone make no search slower
        engine.add([_product(f"NEW{number}", "steel teapot", "Red", 3.0) for number in range(5)])
        engine.commit()
        assert current_name(index) == version
        engine.delete(["P0007"])
        engine.commit()  # the sixth of 120
        _settled(engine)
        health = engine.info()
        assert (health.merge_error, health.merging) == ("", False)
        assert (health.put, health.dead, health.commits) == (0, 0, 0)
        assert current_name(index) == engine.version.name != version
        assert len(engine) == built + 4
        assert engine.search("steel teapot", 1).hits[0].product.title == "steel teapot"

    def test_commits_go_on_and_one_merge_runs_at_a_time(self, index):
        engine = SearchEngine.load(index, SearchConfig(merge_share=0.01), encoder=HashedWordsEncoder())
        for number in range(6):
            engine.add([_product(f"NEW{number}", f"teapot {number}", "Red", 3.0)])
            engine.commit()
            assert sum(thread.name == "aisle-merge" for thread in threading.enumerate()) <= 1
        _settled(engine)
        assert engine.info().merge_error == ""
        assert {f"NEW{number}" for number in range(6)} <= {product.product_id for product in engine.products()}

    def test_what_goes_wrong_is_told_and_nothing_is_lost(self, index, monkeypatch):
        engine = SearchEngine.load(index, SearchConfig(merge_share=0.01), encoder=HashedWordsEncoder())

        def full(*args: object, **kwargs: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("engine.updates.merge.build_index", full)
        engine.add([_product("NEW1", "steel teapot", "Red", 3.0), _product("NEW2", "steel kettle", "Red", 3.0)])
        engine.commit()
        _settled(engine)
        assert "No space left" in engine.info().merge_error
        assert engine.search("steel kettle", 1).hits[0].product.product_id == "NEW2"

    def test_a_share_is_a_share(self):
        with pytest.raises(ConfigError, match="merge_share"):
            SearchConfig(merge_share=2.0)


class CountingEncoder(HashedWordsEncoder):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def encode_queries(self, queries):
        self.texts += queries
        return super().encode_queries(queries)


def test_documents_are_not_encoded_again(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "manual.md").write_text("# Cleaning\n\nWipe the teapot with a soft cloth, never with sand.\n")
    encoder, settings = CountingEncoder(), EngineConfig(index=IndexConfig(reranker="", router=""))
    engine = SearchEngine.build(
        synthetic_products(20), tmp_path / "index", settings, encoder=encoder, documents=tmp_path / "docs"
    )
    before = engine._opened.lasting.documents
    encoder.texts.clear()
    engine.delete(["P0003"])
    engine.commit()
    assert engine.merge()
    after = engine._opened.lasting.documents
    assert not any("soft cloth" in text for text in encoder.texts)
    assert before is not None
    assert after is not None
    assert after.passages == before.passages
    np.testing.assert_array_equal(after.vectors, before.vectors)


def test_info_tells_of_changes(index: Path) -> None:
    engine = SearchEngine.load(index, encoder=HashedWordsEncoder())
    engine.update([{"product_id": "P0001", "price": 1.0}, {"product_id": "P0002", "price": 1.0}])
    engine.commit()
    engine.add([_product("NEW1", "teapot", "Red", 3.0), _product("P0002", "another thing", "Red", 3.0)])
    engine.delete(["P0005", "P0006"])
    engine.commit()
    engine.delete(["NEW1"])
    engine.commit()
    health, told = engine.info(), summary(engine.version, Columns.open(engine.version))
    assert told == type(told)(
        health.n_products, health.commits, health.log_bytes, health.put, health.patched, health.dead
    )
    assert (told.products, told.commits, told.put, told.patched, told.dead) == (118, 3, 2, 1, 3)
    done = CliRunner().invoke(app, ["info", str(index), "--json"])
    assert json.loads(done.stdout)["now"]["products"] == 118
    assert "3 commits since the build: 2 put, 1 patched" in CliRunner().invoke(app, ["info", str(index)]).stdout
