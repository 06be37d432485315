"""The query rewriter: an encoder-decoder that says a query in words that find more.

First it learns, token by token, each query's better rewrites (``loss = "supervised"``); then, from the model that came
of that, to prefer rewrites by which the engine found more over those by which it found less (``"dpo"``).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch.nn import functional

from engine.errors import ConfigError
from training.data.rewrites import Rewrites, read_rewrites
from training.methods.saved import save_adapter
from training.models.rewriter import RewriterModel, Sequences, frozen
from training.report import BEST, Best, Notes, Quality, Recipe, checksum_table
from training.settings import LoopSettings, ModelSettings, Progress, RunConfig, Settings, at_least

_DEV = "held-out"
_JUDGED_AT_ONCE = 64


class RewritesSource(Settings, frozen=True, kw_only=True):
    """A file that ``aisle train rewrites`` made.

    An epoch goes through it ``repeat`` times; ``license`` is for the model card.
    """

    path: str
    repeat: int = 1
    license: str = ""

    def __post_init__(self) -> None:
        at_least(self, 1, "repeat")


class RewriterModelSettings(ModelSettings, frozen=True, kw_only=True):
    """What is trained: ``layers`` of the base under a decoder of ``decoder_layers``, over the ``vocabulary`` tokens
    that the training texts have most. A rewrite has at most ``rewrite_tokens``.
    """

    layers: tuple[int, ...] = (0, 1)
    decoder_layers: int = 2
    vocabulary: int = 8_000
    rewrite_tokens: int = 24

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 1, "decoder_layers", "vocabulary", "rewrite_tokens")


class RewriterTraining(LoopSettings, frozen=True, kw_only=True):
    """How it is trained.

    A rewrite is better than another, or than the query itself, where its gain is ``margin`` more. Of the queries that
    no rewrite betters, the share ``unchanged`` stays; their right answer is the query itself. ``beta`` is how dear it
    is to leave the model that DPO began with, and ``anchor`` what the supervised loss of the better one counts beside
    it (as in Pang et al. 2024, "Iterative Reasoning Preference Optimization").
    """

    loss: Literal["supervised", "dpo"] = "supervised"
    epochs: int = 10
    learning_rate: float = 5e-4
    queries_per_batch: int = 32
    margin: float = 0.05
    unchanged: float = 0.3
    beta: float = 0.1
    anchor: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 1, "queries_per_batch")
        at_least(self, 0, "margin", "anchor")
        if not 0 <= self.unchanged <= 1 or not self.beta > 0:
            raise ValueError(
                f"unchanged is {self.unchanged} and beta {self.beta}; the first is a share of queries, from 0 to 1, "
                "the second above 0"
            )


class RewriterConfig(RunConfig, frozen=True, kw_only=True):
    """All settings of ``aisle train rewriter``. ``dev_share`` of the queries are held out."""

    source: list[RewritesSource]
    dev_share: float = 0.1
    model: RewriterModelSettings = RewriterModelSettings()
    training: RewriterTraining = RewriterTraining()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.source:
            raise ValueError("source is empty; name at least one [[source]]")
        if not 0 < self.dev_share < 1:
            raise ValueError(f"dev_share is {self.dev_share}; it must be above 0 and under 1")

    def task(self, run: Path, data: Path, test: bool, progress: Progress) -> RewriterTask:
        if test:
            raise ConfigError("a rewriter has no queries held out for a test; judge it with benchmarks/rewriting.py")
        return RewriterTask(self)


@dataclass(frozen=True, slots=True)
class Pair:
    """A query, the better rewrite of it and, for DPO, a worse one; the query itself may be either."""

    query: str
    better: str
    worse: str = ""


class RewriterTask:
    """An example is a ``Pair``; a batch holds places of pairs."""

    def __init__(self, config: RewriterConfig) -> None:
        self._config, self._settings = config, config.training
        rows = [(source.repeat, row) for source in config.source for row in read_rewrites(source.path)]
        train, dev = split([row for _, row in rows], config.dev_share, config.seed)
        repeats = {id(row): repeat for repeat, row in rows}
        rng = random.Random(config.seed)
        make = preferences if config.training.loss == "dpo" else targets
        self._train = [pair for row in train for pair in make([row], self._settings, rng) * repeats[id(row)]]
        self._dev = make(dev, self._settings, rng)
        if not self._train or not self._dev:
            raise ConfigError(
                f"{len(self._train)} examples to train on and {len(self._dev)} held out are left of {len(rows)} "
                "queries; give more, or lower training.margin"
            )
        texts = (text for row in train for text in (row.query, *(judged.text for judged in row.rewrites)))
        model = config.model
        self._model = RewriterModel.load(
            model, texts, model.vocabulary, model.rewrite_tokens, model.decoder_layers, self._settings.bf16
        )
        self._reference = frozen(self._model.module) if config.training.loss == "dpo" else None
        self.score = "share of preferences right" if self._reference else "likelihood of a token"

    @property
    def module(self) -> torch.nn.Module:
        return self._model.module

    def batches(self, epoch: int) -> list[list[Pair]]:
        pairs = list(self._train)
        random.Random(f"{self._config.seed}:{epoch}").shuffle(pairs)
        size = self._settings.queries_per_batch
        return [pairs[begin : begin + size] for begin in range(0, len(pairs), size)]

    def loss(self, batch: list[Pair]) -> tuple[torch.Tensor, int]:
        """Cross-entropy a token; or DPO (Rafailov et al. 2023, equation 7) with an anchor."""
        queries, better = self._read(batch, "query"), self._read(batch, "better")
        liked, tokens = self._model.log_probabilities(queries, better)
        spoken = -(liked / tokens).mean()
        if self._reference is None:
            return spoken, len(batch)
        worse = self._read(batch, "worse")
        margins = self._margins(queries, better, worse, liked)
        preferred = -functional.logsigmoid(self._settings.beta * margins).mean()
        return preferred + self._settings.anchor * spoken, len(batch)

    def _margins(self, queries: Sequences, better: Sequences, worse: Sequences, liked: torch.Tensor) -> torch.Tensor:
        """How much more than the reference the model prefers the better to the worse: float32 (n,), in nats."""
        disliked, _ = self._model.log_probabilities(queries, worse)
        with torch.no_grad():
            before = [self._model.log_probabilities(queries, said, self._reference)[0] for said in (better, worse)]
        return (liked - before[0]) - (disliked - before[1])

    def _read(self, batch: Sequence[Pair], what: str) -> Sequences:
        longest = self._model.query_tokens if what == "query" else self._model.rewrite_tokens
        return self._model.sequences([getattr(pair, what) for pair in batch], longest)

    @torch.no_grad()
    def judge(self) -> Quality:
        liked: list[float] = []
        right: list[float] = []
        for begin in range(0, len(self._dev), _JUDGED_AT_ONCE):
            batch = self._dev[begin : begin + _JUDGED_AT_ONCE]
            queries, better = self._read(batch, "query"), self._read(batch, "better")
            found, tokens = self._model.log_probabilities(queries, better)
            liked += (found / tokens).tolist()
            if self._reference is not None:
                margins = self._margins(queries, better, self._read(batch, "worse"), found)
                right += (margins > 0).float().tolist()
        metrics = {"likelihood of a token": float(np.exp(np.mean(liked)))}
        if right:
            metrics["share of preferences right"] = float(np.mean(right))
        return Quality({_DEV: metrics}, metrics[self.score])

    def recipe(self, quality: Quality) -> Recipe:
        config = self._config
        return Recipe(
            task="rewriter", name=config.name, query_tokens=config.model.query_tokens, source=self._model.base.origin,
            license=config.license, model=config.model.as_saved(),
        )  # fmt: skip

    def notes(self) -> Notes:
        settings, training = self._config.model, self._settings
        layers = ", ".join(map(str, settings.layers)) or "all"
        method = (
            f"layers {layers}; {self._model.adapted.method.describe(settings)}; a decoder of {settings.decoder_layers} "
            f"layers that may copy, {len(self._model.module.words):,} tokens"
        )
        recipe = [f"Loss {training.loss}; batches of {training.queries_per_batch}; margin {training.margin:g}."]
        if training.loss == "dpo":
            recipe.append(f"Beta {training.beta:g}, anchor {training.anchor:g}.")
        return Notes(
            self._model.base.origin, method, list(self._data_lines()), recipe, {_DEV: {"examples": len(self._dev)}}
        )

    def _data_lines(self) -> Iterator[str]:
        yield from ("| source | repeat | licence |", "|---|---|---|")
        for source in self._config.source:
            yield f"| {Path(source.path).name} | {source.repeat} | {source.license or 'not stated'} |"
        files = [Path(source.path) for source in self._config.source]
        yield from checksum_table({str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files})

    def save(self, directory: Path, recipe: Recipe) -> None:
        self._model.save(directory)
        save_adapter(directory, self._model.adapted, recipe)

    def finish(self, run: Path, best: Best) -> list[tuple[str, str]]:
        """Some held-out queries and what the best model says of them, to look at."""
        model = RewriterModel.open(run / BEST, self._config.model.query_tokens)
        queries = dict.fromkeys(pair.query for pair in self._dev)
        said = ((query, model.rewrites(query, 4)) for query in list(queries)[:5])
        return [(query, found[0][0] if found else "") for query, found in said]


def split(rows: Sequence[Rewrites], share: float, seed: int) -> tuple[list[Rewrites], list[Rewrites]]:
    """Rows to train on and rows held out; the same query is in one of them alone, whatever the order of files."""
    held_out = {
        query for query in {row.query for row in rows} if random.Random(f"{seed}:{query}").random() < share
    }  # fmt: skip
    return [row for row in rows if row.query not in held_out], [row for row in rows if row.query in held_out]


def targets(rows: Sequence[Rewrites], settings: RewriterTraining, rng: random.Random) -> list[Pair]:
    """Each query with all rewrites that are better than it is, and a share of those that have none with themselves.

    Not with the best alone: of few queries a model learns more by many ways to better them.
    """
    pairs = []
    for row in rows:
        better = [judged.text for judged in row.rewrites if judged.gain >= max(settings.margin, 1e-9)]
        pairs += [Pair(row.query, text) for text in better]
        if not better and rng.random() < settings.unchanged:
            pairs.append(Pair(row.query, row.query.lower()))
    return pairs


def preferences(rows: Sequence[Rewrites], settings: RewriterTraining, rng: random.Random) -> list[Pair]:
    """Each query with its best rewrite and one that is worse by the margin, drawn at random; where there is any."""
    pairs = []
    for row in rows:
        tried = [(row.query.lower(), 0.0), *((judged.text, judged.gain) for judged in row.rewrites)]
        worse = [text for text, gain in tried if gain <= row.best.gain - max(settings.margin, 1e-9)]
        if worse:
            better = row.best.text if row.best.gain > 0 else row.query.lower()
            pairs.append(Pair(row.query, better, rng.choice(worse)))
    return pairs
