"""How long something will take, judged by how long it lately took."""

from __future__ import annotations


class LatencyEstimate:
    """A careful guess at the next sample: the moving mean and the moving mean deviation on top.

    Jacobson 1988, "Congestion avoidance and control", which times round trips so. Samples are of any unit, above 0.
    Threads share it without a lock: an update lost now and then does no harm.
    """

    _FADE = 0.95

    def __init__(self) -> None:
        self._mean = self._deviation = 0.0

    def add(self, sample: float) -> None:
        if not self._mean:
            self._mean, self._deviation = sample, sample / 2
            return
        error = sample - self._mean
        self._mean += error / 8
        self._deviation += (abs(error) - self._deviation) / 4

    @property
    def upper(self) -> float:
        """The guess; 0 before the first sample."""
        return self._mean + self._deviation

    def fade(self) -> None:
        """Lets the guess shrink where it allows no new sample: one slow moment must not count for ever."""
        self._mean *= self._FADE
        self._deviation *= self._FADE
