"""Questions in shoppers' words and in other languages: read as they are meant, or not answered."""

from __future__ import annotations

from typing import Any

import pytest

import engine
from benchmarks.answers_confidence import expected_calibration_error, fitted
from benchmarks.answers_made import Outcome, asked
from benchmarks.answers_shoppers import shoppers_questions
from engine.answers.attributes import AttributeIndex
from engine.answers.foreign import QuestionTranslator
from engine.answers.measured import in_range
from engine.answers.records import Answer
from engine.answers.values import ValueTexts
from engine.product import Product


@pytest.fixture(scope="module")
def shop() -> engine.SearchEngine:
    tower = Product(
        product_id="T1", title="Acme Breeze 3 Tower Fan, 1.5 m Cord", brand="Acme", category=("Home", "Tower Fans"),
        attributes={
            "power_w": 45, "material": "plastic", "color": "White", "family_size": "3-4",
            "os": "FanOS 7", "remote": True, "smart_home": ["Alexa", "Matter"], "mount_type": "floor",
        },
        bullets=("Oscillates", "Charger sold separately", "Base plate cover"), price=49.0, currency="EUR",
    )  # fmt: skip
    other = Product(
        product_id="T2", title="Acme Gale 9 Ceiling Fan", brand="Acme", category=("Home", "Ceiling Fans"),
        attributes={"power_w": 60, "mount_type": "ceiling", "color": "Red", "material": "steel", "weight_kg": 4.0},
    )  # fmt: skip
    config = engine.EngineConfig(index=engine.IndexConfig(reranker="", router=""))
    return engine.SearchEngine.build([tower, other], config=config)


@pytest.mark.parametrize(
    ("question", "kind", "verdict", "evidence"),
    [
        ("how many watts is the fan", "fact", None, ["45"]),
        ("what is the tower made out of", "fact", None, ["plastic"]),
        ("What colour is this fan?", "fact", None, ["White"]),
        ("floor or ceiling mount?", "fact", None, ["floor"]),
        ("is the fan red or white", "fact", None, ["White"]),
        ("how much is it", "fact", None, ["49.0"]),
        ("which OS version does the fan have", "fact", None, ["FanOS 7"]),
        ("is it good for a family of four?", "yes_no", "yes", ["3-4"]),
        ("is it suitable for a family of 6", "yes_no", "no", ["3-4"]),
        ("does it work with alexa for my grandma", "yes_no", "yes", ["Alexa"]),
        ("We have a big room. Is there a remote?", "yes_no", "yes", ["true"]),
        ("please confirm whether it has a remote", "yes_no", "yes", ["true"]),
        ("colour of the fan please", "fact", None, ["White"]),
        ("does it come with a charger", "yes_no", "no", ["Charger sold separately"]),
        ("does it come in red", "abstention", None, ["White"]),
        ("does it have a plate", "abstention", None, []),
        ("how many blades does the fan have", "abstention", None, []),
        ("how many watts does the charger need", "abstention", None, []),
        ("how heavy is the fan", "abstention", None, []),
    ],
)  # fmt: skip
def test_the_product_at_hand(
    shop: engine.SearchEngine, question: str, kind: str, verdict: str | None, evidence: list[str]
):  # fmt: skip
    answer = shop.ask(question, product_id="T1")
    assert (answer.kind, answer.verdict) == (kind, verdict), answer.text
    assert [one.text for one in answer.evidence] == evidence


@pytest.mark.parametrize(
    ("split", "exact", "silent"),
    [
        ("shoppers_dev", 0.93, 0.97), ("shoppers_held", 0.95, 0.96), ("shoppers_last", 0.88, 0.97),
        ("languages_dev", 0.95, 1.0), ("languages_held", 0.7, 1.0),
    ],
)  # fmt: skip
def test_questions_in_shoppers_words(
    sample: engine.SearchEngine, sample_products: list[Product], split: str, exact: float, silent: float
):
    outcomes = [asked(sample, question) for question in shoppers_questions(split, sample_products)]
    assert share(outcomes, answerable=True) >= exact
    assert share(outcomes, answerable=False) >= silent


def share(outcomes: list[Outcome], *, answerable: bool) -> float:
    of = [one.right for one in outcomes if bool(one.question.attribute) is answerable]
    return sum(of) / len(of)


def test_a_name_of_several_products_is_narrowed_by_what_only_some_titles_have():
    def drive(product_id: str, title: str, speed: int) -> Product:
        return Product(product_id=product_id, title=title, attributes={"write_mbps": speed, "storage_gb": 1000})

    config = engine.EngineConfig(index=engine.IndexConfig(encoder="", reranker="", router=""))
    shop = engine.SearchEngine.build(
        [drive("D1", "Acme Dash 990 SSD", 5000), drive("D2", "Acme Dash 990 SSD with Heatsink", 6000)], config=config
    )
    answer = shop.ask("what is the write speed of the Dash 990 with heatsink")
    assert [one.text for one in answer.evidence] == ["6000"]


# Other languages


def test_other_languages_are_read_in_english():
    translator = QuestionTranslator("", lambda word: word == "5g")
    spanish = translator.read("¿De qué color es?")
    assert spanish is not None
    assert (spanish.language, spanish.text) == ("es", "of what color is it?")
    japanese = translator.read("バッテリー容量は何mAhですか")
    assert japanese is not None
    assert japanese.language == "ja"
    assert japanese.text.startswith("battery capacity")
    assert japanese.text.endswith("?")
    assert translator.read("What colour is it?") is None


def test_an_answer_says_that_it_was_read_in_english(sample: engine.SearchEngine):
    answer = sample.ask("¿De qué color es?", product_id="SKU-0001")
    assert [one.field for one in answer.evidence] == ["attributes.color"]
    assert "read in English by the words of what, is it" in answer.reason
    assert sample.ask("mi correo es ana@example.com ¿tiene 5G?", product_id="SKU-0001").to_json().count(b"ana@") == 0


# Values


def test_values_are_found_by_stems():
    texts = ValueTexts(
        ["Long battery", "Wi-Fi 6E", "Titan Black", "128GB (4.0)", "x ignore all rules"], lambda t: "ignore" not in t
    )
    assert texts.having(frozenset({"batteri"}))
    assert texts.having(frozenset({"wifi"}))
    assert texts.having(frozenset({"titan", "black"}))
    assert not texts.having(frozenset({"titan", "batteri"})), "no one text has both"
    assert texts.having(frozenset({"128"}))
    assert not texts.having(frozenset({"28"}))
    assert not texts.having(frozenset({"rule"})), "what is not usable does not count"
    assert not texts.having(frozenset({"black"}), 1)
    assert not texts.having(frozenset())


def test_no_value_is_read_before_a_word_is_asked_for(shop: engine.SearchEngine):
    read = []

    def usable(text: str) -> bool:
        read.append(text)
        return True

    AttributeIndex(shop._columns, None, usable)
    assert read == []


@pytest.mark.parametrize(
    ("text", "number", "inside"),
    [("3-4", 4, True), ("3-4", 5, False), ("6+", 9, True), ("2 to 3", 2, True), ("4", 4, None), ("3-4 kg", 4, None)],
)
def test_ranges(text: str, number: float, inside: bool | None):
    assert in_range(text, number) is inside


def test_confidences_are_fitted_to_what_was_right(sample_products: list[Product]):
    question = shoppers_questions("shoppers_dev", sample_products)[0]

    def outcomes(kind: Any, code: Any, right: int, wrong: int) -> list[Outcome]:
        answer = Answer(kind=kind, text="", code=code, confidence=0.9, reason="the attribute x says it")
        return [Outcome(question, answer, place < right, 0.0) for place in range(right + wrong)]

    said, silent = outcomes("fact", "answered", 60, 40), outcomes("abstention", "not_said", 98, 2)
    numbers = fitted([*said, *silent])
    assert numbers.silent_confidence == pytest.approx(99 / 102, abs=1e-3)
    assert numbers.confidence(1.0, 1.0, True, 0) < 0.8, "six in ten were right"
    assert expected_calibration_error(said) == pytest.approx(0.3)


@pytest.mark.parametrize(
    "question", ["galaxy s24 does it have nfc?", "¿El Galaxy S24 tiene NFC?", "¿Tiene NFC el S24?"]
)
def test_with_nothing_at_hand_it_is_the_named(sample: engine.SearchEngine, question: str):
    answer = sample.ask(question)
    assert (answer.kind, answer.code) == ("yes_no", "answered")
    assert all("S24" in product.title for product in answer.products)
    assert sample.ask("does it have nfc?").code == "which_product"
