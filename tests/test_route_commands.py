"""``aisle route`` and ``aisle types``: what people see, what machines read, and how they fail."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from engine import EngineConfig, IndexConfig, Product, SearchEngine, route_commands
from engine.product import to_json
from qpt.types_file import read_types
from tests.conftest import HashedWordsEncoder, synthetic_products
from tests.test_cli import fails, run
from tests.test_product_types import TAXONOMY, shop


def write(path: Path, products: list[Product]) -> Path:
    path.write_bytes(b"".join(to_json(product) + b"\n" for product in products))
    return path


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deterministic encoder in place of the shipped one."""
    monkeypatch.setattr("engine.opening.open_encoder", lambda config: HashedWordsEncoder())


@pytest.mark.usefixtures("stand_in")
class TestRoute:
    def test_the_way_from_words_to_products(self, small_directory: Path) -> None:
        said = run("route", small_directory, "acme frigde under 500").stdout
        lines = [line.strip(" │├└─") for line in said.splitlines()]
        assert lines[:2] == ["acme frigde under 500", "read as: acme fridge under 500"]
        assert {"frigde → fridge (spelling)", "under 500 → price ≤ 500"} <= set(lines)
        assert "Home > Refrigerators" in next(line for line in lines if line.split()[1:2] == ["Refrigerators"])
        assert any(line.startswith("filter: ") for line in lines)
        first = next(line for line in lines if line.startswith("P0"))
        assert "Acme Fridge" in first
        assert "is of the type Refrigerators; " in first
        assert "color " in said
        assert "smart no" in said

    def test_data(self, small_directory: Path) -> None:
        data = json.loads(run("route", small_directory, "acme frigde under 500", "--json").stdout)
        assert (data["query"], data["corrected"]) == ("acme frigde under 500", "acme fridge under 500")
        assert data["action"] == "filter"
        assert data["product_types"][0]["type_id"] == "Home > Refrigerators"
        assert 0.5 < data["product_types"][0]["probability"] <= 1
        assert all(sku["price"] <= 500 and "Fridge" in sku["title"] for sku in data["skus"])
        assert set(data["skus"][0]["features"]) >= {"color", "smart"}
        assert data["nearest"] == ""

    def test_search_gives_the_same_route(self, small_directory: Path) -> None:
        data = json.loads(run("route", small_directory, "red tv", "--json").stdout)
        assert (
            json.loads(run("search", small_directory, "red tv", "--json").stdout)["route"] | {"query": "red tv"} == data
        )

    def test_what_nothing_is(self, small_directory: Path) -> None:
        said = run("route", small_directory, "acme headphones").stdout
        assert "nearest things: no product has 'headphones'" in said
        first, *hits = run("search", small_directory, "headphones").stdout.splitlines()
        assert first == "nearest things: no product has 'headphones'"
        assert len(hits) >= 11

    def test_a_query_that_says_nothing(self, small_directory: Path) -> None:
        assert "no products" in run("route", small_directory, "?!").stdout

    def test_settings(self, small_directory: Path, tmp_path: Path) -> None:
        (tmp_path / "off.toml").write_text("[search]\nroute_weight = 0.0\n")
        said = run("route", small_directory, "fridge", "--config", tmp_path / "off.toml").stdout
        assert "routing is off" in said
        assert "Refrigerators\n" not in said


def test_an_index_without_router_or_understanding_has_no_route(tmp_path: Path) -> None:
    SearchEngine.build(synthetic_products(4), tmp_path / "index", EngineConfig(index=IndexConfig(encoder="")))
    assert "none: " in run("route", tmp_path / "index", "fridge").stdout
    (tmp_path / "off.toml").write_text("[search]\nunderstand = []\n")
    assert "no route" in fails("route", tmp_path / "index", "fridge", "--config", tmp_path / "off.toml")


def test_catalog_text_is_no_mark_up_and_controls_no_terminal(tmp_path: Path) -> None:
    rows = [{"product_id": "[b]1", "title": "[red]fridge\x1b[2J", "attributes": {"[i]\x07a": "[/b]"}}]
    SearchEngine.build(rows, tmp_path / "index", EngineConfig(index=IndexConfig(encoder="")))
    said = run("route", tmp_path / "index", "fridge [x]\x1b").stdout
    assert "\x1b" not in said
    assert "\x07" not in said
    assert all(text in said for text in ("[b]1", "[red]fridge", "[/b]", "fridge [x]"))


class TestTypes:
    def test_paths_become_types_that_people_can_correct(self, tmp_path: Path) -> None:
        catalog, out = write(tmp_path / "shop.jsonl", synthetic_products(8)), tmp_path / "types.tsv"
        said = run("types", catalog, "--out", out).stdout
        assert said.startswith(f"{out}: 7 product types; 8 of 8 products have one\n")
        with out.open(newline="") as file:
            rows = list(csv.reader(file, delimiter="\t"))
        for row in rows:
            if row[1] == "Home > Televisions":
                row[3] = "Home > Screens"
        with out.open("w", newline="") as file:
            csv.writer(file, delimiter="\t").writerows(rows)
        assert run("types", catalog, "--out", out).stdout.splitlines()[1] == "1 corrections"
        found = read_types(out).of("P0002")
        assert found is not None
        assert found.type_id == "Home > Screens"

    def test_what_titles_do_not_tell_attributes_do(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        encoder = HashedWordsEncoder()
        monkeypatch.setattr(route_commands, "_encoded", encoder.encode_products)
        catalog, out = write(tmp_path / "shop.jsonl", shop(180)), tmp_path / "types.tsv"
        (tmp_path / "taxonomy.txt").write_text(TAXONOMY)
        said = run("types", catalog, "--out", out, "--taxonomy", tmp_path / "taxonomy.txt").stdout
        assert "of titles held out" in said
        sources = [typing.source for typing in read_types(out).typings.values()]
        assert sources.count("title") == 135
        assert sources.count("attributes") >= 40

    def test_no_vectors_are_made_where_they_tell_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def encoded(products: list[Product]) -> np.ndarray:
            raise AssertionError("that takes minutes")

        monkeypatch.setattr(route_commands, "_encoded", encoded)
        bare = [Product(product_id="x", title="Nothing in particular")]
        catalog = write(tmp_path / "shop.jsonl", [*synthetic_products(8), *bare])
        assert "8 of 9 products" in run("types", catalog, "--out", tmp_path / "types.tsv").stdout

    def test_errors_are_one_line(self, tmp_path: Path) -> None:
        catalog = write(tmp_path / "shop.jsonl", synthetic_products(4))
        assert "there is no such file" in fails("types", tmp_path / "none.csv", "--out", tmp_path / "types.tsv")
        (tmp_path / "types.tsv").write_text("id\ttype\n")
        assert "expected the columns" in fails("types", catalog, "--out", tmp_path / "types.tsv")
        assert (tmp_path / "types.tsv").read_text() == "id\ttype\n"
        missing = ("--taxonomy", tmp_path / "none.txt")
        assert "cannot be read" in fails("types", catalog, "--out", tmp_path / "new.tsv", *missing)
