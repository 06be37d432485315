"""Rules of merchandisers in searches: what they do, a file that changes meanwhile, stock, and what a check tells."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import engine
from engine import Equal, InvalidQueryError, RulesError, SearchConfig, SearchEngine
from engine.analysis.analyzer import Analyzer
from engine.cli import app
from engine.columns import Columns
from engine.config import toml_value
from engine.filters import parse_filter
from engine.rules.live import LiveRules
from engine.rules.matching import WordReader
from engine.rules.preview import preview
from engine.rules.schema import read_rules
from tests.conftest import synthetic_products
from tests.test_rules import DAY, NOON, rule


def ids(result) -> list[str]:
    return [hit.product.product_id for hit in result.hits]


@pytest.fixture
def ruled(load, tmp_path):
    """An engine by rules: all 120 products are candidates of "thing"; P0000 is a phone, P0001 a fridge, and so on."""

    def opened(text: str, now: float = NOON, **config) -> SearchEngine:
        path = tmp_path / "rules.toml"
        path.write_text(text)
        plain = load(**config)
        return plain.configured(SearchConfig(**config, rules=str(path)), clock=lambda: now)

    return opened


class TestActions:
    def test_pins_are_at_their_ranks_on_every_page(self, ruled):
        engine_ = ruled(rule("when = { phrase = 'thing' }\nthen = { pin = { P0003 = 1, P0100 = 4, P0050 = 12 } }"))
        found = engine_.search("thing", 20)
        assert [ids(found)[place] for place in (0, 3, 11)] == ["P0003", "P0100", "P0050"]
        assert len(set(ids(found))) == 20
        assert ids(engine_.search("thing", 10)) + ids(engine_.search("thing", 10, offset=10)) == ids(found)
        assert all(a.score >= b.score for a, b in pairwise(found.hits))
        assert found.hits[3].rules == (engine.RuleEffect("r", "pin", "to rank 4"),)
        assert found.rules == ("r",)

    def test_what_is_pinned_leaves_the_rest_in_its_order(self, ruled, load):
        plain = ids(load().search("thing", 30))
        pinned = ids(ruled(rule("then = { pin = { P0003 = 2 } }")).search("thing", 30))
        assert [found for found in pinned if found != "P0003"] == [f for f in plain if f != "P0003"][:29]

    def test_pins_bring_what_was_not_found_but_nothing_that_filters_or_rules_take_away(self, ruled, load):
        text = rule("then = { pin = { P0001 = 1, P0002 = 2 } }") + rule("then = { hide = 'product_id=P0002' }", "h")
        engine_ = ruled(text, retrievers=("lexical",), nearest=False)
        assert "P0001" not in ids(load(retrievers=("lexical",), nearest=False).search("phone", 120))
        assert ids(engine_.search("phone", 3))[0] == "P0001"
        assert "P0002" not in ids(engine_.search("phone", 120))
        assert "P0001" not in ids(engine_.search("phone", 120, filters=[Equal("category", "Mobiles")]))

    def test_of_pins_to_one_rank_the_first_rules_holds(self, ruled):
        text = rule("then = { pin = { P0001 = 1, P0002 = 2 } }", "b") + rule(
            "priority = 1\nthen = { pin = { P0003 = 1, P0002 = 3 } }", "a"
        )
        assert ids(ruled(text).search("thing", 3)) == ["P0003", "P0001", "P0002"]

    def test_boost_and_bury(self, ruled, load):
        plain = load().search("thing", 120)
        red = {hit.product.product_id for hit in plain.hits if hit.product.attributes["color"] == "Red"}
        up = ids(ruled(rule("then = { boost = [{ where = 'color=red', by = 1.0 }] }")).search("thing", 120))
        assert set(up[: len(red) // 2]) <= red
        down = ruled(rule("then = { bury = [{ where = 'color=red' }] }")).search("thing", 120)
        assert set(ids(down)[-len(red) :]) == red
        assert set(ids(down)) == set(ids(plain))
        assert down.hits[-1].rules[0].action == "bury"
        # Within what moves alike the order stays.
        assert [i for i in ids(down) if i in red] == [i for i in ids(plain) if i in red]

    def test_deeper_tiers_are_moved_too_and_pages_stay(self, ruled):
        engine_ = ruled(rule("then = { bury = [{ where = 'color=red' }] }"), depth=20)
        whole = ids(engine_.search("thing", 120))
        assert len(set(whole)) == 120
        pages = [ids(engine_.search("thing", 7, offset=start)) for start in range(0, 120, 7)]
        assert [found for page in pages for found in page] == whole

    def test_hide_and_filter_leave_the_others(self, ruled):
        text = rule("then = { hide = ['color=red', 'brand=Globex'], filter = 'smart=true' }")
        found = ruled(text).search("thing", 120)
        expected = {f"P{n:04d}" for n in range(120) if n % 3 and n % 3 != 2 and n % 2 == 0}
        assert set(ids(found)) == expected
        hit = ruled(text).explain("thing", "P0002")
        assert hit.rank == 0
        assert ("filter", "smart=true") in {(effect.action, effect.detail) for effect in hit.rules}
        assert ("hide", "color=red") in {(effect.action, effect.detail) for effect in hit.rules}

    def test_replace_and_redirect(self, ruled, load):
        engine_ = ruled(rule("when = { query = 'cooler' }\nthen = { replace = 'fridge', redirect = '/fridges' }"))
        found = engine_.search("Cooler", 5)
        assert ids(found) == ids(load().search("fridge", 5))
        assert (found.query, found.redirect, found.route.corrected) == ("Cooler", "/fridges", "fridge")
        assert engine_.search("cooler bag").redirect == ""

    def test_a_rule_is_for_a_misspelt_query_too(self, ruled):
        engine_ = ruled(rule("when = { phrase = 'fridge' }\nthen = { pin = { P0000 = 1 } }"))
        assert ids(engine_.search("fridgee", 3))[0] == "P0000"

    def test_synonyms_are_searched_as_well(self, ruled, load):
        settings_ = {"retrievers": ("lexical",), "nearest": False}
        assert not load(**settings_).search("cooler").hits
        hits = (
            ruled(rule("when = { phrase = 'cooler' }\nthen = { synonyms = 'fridge' }"), **settings_)
            .search("cooler", 3, explain=True)
            .hits
        )
        assert {match.source for hit in hits for match in hit.matches} == {"synonym"}

    def test_rules_on_the_type_that_a_query_is_routed_to(self, ruled):
        engine_ = ruled(rule("when = { type = 'Refrigerators' }\nthen = { filter = 'brand=Acme' }"))
        assert {hit.product.brand for hit in engine_.search("fridge", 20).hits} == {"Acme"}
        assert {hit.product.brand for hit in engine_.search("phone", 20).hits} == {"Acme", "Globex"}

    def test_dates_by_the_clock(self, ruled):
        text = rule("starts = 2026-10-20\nends = 2026-10-20\nthen = { pin = { P0003 = 1 } }")
        assert ids(ruled(text).search("thing", 1)) == ["P0003"]
        assert ids(ruled(text, now=NOON + DAY).search("thing", 1)) != ["P0003"]

    def test_a_field_that_the_catalog_lacks_is_told_and_stops_nothing(self, ruled):
        found = ruled(rule("then = { filter = 'colr=red' }")).search("thing", 3)
        note = next(stage.note for stage in found.stages if stage.stage == "rules")
        assert len(found.hits) == 3
        assert "colr" in note

    def test_context_must_be_texts(self, ruled):
        for bad in (["app"], {"channel": 1}, "app"):
            with pytest.raises(InvalidQueryError, match="context"):
                ruled(rule("then = { hide = 'color=red' }")).search("thing", context=bad)

    @given(st.data())
    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_pages_and_filters_hold_whatever_rules_do(self, ruled, data):
        some = st.integers(0, 119).map(lambda n: f"P{n:04d}")
        filters = st.sampled_from(["color=Red", "brand=Acme", "price<=600", "smart=true", "category=Mobiles"])
        pins = data.draw(st.dictionaries(st.integers(1, 30), some, max_size=4))
        unique = {product_id: rank for rank, product_id in pins.items()}
        then = {
            "pin": unique,
            "boost": [{"where": where, "by": 0.4} for where in data.draw(st.lists(filters, max_size=2))],
            "bury": [{"where": where} for where in data.draw(st.lists(filters, max_size=1))],
            "hide": data.draw(st.lists(filters, max_size=1)),
            "filter": data.draw(st.lists(filters, max_size=1)),
        }
        written = "\n".join(f"{name} = {toml_value(value)}" for name, value in then.items())
        if then == {"pin": {}, "boost": [], "bury": [], "hide": [], "filter": []}:
            return
        engine_ = ruled(f"{rule('')}[rule.then]\n{written}\n", depth=data.draw(st.sampled_from([15, 200])))
        asked = [parse_filter(data.draw(filters))] if data.draw(st.booleans()) else []
        group = data.draw(st.sampled_from(["", "price", "color"]))
        whole = engine_.search("thing", 130, filters=asked, group=group)
        assert len(set(ids(whole))) == len(whole.hits)
        shown = [product for product in synthetic_products() if product.product_id in set(ids(whole))]
        columns = Columns.open(engine_.version)
        rows = np.array([columns.row(product.product_id) for product in shown], np.int64)
        for text in then["filter"]:
            assert columns.passing([parse_filter(text)], rows).all()
        for text in then["hide"]:
            assert not columns.passing([parse_filter(text)], rows).any()
        assert columns.passing(asked, rows).all()
        pages = [ids(engine_.search("thing", 9, offset=at, filters=asked, group=group)) for at in range(0, 130, 9)]
        assert [found for page in pages for found in page] == ids(whole)
        assert all(a.score >= b.score for a, b in pairwise(whole.hits))

    def test_a_search_without_rules_is_as_it_was(self, ruled, load):
        engine_ = ruled(rule("when = { query = 'never' }\nthen = { hide = 'color=red' }"))
        for query in ("thing", "red phone", "fridge"):
            assert [(h.product, h.score) for h in engine_.search(query, 50).hits] == [
                (h.product, h.score) for h in load().search(query, 50).hits
            ]


class TestReloading:
    def test_a_changed_file_holds_at_the_next_search_and_a_bad_one_changes_nothing(self, load, tmp_path, caplog):
        path = tmp_path / "rules.toml"
        path.write_text(rule("then = { pin = { P0001 = 1 } }"))
        engine_ = load().configured(SearchConfig(rules=str(path)))
        assert ids(engine_.search("thing", 1)) == ["P0001"]
        path.write_text(rule("then = { pin = { P0002 = 1 } }"))
        assert ids(engine_.search("thing", 1)) == ["P0002"]
        path.write_text(rule("then = { pin = { P0003 = 0 } }"))
        bad = engine_.search("thing", 1)
        assert ids(bad) == ["P0002"]
        assert bad.degraded
        assert "from 1 to 100" in next(stage.note for stage in bad.stages if stage.stage == "rules")
        path.unlink()
        assert "cannot be read" in str(engine_.search("thing", 1).stages)
        path.write_text(rule("then = { pin = { P0004 = 1 } }"))
        good = engine_.search("thing", 1)
        assert (ids(good), good.degraded) == (["P0004"], False)

    def test_a_change_within_the_grain_of_the_files_date_is_seen(self, tmp_path):
        path = tmp_path / "rules.toml"
        path.write_text(rule("then = { pin = { P0001 = 1 } }"))
        live = LiveRules(path, WordReader(Analyzer()))
        live.current()
        date = os.stat(path).st_mtime_ns
        with path.open("r+") as file:  # the same size, file and date
            file.write(rule("then = { pin = { P0002 = 1 } }"))
        os.utime(path, ns=(date, date))
        assert list(live.current().rules[0].then.pin) == ["P0002"]

    def test_a_file_that_did_not_change_is_not_read(self, tmp_path, monkeypatch):
        path = tmp_path / "rules.toml"
        path.write_text(rule("then = { pin = { P0001 = 1 } }"))
        os.utime(path, (time.time() - 60, time.time() - 60))
        live = LiveRules(path, WordReader(Analyzer()))
        first = live.current()
        monkeypatch.setattr("engine.rules.live.read_file", lambda path: pytest.fail("was read"))
        assert live.current() is first

    def test_threads_see_one_file_or_the_other_while_it_changes(self, load, tmp_path):
        path, texts = tmp_path / "rules.toml", [rule(f"then = {{ pin = {{ P000{n} = 1 }} }}") for n in (1, 2)]
        path.write_text(texts[0])
        engine_ = load().configured(SearchConfig(rules=str(path)))

        def change(_: int) -> None:
            for turn in range(40):
                (tmp_path / "new.toml").write_text(texts[turn % 2])
                (tmp_path / "new.toml").replace(path)
                engine_.search("thing", 1)

        with ThreadPoolExecutor(4) as pool:
            changing = pool.submit(change, 0)
            found = list(pool.map(lambda _: engine_.search("thing", 2), range(120)))
            changing.result()
        assert {ids(one)[0] for one in found} <= {"P0001", "P0002"}
        assert not any(one.degraded for one in found)
        assert ids(engine_.search("thing", 1)) == ["P0002"]

    def test_a_bad_file_at_the_start_is_an_error(self, load, tmp_path):
        with pytest.raises(RulesError, match="cannot be read"):
            load().configured(SearchConfig(rules=str(tmp_path / "none.toml")))


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    values = ["in_stock", "OutOfStock", "https://schema.org/SoldOut", ""]
    rows = [
        {"product_id": f"P{n}", "title": f"fridge number {n}", "availability": values[n % 4], "popularity": n}
        for n in range(40)
    ]
    config = engine.EngineConfig(index=engine.IndexConfig(encoder="", reranker=""))
    return SearchEngine.build(rows, tmp_path_factory.mktemp("stock"), config)


class TestStock:
    def gone(self, hit) -> bool:
        return hit.product.availability not in ("in_stock", "")

    def test_behind(self, shop):
        found = shop.configured(SearchConfig(out_of_stock="behind")).search("fridge", 40)
        assert [self.gone(hit) for hit in found.hits] == [False] * 20 + [True] * 20

    def test_hidden(self, shop):
        found = shop.configured(SearchConfig(out_of_stock="hidden")).search("fridge", 40)
        assert len(found.hits) == 20
        assert not any(map(self.gone, found.hits))

    def test_left_alone(self, shop):
        assert len(shop.search("fridge", 40).hits) == 40


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("check")
    config = engine.EngineConfig(index=engine.IndexConfig(encoder="", reranker=""))
    rows = [{"product_id": f"F{n}", "title": f"fridge {n}", "brand": f"B{n}"} for n in range(5)]
    SearchEngine.build(rows, directory, config)
    return directory


class TestCheck:
    def run(self, *arguments: object, code: int = 0):
        result = CliRunner().invoke(app, ["rules", "check", *map(str, arguments)])
        assert result.exit_code == code, result.output
        return result

    @pytest.fixture
    def files(self, tmp_path) -> tuple[Path, Path]:
        rules = (
            rule("when = { query = 'fridge' }\nthen = { pin = { F4 = 1, X = 2 } }", "pins")
            + rule("when = { query = 'fridge' }\nthen = { hide = 'brand=B0', pin = { F0 = 1 } }", "hides")
            + rule("when = { phrase = 'ac' }\nthen = { filter = 'brand=Nobody' }", "idle")
            + rule("ends = 2020-01-01\nthen = { hide = 'colr=red' }", "over")
        )
        (tmp_path / "rules.toml").write_text(rules)
        (tmp_path / "queries.txt").write_text("fridge\nq2\tfridge 3\n")
        return tmp_path / "rules.toml", tmp_path / "queries.txt"

    def test_changes_and_warnings(self, index, files):
        output = self.run(index, files[0], "--queries", files[1]).output
        assert "fridge  (pins, hides)" in output
        assert "→ 1   F4  pins: pin to rank 1" in output
        assert "→ -   F0  hides: hide brand=B0" in output
        assert "rule 'pins': 1 queries" in output
        for said in (
            "'X', which the catalog does not have", "pins 'F0' and hides it", "'F0' to 1, where 'pins' pins",
            "brand=Nobody, which is of no product; there is B0", "is over", "no product has a field 'colr'",
            "is for none of the 2 queries", "1 of 2 queries change",
        ):  # fmt: skip
            assert said in output

    def test_as_json(self, index, files):
        data = json.loads(self.run(index, files[0], "--queries", files[1], "--json").output)
        went = next(moved for moved in data["changes"][0]["moved"] if moved["product_id"] == "F0")
        assert went == {
            "product_id": "F0", "before": 1, "after": 0,
            "why": [{"rule": "hides", "action": "hide", "detail": "brand=B0"}],
        }  # fmt: skip
        assert [(found["id"], found["queries"], found["moved"]) for found in data["rules"]] == [
            ("pins", 1, 1), ("hides", 1, 1), ("idle", 0, 0), ("over", 0, 0),
        ]  # fmt: skip
        assert data["changes"][1]["rules"] == []
        assert {found["rule"] for found in data["warnings"]} == {"pins", "hides", "idle", "over"}

    def test_at_another_time(self, index, files):
        output = self.run(index, files[0], "--at", "2019-01-01").output
        assert "is over" not in output

    @pytest.mark.parametrize("arguments", [("--at", "soon"), ("--context", "app")])
    def test_errors(self, index, files, arguments):
        assert "error: " in self.run(index, files[0], *arguments, code=2).stderr

    def test_preview_leaves_the_engine_as_it_is(self, index, files):
        opened = SearchEngine.load(index)
        before = ids(opened.search("fridge"))
        preview(opened, read_rules(files[0]), str(files[0]), ["fridge"], NOON)
        assert ids(opened.search("fridge")) == before
