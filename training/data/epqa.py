"""Questions about products with candidate evidence, judged by people: the set ``epqa``."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from engine.answers.evidence import Candidate, Source
from engine.answers.fields import Passage

_ASKED = " Question: "  # what stands between an answer of the community and the question that it was given to
_SOURCES: dict[str, Source] = {
    "cqa": "answer", "review": "review", "description": "description", "bullet": "bullet", "attribute": "attribute",
}  # fmt: skip
ANSWERS = 2  # the label of a candidate that answers


@dataclass(frozen=True, slots=True)
class JudgedQuestion:
    """``labels`` are of ``candidates``: 2 answers, 1 partly, 0 not. ``verdicts`` are those of the answers written from
    each: yes, no, or empty.
    """

    text: str
    candidates: tuple[Candidate, ...]
    labels: tuple[int, ...]
    verdicts: tuple[str, ...]

    @property
    def answerable(self) -> bool:
        return ANSWERS in self.labels


def read_epqa(path: Path) -> list[JudgedQuestion]:
    """The questions of a file, in its order."""
    rows: dict[str, list[dict[str, str]]] = {}
    with path.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            rows.setdefault(row["question_id"], []).append(row)
    return [
        JudgedQuestion(
            found[0]["question"],
            tuple(_candidate(row) for row in found),
            tuple(int(row["label"]) for row in found),
            tuple(_verdict(row["answer"]) for row in found),
        )
        for found in rows.values()
    ]


def _candidate(row: dict[str, str]) -> Candidate:
    text, _, asked = row["candidate"].partition(_ASKED)
    return Candidate(Passage(row["asin"], row["source"], text), _SOURCES[row["source"]], asked)


def _verdict(answer: str) -> str:
    found = re.match(r"(yes|no)\b", answer.strip().lower())
    return found[1] if found else ""
