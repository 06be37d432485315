"""Constraints in plain words, against small catalogs made by rule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.catalog import read_catalog
from engine.columns import Columns
from engine.errors import ConfigError
from engine.filters import In, Range
from engine.product import Product
from engine.understanding.constraints import parse
from engine.understanding.facts import CatalogFacts
from engine.understanding.quantities import quantities
from engine.understanding.spelling import SpellingModel
from engine.understanding.synonyms import Synonyms
from engine.understanding.understand import STEPS, QueryUnderstanding
from tests.conftest import SAMPLE


def _columns(directory, products):
    directory.mkdir(exist_ok=True)
    list(Columns.build(directory, products))
    return Columns.open(directory)


_BRANDS = ("Sony", "LG", "Black & Decker")
_COLORS = ("Titanium Black", "Red", "Light Grey", "Black", "Sky Blue/Red", "Grey")
_SIZES = ((54.6, 128), (55, 256), (65, 512), (15.6, 8), (32, 1024), (6.7, 64))
_FRIDGES = ((180, "1-2"), (253, "3-4"), (324, "4-5"), (500, "6+"), (650, "6+"))


def _electronics():
    for i, (inches, gb) in enumerate(_SIZES * 2):
        attributes = {"screen_size_in": inches, "storage_gb": gb, "ram_gb": 8 if i % 2 else 12, "cover_screen_in": 3.4}
        yield Product(
            product_id=f"tv-{i}", title="television", brand=_BRANDS[i % 3], price=20_000.0 + 5000 * i, currency="INR",
            rating=3 + i % 3 * 0.5, category=("Home", "Apple Corers" if i else "Televisions"),
            attributes=attributes | {"color": _COLORS[i % 6], "hdmi_in": 4},
        )  # fmt: skip
    for i, (litres, people) in enumerate(_FRIDGES):
        yield Product(
            product_id=f"fridge-{i}", title="fridge", brand="Apple", price=15_000.0, currency="INR",
            attributes={"capacity_l": litres, "energy_rating_stars": 1 + i, "family_size": people},
        )  # fmt: skip


@pytest.fixture(scope="module")
def columns(tmp_path_factory):
    return _columns(tmp_path_factory.mktemp("columns") / "c", _electronics())


@pytest.fixture(scope="module")
def facts(columns):
    return CatalogFacts.from_columns(columns)


@pytest.mark.parametrize(
    ("query", "low", "high", "sure"),
    [
        ("tv under 60k", None, 60_000, True),
        ("tv below ₹50,000", None, 50_000, True),
        ("tv below rs. 1,50,000", None, 150_000, True),
        ("less than 40000 rupees tv", None, 40_000, True),
        ("tv upto 30 thousand", None, 30_000, True),
        ("tv within 1.5 lakh", None, 150_000, True),
        ("tv above 20000", 20_000, None, True),
        ("tv between 30000 and 50000", 30_000, 50_000, True),
        ("tv from 30k to 50k", 30_000, 50_000, True),
        ("tv 30-50k", 30_000, 50_000, True),
        ("tv ₹30000 - ₹50000", 30_000, 50_000, True),
        ("tv around 20000", 17_000, 23_000, True),
        ("tv not more than 45k", None, 45_000, True),
        ("tv under 45000 not foldable", None, 45_000, True),
        ("tv rs 50000", None, 50_000, False),  # a price alone is a budget
        ("tv over 20000 pixels", 20_000, None, False),  # perhaps a number of something
    ],
)
def test_prices(facts, query, low, high, sure):
    (found,) = parse(query, facts)
    assert (found.kind, found.filter, found.sure) == ("price", Range("price", low, high), sure)


@pytest.mark.parametrize(
    "query",
    [
        "iphone 15", "s23 ultra", "galaxy s 23", "4x8 sheet", "4 x 8 ft sheet", "3 in 1 charger", "2 in 1", "4k tv",
        "tv 5g", "no 8 screw", "1/2 inch", "12-3 wire", "model tn-2110 toner", "under 3 sinks", "65 in all", "ps5",
        "at least 4 ports", "over the range", "", "₹", "under", "between 5 and",
    ],
)  # fmt: skip
def test_names_and_sayings_are_no_constraints(facts, query):
    assert parse(query, facts) == ()


@pytest.mark.parametrize(
    ("query", "field", "low", "high"),
    [
        ("55 inch tv", "screen_size_in", 54.5, 55.9),
        ('55" tv', "screen_size_in", 54.5, 55.9),
        ("15.6-inch laptop", "screen_size_in", 15.54, 15.66),
        ("tv over 50 inches", "screen_size_in", 50, None),
        ("tv 50 to 60 inch", "screen_size_in", 50, 60),
        ("65 in tv", "screen_size_in", 64.5, 65.9),
        ("139 cm tv", "screen_size_in", 54.18, 55.27),
        ("256gb", "storage_gb", 256, 256),
        ("8gb ram", "ram_gb", 8, 8),
        ("ram 8 gb", "ram_gb", 8, 8),
        ("1 tb", "storage_gb", 1000, 1024),
        ("128 gb or more", "storage_gb", 128, None),
        ("3.4 inch cover", "cover_screen_in", 3.34, 3.46),
        ("500 litre fridge", "capacity_l", 475, 525),
        ("5 star fridge", "energy_rating_stars", 5, 5),
        ("4+ star fridge", "rating", 4, None),
        ("4 stars and up", "rating", 4, None),
    ],
)
def test_measures_find_their_field(facts, columns, query, field, low, high):
    (found,) = [c for c in parse(query, facts) if c.kind in ("measure", "rating")]
    assert found.filter.field == field
    assert found.filter.at_least == pytest.approx(low, abs=0.01)
    assert found.filter.at_most == pytest.approx(high, abs=0.01)
    columns.mask([found.filter])


@pytest.mark.parametrize(("query", "beyond"), [("tv more than 55 inches", True), ("tv not less than 55 inches", False)])
def test_more_than_leaves_the_number_out(facts, query, beyond):
    (found,) = (c for c in parse(query, facts) if c.kind == "measure")
    assert (found.filter.at_least > 55) == beyond == ("> 55" in found.reason)
    assert found.filter.at_least < 55.01


def test_a_measure_no_product_has_is_named_and_filters_nothing(facts):
    (found,) = parse("85 inch tv", facts)
    assert found.filter is None
    assert not found.sure
    assert "no product" in found.reason


@pytest.mark.parametrize(
    ("query", "least", "most"),
    [("fridge for family of 4", 230, 450), ("fridge for 2 people", 150, 300), ("six person fridge", 350, 650)],
)
def test_households_become_capacities_where_the_catalog_has_them(facts, query, least, most):
    size, capacity = sorted(parse(query, facts), key=lambda c: c.field != "family_size")
    assert capacity.filter == Range("capacity_l", least, most)
    assert isinstance(size.filter, In)
    assert parse(query, CatalogFacts()) == ()


def test_a_family_size_takes_every_value_that_includes_it(facts):
    found = [c for c in parse("for family of 4", facts) if c.field == "family_size"]
    assert set(found[0].filter.values) == {"3-4", "4-5"}


@pytest.mark.parametrize(
    ("query", "kind", "values", "sure"),
    [
        ("black tv", "color", {"Titanium Black", "Black"}, True),
        ("gray tv", "color", {"Light Grey", "Grey"}, True),
        ("red tv", "color", {"Red", "Sky Blue/Red"}, True),
        ("SONY tv", "brand", {"Sony"}, True),
        ("apple fridge", "brand", {"Apple"}, False),  # apples are a category there, too
        ("lg fridge", "brand", {"LG"}, True),
        ("black and decker", "brand", {"Black & Decker"}, True),
        ("black decker", "brand", {"Black & Decker"}, True),
    ],
)
def test_names_come_from_the_catalog(facts, query, kind, values, sure):
    found = [c for c in parse(query, facts) if c.kind == kind]
    assert [(set(c.filter.values), c.sure) for c in found] == [(values, sure)]


def test_a_brand_is_no_colour_inside(facts):
    assert [c.kind for c in parse("black and decker", facts)] == ["brand"]
    assert parse("titanium light sky", facts) == ()  # never a colour by themselves
    assert parse("purple samsung", facts) == ()  # the catalog has neither


def test_what_the_catalog_cannot_answer_is_said(facts):
    (dollars,) = parse("tv under $300", facts)
    assert dollars.filter is None
    assert "INR" in dollars.reason
    (unpriced,) = parse("tv under $300", CatalogFacts())
    assert unpriced.filter is None
    assert "no prices" in unpriced.reason


def test_in_before_a_colour_is_no_unit(facts):
    assert [(c.kind, c.field) for c in parse("tv 65 in black", facts)] == [("color", "color")]


def test_text_measures_are_read(tmp_path):
    sizes = ["55 in", "55 inches", "65 in", "32-inch"]
    products = [Product(product_id=str(i), title="tv", attributes={"Diagonal size": s}) for i, s in enumerate(sizes)]
    columns = _columns(tmp_path, products)
    (found,) = parse("55 inch tv", CatalogFacts.from_columns(columns))
    assert columns.mask([found.filter]).tolist() == [True, True, False, False]


@settings(max_examples=50)
@given(st.text(max_size=60) | st.text('0123456789., -₹$k"inchgbtostarunder+x/', max_size=40))
def test_any_text_parses_to_filters_the_catalog_has(facts, columns, text):
    for found in parse(text, facts):
        assert 0 <= found.start < found.end <= len(text)
        assert found.text == text[found.start : found.end]
        if found.filter is not None:
            assert columns.mask([found.filter]).shape == (len(columns),)


@settings(max_examples=50)
@given(st.floats(1, 1e6).map(lambda x: round(x, 1)))
def test_a_number_is_read_as_it_is_written(number):
    for text in (f"under {number:,} kg", f"under {number} kg"):
        (found,) = quantities(text)
        assert found.high == pytest.approx(number)


def test_the_sample_catalogs_constraints_hold(tmp_path):
    columns = _columns(tmp_path, read_catalog(SAMPLE / "corpus.jsonl"))
    found = parse("55 inch 4k tv under 60k", CatalogFacts.from_columns(columns))
    rows = np.flatnonzero(columns.mask([c.filter for c in found]))
    assert 0 < len(rows) < 20
    assert np.all(columns.numbers("price")[rows] <= 60_000)
    assert np.all(np.round(columns.numbers("attributes.screen_size_in")[rows]) == 55)


@pytest.fixture(scope="module")
def understanding(facts, tmp_path_factory):
    path = tmp_path_factory.mktemp("synonyms") / "synonyms.txt"
    path.write_text("telly => tv\n", encoding="utf-8")
    return facts, SpellingModel.build(_electronics()), Synonyms.read(path)


def test_every_step_says_what_it_did(understanding):
    found = QueryUnderstanding(*understanding).understand("televison or telly without stand under 60k")
    assert [(note.step, note.text) for note in found.notes] == [
        ("spelling", "televison → television (spelling)"),
        ("negation", "without stand → not stand"),
        ("constraints", "under 60k → price ≤ 60000"),
        ("synonyms", "telly → also tv"),
    ]
    assert found.query == "televison or telly without stand under 60k"
    assert found.corrected == "television or telly without stand under 60k"
    assert all(found.corrected[c.start : c.end] == c.text for c in (*found.constraints, *found.excluded))


@pytest.mark.parametrize("off", STEPS)
def test_a_step_switched_off_does_nothing_and_the_others_the_same(understanding, off):
    query = "televison or telly without stand under 60k"
    steps = [step for step in STEPS if step != off]
    found = QueryUnderstanding(*understanding, steps).understand(query)
    whole = QueryUnderstanding(*understanding).understand(query)
    assert [note for note in whole.notes if note.step != off] == list(found.notes)


@settings(max_examples=50)
@given(st.text(max_size=80))
def test_without_steps_a_query_is_its_words(text):
    found = QueryUnderstanding(steps=()).understand(text)
    assert (found.corrected, found.notes, found.constraints, found.excluded) == (text, (), (), ())


@settings(max_examples=50)
@given(st.text(max_size=80))
def test_any_text_is_understood(understanding, text):
    found = QueryUnderstanding(*understanding).understand(text)
    assert found.query == text
    assert all(expansion.end <= len(found.words) for expansion in found.synonyms)


def test_what_is_excluded_is_no_constraint(understanding):
    assert QueryUnderstanding(*understanding).understand("tv not black").constraints == ()


def test_an_unknown_step_is_refused():
    with pytest.raises(ConfigError, match="'speling'; the steps are languages"):
        QueryUnderstanding(steps=["speling"])


def test_a_budget_beside_a_measure_is_no_limit(facts):
    [found] = parse("budget 55 inch tv", facts)
    assert found.filter == Range("screen_size_in", 54.5, 55.9)


@pytest.mark.parametrize("words", ["longer than", "taller than", "wider than"])
def test_comparatives_of_size_limit_a_measure(facts, words):
    [found] = parse(f"tv {words} 55 inches", facts)
    assert isinstance(found.filter, Range)
    assert found.filter.at_least == pytest.approx(55, abs=0.01)
    assert found.filter.at_most is None
