"""Spelling against a catalog's own words, on a small hardware shop made by rule."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import IndexCorruptError
from engine.product import Product
from engine.understanding.edits import EditCosts, edit_cost
from engine.understanding.language import LanguageModel
from engine.understanding.nearest import NearestWords
from engine.understanding.spelling import SpellingModel
from engine.understanding.words import surface_words

_KINDS = ("kitchen faucet", "ceiling fan", "door lock", "toilet seat", "water heater", "wall tube", "extension cord")
_FINISHES = ("brushed nickel", "oil rubbed bronze", "stainless steel", "galvanized", "white", "brass")
_BRANDS = ("Moen", "Kohler", "Rigid", "Char-Broil")


def _shop() -> list[Product]:
    products = [
        Product(product_id=str(size), title=f"{brand} {size} in. {finish.title()} {kind.title()}", brand=brand)
        for size, (kind, finish, brand) in enumerate(itertools.product(_KINDS, _FINISHES, _BRANDS))
    ]  # fmt: skip
    return [*products, Product(product_id="code", title="Samsung Toner MLT-D206L for ML printers", brand="Samsung")]


@pytest.fixture(scope="module")
def shop() -> SpellingModel:
    return SpellingModel.build(_shop())


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("kohlr toilet seat", "kohler toilet seat"),
        ("celing fan", "ceiling fan"),
        ("stainles steel faucet", "stainless steel faucet"),
        ("toilte seat", "toilet seat"),  # neighbours in the wrong order
        ("extention cord", "extension cord"),
        ("galvinized tube", "galvanized tube"),
        ("18inchbrasswalltube", "18inchbrasswalltube"),  # one run with a number: left to analysis
        ("brasswalltube", "brass wall tube"),
        ("walltube18 inch", "wall tube 18 inch"),
        ("faucit, WHITE", "faucet, WHITE"),  # punctuation and case stay
        ("kitchin   faucet", "kitchen   faucet"),
        ("celing fans", "ceiling fans"),  # a plural the shop never writes is a word
    ],
)
def test_corrects(shop, typed, meant):
    assert shop.correct(typed).text == meant


@pytest.mark.parametrize(
    "query",
    [
        "rigid ceiling fan",  # a brand, near "ridged" or not
        "char-broil heater", "charbroil heater",
        "mlt-d206l", "mlt d206x", "mltd-206", "kohlr5 seat", "fan55q",  # codes the catalog has or could have
        "ceiling fans", "faucets", "heaters without cord",
        "gift for my wife", "something my sister needs", "heater for mum",  # everyday words that the shop lacks
        "tvs", "ssds",
        "zwilling",  # nothing known is near
        "55 inch", "4x8", "1/2 in.",
        "under 60k", "for family of 4", "without buckle",  # what constraints and negations are read from
        "", "   ", "!!", "ñandú 東京 🙂",
    ],
)  # fmt: skip
def test_leaves_alone(shop, query):
    found = shop.correct(query)
    assert (found.text, found.changes) == (query, ())


def test_a_word_to_keep_is_kept(shop):
    assert shop.correct("faset").text != "faset"
    assert shop.correct("faset", keep={"faset"}).text == "faset"


def test_context_decides_between_equally_near_words():
    phrases = ["cat food"] * 20 + ["car seat"] * 20
    model = SpellingModel.build(Product(product_id=str(i), title=title) for i, title in enumerate(phrases))
    assert model.correct("cax food").text == "cat food"
    assert model.correct("cax seat").text == "car seat"


def test_a_frequent_words_rare_slip_in_the_catalog_is_still_a_slip():
    titles = ["fluorescent lamp"] * 400 + ["flourescent lamp"]
    model = SpellingModel.build(Product(product_id=str(i), title=title) for i, title in enumerate(titles))
    assert model.correct("flourescent lamp").text == "fluorescent lamp"


def test_changes_say_where_and_why(shop):
    query = "Galvinized walltube"
    found = shop.correct(query)
    assert [(c.original, c.replacement, c.reason) for c in found.changes] == [
        ("Galvinized", "galvanized", "spelling"),
        ("walltube", "wall tube", "space left out"),
    ]
    assert all(query[c.start : c.end] == c.original for c in found.changes)


@settings(max_examples=60)
@given(st.text(max_size=80) | st.text("abcdeiklnorst 0123-/'", max_size=60))
def test_any_text_is_corrected_by_its_changes_alone(shop, text):
    found = shop.correct(text)
    rebuilt, end = "", 0
    for change in found.changes:
        assert end <= change.start < change.end <= len(text)
        rebuilt += text[end : change.start] + change.replacement
        end = change.end
    assert rebuilt + text[end:] == found.text


@settings(max_examples=40)
@given(st.sampled_from([*_KINDS, *_FINISHES]), st.sampled_from([*_KINDS, *_FINISHES]))
def test_the_shops_own_words_are_right(shop, left, right):
    assert shop.correct(f"{left} {right}").text == f"{left} {right}"


def test_saved_and_loaded_is_the_same(shop, tmp_path):
    shop.save(tmp_path / "spelling.npz")
    loaded = SpellingModel.load(tmp_path / "spelling.npz")
    for query in ("kohlr toilte seat", "brasswalltube", "rigid", "celing fans"):
        assert loaded.correct(query) == shop.correct(query)


def test_an_empty_catalog_corrects_nothing(tmp_path):
    SpellingModel.build([]).save(tmp_path / "spelling.npz")
    assert SpellingModel.load(tmp_path / "spelling.npz").correct("anything 5").changes == ()


def _rewritten(path, **arrays):
    with np.load(path) as file:
        data = dict(file) | arrays
    buffer = io.BytesIO()
    np.savez(buffer, **data)
    path.write_bytes(buffer.getvalue())


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"not a zip"),
        lambda path: path.write_bytes(path.read_bytes()[:-200]),
        lambda path: _rewritten(path, format=np.array([99])),
        lambda path: _rewritten(path, counts=np.array([1, 2])),
        lambda path: _rewritten(path, pair_keys=np.array([-5])),
        lambda path: _rewritten(path, words=np.array([255, 254], np.uint8)),
        lambda path: _rewritten(path, words=np.array([object()])),  # would need pickle
    ],
)
def test_a_damaged_file_is_refused(shop, tmp_path, damage):
    path = tmp_path / "spelling.npz"
    shop.save(path)
    damage(path)
    with pytest.raises(IndexCorruptError, match=r"spelling\.npz"):
        SpellingModel.load(path)


_WORDS = st.text("abcs", min_size=1, max_size=7)


@settings(max_examples=40)
@given(_WORDS, st.sets(_WORDS, max_size=12), st.integers(1, 3))
def test_nearest_words_are_those_a_full_search_finds(word, words, reach):
    known = sorted(words)
    expected = {(i, d) for i, other in enumerate(known) if 0 < (d := _osa(word, other)) <= reach}
    assert set(NearestWords(known).within(word, reach)) == expected


def _osa(a: str, b: str) -> int:
    """Optimal string alignment by its definition."""
    cells = {(i, 0): i for i in range(len(a) + 1)} | {(0, j): j for j in range(len(b) + 1)}
    for i, j in itertools.product(range(1, len(a) + 1), range(1, len(b) + 1)):
        cells[i, j] = min(cells[i - 1, j] + 1, cells[i, j - 1] + 1, cells[i - 1, j - 1] + (a[i - 1] != b[j - 1]))
        if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
            cells[i, j] = min(cells[i, j], cells[i - 2, j - 2] + 1)
    return cells[len(a), len(b)]


_EQUAL = EditCosts(
    **dict.fromkeys(("double", "vowel", "key", "sound", "swap", "drop", "add", "replace"), 1.0), first=0, end=0
)


@given(_WORDS, _WORDS)
def test_with_equal_costs_an_edit_costs_its_distance(typed, meant):
    assert edit_cost(typed, meant, _EQUAL) == _osa(typed, meant)


@pytest.mark.parametrize(
    ("typed", "likelier", "than"),
    [
        ("faucett", "faucet", "faucetta"),  # a doubled letter
        ("tolet", "toilet", "tablet"),
        ("sunk", "sink", "suck"),  # a vowel for a vowel
        ("recieve", "receive", "relieve"),  # neighbours in the wrong order
        ("kohler", "kohlor", "mohler"),  # the first letter is rarely wrong
    ],
)
def test_slips_that_people_make_cost_less(typed, likelier, than):
    assert edit_cost(typed, likelier, EditCosts()) < edit_cost(typed, than, EditCosts())


def test_numbers_and_codes_are_one_word_in_the_language():
    assert surface_words("MLT-D206L 3/4 in. Café-Style Men's") == ["mlt", "#", "in", "cafe", "style", "men's"]


def test_a_plural_is_as_likely_beside_a_word_as_its_singular():
    language = LanguageModel.count(Product(product_id=str(i), title="gas heater") for i in range(5))
    gas, heater, heaters = (language.number[word] for word in ("gas", "heater", "heaters"))
    assert language.pair(gas, heaters) == language.pair(gas, heater) == 5
    assert language.frequency("heaters") == 0
