"""Made queries: labels obey what the query asks for, the same arguments make the same queries, any text is survived."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from engine import EngineConfig, IndexConfig, SearchEngine
from engine.analysis.analyzer import Analyzer
from engine.cli import app
from engine.errors import ConfigError
from engine.product import Product
from engine.understanding.edits import EditCosts, edit_cost
from qpt.product_types import derive
from tests.conftest import HashedWordsEncoder
from training.data import queries
from training.data.examples import read_examples
from training.data.generate import GeneratedQuery, generate, write_queries
from training.data.judging import Judge, Want
from training.data.shelf import Shelf
from training.data.writers import KINDS

PHONES, CASES, FRIDGES = ("Mobiles", "Smartphones"), ("Accessories", "Phone Cases"), ("Home", "Refrigerators")
WIRED, WIRELESS = ("Audio", "Headphones", "Wired Headphones"), ("Audio", "Headphones", "Wireless Headphones")


def shop() -> list[Product]:
    """Phones in sizes and colours, cases for them, fridges, headphones of two kinds, some of them for children."""
    rows: list[dict[str, object]] = []
    for line in ("Galaxy S6", "Galaxy S6 Edge", "Galaxy S7"):
        for color in ("Black", "White"):
            for gb in (32, 64, 512):
                title = f"Samsung {line} smartphone {gb} GB {color}"
                rows.append({"title": title, "brand": "Samsung", "category": PHONES, "model": f"SM-{len(rows)}20F"})
    for brand in ("Spigen", "Otter®"):
        for line in ("Galaxy S6", "Galaxy S6 Edge", "Galaxy S7"):
            titles = [f"{brand} phone case for {line}, {color}" for color in ("Black", "White", "Red")]
            rows += [{"title": title, "brand": brand, "category": CASES} for title in titles]
    for litres in (200, 210, 400):
        for kind in ("with freezer", "frost free"):
            title = f"Bosch refrigerator {litres} l {kind}"
            rows.append({"title": title, "brand": "Bosch", "category": FRIDGES})
    for brand, line, price in (("Sony", "Pulse", 50.0), ("JBL", "Tune", 60.0), ("Beats", "Solo", 200.0)):
        for category, kind in ((WIRED, "wired"), (WIRELESS, "wireless")):
            for whom in ("", " for kids", "", ""):
                title = f"{brand} {line} {kind} headphones{whom} {brand[0]}H-{len(rows)}00 Black"
                rows.append({"title": title, "brand": brand, "category": category, "price": price})
    return [
        Product(product_id=f"P{i}", attributes={"color": str(row["title"]).split()[-1]}, **row)  # type: ignore[arg-type]
        for i, row in enumerate(rows)
    ]


PRODUCTS = shop()
TYPES = derive(PRODUCTS)
BY_ID = {product.product_id: product for product in PRODUCTS}


@pytest.fixture(scope="module")
def engine() -> SearchEngine:
    return SearchEngine.build(PRODUCTS, encoder=HashedWordsEncoder())


@pytest.fixture(scope="module")
def made(engine: SearchEngine) -> list[GeneratedQuery]:
    return generate(PRODUCTS, engine, TYPES, 500, seed=3)


@pytest.fixture(scope="module")
def shelf() -> Shelf:
    return Shelf(PRODUCTS, TYPES, Analyzer())


def test_every_query_teaches_something(made: list[GeneratedQuery]) -> None:
    assert len(made) == 500
    assert {query.kind for query in made} == KINDS.keys()
    for query in made:
        labels = [label for _, label in query.candidates]
        assert max(labels) >= 0.9
        assert min(labels) <= 0.1
        assert all(0 <= label <= 1 for label in labels)
        assert {product_id for product_id, _ in query.candidates} <= BY_ID.keys()
        assert len(dict(query.candidates)) == len(labels) >= 3


def test_the_same_seed_makes_the_same_queries(engine: SearchEngine, made: list[GeneratedQuery]) -> None:
    assert generate(PRODUCTS, engine, TYPES, 40, seed=3) == made[:40]
    assert generate(PRODUCTS, engine, TYPES, 40, seed=4) != made[:40]


def test_a_thing_by_name_is_no_accessory_of_it(made: list[GeneratedQuery]) -> None:
    asked = [query for query in made if query.kind == "device" and query.query == "galaxy s6"]
    assert asked
    for query in asked:
        for product_id, label in query.candidates:
            product = BY_ID[product_id]
            if product.category != PHONES:
                assert label <= 0.1
            elif "S6" in product.title:
                assert (label == 1) == ("Edge" not in product.title)
            else:
                assert label < 0.5


def test_an_accessory_for_a_thing_is_not_the_thing(made: list[GeneratedQuery]) -> None:
    asked = [query for query in made if query.kind == "for" and "s7" in query.query.split()]
    assert asked
    for query in asked:
        for product_id, label in query.candidates:
            product = BY_ID[product_id]
            assert (label == 1) == (product.category == CASES and "S7" in product.title)
            assert product.category == CASES or label == 0


def test_what_is_ruled_out_is_not_relevant(made: list[GeneratedQuery]) -> None:
    asked = [query for query in made if query.kind == "negation"]
    assert asked
    for query in asked:
        word = query.query.split()[-1]
        for product_id, label in query.candidates:
            assert label <= 0.1 or word not in BY_ID[product_id].title.lower()


def test_the_same_line_with_another_value_is_a_hard_negative(made: list[GeneratedQuery]) -> None:
    asked = [query for query in made if query.kind == "attribute" and "black" in query.query and "phone" in query.query]
    found = {BY_ID[i].title for query in asked for i, label in query.candidates if 0 < label < 0.9}
    assert any("White" in title for title in found)


@pytest.mark.parametrize(
    ("title", "label"), [("210 l frost", 1.0), ("200 l frost", 0.4), ("400 l frost", 0.2), ("Galaxy", 0.0)]
)
def test_a_near_measure_is_a_partial_match_and_a_far_one_is_not(shelf: Shelf, title: str, label: float) -> None:
    source, row = (
        next(row for row, product in enumerate(PRODUCTS) if part in product.title) for part in ("210 l with", title)
    )
    type_id = shelf.facts[source].type_id
    assert type_id is not None
    named = frozenset(Analyzer().terms("refrigerator"))
    want = Want("measure", "210 l refrigerator", source, frozenset({type_id}), named, measure=("l", 210.0))
    assert Judge(shelf).label(want, row) == label


def test_a_bag_for_a_thing_is_not_the_thing_and_silence_where_types_are_unknown() -> None:
    titles = {"Laptops": "Asus laptop 15", "Laptop Bags": "Targus laptop bag", "": "Hama laptop"}
    products = [
        Product(product_id=f"{name}{i}", title=f"{title} {i}", category=(name,) if name else ())
        for name, title in titles.items()
        for i in range(4)
    ]
    shelf = Shelf(products, derive(products), Analyzer())
    want = Want("type", "laptop", 0, frozenset({"Laptops"}), frozenset({"laptop"}))
    assert [Judge(shelf).label(want, row) for row in (1, 4, 8)] == [1.0, 0.0, None]


def test_only_queries_of_that_kind_are_mistyped_and_those_by_little(
    made: list[GeneratedQuery], engine: SearchEngine
) -> None:
    words = {
        word for product in PRODUCTS for word in f"{product.title} {product.model}".lower().replace(",", "").split()
    }
    known = words | {"phones", "cases", "smartphones", "refrigerators", "headphone", "otter"}
    plain = [query for query in made if query.kind in ("type", "brand", "words")]
    assert not [query.query for query in plain if set(query.query.split()) - known]
    mistyped = [query.query for query in made if query.kind == "typo"]
    assert len(mistyped) > 10
    assert all(set(query.split()) - known for query in mistyped)
    slips = [
        min(edit_cost(word, meant, EditCosts()) for meant in known) for query in mistyped for word in query.split()
    ]
    assert sorted(slips)[len(slips) * 3 // 4] < 12  # two slips at most; words split or joined are far from any


def test_what_is_written_is_read_as_examples_and_named_synthetic(made: list[GeneratedQuery], tmp_path: Path) -> None:
    for name in ("made.jsonl", "made.jsonl.gz", "again.jsonl.gz"):
        assert write_queries(tmp_path / name, made, PRODUCTS) == sum(len(query.candidates) for query in made)
    examples = read_examples(tmp_path / "made.jsonl")
    assert examples == read_examples(tmp_path / "made.jsonl.gz")
    assert all(example.query_id.startswith("synthetic-") for example in examples)
    assert len({example.query_id for example in examples}) == len(made)
    assert (tmp_path / "made.jsonl.gz").read_bytes() == (tmp_path / "again.jsonl.gz").read_bytes()


@pytest.mark.parametrize("n", [1, 12])
def test_products_that_cannot_be_told_apart_are_refused(n: int) -> None:
    products = [Product(product_id=str(i), title="Samsung phone") for i in range(n)]
    engine = SearchEngine.build(products, config=EngineConfig(index=IndexConfig(encoder="")))
    with pytest.raises(ConfigError, match=f"0 of 5 queries could be made of {n} products"):
        generate(products, engine, derive(products), 5)
    with pytest.raises(ConfigError, match="cannot make 0 queries"):
        generate(products, engine, derive(products), 0)


def test_hostile_text_is_survived(engine: SearchEngine) -> None:
    texts = [
        "=cmd|' /C calc'!A0",
        "for " * 300,
        "<b>for</b> (((((",
        "\x00\x01 5 gb",
        "ñ" * 3_000,
        "™®",
        "1e999 gb for 1",
    ]
    hostile = [
        Product(
            product_id=f"H{i}",
            title=text,
            brand=text[:40],
            model=text[:20],
            category=(text, " > ", text[::-1]),
            attributes={"compatibility": text * 3, text[:9]: text[:12], "list": [text, text]},
        )
        for i, text in enumerate(texts * 3)
    ]
    products = [*PRODUCTS, *hostile]
    built = SearchEngine.build(products, config=EngineConfig(index=IndexConfig(encoder="")))
    assert len(generate(products, built, derive(products), 60, seed=1)) == 60


def test_the_command_makes_examples_and_keeps_corrections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries.OnnxEncoder, "named", lambda name, threads: HashedWordsEncoder())
    for name in ("a.jsonl", "b.jsonl"):
        lines = (json.dumps({"product_id": p.product_id, "title": p.title, "category": p.category}) for p in PRODUCTS)
        (tmp_path / name).write_text("\n".join(lines))
    out, types = tmp_path / "made.jsonl.gz", tmp_path / "made.jsonl.gz.types.tsv"
    arguments = ["train", "queries", str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl"), "--out", str(out)]
    result = CliRunner().invoke(app, [*arguments, "--queries", "20"])
    assert result.exit_code == 0, result.output
    assert "examples of 20 queries" in result.stdout
    assert len({example.query_id for example in read_examples(out)}) == 20
    assert "product\t1:P0\tMobiles > Smartphones\t\t" in types.read_text()
    corrected = types.read_text().replace(
        "type\tMobiles > Smartphones\tMobiles\t\t", "type\tMobiles > Smartphones\tMobiles\tPhones\t"
    )
    types.write_text(corrected)
    assert CliRunner().invoke(app, [*arguments, "--queries", "5"]).exit_code == 0
    assert "type\tMobiles > Smartphones\tMobiles\tPhones\t" in types.read_text()
