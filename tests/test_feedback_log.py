"""The log of searches and clicks: what is written survives, whoever writes it, and is what training reads."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from typer.testing import CliRunner

from engine import ConfigError, InvalidQueryError, Product, SearchConfig
from engine.cli import app
from engine.feedback_log import SUFFIX, FeedbackLog
from engine.feedback_rows import Counts, Page, read_pages, write_queries, write_rows
from engine.suggestions.phrases import read_queries
from engine.types import Hit, SearchResult
from training.curation.logs import LogReader
from training.data.examples import read_clicks

KNOWN = {f"P{n}" for n in range(30)}


def result(query: str = "tv", first: int = 1, n: int = 3) -> SearchResult:
    products = [Product(product_id=f"P{rank}", title="tv") for rank in range(first, first + n)]
    hits = tuple(Hit(product, rank, 1.0) for rank, product in enumerate(products, first))
    return SearchResult(query, hits, (), n, rules=("diwali",))


def pages(directory: Path) -> list[Page]:
    return list(read_pages(directory, Counts()))


@pytest.fixture
def log(tmp_path):
    made = FeedbackLog(tmp_path / "log", version="v1", clock=lambda: 1_800_000_000.0)
    yield made
    made.close()


class TestWriting:
    def test_a_page_with_what_was_done_on_it(self, log, tmp_path):
        page = log.shown(result(), session="s-1")
        log.clicked(page, "P2")
        log.clicked(page, "P2")
        log.purchased(page, "P3")
        (found,) = pages(tmp_path / "log")
        assert found.shown.products == ("P1", "P2", "P3")
        assert (found.shown.query, found.shown.session, found.shown.version) == ("tv", "s-1", "v1")
        assert found.shown.rules == ("diwali",)
        assert (found.clicked, found.purchased) == ({"P2"}, {"P3"})

    def test_nothing_of_the_shopper_is_written_that_was_not_given(self, log, tmp_path):
        log.shown(result())
        (file,) = (tmp_path / "log").glob(f"*{SUFFIX}")
        assert set(json.loads(file.read_text())) == {
            "event", "id", "time", "query", "products", "offset", "version", "rules",
        }  # fmt: skip
        assert file.stat().st_mode & 0o077 == 0  # nobody else may read it

    def test_other_products_than_the_results_and_teams(self, log, tmp_path):
        log.shown(result(), products=["P9", "P1"], teams=["a", "b"], experiment="new")
        (found,) = pages(tmp_path / "log")
        assert (found.shown.products, found.shown.teams, found.shown.experiment) == (("P9", "P1"), ("a", "b"), "new")
        with pytest.raises(InvalidQueryError, match="3 products"):
            log.shown(result(), teams=["a"])

    def test_text_that_no_encoding_has(self, log, tmp_path):
        log.shown(result("tv \ud800\n\x1b[31m"))
        assert pages(tmp_path / "log")[0].shown.query == "tv ?\n\x1b[31m"

    def test_threads(self, log, tmp_path):
        def visit(number: int) -> None:
            page = log.shown(result(f"q{number}"), session=str(number))
            log.clicked(page, f"P{number % 3 + 1}")

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(visit, range(400)))
        found = pages(tmp_path / "log")
        assert Counter(page.shown.query for page in found) == Counter(f"q{n}" for n in range(400))
        assert all(page.clicked == {f"P{int(page.shown.session) % 3 + 1}"} for page in found)

    def test_processes_that_fork_and_a_click_in_another_one(self, log, tmp_path):
        before = log.shown(result("before"))
        children = []
        for number in range(3):
            child = os.fork()
            if not child:
                for turn in range(20):
                    log.shown(result(f"{number}-{turn}"))
                log.clicked(before, f"P{number + 1}")
                os._exit(0)
            children.append(child)
        assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
        log.shown(result("after"))
        found = {page.shown.query: page for page in pages(tmp_path / "log")}
        assert len(found) == 62
        assert found["before"].clicked == {"P1", "P2", "P3"}
        assert len(list((tmp_path / "log").iterdir())) == 4

    def test_what_was_acknowledged_survives_a_kill(self, tmp_path):
        code = """
import sys
from engine.feedback_log import FeedbackLog
from tests.test_feedback_log import result
log = FeedbackLog(sys.argv[1], max_bytes=2_000)
while True:
    print(log.shown(result("tv " * 50)), flush=True)
"""
        for _ in range(3):
            writer = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "log")], stdout=subprocess.PIPE)
            told = [writer.stdout.readline() for _ in range(40)]
            writer.send_signal(signal.SIGKILL)
            told += writer.stdout.readlines()
            writer.stdout.close()
            writer.wait()
            known = {page.shown.id for page in pages(tmp_path / "log")}
            assert {line.decode().strip() for line in told if line.endswith(b"\n")} <= known

    def test_files_are_closed_at_a_size_and_old_ones_deleted(self, tmp_path):
        now = [time.time()]
        log = FeedbackLog(tmp_path, max_bytes=300, keep_days=7, clock=lambda: now[0])
        for _ in range(5):
            log.shown(result())
        files = sorted(tmp_path.iterdir())
        assert len(files) > 1
        assert len(pages(tmp_path)) == 5
        for file in files:
            os.utime(file, (now[0], now[0]))
        now[0] += 8 * 86_400
        log.close()
        log.shown(result("new"))
        assert [page.shown.query for page in pages(tmp_path)] == ["new"]
        log.close()

    def test_serving_goes_on_where_it_cannot_be_written(self, tmp_path, caplog):
        (tmp_path / "file").write_text("")
        log = FeedbackLog(tmp_path / "file" / "log")
        for _ in range(5):
            assert log.shown(result())
        assert log.dropped == 5
        assert len(caplog.records) == 3  # at the 1st, 2nd and 4th

    def test_a_disk_that_is_full_half_way_through_a_line(self, log, tmp_path, monkeypatch):
        log.shown(result("first"))
        write = os.write
        monkeypatch.setattr("engine.feedback_log.os.write", lambda file, line: write(file, line[:20]))
        log.shown(result("cut"))
        monkeypatch.undo()
        log.shown(result("last"))
        counts = Counts()
        assert {page.shown.query for page in read_pages(tmp_path / "log", counts)} == {"first", "last"}
        assert (log.dropped, counts.bad_lines) == (1, 1)

    def test_an_engine_has_one_where_the_settings_say(self, small, tmp_path):
        with pytest.raises(ConfigError, match="setting log"):
            _ = small.log
        logging = small.configured(SearchConfig(log=str(tmp_path / "log")))
        logging.log.shown(logging.search("phone", 3, offset=2))
        (found,) = pages(tmp_path / "log")
        assert (found.shown.offset, found.shown.version) == (2, small.version.name)
        logging.log.close()


class TestRows:
    @pytest.fixture
    def written(self, log, tmp_path) -> Path:
        for visit in range(4):
            page = log.shown(result("red tv"), session=f"s{visit}")
            if visit % 2:
                log.clicked(page, "P2")
        log.purchased(log.shown(result("fridge", first=11), session="s9"), "P12")
        log.clicked("no such page", "P1")
        log.clicked(log.shown(result("red  tv")), "P29")
        with next((tmp_path / "log").glob("*")).open("ab") as file:
            file.write(b'{"event": "shown", "id": "cut')
        return tmp_path / "log"

    @pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
    def test_curation_reads_them(self, written, tmp_path, name):
        counts = write_rows(written, tmp_path / name)
        assert (counts.pages, counts.clicks, counts.stray_clicks, counts.bad_lines) == (6, 2, 2, 1)
        reader = LogReader()
        assert reader.read(str(tmp_path / name), 0, {}, KNOWN, "catalog", None) == []
        found = reader.impressions()
        assert len(found.query) == 18
        rows = list(zip(found.query, found.product, found.position, found.clicked, found.purchased, strict=True))
        said = [
            (found.queries[query], found.product_ids[product], position, clicked, purchased)
            for query, product, position, clicked, purchased in rows
            if clicked
        ]
        assert said == [("red tv", "P2", 2, True, False)] * 2 + [("fridge", "P12", 12, True, True)]

    def test_training_reads_them(self, written, tmp_path):
        write_rows(written, tmp_path / "rows.jsonl")
        labels = {query: of for _, query, of in read_clicks(str(tmp_path / "rows.jsonl"), KNOWN, "catalog")}
        assert labels["red tv"]["P2"] == 1.0 > labels["red tv"]["P1"]

    def test_queries_to_suggest(self, written, tmp_path):
        write_queries(written, tmp_path / "queries.tsv")
        assert (tmp_path / "queries.tsv").read_text() == "red tv\t5\n"  # a second page is no second search
        assert read_queries(tmp_path / "queries.tsv") == {"red tv": 5}

    def test_the_commands(self, written, tmp_path):
        run = CliRunner().invoke(app, ["log", "rows", str(written), "--out", str(tmp_path / "rows.jsonl")])
        assert "6 pages with 2 products clicked" in run.stdout
        assert "1 of 12 lines are no event" in run.stdout
        data = json.loads(
            CliRunner().invoke(app, ["log", "queries", str(written), "--out", str(tmp_path / "q.tsv"), "--json"]).stdout
        )
        assert data["pages"] == 6
        missing = CliRunner().invoke(app, ["log", "rows", str(tmp_path / "none"), "--out", str(tmp_path / "x.jsonl")])
        assert missing.exit_code == 2
        assert "is no directory" in missing.stderr
        assert not (tmp_path / "x.jsonl").exists()
        assert not list(tmp_path.glob(".x.jsonl*"))
