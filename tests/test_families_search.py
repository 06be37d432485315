"""Relations to models, asked of the sample catalog: what comes first fits, and what is told is true."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

import engine
from engine.product import Product


def is_of(*words: str) -> Callable[[Product], bool]:
    return lambda product: all(re.search(rf"\b{re.escape(word)}", product.title, re.IGNORECASE) for word in words)


def cheaper(least: float, category: str) -> Callable[[Product], bool]:
    return lambda product: product.price is not None and product.price < least and category in product.category


def lowest(products: list[Product], title: str) -> float:
    return min(product.price for product in products if product.title.startswith(title) and product.price is not None)


@pytest.mark.parametrize(
    ("query", "fits"),
    [
        ("what comes after galaxy watch5", is_of("Galaxy Watch6")),
        ("successor to buds2 pro", is_of("Buds3")),
        ("newer than flip3", is_of("Flip")),
        ("predecessor of fold5", is_of("Fold4")),
        ("newest galaxy tab s", is_of("Tab S10")),
        ("previous generation galaxy buds", is_of("Buds2")),
        ("last year's galaxy book", is_of("Book")),
        ("macbook alternative", lambda product: "Laptops" in product.category),
        ("airpods killer", lambda product: "Earbuds" in product.category),
        ("tablet bigger than tab s9", lambda product: float(product.attributes.get("screen_size_in", 0)) > 11),  # type: ignore[arg-type]
        ("laptop like galaxy book3 ultra but lighter", lambda product: "Laptops" in product.category),
    ],
)
def test_the_first_three_are_what_was_asked_for(
    sample: engine.SearchEngine, query: str, fits: Callable[[Product], bool]
) -> None:
    found = [hit.product for hit in sample.search(query, 3).hits]
    assert [product.title for product in found if not fits(product)][1:] == []  # one in three may be a rival
    assert fits(found[0]), found[0].title


@pytest.mark.parametrize(
    ("query", "name", "category"),
    [
        ("cheaper than galaxy s24", "Samsung Galaxy S24 5G", "Smartphones"),
        ("foldable less expensive than fold6", "Samsung Galaxy Z Fold6", "Foldables"),
        ("something like buds3 pro but cheaper", "Samsung Galaxy Buds3 Pro", "Earbuds"),
    ],
)
def test_cheaper_is_cheaper_and_of_the_kind(
    sample: engine.SearchEngine, sample_products: list[Product], query: str, name: str, category: str
) -> None:
    fits = cheaper(lowest(sample_products, name), category)
    assert all(fits(hit.product) for hit in sample.search(query, 3).hits)


@pytest.mark.parametrize("query", ["galaxy s23 alternative", "similar to fold5", "instead of tab s9 ultra"])
def test_what_is_named_is_found_and_does_not_come_first(sample: engine.SearchEngine, query: str) -> None:
    [name] = re.findall(r"(?:galaxy )?(?:s23|fold5|tab s9 ultra)", query)
    titles = [hit.product.title.lower() for hit in sample.search(query, 100).hits]
    [first, *_], places = (
        titles,
        [place for place, title in enumerate(titles) if re.search(rf"{name}\b(?! (?:fe|ultra|\+))", title)],
    )
    assert name not in first or re.search(rf"{name}(?: fe| ultra|\+)", first)
    assert places


def test_facts_are_true_of_their_products(sample: engine.SearchEngine) -> None:
    n_told = 0
    for query in (
        "cheaper than s24",
        "alternative to iphone",
        "last year's tablet",
        "upgrade from watch5",
        "smaller than tab s9",
    ):
        route = sample.search(query, 5).route
        assert route is not None
        for sku in route.skus:
            hit = sample.explain(query, sku.product_id).product
            for part in sku.reason.split("; "):
                if match := re.fullmatch(r"price (\d+)", part):
                    assert float(match[1]) == hit.price
                elif match := re.fullmatch(r"released (.+)", part):
                    assert match[1] == hit.released
                elif match := re.fullmatch(r"screen size ([\d.]+) in", part):
                    assert float(match[1]) == hit.attributes["screen_size_in"]
                elif match := re.fullmatch(r"(.+): later than watch5", part):
                    assert match[1].lower() in hit.title.lower()
                else:
                    continue
                n_told += 1
    assert n_told >= 15


@pytest.mark.parametrize(
    "query",
    ["iphone charger", "ipad cover", "usb 2.0 cable", "tv that looks like a painting", "type c cable", "new tv"],
)
def test_other_uses_of_the_words_are_no_relation(sample: engine.SearchEngine, query: str) -> None:
    stages = {report.stage: report.note for report in sample.search(query, 3).stages}
    assert "near" not in stages.get("needs", "")
    assert "none in this catalog" not in stages.get("needs", "")
    assert "generation" not in stages.get("needs", "")


def test_everyday_words_reach_the_type(sample: engine.SearchEngine) -> None:
    for query, category in (("pad for drawing", "Tablets"), ("icebox", "Refrigerators"), ("hoover", "Vacuum Cleaners")):
        assert category in sample.search(query, 1).hits[0].product.category
