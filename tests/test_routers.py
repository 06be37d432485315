"""Routers and what an index keeps of them: the contract for every kind, older formats, damage, mismatches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from engine import (
    ConfigError,
    EngineConfig,
    IndexConfig,
    IndexCorruptError,
    IndexMismatchError,
    Product,
    SearchConfig,
    SearchEngine,
)
from engine.builder import build_index
from engine.storage.manifest import current_version, read_manifest
from engine.types import Candidates, Routed
from qpt.linear_head import LinearHead
from qpt.product_types import Corrections, derive
from qpt.router import CatalogRouter, TypeRouter
from qpt.taxonomy import from_product_types
from qpt.types_file import write_types
from tests.conftest import synthetic_products, write_manifest
from tests.router_contract import ENCODER, KINDS, PRODUCTS, RouterContract, route
from tests.routers import RuledRouter
from tests.test_product_types import shop
from tests.test_qpt_transformer import write_head
from tests.test_route import kinds, stage


class TestCatalogRouter(RouterContract):
    @pytest.fixture(scope="class")
    @classmethod
    def model(cls) -> CatalogRouter:
        return CatalogRouter.named("catalog")


class TestTrainedRouter(RouterContract):
    @pytest.fixture(scope="class")
    @classmethod
    def model(cls, tmp_path_factory: pytest.TempPathFactory) -> CatalogRouter:
        built = tmp_path_factory.mktemp("learnt")
        CatalogRouter().build(built, PRODUCTS, ENCODER.encode_products(PRODUCTS), ENCODER)
        directory = tmp_path_factory.mktemp("trained")
        LinearHead.load(built / "head").save(directory)
        return CatalogRouter.named(str(directory))


class TestTransformerRouter(RouterContract):
    """What ``aisle train types`` makes, of the catalog's types; the index keeps a copy of it."""

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls, tmp_path_factory: pytest.TempPathFactory) -> CatalogRouter:
        taxonomy = from_product_types(derive(PRODUCTS))
        types = [next(node.type_id for node in taxonomy.nodes.values() if node.names[""] == kind) for kind in KINDS]
        says = {"phone": (4, 0, 0, 0), "fridge": (0, 4, 0, 0), "tv": (0, 0, 4, 0), "case": (0, 0, 0, 8)}
        directory = tmp_path_factory.mktemp("transformer") / "head"
        write_head(directory, says, types=types, nodes=list(taxonomy.nodes.values()), locales={})
        return CatalogRouter.named(str(directory))


class TestTypesFileRouter(RouterContract):
    @pytest.fixture(scope="class")
    @classmethod
    def model(cls, tmp_path_factory: pytest.TempPathFactory) -> CatalogRouter:
        path = tmp_path_factory.mktemp("types") / "types.tsv"
        write_types(path, derive(PRODUCTS), PRODUCTS)
        return CatalogRouter.named(str(path))


def look(router: Any, query: str, found: Candidates) -> Routed:
    revise = route(router, query).revise
    assert revise is not None
    return revise(found)


class TestRuledRouter(RouterContract):
    """The stand-in keeps the contract as well, so that what is tested with it holds of others."""

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls) -> RuledRouter:
        return RuledRouter()


class TestIndex:
    @pytest.fixture
    def own(self, tmp_path: Path) -> Path:
        return build_index(synthetic_products(40), tmp_path / "own", encoder=ENCODER)

    def open(self, directory: Path, **arguments: Any) -> SearchEngine:
        return SearchEngine.load(directory, encoder=ENCODER, **arguments)

    def edit(self, index: Path, **changes: Any) -> None:
        path = current_version(index) / "manifest.json"
        write_manifest(path.parent, {**msgspec.json.decode(path.read_bytes()), **changes})

    def test_a_router_is_learnt_with_the_index(self, own: Path) -> None:
        manifest = read_manifest(current_version(own))
        assert manifest.router == CatalogRouter().fingerprint
        assert manifest.notes["route"] == "4 product types; 40 of 40 products have one"
        route = self.open(own).search("fridge", 3).route
        assert route is not None
        assert route.product_types[0].type_id == "Home > Refrigerators"

    def test_a_router_of_corrected_types(self, tmp_path: Path) -> None:
        products = synthetic_products(40)
        types = derive(products).corrected(Corrections({"Home > Televisions": "Cinema > Screens"}, {}))
        write_types(tmp_path / "types.tsv", types, products)
        config = EngineConfig(index=IndexConfig(router=str(tmp_path / "types.tsv")))
        build_index(products, tmp_path / "own", config, encoder=ENCODER)
        result = self.open(tmp_path / "own").search("acme tv", 3)
        assert result.route is not None
        assert result.route.product_types[0].type_id == "Cinema > Screens"
        assert "is of the type Screens" in result.route.skus[0].reason

    def test_switched_off_there_is_none(self, tmp_path: Path) -> None:
        config = EngineConfig(index=IndexConfig(router=""))
        build_index(synthetic_products(20), tmp_path / "own", config, encoder=ENCODER)
        assert read_manifest(current_version(tmp_path / "own")).router == ""
        result = self.open(tmp_path / "own").search("fridge", 3)
        assert stage(result, "route") is None
        assert result.route is not None
        assert (result.route.action, result.route.product_types) == ("none", ())

    def test_a_router_without_an_encoder_is_refused(self, tmp_path: Path) -> None:
        lean = EngineConfig(index=IndexConfig(encoder=""))
        with pytest.raises(ConfigError, match=r"router .* no encoder.*; name an encoder"):
            build_index(synthetic_products(20), tmp_path / "own", lean, router=RuledRouter())
        write_types(tmp_path / "types.tsv", derive(PRODUCTS), PRODUCTS)
        named = EngineConfig(index=IndexConfig(encoder="", router=str(tmp_path / "types.tsv")))
        with pytest.raises(ConfigError, match="router"):
            build_index(synthetic_products(20), tmp_path / "own", named)
        assert not (tmp_path / "own").exists()
        build_index(synthetic_products(20), tmp_path / "own", lean)

    @pytest.fixture(scope="class")
    @classmethod
    def under_one_root(cls, tmp_path_factory: pytest.TempPathFactory) -> TypeRouter:
        products = [msgspec.structs.replace(p, category=("Shop", "All", *p.category)) for p in PRODUCTS]
        products.append(Product(product_id="odd", title="Acme Voucher", category=("Vouchers",)))
        directory = tmp_path_factory.mktemp("one-root")
        CatalogRouter().build(directory, products, ENCODER.encode_products(products), ENCODER)
        return CatalogRouter().open(directory)

    @pytest.mark.parametrize("query", ["fridge", "tv", "phone case", "acme", "red thing", "acme 100"])
    def test_what_all_products_are_under_is_never_chosen(self, under_one_root, query: str) -> None:
        routed = route(under_one_root, query)
        assert not {"Shop", "All"} & {found.name for found in routed.chosen}
        if routed.fit is not None:
            assert routed.fit.min() < 0.2  # and it lifts nothing either

    def test_a_leaf_below_the_one_root_is_chosen(self, under_one_root) -> None:
        routed = route(under_one_root, "fridge")
        assert routed.chosen[0].name in ("Refrigerators", "Home")
        assert routed.product_types[0].name == "Refrigerators"

    def test_a_type_that_is_not_asked_for_is_no_reason(self, sample) -> None:
        skus = sample.search("double door fridge", 5).route.skus
        assert skus
        for sku in skus:
            if "single door" in sku.title.lower():
                assert "is of the type Single Door" not in sku.reason
        assert any("is of the type Double Door" in sku.reason for sku in skus)

    @pytest.mark.parametrize("looked_at", [False, True])
    def test_types_that_were_guessed_are_told_and_those_somebody_looked_at_are_acted_on(
        self, tmp_path: Path, looked_at: bool
    ) -> None:
        products = shop()
        types = derive(products)
        assert {typing.source for typing in types.typings.values()} == {"title", ""}
        write_types(tmp_path / "types.tsv", types, products)
        config = EngineConfig(index=IndexConfig(router=str(tmp_path / "types.tsv") if looked_at else "catalog"))
        build_index(products, tmp_path / "own", config, encoder=ENCODER)
        result = self.open(tmp_path / "own").search("wireless router", 20)
        off = self.open(tmp_path / "own", config=SearchConfig(route_weight=0.0)).search("wireless router", 20)
        route = result.route
        assert route is not None
        assert route.product_types[0].name == "wireless router"
        assert route.product_types[0].probability > 0.9
        if looked_at:
            assert (route.action, route.chosen[0].name) == ("filter", "wireless router")
            assert "is of the type wireless router" in route.skus[0].reason
        else:
            assert (route.action, route.chosen) == ("none", ())
            assert route.reason == "product types that were guessed from titles are told, not acted on"
            assert [hit.product for hit in result.hits] == [hit.product for hit in off.hits]
        assert (stage(result, "boost") is not None) == looked_at

    def test_what_was_found_decides_what_is_done(self, tmp_path: Path) -> None:
        """A query that says little has the type of what it finds, and one that is sure of a type may become less so."""
        CatalogRouter().build(tmp_path, PRODUCTS, ENCODER.encode_products(PRODUCTS), ENCODER)
        router, fridges = CatalogRouter().open(tmp_path), np.arange(1, len(PRODUCTS), 4)
        found = np.append(fridges[:9], 3)  # and one case
        all_kinds = Candidates(np.arange(len(PRODUCTS)), np.ones(len(PRODUCTS), np.float32))
        best = Candidates(found, np.ones(len(found), np.float32))
        said = [route(router, "globex"), look(router, "globex", all_kinds), look(router, "globex", best)]
        assert [routed.chosen[0].name for routed in said] == ["Televisions", "Televisions", "Refrigerators"]
        assert [said[2].name_of(row) for row in range(4)] == ["", "Refrigerators", "", ""]
        assert said[2].fit is not None
        assert said[2].fit[1] > said[2].fit[[0, 2, 3]].max()
        assert route(router, "phone fridge tv case").action == "filter"
        assert look(router, "phone fridge tv case", best).action == "boost"

    def test_one_type_is_no_choice(self, tmp_path: Path) -> None:
        products = [p for p in synthetic_products(40) if p.category[-1] == "Phones"]
        build_index(products, tmp_path / "own", encoder=ENCODER)
        result = self.open(tmp_path / "own").search("phone", 3)
        assert stage(result, "route").note.startswith("none: ")
        assert len(result.hits) == 3

    @pytest.mark.parametrize("name", ["types.npy", "router.json"])
    def test_a_file_of_the_router_that_is_gone_is_damage(self, own: Path, name: str) -> None:
        (current_version(own) / "route" / name).unlink()
        with pytest.raises(IndexCorruptError, match="router"):
            self.open(own, verify=False)

    @pytest.mark.parametrize("version", [1, 2])
    def test_an_index_of_an_older_format_is_read(self, own: Path, version: int) -> None:
        folder = current_version(own)
        old = msgspec.json.decode((folder / "manifest.json").read_bytes())
        for gone in [path for path in folder.rglob("*") if path.name == "spelling.npz" or "route" in path.parts]:
            if gone.is_file():
                gone.unlink()
        old["files"] = {name: entry for name, entry in old["files"].items() if (folder / name).exists()}
        del old["router"], old["config"]["router"], old["notes"]["route"]
        if version == 1:
            del old["reranker"], old["config"]["reranker"], old["notes"]["rerank"]
        write_manifest(folder, {**old, "format_version": version})
        result = self.open(own).search("acme frigde under 300", 5)
        assert kinds(result)[:2] == ["Refrigerators"] * 2  # the lexical vocabulary still respells
        assert result.route is not None
        assert result.route.corrected == "acme frigde under 300"
        assert "under 300 → price ≤ 300" in result.route.notes
        assert result.route.nearest == ""

    def test_another_router_is_refused(self, own: Path) -> None:
        with pytest.raises(IndexMismatchError, match="router 'catalog-3', this engine has 'ruled'"):
            self.open(own, router=RuledRouter())
        self.edit(own, router="catalog-0")
        with pytest.raises(IndexMismatchError, match="router 'catalog-0'"):
            self.open(own)
        assert self.open(own, config=SearchConfig(route_weight=0.0)).search("fridge").hits

    @pytest.mark.parametrize(
        "name", ["spelling.npz", "route/types.npy", "route/head/arrays.npz", "route/head/head.json"]
    )
    @pytest.mark.parametrize("keep", [0.0, 0.5])
    def test_damage_is_refused(self, own: Path, name: str, keep: float) -> None:
        path = current_version(own) / name
        if not path.exists():
            path = next(path for path in path.parent.iterdir() if path.suffix == path.suffix)
        data = path.read_bytes()
        path.write_bytes(data[: int(keep * len(data))])
        for verify in (True, False):
            with pytest.raises(IndexCorruptError):
                self.open(own, verify=verify)

    @pytest.mark.parametrize(
        "rows", [np.full(40, 9, np.int32), np.full(40, -2, np.int32), np.zeros(40), np.zeros((40, 1), np.int32)]
    )
    def test_rows_of_no_type_are_refused(self, own: Path, rows: np.ndarray) -> None:
        np.save(current_version(own) / "route" / "types.npy", rows)
        with pytest.raises(IndexCorruptError, match="router"):
            self.open(own, verify=False)
