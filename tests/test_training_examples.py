"""Examples are read whole or refused with the line and field; nDCG and tau are those of reference implementations."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from training.data.examples import Example, ExamplesError, read_examples, require_both_classes
from training.metrics import kendall_tau, ndcg, swapped_neighbours

ROW = {"query_id": "q1", "query": "red shoes", "label": 0.4, "product": {"product_id": "p1", "title": "Shoes", "x": 1}}


def test_plain_and_gzipped_files_give_the_same_examples(tmp_path: Path) -> None:
    text = json.dumps(ROW) + "\n\n" + json.dumps(ROW | {"label": 1, "more": "is ignored"}) + "\n"
    (tmp_path / "rows.jsonl").write_text(text)
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    expected = [Example("q1", "red shoes", label, "Shoes") for label in (0.4, 1.0)]
    assert read_examples(tmp_path / "rows.jsonl") == read_examples(tmp_path / "rows.jsonl.gz") == expected


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("{broken", "line 2: not JSON"),
        ("[1]", r"line 2: expected a JSON object .* found \[1\]"),
        ({"query": None}, "line 2, field 'query': is None"),
        ({"query": " "}, "line 2, field 'query': is ' '"),
        ({"label": None}, "line 2, field 'label': is None; it must be a number from 0"),
        ({"label": 1.5}, "field 'label': is 1.5"),
        ({"label": True}, "field 'label': is True"),
        ({"label": "1"}, "field 'label': is '1'"),
        ({"product": {"product_id": "p"}}, "line 2, field 'product': .*missing required field `title`"),
        ({"product": {"product_id": "p", "title": ""}}, "field 'product': title is empty"),
        ({"product": None}, "field 'product': Expected `object`"),
    ],
)
def test_a_bad_row_is_named(row: object, said: str, tmp_path: Path) -> None:
    bad = row if isinstance(row, str) else json.dumps(ROW | row)  # type: ignore[operator]
    (tmp_path / "rows.jsonl").write_text(json.dumps(ROW) + "\n" + bad)
    with pytest.raises(ExamplesError, match=said):
        read_examples(tmp_path / "rows.jsonl")


def test_a_missing_field_is_called_missing(tmp_path: Path) -> None:
    for name in ("query_id", "query", "label"):
        (tmp_path / "rows.jsonl").write_text(json.dumps({key: ROW[key] for key in ROW if key != name}))
        with pytest.raises(ExamplesError, match=f"line 1, field '{name}': is missing"):
            read_examples(tmp_path / "rows.jsonl")


def test_a_bad_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExamplesError, match="No such file"):
        read_examples(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(ExamplesError, match="no examples"):
        read_examples(tmp_path / "empty.jsonl")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(json.dumps(ROW).encode())[:-9])
    with pytest.raises(ExamplesError, match="cannot be read after line 0"):
        read_examples(tmp_path / "cut.gz")


def test_a_file_of_one_class_is_refused() -> None:
    same = [Example("q", "red shoes", 0.4, "Shoes")] * 3
    with pytest.raises(ExamplesError, match=r"one class only: all 3 rows say 0\.4, as does row 1 \(query 'red shoes'"):
        require_both_classes("rows.jsonl", same)
    require_both_classes("rows.jsonl", [*same, Example("q", "red shoes", 0, "Socks")])


def test_ndcg_is_that_of_ir_measures() -> None:
    ir_measures = pytest.importorskip("ir_measures")
    generator = np.random.default_rng(5)
    for n in (1, 4, 10, 30):
        gains = generator.integers(0, 4, n)
        qrels = {"q": {str(i): int(gain) for i, gain in enumerate(gains)}}
        run = {"q": {str(i): float(n - i) for i in range(n)}}
        (expected,) = ir_measures.iter_calc([ir_measures.nDCG @ 10], qrels, run)
        assert ndcg(gains.astype(float)) == pytest.approx(expected.value)
    assert ndcg([0.0, 0.0]) == ndcg([]) == 0


def test_orders_are_compared() -> None:
    stats = pytest.importorskip("scipy.stats")
    left, right = np.random.default_rng(6).permuted(np.arange(40, dtype=np.float32).reshape(2, 20), axis=1)
    assert kendall_tau(left, right) == pytest.approx(stats.kendalltau(left, right).statistic)
    assert kendall_tau(left, -left) == -1
    assert swapped_neighbours(left, -left) == 1
    assert swapped_neighbours(left, left) == 0
    assert swapped_neighbours(np.array([3, 2, 1], np.float32), np.array([3, 1, 2], np.float32)) == 0.5
    assert kendall_tau(left[:1], right[:1]) == 1
