"""Suggestions: the phrases of a catalog, how what is typed is completed, slips, and the file of an index."""

from __future__ import annotations

import gzip
import json
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import engine
from benchmarks.suggestions import PlainPrefix, measure, run, slipped, to_come, typed
from engine import CatalogError, ConfigError, IndexCorruptError, IndexMismatchError, InvalidQueryError, SearchEngine
from engine.cli import app
from engine.suggestions.completer import Completer, open_suggestions
from engine.suggestions.nearby import NearbyWords
from engine.suggestions.phrases import NUMBERS, Phrase, PhraseBuilder, key, read_queries
from engine.suggestions.store import SUGGESTIONS, Arranged, save_suggestions
from tests.conftest import synthetic_products

TEXTS = [
    "samsung", "samsung galaxy s24", "galaxy s24 ultra", "samsung galaxy s23", "fridge", "double door fridge",
    "refrigerators", "samsung double door fridge", "washing machine", "washing machines", "café crème", "4k tv",
    "洗濯機",
]  # fmt: skip


def completer(texts=TEXTS, weights=None) -> Completer:
    weights = weights or list(range(len(texts), 0, -1))
    phrases = [Phrase(key(text), "phrase", float(weight)) for text, weight in zip(texts, weights, strict=True)]
    return Completer(Arranged.of(sorted(phrases, key=lambda phrase: (-phrase.weight, phrase.text))))


def texts(found) -> list[str]:
    return [one.text for one in found]


def built(*titles: str, **fields) -> dict[str, Phrase]:
    builder = PhraseBuilder()
    for number, title in enumerate(titles):
        builder.add(engine.Product(product_id=str(number), title=title, **fields))
    return {phrase.text: phrase for phrase in builder.phrases()}


class TestPhrases:
    def test_runs_of_words_that_several_titles_have(self):
        found = built("Acme Smart TV, for the bedroom", "Globex Smart TV (for kids)", "Smart TV | red")
        assert "smart tv" in found
        assert "tv for" not in found  # signs part phrases
        assert "bedroom" not in found  # of one title
        assert not any(text.split()[-1] in ("for", "the") for text in found)

    def test_a_run_that_goes_on_with_one_word_is_no_phrase(self):
        found = built(*["Galaxy Z Fold 5"] * 4, *["Galaxy S 24"] * 4)
        assert "galaxy z" not in found
        assert "galaxy z fold" not in found
        assert "galaxy z fold 5" in found

    def test_brands_and_types(self):
        found = built("One", brand="L'Oréal", category=("Home", "Hair & Care"))
        assert found["hair care"].kind == "type"
        assert found["l'oreal"].kind == "brand"

    def test_queries_weigh_by_how_often_they_were_asked(self):
        phrases = {phrase.text: phrase for phrase in PhraseBuilder().phrases({"telly": 50, "tv": 90, "once": 1})}
        assert phrases["tv"].weight > phrases["telly"].weight
        assert {phrase.kind for phrase in phrases.values()} == {"query"}
        assert "once" not in phrases

    def test_memory_is_bounded(self, monkeypatch):
        monkeypatch.setattr("engine.suggestions.phrases._MOST_COUNTED", 50)
        found = built(*[f"common phrase number{n} word{n} other{n}" for n in range(100)])
        assert found["common phrase"].weight == pytest.approx(np.log(100))

    def test_the_likeliest_are_kept(self):
        builder = PhraseBuilder(msgspec.structs.replace(NUMBERS, most_phrases=2))
        for product in synthetic_products():
            builder.add(product)
        assert len(builder.phrases()) == 2


class TestQueries:
    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("log.tsv", "Red TV\t3\nfridge\n\nred  tv!\t2\n"),
            ("log.jsonl", "\n".join(json.dumps({"query": q, "products": []}) for q in ["Red TV"] * 5 + ["fridge"])),
        ],
    )
    @pytest.mark.parametrize("zipped", [False, True])
    def test_logs(self, tmp_path, name, content, zipped):
        path = tmp_path / (name + ".gz" * zipped)
        path.write_bytes(gzip.compress(content.encode()) if zipped else content.encode())
        assert read_queries(path) == {"red tv": 5, "fridge": 1}

    def test_what_may_be_personal_is_left_out(self, tmp_path):
        path = tmp_path / "log.tsv"
        path.write_text("ann@example.org\t9\ncall +44 20 7946 0958\t9\ntv 55\t9\n" + "x" * 90 + "\t9\n")
        assert read_queries(path) == {"tv 55": 9}

    @pytest.mark.parametrize(
        ("name", "content", "said"),
        [
            ("log.tsv", b"tv\t3\ntv\tmany\n", "line 2"), ("log.tsv", b"\xff\xfe\t1\n", "line 1"),
            ("log.jsonl", b'{"query": 3}\n', "line 1"), ("log.jsonl", b"[]\n", "line 1"),
        ],
    )  # fmt: skip
    def test_errors_name_the_line(self, tmp_path, name, content, said):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CatalogError, match=said):
            read_queries(tmp_path / name)

    def test_no_file(self, tmp_path):
        with pytest.raises(ConfigError, match="cannot read"):
            read_queries(tmp_path / "none.tsv")


class TestCompletion:
    @pytest.mark.parametrize(
        ("typed_", "first"),
        [
            ("sam", "samsung"), ("SAMSUNG GAL", "samsung galaxy s24"), ("door", "double door fridge"),
            ("galaxy s24", "galaxy s24 ultra"), ("galaxy s24 ", "galaxy s24 ultra"), ("cafe", "cafe creme"),
            ("café Cr", "cafe creme"), ("洗", "洗濯機"), ("4k", "4k tv"),
            ("samsung s24", "samsung galaxy s24"),  # another word stands between
            ("samsung fri", "samsung double door fridge"),
            ("red wash", "red washing machine"),  # the whole is in no phrase
        ],
    )  # fmt: skip
    def test_the_first(self, typed_, first):
        assert texts(completer().suggest(typed_))[0] == first

    @pytest.mark.parametrize(
        ("typed_", "first"),
        [
            ("smasung", "samsung"), ("samsng gal", "samsung galaxy s24"), ("galxy s2", "galaxy s24 ultra"),
            ("dubble door fr", "double door fridge"), ("asmsung", "samsung"), ("fridgge", "fridge"),
            ("wahsing mach", "washing machine"),
        ],
    )  # fmt: skip
    def test_slips(self, typed_, first):
        assert texts(completer().suggest(typed_))[0] == first

    def test_half_width_kana_are_full(self):
        assert texts(completer(["ドラム式 テレビ", "テレビ"]).suggest("ﾃﾚ"))[0] == "テレビ"

    def test_a_number_is_no_slip_of_another(self):
        assert texts(completer(["galaxy s24"]).suggest("s25")) == []

    def test_a_finished_word_is_not_gone_on_with(self):
        assert texts(completer(["tvs", "tv stand"]).suggest("tv ")) == ["tv stand"]

    def test_a_plural_is_no_suggestion_beside_its_singular(self):
        assert texts(completer().suggest("washing m")) == ["washing machine"]

    @pytest.mark.parametrize("nothing", ["", " ", "!?", "·", "word " * 40])
    def test_nothing_to_go_on_from(self, nothing):
        assert completer().suggest(nothing) == []

    def test_an_empty_catalog(self):
        assert Completer(Arranged.of([])).suggest("tv") == []

    def test_what_begins_so_is_what_reading_all_phrases_finds(self):
        rng = np.random.default_rng(1)
        words = [f"{a}{b}" for a in "abc" for b in "xyz"]
        phrases = sorted({" ".join(rng.choice(words, rng.integers(1, 4))) for _ in range(150)})
        weights = rng.permutation(len(phrases)).astype(float)
        made = completer(phrases, weights.tolist())
        of = dict(zip(phrases, weights, strict=True))
        for beginning in ("a", "ax", "ax b", "bz cy ", "c"):
            begin = [p for p in phrases if p.startswith(beginning)]
            inside = [p for p in phrases if f" {beginning}" in p and p not in begin]
            scored = {p: of[p] for p in begin} | {p: of[p] - NUMBERS.inside for p in inside}
            found = made.suggest(beginning, 5)
            assert texts(found)[: len(scored)] == sorted(scored, key=lambda p: (-scored[p], p))[:5][: len(found)]

    @given(st.text(max_size=60), st.integers(0, 12))
    @settings(max_examples=200, deadline=None)
    def test_whatever_is_typed(self, text, k):
        found = completer().suggest(text, k)
        assert len(found) <= k
        assert len(set(texts(found))) == len(found)
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)

    def test_many_unknown_words_are_bounded(self):
        readings = list(
            completer()._readings(["samsng", "galxy", "ultrra", "fridgee", "wahsing", "machin", "doubl", "dor", "tvv"])
        )
        assert len(readings) <= 6


class TestNearby:
    @pytest.mark.parametrize(("word", "other"), [("samsung", "samsng"), ("fridge", "firdge"), ("tv", "vt")])
    def test_words(self, word, other):
        near = NearbyWords(sorted([word, "zebra"]), [3, 1]).near(other)
        assert near == ([(word, 1)] if len(word) > 2 else [])

    def test_the_nearest_first_then_the_commonest(self):
        nearby = NearbyWords(["fridge", "fringe"], [1, 9])
        assert [word for word, _ in nearby.near("frinde")] == ["fringe", "fridge"]
        assert nearby.near_beginnings("frix")[0] == ("fri", 1)


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> SearchEngine:
    directory = tmp_path_factory.mktemp("suggest")
    (directory / "log.tsv").write_text("cheap phone\t40\nphone\t900\n")
    config = engine.EngineConfig(
        index=engine.IndexConfig(encoder="", reranker="", queries=str(directory / "log.tsv"))
    )  # fmt: skip
    return SearchEngine.build(synthetic_products(), directory / "index", config)


class TestIndex:
    def test_an_engine_suggests(self, shop):
        found = shop.suggest("che")
        assert [(one.text, one.kind) for one in found] == [("cheap phone", "query")]
        assert texts(shop.suggest("phone c"))[0] == "phone case"
        assert "2 of them queries" in shop.manifest.notes["suggest"]

    def test_bad_arguments(self, shop):
        for arguments in ((3,), ("tv", -1), ("tv", "many")):
            with pytest.raises(InvalidQueryError):
                shop.suggest(*arguments)
        assert texts(shop.suggest("phone\ud800 c"))[0] == "phone case"

    def test_threads_get_the_answers_of_one(self, shop):
        asked = ["ph", "acme ph", "phnoe", "globex tv 1", "refrig"] * 20
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(shop.suggest, asked)) == [shop.suggest(text) for text in asked]

    def test_what_is_written_is_read(self, tmp_path):
        phrases = [Phrase(key(text), "phrase", 1.5) for text in TEXTS]
        save_suggestions(tmp_path / SUGGESTIONS, Arranged.of(phrases))
        found = open_suggestions(tmp_path / SUGGESTIONS)
        assert len(found) == len(TEXTS)
        assert found.suggest("sam") == Completer(Arranged.of(phrases)).suggest("sam")

    def test_damage_and_absence(self, tmp_path):
        path = tmp_path / SUGGESTIONS
        with pytest.raises(IndexMismatchError, match="Build the index again"):
            open_suggestions(path)
        save_suggestions(path, Arranged.of([Phrase("tv", "type", 1.0)]))
        whole = path.read_bytes()
        for data in (b"", whole[:50], whole[:-30], b"PK" + whole[2:40]):
            path.write_bytes(data)
            with pytest.raises(IndexCorruptError):
                open_suggestions(path)
        arranged = Arranged.of([Phrase("tv", "type", 1.0)])
        for changed in (
            {"starts": np.array([[7, 0]])}, {"starts": np.array([[0, 3]])}, {"ends": np.array([1, 2])},
            {"having": np.array([-1])},
        ):  # fmt: skip
            fields = {name: getattr(arranged, name) for name in ("phrases", "starts", "words", "ends", "having")}
            save_suggestions(path, Arranged(**{**fields, **changed}))
            with pytest.raises(IndexCorruptError):
                open_suggestions(path)

    def test_the_command(self, shop):
        index = str(shop.version.parent.parent)
        result = CliRunner().invoke(app, ["suggest", index, "chep ph"])
        assert result.stdout == "cheap phone  (query)\n"
        data = json.loads(CliRunner().invoke(app, ["suggest", index, "che", "--json"]).stdout)
        assert data[0]["text"] == "cheap phone"
        assert "nothing to suggest" in CliRunner().invoke(app, ["suggest", index, "!!"]).stderr

    def test_build_with_a_log(self, tmp_path):
        rows = tmp_path / "shop.jsonl"
        rows.write_text('{"product_id": "1", "title": "fridge"}\n')
        (tmp_path / "log.tsv").write_text("cooler\tmany\n")
        arguments = ["build", str(rows), "--out", str(tmp_path / "index"), "--encoder", "none", "--queries"]
        result = CliRunner().invoke(app, [*arguments, str(tmp_path / "log.tsv")])
        assert result.exit_code == 2
        assert "line 1" in result.stderr
        assert not (tmp_path / "index").exists()
        (tmp_path / "log.tsv").write_text("cooler\t7\n")
        assert CliRunner().invoke(app, [*arguments, str(tmp_path / "log.tsv")]).exit_code == 0
        assert texts(SearchEngine.load(tmp_path / "index").suggest("coo")) == ["cooler"]


class TestBenchmark:
    def test_how_queries_are_typed(self):
        assert [typed("red tv", share) for share in (0.1, 0.5, 0.7, 1.0)] == ["r", "re", "red t", "red tv"]
        assert to_come("red tv stand", "red") == "red tv"
        assert to_come("red tv stand", "red t") == "red tv"
        assert to_come("red tv stand", "re") == "red"
        assert slipped("fridge", np.random.default_rng(1)) != "fridge"
        assert slipped("tv 55", np.random.default_rng(1)) == "tv 55"

    def test_a_system_that_knows_is_right_and_one_that_does_not_is_wrong(self):
        queries = ["red tv", "fridge"]
        known = measure(lambda text, k: queries, queries, 0.5, 1)
        assert known["whole"] == pytest.approx(0.75)
        assert measure(lambda text, k: ["zebra"], queries, 0.5, 1)["next"] == 0

    def test_aisle_is_better_than_a_plain_prefix_on_what_is_mistyped(self):
        phrases = sorted(
            (Phrase(key(text), "phrase", float(n)) for n, text in enumerate(TEXTS)), key=lambda phrase: -phrase.weight
        )
        rows = run(phrases, [key(text) for text in TEXTS], 1)

        def mean(system: str) -> float:
            return float(np.mean([row["whole"] for row in rows if row["system"] == system and row["slips"]]))

        assert mean("aisle") > mean("plain prefix") + 0.2
        assert PlainPrefix(phrases).suggest("samsung g", 5)[0].startswith("samsung g")
