"""Numbers that answers are judged by, in ``answers.toml``."""

from __future__ import annotations

import math
from pathlib import Path

from engine.fitted import Fitted


class AnswerNumbers(Fitted, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What makes an attribute the one that was asked for, and how sure an answer is.

    - ``least_cosine_…``: of a question's words and an attribute's name, from which words that are not in the name may
      mean it all the same: where the name is said whole and is of several words, a flag's, or of one word; of one word,
      and the others are of another's name; where it is said in part, or not at all.
    - ``least_cosine_thing``: of a noun and a category's name, from which "the fridge" means such a product.
    - ``least_named``: the share of a name that must be said.
    - ``least_support``, ``least_support_share``: how probable a passage about the shop's service must be, and which
      share of the question's words it must have, to answer.
    - ``confidence_…``: a logistic model of whether an attribute's answer is right.
    - ``conflict_confidence``, ``text_confidence``, ``table_confidence``, ``silent_confidence``: how probable it is
      that a contradiction, a sentence, a comparison, and silence were read aright.
    """

    least_cosine_several: float
    least_cosine_flag: float
    least_cosine_whole: float
    least_cosine_alien: float
    least_cosine_part: float
    least_cosine_none: float
    least_cosine_thing: float
    least_named: float
    confidence_offset: float
    confidence_named: float
    confidence_cosine: float
    confidence_values: float
    confidence_rest: float
    least_support: float
    least_support_share: float
    conflict_confidence: float
    text_confidence: float
    table_confidence: float
    silent_confidence: float

    def confidence(self, named: float, cosine: float, has_values: bool, n_rest: int) -> float:
        """How probable it is that the attribute that was found is the one that was asked for."""
        logit = (
            self.confidence_offset + self.confidence_named * named + self.confidence_cosine * cosine
            + self.confidence_values * has_values + self.confidence_rest * n_rest
        )  # fmt: skip
        return 0.5 + 0.5 * math.tanh(logit / 2)


FILE = Path(__file__).with_name("answers.toml")
NUMBERS = AnswerNumbers.read(FILE)
