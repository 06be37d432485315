"""The extractive reader: which passage answers a question, how probably, and whether with a yes or a no.

Two logistic models over what is seen of question and passage: the encoder's cosines, the question's words that the
passage has, what kind of text it is, and a few marks of its wording. ``evidence.toml`` has their weights, fitted by
``python -m training.evidence``. The shipped cross-encoder adds nothing to them: it was trained for titles.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engine.answers.fields import Passage
from engine.answers.lexicon import WORDS
from engine.answers.wording import words_of
from engine.errors import ConfigError
from engine.fitted import Fitted
from engine.seams import Embeddings

Floats = NDArray[np.float64]
Source = Literal["answer", "review", "description", "bullet", "attribute"]
Embed = Callable[[Sequence[str]], Embeddings]

_NO = re.compile(
    r"\b(?:no|not|never|none|nothing|without|cannot|unable|lacks?|neither|nor|\w+n'?t)\b", re.IGNORECASE
)  # fmt: skip
_UNSURE = re.compile(r"\b(?:not sure|don'?t know|i think|no idea|i guess|not certain)\b", re.IGNORECASE)
_PERSON = re.compile(r"(?:i|i'm|im|i've|my|we|sorry)\b", re.IGNORECASE)
_AMOUNT = re.compile(
    r"\b(?:how (?:many|much|long|big|often|old|tall|wide|heavy|far)|dimensions?|size|weight|what is the)\b"
)
_FITS = re.compile(r"\b(?:fits?|works?|compatible)\b", re.IGNORECASE)
_LONG = 60  # words from which a passage is as long as any
_BEGINNING = 60  # characters of a passage in which a "no" is its own

#: What is looked at to tell whether a passage answers.
FEATURES = (
    "cosine", "cosine_answer", "cosine_asked", "coverage", "coverage_answer", "is_answer", "is_review",
    "is_description", "is_bullet", "is_attribute", "length", "says_yes_or_no", "has_amount",
    "has_number", "is_personal", "is_unsure",
    "attribute_cosine", "attribute_polar",
)  # fmt: skip
#: And to tell whether it says yes, or no. All but the last are nothing where the question is no question of yes or no.
VERDICT_FEATURES = (
    "polar", "begins_yes", "begins_no", "negations", "negation_first", "asks_negated",
    "asks_choice", "is_attribute", "is_answer", "is_description", "says_only", "asks_fit", "cosine", "says_number",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Candidate:
    """A passage, what kind of text it is, and of an answer in a forum or FAQ the question that it was given to."""

    passage: Passage
    source: Source
    asked: str = ""

    @property
    def whole(self) -> str:
        """The passage with its question."""
        return f"{self.passage.text} {self.asked}".strip()


class Weights(Fitted, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Both models. ``threshold`` is the probability from which a passage is taken for an answer."""

    offset: float
    weights: dict[str, float]
    yes_offset: float
    yes: dict[str, float]
    no_offset: float
    no: dict[str, float]
    threshold: float


FILE = Path(__file__).with_name("evidence.toml")


class EvidenceModel:
    """Ranks passages. Thread-safe. ``embed`` gives vectors of unit length."""

    def __init__(self, weights: Weights, embed: Embed) -> None:
        for given, known in (
            (weights.weights, FEATURES),
            (weights.yes, VERDICT_FEATURES),
            (weights.no, VERDICT_FEATURES),
        ):
            if set(given) != set(known):
                raise ConfigError(f"{FILE}: weights are of {sorted(given)}; they must be of {', '.join(known)}")
        self._embed, self.threshold = embed, weights.threshold
        self._weights = np.array([weights.weights[name] for name in FEATURES])
        self._offset = weights.offset
        self._verdicts = np.array([[of[name] for name in VERDICT_FEATURES] for of in (weights.yes, weights.no)])
        self._verdict_offsets = np.array([weights.yes_offset, weights.no_offset])

    @classmethod
    def shipped(cls, embed: Embed) -> EvidenceModel:
        """With the shipped weights. Raises ConfigError."""
        return cls(Weights.read(FILE), embed)

    def vector(self, question: str) -> NDArray[np.float32]:
        """The question's unit vector, float32 (dim,)."""
        return np.asarray(self._embed([question])[0])

    def probabilities(self, question: str, candidates: Sequence[Candidate]) -> Floats:
        """Float64 (n,): how probable it is that each candidate answers the question, in their order."""
        if not candidates:
            return np.empty(0)
        return _logistic(evidence_features(question, candidates, self._embed) @ self._weights + self._offset)

    def verdict(self, question: str, candidate: Candidate) -> Literal["yes", "no"] | None:
        """What the passage answers a question of yes or no; None where it is none, or neither."""
        values = verdict_features(question, candidate, self._embed)
        yes, no = self._verdicts @ values + self._verdict_offsets
        if max(yes, no) <= 0:
            return None
        return "yes" if yes >= no else "no"


def evidence_features(question: str, candidates: Sequence[Candidate], embed: Embed) -> Floats:
    """Float64 (n, len(FEATURES)). Words are weighed by how few of the candidates have them."""
    asked = {
        word.stem for word in words_of(question) if word.text not in WORDS.question.subject | WORDS.question.auxiliary
    }
    bodies = [{word.stem for word in words_of(one.passage.text)} for one in candidates]
    wholes = [{word.stem for word in words_of(one.whole)} for one in candidates]
    having = Counter(stem for whole in wholes for stem in whole & asked)
    weight = {stem: math.log(1 + (len(candidates) + 0.5) / (having[stem] + 0.5)) for stem in asked}
    total = sum(weight.values()) or 1.0
    vector = embed([question])[0]
    cosines = embed([one.whole for one in candidates]) @ vector
    own = embed([one.passage.text for one in candidates]) @ vector
    others = [float(embed([one.asked])[0] @ vector) if one.asked else 0.0 for one in candidates]
    polar, amount = is_polar(question), bool(_AMOUNT.search(question.lower()))
    rows = []
    for place, one in enumerate(candidates):
        text, source = one.passage.text, one.source
        attribute = float(source == "attribute")
        number = float(any(c.isdigit() for c in text))
        rows.append([
            float(cosines[place]), float(own[place]), others[place],
            sum(weight[stem] for stem in asked & wholes[place]) / total,
            sum(weight[stem] for stem in asked & bodies[place]) / total,
            *(float(source == name) for name in ("answer", "review", "description", "bullet")), attribute,
            min(len(text.split()), _LONG) / _LONG, float(text[:3].lower() in ("yes", "no ", "no,", "no.")),
            number * amount, number, float(_PERSON.match(text) is not None), float(_UNSURE.search(text) is not None),
            attribute * float(cosines[place]), attribute * polar,
        ])  # fmt: skip
    return np.array(rows)


def verdict_features(question: str, candidate: Candidate, embed: Embed) -> Floats:
    """Float64 (len(VERDICT_FEATURES),)."""
    polar = float(is_polar(question))
    text = candidate.passage.text.lower().strip()
    first = next(iter(words_of(text)), None)
    first_text = first.text if first else ""
    source = candidate.source
    one, other = embed([question, candidate.whole])
    values = [
        1.0, float(first_text == "yes"), float(first_text in ("no", "nope")), float(min(len(_NO.findall(text)), 2)),
        float(_NO.search(text[:_BEGINNING]) is not None),
        float(len(_NO.findall(question))), float(" or " in question.lower()), float(source == "attribute"),
        float(source == "answer"), float(source in ("description", "bullet")), float(" only " in f" {text} "),
        float(_FITS.search(question) is not None), float(one @ other),
    ]  # fmt: skip
    return np.array([*(polar * value for value in values), (1 - polar) * any(c.isdigit() for c in text)])


def is_polar(question: str) -> bool:
    """Whether the first word that asks is a verb."""
    for word in words_of(question):
        if word.text in WORDS.question.wh:
            return False
        if word.text in WORDS.question.auxiliary:
            return True
    return False


def _logistic(logits: Floats) -> Floats:
    return np.asarray(0.5 + 0.5 * np.tanh(logits / 2))
