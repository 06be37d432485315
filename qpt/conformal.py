"""Sets of types that hold a right one as often as stated: split conformal prediction.

Source: Sadinle, Lei and Wasserman 2019, "Least Ambiguous Set-Valued Classifiers with Bounded Error Levels" (the score,
which gives the smallest sets on average); Vovk 2015, "Cross-conformal predictors" (scores from cross-fitting). The
coverage holds on average over queries like those of the calibration, and for no query by itself.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError
from qpt.calibration import Flags
from qpt.softmax import Matrix


def nonconformity(probabilities: Matrix, right: Flags) -> NDArray[np.float32]:
    """Float32 (n,), ascending: 1 − the probability of each example's most probable right class.

    ``probabilities`` and ``right`` are of shape (n, classes).
    """
    scores: NDArray[np.float32] = np.sort(1 - np.where(right, probabilities, 0.0).max(axis=1)).astype(np.float32)
    return scores


def threshold(scores: NDArray[np.float32], coverage: float) -> float:
    """The least probability that puts a class into the set, 0 where ``scores`` are too few for ``coverage``.

    The ⌈(n + 1)·coverage⌉-th smallest of ``scores``, which are ascending, taken from 1. Raises ConfigError.
    """
    if not 0 < coverage < 1:
        raise ConfigError(f"coverage is {coverage}; it must lie between 0 and 1, such as 0.9")
    rank = math.ceil((len(scores) + 1) * coverage)
    return 1 - float(scores[rank - 1]) if rank <= len(scores) else 0.0


def in_set(probabilities: Matrix, least: float) -> Flags:
    """Bool (n, classes): what is in each example's set. The best class always is, so that no set is empty."""
    # A hair of slack: the threshold went through 1 − p and back.
    inside: Flags = (probabilities >= least - 1e-6) | (probabilities >= probabilities.max(axis=1, keepdims=True))
    return inside
