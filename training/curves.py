"""A picture of a run: the loss, the learning rate, and nDCG@10 on dev."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from training.checkpoint import Evaluation


def draw(evaluations: Sequence[Evaluation], path: Path) -> None:
    """Writes a PNG with a point per evaluation."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    steps = [evaluation.step for evaluation in evaluations]
    left.plot(steps, [evaluation.loss for evaluation in evaluations], marker="o", label="loss")
    left.set_xlabel("step")
    left.set_ylabel("training loss")
    rates = left.twinx()
    rates.plot(steps, [evaluation.learning_rate for evaluation in evaluations], color="tab:gray", linestyle=":")
    rates.set_ylabel("learning rate (dotted)")
    for name in evaluations[0].ndcg:
        right.plot(steps, [evaluation.ndcg[name] for evaluation in evaluations], marker="o", label=name)
    if len(evaluations[0].ndcg) > 1:
        right.plot(steps, [evaluation.mean for evaluation in evaluations], color="black", label="mean")
    best = max(evaluations, key=lambda evaluation: evaluation.mean)
    right.axvline(best.step, color="tab:gray", linewidth=0.8)
    right.set_title(f"best: {best.mean:.4f} at step {best.step}")
    right.set_xlabel("step")
    right.set_ylabel("nDCG@10, judged pool of dev")
    right.legend()
    figure.savefig(path, dpi=110)
