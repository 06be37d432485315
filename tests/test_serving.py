"""How servers use an engine: forked after loading, from threads and coroutines, in spawned processes, watching."""

from __future__ import annotations

import asyncio
import multiprocessing
import shutil
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

from engine import SearchEngine
from tests.conftest import HashedWordsEncoder
from tests.test_updates import QUERIES, _product

Answers = list[list[tuple[str, float]]]


@pytest.fixture
def index(small_directory: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_directory, tmp_path / "index"))


def load(directory: Path) -> SearchEngine:
    return SearchEngine.load(directory, encoder=HashedWordsEncoder())


def answers(engine: SearchEngine) -> Answers:
    results = [engine.search(query, 20) for query in QUERIES]
    return [[(hit.product.product_id, hit.score) for hit in result.hits] for result in results]


def _loaded_and_asked(directory: Path) -> Answers:
    return answers(load(directory))


def _forked(engine: SearchEngine, tell) -> None:
    before = answers(engine)
    tell.send(before)
    tell.recv()
    tell.send((engine.refresh(), answers(engine)))


class TestProcesses:
    def test_forked_after_loading_and_refreshed(self, index):
        """As gunicorn does with --preload: one engine, loaded before the workers are forked."""
        engine = load(index)
        engine.add([_product("FIRST", "steel teapot", "Red", 3.0)])
        engine.commit()
        context = multiprocessing.get_context("fork")
        workers = []
        for _ in range(3):
            mine, theirs = context.Pipe()
            process = context.Process(target=_forked, args=(engine, theirs))
            process.start()
            workers.append((process, mine))
        expected = answers(engine)
        assert all(pipe.recv() == expected for _, pipe in workers)
        engine.add([_product("NEW", "teapot that protects", "Red", 3.0)])
        engine.commit()
        changed = answers(engine)
        assert changed != expected
        for process, pipe in workers:
            pipe.send("go")
            assert pipe.recv() == (True, changed)
            process.join()

    def test_spawned(self, index):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            assert pool.submit(_loaded_and_asked, index).result() == answers(load(index))


class TestThreads:
    def test_threads_answer_as_one(self, index):
        engine = load(index)
        expected = answers(engine)
        with ThreadPoolExecutor(8) as pool:
            assert all(found == expected for found in pool.map(lambda _: answers(engine), range(40)))

    def test_coroutines(self, index):
        engine = load(index)

        async def ask() -> list[Answers]:
            loop = asyncio.get_running_loop()
            return await asyncio.gather(*(loop.run_in_executor(None, answers, engine) for _ in range(8)))

        expected = answers(engine)
        assert all(found == expected for found in asyncio.run(ask()))

    def test_watching_follows_other_processes(self, index):
        engine, writer = load(index), load(index)
        stop = engine.watch(0.01)
        writer.delete(["P0003"])
        writer.commit()
        until = time.monotonic() + 10
        while len(engine) == 120 and time.monotonic() < until:
            time.sleep(0.01)
        assert len(engine) == 119
        writer.merge()
        while engine.version != writer.version and time.monotonic() < until:
            time.sleep(0.01)
        stop()
        assert (engine.info().version, engine.info().refresh_error) == (writer.version.name, "")


class TestHook:
    def test_every_search_tells_its_stages(self, index):
        engine, told = load(index), []
        engine.on_search = told.append
        result = engine.search("globex phone case")
        assert told == [result.stages]
        engine.delete(["P0003"])
        engine.commit()
        engine.search("acme tv")
        assert len(told) == 2
        engine.on_search = lambda stages: 1 / 0
        assert engine.search("acme tv").hits
