"""The loop: steps, evaluations, checkpoints, early stopping."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch.nn.utils import clip_grad_norm_
from torch.nn.utils.rnn import pad_sequence

from engine.errors import ConfigError
from training import checkpoint
from training.calibration import platt
from training.card import card
from training.checkpoint import Evaluation, Position, trained_parameters
from training.config import RerankerConfig
from training.cross_encoder import CrossEncoder
from training.curves import draw
from training.export import RECIPE, Recipe
from training.losses import loss_named
from training.metrics import Scores
from training.onnx_files import publishing, write_json
from training.pairs import Batch, Pairs, ndcg_by_query
from training.prepare import Data
from training.sources import Progress

BEST, BEST_RESULT = "best", "best.json"
_LEAST_RATE = 0.05  # of the highest learning rate, at the end
_MAX_NORM = 1.0  # of all gradients together
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
        self._parameters = trained_parameters(encoder.model)
        self._optimizer = torch.optim.AdamW(
            self._parameters, lr=self._settings.learning_rate, weight_decay=self._settings.weight_decay, fused=True
        )
        self._position = Position()
        self._evaluations: list[Evaluation] = []
        self._per_epoch = len(self._batches(0))

    def train(self) -> Position:
        """From where the checkpoint is to the end, and where that was."""
        if checkpoint.exists(self._run):
            self._position = checkpoint.load(self._run, self._encoder.model, self._optimizer)
            self._evaluations = checkpoint.read_evaluations(self._run, self._position.n_evaluations)
            _log.info("going on at step %d of the run in %s", self._position.step, self._run)
        self._began = time.perf_counter() - self._position.seconds
        self._kept = time.perf_counter()
        while not self._position.done:
            self._epoch()
        return self._position

    def _epoch(self) -> None:
        at = self._position
        batches = self._batches(at.epoch)
        for batch in batches[at.batch :]:
            self._step(batch)
            at.batch += 1
            out_of_time = 0 < self._settings.max_minutes <= self._minutes()
            if at.batch == len(batches):
                at.epoch, at.batch = at.epoch + 1, 0
            at.done = out_of_time or at.epoch == self._settings.epochs
            every = self._settings.evaluate_every
            if at.done or (at.step % every == 0 if every else at.batch == 0):
                self._evaluate()
            elif time.perf_counter() - self._kept > 60 * self._settings.checkpoint_minutes:
                self._keep()
            if at.done:
                return

    def _batches(self, epoch: int) -> list[Batch]:
        return self._pairs.batches(self._settings.pairs_per_batch, f"{self._config.seed}:{epoch}")

    def _step(self, batch: Batch) -> None:
        began, at = time.perf_counter(), self._position
        rate = self._rate()
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        texts = self._pairs.texts(batch)
        logits = self._encoder.logits(texts)
        labels = torch.from_numpy(np.concatenate([self._pairs.labels[group][part] for group, part in batch]))
        sizes = [len(part) for _, part in batch]
        real = torch.ones_like(logits, dtype=torch.bool)
        loss = self._loss(_by_group(logits, sizes), _by_group(labels.to(logits.device), sizes), _by_group(real, sizes))
        if not torch.isfinite(loss):
            raise ConfigError(
                f"the loss is {loss.item()} at step {at.step + 1}; lower training.learning_rate, which is "
                f"{self._settings.learning_rate}, and start a new run"
            )
        loss.backward()  # type: ignore[no-untyped-call]
        clip_grad_norm_(self._parameters, _MAX_NORM)
        self._optimizer.step()
        self._optimizer.zero_grad()
        at.step, at.n_losses, at.n_pairs = at.step + 1, at.n_losses + 1, at.n_pairs + len(texts)
        at.loss += loss.item()
        at.train_seconds += time.perf_counter() - began
        total = self._settings.epochs * self._per_epoch
        self._progress("training", at.step, max(total, at.step), f"loss {at.loss / at.n_losses:.4f}")

    def _rate(self) -> float:
        """Up in a line, then down in a cosine to a twentieth: over all steps, or all minutes if those end first."""
        done = self._position.step / (self._settings.epochs * self._per_epoch)
        if self._settings.max_minutes:
            done = max(done, self._minutes() / self._settings.max_minutes)
        done = min(done + 1 / (self._settings.epochs * self._per_epoch), 1.0)
        if done < self._settings.warmup:
            return self._settings.learning_rate * done / self._settings.warmup
        fall = (1 + math.cos(math.pi * (done - self._settings.warmup) / (1 - self._settings.warmup))) / 2
        return self._settings.learning_rate * (_LEAST_RATE + (1 - _LEAST_RATE) * fall)

    def _minutes(self) -> float:
        return (time.perf_counter() - self._began) / 60

    def _keep(self) -> None:
        self._position.seconds = time.perf_counter() - self._began
        checkpoint.save(self._run, self._encoder.model, self._optimizer, self._position)
        self._kept = time.perf_counter()

    # ---------------------------------------------------------------------------------------------------- evaluating

    def _evaluate(self) -> None:
        at = self._position
        logits = {name: self._score(name, pairs) for name, pairs in self._dev.items()}
        per_query = {name: ndcg_by_query(self._dev[name], scores) for name, scores in logits.items()}
        found = self._evaluation(logits, per_query)
        self._evaluations.append(found)
        at.n_evaluations += 1
        at.loss, at.train_seconds, at.n_losses, at.n_pairs = 0.0, 0.0, 0, 0
        at.since_best += 1
        if found.mean > at.best:
            at.best, at.best_step, at.since_best = found.mean, at.step, 0
            self._save_best(found, per_query, logits)
        at.done |= 0 < self._settings.patience <= at.since_best
        checkpoint.write_evaluations(self._run, self._evaluations)
        draw(self._evaluations, self._run / "curves.png")
        self._keep()
        _log.info(
            "step %d, epoch %.2f, %.1f min: loss %.4f, %.0f pairs/s, nDCG@10 %s, mean %.4f%s",
            found.step, found.epoch, found.minutes, found.loss, found.pairs_per_second,
            ", ".join(f"{name} {value:.4f}" for name, value in found.ndcg.items()), found.mean,
            "".join(f", RMSE {name} {value:.4f}" for name, value in found.rmse.items()),
        )  # fmt: skip

    def _score(self, name: str, pairs: Pairs) -> Scores:
        return self._encoder.score(
            pairs.texts(pairs.everything()), lambda done, total: self._progress("evaluating", done, total, name)
        )

    def _evaluation(self, logits: Mapping[str, Scores], per_query: Mapping[str, Mapping[str, float]]) -> Evaluation:
        at = self._position
        ndcg = {name: float(np.mean(list(values.values()))) for name, values in per_query.items()}
        rmse = {}
        for dev_set in self._config.dev.sets:
            if dev_set.rating:
                error = 0.5 + 0.5 * np.tanh(logits[dev_set.name] / 2) - self._dev[dev_set.name].all_labels
                rmse[dev_set.name] = float(np.sqrt(np.square(error).mean()) * (dev_set.rating[1] - dev_set.rating[0]))
        return Evaluation(
            at.step, at.step / self._per_epoch, self._minutes(), at.loss / max(at.n_losses, 1),
            float(self._optimizer.param_groups[0]["lr"]), at.n_pairs / max(at.train_seconds, 1e-9),
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
