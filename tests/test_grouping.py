"""One product a group: variants derived from a catalog, groups by a field, and how results are arranged."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import engine
from engine import Equal, IndexCorruptError, IndexMismatchError, InvalidFilterError, Product, SearchConfig, SearchEngine
from engine.arrangement import Arrangement
from engine.families.variants import VARIANTS, derive_variants, open_variants
from engine.grouping import Groups
from engine.types import Candidates
from tests.conftest import synthetic_products


def phone(
    title: str, number: int = 0, brand: str = "Acme", model: str = "", kind: str = "Phones", **attributes
) -> Product:
    return Product(
        product_id=f"{number}", title=title, brand=brand, model=model, category=(kind,), attributes=attributes
    )  # fmt: skip


def variants(*products: Product) -> list[int]:
    return derive_variants(products).tolist()


class TestVariants:
    @pytest.mark.parametrize(
        ("left", "right", "same"),
        [
            ("Acme One 5G (Blue, 8GB RAM, 128GB Storage)", "Acme One 5G 256 GB Dark Green, 12 GB RAM", True),
            ("Acme One phone - Black", "Acme One phone - White/Gray", True),
            ("Acme One 5G Black", "Acme Two 5G Black", False),
            ("Acme One Pro 128GB", "Acme One 128GB", False),
            ("Acme Case for One, Black", "Acme Case for Two, Black", False),
            ("Acme TV 55 inch Black", "Acme TV 65 inch Black", False),
            ("Acme One Black", "Acme One White", False),  # too little is left that could tell two apart
        ],
    )
    def test_titles(self, left, right, same):
        assert variants(phone(left, 1), phone(right, 2)) == [0, 0 if same else 1]

    def test_a_colour_that_only_this_catalog_has(self):
        rows = [phone("Acme One 5G Sunlit Zest", 1, color="Sunlit Zest"), phone("Acme One 5G", 2, color="Ash")]
        assert variants(*rows) == [0, 0]

    def test_of_one_code_titles_may_differ(self):
        rows = [phone("Acme One smartphone blue", 1, model="SM-X1B"), phone("One, the phone", 2, model="SM-X1B")]
        assert variants(*rows) == [0, 0]

    @pytest.mark.parametrize(
        ("left", "right", "same"),
        [("EF-PS928TE", "EF-PS928BE", True), ("QA65Q60C", "QA65QE1D", False), ("PG-512", "PG-510", False),
         ("CASE", "ONE", True), ("KP081AA", "NZ222UT", False)],
    )  # fmt: skip
    def test_codes_of_colours_differ_in_letters(self, left, right, same):
        rows = [phone(f"Acme Silicone Case Black ({left})", 1, model=left)]
        rows.append(phone(f"Acme Silicone Case White ({right})", 2, model=right))
        rows = [row if any(c.isdigit() for c in row.model) else phone("Acme Silicone Case", 3) for row in rows]
        assert variants(*rows) == [0, 0 if same else 1]

    def test_attributes_must_agree_but_for_colour_and_storage(self):
        common = {"screen": 6.1, "battery": 4000, "camera": 50, "sim": "dual", "nfc": True}
        rows = [
            phone("Acme One 5G", 1, color="Red", storage_gb=128, **common),
            phone("Acme One 5G", 2, color="Blue", storage_gb=256, **common),
            phone("Acme One 5G", 3, color="Red", storage_gb=128, **{**common, "screen": 6.7, "battery": 5000}),
        ]
        assert variants(*rows) == [0, 0, 2]

    def test_another_brand_or_category_is_another_product(self):
        rows = [
            phone("Case One Black", 1),
            phone("Case One White", 2, brand="Globex"),
            phone("Case One", 3, kind="Cases"),
        ]
        assert variants(*rows) == [0, 1, 2]

    def test_phones_of_the_sample_by_their_titles_alone(self, sample_products):
        phones = [p for p in sample_products if p.category[:2] == ("Mobiles", "Smartphones")]
        by_model = defaultdict(list)
        for row, product in enumerate(phones):
            by_model[product.brand, product.model].append(row)
        coded = derive_variants(phones)
        pairs = {pair for rows in by_model.values() for pair in pairwise(rows)}
        assert np.mean([coded[a] == coded[b] for a, b in pairs]) > 0.95
        blind = derive_variants([msgspec.structs.replace(product, model="") for product in phones])
        joined = [(a, b) for a in range(len(phones)) for b in range(a) if blind[a] == blind[b]]
        assert joined
        assert np.mean([phones[a].model == phones[b].model for a, b in joined]) > 0.95

    def test_damage_is_noticed(self, tmp_path):
        for wrong in (np.zeros(2, np.int32), np.array([0, 2, 2], np.int32), np.zeros(3, np.int64)):
            np.save(tmp_path / VARIANTS, wrong)
            with pytest.raises(IndexCorruptError, match=VARIANTS):
                open_variants(tmp_path, 3)
        (tmp_path / VARIANTS).write_bytes(b"no array")
        with pytest.raises(IndexCorruptError, match=VARIANTS):
            open_variants(tmp_path, 3)


def candidates(rows, scores=None) -> Candidates:
    scores = np.linspace(1, 0, len(rows)) if scores is None else scores
    return Candidates(np.array(rows, np.int64), np.array(scores, np.float32))


def test_rows_without_a_product_are_of_no_group():
    groups = Groups("g", np.array([0, 0, 2, 0, 4]), np.array([1, 3, 4]))
    assert groups.members(3).tolist() == [1, 3]
    assert (groups.count(None), groups.count(np.ones(5, np.bool_))) == (2, 2)
    assert groups.count(np.array([True, False, True, False, True])) == 1


class TestArrangement:
    @given(st.data())
    @settings(max_examples=100, deadline=None)
    def test_one_a_group_pins_in_place_and_deeper_tiers_only_add(self, data):
        n = 40
        order = data.draw(st.permutations(range(n)))
        cuts = sorted(data.draw(st.lists(st.integers(1, n), min_size=1, max_size=3)))
        of = np.array(data.draw(st.lists(st.integers(0, 12), min_size=n, max_size=n)), np.int64)
        behind = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
        pins = data.draw(st.dictionaries(st.integers(1, 6), st.integers(0, n - 1), max_size=4))
        pins = {rank: row for rank, row in pins.items() if list(pins.values()).count(row) == 1}
        by_group = {of[row]: rank for rank, row in pins.items()}
        pins = {rank: row for rank, row in pins.items() if by_group[of[row]] == rank}
        arrangement = Arrangement(behind=behind, groups=Groups("g", of, np.arange(len(of))), pins=pins)
        shown = arrangement.first(candidates(order[: cuts[0]]))
        for cut in cuts[1:]:
            before = shown.rows.tolist()
            shown = arrangement.deeper(shown, candidates(order[:cut]))
            assert shown.rows.tolist()[: len(before)] == before
        groups = of[shown.rows]
        assert len(set(groups.tolist())) == len(groups)
        assert set(groups.tolist()) == set(of[order[: cuts[-1]]].tolist()) | {of[row] for row in pins.values()}
        assert all(a >= b for a, b in pairwise(shown.scores.tolist()))
        for rank, row in pins.items():
            if rank <= len(of[order[: cuts[0]]]) and rank <= len(set(of[order[: cuts[0]]].tolist())):
                assert shown.rows[rank - 1] == row
        loose = [row for row in shown.rows.tolist() if row not in pins.values() and row in order[: cuts[0]]]
        assert [behind[row] for row in loose] == sorted(behind[row] for row in loose)

    def test_the_shown_variant_is_the_best_that_can_be_bought(self):
        groups = Groups("g", np.array([0, 0, 0, 3]), np.arange(4))
        behind = np.array([True, False, False, False])
        arrangement = Arrangement(behind=behind, groups=groups)
        assert arrangement.first(candidates([0, 3, 2, 1])).rows.tolist() == [3, 2]
        field, count, others = arrangement.group(2, 5)
        assert (field, count, others.tolist()) == ("g", 3, [1, 0])

    def test_without_anything_to_do_a_ranking_is_as_it_was(self):
        arrangement, found = Arrangement(), candidates([4, 2, 9])
        assert arrangement.first(found) is found
        assert arrangement.note == ""
        assert arrangement.group(4, 5) is None


def group_of(product) -> str:
    return product.attributes["color"]


def ids(result) -> list[str]:
    return [hit.product.product_id for hit in result.hits]


class TestSearch:
    def test_as_many_groups_as_there_are_wherever_they_are(self, load):
        engine_ = load(depth=10)
        rows = {product.price for product in synthetic_products()}
        found = engine_.search("thing", 120, group="price")
        prices = [hit.product.price for hit in found.hits]
        known = [price for price in prices if price is not None]
        assert len(known) == len(set(known)) == len(rows - {None})
        assert prices.count(None) == sum(p.price is None for p in synthetic_products())  # each a group of its own

    def test_the_best_of_a_group_with_count_and_others(self, load):
        engine_ = load()
        plain = engine_.search("thing phone", 120)
        found = engine_.search("thing phone", 10, group="color")
        assert [hit.product.attributes["color"] for hit in found.hits] == list(
            dict.fromkeys(group_of(hit.product) for hit in plain.hits)
        )
        assert len(found.hits) == 3
        for hit in found.hits:
            alike = [
                other.product.product_id for other in plain.hits if group_of(other.product) == group_of(hit.product)
            ]
            assert (hit.product.product_id, *hit.group.others) == tuple(alike[:21])
            assert hit.group.count == len(alike) == 40
            assert hit.group.field == "color"

    def test_counts_respect_filters_and_facets_count_all(self, load):
        found = load().search("thing", 10, group="color", filters=[Equal("category", "Mobiles")], facets=["brand"])
        assert {hit.group.count for hit in found.hits} == {10}
        assert sum(count.count for count in found.facets["brand"]) == 30
        assert found.n_candidates == 30

    def test_pages_are_stable(self, load):
        engine_ = load(depth=15)
        whole = engine_.search("thing phone", 60, group="weight_kg")
        assert len(whole.hits) == 5
        by_price = engine_.search("thing phone", 60, group="price")
        pages = [
            hit
            for start in range(0, 60, 7)
            for hit in engine_.search("thing phone", 7, offset=start, group="price").hits
        ]
        assert [(hit.product, hit.group) for hit in pages[:60]] == [(hit.product, hit.group) for hit in by_price.hits]

    def test_a_pinned_product_stands_for_its_group(self, load, tmp_path):
        path = tmp_path / "rules.toml"
        path.write_text("[[rule]]\nid = 'r'\nnote = 'n'\nthen = { pin = { P0117 = 2 } }")
        found = load().configured(SearchConfig(rules=str(path))).search("thing", 10, group="color")
        assert ids(found)[1] == "P0117"
        assert len({group_of(hit.product) for hit in found.hits}) == len(found.hits) == 3

    def test_an_unknown_field(self, load):
        with pytest.raises(InvalidFilterError, match="Did you mean: color"):
            load().search("thing", group="colour")

    def test_families(self, tmp_path):
        rows = [
            {"product_id": f"{name}-{color}-{size}", "title": f"Acme {name} phone 5G {size}GB {color}", "brand": "Acme"}
            for name in ("Uno", "Due", "Tre") for color in ("Black", "Mint") for size in (128, 256)
        ]  # fmt: skip
        config = engine.EngineConfig(index=engine.IndexConfig(encoder="", reranker=""))
        opened = SearchEngine.build(rows, tmp_path / "index", config)
        found = opened.search("acme phone 256gb", 10, group="family")
        assert [hit.group.count for hit in found.hits] == [4, 4, 4]
        assert all("256" in hit.product.product_id for hit in found.hits)
        assert "3 products of 12 variants" in str(opened.manifest.notes)
        (opened.version / "families" / VARIANTS).unlink()
        old = SearchEngine.load(tmp_path / "index", verify=False)
        with pytest.raises(IndexMismatchError, match="Build it again"):
            old.search("acme", group="family")
