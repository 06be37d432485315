"""A picture of a run: the loss, the learning rate, and how good the model is on dev."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from matplotlib.figure import Figure


class Point(Protocol):
    """What every evaluation says."""

    @property
    def step(self) -> int: ...

    @property
    def loss(self) -> float: ...

    @property
    def learning_rate(self) -> float: ...


def draw(
    evaluations: Sequence[Point], dev: Mapping[str, Sequence[float]], judged_by: str, label: str, path: Path
) -> None:  # fmt: skip
    """Writes a PNG with a point per evaluation. ``dev`` has lines by name; the best is that of line ``judged_by``."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    steps = [evaluation.step for evaluation in evaluations]
    left.plot(steps, [evaluation.loss for evaluation in evaluations], marker="o", label="loss")
    left.set_xlabel("step")
    left.set_ylabel("training loss")
    rates = left.twinx()
    rates.plot(steps, [evaluation.learning_rate for evaluation in evaluations], color="tab:gray", linestyle=":")
    rates.set_ylabel("learning rate (dotted)")
    for name, values in dev.items():
        right.plot(steps, values, marker="o", label=name)
    best = max(range(len(steps)), key=dev[judged_by].__getitem__)
    right.axvline(steps[best], color="tab:gray", linewidth=0.8)
    right.set_title(f"best: {dev[judged_by][best]:.4f} at step {steps[best]}")
    right.set_xlabel("step")
    right.set_ylabel(label)
    right.legend()
    figure.savefig(path, dpi=110)
