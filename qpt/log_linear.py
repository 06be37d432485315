"""A conditional logit: one weight per kind of evidence, shared by all classes, also those without examples.

Source: McFadden 1974, "Conditional logit analysis of qualitative choice behavior"; the objective is convex.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qpt.softmax import Matrix

Weights = NDArray[np.float64]

_STEPS = 30
_ENOUGH = 1e-6  # nats per example that a step must gain to be followed by another


def fit_log_linear(features: Matrix, targets: Matrix, importance: Weights, ridge: float = 5.0) -> Weights:
    """Weights, float64 (f,), of features float32 (n, classes, f), by Newton's method with step halving.

    ``targets``, float32 (n, classes), has each example's shares of the classes, which add up to 1; ``importance``,
    float64 (n,), multiplies examples. The penalty is ``ridge`` / 2 times the squared weights of features scaled to
    unit variance.
    """
    n, classes, width = features.shape
    flat = features.reshape(n * classes, width)
    scale = flat.std(axis=0).astype(np.float64)
    scale[scale < 1e-6] = np.inf  # the same everywhere: it cannot tell classes apart and gets no weight
    flat = (flat - flat.mean(axis=0)) / scale.astype(np.float32)
    weights = np.zeros(width)
    loss, shares = _loss(flat, weights, targets, importance, ridge)
    for _ in range(_STEPS):
        error = ((shares - targets) * importance[:, None].astype(np.float32)).ravel()
        gradient = flat.T @ error + ridge * weights
        weighted = shares * importance[:, None].astype(np.float32)
        means = np.einsum("nc,ncf->nf", shares, flat.reshape(n, classes, width))
        curvature = (flat * weighted.reshape(-1, 1)).T @ flat - (means * importance[:, None]).T @ means
        step = np.linalg.solve(curvature.astype(np.float64) + ridge * np.eye(width), gradient)
        size, slope = 1.0, float(gradient @ step)
        while size > 1e-4:
            tried, tried_shares = _loss(flat, weights - size * step, targets, importance, ridge)
            if tried <= loss - 1e-4 * size * slope:
                break
            size /= 2
        else:
            break
        weights = weights - size * step
        gained, loss, shares = loss - tried, tried, tried_shares
        if gained < _ENOUGH * n:
            break
    unscaled: Weights = weights / scale
    return unscaled


def log_shares(logits: Matrix) -> Matrix:
    """Log-softmax over the last axis."""
    centred = logits - logits.max(axis=-1, keepdims=True)
    logs: Matrix = centred - np.log(np.exp(centred).sum(axis=-1, keepdims=True))
    return logs


def _loss(
    flat: Matrix, weights: Weights, targets: Matrix, importance: Weights, ridge: float
) -> tuple[float, Matrix]:  # fmt: skip
    logs = log_shares((flat @ weights.astype(np.float32)).reshape(targets.shape))
    losses = -(targets * logs).sum(axis=1, dtype=np.float64)
    return float(losses @ importance) + ridge / 2 * float(weights @ weights), np.exp(logs)
