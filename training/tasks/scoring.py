"""What tasks share whose models give each of a query's products a logit: losses over its group, calibration on dev."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from engine.errors import ModelError
from training.data.pairs import Batch
from training.data.ranking import NDCG, RankingData
from training.losses import Loss
from training.metrics import Scores, platt
from training.models import Reader
from training.report import Best

#: Of a model that is served: 0 would make all scores the same, less turn the order round.
LEAST_SCALE = 1e-3
CALIBRATED = "Probabilities are calibrated on the same pairs, each dev set counting the same (Platt 1999)."
_log = logging.getLogger(__name__)


class ScoringTask:
    """A task has an ``_encoder``, ``_data`` and a ``_loss`` of its own, and gives logits of a batch's pairs."""

    score = f"{NDCG}, judged pool of dev"
    _encoder: Reader
    _data: RankingData
    _loss: Loss

    @property
    def module(self) -> torch.nn.Module:
        module: torch.nn.Module = self._encoder.module
        return module

    def batches(self, epoch: int) -> list[Batch]:
        return self._data.batches(epoch)

    def logits(self, batch: Batch) -> torch.Tensor:
        """float32 (n,), of the batch's pairs in its order."""
        raise NotImplementedError

    def loss(self, batch: Batch) -> tuple[torch.Tensor, int]:
        logits = self.logits(batch)
        labels = torch.from_numpy(np.concatenate([self._data.train.labels[group][part] for group, part in batch]))
        sizes = [len(part) for _, part in batch]
        real = torch.ones_like(logits, dtype=torch.bool)
        parts = (_by_group(values, sizes) for values in (logits, labels.to(logits.device), real))
        return self._loss(*parts), len(labels)

    def calibration(self, logits: Mapping[str, Scores]) -> dict[str, float]:
        """Platt's scale and offset by the logits of each dev set."""
        scale, offset = platt(list(logits.values()), [self._data.dev[name].all_labels for name in logits])
        if scale <= 0:
            _log.warning("no better than chance on dev; Platt's scale is %.3g", scale)
        return {"scale": scale, "offset": offset}


def require_better_than_chance(run: Path, best: Best) -> None:
    """Raises ModelError on a run whose best model is none to be served."""
    scale = best.quality.served["scale"]
    if scale <= 0:
        raise ModelError(
            f"the best model of {run}, of step {best.evaluation.step}, is no better than chance: on dev its scores "
            f"do not rise with the labels (Platt's scale is {scale:.3g}). All of the run is kept, but do not serve "
            "it. See that labels of sources and dev sets mean the same, and train anew, in another --out, for "
            "longer or with another training.learning_rate"
        )


def _by_group(values: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    """(n,) to (groups, longest), filled up with zeros."""
    return pad_sequence(list(torch.split(values, sizes)), batch_first=True)
