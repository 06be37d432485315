"""What a reranker's run trains on, step by step, how it is judged, and what is kept of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from training import checkpoint
from training.calibration import platt
from training.card import card
from training.checkpoint import Evaluation, Position
from training.config import RerankerConfig
from training.cross_encoder import CrossEncoder
from training.curves import draw
from training.export import RECIPE, Recipe
from training.loop import Loop, Moment
from training.losses import loss_named
from training.metrics import Scores
from training.onnx_files import publishing, write_json
from training.pairs import Batch, Pairs, ndcg_by_query
from training.prepare import Data
from training.prune import prune
from training.sources import Progress

BEST, BEST_RESULT = "best", "best.json"
_LOOKED_AT = 40  # batches, to see what matters in a model that is pruned
_LEAST_SCALE = 1e-3  # of a model that is served: 0 would make all scores the same, less turn the order round
_log = logging.getLogger(__name__)


class Best(msgspec.Struct, frozen=True):
    """``best.json``: the best evaluation, its nDCG@10 by dev set and query, and Platt's scale as dev has it."""

    evaluation: Evaluation
    per_query: dict[str, dict[str, float]]
    scale: float = 1.0


class Trainer:
    """Trains ``encoder`` on ``pairs`` and leaves the best by dev in the run folder."""

    def __init__(
        self, config: RerankerConfig, run: Path, encoder: CrossEncoder, pairs: Pairs, dev: Mapping[str, Pairs],
        data: Data, progress: Progress,
    ) -> None:  # fmt: skip
        self._config, self._settings, self._run, self._data = config, config.training, run, data
        self._encoder, self._pairs, self._dev, self._progress = encoder, pairs, dev, progress
        self._loss = loss_named(self._settings.loss)

    def train(self) -> Position:
        """From where the checkpoint is to the end, and where that was."""
        model = self._config.model
        if model.heads or model.neurons:
            # Always on the same batches, so that a run that goes on silences what it did at first.
            batches = self._pairs.batches(self._settings.pairs_per_batch, f"{self._config.seed}:pruning")[:_LOOKED_AT]
            prune(self._encoder.model, (self.loss(batch)[0] for batch in batches), model.heads, model.neurons)
        return Loop(self._settings, self._run, self._encoder.model, self, self._progress).train()

    def batches(self, epoch: int) -> list[Batch]:
        return self._pairs.batches(self._settings.pairs_per_batch, f"{self._config.seed}:{epoch}")

    def loss(self, batch: Batch) -> tuple[torch.Tensor, int]:
        texts = self._pairs.texts(batch)
        logits = self._encoder.logits(texts)
        labels = torch.from_numpy(np.concatenate([self._pairs.labels[group][part] for group, part in batch]))
        sizes = [len(part) for _, part in batch]
        real = torch.ones_like(logits, dtype=torch.bool)
        return self._loss(
            _by_group(logits, sizes), _by_group(labels.to(logits.device), sizes), _by_group(real, sizes)
        ), len(texts)

    def evaluate(self, moment: Moment) -> float:
        logits = {name: self._score(name, pairs) for name, pairs in self._dev.items()}
        per_query = {name: ndcg_by_query(self._dev[name], scores) for name, scores in logits.items()}
        found = self._evaluation(moment, logits, per_query)
        if found.mean > moment.best:
            self._save_best(found, per_query, logits)
        evaluations = [*checkpoint.read_evaluations(self._run, Evaluation, moment.n_before), found]
        checkpoint.write_evaluations(self._run, evaluations)
        lines = {name: [evaluation.ndcg[name] for evaluation in evaluations] for name in found.ndcg}
        lines |= {"mean": [evaluation.mean for evaluation in evaluations]}
        draw(evaluations, lines, "mean", "nDCG@10, judged pool of dev", self._run / "curves.png")
        _log.info(
            "step %d, epoch %.2f, %.1f min: loss %.4f, %.0f pairs/s, nDCG@10 %s, mean %.4f%s",
            found.step, found.epoch, found.minutes, found.loss, found.pairs_per_second,
            ", ".join(f"{name} {value:.4f}" for name, value in found.ndcg.items()), found.mean,
            "".join(f", RMSE {name} {value:.4f}" for name, value in found.rmse.items()),
        )  # fmt: skip
        return found.mean

    def _score(self, name: str, pairs: Pairs) -> Scores:
        return self._encoder.score(
            pairs.texts(pairs.everything()), lambda done, total: self._progress("evaluating", done, total, name)
        )

    def _evaluation(
        self, moment: Moment, logits: Mapping[str, Scores], per_query: Mapping[str, Mapping[str, float]]
    ) -> Evaluation:
        ndcg = {name: float(np.mean(list(values.values()))) for name, values in per_query.items()}
        rmse = {}
        for dev_set in self._config.dev.sets:
            if dev_set.rating:
                error = 0.5 + 0.5 * np.tanh(logits[dev_set.name] / 2) - self._dev[dev_set.name].all_labels
                rmse[dev_set.name] = float(np.sqrt(np.square(error).mean()) * (dev_set.rating[1] - dev_set.rating[0]))
        return Evaluation(
            moment.step, moment.epoch, moment.minutes, moment.loss, moment.learning_rate, moment.per_second,
            ndcg, float(np.mean(list(ndcg.values()))), rmse,
        )  # fmt: skip

    def _save_best(
        self, found: Evaluation, per_query: dict[str, dict[str, float]], logits: Mapping[str, Scores]
    ) -> None:
        """The model as it is now, calibrated on the dev sets, each of which counts the same."""
        scale, offset = platt(list(logits.values()), [self._dev[name].all_labels for name in logits])
        if scale <= 0:
            _log.warning("step %d: no better than chance on dev; Platt's scale is %.3g", found.step, scale)
        model = self._config.model
        recipe = Recipe(
            name=self._config.name, query_tokens=model.query_tokens, product_tokens=model.product_tokens,
            scale=max(scale, _LEAST_SCALE), offset=offset, source=self._encoder.base.origin,
            license=self._config.license, card=card(self._config, self._data, self._encoder.base, found),
        )  # fmt: skip
        with publishing(self._run / BEST, RECIPE, "model") as work:
            self._encoder.save(work)
            write_json(work / RECIPE, recipe)
        (self._run / BEST_RESULT).write_bytes(msgspec.json.encode(Best(found, per_query, scale)))


def _by_group(values: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    """(n,) to (groups, longest), filled up with zeros."""
    return pad_sequence(list(torch.split(values, sizes)), batch_first=True)
