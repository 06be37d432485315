"""What a search tells of its way: marks of the nearest things, pages, explanations."""

from __future__ import annotations

import itertools

import pytest

from engine import (
    EngineConfig,
    Equal,
    IndexConfig,
    SearchEngine,
)
from engine.understanding.understand import STEPS
from tests.conftest import synthetic_products
from tests.test_route import ids, kinds, ran, stage


class TestNearest:
    def test_a_query_that_finds_nothing_gets_marked_results(self, load) -> None:
        engine = load(min_similarity=0.99)
        result = engine.search("zzzxqv qqwv", 7)
        assert len(result.hits) == 7
        assert ran(result)["nearest"] == "ran"
        assert result.route is not None
        assert result.route.nearest == "no product has 'zzzxqv'; no product has 'qqwv'"

    @pytest.mark.parametrize("query", ["qwx7123z", "QWX-7123-Z"])
    @pytest.mark.parametrize("understand", [(), STEPS])
    def test_a_code_that_is_not_there_is_marked_too(self, load, query: str, understand: tuple[str, ...]) -> None:
        route = load(min_similarity=0.99, understand=understand, route_weight=0.0).search(query, 3).route
        assert route is not None
        assert route.nearest == f"no product was found for {query!r}"

    def test_they_are_the_nearest_by_meaning(self, load) -> None:
        engine = load(min_similarity=0.99, route_weight=0.0, retrievers=("dense",))
        result = engine.search("fridge family", 20)
        assert set(kinds(result)) == {"Refrigerators"}

    def test_without_an_encoder_they_are_the_most_popular(self) -> None:
        engine = SearchEngine.build(synthetic_products(20), config=EngineConfig(index=IndexConfig(encoder="")))
        assert ids(engine.search("zzzxqv", 3)) == ["P0019", "P0018", "P0017"]

    def test_off(self, load) -> None:
        result = load(min_similarity=0.99, nearest=False).search("zzzxqv", 5)
        assert result.hits == ()
        assert stage(result, "nearest") is None
        assert result.route is not None
        assert result.route.nearest == ""

    def test_they_pass_the_filters(self, load) -> None:
        hits = load(min_similarity=0.99).search("zzzxqv", 10, filters=[Equal("color", "red")]).hits
        assert {hit.product.attributes["color"] for hit in hits} == {"Red"}
        assert load(min_similarity=0.99).search("zzzxqv", filters=[Equal("brand", "Nobody")]).hits == ()

    def test_a_query_that_says_nothing_has_no_nearest(self, load) -> None:
        result = load().search("?! …", 5)
        assert result.hits == ()
        assert result.route is not None
        assert (result.route.skus, result.route.nearest) == ((), "")

    @pytest.mark.parametrize(
        "query",
        [
            "thing phone", "acme fridge", "best cheap tv", "fridge between 200 and 500", "phones", "tvs",
            "something nice for my mother", "birthday gift: a tv she'd really use daily", "phone for trekking",
            "fridge that automatically works",
        ],
    )  # fmt: skip
    def test_what_was_found_is_not_marked(self, load, query: str) -> None:
        assert load().search(query, 3).route.nearest == ""

    @pytest.mark.parametrize(
        ("query", "missing"),
        [
            ("ipad alternative", "ipad"),
            ("case for fitbit", "fitbit"),
            ("trekking pole", "trekking"),
            ("movie", "movie"),
        ],
    )
    def test_what_names_a_thing_is_marked(self, load, query: str, missing: str) -> None:
        assert f"no product has {missing!r}" in load().search(query, 3).route.nearest

    def test_a_word_that_no_product_has_is_named_as_it_was_typed(self, load) -> None:
        assert load().search("acme Headphones", 3).route.nearest == "no product has 'headphones'"


class TestPages:
    QUERIES = {  # noqa: RUF012
        "thing fridge under 500": "Refrigerators", "thing phone without battery": "Phones",
        "acme frigde": "Refrigerators", "acme case in red": "Cases", "zzzxqv": "",
    }  # fmt: skip

    @pytest.mark.parametrize("query", QUERIES)
    @pytest.mark.parametrize("depth", [9, 200])
    def test_pages_are_the_list_cut_up(self, load, query: str, depth: int) -> None:
        engine = load(depth=depth)
        whole = engine.search(query, 60)
        pages = [engine.search(query, 10, offset=offset) for offset in range(0, 60, 10)]
        assert not self.QUERIES[query] or set(kinds(whole)[:5]) == {self.QUERIES[query]}
        assert list(itertools.chain.from_iterable(map(ids, pages))) == ids(whole)
        assert ids(engine.search(query, 20)) == ids(pages[0]) + ids(pages[1])
        assert len(set(ids(whole))) == len(whole.hits)
        scores = [hit.score for page in pages for hit in page.hits]
        assert scores == sorted(scores, reverse=True)

    @pytest.mark.parametrize("query", QUERIES)
    def test_every_page_tells_the_same_route(self, load, query: str) -> None:
        engine = load()
        routes = [engine.search(query, k, offset=offset).route for k, offset in ((10, 0), (3, 10), (1, 0), (0, 0))]
        assert routes.count(routes[0]) == len(routes)
        assert [sku.product_id for sku in routes[0].skus] == ids(engine.search(query, 5))


class TestExplained:
    def test_stages_of_guidance_are_traced_and_ranks_agree(self, load) -> None:
        engine = load()
        query = "thing fridge under 500 without battery"
        hit = engine.search(query, 4).hits[3]
        explained = engine.explain(query, hit.product.product_id)
        assert (explained.rank, explained.trace) == (hit.rank, hit.trace)
        stages = [trace.stage for trace in hit.trace]
        assert stages == ["lexical", "dense", "fusion", "feedback", "constraints", "boost"]
        assert hit.trace[-1].rank == 4

    def test_stages_that_have_nothing_to_say_leave_no_trace(self, load) -> None:
        stages = [trace.stage for trace in load().search("thing", 1).hits[0].trace]
        assert stages == ["lexical", "dense", "fusion", "feedback"]
