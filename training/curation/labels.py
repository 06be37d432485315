"""Labels that contradict each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from training.curation.rows import Pair, Rows
from training.curation.step import Context, Step
from training.data.stems import Stems

_TIE = 1e-9  # labels this near the spread are not over it: 0.9 - 0.4 is no more than 0.5
_NOBODY = (2.0, 2.0)  # a range that has no label


class ContradictionsStep(Step, frozen=True, kw_only=True, tag="contradictions"):
    """Pairs of one product with queries of the same stems, whose labels are more than ``spread`` apart.

    With ``resolve = "majority"`` those stay that are within ``spread`` of one another and more than half of all, and
    where there is no such majority none does. With ``"drop"`` none does ever.
    """

    spread: float = 0.5
    resolve: Literal["majority", "drop"] = "majority"

    def __post_init__(self) -> None:
        if not 0 <= self.spread < 1:
            raise ValueError(f"spread is {self.spread}; it must be from 0 and below 1")

    def apply(self, rows: Rows, context: Context) -> Rows:
        stems = Stems()
        key = {query: stems(query) for query in {pair.query for pair in rows.pairs}}
        groups: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
        for place, pair in enumerate(rows.pairs):
            if pair.label is not None:
                groups[key[pair.query], pair.product_id][place] = pair.label
        outvoted: list[Pair] = []
        undecided: list[Pair] = []
        gone: set[int] = set()
        for labelled in groups.values():
            labels = list(labelled.values())
            if max(labels) - min(labels) <= self.spread + _TIE:
                continue
            low, high = self._majority(labels) if self.resolve == "majority" else _NOBODY
            losers = [place for place, label in labelled.items() if not low <= label <= high]
            (undecided if len(losers) == len(labelled) else outvoted).extend(rows.pairs[place] for place in losers)
            gone.update(losers)
        context.tally.drop_pairs(outvoted, "label that most others contradict")
        context.tally.drop_pairs(undecided, "labels that contradict each other")
        return replace(rows, pairs=tuple(pair for place, pair in enumerate(rows.pairs) if place not in gone))

    def _majority(self, labels: Sequence[float]) -> tuple[float, float]:
        """The lowest and the highest label of the majority; a range without labels where there is none, or are two."""
        ranges = [(low, low + self.spread + _TIE) for low in sorted(set(labels))]
        votes = [sum(low <= label <= high for label in labels) for low, high in ranges]
        most = max(votes)
        return ranges[votes.index(most)] if 2 * most > len(labels) and votes.count(most) == 1 else _NOBODY
