"""Columns of an index that is patched again and again equal those of a catalog that was so from the beginning."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from engine import Equal, Exists, Product, Range
from engine.columns import Columns
from engine.updates.columns import JoinedColumns

_N = 30


@pytest.fixture
def products() -> list[Product]:
    return [
        Product(
            product_id=f"P{number}", title="thing", brand=f"Brand {number % 3}",
            price=float(number) if number % 4 else None, rating_count=number or None,
        )
        for number in range(_N)
    ]  # fmt: skip


def _columns(products: list[Product], directory: Path) -> Columns:
    directory.mkdir()
    for _ in Columns.build(directory, products):
        pass
    return Columns.open(directory)


@pytest.mark.parametrize("seed", range(8))
def test_patched_one_after_the_other_as_if_built_so(seed: int, products: list[Product], tmp_path: Path) -> None:
    chance = random.Random(seed)
    columns = JoinedColumns(_columns(products, tmp_path / "built"), np.ones(_N, np.bool_), {}, {})
    patched: dict[int, Product] = {}
    for step in range(12):
        changed, rows = set(), set()
        for row in chance.sample(range(_N), chance.randint(1, 6)):
            field = chance.choice(["price", "rating", "rating_count", "availability"])
            value = chance.choice([None, 1, 7, 100]) if field != "availability" else chance.choice(["", "gone", "here"])
            products[row] = patched[row] = replace(products[row], **{field: value})
            changed.add(field)
            rows.add(row)
        columns = columns.repatched(dict(patched), changed, rows)
        if chance.random() < 0.4:
            continue  # so that columns are brought up to date after several patches as well
        fresh = _columns(products, tmp_path / f"fresh{step}")
        for field in ("price", "rating", "rating_count"):
            now, then = columns.numbers(field), fresh.numbers(field)
            assert (now is None) == (then is None)
            if now is not None and then is not None:
                np.testing.assert_array_equal(now, then)
                column = columns.column(field)
                assert column is not None
                assert (np.diff(column.number_rows) > 0).all()
                np.testing.assert_array_equal(*(each.mask([Range(field, 2, 50)]) for each in (columns, fresh)))
                np.testing.assert_array_equal(*(each.mask([Exists(field)]) for each in (columns, fresh)))
        np.testing.assert_array_equal(*(each.mask([Equal("brand", "brand 1")]) for each in (columns, fresh)))
        np.testing.assert_array_equal(columns.percentiles, fresh.percentiles)


def test_what_patches_do_not_reach_is_kept_and_what_they_reach_is_not(products: list[Product], tmp_path: Path) -> None:
    before = JoinedColumns(_columns(products, tmp_path / "built"), np.ones(_N, np.bool_), {}, {})
    brand, price = before.mask([Equal("brand", "Brand 1")]), before.mask([Range("price", 5, 5)])
    patched = {1: replace(products[1], price=5.0)}
    after = before.repatched(patched, {"price"}, {1})
    masks = {id(columns._mask(Equal("brand", "Brand 1"))) for columns in (before, after)}
    assert len(masks) == 1, "a filter by brand was evaluated again after a price had changed"
    np.testing.assert_array_equal(after.mask([Equal("brand", "Brand 1")]), brand)
    now = after.mask([Range("price", 5, 5)])
    assert now is not None
    assert price is not None
    assert np.flatnonzero(now).tolist() == [1, 5]
    assert np.flatnonzero(price).tolist() == [5]
