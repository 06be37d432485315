"""Logistic regression by Newton's method, for models of a few weights that are served from a file."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_ITERATIONS = 50
_RIDGE = 1e-9  # keeps the curvature invertible where a feature never varies


def fit_logistic(values: Floats, truth: Floats, penalty: float, share: Floats | None = None) -> tuple[float, Floats]:
    """Offset and weights, float64 (n_features,), that maximise the likelihood of ``truth``, 0 or 1, float64 (n,), less
    ``penalty`` times half the sum of squares of the weights of features in units of their standard deviation.

    ``values`` is float64 (n, n_features); ``share`` weighs the examples, all alike where there is none.
    """
    share = np.ones(len(truth)) if share is None else share
    mean, spread = values.mean(0), values.std(0)
    spread[spread == 0] = 1.0
    scaled = np.column_stack([np.ones(len(values)), (values - mean) / spread])
    ridge = np.full(scaled.shape[1], penalty)
    ridge[0] = 0.0
    weights: Floats = np.zeros(scaled.shape[1])
    for _ in range(_ITERATIONS):
        chance = 1 / (1 + np.exp(-np.clip(scaled @ weights, -30, 30)))
        gradient = scaled.T @ (share * (truth - chance)) - ridge * weights
        curve = (scaled * (share * chance * (1 - chance))[:, None]).T @ scaled + np.diag(ridge + _RIDGE)
        weights = weights + np.linalg.solve(curve, gradient)
    own = weights[1:] / spread
    return float(weights[0] - own @ mean), own
