"""Explanations: the tree of one hit, to the letter, and data that survives JSON."""

import json
from dataclasses import replace

from engine import FacetCount, Hit, Product, SearchResult, StageReport, StageTrace, TermMatch
from engine.explain import as_dict, printable, render, result_as_dict, timings, why

HIT = Hit(
    Product(product_id="P1", title="Frost free fridge", brand="Polar", price=399.0),
    rank=2,
    score=0.87654,
    trace=(StageTrace("lexical", 1, 7.25), StageTrace("dense", None, None), StageTrace("fusion", 2, 0.87654)),
    matches=(
        TermMatch("fridg", "title", "typed", "fridg", 1, 13, 5.0),
        TermMatch("frost", "title", "spelling", "frots", 1, 4, 2.0),
        TermMatch("frost", "body", "spelling", "frots", 3, 9, 0.25),
        TermMatch("fridg", "body", "typed", "fridg", 2, 20, 0.0),
        TermMatch("fridg", "category", "typed", "fridg", 1, 13, 0.0),
    ),
)
REPORTS = (
    StageReport("understand", "ran", 1, 3, 0.1, "frots, frost (spelling: frots), fridg"),
    StageReport("lexical", "ran", 10, 5, 0.25),
    StageReport("rerank", "degraded", 5, 0, 0.04, "0.0 ms left"),
    StageReport("route", "skipped", 1, 0, 0.0, "no router"),
)
TREE = """\
P1  Frost free fridge
rank 2, score 0.877
├─ stages
│  ├─ lexical   rank 1, score 7.250
│  ├─ dense     not among its candidates
│  ├─ fusion    rank 2, score 0.877
│  ├─ rerank    degraded: 0.0 ms left
│  └─ route     skipped: no router
└─ matched terms, adding up to 7.250
   ├─ title  7.000
   │  ├─ fridg    5.000  tf 1, df 13  typed
   │  └─ frost    2.000  tf 1, df 4  spelling of 'frots'
   ├─ body  0.250
   │  ├─ frost    0.250  tf 3, df 9  spelling of 'frots'
   │  └─ fridg    0.000  tf 2, df 20  typed
   └─ also in category, adding nothing"""


def test_the_tree_of_a_hit() -> None:
    assert render(HIT, REPORTS) == TREE


def test_a_product_that_was_not_found_says_so() -> None:
    tree = render(replace(HIT, rank=0, score=0.0, trace=(StageTrace("lexical", None, None),), matches=()))
    assert tree.splitlines() == [
        "P1  Frost free fridge",
        "not among the candidates",
        "├─ stages",
        "│  └─ lexical   not among its candidates",
        "└─ matched terms",
        "   └─ none",
    ]


def test_every_source_of_a_term_names_what_was_typed() -> None:
    sources = ("joined", "split", "prefix", "spelling", "another")
    matches = tuple(TermMatch("t", "title", source, "origin", 1, 1, 1.0) for source in sources)
    tree = render(replace(HIT, matches=matches))
    assert tree.count("'origin'") == len(sources)


def test_data_survives_json_and_tells_states_apart() -> None:
    data = as_dict(HIT, REPORTS)
    assert json.loads(json.dumps(data)) == data
    assert {stage["stage"]: stage["state"] for stage in data["stages"]} == {
        "lexical": "ranked", "dense": "not_ranked", "fusion": "ranked", "rerank": "degraded", "route": "skipped",
    }  # fmt: skip
    assert data["product"] == {"product_id": "P1", "title": "Frost free fridge", "brand": "Polar", "price": 399.0}
    assert data["matches"][1] == {
        "term": "frost", "field": "title", "source": "spelling", "origin": "frots", "score": 2.0,
        "frequency": 1, "document_frequency": 4,
    }  # fmt: skip


def test_a_result_has_the_same_keys_with_and_without_hits() -> None:
    full = SearchResult("frots fridge", (HIT,), REPORTS, 5, facets={"brand": (FacetCount("Polar", 3),)})
    empty = SearchResult("", (), (), 0)
    data = result_as_dict(full)
    assert json.loads(json.dumps(data)) == data
    assert data["facets"] == {"brand": [{"value": "Polar", "count": 3}]}
    assert data["degraded"] is True
    assert data["stages"][2]["note"] == "0.0 ms left"
    assert data.keys() == result_as_dict(empty).keys()


def test_why_names_the_strongest_match_of_each_term() -> None:
    assert why(HIT) == "fridg (title), frost ← frots (title)"
    assert why(replace(HIT, matches=())) == "close in meaning"


def test_timings_in_one_line() -> None:
    assert timings(SearchResult("q", (), REPORTS[1:3], 0)) == (
        "lexical 0.2 ms · rerank degraded (0.0 ms left) · total 0.3 ms"
    )


def test_control_characters_do_not_reach_the_terminal() -> None:
    hostile = replace(HIT, product=Product(product_id="P1", title="a\x1b[2Jb\x07\u202ec"))
    assert render(hostile).splitlines()[0] == "P1  a [2Jb  c"
    assert printable("Größe 5″ 冷蔵庫") == "Größe 5″ 冷蔵庫"
