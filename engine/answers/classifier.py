"""Whether a text asks a question or is a search: a logistic model over a few marks of a question's grammar.

``classifier.toml`` has its weights, and how they were fitted: ``python -m training.questions``.
"""

from __future__ import annotations

import math
import re
from itertools import pairwise
from pathlib import Path

from engine.answers.lexicon import WORDS
from engine.errors import ConfigError
from engine.fitted import Fitted

_WORD = re.compile(r"[^\W_]+(?:['’./-][^\W_]+)*")
_IS = re.compile(r"\b(what|who|where|when|how)'?s\b")
_PHRASES = re.compile(
    r"\b(?:how to|difference between|better than|compared? (?:to|with)|what about|is it|does it|will it|can it|do i|"
    r"can i|tell me|i (?:am|have|want|need|would|was)|i'm|any(?:one| way)|or (?:not|is)|should i)\b"
)

#: What is looked at, in this order; each is 0 or 1 but for the last two.
FEATURES = (
    "ends_with_mark", "has_mark", "starts_wh", "starts_auxiliary", "starts_request", "auxiliary_then_subject",
    "wh_then_auxiliary", "wh_inside", "has_person", "phrase", "versus", "starts_how_to", "second_is_plain_noun",
    "function_share", "length",
)  # fmt: skip


def question_features(text: str) -> list[float]:
    """The values of ``FEATURES``."""
    folded = _IS.sub(r"\1 is", " ".join(text.lower().replace("’", "'").split()))
    words = _WORD.findall(folded)
    if not words:
        return [0.0] * len(FEATURES)
    q, first, second = WORDS.question, words[0], words[1] if len(words) > 1 else ""
    pairs = list(pairwise(words))
    function = q.wh | q.auxiliary | q.subject | q.person
    inverted = any(one in q.auxiliary and other in q.subject for one, other in pairs)
    return [
        float(folded.endswith("?")),
        float("?" in folded[:-1]),
        float(first in q.wh),
        float(first in q.auxiliary),
        float(first in q.request),
        float(inverted),
        float(any(one in q.wh and other in q.auxiliary for one, other in pairs)),
        float(any(word in q.wh for word in words[1:])),
        float(bool(q.person.intersection(words))),
        float(_PHRASES.search(folded) is not None),
        float(bool(WORDS.intent.compare.intersection(folded.split()[1:-1]))),
        float((first, second) == ("how", "to")),
        float(first in q.wh | q.auxiliary and second not in function),
        sum(word in function for word in words) / len(words),
        min(len(words), 20) / 20,
    ]


class QuestionModel(Fitted, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``weights`` are of ``FEATURES``; from ``threshold`` on a text is taken for a question."""

    offset: float
    weights: dict[str, float]
    threshold: float

    def probability(self, text: str) -> float:
        """How probable it is that ``text`` asks a question."""
        logit = self.offset + sum(
            self.weights[name] * value for name, value in zip(FEATURES, question_features(text), strict=True)
        )
        return 0.5 + 0.5 * math.tanh(logit / 2)

    def asks(self, text: str) -> bool:
        """Whether it is taken for a question."""
        return self.probability(text) >= self.threshold


FILE = Path(__file__).with_name("classifier.toml")


def shipped_model() -> QuestionModel:
    """The shipped weights. Raises ConfigError."""
    model = QuestionModel.read(FILE)
    if set(model.weights) != set(FEATURES):
        raise ConfigError(f"{FILE}: weights are of {sorted(model.weights)}; they must be of {', '.join(FEATURES)}")
    return model
