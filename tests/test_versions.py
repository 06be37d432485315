"""Versions of an index: merging, going back, pruning, locks; what a dead or a cut-off writer leaves."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.faults import run as run_faults
from engine import IndexCorruptError, SearchEngine
from engine.cli import app
from engine.errors import IndexLockedError, UpdateError
from engine.storage.change_log import ChangeLog
from engine.storage.locks import writing
from engine.storage.versions import prune, rollback, versions
from tests.conftest import HashedWordsEncoder
from tests.test_updates import _PLAIN, _as_engine, _product, assert_same, living

FORKED = multiprocessing.get_context("fork")


@pytest.fixture
def index(small_directory: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_directory, tmp_path / "index"))


def load(directory: Path, config=_PLAIN) -> SearchEngine:
    return SearchEngine.load(directory, config, encoder=HashedWordsEncoder())


def price(engine: SearchEngine, product_id: str = "P0003") -> float | None:
    return next(p.price for p in living(engine) if p.product_id == product_id)


def reprice(engine: SearchEngine, to: float) -> None:
    engine.update([{"product_id": "P0003", "price": to}])
    engine.commit()


class TestMerge:
    def test_gives_what_a_fresh_build_gives(self, index, tmp_path):
        engine = load(index)
        engine.delete(["P0003", "P0010"])
        engine.add([_product("NEW", "steel teapot", "Teal", 3.0), _product("P0020", "steel kettle", "Red", None)])
        engine.commit()
        reprice_all = [{"product_id": p.product_id, "price": 7.0} for p in living(engine)[:5]]
        engine.update(reprice_all)
        engine.commit()
        products, held = living(engine), engine.snapshot()
        assert engine.merge()
        assert (len(engine), engine.info().commits) == (119, 0)
        assert not engine.merge()
        fresh = SearchEngine.build(products, tmp_path / "fresh", _as_engine(_PLAIN), encoder=HashedWordsEncoder())
        assert_same(engine, fresh)
        assert_same(load(index), fresh)
        assert living(held) == products  # what was open stays

    def test_keeps_what_is_committed_meanwhile(self, index):
        engine, other = load(index), load(index)
        reprice(engine, 5.0)

        def progress(stage: str, done: int, of: int | None) -> None:
            if stage == "dense" and done == of:
                other.add([_product("MEANWHILE", "steel teapot", "Red", 3.0)])
                other.commit()

        assert engine.merge(progress)
        assert engine.search("steel teapot", 1).hits[0].product.product_id == "MEANWHILE"
        assert (price(engine), engine.info().commits) == (5.0, 1)
        assert other.refresh()
        assert (other.version, price(other), len(other)) == (engine.version, 5.0, 121)


class TestRollback:
    def test_to_a_commit_and_forward_to_new_ones(self, index):
        engine = load(index)
        for to in (1.0, 2.0, 3.0):
            reprice(engine, to)
        rollback(index, "@1")
        assert price(load(index)) == 1.0
        assert engine.refresh()
        assert price(engine) == 1.0
        reprice(engine, 9.0)
        assert engine.info().commits == 5
        assert price(load(index)) == 9.0
        rollback(index, "@0")
        assert price(load(index)) == 130.0
        rollback(index, "@3")  # a commit is what held when it was made, whatever was taken back since
        assert price(load(index)) == 3.0
        rollback(index, "@5")
        assert price(load(index)) == 9.0

    def test_to_the_version_before_and_back(self, index):
        engine = load(index)
        reprice(engine, 1.0)
        engine.merge()
        reprice(engine, 2.0)
        newest = engine.version.name
        rollback(index)
        engine.refresh()
        assert price(engine) == 1.0
        assert engine.version.name != newest
        rollback(index, newest)
        engine.refresh()
        assert price(engine) == 2.0

    @pytest.mark.parametrize("target", ["NOBODY", "@7", "@x", None])
    def test_what_is_not_there_is_said(self, index, target):
        with pytest.raises(UpdateError):
            rollback(index, target)

    def test_order_does_not_trust_the_clock(self, index, monkeypatch):
        engine = load(index)
        for created in ("2031-01-01T00:00:00", "1999-01-01T00:00:00"):
            reprice(engine, float(created[:4]))

            class Clock:
                @staticmethod
                def now(tz, created=created):
                    from datetime import datetime

                    return datetime.fromisoformat(created)

            monkeypatch.setattr("engine.builder.datetime", Clock)
            engine.merge()
        listed = versions(index)
        assert [version.is_current for version in listed] == [True, *[False] * (len(listed) - 1)]
        assert listed[0].created.startswith("1999")
        rollback(index)
        assert load(index).manifest.created.startswith("2031")


class TestPrune:
    def test_spares_what_is_open(self, index):
        holder, engine = load(index), load(index)
        first = holder.version.name
        for to in (1.0, 2.0, 3.0):
            reprice(engine, to)
            engine.merge()
        assert first in {version.name for version in versions(index) if version.is_open}
        deleted, kept = prune(index, 1)
        assert kept == [first]
        assert len(deleted) == 1
        assert price(holder) == 130.0
        del holder
        assert prune(index, 1)[0] == [first]
        assert [version.is_current for version in versions(index)] == [True]


def _hold(index: Path, ready, die) -> None:
    with writing(index, "a long build"):
        ready.set()
        die.wait()
        os.kill(os.getpid(), signal.SIGKILL)


class TestLock:
    def test_says_who_writes_and_ends_with_its_process(self, index):
        engine = load(index)
        ready, die = FORKED.Event(), FORKED.Event()
        holder = FORKED.Process(target=_hold, args=(index, ready, die))
        holder.start()
        assert ready.wait(10)
        engine.delete(["P0003"])
        with pytest.raises(IndexLockedError, match=rf"process {holder.pid} on .*\(a long build\)"):
            engine.commit(wait_s=0.05)
        die.set()
        holder.join()
        engine.delete(["P0003"])
        assert engine.commit(wait_s=0).deleted == 1


class TestLog:
    def test_what_is_cut_short_was_never_acknowledged(self, index):
        engine = load(index)
        reprice(engine, 1.0)
        log = ChangeLog(index, engine.version.name)
        whole = log.size()
        reprice(engine, 2.0)
        data = log.path.read_bytes()
        for end in range(whole, len(data)):
            log.path.write_bytes(data[:end])
            assert [batch.number for batch, _ in log.read()] == [1]
        log.path.write_bytes(data[: whole + 5] + bytes(5))
        again = load(index)
        assert price(again) == 1.0
        reprice(again, 3.0)
        assert price(load(index)) == 3.0

    def test_every_flipped_byte_is_noticed(self, index):
        engine = load(index)
        reprice(engine, 1.0)
        reprice(engine, 2.0)
        log = ChangeLog(index, engine.version.name)
        data = log.path.read_bytes()
        for at in range(len(data)):
            log.path.write_bytes(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
            with pytest.raises(IndexCorruptError, match="damaged at byte"):
                list(log.read())

    @pytest.mark.parametrize("call", ["pwrite", "fsync", "ftruncate"])
    def test_an_error_of_the_disk_changes_nothing(self, index, monkeypatch, call):
        engine = load(index)
        reprice(engine, 1.0)
        with ChangeLog(index, engine.version.name).path.open("ab") as log:
            log.write(b"AIS")  # of a writer that was cut off, to be taken away first
        real = getattr(os, call)

        def full(descriptor, *arguments):
            if os.readlink(f"/proc/self/fd/{descriptor}").endswith(".log"):
                monkeypatch.setattr(os, call, real)
                raise OSError(28, "No space left on device")
            return real(descriptor, *arguments)

        monkeypatch.setattr(os, call, full)
        with pytest.raises(OSError, match="No space"):
            reprice(engine, 2.0)
        assert (price(engine), price(load(index))) == (1.0, 1.0)
        reprice(engine, 3.0)
        assert price(load(index)) == 3.0

    def test_a_copy_of_the_directory_is_a_backup(self, index, tmp_path):
        engine = load(index)
        reprice(engine, 1.0)
        shutil.copytree(index, tmp_path / "backup")
        reprice(engine, 2.0)
        assert price(load(tmp_path / "backup")) == 1.0


class TestCommands:
    @pytest.fixture
    def run(self, monkeypatch):
        monkeypatch.setattr("engine.opening.open_encoder", lambda config: HashedWordsEncoder())

        def run(*arguments, code: int = 0):
            result = CliRunner().invoke(app, [str(argument) for argument in arguments])
            assert result.exit_code == code, result.output
            return result.output

        return run

    def test_update_merge_versions_rollback_prune(self, index, tmp_path, run):
        changes = tmp_path / "changes.jsonl"
        changes.write_text(
            '{"op": "update", "product_id": "P0003", "price": 4}\n{"op": "delete", "product_id": "P0004"}\n'
        )
        done = json.loads(run("update", index, changes, "--json"))
        assert (done["number"], done["patched"], done["deleted"]) == (1, 1, 1)
        assert "rollback" in run("update", index, _one(tmp_path, '{"op": "update", "product_id": "P0003", "price": 5}'))
        assert json.loads(run("verify", index, "--json"))["ok"]
        run("rollback", index, "@1")
        assert price(load(index)) == 4.0
        assert json.loads(run("merge", index, "--json"))["n"] == 119
        assert "no changes" in run("merge", index)
        assert next(v["is_current"] for v in json.loads(run("versions", index, "--json"))["versions"])
        assert "current" in run("versions", index)
        run("rollback", index)
        assert price(load(index)) == 4.0
        assert "deleted" in run("prune", index, "--keep", 1)

    def test_a_bad_file_names_its_line(self, index, tmp_path, run):
        lines = '{"op": "delete", "product_id": "P0003"}\n{"op": "update", "product_id": "X", "price": 1}'
        output = run("update", index, _one(tmp_path, lines), code=2)
        assert "line 2" in output
        assert "Nothing was changed" in output
        assert price(load(index)) == 130.0


def _one(directory: Path, text: str) -> Path:
    path = directory / "one.jsonl"
    path.write_text(text + "\n")
    return path


class TestKills:
    def test_nothing_acknowledged_is_lost(self):
        report = run_faults(kills=24, seed=5)
        assert report.acknowledged > 20
        assert (report.lost, report.wrong, report.unnoticed) == (0, 0, 0)
