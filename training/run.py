"""A training run: prepares data, trains a cross-encoder, keeps the best by nDCG@10 on dev, and can be killed any time.

The run folder holds ``config.toml``, ``data/`` (``training.prepare``), ``metrics.jsonl``, ``curves.png``,
``checkpoint.safetensors`` and ``best/``: model, tokenizer and ``training.json``, which ``aisle export`` reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch

from engine.config import available_cores
from engine.errors import ConfigError, ModelError
from training import checkpoint
from training.config import RerankerConfig
from training.cross_encoder import CrossEncoder
from training.loop import claim
from training.pairs import Pairs, ndcg_by_query
from training.prepare import TEST, prepare, read_groups
from training.sources import Group, Progress
from training.teacher import taught
from training.trainer import BEST, BEST_RESULT, Best, Trainer

_TEST_RESULT = "test.json"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to. ``test`` is the mean nDCG@10 of the queries held out for it, None where nobody asked."""

    directory: Path
    best: Best
    steps: int
    minutes: float
    test: float | None = None


def train(
    config: RerankerConfig, run: Path, *, data: Path | None = None, test: bool = False,
    progress: Progress = lambda *_: None,
) -> Outcome:  # fmt: skip
    """Trains, or goes on where the run in this folder was stopped; a run that is done is only looked at again.

    ``data`` is where prepared data lies or goes, by default inside the run. ``test`` has the best model judged on the
    queries held out for that. Raises ConfigError where the folder's run had other settings or input, ExamplesError on
    input that cannot be used, ModelError on a model that cannot be loaded or that came out no better than chance.
    """
    claim(run, config)
    torch.set_num_threads(config.training.threads or available_cores())
    torch.manual_seed(config.seed)
    data = data or run / "data"
    report = prepare(config, data, progress, fixed=checkpoint.exists(run))
    if test and TEST not in report.splits:
        raise ConfigError("no queries are held out for a test; set dev.test_share above 0 and start a new run")
    encoder = CrossEncoder.load(config.model, config.training.bf16)
    groups = read_groups(data, "train")
    pairs = _pairs(groups, encoder, config)
    if config.teacher.path:
        pairs = taught(pairs, groups, config.teacher, data, progress)
    dev = {name: _pairs(read_groups(data, f"dev.{name}"), encoder, config) for name in report.dev_sets}
    position = Trainer(config, run, encoder, pairs, dev, report, progress).train()
    best = msgspec.json.decode((run / BEST_RESULT).read_bytes(), type=Best)
    _require_better_than_chance(run, best)
    judged = (
        _judge_test(run, _pairs(read_groups(data, TEST), encoder, config), config.training.bf16, progress)
        if test
        else None
    )
    return Outcome(run, best, position.step, position.seconds / 60, judged)


def _pairs(groups: list[Group], encoder: CrossEncoder, config: RerankerConfig) -> Pairs:
    return Pairs.of(groups, encoder.encode, config.model.query_tokens, config.model.product_tokens)


def _require_better_than_chance(run: Path, best: Best) -> None:
    if best.scale <= 0:
        raise ModelError(
            f"the best model of {run}, of step {best.evaluation.step}, is no better than chance: on dev its scores do "
            f"not rise with the labels (Platt's scale is {best.scale:.3g}). All of the run is kept, but do not serve "
            f"it. See that labels of sources and dev sets mean the same, and train anew, in another --out, for longer "
            "or with another training.learning_rate"
        )


def _judge_test(run: Path, pairs: Pairs, bf16: str, progress: Progress) -> float:
    scores = CrossEncoder.open(run / BEST, bf16).score(
        pairs.texts(pairs.everything()), lambda done, total: progress("testing", done, total)
    )
    found = ndcg_by_query(pairs, scores)
    (run / _TEST_RESULT).write_bytes(msgspec.json.format(msgspec.json.encode(found)))
    return float(np.mean(list(found.values())))
