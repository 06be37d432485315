"""Quality of an order, how alike two are, probabilities from logits, how far a served model is from its original."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import msgspec
import numpy as np
from numpy.typing import NDArray

from training.data.examples import Example

Scores = NDArray[np.float32]

_ROUNDS = 100
TORCH = "torch"
_DEPTH = 10

Places = NDArray[np.int64]
Gains = NDArray[np.float64]


def ndcg(gains: Sequence[float] | NDArray[np.float64], k: int = 10) -> float:
    """nDCG@k of all judged items' gains in the order they were ranked; 0 where none has a gain.

    Linear gain over log2(rank + 1), as in trec_eval: Järvelin and Kekäläinen 2002.
    """
    discounts = 1 / np.log2(np.arange(2, min(k, len(gains)) + 2))
    best = float(np.sort(gains)[::-1][:k] @ discounts)
    return float(np.asarray(gains)[:k] @ discounts) / best if best > 0 else 0.0


def kendall_tau(left: Scores, right: Scores) -> float:
    """Pairs in the same order less those in the opposite one, over all; 1 for fewer than two items. Kendall 1938."""
    upper = np.triu_indices(len(left), 1)
    if not len(upper[0]):
        return 1.0
    return float((np.sign(left[upper[0]] - left[upper[1]]) * np.sign(right[upper[0]] - right[upper[1]])).mean())


def swapped_neighbours(reference: Scores, scores: Scores) -> float:
    """The share of items next to each other in the reference's order that ``scores`` put the other way round."""
    ordered = scores[np.argsort(-reference, kind="stable")]
    return float((ordered[1:] > ordered[:-1]).mean()) if len(ordered) > 1 else 0.0


def platt(logits: Sequence[NDArray[np.float32]], labels: Sequence[NDArray[np.float32]]) -> tuple[float, float]:
    """Scale and offset such that sigmoid(scale · logit + offset) is the probability that labels speak of.

    Both have an array per set of pairs, and each set counts the same. Where logits are no better than chance, the scale
    is 0 or less.

    Platt 1999, "Probabilistic Outputs for Support Vector Machines", by Newton's method; labels may be soft, and are
    moved off 0 and 1 as there: (N₊ + 1) / (N₊ + 2) stands for 1 and 1 / (N₋ + 2) for 0.
    """
    n = sum(map(len, labels))
    weights = np.concatenate([np.full(len(of_set), n / len(labels) / len(of_set)) for of_set in labels])
    target = np.concatenate(labels).astype(np.float64)
    x = np.stack([np.concatenate(logits), np.ones(n)], axis=1).astype(np.float64)
    positive = float(weights @ target)
    high, low = (positive + 1) / (positive + 2), 1 / (n - positive + 2)
    wanted = low + (high - low) * target
    # Logits that all are alike say nothing of the scale; the least of ridges then keeps the steps finite.
    ridge = 1e-6 * np.eye(2)
    found = np.array([1.0, 0.0])
    loss = _loss(x, wanted, found, weights)
    for _ in range(_ROUNDS):
        given = _sigmoid(x @ found)
        step = np.linalg.solve((x.T * (weights * given * (1 - given))) @ x + ridge, x.T @ (weights * (given - wanted)))
        while (after := _loss(x, wanted, found - step, weights)) > loss and np.abs(step).max() > 1e-9:
            step /= 2
        found, loss = found - step, after
        if np.abs(step).max() < 1e-9:
            break
    return float(found[0]), float(found[1])


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.5 + 0.5 * np.tanh(x / 2)  # does not overflow


def _loss(
    x: NDArray[np.float64], wanted: NDArray[np.float64], found: NDArray[np.float64], weights: NDArray[np.float64]
) -> float:
    logits = x @ found
    return float(weights @ (np.logaddexp(0, logits) - wanted * logits))


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
