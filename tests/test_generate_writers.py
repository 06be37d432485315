"""The writers one by one: what each query says of its product, and how the rules label what it asks for."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from engine.analysis.analyzer import Analyzer
from engine.product import Product
from qpt.product_types import derive
from training.data.judging import Judge, Want
from training.data.shelf import Shelf, bare_code
from training.data.writers import KINDS, needs, things
from training.data.writers.desk import Desk, Write
from training.data.writers.everyday import write_everyday
from training.data.writers.plain import write_measure, write_several

WIRED, WIRELESS = ("Audio", "Headphones", "Wired Headphones"), ("Audio", "Headphones", "Wireless Headphones")
TVS, FRIDGES, CABLES = ("Video", "Televisions"), ("Home", "Refrigerators"), ("Audio", "Headphones", "Cables")


def shop() -> list[Product]:
    rows: list[tuple[str, str, tuple[str, ...], float]] = []
    for brand, line, price in (("Sony", "Pulse", 50), ("JBL", "Tune", 60), ("Beats", "Solo", 200)):
        for category, kind in ((WIRED, "wired"), (WIRELESS, "wireless")):
            for n, whom in enumerate(("", " for kids", " for travel", "")):
                title = f"{brand} {line} {kind} headphones{whom} {brand[0]}H-{n}{price}KX Black"
                rows.append((title, brand, category, price))
    for brand in ("Samsung", "LG"):
        rows += [(f"{brand} {inches} inch television 4K", brand, TVS, 10 * inches) for inches in (32, 43, 55)]
        rows += [(f"{brand} refrigerator {litres} l 5G ready", brand, FRIDGES, 500) for litres in (200, 300)]
    rows += [(f"Hama audio cable {n} m", "Hama", CABLES, 5) for n in (1, 2, 3, 5)]
    return [
        Product(product_id=f"P{i}", title=title, brand=brand, category=category, price=float(price))
        for i, (title, brand, category, price) in enumerate(rows)
    ]


PRODUCTS = shop()
SHELF = Shelf(PRODUCTS, derive(PRODUCTS), Analyzer())
JUDGE = Judge(SHELF)


def written(write: Write, n: int = 400, seed: int = 1) -> list[Want]:
    desk = Desk(SHELF, random.Random(seed))
    return [want for _ in range(n) if (want := write(desk, desk.row()))]


def labels(want: Want) -> dict[str, float | None]:
    return {product.title: JUDGE.label(want, row) for row, product in enumerate(PRODUCTS)}


def test_a_substitute_is_of_another_brand_near_in_price_and_never_the_thing() -> None:
    made = [want for want in written(things.write_substitute) if "pulse" in want.query and "wired" in want.query]
    assert made
    for want in made:
        assert any(word in want.query.split() for word in ("like", "alternative", "alternatives", "similar", "instead"))
        source = PRODUCTS[want.source]
        for title, label in labels(want).items():
            if title == source.title:
                assert label == 0.4
            elif "Tune wired" in title:
                assert label == 1.0
            elif "Solo wired" in title:
                assert label == 0.4  # four times the price
            elif "Hama" in title or "television" in title:
                assert label in (0.0, 0.1)


def test_a_lines_name_asks_for_the_line_and_takes_another_brands_as_a_substitute() -> None:
    made = [want for want in written(things.write_line) if "tune" in want.query.split()]
    assert made
    for want in made:
        kind = "wireless" if PRODUCTS[want.source].category == WIRELESS else "wired"
        found = labels(want)
        assert all(found[title] == 1 for title in found if f"Tune {kind}" in title)
        assert all(found[title] == 0.4 for title in found if f"Pulse {kind}" in title)
        assert all(found[title] in (0.2, 0.3) for title in found if f"Solo {kind}" in title)


def test_parts_of_codes_find_every_code_that_has_them() -> None:
    made = written(things.write_code_part)
    ways = {want.query for want in made if want.source == 0}
    assert {"sh050kx", "sh 050kx", "sh-050"} <= {way.removeprefix("sony ") for way in ways}
    for want in made:
        found = labels(want)
        assert found[PRODUCTS[want.source].title] == 1
        for title, label in found.items():
            if label == 1:
                assert want.code in bare_code(title.lower().replace(" ", ""))
            elif label is not None:
                assert label <= 0.1


def test_a_wider_kind_takes_all_below_that_bear_its_name_and_says_nothing_of_the_rest() -> None:
    made = [want for want in written(needs.write_parent) if want.query.startswith("headphone")]
    assert made
    found = labels(made[0])
    assert {found[p.title] for p in PRODUCTS if p.category in (WIRED, WIRELESS)} == {1.0}
    assert {found[p.title] for p in PRODUCTS if p.category == CABLES} == {None}
    assert {found[p.title] for p in PRODUCTS if p.category == TVS} == {0.0}


def test_a_use_is_one_that_the_title_names() -> None:
    made = written(needs.write_use)
    assert {word for want in made for word in ("kid", "travel") if word in want.query} == {"kid", "travel"}
    for want in made:
        source, found = PRODUCTS[want.source], labels(want)
        whom = "kids" if "kids" in source.title else "travel"
        assert whom in source.title
        for product in PRODUCTS:
            if product.category == source.category:
                assert found[product.title] == (1.0 if whom in product.title else 0.4)


def test_a_gift_is_any_of_the_types_that_please() -> None:
    made = [want for want in written(needs.write_gift) if "music" in want.query]
    assert made
    found = labels(made[0])
    assert {found[p.title] for p in PRODUCTS if p.category in (WIRED, WIRELESS)} == {1.0}
    assert {found[p.title] for p in PRODUCTS if p.category == CABLES} == {None}  # beside them on the shelf
    assert {found[p.title] for p in PRODUCTS if p.category == FRIDGES} == {0.0}


def test_everyday_words_stand_for_the_shops() -> None:
    queries = " ; ".join(want.query for want in written(write_everyday))
    for word in ("fridge", "tv", "telly", "cordless", "best ", "i need "):
        assert word in queries, word
    assert all(want.kind == "everyday" for want in written(write_everyday, 50))


def test_measures_are_spelt_as_people_do_and_networks_are_none() -> None:
    made = [want.query for want in written(write_measure)]
    inches = {query.split("55")[1].split()[0] for query in made if query.startswith("55") and query.split("55")[1]}
    assert {"in", "inch", '"'} <= inches
    assert not [query for query in made if query.startswith(("4 g", "4g", "5 g", "5g"))]


def test_a_short_title_has_brand_what_tells_it_and_noun_in_any_order() -> None:
    made = [want for want in written(things.write_short) if PRODUCTS[want.source].category == TVS]
    assert made
    for want in made:
        assert len(want.query.split()) <= 6
        assert want.query == want.query.lower()
        assert labels(want)[PRODUCTS[want.source].title] == 1
    starts = {want.query.split()[0] for want in made}
    assert {"television", "samsung"} <= starts


@pytest.mark.parametrize("write", [write_several, things.write_short, things.write_title])
def test_what_lacks_a_word_of_the_query_is_never_relevant(write: Write) -> None:
    for want in written(write, 100):
        for row, facts in enumerate(SHELF.facts):
            label = JUDGE.label(want, row)
            if label is not None and label >= 0.9 and row != want.source:
                assert all(word <= facts.terms for word in want.words)


def test_the_page_lists_every_kind_with_its_share() -> None:
    page = (Path(__file__).parent.parent / "docs" / "training.md").read_text(encoding="utf-8")
    section = page.split("## Made queries\n")[1].split("\n## ")[0]
    listed = re.findall(r"^\| `(\w+)` \| [^|]+ \| (\d+) \|", section, re.MULTILINE)
    assert {kind: int(share) for kind, share in listed} == KINDS
