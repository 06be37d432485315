"""How far a served cross-encoder is from the one it was made of: in logits, in order, in nDCG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import msgspec
import numpy as np
from numpy.typing import NDArray

from training.data.examples import Example
from training.metrics import Scores, kendall_tau, ndcg, swapped_neighbours

TORCH = "torch"
_DEPTH = 10

Places = NDArray[np.int64]
Gains = NDArray[np.float64]


class Agreement(msgspec.Struct, frozen=True):
    """One form of the model against torch.

    Differences are in logits. ``kendall_tau``, ``swapped`` (the share of torch's neighbours in the opposite order) and
    ``ndcg`` (at 10) are means over all queries.
    """

    max_difference: float
    mean_difference: float
    kendall_tau: float
    swapped: float
    ndcg: float


class Parity(msgspec.Struct, frozen=True):
    """Agreement by form of the model, torch itself first. ``judged_by`` says whose labels nDCG is of."""

    n_pairs: int
    n_queries: int
    judged_by: str
    forms: dict[str, Agreement]

    def loss(self, form: str) -> float:
        """The share of torch's nDCG that ``form`` loses; negative where it gains."""
        whole = self.forms[TORCH].ndcg
        return 1 - self.forms[form].ndcg / whole if whole else 0.0

    def table(self) -> list[str]:
        """Markdown, a line each."""
        lines = [
            "| | largest logit difference | mean | Kendall tau | neighbours swapped | nDCG@10 | loss |",
            "|---|---|---|---|---|---|---|",
        ]
        for name, form in self.forms.items():
            lines.append(
                f"| {name} | {form.max_difference:.1e} | {form.mean_difference:.1e} | {form.kendall_tau:.4f} "
                f"| {form.swapped:.2%} | {form.ndcg:.4f} | {self.loss(name):.2%} |"
            )
        return lines


def compare(examples: Sequence[Example], judged: str | None, logits: dict[str, Scores]) -> Parity:
    """Of ``logits`` by form, float32 (n,) in the order of the examples, ``TORCH`` among them.

    ``judged`` names where the labels are from. None says that there are none: then the first ten of torch's order have
    the gains 10 to 1.
    """
    queries = [np.array(list(places)) for _, places in groupby(range(len(examples)), lambda i: examples[i].query_id)]
    reference = logits[TORCH]
    labels = np.array([example.label for example in examples])
    gain = (lambda places: labels[places]) if judged else (lambda places: _own_gains(reference[places]))
    forms = {name: _agreement(queries, gain, reference, scores) for name, scores in logits.items()}
    return Parity(len(examples), len(queries), judged or "the torch model's own order", forms)


def _agreement(
    queries: Sequence[Places], gain: Callable[[Places], Gains], reference: Scores, scores: Scores
) -> Agreement:
    difference = np.abs(scores.astype(np.float64) - reference)
    per_query = [
        (
            kendall_tau(reference[places], scores[places]),
            swapped_neighbours(reference[places], scores[places]),
            ndcg(gain(places)[np.argsort(-scores[places], kind="stable")], _DEPTH),
        )
        for places in queries
    ]
    tau, swapped, quality = np.mean(per_query, axis=0).tolist()
    return Agreement(float(difference.max()), float(difference.mean()), tau, swapped, quality)


def _own_gains(reference: Scores) -> Gains:
    places = np.argsort(np.argsort(-reference, kind="stable"))
    return np.maximum(_DEPTH - places, 0).astype(np.float64)
