"""Nested cross-validation of query classifiers: nothing that is asked was learnt, and every number is chosen within."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer

from benchmarks.q2pt_baselines import neighbour_votes, vector_regression
from benchmarks.q2pt_folds import HEAD, MIX, cuts, main
from tests.test_qpt_classifier import WORDS, examples


def test_every_query_is_asked_once_a_repeat_and_never_beside_one_of_its_stems() -> None:
    queries = [f"{word} {thing}{plural}" for word in WORDS for thing in ("lamp", "rug") for plural in ("", "s")]
    found = list(cuts(queries, 4, 3, 0))
    assert [repeat for repeat, *_ in found] == [0] * 4 + [1] * 4 + [2] * 4
    for repeat in range(3):
        asked = np.concatenate([rows for of, _, rows in found if of == repeat])
        assert sorted(asked.tolist()) == list(range(len(queries)))
    for _, learnt, asked in found:
        assert not {queries[row].rstrip("s") for row in learnt} & {queries[row].rstrip("s") for row in asked}
    assert any((a[2].tolist() != b[2].tolist()) for a, b in zip(found[:4], found[4:8], strict=True))


def test_votes_are_shares_of_the_nearest() -> None:
    near = np.array([[0.6, 0.2, -0.5], [0.1, 0.9, 0.3]], np.float32)
    right = np.array([[1, 0], [1, 1], [0, 1]], bool)
    np.testing.assert_allclose(neighbour_votes(near, right, 2), [[7 / 8, 1 / 8], [3 / 8, 5 / 8]], atol=1e-6)
    np.testing.assert_allclose(neighbour_votes(near, right, 1), [[1, 0], [0.5, 0.5]], atol=1e-6)


def test_a_regression_gives_nothing_to_types_without_an_example() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    vectors = (rng.normal(size=(40, 4)) + 3 * np.eye(4)[labels]).astype(np.float32)
    right = np.eye(3, dtype=bool)[labels]
    likely = vector_regression(vectors, right, np.eye(4, dtype=np.float32)[:2] * 3, 10.0)
    assert likely.argmax(axis=1).tolist() == [0, 1]
    assert likely[:, 2].tolist() == [0, 0]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "wands_queries"
    folder.mkdir()
    said = [f"{example.query}\t{example.type_id}" for example in examples()]
    for name, lines in (("train.tsv", said[::2] + said[1::4]), ("dev.tsv", said[3::4])):
        (folder / name).write_text("\n".join(["query\tquery_class", *lines]) + "\n")
    return tmp_path


def test_a_set_is_measured_in_folds(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = data / "out" / "result.json"
    main("wands_queries", data, out, folds=3, repeats=1, seed=1, as_json=True)
    result = json.loads(out.read_text())
    printed = json.loads(capsys.readouterr().out)
    assert printed["systems"] == result["systems"]
    assert result["n_queries"] == len(examples())
    assert sum(result["systems"][MIX]["chosen"].values()) == 3
    head, names = (result["systems"][system]["metrics"] for system in (HEAD, "class name by cosine"))
    assert head["accuracy@1"] > 0.95 > names["accuracy@1"]  # words that no name has are learnt from other folds
    pair = next(c for c in result["comparisons"] if (c["a"], c["metric"]) == ("class name by cosine", "accuracy@1"))
    assert pair["difference"] == pytest.approx(head["accuracy@1"] - names["accuracy@1"])


def test_an_unknown_set_is_refused(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        main("nowhere", data)
    assert "it must be one of wands_queries" in " ".join(capsys.readouterr().err.split())
