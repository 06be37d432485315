"""From logits to probabilities of relevance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 100


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
