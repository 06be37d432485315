"""The one-pass encoder: it reads a query and a list of products together and gives each a score beside the others."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import torch

from training.data.pairs import Batch, Pairs
from training.data.ranking import RankingData
from training.data.settings import RankingConfig, RankingModel
from training.losses import loss_named
from training.methods.saved import save_adapter
from training.metrics import Scores
from training.models.one_pass import IdList, OnePass
from training.report import BEST, Best, Notes, Quality, Recipe
from training.settings import Progress, at_least
from training.tasks.reranker import RerankerTraining
from training.tasks.scoring import CALIBRATED, LEAST_SCALE, ScoringTask, require_better_than_chance


class OnePassModel(RankingModel, frozen=True, kw_only=True):
    """What is trained. A list has at most ``list_size`` products."""

    product_tokens: int = 32
    list_size: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 2, "list_size")
        if self.n_before:
            raise ValueError(f"method is {self.method}; a list has no place for virtual tokens, so take full or lora")


class OnePassTraining(RerankerTraining, frozen=True, kw_only=True):
    """How it is trained, as a cross-encoder is; its losses are over each list."""

    loss: str = "bce+listnet"


class OnePassConfig(RankingConfig, frozen=True, kw_only=True):
    """All settings of ``aisle train one-pass``."""

    model: OnePassModel = OnePassModel()
    training: OnePassTraining = OnePassTraining()

    def task(self, run: Path, data: Path, test: bool, progress: Progress) -> OnePassTask:
        return OnePassTask(self, run, data, test, progress)


class OnePassTask(ScoringTask):
    """An example is a product in its list; a batch has whole lists, in another order each time they come."""

    _encoder: OnePass

    def __init__(self, config: OnePassConfig, run: Path, data: Path, test: bool, progress: Progress) -> None:
        self._config = config
        self._encoder = OnePass.load(config.model, config.model.list_size, config.training.bf16)
        self._data = RankingData(config, run, data, self._encoder.encode, test, progress)
        self._loss = loss_named(config.training.loss)

    def logits(self, batch: Batch) -> torch.Tensor:
        return self._encoder.logits(lists_of(self._data.train, batch))

    def judge(self) -> Quality:
        """nDCG@10. Served is Platt's calibration on dev."""
        logits = self._data.scores(scorer(self._encoder))
        return msgspec.structs.replace(self._data.quality(logits), served=self.calibration(logits))

    def recipe(self, quality: Quality) -> Recipe:
        model = self._config.model
        return Recipe(
            task="one-pass", name=self._config.name, query_tokens=model.query_tokens,
            product_tokens=model.product_tokens, list_size=model.list_size,
            scale=max(quality.served["scale"], LEAST_SCALE), offset=quality.served["offset"],
            source=self._encoder.base.origin, license=self._config.license, model=model.as_saved(),
        )  # fmt: skip

    def notes(self) -> Notes:
        model, training = self._config.model, self._config.training
        layers = f"layers {', '.join(map(str, model.layers))}" if model.layers else "all layers"
        method = f"{layers}; {self._encoder.adapted.method.describe(model)}; lists of at most {model.list_size}"
        recipe = [f"Loss {training.loss}, in batches of {training.pairs_per_batch} products, lists whole."]
        return self._data.notes(self._encoder.base.origin, method, recipe, [CALIBRATED])

    def save(self, directory: Path, recipe: Recipe) -> None:
        self._encoder.save(directory)
        save_adapter(directory, self._encoder.adapted, recipe)

    def finish(self, run: Path, best: Best) -> float | None:
        """nDCG@10 on the queries held out for a test, or None. Raises ModelError on a model no better than chance."""
        require_better_than_chance(run, best)
        model, training = self._config.model, self._config.training
        return self._data.judge_test(scorer(OnePass.open(run / BEST, model.list_size, training.bf16)))


def scorer(encoder: OnePass) -> Callable[[Pairs, Callable[[int, int], None]], Scores]:
    """Gives the logits of all products of all groups, in lists of the encoder's size."""

    def score(pairs: Pairs, progress: Callable[[int, int], None]) -> Scores:
        parts, places = _dealt(pairs, encoder.list_size)
        out = np.empty(pairs.n_pairs, np.float32)
        out[places] = encoder.score(lists_of(pairs, parts), progress)
        return out

    return score


def lists_of(pairs: Pairs, batch: Batch) -> list[IdList]:
    return [
        (pairs.queries[group], [pairs.products[row] for row in pairs.rows[group][part]]) for group, part in batch
    ]  # fmt: skip


def _dealt(pairs: Pairs, size: int) -> tuple[Batch, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Every group in lists of at most ``size``, shuffled: files have the best products first, searches do not. Beside
    them the place, in the order of ``everything``, of each product.
    """
    draw, parts, places, begin = random.Random(0), Batch(), [], 0
    for group, rows in enumerate(pairs.rows):
        order = np.array(draw.sample(range(len(rows)), len(rows)), np.int64)
        parts += [(group, part) for part in np.array_split(order, -(-len(rows) // size))]
        places.append(begin + order)
        begin += len(rows)
    return parts, np.concatenate(places)
