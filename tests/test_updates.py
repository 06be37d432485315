"""Changes to an index that is being searched: what they come to equals a build of the products that there are."""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine import EngineConfig, Equal, Exists, IndexConfig, Product, Range, SearchConfig, SearchEngine
from engine.errors import InvalidFilterError, UpdateError
from engine.understanding.facts import CatalogFacts
from engine.updates.changes import read_changes
from ranking.cross_encoder import CrossEncoderModel
from tests.conftest import HashedWordsEncoder, synthetic_products

QUERIES = ("globex phone case", "acme televisions", "EF-A103", "red", "protects drops teapot", "tv 55 in")
FILTERS = (Equal("brand", "acme"), Range("price", 200, 600), Exists("popularity"), Equal("color", "red"),
           Equal("availability", "out"), Equal("category", "Accessories"))  # fmt: skip


@pytest.fixture
def index(small_directory: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_directory, tmp_path / "index"))


def load(directory: Path, **kwargs) -> SearchEngine:
    return SearchEngine.load(directory, encoder=HashedWordsEncoder(), **kwargs)


def living(engine: SearchEngine) -> list[Product]:
    now = engine.snapshot()
    return now._products.get(now._columns.rows)


def named(engine: SearchEngine, found) -> list[tuple[str, float]]:
    """Candidates as ids and scores, those of equal scores by id."""
    ids = [product.product_id for product in engine.snapshot()._products.get(found.rows)]
    return sorted(zip(ids, found.scores.tolist(), strict=True), key=lambda item: (-round(item[1], 4), item[0]))


def filtered(engine: SearchEngine, filter) -> set[str] | str:
    now = engine.snapshot()
    try:
        return {product.product_id for product in now._products.get(np.flatnonzero(now._columns.mask([filter])))}
    except InvalidFilterError as error:
        return str(error)


def passing(engine: SearchEngine, filter) -> set[str] | str:
    """As ``filtered``, asked row by row."""
    now = engine.snapshot()
    rows = now._columns.rows
    try:
        return {product.product_id for product in now._products.get(rows[now._columns.passing([filter], rows)])}
    except InvalidFilterError as error:
        return str(error)


def grouped(engine: SearchEngine, field: str) -> set[frozenset[str]]:
    now = engine.snapshot()
    return {frozenset(p.product_id for p in now._products.get(rows)) for rows in now._columns.groups(field)}


def assert_same(engine: SearchEngine, fresh: SearchEngine) -> None:
    """Every retriever, filter and facet, and the whole search, answers as the fresh build does."""
    mine, other = engine.snapshot(), fresh.snapshot()
    assert len(engine) == len(fresh)
    assert mine.fields == other.fields
    for field in other.fields:
        assert mine._columns.values(field) == other._columns.values(field), field
    for query in QUERIES:
        for part in ("lexical", "dense"):
            found = [named(one, getattr(one._ranker, part).retrieve(query, 1000)) for one in (mine, other)]
            assert [product_id for product_id, _ in found[0]] == [product_id for product_id, _ in found[1]], part
            np.testing.assert_allclose([s for _, s in found[0]], [s for _, s in found[1]], rtol=1e-4, atol=1e-5)
        assert [t.text for t in mine._ranker.lexical.plan(query)] == [t.text for t in other._ranker.lexical.plan(query)]
        results = [one.search(query, 10, facets=("brand", "color")) for one in (mine, other)]
        scores = [{hit.product.product_id: hit.score for hit in result.hits} for result in results]
        assert scores[0] == pytest.approx(scores[1], abs=1e-3)
        assert results[0].facets == results[1].facets
    for filter in FILTERS:
        assert filtered(engine, filter) == filtered(fresh, filter)
        assert passing(engine, filter) == filtered(fresh, filter)
    for field in ("color", "price", "brand"):
        assert grouped(engine, field) == grouped(fresh, field)
        groups = [one.search("phone case tv", 200, group=field).hits for one in (mine, other)]
        assert len(groups[0]) == len(groups[1])
        assert Counter(hit.group.count for hit in groups[0]) == Counter(hit.group.count for hit in groups[1])


_IDS = st.sampled_from(["P0003", "P0011", "P0022", "NEW1"])  # few, so that sequences come back to the same
_PLAIN = SearchConfig(route_weight=0.0, understand=(), needs="", threads=1)


def _product(product_id: str, title: str, color: str, price: float | None) -> Product:
    return Product(
        product_id=product_id, title=title, brand="Acme", attributes={"color": color, "fresh": "yes"}, price=price,
        category=("Accessories", "Cases"), popularity=4.0,
    )  # fmt: skip


_OPERATIONS = st.one_of(
    st.tuples(st.just("delete"), _IDS),
    st.builds(
        lambda i, t, c, p: ("add", _product(i, t, c, p)),
        _IDS, st.sampled_from(["steel teapot", "globex phone case red", "red red red"]),
        st.sampled_from(["Red", "Teal"]), st.sampled_from([None, 10.0, 300.0]),
    ),
    st.tuples(
        st.just("update"), _IDS,
        st.one_of(
            st.fixed_dictionaries({"price": st.sampled_from([None, 5.0, 250.0])}),
            st.fixed_dictionaries({"availability": st.sampled_from(["", "out", "in_stock"])}),
            st.fixed_dictionaries({"popularity": st.sampled_from([0.0, 99.0])}),
            st.fixed_dictionaries({"title": st.sampled_from(["steel kettle", "acme tv 55 in"])}),
        ),
    ),
)  # fmt: skip


class TestAgainstAFreshBuild:
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(operations=st.lists(st.tuples(_OPERATIONS, st.booleans()), min_size=8, max_size=16))
    def test_any_sequence_of_changes(self, small_directory, tmp_path_factory, operations):
        directory = Path(shutil.copytree(small_directory, tmp_path_factory.mktemp("index") / "index"))
        engine = load(directory, config=_PLAIN)
        expected = {product.product_id: product for product in living(engine)}
        for (operation, *arguments), commits in operations:
            if operation == "delete":
                engine.delete(arguments)
                expected.pop(arguments[0], None)
            elif operation == "add":
                engine.add(arguments)
                expected[arguments[0].product_id] = arguments[0]
            elif arguments[0] in expected:
                engine.update([{"product_id": arguments[0], **arguments[1]}])
                expected[arguments[0]] = msgspec.structs.replace(expected[arguments[0]], **arguments[1])
            if commits:
                engine.commit()
        engine.commit()
        assert {product.product_id: product for product in living(engine)} == expected
        again = load(directory, config=_PLAIN)
        fresh = SearchEngine.build(
            living(engine), tmp_path_factory.mktemp("fresh"), _as_engine(_PLAIN), encoder=HashedWordsEncoder()
        )
        assert_same(engine, fresh)
        assert_same(again, fresh)


def _as_engine(config: SearchConfig):
    return EngineConfig(index=IndexConfig(reranker=""), search=config)


class TestCommit:
    def test_is_seen_by_new_searches_and_by_who_loads_later(self, index):
        engine = load(index)
        before = engine.snapshot()
        engine.update([{"product_id": "P0003", "price": 1.5}])
        assert engine.commit().patched == 1
        for now in (engine, load(index)):
            assert [hit.product.price for hit in now.search("EF-A103", 1).hits] == [1.5]
            assert [hit.product.product_id for hit in now.search("case", filters=[Range("price", at_most=2)]).hits] == [
                "P0003"
            ]
        assert before.search("EF-A103", 1).hits[0].product.price == 130.0

    def test_a_patch_takes_the_place_of_what_was_before_it(self, index):
        """In each column, for a product that was built, patched before or added, whichever commit comes first."""
        engine = load(index, config=_PLAIN)
        engine.add([_product("NEW1", "steel teapot", "Red", 500.0)])
        engine.commit()
        for number, product_id in enumerate(("P0011", "P0012", "P0011", "NEW1", "P0013", "NEW1")):
            old = next(product for product in living(engine) if product.product_id == product_id)
            for field, value in (("price", 5000.0 + number), ("availability", f"state {number}"), ("rating", 4.0)):
                engine.update([{"product_id": product_id, field: value}])
                engine.commit()
                for now in (engine, load(index, config=_PLAIN)) if number > 3 else (engine,):
                    assert product_id in filtered(now, Equal(field, value))
                    assert product_id in filtered(now, Equal("brand", old.brand))  # which no patch changes
                    if (before := getattr(old, field)) not in (None, "", value):
                        assert product_id not in filtered(now, Equal(field, before))
                        assert product_id not in passing(now, Equal(field, before))
            assert engine.snapshot()._columns.percentiles is not None  # kept until the next commit
            engine.update([{"product_id": product_id, "popularity": 1000.0 + number}])
            engine.commit()
            columns = engine.snapshot()._columns
            assert np.argmax(columns.percentiles) == columns.row(product_id)
            assert engine.snapshot()._opened.facts.price.bounds == CatalogFacts.from_columns(columns).price.bounds
        before = engine.snapshot()
        engine.delete(["P0011", "NEW1"])
        engine.commit()
        assert {"P0011", "NEW1"} <= filtered(before, Equal("rating", 4.0))
        assert len(before) == len(engine) + 2
        assert before.search("steel teapot", 1).hits[0].product.product_id == "NEW1"
        columns = engine.snapshot()._columns
        prices = columns.column("price")
        assert set(prices.number_rows.tolist()) <= set(columns.rows.tolist())
        assert len(set(prices.number_rows.tolist())) == len(prices.number_rows)
        assert sorted(count.value for count in columns.values("availability")) == ["state 1", "state 4"]

    def test_who_is_open_sees_it_on_refresh(self, index):
        writer, reader = load(index), load(index)
        writer.delete(["P0003"])
        writer.commit()
        assert any(hit.product.product_id == "P0003" for hit in reader.search("EF-A103").hits)
        assert reader.refresh()
        assert not reader.refresh()
        assert not any(hit.product.product_id == "P0003" for hit in reader.search("EF-A103").hits)

    def test_a_deleted_product_comes_back_only_when_it_is_added(self, index):
        engine = load(index)
        product = engine.search("EF-A103", 1).hits[0].product
        for _ in range(3):
            engine.delete(["P0003"])
            engine.commit()
            engine.add([_product("OTHER", "steel teapot", "Red", 3.0)])
            engine.commit()
            assert "P0003" not in {hit.product.product_id for hit in engine.search("globex phone case", 200).hits}
            engine.add([product])
            engine.commit()
            assert [hit.product for hit in engine.search("EF-A103", 1).hits] == [product]
        assert len(engine) == 121

    def test_two_writers_lose_nothing_of_each_other(self, index):
        first, second = load(index), load(index)
        for number, engine in enumerate((first, second, first, second)):
            engine.add([_product(f"W{number}", f"steel teapot {number}", "Red", 1.0)])
            engine.commit()
        assert len(load(index)) == 124
        assert first.refresh()
        assert len(first) == len(second) == 124

    def test_many_deletes_at_once_leave_the_words_of_a_fresh_build(self, index, tmp_path):
        engine = load(index, config=_PLAIN)
        gone = [f"P{i:04}" for i in range(0, 120, 3)]
        engine.delete(gone[:20])
        engine.commit()
        engine.delete(gone[20:])
        engine.add([_product("P0001", "steel teapot", "Red", 3.0)])
        engine.commit()
        fresh = SearchEngine.build(living(engine), tmp_path / "fresh", _as_engine(_PLAIN), encoder=HashedWordsEncoder())
        for now in (engine, load(index, config=_PLAIN)):
            assert now.snapshot()._ranker.lexical.frequencies == fresh._ranker.lexical.frequencies
            assert_same(now, fresh)

    def test_a_saved_copy_has_the_changes(self, index, tmp_path):
        engine = load(index)
        engine.delete(["P0003"])
        engine.commit()
        before = engine.snapshot()
        engine.update([{"product_id": "P0004", "price": 1.5}])
        engine.add([_product("NEW1", "steel teapot", "Red", 3.0)])
        engine.commit()
        for copied, number in ((before, 1), (engine, 2)):
            copied.save(tmp_path / f"copy{number}")
            again = load(tmp_path / f"copy{number}")
            assert again.info().commits == number
            assert living(again) == living(copied)
        assert again.search("steel teapot", 1).hits[0].product.product_id == "NEW1"

    def test_nothing_to_change_leaves_no_trace(self, index):
        engine = load(index)
        engine.update([{"product_id": "P0003", "price": 130.0}])
        engine.delete(["NOBODY"])
        commit = engine.commit()
        assert (commit.number, commit.missing) == (0, 1)
        assert not (index / "changes").exists()

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            (lambda e: e.add([{"product_id": "A"}]), "title"),
            (lambda e: e.add([{"product_id": "A", "title": "x", "prize": 3}]), "prize"),
            (lambda e: e.update([{"price": 3}]), "product_id"),
            (lambda e: e.update([{"product_id": "NOBODY", "price": 3}]), "NOBODY"),
            (lambda e: e.update([{"product_id": "P0003", "price": -3}]), "price"),
            (lambda e: e.update([{"product_id": "P0003", "price": "dear"}]), "price"),
            (lambda e: e.delete("P0003"), "list"),
            (lambda e: e.delete([f"P{i:04}" for i in range(120)]), "no product would be left"),
        ],
    )
    def test_a_bad_change_changes_nothing(self, index, change, says):
        engine = load(index)
        engine.add([_product("GOOD", "steel teapot", "Red", 1.0)])
        before = (engine.info().commits, len(engine))
        if says == "no product would be left":
            engine = load(index)

        def make() -> None:
            change(engine)
            engine.commit()

        with pytest.raises(UpdateError, match=says):
            make()
        assert (load(index).info().commits, len(load(index))) == before

    def test_a_view_is_of_its_moment(self, index):
        engine = load(index)
        view = engine.configured(_PLAIN)
        engine.delete(["P0003"])
        engine.commit()
        assert (len(view), len(engine)) == (120, 119)
        with pytest.raises(UpdateError, match="view"):
            view.delete(["P0004"])

    def test_searches_beside_commits_see_one_state(self, index):
        """Every commit moves all prices together; no search sees two of them."""
        engine = load(index, config=_PLAIN)
        ids = [product.product_id for product in living(engine)]
        engine.update([{"product_id": i, "price": 1.0} for i in ids])
        engine.commit()
        seen: list[set[float | None]] = []
        stop = threading.Event()

        def search() -> None:
            while not stop.is_set():
                seen.append({hit.product.price for hit in engine.search("phone", 50).hits})

        threads = [threading.Thread(target=search) for _ in range(3)]
        for thread in threads:
            thread.start()
        for price in range(2, 12):
            engine.update([{"product_id": i, "price": float(price)} for i in ids])
            engine.commit()
        stop.set()
        for thread in threads:
            thread.join()
        assert all(len(prices) == 1 for prices in seen)
        assert len(set.union(*seen)) > 1


class TestChangeFile:
    def test_reads_operations(self, tmp_path):
        path = tmp_path / "changes.jsonl"
        path.write_text(
            '{"op": "add", "product_id": "A", "title": "x"}\n\n{"op": "update", "product_id": "B", "price": 2}\n'
            '{"op": "delete", "product_id": "C"}\n'
        )
        changes = list(read_changes(path))
        assert [(c.operation, c.product_id) for c in changes] == [("add", "A"), ("update", "B"), ("delete", "C")]
        assert changes[1].place == f"{path}, line 3"

    @pytest.mark.parametrize(
        ("line", "says"),
        [("{", "line 2"), ("[1]", "object"), ('{"op": "ad"}', "'op'"), ('{"op": "delete"}', "product_id"),
         ('{"op": "add", "product_id": "A", "title": ""}', "title is empty"),
         ('{"op": "update", "product_id": "A", "colour": 1}', "colour")],
    )  # fmt: skip
    def test_a_bad_line_is_named(self, tmp_path, line, says):
        path = tmp_path / "changes.jsonl"
        path.write_text(f'{{"op": "delete", "product_id": "C"}}\n{line}\n')
        with pytest.raises(UpdateError, match=says):
            list(read_changes(path))


class TestModels:
    def test_what_is_added_is_reranked_and_routed_as_what_was_built(self, tmp_path, reranker_directory):
        """The last tenth of the catalog is added later; the others are the same rows in both indexes."""
        products = synthetic_products()
        reranker = CrossEncoderModel(reranker_directory)

        def build(directory: Path, some: list[Product]) -> SearchEngine:
            config = EngineConfig(index=IndexConfig(reranker=str(reranker_directory)), search=SearchConfig(threads=1))
            return SearchEngine.build(some, directory, config, encoder=HashedWordsEncoder(), reranker=reranker)

        whole, grown = build(tmp_path / "whole", products), build(tmp_path / "grown", products[:108])
        grown.add(products[108:])
        assert grown.commit().put == 12
        now, then = grown.snapshot(), whole.snapshot()
        rows = np.arange(120)
        for query in ("acme phone", "globex tv films"):
            ranked = [one._ranker.reranker.score(query, rows, None).scores for one in (now, then)]
            np.testing.assert_allclose(*ranked, rtol=1e-5)
            result = grown.search(query, 20)
            assert all(stage.status != "degraded" for stage in result.stages)
        np.testing.assert_array_equal(now._router._of_rows, then._router._of_rows)
        # The log is applied to what is loaded anew as it was to what was open.
        again = SearchEngine.load(tmp_path / "grown", encoder=HashedWordsEncoder(), reranker=reranker).snapshot()
        np.testing.assert_allclose(again._ranker.reranker.score("acme phone", rows, None).scores,
                                   then._ranker.reranker.score("acme phone", rows, None).scores, rtol=1e-5)  # fmt: skip

    def test_words_of_what_is_added_are_no_slips(self, index):
        engine = load(index)
        assert engine.search("globey case").route.corrected == "globex case"
        engine.add([_product(f"Y{i}", "globey case steel", "Red", 3.0) for i in range(30)])
        engine.commit()
        assert engine.search("globey case").route.corrected == "globey case"
