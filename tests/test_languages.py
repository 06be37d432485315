"""Languages beside English: terms without spaces, what a query is read as, and what of it is told."""

from __future__ import annotations

import unicodedata

import pytest

import engine
from engine.analysis.analyzer import Analyzer, fold
from engine.errors import ConfigError
from engine.languages.detect import catalog_language, detect
from engine.languages.lexicon import Lexicon, lexicon
from engine.languages.translate import Translator
from engine.product import Product
from engine.understanding.constraints import parse
from engine.understanding.facts import CatalogFacts


@pytest.fixture(scope="module")
def translator() -> Translator:
    return Translator(lexicon(), lambda word: word in {"salon", "samsung"})


def test_kana_keep_their_voice_and_width_does_not_matter():
    assert fold("ﾊﾞｯｸﾞ") == fold("バッグ") == "バッグ" != fold("ハック")
    assert fold("Ｓ２３") == "S23"
    assert fold("한국") == "한국"


@pytest.mark.parametrize("text", ["café à la carte", "Ø 5 mm naïve", "Größe ½ Zoll", "Москва"])
def test_other_scripts_fold_as_accents_off_alone(text):
    decomposed = unicodedata.normalize("NFKD", text)
    assert fold(text) == "".join(c for c in decomposed if not unicodedata.combining(c))


@pytest.mark.parametrize(
    ("query", "title", "shared"),
    [
        ("洗濯機", "ドラム式洗濯機 11kg", {"洗濯", "濯機"}),
        ("ﾄﾞﾗﾑ", "ドラム式洗濯機 11kg", {"ドラム"}),
        ("パソコン", "ノートパソコン", {"パソ", "ソコ", "コン"}),
        ("靴", "靴", {"靴"}),
        ("SM-S938Bのケース", "Galaxy ケース (SM-S938B)", {"sms938b", "ケース"}),
    ],
)
def test_terms_without_spaces(query, title, shared):
    analyzer = Analyzer("japanese")
    assert shared <= set(analyzer.terms(query)) & set(analyzer.terms(title))


def test_stems_are_those_of_the_language():
    assert Analyzer("spanish").terms("Lavadoras") == Analyzer("spanish").terms("lavadora")
    assert Analyzer("japanese").terms("phones") == Analyzer("english").terms("phone")
    with pytest.raises(ConfigError, match="klingon"):
        Analyzer("klingon")


@pytest.mark.parametrize(
    ("text", "language"),
    [("冷蔵庫 大きめ", "ja"), ("lavadora samsung 8 kg", "es"), ("¿qué cámara?", "es"), ("55 inch tv", "en"),
     ("phone cases", "en"), ("pendrive for phone", "en"), ("televisión 4k", "es"),
     ("samsung de luxe tv", "en"), ("", "en"), ("salon", "en")],
)  # fmt: skip
def test_languages_are_told_apart(text, language):
    assert detect(text, lexicon(), lambda word: word == "salon") == language


@pytest.mark.parametrize(
    ("query", "english"),
    [
        ("三星のﾃﾚﾋﾞ", "samsung television"),
        ("1万5千ルピー以下の青いスマホ", "blue smartphone under 15000 rupees"),
        ("フレンチドアではない冷蔵庫", "refrigerator not french door"),
        ("galaxy s24より安いスマホ", "smartphone cheaper than galaxy s24"),
        ("secadoras de menos de 70.000 rupias", "dryer under 70000 rupees"),
        ("aire acondicionado 1.5 toneladas", "air conditioner 1.5 ton"),
        ("frigorífico side by side", "refrigerator side by side"),
        ("Cámara roja sin lápiz", "camera red without pen"),
        ("abcdef へのギフト", "abcdef gift"),
    ],
)
def test_queries_are_read_in_english(translator, query, english):
    found = translator.read(query)
    assert found is not None
    assert found.text == english


@pytest.mark.parametrize("query", ["red salon chair", "washing machine under 30k", "トトトロ", "", "¥€"])
def test_what_is_english_or_unknown_is_left_alone(translator, query):
    assert translator.read(query) is None


def test_a_country_has_words_of_its_own(translator):
    assert translator.read("pants", "en-GB").translations[0].english == "underwear"
    assert translator.read("pants", "en_US").translations[0].english == "trousers"
    assert translator.read("pants") is None
    assert translator.read("pants", "en-XX") is None


def test_a_shops_file_wins_and_a_bad_line_is_named(tmp_path):
    file = tmp_path / "own.tsv"
    file.write_text("ja\t冷蔵庫\tice box\n", encoding="utf-8")
    assert Translator(lexicon(str(file)), lambda word: False).read("冷蔵庫").text == "ice box"
    file.write_text("ja\t冷蔵庫\tfridge\nfr lave-linge\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"own\.tsv, line 2"):
        lexicon.__wrapped__(str(file))
    file.write_text("xx\ta\tb\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="language is 'xx'"):
        lexicon.__wrapped__(str(file))


def test_an_empty_lexicon_reads_nothing():
    assert Translator(Lexicon([]), lambda word: False).read("冷蔵庫 y lavadora") is None


@pytest.mark.parametrize(
    ("titles", "locale", "language"),
    [
        (["ドラム式の洗濯機", "冷蔵庫のフィルター"], "", "japanese"),
        (["Lavadora con carga frontal para la ropa", "Funda del móvil y los cables"], "", "spanish"),
        (["A phone for the office", "Case of leather"], "", "english"),
        (["A phone", "Case"], "es-MX", "spanish"),
        (["A phone", "Case"], "tlh", "english"),
    ],
)
def test_a_catalogs_language(titles, locale, language):
    products = [Product(product_id=str(i), title=title, locale=locale) for i, title in enumerate(titles)]
    assert catalog_language(products) == language


def test_yen_are_no_rupees():
    facts = CatalogFacts(currency="INR")
    (found,) = parse("phone under ¥50,000", facts)
    assert found.kind == "price"
    assert found.filter is None


@pytest.mark.parametrize(
    ("query", "category", "note"),
    [
        ("サムスン 冷蔵庫", "Refrigerators", "冷蔵庫 → refrigerator (ja)"),
        ("ｻﾑｽﾝの曲面モニター", "Monitors", "曲面モニター → curved monitor (ja)"),
        ("lavadora silenciosa", "Washing Machines", "lavadora → washing machine (es)"),
        ("auriculares inalámbricos blancos", "Earbuds", "blancos → white (es)"),
    ],
)
def test_other_languages_find_the_type_and_say_why(sample: engine.SearchEngine, query, category, note):
    result = sample.search(query, 3)
    assert [category in hit.product.category for hit in result.hits] == [True] * 3
    assert result.route is not None
    assert note in result.route.notes


def test_an_unknown_locale_is_told_and_breaks_nothing(sample: engine.SearchEngine):
    plain, told = sample.search("fridge", 5), sample.search("fridge", 5, locale="tlh-KX")
    assert [hit.product.product_id for hit in plain.hits] == [hit.product.product_id for hit in told.hits]
    assert any("'tlh-KX' is not known" in stage.note for stage in told.stages)


def test_words_that_nobody_knows_are_told_as_missing(sample: engine.SearchEngine):
    result = sample.search("ウニ軍艦", 3)
    assert result.route is not None
    assert result.route.action == "none"
    assert "ウニ軍艦" in result.route.nearest


def test_a_catalog_in_japanese_is_searched_in_its_own_words(tmp_path):
    titles = ("ドラム式洗濯機 11kg ホワイト", "冷蔵庫 両開き 400L", "ノートパソコン 14インチ")
    products = [Product(product_id=str(i), title=title) for i, title in enumerate(titles)]
    config = engine.EngineConfig(index=engine.IndexConfig(encoder="", reranker="", router=""))
    shop = engine.SearchEngine.build(products, tmp_path / "shop", config)
    assert shop.manifest.config.language == "japanese"
    for query, place in (("洗濯機", 0), ("ﾄﾞﾗﾑ式", 0), ("両開きの冷蔵庫", 1), ("パソコン", 2)):
        assert shop.search(query, 1).hits[0].product.product_id == str(place)
