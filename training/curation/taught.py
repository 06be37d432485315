"""Distillation: a teacher's labels for the pairs in hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from engine.errors import BudgetError
from training.curation.rows import Pair, Rows
from training.curation.step import Context, Step, merge_pairs
from training.metrics import Scores
from training.teachers import Done, Labeller
from training.teachers import Pair as Asked
from training.teachers.settings import AnyTeacher, open_labeller


class LabelStep(Step, frozen=True, kw_only=True, tag="label"):
    """A pair's label becomes ``weight`` times the teacher's probability, and the rest of its own.

    A pair without a label gets the teacher's alone. Pairs to which the teacher gave no usable answer are dropped, and
    so are those that it could not be asked about any more, where money ran out.
    """

    teacher: AnyTeacher
    weight: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.weight <= 1:
            raise ValueError(f"weight is {self.weight}; it must be above 0 and at most 1")

    def apply(self, rows: Rows, context: Context) -> Rows:
        rows = merge_pairs(rows, context.tally)  # nothing is asked twice
        asked = [Asked(pair.query, rows.products[pair.product_id]) for pair in rows.pairs]
        given, stopped = _ask(
            open_labeller(self.teacher), asked, lambda done, total: context.progress("asking the teacher", done, total)
        )
        answered = list(zip(rows.pairs, given.tolist(), strict=True))
        unanswered = [pair for pair, probability in answered if np.isnan(probability)]
        context.tally.drop_pairs(unanswered, "pair without an answer of the teacher")
        known = [(pair, probability) for pair, probability in answered if not np.isnan(probability)]
        for rule, is_new in (("labelled by the teacher", True), ("label mixed with the teacher's", False)):
            changed = [pair for pair, _ in known if (pair.label is None) == is_new]
            context.tally.change("pairs", rule, len(changed), (pair.place for pair in changed))
        if stopped:
            context.tally.note(f"stopped early: {stopped}")
        return replace(rows, pairs=tuple(replace(pair, label=self._mixed(pair, p)) for pair, p in known))

    def _mixed(self, pair: Pair, probability: float) -> float:
        if pair.label is None:
            return probability
        return self.weight * probability + (1 - self.weight) * pair.label


def _ask(teacher: Labeller, pairs: Sequence[Asked], progress: Done) -> tuple[Scores, str]:
    """Probabilities, float32 (n,), NaN where there is none; and why not all was asked, or nothing.

    A teacher that runs out of money keeps what it answered: asked pair by pair it gives that again for nothing. Raises
    EndpointError, and BudgetError where it answered nothing at all.
    """
    try:
        return teacher.label(pairs, progress), ""
    except BudgetError as error:
        given = np.array([_kept(teacher, pair) for pair in pairs], np.float32)
        if np.isnan(given).all():
            raise
        return given, str(error)


def _kept(teacher: Labeller, pair: Asked) -> float:
    try:
        return float(teacher.label([pair])[0])
    except BudgetError:
        return np.nan
