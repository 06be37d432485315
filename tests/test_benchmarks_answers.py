"""What answers are measured and fitted with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.answers import main
from benchmarks.answers_evidence import EvidenceSystem, is_right, reciprocal_rank, systems
from benchmarks.answers_made import is_right as made_right
from benchmarks.answers_made import made_questions
from benchmarks.answers_searches import false_alarms
from engine.answers.classifier import FEATURES, shipped_model
from engine.answers.evidence import EvidenceModel
from engine.answers.records import Answer
from engine.product import Product
from tests.conftest import HashedWordsEncoder
from training import questions
from training.data.epqa import read_epqa
from training.evidence import fit
from training.logistic import fit_logistic

ROWS = [
    ("1", "does it rust?", "it never rusts. Question: will it rust?", "cqa", "2", "No. It never rusts."),
    ("1", "does it rust?", "a nice blue thing", "review", "0", ""),
    ("2", "how long is the cord?", "i love it", "review", "0", ""),
    ("2", "how long is the cord?", "the cord is six feet long", "bullet", "2", "It is six feet long."),
    ("3", "is it from france?", "it came in a box", "review", "0", ""),
]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    header = "question_id\tquestion\tasin\ttitle\tcandidate\tsource\tlabel\tanswer"
    lines = [f"{i}\t{q}\tP{i}\tThing\t{c}\t{source}\t{label}\t{a}" for i, q, c, source, label, a in ROWS]
    path = tmp_path / "dev.tsv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def test_judged_questions(table: Path):
    first, second, third = read_epqa(table)
    assert first.candidates[0].asked == "will it rust?"
    assert first.candidates[0].passage.text == "it never rusts."
    assert [first.verdicts[0], second.verdicts[1]] == ["no", ""]
    assert [one.answerable for one in (first, second, third)] == [True, True, False]


def test_scores(table: Path):
    first, second, third = read_epqa(table)
    backwards = EvidenceSystem("backwards", lambda q: np.arange(len(q.candidates), dtype=float), lambda *_: "no")
    assert [reciprocal_rank(backwards, question) for question in (first, second)] == [0.5, 1.0]
    silent = EvidenceSystem("silent", lambda q: np.zeros(len(q.candidates)), lambda *_: "no", least=1.0)
    forwards = EvidenceSystem("forwards", lambda q: -np.arange(len(q.candidates), dtype=float), lambda *_: "no")
    assert [is_right(silent, one) for one in (first, second, third)] == [0.0, 0.0, 1.0]
    assert [is_right(forwards, one) for one in (first, second, third)] == [1.0, 0.0, 0.0]
    embed = HashedWordsEncoder().encode_queries
    found = {one.name: one for one in systems([first, second, third], embed, EvidenceModel.shipped(embed))}
    assert reciprocal_rank(found["bm25"], second) == 1.0
    assert found["bm25"].score(second)[0] == 0.0


def test_the_benchmark_writes_its_result(table: Path, tmp_path: Path):
    main("epqa", None, table, 2, "dev", 0, tmp_path / "result.json")
    result = json.loads((tmp_path / "result.json").read_text())
    assert set(result["systems"]) == {"majority", "bm25", "cosine", "reader"}
    assert result["systems"]["reader"]["accuracy"]["n"] == 3


def test_made_questions_are_the_same_each_time_and_half_have_no_answer(sample_products: list[Product]):
    made = made_questions(sample_products, 60, split="dev")
    assert made == made_questions(sample_products, 60, split="dev")
    assert made != made_questions(sample_products, 60, split="dev", seed=1)
    assert sum(bool(question.attribute) for question in made) == 30
    silent = Answer(kind="abstention", text="", code="not_said", confidence=1.0, reason="")
    assert sum(made_right(question, silent) for question in made) == 30


def test_a_logistic_regression_finds_what_it_was_made_from():
    rng = np.random.default_rng(3)
    values = rng.normal(size=(4000, 3)) * [1.0, 10.0, 0.1]
    truth = rng.random(4000) < 1 / (1 + np.exp(-(0.5 + values @ [1.0, -0.2, 0.0])))
    offset, weights = fit_logistic(values, truth.astype(float), penalty=1.0)
    assert offset == pytest.approx(0.5, abs=0.12)
    assert weights[:2] == pytest.approx([1.0, -0.2], abs=0.12)


def test_fitted_weights_separate_what_they_are_fitted_on(table: Path):
    asked = ["does it fit?", "how big is it", "can I wash it?"] * 5
    searched = ["blue shoes", "usb cable 2m", "lamp"] * 5
    model = questions.fit(asked, searched)
    assert set(model.weights) == set(FEATURES)
    assert all(model.probability(one) > model.probability(other) for one in asked for other in searched)
    judged = read_epqa(table)
    embed = HashedWordsEncoder().encode_queries
    fitted = EvidenceModel(fit(judged, embed, 0.3), embed)
    chances = [fitted.probabilities(question.text, question.candidates) for question in judged[:2]]
    assert chances[0][0] > chances[0][1]
    assert chances[1][1] > chances[1][0]


def test_the_sample_has_no_false_alarms():
    counted = false_alarms(shipped_model(), None)["searches"]
    assert counted == {name: {"queries": 163, "taken_for_questions": 0} for name in ("sample", "all")}
