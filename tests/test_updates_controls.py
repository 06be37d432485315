"""Rules, stock, groups, suggestions, answers and documents of an index that changes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from engine import EngineConfig, IndexConfig, Product, SearchConfig, SearchEngine
from engine.rules.preview import preview
from engine.rules.schema import parse_rules, read_rules
from ranking.listwise import reranker as serving
from ranking.listwise.settings import LISTWISE
from tests.conftest import HashedWordsEncoder
from tests.test_listwise import WordsDecoder

NOON = 1_800_000_000.0  # in seconds since 1970
COLORS = ("Black", "Mint", "Coral")


def phones() -> list[Product]:
    """Four models in three colours each, all in stock; the ones of a model are variants."""
    return [
        Product(
            product_id=f"{name}-{color}", title=f"Comet {name} phone 5G {color}", brand="Comet", category=("Phones",),
            attributes={"color": color, "ram_gb": 8}, price=100.0 + 10 * place, availability="in_stock",
            popularity=float(place),
        )
        for place, (name, color) in enumerate((n, c) for n in ("Uno", "Due", "Tre", "Sei") for c in COLORS)
    ]  # fmt: skip


def fourth(color: str = "Lilac") -> Product:
    return Product(
        product_id=f"Uno-{color}", title=f"Comet Uno phone 5G {color}", brand="Comet", category=("Phones",),
        attributes={"color": color, "ram_gb": 8}, price=77.0, availability="in_stock",
    )  # fmt: skip


@pytest.fixture
def index(tmp_path: Path) -> Path:
    documents = tmp_path / "documents"
    documents.mkdir()
    rows = [
        {"product_id": "Uno-Mint", "kind": "manual", "question": "How do I reset it?", "text": "Hold the side key."},
        {"product_id": "Due-Mint", "kind": "manual", "question": "How do I reset it?", "text": "Press both keys."},
        {"kind": "policy", "title": "Returns", "text": "Phones can be returned within 14 days."},
    ]
    (documents / "manuals.jsonl").write_text("\n".join(map(json.dumps, rows)))
    SearchEngine.build(
        phones(), tmp_path / "index", EngineConfig(index=IndexConfig(reranker="")), encoder=HashedWordsEncoder(),
        documents=documents,
    )  # fmt: skip
    return tmp_path / "index"


def load(index: Path, **config) -> SearchEngine:
    return SearchEngine.load(index, SearchConfig(threads=1, **config), encoder=HashedWordsEncoder())


def ids(result) -> list[str]:
    return [hit.product.product_id for hit in result.hits]


def delete(engine: SearchEngine, *product_ids: str) -> None:
    engine.delete(product_ids)
    engine.commit()


def update(engine: SearchEngine, product_id: str, **fields) -> None:
    engine.update([{"product_id": product_id, **fields}])
    engine.commit()


class TestStock:
    def test_a_product_that_is_sold_out_moves_behind_and_back(self, index):
        engine = load(index, out_of_stock="behind")
        first = ids(engine.search("comet uno phone", 20))
        update(engine, first[0], availability="out_of_stock")
        for now in (engine, load(index, out_of_stock="behind")):
            assert ids(now.search("comet uno phone", 20)) == [*first[1:], first[0]]
        update(engine, first[0], price=1.0)  # of other columns the same holds on
        assert ids(engine.search("comet uno phone", 20))[-1] == first[0]
        update(engine, first[0], availability="in_stock")
        assert ids(engine.search("comet uno phone", 20)) == first

    def test_of_a_product_that_was_added_too(self, index):
        engine = load(index, out_of_stock="behind")
        engine.add([fourth()])
        engine.commit()
        assert ids(engine.search("comet uno phone lilac", 20))[0] == "Uno-Lilac"
        update(engine, "Uno-Lilac", availability="sold_out")
        assert ids(engine.search("comet uno phone lilac", 20))[-1] == "Uno-Lilac"

    def test_hidden(self, index):
        engine = load(index, out_of_stock="hidden")
        update(engine, "Due-Mint", availability="out_of_stock")
        assert "Due-Mint" not in ids(engine.search("comet phone", 20))
        assert len(engine.search("comet phone", 20, group="family").hits) == 4


class TestGroups:
    @pytest.mark.parametrize(("group", "others"), [("family", 2), ("brand", 11), ("ram_gb", 11)])
    def test_what_is_deleted_is_of_none(self, index, group, others):
        engine = load(index)
        [before] = [hit for hit in engine.search("uno mint", 20, group=group).hits if "Uno" in hit.product.product_id]
        assert len(before.group.others) == others
        delete(engine, "Uno-Black", "Sei-Coral")  # the first of its variants, by whose row the others are grouped
        hits = engine.search("uno mint", 20, group=group).hits
        [after] = [hit for hit in hits if "Uno" in hit.product.product_id]
        told = {product_id for hit in hits for product_id in (hit.product.product_id, *hit.group.others)}
        assert told == {product.product_id for product in phones()} - {"Uno-Black", "Sei-Coral"}
        assert sum(hit.group.count for hit in hits) == 10
        assert after.group.count == 1 + len(after.group.others)

    def test_a_product_that_was_added_is_a_family_of_its_own_until_a_merge(self, index):
        engine = load(index)
        engine.add([fourth()])
        engine.commit()
        assert sorted(hit.group.count for hit in engine.search("comet phone", 20, group="family").hits) == [
            1,
            3,
            3,
            3,
            3,
        ]
        assert engine.merge()
        assert sorted(hit.group.count for hit in engine.search("comet phone", 20, group="family").hits) == [3, 3, 3, 4]

    def test_by_a_price_that_has_changed(self, index):
        engine = load(index)
        assert len(engine.search("comet phone", 20, group="price").hits) == 12
        engine.update([{"product_id": f"Uno-{color}", "price": 5.0} for color in COLORS])
        engine.commit()
        counts = {h.product.price: h.group.count for h in engine.search("comet phone", 20, group="price").hits}
        assert (len(counts), counts[5.0]) == (10, 3)


def _rules(path: Path, text: str) -> str:
    path.write_text(text)
    os.utime(path, (1_000_000_000, 1_000_000_000))  # long ago, so that only another date makes it be read again
    return str(path)


class TestRules:
    def test_hold_on_what_has_changed(self, index, tmp_path):
        text = """
[[rule]]
id = "cheap"
note = "n"
then = { boost = [{ where = "price<=50", by = 0.9 }] }
[[rule]]
id = "pins"
note = "n"
when = { phrase = "sei" }
then = { pin = { "Uno-Lilac" = 1, "Due-Mint" = 2 } }
[[rule]]
id = "no coral"
note = "n"
when = { phrase = "tre" }
then = { hide = "color=Coral" }
"""
        engine = load(index, rules=_rules(tmp_path / "rules.toml", text))
        assert ids(engine.search("sei phone", 3))[1] == "Due-Mint"  # the other one is not there yet
        update(engine, "Tre-Mint", price=40.0)
        assert ids(engine.search("comet phone", 20))[0] == "Tre-Mint"
        update(engine, "Tre-Mint", price=140.0)
        assert ids(engine.search("uno phone", 20))[0].startswith("Uno")
        engine.add([fourth()])
        engine.commit()
        found = engine.search("sei phone", 20)
        assert ids(found)[:2] == ["Uno-Lilac", "Due-Mint"]
        assert [effect.action for effect in found.hits[0].rules] == ["pin"]
        delete(engine, "Due-Mint")
        found = ids(engine.search("sei phone", 20))
        assert (found[0], "Due-Mint" in found) == ("Uno-Lilac", False)
        engine.add([fourth("Coral")])  # in place of the one of that id
        engine.commit()
        assert {i for i in ids(engine.search("tre phone", 20)) if i.endswith("Coral")} == set()
        assert "Uno-Coral" in ids(engine.search("due phone", 20))

    def test_a_commit_reads_no_rules_and_a_new_file_holds_after_it(self, index, tmp_path, monkeypatch):
        path = tmp_path / "rules.toml"
        rule = '[[rule]]\nid = "r"\nnote = "n"\nthen = {{ pin = {{ "{}" = 1 }} }}\n'
        engine = load(index, rules=_rules(path, rule.format("Sei-Mint")))
        read = []
        monkeypatch.setattr("engine.rules.live.parse_rules", lambda *given: read.append(1) or parse_rules(*given))
        for price in (1.0, 2.0):
            update(engine, "Uno-Mint", price=price)
            assert ids(engine.search("comet phone", 1)) == ["Sei-Mint"]
        assert not read
        path.write_text(rule.format("Tre-Coral"))
        assert ids(engine.search("comet phone", 1)) == ["Tre-Coral"]
        assert read == [1]

    def test_a_preview_knows_what_has_changed(self, index, tmp_path):
        rule = '[[rule]]\nid = "r"\nnote = "n"\nthen = { pin = { "Uno-Lilac" = 1, "Due-Mint" = 2 } }\n'
        path = Path(_rules(tmp_path / "rules.toml", rule))
        engine = load(index)
        engine.add([fourth()])
        engine.delete(["Due-Mint"])
        engine.commit()
        found = preview(engine, read_rules(path), str(path), ["sei phone"], NOON)
        assert [(one.product_id, one.after) for one in found.changes[0].moved][:1] == [("Uno-Lilac", 1)]
        [warning] = found.warnings
        assert "'Due-Mint', which the catalog does not have" in warning.reason


class TestSuggestions:
    def test_what_is_suggested_finds_nothing_that_was_deleted(self, index):
        engine = load(index)
        delete(engine, *(f"Uno-{color}" for color in COLORS))
        suggested = engine.suggest("comet uno")
        assert suggested  # a build's phrases stay until a merge
        for one in suggested:
            assert not any(found.startswith("Uno") for found in ids(engine.search(one.text, 20)))
        assert engine.merge()
        assert not any("uno" in one.text for one in engine.suggest("comet uno"))


class TestAnswers:
    def test_nothing_is_said_of_what_was_deleted(self, index):
        engine = load(index)
        answer = engine.ask("How much RAM does the Comet Uno have?")
        assert any(card.product_id.startswith("Uno") for card in answer.products)
        delete(engine, *(f"Uno-{color}" for color in COLORS))
        for question in ("How much RAM does the Comet Uno have?", "comet uno", "Which phone is best?"):
            answer = engine.ask(question)
            assert not any(card.product_id.startswith("Uno") for card in answer.products), question
            assert not any(one.product_id.startswith("Uno") for one in answer.evidence), question

    def test_names_are_those_of_the_products_there_are(self, index, tmp_path):
        engine = load(index)
        engine.add([Product(product_id="Zed", title="Comet Zephyr phone", brand="Comet", attributes={"ram_gb": 64})])
        engine.commit()
        delete(engine, *(f"Uno-{color}" for color in COLORS))
        families = engine.snapshot()._opened.parts.families
        assert ("zephyr" in families, "uno" in families, "due" in families) == (True, False, True)
        assert [p.product_id for p in engine.snapshot()._products.get(families.rows("zephyr"))] == ["Zed"]
        now = engine.snapshot()
        fresh = SearchEngine.build(
            now._products.get(now._columns.rows), tmp_path / "fresh", EngineConfig(index=IndexConfig(reranker="")),
            encoder=HashedWordsEncoder(),
        )  # fmt: skip
        for question in ("How much RAM does the Comet Zephyr have?", "How much RAM does the Comet Uno have?"):
            assert engine.ask(question).text == fresh.ask(question).text
        assert "64" in engine.ask("How much RAM does the Comet Zephyr have?").text

    def test_what_has_changed_is_answered_as_it_is_now(self, index):
        engine = load(index)
        update(engine, "Due-Mint", price=4321.0)
        assert "4321" in engine.ask("What does it cost?", product_id="Due-Mint").text
        update(engine, "Due-Mint", attributes={"color": "Mint", "ram_gb": 48})
        assert "48" in engine.ask("How much RAM does it have?", product_id="Due-Mint").text
        engine.add([Product(product_id="Zed", title="Comet Zed phone", brand="Comet", attributes={"ram_gb": 64})])
        engine.commit()
        assert "64" in engine.ask("How much RAM does it have?", product_id="Zed").text

    def test_documents_about_what_was_deleted_are_not_cited(self, index):
        engine = load(index)
        assert sorted(one.product_id for one in engine.snapshot()._opened.documents.passages) == [
            "", "Due-Mint", "Uno-Mint",
        ]  # fmt: skip
        delete(engine, "Uno-Mint")
        for merges in (False, True):
            assert engine.merge() is True if merges else True
            documents = engine.snapshot()._opened.documents
            assert sorted(one.product_id for one in documents.passages) == ["", "Due-Mint"]
            assert documents.vectors is not None
            assert len(documents.vectors) == 2
            asked = engine.ask("How do I reset the Comet Uno?")
            assert not any("side key" in evidence.text for evidence in asked.evidence)


class TestFollowing:
    def test_a_view_of_what_was_added_reads_it(self, index):
        """Relations and needs read products by row."""
        engine = load(index)
        engine.add([fourth()])
        engine.commit()
        view = engine.configured(SearchConfig(threads=1, out_of_stock="behind"))
        for query in ("uno lilac", "phones like comet uno lilac but cheaper", "cheapest phone", "good phone"):
            assert ids(view.search(query, 20)) == ids(engine.search(query, 20)), query
        assert "77" in view.ask("What does it cost?", product_id="Uno-Lilac").text

    def test_a_reranker_of_lists_reads_what_was_added(self, index, tmp_path, monkeypatch):
        (tmp_path / LISTWISE).write_text('name = "words"\n[decoder]\nkind = "onnx"\n')
        monkeypatch.setattr(serving, "open_decoder", lambda *_: WordsDecoder())
        engine = load(index, listwise=str(tmp_path), rerank_weight=1.0)
        engine.add([fourth()])
        engine.commit()
        for now in (engine, load(index, listwise=str(tmp_path), rerank_weight=1.0)):
            result = now.search("comet uno phone lilac", 5)
            assert ids(result)[0] == "Uno-Lilac"
            assert [report.status for report in result.stages if report.stage == "rerank"] == ["ran"]

    def test_the_log_names_the_version_that_is_searched(self, index, tmp_path):
        engine = load(index, log=str(tmp_path / "log"))
        versions = []
        for _ in range(2):
            engine.log.shown(engine.search("phone", 2))
            versions.append(engine.version.name)
            update(engine, "Due-Mint", price=1.0 + len(versions))
            engine.merge()
        engine.log.close()
        lines = [json.loads(line) for file in (tmp_path / "log").iterdir() for line in file.read_text().splitlines()]
        assert [line["version"] for line in lines] == versions
        assert versions[0] != versions[1]
