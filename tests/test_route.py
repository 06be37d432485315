"""Routing and understanding as parts of a search: order, pages, marks, reports and switches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from engine import (
    EngineConfig,
    Equal,
    Product,
    SearchConfig,
    SearchEngine,
    SearchResult,
)
from engine.types import Candidates, RouteAction, Routed, StageReport
from engine.understanding.understand import STEPS
from tests.conftest import HashedWordsEncoder
from tests.router_contract import ENCODER, KINDS, PRODUCTS
from tests.routers import LookingRouter, RuledRouter

N = len(PRODUCTS)
SYNONYMS = "icebox => fridge\ntelly, tv\nhandset => phone\n"


def ids(result: SearchResult) -> list[str]:
    return [hit.product.product_id for hit in result.hits]


def kinds(result: SearchResult) -> list[str]:
    return [hit.product.category[-1] for hit in result.hits]


def stage(result: SearchResult, name: str) -> StageReport | None:
    return next((report for report in result.stages if report.stage == name), None)


def ran(result: SearchResult) -> dict[str, str]:
    return {report.stage: report.status for report in result.stages}


class TestTypes:
    MIXED = "thing with acme red case tv fridge case"  # finds cases first, but many others before the last of them

    @pytest.mark.parametrize(("word", "kind"), [("phone", 0), ("fridge", 1), ("tv", 2), ("case", 3)])
    def test_a_filter_puts_products_of_the_type_first_and_hides_nothing(self, load, word: str, kind: int) -> None:
        result = load().search(f"thing {word}", N)
        assert kinds(result)[: N // 4] == [KINDS[kind]] * (N // 4)
        assert sorted(ids(result)) == sorted(product.product_id for product in PRODUCTS)
        assert result.route is not None
        assert (result.route.action, result.route.chosen[0].name) == ("filter", KINDS[kind])
        assert [hit.score for hit in result.hits] == sorted((hit.score for hit in result.hits), reverse=True)

    def test_a_router_that_does_not_look_is_followed_whatever_is_found(self, load) -> None:
        """Everything but the word that the router goes by speaks for phones."""
        query = "thing phone battery bright camera case"
        off, on = (load(route_weight=weight).search(query, N) for weight in (0.0, 0.5))
        assert set(kinds(off)[:20]) == {"Phones"}
        assert set(kinds(on)[:20]) == {"Cases"}
        assert (on.route.action, on.route.chosen[0].name, on.route.reason) == ("filter", "Cases", "Cases is named")

    def test_a_filter_does_more_than_a_boost(self, load) -> None:
        places = {}
        for action in get_args(RouteAction):
            found = kinds(load(RuledRouter(action), route_weight=0.1).search(self.MIXED, N))
            places[action] = float(np.mean([place for place, kind in enumerate(found) if kind == "Cases"]))
        assert places["filter"] < places["boost"] - 3 < places["none"] - 6

    def test_a_boost_raises_the_type_by_its_probability(self, load) -> None:
        places: dict[float, float] = {}
        for probability in (0.0, 0.4, 0.9):
            router = RuledRouter("boost" if probability else "none", probability)
            found = kinds(load(router, route_weight=0.3).search(self.MIXED, N))
            places[probability] = float(np.mean([place for place, kind in enumerate(found) if kind == "Cases"]))
        assert places[0.9] < places[0.4] < places[0.0]

    @pytest.mark.parametrize("action", get_args(RouteAction))
    def test_reports_and_traces(self, load, action: RouteAction) -> None:
        result = load(RuledRouter(action)).search("thing phone", 5)
        report = stage(result, "route")
        assert report is not None
        assert report.note.startswith(f"{action}: ")
        assert (stage(result, "boost") is not None) == (action != "none")
        assert stage(result, "guide").note == "routed"
        assert stage(result, "describe").n_out == 5
        assert ("boost" in [trace.stage for trace in result.hits[0].trace]) == (action != "none")

    def test_no_weight_is_off(self, load) -> None:
        router = RuledRouter()
        off, none = load(router, route_weight=0.0), load(RuledRouter("none"))
        result = off.search("thing phone", N)
        assert stage(result, "route") is None
        assert router.asked == []
        assert ids(result) == ids(none.search("thing phone", N))

    def test_what_is_excluded_is_not_what_is_asked_for(self, load) -> None:
        router = RuledRouter()
        result = load(router).search("fridge without case", 5)
        assert router.asked[-1] == "fridge"
        assert kinds(result) == ["Refrigerators"] * 5

    def test_the_router_reads_the_query_as_it_was_meant(self, load) -> None:
        router = RuledRouter()
        load(router).search("acme frigde", 5)
        assert router.asked[-1] == "acme fridge"

    def test_the_router_reads_synonyms_too_unless_they_are_excluded(self, load, tmp_path: Path) -> None:
        (tmp_path / "synonyms.txt").write_text(SYNONYMS)
        router = RuledRouter()
        engine = load(router, synonyms=str(tmp_path / "synonyms.txt"))
        result = engine.search("acme icebox", 5)
        assert router.asked[-1] == "acme fridge"
        assert result.route.chosen[0].name == "Refrigerators"
        engine.search("fridge without telly", 5)
        assert router.asked[-1] == "fridge"

    def test_filters_hold_whatever_the_type(self, load) -> None:
        result = load().search("thing phone", N, filters=[Equal("category", "Home")])
        assert set(kinds(result)) == {"Refrigerators", "Televisions"}

    def test_the_type_asked_for_is_looked_for_on_its_own(self, load) -> None:
        """Words and meaning fill the candidates with phones; a search among cases alone adds some."""
        found = {}
        for weight in (0.0, 0.2):
            engine = load(depth=12, route_weight=weight)
            query = "thing phone battery bright camera case"
            fusion = stage(engine.search(query, 1), "fusion")
            assert fusion is not None
            found[weight] = kinds(engine.search(query, fusion.n_out)).count("Cases")
        assert found == {0.0: 0, 0.2: 3}


class TestLooking:
    """A router may see what was found, and what it then says is what is told and followed."""

    def test_what_is_told_is_what_is_followed(self, load) -> None:
        result = load(LookingRouter("case")).search("thing phone", N)
        assert kinds(result)[:30] == ["Cases"] * 30
        route = result.route
        assert (route.action, route.chosen[0].name, route.reason) == ("filter", "Cases", "Cases is named")
        assert route.product_types[0].name == "Cases"
        assert all("is of the type Cases" in sku.reason for sku in route.skus)
        assert stage(result, "route").note == "filter: Phones is named"
        assert stage(result, "boost").note == "Cases is named"

    def test_one_that_then_sees_no_reason_leaves_the_order(self, load) -> None:
        result = load(LookingRouter("")).search("thing phone", N)
        assert ids(result) == ids(load(route_weight=0.0).search("thing phone", N))
        assert (result.route.action, result.route.chosen, result.route.product_types) == ("none", (), ())
        assert result.route.reason == "no type is named"
        assert stage(result, "boost") is None
        assert "boost" not in [trace.stage for trace in result.hits[0].trace]

    def test_one_that_only_then_sees_a_reason_is_followed(self, load) -> None:
        result = load(LookingRouter("case")).search("thing", N)
        assert kinds(result)[:30] == ["Cases"] * 30
        assert result.route.action == "filter"

    def test_it_sees_what_words_meaning_and_limits_found(self, load) -> None:
        router = LookingRouter("case")
        load(router).search("thing phone under 500", 3, offset=4)
        plain = load(route_weight=0.0).search("thing phone under 500", N)
        (found,) = router.found
        assert [f"P{row:04d}" for row in found.rows] == ids(plain)
        by_limits = [next(t.score for t in hit.trace if t.stage == "constraints") for hit in plain.hits]
        assert found.scores.tolist() == pytest.approx(by_limits)
        assert 1 <= found.scores[0] <= 1.1

    def test_it_looks_once_and_deeper_pages_keep_to_that(self, load) -> None:
        """Later looks would say something else, but the first page has been shown."""
        router = LookingRouter("case", "fridge", "tv", "")
        engine = load(router, depth=12, route_weight=0.3)
        result = engine.search("thing phone", N)
        followed = [report.note for report in result.stages if report.stage == "boost"]
        assert len(followed) > 1
        assert set(followed) == {"Cases is named"}
        assert len(router.found) == 1
        assert len(router.found[0]) < N
        pages = [engine.search("thing phone", 24, offset=offset) for offset in range(0, N, 24)]
        assert [product_id for page in pages for product_id in ids(page)] == ids(result)
        assert [page.route for page in pages] == [result.route] * len(pages)

    def test_nothing_found_is_nothing_to_look_at(self, load) -> None:
        router = LookingRouter()
        result = load(router).search("thing phone", 5, filters=[Equal("brand", "Nobody")])
        assert (result.hits, router.found) == ((), [])
        assert result.route.chosen[0].name == "Phones"

    def test_one_that_fails_over_it_leaves_the_order_and_says_so(self, load) -> None:
        self.check_degraded(load, LookingRouter(), "IndexError: tuple index out of range")

    def test_one_that_then_speaks_of_other_rows_is_not_believed(self, load) -> None:
        class Shrinking(LookingRouter):
            def _revise(self, found: Candidates) -> Routed:
                said = super()._revise(found)
                assert said.fit is not None
                return replace(said, fit=said.fit[:-1])

        note = f"ValueError: the router speaks of ({N - 1},) products, the index has {N}"
        self.check_degraded(load, Shrinking("case"), note)

    def check_degraded(self, load, router: LookingRouter, note: str) -> None:
        result = load(router).search("thing phone", 20)
        report = stage(result, "boost")
        assert report is not None
        assert (report.status, report.note) == ("degraded", note)
        assert result.degraded
        assert ids(result) == ids(load(route_weight=0.0).search("thing phone", 20))
        assert (result.route.action, result.route.product_types) == ("none", ())


class TestDegrading:
    def test_a_router_that_raises_leaves_the_order_and_says_so(self, load) -> None:
        router = RuledRouter()
        engine = load(router)
        router.broken = True
        result = engine.search("thing phone", 20)
        report = stage(result, "route")
        assert report is not None
        assert (report.status, report.note) == ("degraded", "RuntimeError: the router is gone")
        assert result.degraded
        assert ids(result) == ids(load(route_weight=0.0).search("thing phone", 20))
        assert result.route is not None
        assert (result.route.action, result.route.product_types) == ("none", ())

    def test_a_router_that_speaks_of_other_rows_is_not_believed(self, load) -> None:
        router = RuledRouter()
        engine = load(router)
        router._of_rows = router._of_rows[:-1]
        result = engine.search("thing phone", 20)
        assert ran(result)["route"] == "degraded"
        assert ids(result) == ids(load(route_weight=0.0).search("thing phone", 20))

    def test_no_time_is_no_routing(self, load) -> None:
        engine = load()
        engine.search("a query before", 1)
        result = engine.search("thing phone never asked", 20, deadline_ms=0)
        assert ran(result)["route"] == "degraded"
        assert "0.0 ms left" in str(stage(result, "route"))
        assert len(result.hits) == 20

    def test_an_encoder_that_fails_still_gives_marked_results(self, load, monkeypatch: pytest.MonkeyPatch) -> None:
        engine = load()

        def fail(queries: list[str]) -> np.ndarray:
            raise RuntimeError("the encoder is gone")

        encoder = HashedWordsEncoder()
        monkeypatch.setattr(encoder, "encode_queries", fail)
        engine._ranker.dense.encoder = encoder
        result = engine.search("zzzxqv", 5)
        assert (ran(result)["dense"], ran(result)["nearest"]) == ("degraded", "ran")
        assert result.route is not None
        assert result.route.nearest.startswith("no product has 'zzzxqv'; ")
        assert result.route.nearest.endswith("so these are the most popular products")


class TestConstraints:
    def test_what_is_too_dear_comes_last_and_what_has_no_price_is_not_punished(self, load) -> None:
        hits = load(route_weight=0.0).search("thing under 500", N).hits
        prices = [hit.product.price for hit in hits]
        assert len(prices) == N
        dear = [price is not None and price > 500 for price in prices]
        assert dear == sorted(dear)
        assert 0 < sum(dear) < N
        free = [hit for hit in hits if hit.product.price is None]
        without = [hit for hit in load(route_weight=0.0).search("thing", N).hits if hit.product.price is None]
        assert {hit.product.product_id for hit in free} == {hit.product.product_id for hit in without}

    def test_a_limit_and_a_type_together(self, load) -> None:
        result = load().search("thing fridge under 500", 12)
        expected = {p.product_id for p in PRODUCTS if p.category[-1] == "Refrigerators" and (p.price or 999) <= 500}
        assert len(expected) >= 8
        assert set(ids(result)[: len(expected)]) == expected

    def test_an_unsure_limit_only_prefers(self, load) -> None:
        result = load(route_weight=0.0, constraint_weight=1.0).search("globex thing", 40)
        assert all(hit.product.brand == "Globex" for hit in result.hits)

    def test_a_limit_that_no_product_meets_marks_the_result(self, load) -> None:
        result = load().search("fridge under 80", 3)
        assert len(result.hits) == 3
        assert result.route is not None
        assert result.route.nearest == "no product found has price ≤ 80"

    def test_a_page_beyond_what_fits_is_not_marked(self, load) -> None:
        engine = load()
        assert [engine.search("fridge under 500", 5, offset=o).route.nearest for o in (0, 20, 60)] == [""] * 3

    def test_a_type_that_lifts_little_is_a_reason_all_the_same(self, load) -> None:
        route = load(RuledRouter("boost", 0.4)).search("thing fridge", 5).route
        assert all("is of the type Refrigerators" in sku.reason for sku in route.skus)

    def test_reasons_name_limits(self, load) -> None:
        route = load().search("red fridge under 500", 5).route
        assert route is not None
        assert "price ≤ 500" in route.skus[0].reason
        assert "is of the type Refrigerators" in route.skus[0].reason
        assert "color red" in route.skus[0].reason
        assert route.skus[0].features["color"] == "Red"


class TestNegation:
    @pytest.fixture(scope="class")
    @classmethod
    def belts(cls, tmp_path_factory: pytest.TempPathFactory) -> SearchEngine:
        texts = ["with steel buckle", "with a buckle in gold", "without buckle", "no buckle, knotted", "of cloth", ""]
        products = [
            Product(product_id=f"B{i}", title=f"Leather belt {100 + i} {texts[i % 6]}", category=("Belts",))
            for i in range(24)
        ]
        return SearchEngine.build(products, tmp_path_factory.mktemp("belts"), encoder=ENCODER)

    def test_products_that_have_what_is_excluded_fall_behind_unless_they_say_without(self, belts) -> None:
        steps = {"off": tuple(step for step in STEPS if step != "negation"), "on": STEPS}
        places = {}
        for name, understand in steps.items():
            found = ids(belts.configured(SearchConfig(understand=understand)).search("leather belt without buckle", 24))
            assert len(found) == 24
            kinds = [int(product_id[1:]) % 6 // 2 for product_id in found]  # 0 has a buckle, 1 says that it has none
            places[name] = [np.mean([place for place, kind in enumerate(kinds) if kind == wanted]) for wanted in (0, 1)]
        assert places["on"][0] > places["off"][0] + 2
        assert places["on"][1] <= places["off"][1]
        assert places["on"][0] > places["on"][1] + 6

    @pytest.fixture(scope="class")
    @classmethod
    def lamps(cls, tmp_path_factory: pytest.TempPathFactory) -> SearchEngine:
        said: list[dict[str, Any]] = [
            {"shade": "White"}, {"usb_port": True}, {"usb_port": False}, {"finishes": ["Gold", "White"]}, {},
        ]  # fmt: skip
        products = [Product(product_id=str(i), title="Desk lamp", attributes=said[i % 5]) for i in range(20)]
        config = EngineConfig(search=SearchConfig(retrievers=("dense",)))  # which does not find them by these words
        return SearchEngine.build(products, tmp_path_factory.mktemp("lamps"), config, encoder=ENCODER)

    @pytest.mark.parametrize(("query", "having"), [("lamp not white", {0, 3}), ("lamp without usb port", {1})])
    def test_what_only_attributes_say_counts(self, lamps, query: str, having: set[int]) -> None:
        found = [int(product_id) % 5 for product_id in ids(lamps.search(query, 20))]
        assert len(found) == 20
        assert set(found[-4 * len(having) :]) == having

    def test_synonyms_of_what_is_excluded_are_not_searched(self, load, tmp_path: Path) -> None:
        (tmp_path / "synonyms.txt").write_text("telly, tv\nfridge, icebox\n")
        result = load(synonyms=str(tmp_path / "synonyms.txt")).search("fridge without telly", 3)
        assert "(synonym: telly)" not in result.stages[0].note
        assert result.route.notes == ("without telly → not telly", "fridge → also icebox")

    def test_the_negation_is_not_what_no_product_has(self, load) -> None:
        route = load().search("fridge excluding batteries", 3).route
        assert route is not None
        assert route.notes == ("excluding batteries → not batteries",)
        assert route.nearest == ""


class TestWords:
    def test_a_correction_is_searched_beside_the_typed_words(self, load) -> None:
        result = load(retrievers=("lexical",)).search("refrigeratrs", 40, explain=True)
        assert result.route is not None
        assert result.route.corrected == "refrigerators"
        assert set(kinds(result)) == {"Refrigerators"}
        plan = stage(result, "understand")
        assert plan is not None
        assert "refrigeratr" in plan.note
        match = result.hits[0].matches[0]
        assert (match.source, match.term, match.origin) == ("correction", "refriger", "refrigeratrs")

    def test_a_space_that_was_left_out(self, load) -> None:
        result = load(retrievers=("lexical",)).search("phonecase", 40, explain=True)
        assert kinds(result)[:30] == ["Cases"] * 30
        found = {(match.source, match.term, match.origin) for match in result.hits[0].matches}
        assert found == {("correction", "phone", "phonecase"), ("correction", "case", "phonecase")}

    @pytest.fixture
    def synonyms(self, tmp_path: Path) -> str:
        (tmp_path / "synonyms.txt").write_text(SYNONYMS)
        return str(tmp_path / "synonyms.txt")

    @pytest.mark.parametrize(
        ("word", "kind", "term"), [("icebox", 1, "fridg"), ("telly", 2, "tv"), ("handset", 0, "phone")]
    )
    def test_a_synonym_finds_what_the_word_does_not(self, load, synonyms: str, word: str, kind: int, term: str) -> None:
        plain = load(retrievers=("lexical",), nearest=False, synonyms="")
        assert plain.search(word, 30).hits == ()
        result = plain.configured(SearchConfig(retrievers=("lexical",), synonyms=synonyms)).search(
            word, 30, explain=True
        )
        assert KINDS[kind] in kinds(result)[:5]
        assert (result.hits[0].matches[0].source, result.hits[0].matches[0].term) == ("synonym", term)
        assert result.route is not None
        assert result.route.nearest == ""
        assert result.route.notes == (f"{word} → also {'fridge' if kind == 1 else 'tv' if kind == 2 else 'phone'}",)

    def test_explanations_add_up_with_words_from_elsewhere(self, load, synonyms: str) -> None:
        engine = load(synonyms=synonyms)
        for query in ("icebox under 500", "telly fr films", "acme handset"):
            for hit in engine.search(query, 10, explain=True).hits:
                lexical = next(trace for trace in hit.trace if trace.stage == "lexical")
                if lexical.score is not None:
                    assert sum(match.score for match in hit.matches) == pytest.approx(lexical.score, rel=1e-4)


class TestSwitches:
    QUERY = "s9 acme telly frigde under 500 without batteries"

    @pytest.fixture
    def config(self, tmp_path: Path) -> dict[str, Any]:
        (tmp_path / "synonyms.txt").write_text(SYNONYMS)
        return {"synonyms": str(tmp_path / "synonyms.txt")}

    MARKS = {  # noqa: RUF012
        "spelling": "frigde → fridge", "negation": "without batteries → not", "constraints": "under 500 → price",
        "names": "s9 acme → a model", "synonyms": "telly → also tv",
    }  # fmt: skip

    def notes(self, engine: SearchEngine) -> list[str]:
        route = engine.search(self.QUERY, 5).route
        return [] if route is None else list(route.notes)

    @pytest.mark.parametrize("step", MARKS)  # which an English query has
    def test_a_step_that_is_off_changes_nothing_of_the_others(self, load, config, step: str) -> None:
        all_of_them = self.notes(load(**config))
        assert all(any(note.startswith(mark) for note in all_of_them) for mark in self.MARKS.values())
        rest = self.notes(load(**config, understand=tuple(other for other in STEPS if other != step)))
        own = "under 500", "acme →"
        gone = [note for note in all_of_them if note not in rest]
        assert gone
        assert all(note.startswith((self.MARKS[step], *(own if step == "constraints" else ()))) for note in gone)
        assert [note for note in all_of_them if note in rest] == rest

    def test_all_off_is_the_plain_search(self, load, config) -> None:
        result = load(**config, understand=(), route_weight=0.0).search(self.QUERY, N)
        assert result.route is None
        assert not {"constraints", "boost", "route"} & set(ran(result))
        assert "(synonym" not in result.stages[0].note
