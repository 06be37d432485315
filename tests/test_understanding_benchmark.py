"""The benchmark of spelling, on pairs and a catalog made by rule."""

from __future__ import annotations

import gzip
import json

import pytest
import typer
from typer.testing import CliRunner

from benchmarks import spelling
from benchmarks.data import DataError
from engine.product import Product, to_json

_PAIRS = [("celing fan", "ceiling fan"), ("wallpaint", "wall paint"), ("qqqq fan", "xxxx fan")]


@pytest.fixture
def data(tmp_path):
    (tmp_path / "typos").mkdir()
    lines = ["query\tcorrection", *("\t".join(pair) for pair in _PAIRS)]
    (tmp_path / "typos" / "dev.tsv").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "homedepot").mkdir()
    products = [Product(product_id=str(i), title=("ceiling fan", "wall paint")[i % 2]) for i in range(60)]
    with gzip.open(tmp_path / "homedepot" / "corpus.jsonl.gz", "wb") as file:
        file.write(b"\n".join(map(to_json, products)))
    return tmp_path


def _run(*options: str):
    app = typer.Typer()
    app.command()(spelling.main)
    return CliRunner().invoke(app, [str(option) for option in options])


def test_counts_what_is_corrected_and_left_alone(data):
    done = _run("--data", data, "--out", data / "out.json", "--json")
    assert done.exit_code == 0, done.output
    result = json.loads((data / "out.json").read_text(encoding="utf-8"))
    assert json.loads(done.stdout) == result
    assert result["set"] == "typos"
    assert result["metrics"]["corrected"] == pytest.approx(2 / 3)
    assert result["metrics"]["left_alone"] == 1
    assert result["baselines"]["nothing"]["corrected"] == 0
    assert result["baselines"]["nothing"]["left_alone"] == 1
    assert "symspellpy_words" in result["baselines"] or "bench" in result["missing"]


def test_other_pairs_may_be_given(data):
    (data / "own.tsv").write_text("celing\tceiling\n", encoding="utf-8")
    done = _run("--data", data, "--test", data / "own.tsv", "--out", data / "out.json", "--no-baselines")
    assert done.exit_code == 0, done.output
    assert json.loads((data / "out.json").read_text(encoding="utf-8"))["metrics"]["corrected"] == 1


@pytest.mark.parametrize(("text", "complaint"), [("one\n", "line 1"), ("", "no pairs"), ("a\tb\nc\t \n", "line 2")])
def test_a_bad_file_of_pairs_is_named(tmp_path, text, complaint):
    path = tmp_path / "pairs.tsv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=complaint):
        spelling.read_pairs(path)


def test_missing_data_is_explained(tmp_path):
    done = _run("--data", tmp_path, "--out", tmp_path / "out.json")
    assert done.exit_code == 1
    assert "cannot read the pairs" in done.output
