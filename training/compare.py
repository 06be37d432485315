"""Losses compared with each other: the same data, the same seed, the same number of steps, judged on dev."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.stats import permutation_test

from training.data.ranking import NDCG
from training.export import write_json
from training.run import Outcome, train
from training.settings import Progress
from training.tasks.reranker import RerankerConfig

_PERMUTATIONS = 10_000


class Contender(msgspec.Struct, frozen=True):
    """A loss: nDCG@10 by dev set and their mean at its best step; over all dev queries its difference to the best loss,
    and the two-sided p of that under random signs (Smucker et al. 2007). The best has 0 and 1.
    """

    loss: str
    ndcg: dict[str, float]
    mean: float
    best_step: int
    minutes: float
    difference: float
    p: float


class Comparison(msgspec.Struct, frozen=True):
    """The contenders, best first."""

    contenders: list[Contender]

    def table(self) -> list[str]:
        """Markdown."""
        names = list(self.contenders[0].ndcg)
        head = ["loss", *names, "mean", "difference per query", "p", "best step", "minutes"]
        lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        for found in self.contenders:
            cells = [found.loss, *(f"{found.ndcg[name]:.4f}" for name in names), f"{found.mean:.4f}"]
            cells += [f"{found.difference:+.4f}", f"{found.p:.3f}", str(found.best_step), f"{found.minutes:.1f}"]
            lines.append(f"| {' | '.join(cells)} |")
        return lines


def compare_losses(
    config: RerankerConfig, losses: Sequence[str], out: Path, progress: Progress = lambda *_: None
) -> Comparison:
    """Trains with each loss in ``out/LOSS``, on data prepared once in ``out/data``; writes ``comparison.json`` and
    ``comparison.md``. Where it was stopped it goes on. Raises what ``train`` does, and ConfigError on an unknown loss.
    """
    configs = {loss: config.with_loss(loss) for loss in losses}
    outcomes = {
        loss: train(with_loss, out / loss, data=out / "data", progress=progress) for loss, with_loss in configs.items()
    }
    best, *rest = sorted(outcomes, key=lambda loss: -outcomes[loss].best.evaluation.score)
    values = {loss: _per_query(outcome) for loss, outcome in outcomes.items()}
    contenders = [_contender(best, outcomes[best], 0.0, 1.0)]
    for loss in rest:
        differences = values[loss] - values[best]
        contenders.append(_contender(loss, outcomes[loss], float(differences.mean()), _p(differences, config.seed)))
    comparison = Comparison(contenders)
    write_json(out / "comparison.json", comparison)
    (out / "comparison.md").write_text("\n".join([*comparison.table(), ""]), encoding="utf-8")
    return comparison


def _contender(loss: str, outcome: Outcome, difference: float, p: float) -> Contender:
    found = outcome.best.evaluation
    ndcg = {name: of_set[NDCG] for name, of_set in found.dev.items()}
    return Contender(loss, ndcg, found.score, found.step, outcome.minutes, difference, p)


def _per_query(outcome: Outcome) -> NDArray[np.float64]:
    return np.array([value for of_set in outcome.best.quality.per_query.values() for value in of_set.values()])


def _p(differences: NDArray[np.float64], seed: int) -> float:
    found = permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=_PERMUTATIONS, rng=np.random.default_rng(seed)
    )
    return float(found.pvalue)
