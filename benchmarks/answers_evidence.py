"""Which candidate answers a question, and how: the extractive reader against BM25, cosine and majority."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.analysis.analyzer import Analyzer
from engine.answers.evidence import Candidate, Embed, EvidenceModel
from training.data.epqa import ANSWERS, JudgedQuestion

Floats = NDArray[np.float64]
_K1, _B = 1.2, 0.75
#: A system's scores of a question's candidates, and its verdict on the best; below ``least`` it abstains.
Verdict = Callable[[str, Candidate], str]


@dataclass(frozen=True, slots=True)
class EvidenceSystem:
    """``score`` gives one number per candidate of a question, float64 (n,); below ``least`` it says nothing."""

    name: str
    score: Callable[[JudgedQuestion], Floats]
    verdict: Verdict
    least: float = -math.inf


def systems(questions: Sequence[JudgedQuestion], embed: Embed, model: EvidenceModel) -> list[EvidenceSystem]:
    """The reader and its baselines. "majority" answers yes with what is the commonest kind of answer, the community's.

    Words of BM25 are weighed over the candidates of all questions, the largest collection there is.
    """

    def yes(question: str, candidate: Candidate) -> str:
        return "yes"

    bm25 = _Bm25([one.whole for question in questions for one in question.candidates])

    def cosine(question: JudgedQuestion) -> Floats:
        vector = embed([question.text])[0]
        return np.asarray(embed([one.whole for one in question.candidates]) @ vector, np.float64)

    def commonest(question: JudgedQuestion) -> Floats:
        return np.array([float(one.source == "answer") for one in question.candidates])

    return [
        EvidenceSystem("majority", commonest, yes),
        EvidenceSystem(
            "bm25", lambda question: bm25.scores(question.text, [c.whole for c in question.candidates]), yes
        ),
        EvidenceSystem("cosine", cosine, yes),
        EvidenceSystem(
            "reader",
            lambda question: model.probabilities(question.text, question.candidates),
            lambda question, candidate: model.verdict(question, candidate) or "",
            model.threshold,
        ),
    ]


def reciprocal_rank(system: EvidenceSystem, question: JudgedQuestion) -> float:
    """Of the first candidate that answers; ties in the order given. Only for questions that some candidate answers."""
    order = np.argsort(-system.score(question), kind="stable")
    return 1 / (1 + next(place for place, at in enumerate(order) if question.labels[at] == ANSWERS))


def is_right(system: EvidenceSystem, question: JudgedQuestion) -> float:
    """1 where the best candidate answers and its verdict is that of the answer people wrote from it; where no candidate
    answers, where it says nothing.
    """
    scores = system.score(question)
    best = int(np.argmax(scores))
    if scores[best] < system.least:
        return float(not question.answerable)
    told = system.verdict(question.text, question.candidates[best])
    return float(question.labels[best] == ANSWERS and told == question.verdicts[best])


class _Bm25:
    """Lucene's idf over a collection of texts; saturation and length as Robertson and Zaragoza 2009 have them."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._analyzer = Analyzer()
        terms = [self._analyzer.terms(text) for text in texts]
        self._n, self._mean = len(texts), sum(map(len, terms)) / max(len(texts), 1)
        self._having = Counter(term for of in terms for term in set(of))

    def scores(self, question: str, texts: Sequence[str]) -> Floats:
        asked = set(self._analyzer.terms(question))
        return np.array([self._score(asked, self._analyzer.terms(text)) for text in texts])

    def _score(self, asked: set[str], terms: Sequence[str]) -> float:
        counts = Counter(terms)
        norm = _K1 * (1 - _B + _B * len(terms) / self._mean)
        return sum(self._idf(term) * counts[term] * (_K1 + 1) / (counts[term] + norm) for term in asked if counts[term])

    def _idf(self, term: str) -> float:
        return math.log(1 + (self._n - self._having[term] + 0.5) / (self._having[term] + 0.5))
