"""What fields of a catalog tell of a query's words: what a thing shall be without, and its contrary."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.columns import Columns
from engine.product import Product
from engine.understanding.exclusions import ToldByFields
from engine.understanding.words import contrary

PRODUCTS = [
    Product(product_id="a", title="Earphones", category=("Audio", "Wired Earphones")),
    Product(product_id="b", title="Earbuds", category=("Audio", "True Wireless Earbuds")),
    Product(product_id="c", title="Headset", category=("Audio", "Headsets"), attributes={"connection": "wireless"}),
    Product(product_id="d", title="Keyboard", category=("Input",), attributes={"connection": ["wired", "wireless"]}),
    Product(product_id="e", title="Hat", category=("Clothes",)),
]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> ToldByFields:
    directory: Path = tmp_path_factory.mktemp("columns")
    list(Columns.build(directory, PRODUCTS))
    return ToldByFields(Columns.open(directory))


@pytest.mark.parametrize(
    ("words", "behind"),
    [
        (["wireless", "earphones"], "a"),
        (["wired", "earphones"], "bc"),
        (["earphones"], ""),
        (["cordless", "hat"], ""),
    ],
)
def test_who_wants_one_thing_gets_its_contrary_last(told: ToldByFields, words: list[str], behind: str) -> None:
    masks = list(told.contrary(words))
    found = np.logical_or.reduce(masks) if masks else np.zeros(len(PRODUCTS), bool)
    assert "".join(product.product_id for product, out in zip(PRODUCTS, found, strict=True) if out) == behind


@pytest.mark.parametrize(
    ("word", "other", "are"),
    [
        ("wireless", "wired", True), ("wire", "wireless", True), ("cordless", "corded", True),
        ("wireless", "wireless", False), ("bless", "bag", False), ("less", "lesson", False), ("unless", "unit", False),
    ],
)  # fmt: skip
def test_contrary_words(word: str, other: str, are: bool) -> None:
    assert contrary(word, other) is are
    assert contrary(other, word) is are
