"""From logits to probabilities of relevance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 100
_MIN_SCALE = 1e-3  # a scale below 0 would turn the order round


def platt(logits: NDArray[np.float32], labels: NDArray[np.float32]) -> tuple[float, float]:
    """Scale and offset such that sigmoid(scale · logit + offset) is the probability that labels speak of.

    Platt 1999, "Probabilistic Outputs for Support Vector Machines", by Newton's method; labels may be soft, and are
    moved off 0 and 1 as there: (N₊ + 1) / (N₊ + 2) stands for 1 and 1 / (N₋ + 2) for 0.
    """
    x = np.stack([logits, np.ones_like(logits)], axis=1).astype(np.float64)
    positive = float(labels.sum())
    high, low = (positive + 1) / (positive + 2), 1 / (len(labels) - positive + 2)
    wanted = low + (high - low) * labels.astype(np.float64)
    # Logits that all are alike say nothing of the scale; the least of ridges then keeps the steps finite.
    ridge = 1e-6 * np.eye(2)
    found = np.array([1.0, 0.0])
    loss = _loss(x, wanted, found)
    for _ in range(_ROUNDS):
        given = _sigmoid(x @ found)
        step = np.linalg.solve((x.T * (given * (1 - given))) @ x + ridge, x.T @ (given - wanted))
        while (after := _loss(x, wanted, found - step)) > loss and np.abs(step).max() > 1e-9:
            step /= 2
        found, loss = found - step, after
        if np.abs(step).max() < 1e-9:
            break
    return max(float(found[0]), _MIN_SCALE), float(found[1])


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.5 + 0.5 * np.tanh(x / 2)  # does not overflow


def _loss(x: NDArray[np.float64], wanted: NDArray[np.float64], found: NDArray[np.float64]) -> float:
    logits = x @ found
    return float((np.logaddexp(0, logits) - wanted * logits).sum())
