"""The reranker: a cross-encoder that says how probable it is that a product is what a query asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import permutation_test

from engine.errors import ConfigError
from training.data.pairs import Batch, Pairs
from training.data.ranking import NDCG, RankingData
from training.data.settings import RankingConfig, RankingModel, RankingTraining
from training.export import write_json
from training.losses import loss_named
from training.methods.saved import save_adapter
from training.metrics import Scores
from training.models.cross_encoder import CrossEncoder
from training.models.prune import prune
from training.report import BEST, Best, Notes, Quality, Recipe
from training.run import Outcome, train
from training.settings import Progress, at_least
from training.tasks.scoring import CALIBRATED, LEAST_SCALE, ScoringTask, require_better_than_chance

_LOOKED_AT = 40  # batches, to see what matters in a model that is pruned
_PERMUTATIONS = 10_000


class RerankerModel(RankingModel, frozen=True, kw_only=True):
    """What is trained.

    ``heads`` and ``neurons`` are how many attention heads and feed-forward neurons a layer keeps, those that matter
    most; 0 keeps all. ``activation`` takes the place of the model's own, where it is not empty.
    """

    heads: int = 0
    neurons: int = 0
    activation: Literal["", "relu"] = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 0, "heads", "neurons")
        if self.method != "full" and (self.heads or self.neurons):
            raise ValueError(f"heads and neurons are of full fine-tuning; with method {self.method} leave them at 0")


class RerankerTraining(RankingTraining, frozen=True, kw_only=True):
    """How it is trained. ``loss`` is one of ``training.losses``, or several joined by +."""

    loss: str = "bce"

    def __post_init__(self) -> None:
        super().__post_init__()
        loss_named(self.loss)


class RerankerConfig(RankingConfig, frozen=True, kw_only=True):
    """All settings of ``aisle train reranker``."""

    model: RerankerModel = RerankerModel()
    training: RerankerTraining = RerankerTraining()

    def with_loss(self, loss: str) -> RerankerConfig:
        """The same with another loss. Raises ConfigError naming the choices."""
        try:
            return msgspec.structs.replace(self, training=msgspec.structs.replace(self.training, loss=loss))
        except ValueError as error:
            raise ConfigError(str(error)) from error

    def task(self, run: Path, data: Path, test: bool, progress: Progress) -> RerankerTask:
        return RerankerTask(self, run, data, test, progress)


class RerankerTask(ScoringTask):
    """An example is a query with a product and a label; a batch has whole query groups, as its losses compare them."""

    _encoder: CrossEncoder

    def __init__(self, config: RerankerConfig, run: Path, data: Path, test: bool, progress: Progress) -> None:
        self._config, model = config, config.model
        self._encoder = CrossEncoder.load(
            model, model.product_tokens, activation=model.activation, bf16=config.training.bf16
        )
        self._data = RankingData(config, run, data, self._encoder.encode, test, progress)
        self._loss = loss_named(config.training.loss)
        if model.heads or model.neurons:
            # Always on the same batches, so that a run that goes on silences what it did at first.
            batches = self._data.batches("pruning")[:_LOOKED_AT]
            prune(self.module, (self.loss(batch)[0] for batch in batches), model.heads, model.neurons)

    def logits(self, batch: Batch) -> torch.Tensor:
        return self._encoder.logits(self._data.train.texts(batch))

    def judge(self) -> Quality:
        """nDCG@10, and on sets with ratings the error on their scale. Served is Platt's calibration on dev."""
        logits = self._data.scores(scorer(self._encoder))
        quality = self._data.quality(logits)
        for name, error in self._rating_errors(logits).items():
            quality.dev[name]["RMSE"] = error
        return msgspec.structs.replace(quality, served=self.calibration(logits))

    def _rating_errors(self, logits: Mapping[str, Scores]) -> dict[str, float]:
        out = {}
        for dev_set in self._config.dev.sets:
            if dev_set.rating:
                error = 0.5 + 0.5 * np.tanh(logits[dev_set.name] / 2) - self._data.dev[dev_set.name].all_labels
                out[dev_set.name] = float(np.sqrt(np.square(error).mean()) * (dev_set.rating[1] - dev_set.rating[0]))
        return out

    def recipe(self, quality: Quality) -> Recipe:
        model = self._config.model
        return Recipe(
            task="reranker", name=self._config.name, query_tokens=model.query_tokens,
            product_tokens=model.product_tokens, scale=max(quality.served["scale"], LEAST_SCALE),
            offset=quality.served["offset"], source=self._encoder.base.origin, license=self._config.license,
            model=model.as_saved(),
        )  # fmt: skip

    def notes(self) -> Notes:
        model, training = self._config.model, self._config.training
        what = [f"layers {', '.join(map(str, model.layers))}" if model.layers else "all layers"]
        what += [f"{model.heads} attention heads of each"] if model.heads else []
        what += [f"{model.neurons} feed-forward neurons of each"] if model.neurons else []
        what += [f"activation {model.activation}"] if model.activation else []
        method = "; ".join([", ".join(what), self._encoder.adapted.method.describe(model)])
        recipe = [f"Loss {training.loss}, in batches of {training.pairs_per_batch} pairs."]
        return self._data.notes(self._encoder.base.origin, method, recipe, [CALIBRATED])

    def save(self, directory: Path, recipe: Recipe) -> None:
        self._encoder.save(directory)
        save_adapter(directory, self._encoder.adapted, recipe, "reranker")

    def finish(self, run: Path, best: Best) -> float | None:
        """nDCG@10 on the queries held out for a test, or None. Raises ModelError on a model no better than chance."""
        require_better_than_chance(run, best)
        return self._data.judge_test(lambda pairs, progress: self._best(run)(pairs, progress))

    def _best(self, run: Path) -> Callable[[Pairs, Callable[[int, int], None]], Scores]:
        return scorer(CrossEncoder.open(run / BEST, self._config.training.bf16))


def scorer(encoder: CrossEncoder) -> Callable[[Pairs, Callable[[int, int], None]], Scores]:
    return lambda pairs, progress: encoder.score(pairs.texts(pairs.everything()), progress)


# Losses compared with each other: the same data, the same seed, the same number of steps, judged on dev


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
