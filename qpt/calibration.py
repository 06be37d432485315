"""Whether probabilities are what they say, and the temperature that makes them so."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qpt.log_linear import log_shares
from qpt.softmax import Matrix

Flags = NDArray[np.bool_]
Numbers = NDArray[np.float64]

_TEMPERATURES = np.geomspace(0.25, 4.0, 97)
_TINY = 1e-6


def fit_temperature(logits: Matrix, right: Flags, importance: Numbers) -> float:
    """The temperature at which the best class's probability best predicts whether it is right.

    ``logits`` is float32 (n, classes), ``right`` bool (n, classes), true at each class that answers the example. Of
    the temperatures from 1/4 to 4, the one with the least binary log loss of the best class. Temperature scaling is of
    Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2; they fit it to the log loss of one true
    class, which where several are right would ask for too little confidence.
    """
    best = logits.argmax(axis=1)
    hits = right[np.arange(len(best)), best]
    losses = []
    for temperature in _TEMPERATURES:
        sure = np.exp(log_shares((logits / temperature).astype(np.float32)).max(axis=1).astype(np.float64))
        said = np.where(hits, sure, 1 - sure)
        losses.append(float(-(np.log(np.maximum(said, _TINY)) * importance).sum()))
    return float(_TEMPERATURES[int(np.argmin(losses))])


def calibration_error(sure: Numbers, hits: Flags, bins: int = 10) -> float:
    """Expected calibration error with bins of equal numbers of examples, ``sure`` and ``hits`` of shape (n,).

    The mean over examples of the absolute difference between a bin's mean confidence and its share of hits. Source of
    equal-mass bins: Nguyen and O'Connor 2015. Bins hold at least ten examples, or there are fewer of them. It is
    biased upwards where bins are small: a perfect classifier's is above 0; see ``chance_error``.
    """
    order = np.argsort(sure, kind="stable")
    parts = np.array_split(order, max(1, min(bins, len(order) // 10)))
    return float(sum(abs(float((sure[part] - hits[part]).sum())) for part in parts) / max(len(order), 1))


def chance_error(sure: Numbers, bins: int = 10, draws: int = 1_000, seed: int = 0) -> float:
    """What ``calibration_error`` would be on average if every ``sure`` were exactly true: what chance alone makes.

    A parametric bootstrap, as in Vaicenavicius et al. 2019, "Evaluating model calibration in classification".
    """
    rng = np.random.default_rng(seed)
    return float(np.mean([calibration_error(sure, rng.random(len(sure)) < sure, bins) for _ in range(draws)]))
