"""Distillation: a teacher's labels for the pairs in hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from training.curation.rows import Pair, Rows
from training.curation.step import Context, Step
from training.teachers import Pair as Asked
from training.teachers.settings import AnyTeacher, open_labeller


class LabelStep(Step, frozen=True, kw_only=True, tag="label"):
    """A pair's label becomes ``weight`` times the teacher's probability, and the rest of its own.

    Pairs to which the teacher gave no usable answer are dropped.
    """

    teacher: AnyTeacher
    weight: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.weight <= 1:
            raise ValueError(f"weight is {self.weight}; it must be above 0 and at most 1")

    def apply(self, rows: Rows, context: Context) -> Rows:
        asked = [Asked(pair.query, rows.products[pair.product_id]) for pair in rows.pairs]
        given = open_labeller(self.teacher).label(
            asked, lambda done, total: context.progress("asking the teacher", done, total)
        )
        labelled: list[Pair] = []
        unanswered: list[Pair] = []
        for pair, probability in zip(rows.pairs, given.tolist(), strict=True):
            if np.isnan(probability):
                unanswered.append(pair)
            else:
                labelled.append(replace(pair, label=self.weight * probability + (1 - self.weight) * pair.label))
        context.tally.drop_pairs(unanswered, "pair without an answer of the teacher")
        context.tally.change("pairs", "label mixed with the teacher's", len(labelled), (p.place for p in labelled))
        return replace(rows, pairs=tuple(labelled))
