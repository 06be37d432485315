"""Kinds of things in a catalog without categories: learnt from titles and attributes, kept, named, acted on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

import engine
from engine.columns import Columns
from engine.config import EngineConfig, IndexConfig
from engine.errors import IndexCorruptError
from engine.kinds.learn import learn
from engine.kinds.store import KINDS, Kinds
from engine.kinds.titles import may_name, named_in, stem
from engine.needs.kind_names import KindNames
from engine.product import Product
from engine.storage.products import ProductStore
from engine.understanding.synonyms import Synonyms

COLORS = ("Black", "Silver", "White")
N = 12  # of each kind


@dataclass(frozen=True)
class Sheet:
    """A data sheet: how titles end, and which attributes are stated."""

    title: str
    attributes: dict[str, object]


def shop() -> list[Product]:
    """Notebooks, cases, batteries and mice of a shop that files nothing."""
    sheets = (
        Sheet("Notebook {color} 35.6 cm", {"processor": "i5", "ram_gb": 8, "screen_in": 14, "weight_g": 1500}),
        Sheet("notebook case {color}", {"closure": "zip", "material": "felt", "fits_in": 14}),
        Sheet("Notebook Battery", {"voltage_v": 11, "cells": 6, "chemistry": "Li-Ion", "capacity_mah": 5200}),
        Sheet("mouse USB {color}", {"buttons": 3, "dpi": 1000, "wheel": True, "sensor": "Optical", "interface": "USB"}),
        Sheet("Laptop Lock", {"key_type": "pin", "length_m": 2, "steel": True}),
    )
    out = []
    for place, sheet in enumerate(sheets):
        for n in range(N):
            color = COLORS[n % 3]
            name = sheet.title.format(color=color)
            # Each weighs and costs more than the one before, and cases less than anything.
            numbers = {
                k: v + n if isinstance(v, int) and not isinstance(v, bool) else v for k, v in sheet.attributes.items()
            }
            out.append(
                Product(
                    product_id=f"{place}-{n}", title=f"Maker{n % 4} X{place}{n}0 {name}", brand=f"Maker{n % 4}",
                    price=10.0 + (400 if place == 0 else 0) + n, attributes={**numbers, "color": color},
                )
            )  # fmt: skip
    return out


def built(directory: Path, products: list[Product]) -> Kinds:
    list(Columns.build(directory, ProductStore.write(directory, products)))
    return learn(products, Columns.open(directory))


def rows_of(kinds: Kinds, name: str) -> list[int]:
    kind = kinds.of(name.split())
    return [] if kind is None else kind.rows.tolist()


def test_a_noun_is_a_kind_where_a_title_ends_on_it_and_no_other_noun_follows(tmp_path: Path):
    kinds = built(tmp_path, shop())
    assert rows_of(kinds, "notebooks") == list(range(N))
    assert rows_of(kinds, "notebook case") == rows_of(kinds, "case") == list(range(N, 2 * N))
    assert rows_of(kinds, "mouse") == list(range(3 * N, 4 * N))  # the colour after it is no noun
    assert not rows_of(kinds, "laptop")
    assert not rows_of(kinds, "black")


def test_what_follows_a_noun_and_changes_nothing_is_of_the_kind(tmp_path: Path):
    renamed = [
        replace(p, title=p.title.replace("35.6 cm", "Computer")) if p.product_id in ("0-1", "0-2") else p
        for p in shop()
    ]
    kind = built(tmp_path, renamed).of(["notebook"])
    assert kind is not None
    assert kind.rows.tolist() == list(range(N))
    assert kind.same == (stem("computer"),)
    assert set(kind.other) == {"batteri", "case"}


def test_a_catalog_with_categories_or_without_attributes_has_no_kinds(tmp_path: Path):
    filed = [replace(p, category=("All",)) for p in shop()]
    bare = [replace(p, attributes={"color": "Black"}) for p in shop()]
    for at, products in enumerate((filed, bare)):
        (tmp_path / str(at)).mkdir()
        assert not built(tmp_path / str(at), products)


@pytest.mark.parametrize(
    ("title", "nouns"),
    [
        ("Targus Sleeve for Notebook", [("targus", "sleev"), ("sleev", "")]),  # for another thing
        ("Power Supply (UPS) 500 W", [("power", "suppli"), ("suppli", "ups"), ("ups", "")]),
        ("Keyboard, Mouse", [("keyboard", ""), ("mous", "")]),
    ],
)
def test_nouns_of_a_title_with_what_follows(title: str, nouns: list[tuple[str, str]]):
    found = [(key[0], follower) for key, follower in named_in(title, may_name) if len(key) == 1]
    assert found == nouns


def test_kinds_are_kept_and_follow_changes(tmp_path: Path):
    kinds = built(tmp_path, shop())
    kinds.save(tmp_path)
    again = Kinds.open(tmp_path)
    assert [(k.key, k.name, k.same, k.other, k.rows.tolist()) for k in again.kinds] == [
        (k.key, k.name, k.same, k.other, k.rows.tolist()) for k in kinds.kinds
    ]
    new = {
        row: Product(product_id=str(row), title=title)
        for row, title in enumerate(("Acme Z9 Notebook, red", "Acme notebook case"), 5 * N)
    }
    alive = np.ones(5 * N + 2, np.bool_)
    alive[:3] = False
    joined = again.joined(new, alive)
    assert rows_of(joined, "notebook") == [*range(3, N), 5 * N]
    assert rows_of(joined, "case") == [*range(N, 2 * N), 5 * N + 1]
    (tmp_path / KINDS).write_bytes(b"no kinds")
    with pytest.raises(IndexCorruptError, match="build the index again"):
        Kinds.open(tmp_path)


class TestNames:
    @pytest.fixture
    def names(self, tmp_path: Path) -> KindNames:
        return KindNames(built(tmp_path, shop()), Synonyms([(("laptop",), ("notebook",))]))

    @pytest.mark.parametrize(
        ("query", "kind", "first"),
        [
            ("cheap notebooks", "notebook", 0), ("notebook case", "notebook case", N), ("laptop", "notebook", 0),
            ("notebook for mouse", "notebook", 0), ("battery", "battery", 2 * N),
        ],
    )  # fmt: skip
    def test_a_query_names_the_kind_of_its_last_noun(self, names: KindNames, query: str, kind: str, first: int):
        found = names.named(query.split())
        assert found is not None
        assert found[0][0] == kind
        assert np.flatnonzero(found[1]).tolist() == list(range(first, first + N))

    def test_a_counted_noun_and_an_unknown_one_name_none(self, names: KindNames):
        assert names.named(["24", "case"]) is None
        assert names.named(["sofa"]) is None
        assert names.head(["notebook", "sofa"], lambda word: False, lambda words: None) is None
        assert names.head(["notebook", "red"], lambda word: word == "red", lambda words: None) is not None


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> engine.SearchEngine:
    config = EngineConfig(index=IndexConfig(reranker=""))
    return engine.SearchEngine.build(shop(), tmp_path_factory.mktemp("shop"), config)


def first(index: engine.SearchEngine, query: str, k: int = 1) -> list[str]:
    return [hit.product.product_id for hit in index.search(query, k).hits]


@pytest.mark.parametrize(
    ("query", "found"),
    [("cheapest notebook", "0-0"), ("lightest laptop", "0-0"), ("notebook with most ram", f"0-{N - 1}")],
)
def test_wants_are_of_the_kind(index: engine.SearchEngine, query: str, found: str):
    assert first(index, query) == [found]


def test_limits_are_of_the_kind(index: engine.SearchEngine):
    assert all(found.startswith("0-") for found in first(index, "notebook under 415", 5))


def test_a_kind_alone_is_left_to_words_and_meaning(index: engine.SearchEngine):
    stages = {report.stage: report for report in index.search("notebook", 5).stages}
    assert "guide" not in stages or "constraints" not in stages["guide"].note
    assert all(found.startswith("1-") for found in first(index, "notebook case", 5))


def test_what_needs_ask_is_shown_by_kind(index: engine.SearchEngine):
    shown = [(need.name, need.category, need.asks) for need, _ in index.needs()]
    assert ("light", "notebook", ("least weight_g",)) in shown
    assert ("cheap", "case", ("least price",)) in shown
