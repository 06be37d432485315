"""Model series derived from titles, and other people's words for types."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import engine
from engine.cli import app
from engine.columns import Columns
from engine.errors import IndexCorruptError
from engine.families.lines import Line, concordance, derive, generations
from engine.families.names import series_name
from engine.families.relations import RelationReader
from engine.families.store import ProductFamilies
from engine.families.type_words import TypeWord, learn, rules, shipped
from engine.families.words import NUMBERS, shipped_words
from engine.product import Product
from engine.understanding.synonyms import Synonyms
from tests.conftest import HashedWordsEncoder

WORDS = shipped_words()


def product(title: str, released: str = "", price: float | None = None, kind: str = "Phones", row: int = 0) -> Product:
    return Product(
        product_id=f"{title}-{row}",
        title=title,
        brand="Acme",
        released=released,
        price=price,
        category=("Shop", kind, "X"),
    )


def lines(*rows: tuple[str, str] | tuple[str, str, float]) -> dict[str, Line]:
    found = derive((product(title, *rest) for title, *rest in rows), WORDS.names, NUMBERS)  # type: ignore[arg-type]
    return {line.name: line for line in found}


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Acme Nova S24 Ultra 5G (Black, 12GB RAM)", ("Nova S", 24, ("ultra",))),
        ("Acme Nova S23+ 5G", ("Nova S", 23, ("plus",))),
        ("ACME Z Fold5 512GB", ("Z Fold", 5, ())),
        ("Acme Vision 15 Pro 256GB", ("Vision", 15, ("pro",))),
        ("Acme Echo Dot (4th Gen)", None),
        ("Acme Echo Dot 4th Gen speaker", ("Echo Dot", 4, ())),
        ("Acme Clear Case for Nova S23 Ultra", None),  # the name of another product
        ('Acme 55" TV 120Hz', None),
        ("Acme 256GB microSD", None),
        ("Acme Notebook Core i5 13th Gen", None),
        ("Acme 27 inch monitor", None),
        ("Acme 10000 mAh bank, 2 ports", None),
    ],
)
def test_reads_the_name_of_a_model(title: str, expected: tuple[object, ...] | None) -> None:
    found = series_name(title, "Acme", WORDS.names)
    assert (found and (found.series, found.number, found.variant)) == expected


def test_generations_rise_with_releases_and_variants_are_of_one_line() -> None:
    found = lines(
        ("Acme Nova S25", "2025-02-01"), ("Acme Nova S23 Ultra", "2023-02-01"), ("Acme Nova S23", "2023-02-01"),
        ("Acme Nova S24", "2024-01-31"), ("Acme Nova S23 FE", "2023-10-05"), ("Acme Nova S24 FE", "2024-10-03"),
    )  # fmt: skip
    assert list(found) == ["Nova S"]
    assert found["Nova S"].numbers == (23, 24, 25)
    assert found["Nova S"].evidence == "released"
    assert [(number, rows) for number, _, rows in generations(found["Nova S"], ("fe",))] == [(23, (4,)), (24, (5,))]


def test_tiers_are_no_generations_but_what_shares_a_ten_may_be() -> None:
    tiers = [("Acme Rex G3", "2021-10-12"), ("Acme Rex G5", "2020-11-05"), ("Acme Rex G7", "2021-10-01")]
    assert not lines(*tiers)
    same_day = [("Acme Rex G8", "2023-05-01"), ("Acme Rex G9", "2023-05-20")]
    assert not lines(*same_day)
    phones = [
        (f"Acme Orion A{number}", released)
        for number, released in ((14, "2023-01-01"), (54, "2023-03-01"), (15, "2023-12-01"), (55, "2024-03-01"))
    ]
    assert {name: line.numbers for name, line in lines(*phones).items()} == {
        "Orion A1x": (14, 15),
        "Orion A5x": (54, 55),
    }


def test_without_releases_prices_bear_out_three_generations_and_no_two() -> None:
    pads = [(f"Acme Slate {n}", "", price) for n, price in ((1, 100.0), (2, 150.0), (3, 210.0))]
    assert lines(*pads)["Slate"].evidence == "price"
    assert not lines(*pads[:2])
    assert not lines(*[(title, "", 400.0 - price) for title, _, price in pads])


def test_concordance_compares_within_variants() -> None:
    assert concordance({(6, ("lite",)): "2024", (8, ()): "2022", (9, ()): "2023"}) == (1.0, 1)
    assert concordance({(1, ("a",)): 2.0, (2, ("b",)): 1.0}) == (0.0, 1)
    assert concordance({}) == (0.0, 0)


def test_what_was_stored_is_read_back_and_damage_is_named(tmp_path: Path) -> None:
    products = [
        product("Acme Z Fold4", "2022-09-01"),
        product("Acme Z Fold5", "2023-08-01"),
        product("Case for Z Fold5"),
    ]
    assert ProductFamilies.build(tmp_path, products) == "1 series of 2 models"
    found = ProductFamilies.open(tmp_path)
    assert found.lines == derive(products, WORDS.names, NUMBERS)
    assert found.rows("fold5").tolist() == [1]
    assert found.rows("fold").tolist() == [0, 1]  # and not the case, which is for one
    assert found.rows("nothing").tolist() == []
    assert found.called("fold5").tolist() == found.called("fold5s").tolist() == [1]
    assert found.called("cme").tolist() == []  # no noun of three letters ends another
    assert found.called("folds").tolist() == [0, 1]
    (tmp_path / "names.npz").write_bytes(b"PK")
    with pytest.raises(IndexCorruptError, match="families"):
        ProductFamilies.open(tmp_path)


@pytest.mark.parametrize(
    ("query", "kind", "name", "otherwise"),
    [
        ("phone cheaper than Nova S24", "cheaper", "nova s24", ()),
        ("watch like Nova Watch 6 but cheaper", "like", "nova watch 6", ("cheaper",)),
        ("nova s24 alternative", "like", "nova s24", ()),
        ("upgrade from nova s21 under 50k", "upgrade", "nova s21", ()),
        ("last year's nova", "last_year", "nova", ()),
        ("nova s24 alternative cheaper", "like", "nova s24", ("cheaper",)),
        ("cheaper phone like nova s24", "like", "nova s24", ("cheaper",)),
        ("charger like nova c24", "like", "nova c24", ()),
        ("nova s24 but bigger battery", "like", "nova s24", ("bigger", "battery")),
        ("but bigger", None, "", ()),
        ("big red fridge", None, "", ()),
        ("", None, "", ()),
    ],
)
def test_reads_a_relation(query: str, kind: str | None, name: str, otherwise: tuple[str, ...]) -> None:
    found = RelationReader(WORDS, frozenset({"cheaper", "bigger"})).read(query)
    assert (found and (found.kind, found.name, found.otherwise)) == (kind and (kind, name, otherwise))


class TestTypeWords:
    def columns(self, directory: Path, products: list[Product]) -> tuple[Columns, ProductFamilies]:
        list(Columns.build(directory, products))
        ProductFamilies.build(directory, products)
        return Columns.open(directory), ProductFamilies.open(directory)

    def shop(self, others: str) -> list[Product]:
        kinds = ["Tablets"] * 6 + ["Blankets"] * 6
        titles = [f"Acme Slim {n}0" if kind == "Tablets" else f"Acme {others} {n}0" for n, kind in enumerate(kinds, 1)]
        return [
            Product(product_id=str(n), title=title, category=(kind,))
            for n, (title, kind) in enumerate(zip(titles, kinds, strict=True))
        ]

    def test_an_everyday_word_holds_unless_the_catalog_means_something_else_by_it(self, tmp_path: Path) -> None:
        word = next(word for word, names in shipped().items() if "tablet" in names)
        for others, strong in (("Wool", True), (f"Heating {word}", False)):
            directory = tmp_path / others
            directory.mkdir()
            found = {entry.word: entry for entry in learn(*self.columns(directory, self.shop(others)), None)}
            assert (found[word].name, found[word].strong) == ("tablet", strong)

    def test_clicks_are_evidence_where_most_are_of_one_type(self, tmp_path: Path) -> None:
        columns, families = self.columns(tmp_path, self.shop("Wool"))
        mostly, mixed = np.array([0, 1, 2, 3] * 3 + [7]), np.array([0, 7] * 8)
        found = {
            entry.word: entry
            for entry in learn(columns, families, HashedWordsEncoder().encode_queries, {"snug": mixed, "glas": mostly})
        }
        assert found["glas"].strong
        assert (found["glas"].type, found["glas"].clicked, found["glas"].clicks) == ("Tablets", 12, 13)
        assert "snug" not in found or not found["snug"].strong

    def test_what_many_titles_have_is_searched_as_it_is(self) -> None:
        few = TypeWord("telly", "TVs", "tv", 1, 1, 0.7, 0.2, strong=True)
        many = TypeWord("fridge", "Refrigerators", "refrigerator", 30, 30, 0.9, 0.3, strong=True)
        weak = TypeWord("box", "TVs", "tv", 1, 0, 0.1, 0.2)
        assert rules([few, many, weak]) == [(("telly",), ("tv",))]


def test_shipped_rules_hold_for_words_that_a_catalog_hardly_has() -> None:
    said = {("fridge",): 0, ("refrigerator",): 100, ("laptop",): 300, ("notebook",): 1500, ("telly",): 0, ("tv",): 0}
    synonyms = Synonyms(
        [(("fridge",), ("refrigerator",)), (("laptop",), ("notebook",)), (("telly",), ("tv",))]
    ).unsaid(lambda phrase: said[phrase])  # fmt: skip
    assert synonyms.rules == ((("fridge",), ("refrigerator",)),)


def test_commands_show_series_and_words(sample: engine.SearchEngine, tmp_path: Path) -> None:
    index = str(sample.version.parent.parent)
    shown = CliRunner().invoke(app, ["families", index])
    assert shown.exit_code == 0
    assert "Galaxy Z Fold4 < Galaxy Z Fold5 < Galaxy Z Fold6" in shown.output
    out = tmp_path / "synonyms.txt"
    shown = CliRunner().invoke(app, ["synonyms", index, "--write", str(out)])
    assert shown.exit_code == 0
    assert len(Synonyms.read(out)) == len(Synonyms(Synonyms.read(out).rules)) > 0
    (tmp_path / "clicks.tsv").write_text("only a query\n")
    shown = CliRunner().invoke(app, ["synonyms", index, "--clicks", str(tmp_path / "clicks.tsv")])
    assert shown.exit_code == 2
    assert "a tab and a product_id" in shown.output


def test_a_code_finds_what_goes_on_after_it(tmp_path: Path) -> None:
    ProductFamilies.build(
        tmp_path, [product("Acme Washer WW90T504DAN"), product("Acme Washer WW80"), product("Acme WW9")]
    )
    found = ProductFamilies.open(tmp_path)
    assert found.rows("ww90t504").tolist() == [0]
    assert found.rows("ww9").tolist() == [2]
    assert found.rows("ww8").tolist() == []  # too short to tell
