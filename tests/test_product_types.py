"""Product types come from paths, titles and attributes; people's corrections outlive derivations."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.analysis.analyzer import Analyzer
from engine.errors import CatalogError, ConfigError
from engine.product import Product
from qpt.product_types import Corrections, ProductType, derive
from qpt.softmax import SoftmaxRegression
from qpt.title_types import head, name_parts, read_heads, title_types
from qpt.types_file import read_types, write_types
from tests.conftest import HashedWordsEncoder, synthetic_products

ANALYZER = Analyzer()
TAXONOMY = "# version\n1 - Electronics > Routers\n2 - Electronics > Cables & Adapters\nBags > Cases\nHome > Fans\n"


def shop(n: int = 60) -> list[Product]:
    """Titles as data sheets have them; every fourth one names no type, but has the attributes of one."""
    kinds = [
        ("wireless router", {"bands": 2, "wi_fi": True}),
        ("notebook case", {"fits": "Laptops", "zips": 3}),
        ("cable", {"length_m": 3, "plugs": 2}),
    ]
    products = []
    for i in range(n):
        name, attributes = kinds[i % 3]
        said = "Black" if i % 4 == 0 else f"{name} Black white"
        title = f"{('Acme', 'Globex')[i % 2]} XK{i}Z {said} 500 sheets with cover"
        products.append(
            Product(
                product_id=f"S{i}",
                title=title,
                brand=("Acme", "Globex")[i % 2],
                attributes={**attributes, "colour": "white"},
            )
        )
    return products


@pytest.fixture
def heads(tmp_path: Path) -> frozenset[str]:
    (tmp_path / "taxonomy.txt").write_text(TAXONOMY)
    return read_heads(tmp_path / "taxonomy.txt", ANALYZER)


def test_paths_are_types_and_their_beginnings_are_parents() -> None:
    types = derive(synthetic_products(8))
    found = types.of("P0003")
    assert found == ProductType("Accessories > Cases", "Accessories")
    assert found.name == "Cases"
    assert [above.type_id for above in types.above("Accessories > Cases")] == ["Accessories"]
    assert types.of("unknown") is None


def test_titles_name_types_but_neither_values_nor_units_nor_what_follows_a_preposition(heads: frozenset[str]) -> None:
    named = title_types(shop(), heads, ANALYZER)
    assert set(named) == {"wireless router", "notebook case", "cable", None}
    assert named.count(None) == 15


def test_without_a_taxonomy_phrases_and_words_in_two_forms_are_nouns() -> None:
    products = [*shop(), Product(product_id="x", title="Acme Hub", description="Two cables and a cable tie.")]
    assert set(title_types(products, None, ANALYZER)) == {"wireless router", "notebook case", "cable", None}


def test_a_kind_of_a_thing_lies_below_it() -> None:
    products = [
        Product(product_id=str(i), title=f"Acme R{i} {'wireless router' if i % 2 else 'router'} Black", brand="Acme")
        for i in range(24)
    ]
    assert derive(products, heads=frozenset({"router"})).types["wireless router"].parent == "router"


def test_attributes_tell_the_type_where_the_title_does_not(heads: frozenset[str]) -> None:
    products = shop(180)
    types = derive(products, HashedWordsEncoder().encode_products(products), heads)
    assert types.held_out_accuracy is not None
    assert types.held_out_accuracy > 0.9
    guessed = [p for p in products if types.typings[p.product_id].source == "attributes"]
    assert 40 <= len(guessed) <= 45
    for product in guessed:
        expected = ("wireless router", "notebook case", "cable")[int(product.product_id[1:]) % 3]
        assert types.typings[product.product_id].type_id == expected
        assert 0.5 <= types.typings[product.product_id].confidence <= 1
    assert types.fingerprint == derive(products, HashedWordsEncoder().encode_products(products), heads).fingerprint


@pytest.mark.parametrize("name", ["Cell Phones with Plans", "PHONES", "phone (unlocked)"])
def test_the_head_is_what_a_thing_is(name: str) -> None:
    assert [head(part, ANALYZER) for part in name_parts(name)] == ["phone"]


# -------------------------------------------------------------------------------------------------------- corrections


def correct(path: Path, corrections: dict[tuple[str, str], str]) -> None:
    """Writes into the column ``correction``, as a person would."""
    with path.open(newline="") as file:
        rows = list(csv.reader(file, delimiter="\t"))
    for row in rows:
        row[3] = corrections.get((row[0], row[1]), row[3])
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter="\t").writerows(rows)


def test_corrections_survive_a_new_derivation(tmp_path: Path) -> None:
    products, path = synthetic_products(8), tmp_path / "types.tsv"
    write_types(path, derive(products), products)
    correct(
        path,
        {
            ("type", "Home > Refrigerators"): "Home > Fridges",
            ("type", "Accessories > Cases"): "< Mobiles",
            ("type", "Home > Televisions"): "-",
            ("product", "P0000"): "Accessories > Cases",
        },
    )  # fmt: skip
    for _ in range(2):  # the second time over what was written with corrections
        types = derive(products).corrected(read_types(path).corrections)
        write_types(path, types, products)
    types = read_types(path)
    assert types.of("P0001") == ProductType("Home > Fridges", "Home")
    assert types.of("P0002") is None
    assert types.of("P0000") == ProductType("Accessories > Cases", "Mobiles")
    assert (types.typings["P0000"].source, types.typings["P0000"].confidence) == ("correction", 1.0)
    assert types.of("P0004") == ProductType("Mobiles > Phones", "Mobiles")
    assert types.fingerprint != derive(products).fingerprint


def test_corrections_of_what_is_gone_are_kept(tmp_path: Path) -> None:
    products, path = synthetic_products(8), tmp_path / "types.tsv"
    said = Corrections({"Garden > Rakes": "-"}, {"P9999": "Mobiles > Phones"})
    write_types(path, derive(products).corrected(said), products)
    assert read_types(path).corrections == said


@pytest.mark.parametrize(
    "said",
    [
        {"Home > Refrigerators": "Home > Televisions", "Home > Televisions": "Home > Refrigerators"},
        {"Home": "< Home > Televisions"},
        {"Mobiles": "< Accessories", "Accessories": "< Mobiles"},
    ],
)
def test_corrections_in_a_circle_are_refused(said: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"circle|below themselves"):
        derive(synthetic_products(8)).corrected(Corrections(said, {}))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "line 1: expected the columns"),
        ("id\ttype\n", "line 1: expected the columns"),
        ("{header}type\tA\n", "line 2: has 2 columns"),
        ("{header}thing\tA\t\t\t\tx\t\n", "line 2, field 'product types, format 1'"),
        ("{header}type\t\t\t\t\tx\t\n", "line 2, field 'id'"),
        ("{header}type\tA\t\t\t\tx\t\ntype\tA\t\t\t\tx\t\n", "line 3, field 'id': the type 'A' has a row already"),
        ("{header}type\tA\tB\t\t\tx\t\n", "no row for the parent 'B'"),
        ("{header}product\tp\tA\t\t1\tx\t\n", "line 2, field 'type': there is no type 'A'"),
        ("{header}product\tp\t\t< A\t1\tx\t\n", "line 2, field 'correction': '< A' is for types"),
        ("{header}product\tp\t\t\tsure\tx\t\n", "line 2, field 'confidence': is 'sure'"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_the_line(tmp_path: Path, content: str, said: str) -> None:
    header = "product types, format 1\tid\ttype\tcorrection\tconfidence\tsource\tshown\n"
    path = tmp_path / "types.tsv"
    path.write_text(content.format(header=header))
    with pytest.raises(CatalogError, match=said):
        read_types(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(CatalogError, match="cannot be read"):
        read_types(path)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(str.strip)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(TEXT, st.lists(TEXT, max_size=3)), min_size=1, max_size=8))
def test_any_text_is_typed_written_and_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, list[str]]]
) -> None:
    products = [Product(product_id=f"{t}{i}", title=t, category=tuple(c)) for i, (t, c) in enumerate(rows)]
    types = derive(products, heads=frozenset({"x"}))
    path = tmp_path_factory.mktemp("types") / "types.tsv"
    write_types(path, types, products)
    assert read_types(path).fingerprint == types.fingerprint


def test_a_level_called_by_a_dash_is_none() -> None:
    paths = [("-", "Phones"), ("Mobiles", "-"), ("-",)]
    types = derive([Product(product_id=str(i), title="thing", category=path) for i, path in enumerate(paths)])
    assert set(types.types) == {"Phones", "Mobiles"}
    assert [typing.type_id for typing in types.typings.values()] == ["Phones", "Mobiles", None]


DERIVED = derive(synthetic_products(4))
IDS = st.sampled_from(
    ["Mobiles", "Mobiles > Phones", "Home", "Home > Televisions", "Home > Refrigerators", "New > One"]
)
SAID = st.one_of(IDS, st.just("-"), st.just("< "), IDS.map("< {}".format))


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(IDS, SAID), st.dictionaries(st.sampled_from(["P0000", "P0001", "P9"]), SAID))
def test_any_corrections_give_a_tree_or_are_refused(by_type: dict[str, str], by_product: dict[str, str]) -> None:
    products = {i: said for i, said in by_product.items() if not said.startswith("<")}
    try:
        types = DERIVED.corrected(Corrections(by_type, products))
    except ConfigError:
        return
    assert {t.type_id for t in types.typings.values()} - {None} <= types.types.keys()
    for type_id in types.types:
        assert len(list(types.above(type_id))) < len(types.types)


def test_a_long_title_costs_little(heads: frozenset[str]) -> None:
    products = [Product(product_id=str(i), title="a-b " * 50_000 + "(" * 50_000) for i in range(3)]
    assert title_types(products, heads, ANALYZER) == [None] * 3


def test_a_taxonomy_without_names_is_refused(tmp_path: Path) -> None:
    (tmp_path / "none.txt").write_text("# nothing\n\n")
    with pytest.raises(CatalogError, match="no names"):
        read_heads(tmp_path / "none.txt", ANALYZER)
    with pytest.raises(CatalogError, match="cannot be read"):
        read_heads(tmp_path / "missing.txt", ANALYZER)


def test_softmax_regression_gives_the_shares_that_are_there() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 4_000)
    seen = np.where(rng.random(4_000) < 0.8, labels, 1 - labels)
    features = np.eye(2, dtype=np.float32)[seen]
    model = SoftmaxRegression(smoothing=0.0).fit(features, labels, 2)
    np.testing.assert_allclose(model.probabilities(np.eye(2, dtype=np.float32)), [[0.8, 0.2], [0.2, 0.8]], atol=0.05)
