"""What is too far from a catalog gets no type, and what a query excludes by a field falls behind."""

from __future__ import annotations

from pathlib import Path

import pytest

import engine
from benchmarks.needs import FOLDER
from engine.domain import Domain
from engine.errors import IndexCorruptError
from engine.filters import Equal


def test_queries_about_other_things_get_no_type_and_hits_are_marked(sample: engine.SearchEngine):
    texts = [line.split("\t")[1] for line in (FOLDER / "synthetic_off_domain.tsv").read_text().splitlines()]
    routes = [sample.search(text, 3).route for text in texts]
    refused = [route is not None and route.action == "none" and bool(route.nearest) for route in routes]
    assert sum(refused) >= 0.8 * len(texts)
    assert sample.search(texts[0], 3).hits  # nothing is hidden


@pytest.mark.parametrize("query", ["fridge", "RT28C3733S8", "gift for a runner", "phone under 20000", "qled"])
def test_a_query_that_the_catalog_answers_is_not_refused(sample: engine.SearchEngine, query: str):
    route = sample.search(query, 3).route
    assert route is not None
    assert "cosine" not in route.reason


def test_among_filtered_products_nothing_is_refused(sample: engine.SearchEngine):
    route = sample.search("pizza near me", 3, filters=[Equal("brand", "Samsung")]).route
    assert route is not None
    assert "cosine" not in route.reason


def test_a_broken_file_is_said_to_be(tmp_path: Path):
    path = tmp_path / "domain.json"
    path.write_text('{"threshold": "near"}')
    with pytest.raises(IndexCorruptError, match=r"domain\.json"):
        Domain.open(path)


@pytest.mark.parametrize(
    ("query", "field", "words"),
    [
        ("fridge not double door", "door_type", "double"),
        ("washing machine but not top load", "load_type", "top"),
        ("monitor not curved", "curved", "true"),
        ("laptop without touchscreen", "touchscreen", "true"),
        ("tv not qled", "display_type", "qled"),
    ],
)
def test_what_a_field_tells_of_is_excluded(sample: engine.SearchEngine, query: str, field: str, words: str):
    hits = sample.search(query, 5).hits
    assert not [hit for hit in hits if words == str(hit.product.attributes.get(field)).lower().split()[0]]


def test_what_is_excluded_is_still_found(sample: engine.SearchEngine):
    hits = sample.search("fridge not double door", 400).hits
    assert any(hit.product.attributes.get("door_type") == "Double Door" for hit in hits)
