"""Synonyms in Solr's format."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import engine.understanding.synonyms as synonyms_module
from engine.errors import ConfigError
from engine.understanding.synonyms import Expansion, Synonyms


@pytest.fixture
def read(tmp_path):
    def write(text: str) -> Synonyms:
        path = tmp_path / "synonyms.txt"
        path.write_text(text, encoding="utf-8")
        return Synonyms.read(path)

    return write


@pytest.mark.parametrize(
    ("text", "query", "expected"),
    [
        ("fridge, refrigerator, ice box", "big fridge", [Expansion(1, 2, (("refrigerator",), ("ice", "box")))]),
        ("fridge, ice box", "an ice box", [Expansion(1, 3, (("fridge",),))]),
        ("kapde => clothes, laundry", "kapde dhone", [Expansion(0, 1, (("clothes",), ("laundry",)))]),
        ("kapde => clothes", "clothes", []),  # an arrow has one direction
        ("tv => television\ntv => telly", "tv", [Expansion(0, 1, (("television",), ("telly",)))]),
        ("washing machine => washer\nwashing => cleaning", "washing machine", [Expansion(0, 2, (("washer",),))]),
        ("# a comment\n\n  \nTV,Télé # the end", "tele", [Expansion(0, 1, (("tv",),))]),
        (r"a\,b => c", "a b", [Expansion(0, 2, (("c",),))]),  # the comma is no separator
        (r"c\# => csharp", "c", [Expansion(0, 1, (("csharp",),))]),
        ("fridge => refrigerator", "fridges", [Expansion(0, 1, (("refrigerator",),))]),  # words compare by stem
        ("tvs => telly", "a tv", [Expansion(1, 2, (("telly",),))]),
        ("ssd, solid state drive", "ssds", [Expansion(0, 1, (("solid", "state", "drive"),))]),
        ("fridge, fridges", "fridge", []),
        ("a, b", "a a", [Expansion(0, 1, (("b",),)), Expansion(1, 2, (("b",),))]),
    ],
)
def test_expands(read, text, query, expected):
    assert read(text).expand(query.split()) == expected


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("alone", "one entry only"),
        ("a => b => c", "more than one =>"),
        ("a, , b", "empty entry"),
        ("a =>", "empty entry"),
        ("=> a", "empty entry"),
        ("a, !!", "empty entry"),
    ],
)
def test_a_bad_line_is_named(read, line, complaint):
    with pytest.raises(ConfigError, match=rf"line 2: .*{complaint}"):
        read(f"good, fine\n{line}\n")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.txt"):
        Synonyms.read(tmp_path / "nowhere.txt")


@settings(max_examples=50)
@given(st.text(max_size=60))
def test_any_file_is_read_or_refused(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.txt"
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        synonyms = Synonyms.read(path)
    except ConfigError:
        return
    assert all(expansion.replacements for expansion in synonyms.expand(sorted(synonyms.words)))


def test_the_shipped_file_is_sound():
    path = Path(synonyms_module.__file__).parent / "electronics.synonyms.txt"
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    assert 150 <= len(lines) <= 250
    assert len(set(lines)) == len(lines)
    synonyms = Synonyms.named("electronics")
    for word, also in (("fridge", "refrigerator"), ("ac", "air conditioner"), ("pendrive", "usb flash drive")):
        assert tuple(also.split()) in synonyms.expand([word])[0].replacements


@pytest.mark.parametrize(
    "query", ["notebook", "pad", "mixer", "cell", "cooler", "machine", "tap", "ac adapter", "mouse pad"]
)
def test_the_shipped_file_leaves_words_of_two_meanings_alone(query):
    expanded = [also for found in Synonyms.named("electronics").expand(query.split()) for also in found.replacements]
    assert not {("laptop",), ("tablet",), ("air", "conditioner"), ("mixer", "grinder"), ("phone",)} & set(expanded)


@pytest.mark.parametrize("name", ["gardens", "../understanding/electronics"])
def test_an_unknown_name_is_refused_with_those_there_are(name):
    with pytest.raises(ConfigError, match="electronics"):
        Synonyms.named(name)
