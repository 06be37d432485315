"""Lookups that do not look at all of a catalog find what a look at all of it finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine import Product
from engine.columns import Columns
from engine.families.store import ProductFamilies
from engine.needs import measures as measures_module
from engine.needs.categories import Categories, _is_called, _words
from engine.needs.measures import packed, room, unpacked

_PATHS = (
    "Mobiles > Smartphones",
    "Mobiles > Feature Phones",
    "Accessories > Cases & Covers",
    "Home > Doors",
    "Home > Outdoor",
    "Accessories > Phone Cases",
    "Watches > Smartwatches",
    "テレビ > 液晶",
    "Home > Glasses",
)


def _columns(products: list[Product], directory: Path) -> Columns:
    for _ in Columns.build(directory, products):
        pass
    return Columns.open(directory)


@pytest.fixture
def columns(tmp_path: Path) -> Columns:
    products = [
        Product(
            product_id=f"P{row}",
            title="thing",
            category=tuple(_PATHS[row % len(_PATHS)].split(" > ")),
            attributes={"tags": [f"tag {row % 3}", f"tag {row % 5}"], "size": f"{row % 7} in"},
        )
        for row in range(60)
    ]
    return _columns(products, tmp_path)


def test_values_are_counted_as_one_by_one(columns: Columns) -> None:
    among = np.zeros(60, np.bool_)
    among[[1, 5, 8, 30, 59]] = True
    for field in ("attributes.tags", "category", "brand"):
        column = columns.column(field)
        if column is None:
            continue
        expected = [int(among[column.rows[start:end]].sum()) for start, end in column.spans.values()]
        assert column.counts(among).tolist() == expected
        for row in range(60):
            texts = [text for text, (start, end) in column.spans.items() if row in column.rows[start:end]]
            assert column.texts(row) == texts


def test_categories_by_their_last_words(columns: Columns) -> None:
    categories = Categories(columns)
    for word in (
        "phone",
        "phones",
        "smartphone",
        "case",
        "cover",
        "door",
        "outdoor",
        "watch",
        "glass",
        "phone case",
        "テレビ",
        "nothing",
        "s",
        "doors & windows",
    ):
        found = [path for path, _ in categories._paths_called(word)]
        assert found == [path for path, _ in categories._paths if _is_called(path[-1], _words(word))]


def test_compounds_of_a_noun(tmp_path: Path) -> None:
    titles = ("smartphone case", "headphones", "telephone", "phone", "dresses", "headdress", "microphones stand")
    ProductFamilies.build(tmp_path, [Product(product_id=str(n), title=title) for n, title in enumerate(titles)])
    families = ProductFamilies.open(tmp_path)
    for noun in ("phone", "dress", "case", "stand"):
        expected = {word for word in families.words if word.endswith((noun, f"{noun}s"))}
        assert set(families._compounds(noun)) == expected
    assert {"smartphone", "headphones", "telephone", "microphones"} <= set(families._compounds("phone"))


def test_rows_as_keys_and_room_for_arrays() -> None:
    for n in (1, 7, 8, 9, 1000):
        rows = np.random.default_rng(n).random(n) < 0.5
        np.testing.assert_array_equal(unpacked(packed(rows), n), rows)
    assert room(100, 64) == 64
    assert room(10**6, 64) * 10**6 <= measures_module._KEPT_NUMBERS
    assert room(10**9, 64) == 4


def test_types_are_guessed_alike_whatever_is_looked_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from qpt import product_types

    random = np.random.default_rng(5)
    kinds = ("wireless router", "laser printer", "desk lamp")
    products = [
        Product(
            product_id=str(row),
            title=f"Acme {kinds[row % 3]}" if row % 7 else f"Acme X{row}",
            attributes={f"{kinds[row % 3]} feature": "yes"},
        )
        for row in range(300)
    ]
    vectors = random.standard_normal((300, 8)).astype(np.float32) * 0.1
    vectors[np.arange(300), np.arange(300) % 3] += 1
    whole = product_types.derive(products, vectors)
    monkeypatch.setattr(product_types, "_SLICE", 7)
    sliced = product_types.derive(products, vectors)
    assert whole.typings.keys() == sliced.typings.keys()
    guessed = [typing for typing in whole.typings.values() if typing.source == "attributes"]
    assert len(guessed) > 20
    for product_id, typing in whole.typings.items():
        other = sliced.typings[product_id]
        assert (other.type_id, other.source) == (typing.type_id, typing.source)
        assert other.confidence == pytest.approx(typing.confidence, abs=1e-5)
