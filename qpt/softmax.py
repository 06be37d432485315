"""Softmax regression in numpy: the smallest classifier whose answers are probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
Labels = NDArray[np.int64]

_BATCH = 512
_LEAST_STEPS = 150  # whatever the epochs; little data needs more passes
_BETAS = (0.9, 0.999)
_TINY = 1e-8


class SoftmaxRegression:
    """Multinomial logistic regression, fitted by Adam (Kingma and Ba 2015) on batches in a seeded order.

    ``smoothing`` of each label goes evenly to all classes, which keeps probabilities from being surer than they are
    right (Szegedy et al. 2016). Learns ``weights_``, float32 (d, classes), and ``bias_``, float32 (classes,).
    """

    def __init__(self, *, epochs: int = 12, rate: float = 0.03, smoothing: float = 0.05, seed: int = 0) -> None:
        self.epochs, self.rate, self.smoothing, self.seed = epochs, rate, smoothing, seed

    def fit(self, features: Matrix, labels: Labels, n_classes: int) -> SoftmaxRegression:
        """Learns from float32 (n, d) and class numbers (n,)."""
        rng = np.random.default_rng(self.seed)
        self.weights_ = np.zeros((features.shape[1], n_classes), np.float32)
        self.bias_ = np.zeros(n_classes, np.float32)
        moments = [(np.zeros_like(array), np.zeros_like(array)) for array in (self.weights_, self.bias_)]
        step = 0
        batches = -(-len(features) // _BATCH)
        for _ in range(max(self.epochs, -(-_LEAST_STEPS // max(batches, 1)))):
            order = rng.permutation(len(features))
            for start in range(0, len(order), _BATCH):
                step += 1
                self._step(
                    features[order[start : start + _BATCH]], labels[order[start : start + _BATCH]], moments, step
                )
        return self

    def probabilities(self, features: Matrix) -> Matrix:
        """Float32 (n, classes); every row adds up to 1."""
        logits = features @ self.weights_ + self.bias_
        logits -= logits.max(axis=1, keepdims=True)
        shares: Matrix = np.exp(logits)
        shares /= shares.sum(axis=1, keepdims=True)
        return shares

    def _step(self, batch: Matrix, labels: Labels, moments: list[tuple[Matrix, Matrix]], step: int) -> None:
        error = self.probabilities(batch) - self.smoothing / len(self.bias_)
        error[np.arange(len(labels)), labels] -= 1 - self.smoothing
        error /= len(labels)
        for array, gradient, (mean, square) in zip(
            (self.weights_, self.bias_), (batch.T @ error, error.sum(axis=0)), moments, strict=True
        ):
            mean += (1 - _BETAS[0]) * (gradient - mean)
            square += (1 - _BETAS[1]) * (gradient**2 - square)
            unbiased = np.sqrt(square / (1 - _BETAS[1] ** step)) + _TINY
            array -= self.rate * (mean / (1 - _BETAS[0] ** step)) / unbiased
