"""Fits the model that tells questions from searches: ``python -m training.questions --data DIR --out FILE``.

Questions are those of the product question set, with and without their mark, and the synthetic ones beside
``training/data``; searches those of sets whose terms allow weights to be shipped. The weights are a logistic
regression's; the threshold is the lowest at which no more than ``FALSE_ALARMS`` of these searches pass for questions.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from engine.answers.classifier import FEATURES, FILE, QuestionModel, question_features
from training.logistic import fit_logistic

FALSE_ALARMS = 0.004
_SYNTHETIC = Path(__file__).parent / "data" / "synthetic_questions.txt"
_PENALTY = 30.0


def questions(data: Path) -> list[str]:
    """The questions to learn from."""
    with (data / "epqa" / "train.tsv").open(encoding="utf-8", newline="") as lines:
        found = list(dict.fromkeys(row["question"] for row in csv.DictReader(lines, delimiter="\t")))
    made = [line for line in _SYNTHETIC.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    both = [*found, *made]
    return [*both, *(text.rstrip("? ") for text in both)]


def searches(data: Path) -> list[str]:
    """The searches to learn from: of no set whose terms bar shipped weights."""
    return list(dict.fromkeys(_searches(data)))


def _searches(data: Path) -> Iterator[str]:
    yield from _column(data / "esci" / "queries.train.tsv", 1)
    yield from _column(data / "wands_queries" / "train.tsv", 0)
    yield from _column(data / "esci_pairs" / "unlabelled_queries.tsv", 0)
    with gzip.open(data / "esci_pairs" / "train.jsonl.gz", "rt", encoding="utf-8") as lines:
        yield from (json.loads(line)["query"] for line in lines)


def _column(path: Path, column: int) -> Iterator[str]:
    for line in path.read_text(encoding="utf-8").splitlines():
        yield line.split("\t")[column]


def fit(asked: Sequence[str], searched: Sequence[str]) -> QuestionModel:
    """A logistic regression; each of the two kinds weighs as much as the other."""
    texts = [*asked, *searched]
    values = np.array([question_features(text) for text in texts])
    truth = np.repeat([1.0, 0.0], [len(asked), len(searched)])
    share = np.where(truth > 0, len(texts) / (2 * len(asked)), len(texts) / (2 * len(searched)))
    offset, weights = fit_logistic(values, truth, _PENALTY, share)
    chance = 1 / (1 + np.exp(-(values @ weights + offset)))
    threshold = float(np.quantile(chance[len(asked) :], 1 - FALSE_ALARMS))
    missed = float((chance[: len(asked)] < threshold).mean())
    provenance = (
        f"python -m training.questions: {len(asked)} questions, epqa train and synthetic_questions.txt, with and "
        f"without their mark, and {len(searched)} searches, ESCI train, WANDS train and esci_pairs; of these "
        f"{missed:.1%} of questions missed at {FALSE_ALARMS:.1%} of searches taken for questions"
    )
    return QuestionModel(
        provenance=provenance,
        offset=round(offset, 4),
        weights=dict(zip(FEATURES, (round(float(weight), 4) for weight in weights), strict=True)),
        threshold=round(min(threshold + 1e-3, 0.999), 4),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True, help="the folder of judged sets")
    parser.add_argument("--out", type=Path, default=FILE)
    arguments = parser.parse_args()
    fit(questions(arguments.data), searches(arguments.data)).write(arguments.out)


if __name__ == "__main__":
    main()
