"""An index on disk: published whole or not at all, checked on load, refused when it does not match."""

from __future__ import annotations

import multiprocessing
import shutil
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

import engine.analysis.analyzer
import engine.text
from engine import (
    CatalogError,
    EngineConfig,
    IndexConfig,
    IndexCorruptError,
    IndexMismatchError,
    IndexNotFoundError,
    ModelError,
    Product,
    SearchConfig,
    SearchEngine,
)
from engine.builder import build_index
from engine.dense.encoder import SHIPPED
from engine.storage.manifest import current_version, problems, read_manifest
from tests.conftest import HashedWordsEncoder, synthetic_products

LEXICAL_ONLY = EngineConfig(index=IndexConfig(encoder=""))


def build(directory: Path, n: int = 12) -> SearchEngine:
    return SearchEngine.build(synthetic_products(n), directory, encoder=HashedWordsEncoder())


@pytest.fixture
def index(small_directory: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_directory, tmp_path / "index"))


def load(directory: Path, **kwargs) -> SearchEngine:
    return SearchEngine.load(directory, encoder=HashedWordsEncoder(), **kwargs)


class TestPublishing:
    def test_a_build_replaces_the_index_and_keeps_the_one_before(self, tmp_path):
        sizes = []
        for n in (4, 8, 12):
            build(tmp_path, n)
            sizes.append(len(load(tmp_path)))
        assert sizes == [4, 8, 12]
        assert len(list((tmp_path / "versions").iterdir())) == 2

    def test_an_open_engine_outlives_its_version(self, tmp_path):
        old = build(tmp_path, 4)
        for n in (8, 12):
            build(tmp_path, n)
        assert len(old.search("acme", 10).hits) <= 4
        assert old.search("globex phone", 1).hits[0].product.title

    def test_a_failed_build_leaves_the_index_as_it_was(self, tmp_path):
        build(tmp_path, 8)
        before = current_version(tmp_path)

        def breaks():
            yield from synthetic_products(5)
            raise CatalogError("feed", 6, "price", "is NaN")

        with pytest.raises(CatalogError):
            build_index(breaks(), tmp_path, LEXICAL_ONLY)
        assert current_version(tmp_path) == before
        assert sorted(p.name for p in tmp_path.iterdir()) == ["CURRENT", "versions", "writer.lock"]

    def test_a_killed_build_leaves_the_index_as_it_was(self, tmp_path):
        build(tmp_path, 8)
        before = current_version(tmp_path)
        ready = multiprocessing.get_context("spawn").Event()
        process = multiprocessing.get_context("spawn").Process(target=_build_and_hang, args=(tmp_path, ready))
        process.start()
        assert ready.wait(60)
        process.kill()
        process.join()
        assert current_version(tmp_path) == before
        assert any(p.name.startswith(".building-") for p in tmp_path.iterdir())
        build(tmp_path, 4)
        assert not any(p.name.startswith(".building-") for p in tmp_path.iterdir())

    def test_save_and_load(self, tmp_path):
        engine_ = SearchEngine.build(synthetic_products(12), encoder=HashedWordsEncoder())
        engine_.save(tmp_path / "kept")
        again = load(tmp_path / "kept")
        for query in ("acme phone", "fridge"):
            assert again.search(query).hits == engine_.search(query).hits

    def test_a_temporary_index_goes_with_its_engine(self):
        engine_ = SearchEngine.build(synthetic_products(4), config=LEXICAL_ONLY)
        version = engine_.version
        assert version.is_dir()
        del engine_
        assert not version.exists()


def _build_and_hang(directory: Path, ready) -> None:
    def products():
        yield from synthetic_products(5)
        ready.set()
        multiprocessing.Event().wait()

    build_index(products(), directory, LEXICAL_ONLY)


class TestDamage:
    def every_file(self, index: Path) -> list[Path]:
        version = current_version(index)
        return [version / name for name in read_manifest(version).files]

    def test_a_flipped_byte_anywhere_is_found(self, index):
        for path in self.every_file(index):
            data = path.read_bytes()
            if not data:
                continue
            place = len(data) // 2
            path.write_bytes(data[:place] + bytes([data[place] ^ 0x40]) + data[place + 1 :])
            with pytest.raises(IndexCorruptError, match=path.name):
                load(index)
            path.write_bytes(data)
        assert load(index).search("acme").hits

    def test_a_missing_or_cut_file_is_found(self, index):
        for path in self.every_file(index):
            data = path.read_bytes()
            path.unlink()
            with pytest.raises(IndexCorruptError, match="missing"):
                load(index)
            path.write_bytes(data[: len(data) // 2])
            if data:
                with pytest.raises(IndexCorruptError, match="bytes"):
                    load(index)
            path.write_bytes(data)

    def test_damage_is_a_typed_error_even_unverified(self, index):
        for path in self.every_file(index):
            data = path.read_bytes()
            path.write_bytes(data[: len(data) // 3])
            with suppress(IndexCorruptError):
                load(index, verify=False).search("acme phone", explain=True)
            path.write_bytes(data)

    @pytest.mark.parametrize("content", ["", "nowhere", "../../etc", "\x00"])
    def test_a_pointer_to_nowhere(self, index, content):
        (index / "CURRENT").write_text(content)
        with pytest.raises((IndexCorruptError, IndexNotFoundError)):
            load(index)

    @pytest.mark.parametrize(
        "content", [b"", b"{", b"[]", b'{"format_version": 1}', b"\xff\xfe", b'{"format_version": 1, "\xe6": 1}']
    )
    def test_a_damaged_manifest(self, index, content):
        (current_version(index) / "manifest.json").write_bytes(content)
        with pytest.raises((IndexCorruptError, IndexMismatchError)):
            load(index)

    def test_nothing_there(self, tmp_path):
        with pytest.raises(IndexNotFoundError, match="aisle build"):
            load(tmp_path)
        with pytest.raises(IndexNotFoundError, match="does not exist"):
            load(tmp_path / "nowhere")

    def test_problems_names_what_is_wrong(self, index):
        version = current_version(index)
        manifest = read_manifest(version)
        assert problems(version, manifest) == []
        (version / "products.jsonl").unlink()
        assert problems(version, manifest) == ["products.jsonl: missing"]


class TestMismatch:
    def edit(self, index: Path, **changes) -> None:
        path = current_version(index) / "manifest.json"
        manifest = msgspec.json.decode(path.read_bytes())
        path.write_bytes(msgspec.json.encode({**manifest, **changes}))

    def test_another_format(self, index):
        self.edit(index, format_version=999)
        with pytest.raises(IndexMismatchError, match="format 999"):
            load(index)

    def test_another_analyzer(self, index, monkeypatch):
        monkeypatch.setattr(engine.analysis.analyzer, "_LINKS", "")
        with pytest.raises(IndexMismatchError, match="analyzer"):
            load(index)

    def test_other_fields(self, index, monkeypatch):
        monkeypatch.setattr(engine.text, "_SUMMARY_WORDS", 3)
        with pytest.raises(IndexMismatchError, match="fields"):
            load(index)

    def test_another_encoder(self, index):
        class Other(HashedWordsEncoder):
            fingerprint = "other"

        with pytest.raises(IndexMismatchError, match="other"):
            SearchEngine.load(index, encoder=Other())

    def test_the_encoder_is_only_needed_for_dense_retrieval(self, index):
        with pytest.raises((ModelError, IndexMismatchError)):
            SearchEngine.load(index)
        lexical = SearchEngine.load(index, SearchConfig(retrievers=("lexical",)))
        assert lexical.search("acme").hits


class TestBuilding:
    def test_products_come_back_equal(self, small):
        assert list(small._products) == synthetic_products()

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            ([], "no products"),
            ([{"product_id": "1", "title": "a"}, {"product_id": "1", "title": "b"}], "already given at 1"),
            ([{"title": "a"}], "product_id"),
            ([{"product_id": "1", "title": 3}], "title"),
            ([{"product_id": "1", "title": "a", "price": float("nan")}], "price"),
            ([{"product_id": "1", "title": "a", "price": -1}], "price"),
            ([{"product_id": " ", "title": "a"}], "product_id is empty"),
            ([{"product_id": "1", "title": "a", "attributes": {"w": float("inf")}}], "attributes.w"),
        ],
    )
    def test_bad_products_stop_the_build(self, rows, message, tmp_path):
        with pytest.raises(CatalogError, match=message):
            SearchEngine.build(rows, tmp_path / "index", LEXICAL_ONLY)
        with pytest.raises(IndexNotFoundError):
            current_version(tmp_path / "index")

    def test_hostile_text_is_only_text(self, tmp_path):
        rows = [
            Product(
                product_id="1",
                title="<script>alert('fridge')</script> &lt;b&gt; \x00 \u202e",
                description="x" * 200_000,
            ),
            Product(product_id="2", title="%s {0} \\ ' \" ; DROP TABLE", attributes={"\n\t": "a\tb\nc", "": ""}),
        ]
        engine_ = SearchEngine.build(rows, tmp_path, encoder=HashedWordsEncoder())
        assert load(tmp_path).search("fridge").hits[0].product == rows[0]
        assert engine_.search("drop table").hits[0].product == rows[1]

    def test_an_unknown_language_is_named(self, tmp_path):
        config = EngineConfig(index=IndexConfig(encoder="", language="klingon"))
        with pytest.raises(engine.ConfigError, match="english"):
            SearchEngine.build(synthetic_products(2), tmp_path / "index", config)

    def test_an_encoder_directory_is_found_from_anywhere(self, tmp_path, monkeypatch):
        shutil.copytree(SHIPPED / "all-MiniLM-L6-v2", tmp_path / "encoder")
        monkeypatch.chdir(tmp_path)
        SearchEngine.build(synthetic_products(2), "index", EngineConfig(index=IndexConfig(encoder="encoder")))
        monkeypatch.chdir("/")
        assert SearchEngine.load(tmp_path / "index").search("phone").hits

    def test_configuration_round_trips(self, tmp_path):
        config = EngineConfig(
            index=IndexConfig(dense_index="hnsw", max_tokens=64),
            search=SearchConfig(fusion="rrf", field_weights={"title": 3.0}, retrievers=("lexical",)),
        )
        config.write(tmp_path / "c.toml")
        assert EngineConfig.read(tmp_path / "c.toml") == config

    @pytest.mark.parametrize(
        "text",
        [
            "[search]\ndepht = 3",
            "[search]\ndepth = 0",
            "[search]\nfield_weights = {titel = 1.0}",
            "[index]\nencoder = 3",
            "[",
            "\x00",
        ],
    )
    def test_a_bad_configuration_names_the_setting(self, tmp_path, text):
        (tmp_path / "c.toml").write_text(text)
        with pytest.raises(engine.ConfigError):
            EngineConfig.read(tmp_path / "c.toml")
