"""The query → product type benchmark runs from files to a result, on data made here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

from benchmarks.q2pt import main
from tests.test_qpt_classifier import MEANT, PATHS, WORDS, examples


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "wands_queries"
    folder.mkdir()
    said = [f"{example.query}\t{example.type_id}" for example in examples()]
    asked = [f"old {query}\t{type_id}" for query, type_id in MEANT.items()]
    asked += [f"green {path[1].lower()}\t{' > '.join(path)}" for path in PATHS]
    for name, lines in (("train.tsv", said), ("dev.tsv", asked), ("new.tsv", asked[:3])):
        (folder / name).write_text("\n".join(["query\tquery_class", *lines]) + "\n")
    return tmp_path


def test_a_set_is_measured_beside_its_baselines(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = data / "out" / "result.json"
    main("wands_queries", data, None, out, 1, False)
    result = json.loads(out.read_text())
    assert (result["set"], result["split"], result["n_queries"]) == ("wands_queries", "dev", len(PATHS) + len(MEANT))
    assert set(result["metrics"]) == {"accuracy@1", "recall@3", "ece", "coverage", "set_size"}
    assert result["metrics"]["accuracy@1"] > 0.8
    assert result["baselines"]["majority"]["accuracy@1"] < 0.3
    assert result["cross_validated"]["n_queries"] == len(WORDS) * (len(PATHS) - 1 + len(MEANT))
    assert "class name by cosine" in capsys.readouterr().out


def test_another_file_is_asked_and_dev_is_learnt(data: Path) -> None:
    out = data / "result.json"
    main("wands_queries", data, data / "wands_queries" / "new.tsv", out, 1, True)
    result = json.loads(out.read_text())
    assert (result["split"], result["n_queries"]) == ("new.tsv", 3)
    assert result["learnt_from"]["queries"] > len(examples())


def test_an_unknown_set_is_refused(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        main("nowhere", data, None, None, 1, False)
    said = " ".join(capsys.readouterr().err.split())
    assert "it must be one of wands_queries, bestbuy_clicks, esci, icecat" in said
