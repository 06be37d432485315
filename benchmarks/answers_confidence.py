"""Calibrates the confidences of answers: ``python -m benchmarks.answers_confidence``.

Made questions of other seeds than those that are reported, and the shoppers' questions of the split ``shoppers_dev``,
are asked of the sample. What an attribute says gets Platt's scale and offset (Platt 1999) of its logit; what texts,
and silence, are worth is the share of them that was right. ``engine/answers/answers.toml`` is written anew.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from benchmarks.answers_made import Outcome, asked, made_questions
from benchmarks.answers_shoppers import shoppers_questions
from engine.answers.numbers import FILE, NUMBERS, AnswerNumbers
from engine.catalog import read_catalog
from engine.demo import SAMPLE
from engine.search import SearchEngine
from training.logistic import fit_logistic

SEEDS = range(100, 102)
_PER_SPLIT = 500
_PENALTY = 1.0
_DIGITS = 3


def fitted(outcomes: Sequence[Outcome], numbers: AnswerNumbers = NUMBERS) -> AnswerNumbers:
    """``numbers`` with confidences that agree with what was right among the outcomes."""
    by_kind: dict[str, list[Outcome]] = {"attribute": [], "text": [], "silent": []}
    for outcome in outcomes:
        if kind := _kind(outcome):
            by_kind[kind].append(outcome)
    said = by_kind["attribute"]
    logits = np.array([[_logit(one.answer.confidence)] for one in said])
    offset, weights = fit_logistic(logits, np.array([float(one.right) for one in said]), _PENALTY)
    scale = float(weights[0])
    counts = ", ".join(f"{len(of)} of {kind}" for kind, of in by_kind.items())
    return msgspec.structs.replace(
        numbers,
        provenance=f"{numbers.provenance.split('; confidences')[0]}; confidences by "
        f"python -m benchmarks.answers_confidence, {counts}",
        confidence_offset=round(scale * numbers.confidence_offset + offset, _DIGITS),
        confidence_named=round(scale * numbers.confidence_named, _DIGITS),
        confidence_cosine=round(scale * numbers.confidence_cosine, _DIGITS),
        confidence_values=round(scale * numbers.confidence_values, _DIGITS),
        confidence_rest=round(scale * numbers.confidence_rest, _DIGITS),
        text_confidence=_share(by_kind["text"]),
        silent_confidence=_share(by_kind["silent"]),
    )


def expected_calibration_error(outcomes: Sequence[Outcome], bins: int = 20) -> float:
    """The mean difference between confidence and share right over bins of like width, by how many answers each has."""
    confidences = np.array([one.answer.confidence for one in outcomes])
    right = np.array([float(one.right) for one in outcomes])
    place = np.minimum((confidences * bins).astype(int), bins - 1)
    gaps = (abs(confidences[place == at].sum() - right[place == at].sum()) for at in range(bins))
    return float(sum(gaps) / len(outcomes))


def brier_score(outcomes: Sequence[Outcome]) -> float:
    """The mean squared difference of confidence and right (1) or wrong (0)."""
    return float(np.mean([(one.answer.confidence - float(one.right)) ** 2 for one in outcomes]))


def _kind(outcome: Outcome) -> str:
    answer = outcome.answer
    if answer.kind == "abstention" and answer.code == "not_said":
        return "silent"
    if answer.kind not in ("fact", "yes_no"):
        return ""
    told = all(one.field.startswith("attributes.") for one in answer.evidence)
    return "attribute" if told else "text" if answer.reason.endswith("says so") else ""


def _share(outcomes: Sequence[Outcome]) -> float:
    """Of those that are right, with one of each added (Laplace's rule)."""
    return round((sum(one.right for one in outcomes) + 1) / (len(outcomes) + 2), _DIGITS)


def _logit(chance: float) -> float:
    chance = min(max(chance, 1e-6), 1 - 1e-6)
    return math.log(chance / (1 - chance))


def main() -> None:
    products = list(read_catalog(SAMPLE))
    engine = SearchEngine.build(products)
    questions = [
        question for split in ("dev", "held", "last") for seed in SEEDS
        for question in made_questions(products, _PER_SPLIT, split=split, seed=seed)
    ]  # fmt: skip
    questions += shoppers_questions("shoppers_dev", products)
    fitted([asked(engine, question) for question in questions]).write(FILE)


if __name__ == "__main__":
    main()
