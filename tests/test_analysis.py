"""The analysis made for products: what matches what."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.analysis.analyzer import Analyzer
from engine.analysis.units import canonical_number
from engine.analysis.vocabulary import Vocabulary

ANALYZER = Analyzer()


@pytest.mark.parametrize(
    ("query", "title", "shared"),
    [
        ("mltd206l", "Samsung MLT-D206L toner", "mltd206l"),
        ("MLT D206L", "Samsung MLT-D206L toner", "mltd206l"),
        ("mlt-d206l", "toner MLTD206L", "mltd206l"),
        ("s23ultra", "Galaxy S23 Ultra 5G", "s23"),
        ("galaxy s 23", "Galaxy S23 Ultra 5G", "s23"),
        ("rt28c3053s8/hl", "Fridge (RT28C3053S8/HL)", "rt28c3053s8hl"),
        ("55 inch", '55" QLED TV', "55in"),
        ("55-inch tv", "55 in. television", "55in"),
        ("55in", "TV 55 inches", "55in"),
        ("1 tb", "Portable SSD 1TB", "1tb"),
        ("1 terabyte", "SSD 1TB", "1tb"),
        ("12000 btu", "12,000 BTU air conditioner", "12000btu"),
        ("5 star", "AC, 5-Star", "5star"),
        ("4x8", "4 x 8 panel", "8"),
        ("smart remote", "SmartRemote for TVs", "remot"),
        ("smartremote", "SmartRemote for TVs", "smartremot"),
        ("wifi", "Wi-Fi router", "wifi"),
        ("fridges", "a fridge", "fridg"),
        ("women shoe", "Women's shoes", "women"),
        ("cafe", "Café machine", "cafe"),
    ],
)
def test_spellings_meet(query, title, shared):
    assert shared in ANALYZER.terms(query)
    assert shared in ANALYZER.terms(title)


@pytest.mark.parametrize(
    ("text", "absent"),
    [
        ("3 in 1 charger", "3in"),  # no length
        ("galaxy for 23", "for23"),  # a stop word is part of no code
        ("TV. 55 Remote", "tv55"),  # nothing is joined across punctuation
        ("iPhone 11", "phone"),  # a one-letter half is no half
    ],
)
def test_what_is_not_said(text, absent):
    assert absent not in ANALYZER.terms(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12,000", "12000"),
        ("1,234,567.50", "1234567.5"),
        ("43,2", "43.2"),
        ("55.0", "55"),
        ("1/2", "1/2"),
        ("07", "07"),
    ],
)
def test_numbers_have_one_spelling(text, number):
    assert canonical_number(text) == number


@given(st.text(max_size=300))
def test_any_text_gives_clean_terms(text):
    for term in ANALYZER.analyze(text):
        assert term.text
        assert len(term.text) <= 64 + 8  # a cut number may carry a unit
        assert not any(c.isspace() for c in term.text)
    assert ANALYZER.terms(text) == ANALYZER.terms(text)


@given(st.text(max_size=100))
def test_case_and_outer_space_do_not_matter_to_ascii(text):
    plain = "".join(c for c in text if c.isascii() and not c.isupper())
    assert ANALYZER.terms(plain) == ANALYZER.terms(f"  {plain} ")


class TestVocabulary:
    vocabulary = Vocabulary(
        {"samsung": 200, "fridg": 30, "doubl": 12, "door": 40, "dishwash": 5, "sim": 1, "rt28c3053s8hl": 1, "galaxi": 9}
    )

    def sources(self, query: str) -> dict[str, str]:
        return {term.text: term.source for term in self.vocabulary.expand(ANALYZER, query)}

    @pytest.mark.parametrize(
        ("query", "term", "source"),
        [
            ("samsung fridge", "fridg", "typed"),
            ("samzung fridge", "samsung", "spelling"),
            ("galxay", "galaxi", "spelling"),
            ("doubledoor", "doubl", "split"),
            ("dish washer", "dishwash", "joined"),
            ("rt28c3053", "rt28c3053s8hl", "prefix"),
        ],
    )
    def test_unknown_words_find_known_ones(self, query, term, source):
        assert self.sources(query)[term] == source

    def test_the_shoppers_words_are_always_searched(self):
        for query in ("samzung fridge", "doubledoor", "dish washer", "qwxyz"):
            typed = [t for t, source in self.sources(query).items() if source == "typed"]
            assert typed == list(dict.fromkeys(ANALYZER.terms(query)))

    def test_known_words_and_codes_are_left_alone(self):
        assert self.sources("sims") == {"sim": "typed"}
        assert self.sources("rt28c3053s9hl").keys() & {"rt28c3053s8hl"} == set()

    def test_stop_words_count_only_alone(self):
        assert set(self.sources("fridge for the door")) == {"fridg", "door"}
        assert set(self.sources("for the")) == {"for", "the"}

    def test_a_flood_of_unknown_words_is_not_respelt_word_by_word(self):
        query = " ".join(f"samzun{letter}" for letter in "abcdefghijkmnopqrstuvwxy")
        expanded = [t for t in self.vocabulary.expand(ANALYZER, query) if t.source != "typed"]
        assert {t.text for t in expanded} == {"samsung"}
        asked = self.vocabulary.nearest.cache_info().currsize
        self.vocabulary.expand(ANALYZER, " ".join(f"qqvzxk{letter}" for letter in "abcdefghijkmnopqrstuvwxy"))
        assert self.vocabulary.nearest.cache_info().currsize <= asked + 8

    def test_round_trip(self, tmp_path):
        self.vocabulary.save(tmp_path / "v.tsv")
        assert Vocabulary.load(tmp_path / "v.tsv").frequencies == self.vocabulary.frequencies

    @given(st.text(max_size=80))
    def test_any_query_expands(self, query):
        terms = self.vocabulary.expand(ANALYZER, query)
        assert len({t.text for t in terms}) == len(terms)
        assert all(0 < t.weight <= 1 for t in terms)


@pytest.mark.parametrize(
    ("known", "query", "found"),
    [
        ({"tv": 9}, "tvs", "tv"),
        ({"tvs": 9}, "tv", "tvs"),
        ({"ssd": 3}, "SSDs", "ssd"),
        ({"tv": 9, "tvs": 1}, "tvs", None),  # both are known
        ({"ga": 9, "plu": 4, "bu": 1}, "gas plus bus", None),
    ],
)
def test_plurals_too_short_to_stem_find_their_singular_and_back(known, query, found):
    terms = [term for term in Vocabulary(known).expand(ANALYZER, query) if term.source == "plural"]
    assert [term.text for term in terms] == ([found] if found else [])
