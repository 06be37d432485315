"""Logs are read whole, row by row or page by page, or refused with the line, the field and what to do."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from tests.curation_rows import page, write_lines
from training.curation.logs import LogReader
from training.curation.rows import NO_POSITION, NO_SESSION, Impressions
from training.data.examples import ExamplesError

KNOWN = {"a", "b"}
HEAD = "query\tproduct_id\tclicked\tpurchased\tposition\tsession\ttime\n"


def read(path: Path, columns: dict[str, str] | None = None) -> Impressions:
    reader = LogReader()
    reader.read(str(path), 0, columns or {}, KNOWN, "the catalog", None)
    return reader.impressions()


def test_a_table_and_pages_say_the_same(tmp_path: Path) -> None:
    rows = "shoes\ta\t0\t0\t1\ts\t1700000000\nshoes\tb\ttrue\t1\t2\ts\t2023-11-14T22:13:20Z\n"
    (tmp_path / "log.tsv").write_text(HEAD + rows)
    (tmp_path / "log.tsv.gz").write_bytes(gzip.compress((HEAD + rows).encode()))
    shown = page("shoes", ["a", "b"], ["b"], purchased=["b"], session="s", time=1700000000)
    write_lines(tmp_path / "log.jsonl", [shown])
    for name in ("log.tsv", "log.tsv.gz", "log.jsonl"):
        found = read(tmp_path / name)
        assert [found.queries[i] for i in found.query] == ["shoes", "shoes"]
        assert [found.product_ids[i] for i in found.product] == ["a", "b"]
        assert found.clicked.tolist() == found.purchased.tolist() == [False, True]
        assert found.position.tolist() == [1, 2]
        assert found.time.tolist() == [1700000000.0] * 2
        assert found.session.tolist() == [0, 0]
        assert found.line.tolist() == ([1, 1] if name == "log.jsonl" else [2, 3])


def test_what_a_log_does_not_say_is_unknown_and_a_row_is_a_click(tmp_path: Path) -> None:
    (tmp_path / "log.tsv").write_text("query\tproduct_id\textra\nshoes\ta\tx\n")
    found = read(tmp_path / "log.tsv")
    assert (found.clicked[0], found.purchased[0]) == (True, False)
    assert (found.position[0], found.session[0]) == (NO_POSITION, NO_SESSION)
    assert np.isnan(found.time[0])


def test_columns_have_the_names_that_the_settings_give(tmp_path: Path) -> None:
    (tmp_path / "log.tsv").write_text("q\tsku\trank\nshoes\ta\t3\n")
    found = read(tmp_path / "log.tsv", {"query": "q", "product_id": "sku", "position": "rank"})
    assert found.position.tolist() == [3]
    with pytest.raises(ExamplesError, match=r"line 1, field 'query': .*the head has q, sku, rank\. Name it: columns ="):
        read(tmp_path / "log.tsv")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"query": " "}, "line 2, field 'query': is missing"),
        ({"product_id": None}, "line 2, field 'product_id': is missing"),
        ({"clicked": 2}, "field 'clicked': is 2; it must be 0 or 1"),
        ({"clicked": [1]}, "field 'clicked'"),
        ({"purchased": "maybe"}, "field 'purchased': is 'maybe'"),
        ({"position": 0}, "field 'position': is 0; it must be a whole number from 1"),
        ({"position": 1.5}, "field 'position': is 1.5"),
        ({"position": "nan"}, "field 'position': is 'nan'"),
        ({"time": "soon"}, "field 'time': is 'soon'; it must be seconds since 1970 or ISO 8601"),
        ({"time": "inf"}, "field 'time'"),
        ({"session": 1.5}, "field 'session'"),
        ({"products": "a"}, "field 'products': is 'a'; .* a list of product ids"),
        ({"products": ["a"], "clicked": ["b"]}, "field 'clicked': 'b' is not among products"),
        ([1], "line 2: not a JSON object"),
    ],
)
def test_a_bad_row_is_named(row: object, said: str, tmp_path: Path) -> None:
    good = {"query": "shoes", "product_id": "a", "clicked": 1}
    write_lines(tmp_path / "log.jsonl", [good, good | row if isinstance(row, dict) else row])
    with pytest.raises(ExamplesError, match=said):
        read(tmp_path / "log.jsonl")
    skipped: list[int] = []
    LogReader().read(str(tmp_path / "log.jsonl"), 0, {}, KNOWN, "c", lambda line, error: skipped.append(line))
    assert skipped == [2]


def test_a_short_row_of_a_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "log.tsv").write_text("query\tproduct_id\nshoes\n")
    with pytest.raises(ExamplesError, match="line 2: it has 1 columns, the head 2"):
        read(tmp_path / "log.tsv")


def test_products_that_the_catalog_lacks_are_left_out_and_named(tmp_path: Path) -> None:
    write_lines(tmp_path / "log.jsonl", [page("shoes", ["x", "a", "y"]), page("boots", ["b"], ["b"])])
    reader = LogReader()
    assert reader.read(str(tmp_path / "log.jsonl"), 0, {}, KNOWN, "the catalog", None) == [1, 1]
    assert reader.impressions().position.tolist() == [2, 1]  # where they were, whatever is gone


def test_a_file_that_is_no_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("")
    with pytest.raises(ExamplesError, match=r"unknown suffix; a log is .tsv"):
        read(tmp_path / "log.csv")
    write_lines(tmp_path / "log.jsonl", [page("shoes", ["x"])])
    with pytest.raises(ExamplesError, match="no row that shows a product of the catalog; is it its catalog"):
        read(tmp_path / "log.jsonl")
