"""Fits the extractive reader of answers: ``python -m training.evidence --data DIR``.

Its few dozen weights are of cosines, shares of words and marks of wording; they hold nothing of the questions' text.
The set, epqa, is under CDLA-Sharing-1.0, which lays no conditions on what is computed from its data.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.answers.evidence import (
    FEATURES,
    FILE,
    VERDICT_FEATURES,
    Embed,
    Weights,
    evidence_features,
    verdict_features,
)
from engine.dense.encoder import OnnxEncoder
from training.data.epqa import ANSWERS, JudgedQuestion, read_epqa
from training.logistic import fit_logistic

# By cross-validation within epqa train, of 10, 30, 100, 200 and 400 for evidence.
PENALTY, VERDICT_PENALTY = 100.0, 10.0
_TOKENS = 128  # of a passage that are encoded
_DIGITS = 4
Floats = NDArray[np.float64]


def fit(questions: Sequence[JudgedQuestion], embed: Embed, threshold: float) -> Weights:
    """Both models: of whether a candidate answers, and over those that do of what it answers."""
    values = np.vstack([evidence_features(one.text, one.candidates, embed) for one in questions])
    truth = np.array([label == ANSWERS for one in questions for label in one.labels], float)
    offset, weights = fit_logistic(values, truth, PENALTY)
    answering = [
        (verdict_features(one.text, candidate, embed), verdict)
        for one in questions
        for candidate, label, verdict in zip(one.candidates, one.labels, one.verdicts, strict=True)
        if label == ANSWERS
    ]
    seen = np.array([features for features, _ in answering])
    yes, no = (
        fit_logistic(seen, np.array([verdict == wanted for _, verdict in answering], float), VERDICT_PENALTY)
        for wanted in ("yes", "no")
    )
    return Weights(
        provenance=(
            f"python -m training.evidence: {len(questions)} questions of epqa train with {len(truth)} candidates, "
            f"{len(answering)} of which answer; penalties {PENALTY:g} and {VERDICT_PENALTY:g} and "
            f"threshold {threshold:g} by cross-validation"
        ),
        offset=round(offset, _DIGITS),
        weights=_named(FEATURES, weights),
        yes_offset=round(yes[0], _DIGITS),
        yes=_named(VERDICT_FEATURES, yes[1]),
        no_offset=round(no[0], _DIGITS),
        no=_named(VERDICT_FEATURES, no[1]),
        threshold=threshold,
    )


def encoder() -> Embed:
    """The shipped encoder, on one core."""
    return OnnxEncoder.named("all-MiniLM-L6-v2", max_tokens=_TOKENS).encode_queries


def _named(names: Sequence[str], weights: Floats) -> dict[str, float]:
    return {name: round(float(weight), _DIGITS) for name, weight in zip(names, weights, strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True, help="the folder of judged sets")
    parser.add_argument("--threshold", type=float, default=0.3, help="from which a passage is taken for an answer")
    parser.add_argument("--out", type=Path, default=FILE)
    arguments = parser.parse_args()
    fit(read_epqa(arguments.data / "epqa" / "train.tsv"), encoder(), arguments.threshold).write(arguments.out)


if __name__ == "__main__":
    main()
