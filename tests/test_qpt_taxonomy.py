"""Taxonomies are read from whatever a shop has, and examples from whatever it logged."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import CatalogError, ConfigError
from engine.product import Product
from qpt.examples import LabelledQuery, from_catalog, from_judgments, read_labelled
from qpt.product_types import derive
from qpt.taxonomy import (
    Taxonomy,
    TypeNode,
    from_attribute,
    from_names,
    from_paths,
    from_product_types,
    read_bestbuy,
    read_google,
)
from tests.conftest import synthetic_products


def test_paths_make_a_tree() -> None:
    taxonomy = from_paths([("Home", "Lamps"), ("Home", "Fans"), ("Garden",)])
    assert taxonomy.above("Home > Lamps") == ("Home",)
    assert taxonomy.path("Home > Fans") == ("Home", "Fans")
    assert taxonomy.leaves == ("Home > Lamps", "Home > Fans", "Garden")


def test_types_of_a_catalog_are_a_taxonomy_with_its_version() -> None:
    types = derive(synthetic_products(8))
    taxonomy = from_product_types(types)
    assert taxonomy.version == types.fingerprint
    assert taxonomy.path("Accessories > Cases") == ("Accessories", "Cases")


def test_an_attribute_is_a_flat_taxonomy() -> None:
    products = [Product(product_id=str(i), title="x", attributes={"kind": kind}) for i, kind in enumerate("bab")]
    assert list(from_attribute(products, "kind").nodes) == ["a", "b"]
    with pytest.raises(ConfigError, match="'shape', which no product has"):
        from_attribute(products, "shape")


def test_names_fall_back_from_locale_to_language_to_all() -> None:
    taxonomy = Taxonomy([TypeNode("1", {"": "Trousers", "en-US": "Pants"})])
    assert taxonomy.name("1", "en-US") == "Pants"
    assert taxonomy.name("1", "en-CA") == "Pants"
    assert taxonomy.name("1", "de-DE") == "Trousers"
    assert taxonomy.name("1") == "Trousers"


def test_the_fingerprint_is_of_what_is_said_not_of_the_order() -> None:
    one, other = TypeNode("1", {"": "A"}), TypeNode("2", {"": "B"})
    assert Taxonomy([one, other]).fingerprint == Taxonomy([other, one], "v2").fingerprint
    assert Taxonomy([one, other]).fingerprint != Taxonomy([one, TypeNode("2", {"": "C"})]).fingerprint


def test_new_types_are_added_and_known_ones_kept() -> None:
    grown = from_names(["A"]).with_types([TypeNode("A", {"": "other"}), TypeNode("B", {"": "B"}, "A")])
    assert grown.name("A") == "A"
    assert grown.above("B") == ("A",)


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([("1", None), ("1", None)], "type_id '1' is given twice"),
        ([("1", "2")], "the parent '2' of '1' is no type"),
        ([("1", "2"), ("2", "1")], "lies below itself"),
        ([("1", "1")], "lies below itself"),
    ],
)
def test_what_is_no_tree_is_refused(nodes: list[tuple[str, str | None]], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Taxonomy(TypeNode(type_id, {"": type_id}, parent) for type_id, parent in nodes)


def test_google_files_share_their_ids(tmp_path: Path) -> None:
    (tmp_path / "en").write_text("# Google_Product_Taxonomy_Version: 2001-01-01\n7 - Home\n9 - Home > Lamps\n")
    (tmp_path / "es").write_text("7 - Hogar\n9 - Hogar > Lámparas\n")
    taxonomy = read_google({"en-US": tmp_path / "en", "es-ES": tmp_path / "es"})
    assert taxonomy.version == "2001-01-01"
    assert taxonomy.path("9", "es-ES") == ("Hogar", "Lámparas")
    assert taxonomy.locales == ("en-US", "es-ES")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("Home\n", "line 1: 'Home' is not of the form"),
        ("9 - A > B\n", "no line above for the parent 'A'"),
        ("", "no types"),
    ],
)
def test_a_google_file_of_another_form_is_refused(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "t").write_text(content)
    with pytest.raises(CatalogError, match=said):
        read_google({"en-US": tmp_path / "t"})


def test_a_category_tree_in_json(tmp_path: Path) -> None:
    path = tmp_path / "tree.json"
    path.write_text('[{"id":"b","name":"Lamps","path":[{"id":"a","name":"Home"},{"id":"b","name":"Lamps"}]}]')
    assert read_bestbuy(path).path("b") == ("Home", "Lamps")
    path.write_text('{"id": 3}')
    with pytest.raises(CatalogError, match="is no category tree"):
        read_bestbuy(path)
    with pytest.raises(CatalogError, match="cannot be read"):
        read_bestbuy(tmp_path / "none")


# ---------------------------------------------------------------------------------------------------------- examples


def test_clicks_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "clicks.tsv"
    path.write_text("query\tcategory\tlocale\nlamp\t9\ten\nlamp\t9\ten\nlamp\t7\ten\n\t7\ten\n")
    found = read_labelled(path, type_id="category", locale="locale")
    assert found == [LabelledQuery("lamp", "9", 2.0, "en"), LabelledQuery("lamp", "7", 1.0, "en")]
    with pytest.raises(CatalogError, match="line 1, field 'type': there is no such column; there are query, category"):
        read_labelled(path, type_id="type")
    path.write_text("query\tcategory\nlamp\n")
    with pytest.raises(CatalogError, match="line 2: the row has fewer columns"):
        read_labelled(path, type_id="category")


def test_judged_products_lend_their_types() -> None:
    types = {"p1": "Lamps", "p2": "Lamps", "p3": "Fans", "p4": None}
    judged = {"q": {"p1": 3, "p2": 3, "p3": 2, "p4": 3, "p5": 0}}
    found = from_judgments({"q": "desk lamp", "other": "x"}, judged, 2, types.get)
    assert {(e.type_id, round(e.weight, 3)) for e in found} == {("Lamps", 0.667), ("Fans", 0.333)}


def test_queries_are_made_of_every_type_of_a_catalog() -> None:
    products = synthetic_products(40)
    types = {product.product_id: product.category[-1] for product in products}
    made = from_catalog(products, types.get, most=12)
    assert made == from_catalog(products, types.get, most=12)
    assert sorted(e.type_id for e in made) == sorted(["Phones", "Refrigerators", "Televisions", "Cases"] * 3)
    titles = {product.product_id: product.title.lower().split() for product in products}
    assert all(set(e.query.split()) <= set(titles[e.product_id]) for e in made)
    assert len({e.product_id for e in made}) == 12
