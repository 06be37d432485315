"""What is too far from a catalog gets no type, and what a query excludes by a field falls behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import engine
from benchmarks.needs import SETS, judged_of, off_domain_queries
from engine.domain import Domain
from engine.errors import IndexCorruptError
from engine.filters import Equal


def test_queries_about_other_things_get_no_type_and_hits_are_marked(sample: engine.SearchEngine):
    texts = off_domain_queries()
    routes = [sample.search(text, 3).route for text in texts]
    refused = [route is not None and route.action == "none" and bool(route.nearest) for route in routes]
    assert sum(refused) >= 0.87 * len(texts)
    assert sample.search(texts[0], 3).hits  # nothing is hidden


@pytest.mark.parametrize("query", ["fridge", "RT28C3733S8", "gift for a runner", "phone under 20000", "qled"])
def test_a_query_that_the_catalog_answers_is_not_refused(sample: engine.SearchEngine, query: str):
    route = sample.search(query, 3).route
    assert route is not None
    assert "no shop answers" not in route.reason


def test_among_filtered_products_nothing_is_refused(sample: engine.SearchEngine):
    route = sample.search("pizza near me", 3, filters=[Equal("brand", "Samsung")]).route
    assert route is not None
    assert "no shop answers" not in route.reason


def test_a_broken_file_is_said_to_be(sample: engine.SearchEngine, tmp_path: Path):
    path = tmp_path / "domain.json"
    path.write_text('{"least": "near"}')
    with pytest.raises(IndexCorruptError, match=r"domain\.json"):
        Domain.open(path, 384)
    path.write_bytes((sample.version / "domain.json").read_bytes())
    with pytest.raises(IndexCorruptError, match="for vectors of 384 numbers, not 3"):
        Domain.open(path, 3)
    assert len(Domain.open(path, 384).plane) == 385


def test_all_four_distances_count(sample: engine.SearchEngine):
    domain = Domain.open(sample.version / "domain.json", 384)
    vector = np.zeros(384, np.float32)
    toward = np.asarray(domain.plane[:-1], np.float32)
    near = next(near for near in np.linspace(-1, 3, 400) if not domain.refusal("zzz", vector, float(near)))
    below = float(near) - 0.02
    assert domain.refusal("zzz", vector, below)
    assert not domain.refusal("fridge", vector, below)  # a word of titles
    assert not domain.refusal("zzz", toward / np.linalg.norm(toward), below)  # the side of the catalog
    assert domain.refusal("zzz", vector, float(near), lacking=True)
    assert not domain.refusal("zzz", vector, below, told=True)
    assert domain.asked is not None
    inside = np.frombuffer(domain.asked.inside, np.float16).reshape(-1, 384).astype(np.float32)
    assert domain.asked.likeness(inside[0]) > 0.1 > domain.asked.likeness(vector)


def test_what_ships_is_neither_judged_nor_repeated():
    folder = Path(engine.__file__).parent
    lines = [line for name in ("off", "in") for line in (folder / f"{name}_domain.tsv").read_text().splitlines()]
    texts = [line.split("\t")[1] for line in lines]
    assert len(set(texts)) == len(texts)
    off_domain = {query for name in SETS if name.endswith("off_domain") for query in off_domain_queries(name)}
    judged = {row.query for name in SETS if not name.endswith("off_domain") for row in judged_of(name)}
    assert not set(texts) & (judged | off_domain)


def test_nothing_understood_is_said_to_be_so(sample: engine.SearchEngine):
    route = sample.search("xqzzv kjjhw", 3).route
    assert route is not None
    assert route.reason == "the query holds no word that the encoder knows"
    assert route.nearest.endswith("so these are the most popular products")


@pytest.mark.parametrize(
    ("query", "field", "words"),
    [
        ("fridge not double door", "door_type", "double"),
        ("washing machine but not top load", "load_type", "top"),
        ("monitor not curved", "curved", "true"),
        ("laptop without touchscreen", "touchscreen", "true"),
        ("tv not qled", "display_type", "qled"),
        ("tv not 4k", "resolution", "4k"),
        ("smartphone not foldable", "foldable", "true"),  # no product of the category "Smartphones" is
        ("not a foldable phone", "foldable", "true"),
        ("refrigerator not side by side", "door_type", "side"),
    ],
)
def test_what_a_field_tells_of_is_excluded(sample: engine.SearchEngine, query: str, field: str, words: str):
    hits = sample.search(query, 5).hits
    assert not [hit for hit in hits if words == str(hit.product.attributes.get(field)).lower().split()[0]]


@pytest.mark.parametrize(("query", "word"), [("galaxy s23 not ultra", "ultra"), ("galaxy tab s9 not fe", "fe")])
def test_what_a_name_has_is_excluded(sample: engine.SearchEngine, query: str, word: str):
    assert not [hit for hit in sample.search(query, 4).hits if word in hit.product.title.lower().split()]


def test_what_is_excluded_is_still_found(sample: engine.SearchEngine):
    hits = sample.search("fridge not double door", 400).hits
    assert any(hit.product.attributes.get("door_type") == "Double Door" for hit in hits)


def test_what_wants_something_of_a_thing_that_is_sold_is_not_refused(sample: engine.SearchEngine):
    for query in ("watch for a runner", "oven for baking cakes"):
        route = sample.search(query, 3).route
        assert route is not None
        assert route.action != "none"


def test_not_begins_with_what_a_field_tells_of(sample: engine.SearchEngine):
    hits = sample.search("phone not black unlocked", 5).hits
    assert not [hit for hit in hits if "black" in str(hit.product.attributes.get("color")).lower()]
