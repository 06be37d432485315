"""What a query classifier's run trains on, and how it is judged: queries with all the types that were asked for."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from engine.analysis.analyzer import Analyzer
from engine.errors import ConfigError
from qpt.calibration import Flags
from qpt.examples import LabelledQuery
from qpt.log_linear import log_shares
from qpt.softmax import Matrix
from training.checkpoint import Position, read_evaluations, trained_parameters, write_evaluations
from training.curves import draw
from training.loop import Loop, Moment
from training.sources import Progress
from training.type_config import TypeTrainingSettings
from training.type_model import TypeModel

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """Queries, those of the same text and locale joined. ``weights`` is float32 (n, types), above 0 where a type
    answers the query: how often, or how surely."""

    queries: list[str]
    locales: list[str]
    weights: Matrix

    @classmethod
    def of(cls, examples: Iterable[LabelledQuery], types: Sequence[str]) -> Asked:
        """Queries that differ in case or spaces are one. Raises ConfigError on an example whose type is none of these,
        or that has no words or no weight."""
        columns = {type_id: column for column, type_id in enumerate(types)}
        rows: dict[tuple[str, str], dict[int, float]] = {}
        texts: list[str] = []
        for example in examples:
            if not example.query.strip() or not example.weight > 0 or example.type_id not in columns:
                raise ConfigError(
                    f"an example has query {example.query[:60]!r}, type {example.type_id[:60]!r} and weight "
                    f"{example.weight}; it must have words, one of the {len(columns)} types and a weight above 0"
                )
            key = " ".join(example.query.lower().split()), example.locale
            if key not in rows:
                texts.append(example.query)
            found = rows.setdefault(key, {})
            found[columns[example.type_id]] = found.get(columns[example.type_id], 0.0) + example.weight
        weights = np.zeros((len(rows), len(columns)), np.float32)
        for row, found in enumerate(rows.values()):
            weights[row, list(found)] = list(found.values())
        return cls(texts, [locale for _, locale in rows], weights)

    def __len__(self) -> int:
        return len(self.queries)

    def rows(self, places: Sequence[int] | NDArray[np.int64]) -> Asked:
        return Asked([self.queries[i] for i in places], [self.locales[i] for i in places], self.weights[places])

    def and_also(self, other: Asked) -> Asked:
        weights = np.concatenate([self.weights, other.weights])
        return Asked(self.queries + other.queries, self.locales + other.locales, weights)

    @property
    def right(self) -> Flags:
        return self.weights > 0

    @property
    def shares(self) -> Matrix:
        """Float32 (n, types), rows adding up to 1."""
        shares: Matrix = self.weights / self.weights.sum(axis=1, keepdims=True)
        return shares

    @property
    def importance(self) -> NDArray[np.float32]:
        """Float32 (n,): a query counts once however often it was clicked, and less only where its weights are below 1
        in all."""
        importance: NDArray[np.float32] = np.minimum(self.weights.sum(axis=1), 1.0)
        return importance

    @property
    def priors(self) -> NDArray[np.float32]:
        """Float32 (types,): how often each is asked for, each as if half a query more had asked for it (Jeffreys)."""
        counts = (self.shares * self.importance[:, None]).sum(axis=0) + 0.5
        priors: NDArray[np.float32] = (counts / counts.sum()).astype(np.float32)
        return priors

    def stems(self) -> list[str]:
        """What queries that must not be on both sides of a split have in common."""
        analyzer = Analyzer()
        return [" ".join(sorted(set(analyzer.terms(query)))) or query for query in self.queries]


def split(asked: Asked, n_folds: int, seed: int) -> NDArray[np.int64]:
    """A fold, from 0, for each query; those of the same stems share one, and folds are as equal as that allows."""
    stems = asked.stems()
    distinct = sorted(set(stems))
    random.Random(seed).shuffle(distinct)
    folds = {stem: place % n_folds for place, stem in enumerate(distinct)}
    return np.array([folds[stem] for stem in stems], np.int64)


class Quality(msgspec.Struct, frozen=True):
    """Of scores against right types: means over queries."""

    accuracy: float
    recall_3: float
    mrr: float
    log_loss: float

    @classmethod
    def of(cls, logits: Matrix, asked: Asked) -> Quality:
        """``logits`` are float32 (n, types). The rank is of the best right type, ties by column."""
        order = np.argsort(-logits, axis=1, kind="stable")
        ranks = np.take_along_axis(asked.right, order, axis=1).argmax(axis=1) + 1
        loss = -(asked.shares * log_shares(logits)).sum(axis=1)
        return cls(
            float((ranks == 1).mean()), float((ranks <= 3).mean()), float((1 / ranks).mean()), float(loss.mean())
        )


class TypeEvaluation(msgspec.Struct, frozen=True):
    """A line of ``metrics.jsonl``; ``dev`` is None where nothing is held out."""

    step: int
    epoch: float
    minutes: float
    loss: float
    learning_rate: float
    queries_per_second: float
    dev: Quality | None


class TypeTask:
    """Trains ``model`` on what was asked. ``keep`` is called when it is the best by MRR on ``dev``, or without one when
    it is the last."""

    def __init__(
        self, settings: TypeTrainingSettings, seed: int, run: Path, model: TypeModel, asked: Asked,
        dev: Asked | None, progress: Progress, keep: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self._settings, self._seed, self._run, self._model = settings, seed, run, model
        self._asked, self._dev, self._progress, self._keep = asked, dev, progress, keep
        self._sequences = model.encode(asked.queries, asked.locales)
        self._without = model.encode(asked.queries, [""] * len(asked))
        self._began = [parameter.detach().clone() for parameter in trained_parameters(model.module)]

    def train(self) -> Position:
        """From where the run's checkpoint is to the end, and where that was.

        The model then is as it was judged last, ``distance`` of the way.
        """
        position = Loop(self._settings, self._run, self._model.module, self, self._progress).train()
        self._shift(self._halfway())
        return position

    def batches(self, epoch: int) -> list[list[tuple[int, bool]]]:
        """Rows, each with whether its locale is read."""
        draw = random.Random(f"{self._seed}:{epoch}")
        rows = [(row, draw.random() >= self._settings.drop_locale) for row in range(len(self._asked))]
        draw.shuffle(rows)
        size = self._settings.queries_per_batch
        return [rows[begin : begin + size] for begin in range(0, len(rows), size)]

    def loss(self, batch: list[tuple[int, bool]]) -> tuple[torch.Tensor, int]:
        """Cross-entropy with soft targets."""
        logits = self._model.logits([(self._sequences if told else self._without)[row] for row, told in batch])
        some = self._asked.rows([row for row, _ in batch])
        smoothing = self._settings.smoothing
        wanted = torch.from_numpy((1 - smoothing) * some.shares + smoothing / some.shares.shape[1]).to(logits.device)
        losses = -(wanted * functional.log_softmax(logits, dim=1)).sum(dim=1)
        return (losses * torch.from_numpy(some.importance).to(logits.device)).mean(), len(batch)

    def evaluate(self, moment: Moment) -> float:
        trained = self._shift(self._halfway())
        quality = self._judged() if self._dev else None
        found = TypeEvaluation(
            moment.step, moment.epoch, moment.minutes, moment.loss, moment.learning_rate, moment.per_second, quality
        )
        score = quality.mrr if quality else moment.epoch  # without dev the last is the best
        if score > moment.best:
            self._keep()
        self._shift(trained)
        evaluations = [*read_evaluations(self._run, TypeEvaluation, moment.n_before), found]
        write_evaluations(self._run, evaluations)
        if judged := [evaluation.dev for evaluation in evaluations if evaluation.dev]:
            lines = {"accuracy@1": [q.accuracy for q in judged], "MRR": [q.mrr for q in judged]}
            draw(evaluations, lines, "MRR", "dev", self._run / "curves.png")
        _log.info(
            "step %d, epoch %.2f, %.1f min: loss %.4f, %.0f queries/s, dev %s",
            found.step, found.epoch, found.minutes, found.loss, found.queries_per_second, quality,
        )  # fmt: skip
        return score

    def _halfway(self) -> list[torch.Tensor]:
        """The weights at the distance that is judged and kept."""
        now = trained_parameters(self._model.module)
        return [
            torch.lerp(began, parameter.detach(), self._settings.distance)
            for began, parameter in zip(self._began, now, strict=True)
        ]

    def _shift(self, weights: list[torch.Tensor]) -> list[torch.Tensor]:
        """Puts ``weights`` into the model; returns those that were there."""
        now = trained_parameters(self._model.module)
        before = [parameter.detach().clone() for parameter in now]
        with torch.no_grad():
            for parameter, weight in zip(now, weights, strict=True):
                parameter.copy_(weight)
        return before

    def _judged(self) -> Quality:
        assert self._dev is not None
        sequences = self._model.encode(self._dev.queries, self._dev.locales)
        return Quality.of(self._model.score(sequences), self._dev)
