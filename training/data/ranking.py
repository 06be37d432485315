"""What ranking tasks learn from and are judged by: pairs of query and product, with labels that may be a teacher's.

A teacher, another cross-encoder, is asked once, some thousand pairs at a time. Its answers are kept beside the data as
they come, so that a kill loses little and every run on the same data finds them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from engine.errors import ConfigError
from training.data.pairs import Batch, Encode, Pairs, ndcg_by_query
from training.data.prepare import TEST, Data, prepare, read_groups
from training.data.settings import QueriesSource, RankingConfig, TeacherSettings
from training.data.sources import Group
from training.loop import has_checkpoint
from training.metrics import Scores
from training.report import Notes, Quality, checksum_table
from training.settings import Progress
from training.teachers.run import RunTeacher

#: What a model gives all pairs.
Score = Callable[[Pairs, Callable[[int, int], None]], Scores]

NDCG = "nDCG@10"
_TEST_RESULT = "test.json"
_log = logging.getLogger(__name__)


class RankingData:
    """A run's pairs: ``train`` to learn from, ``dev`` by set, and ``test`` where queries are held out for it."""

    def __init__(
        self, config: RankingConfig, run: Path, directory: Path, encode: Encode, test: bool, progress: Progress
    ) -> None:
        """Prepares the data in ``directory``, or reads what is there, which must not change once the run has begun.

        Raises ConfigError, ExamplesError.
        """
        self._config, self._run, self._progress = config, run, progress
        self.report = prepare(config, directory, progress, fixed=has_checkpoint(run))
        if test and TEST not in self.report.splits:
            raise ConfigError("no queries are held out for a test; set dev.test_share above 0 and start a new run")

        def tokenised(groups: Sequence[Group]) -> Pairs:
            return Pairs.of(groups, encode, config.model.query_tokens, config.model.product_tokens)

        def pairs(split: str) -> Pairs:
            return Pairs.of(
                read_groups(directory, split), encode, config.model.query_tokens, config.model.product_tokens
            )

        groups = read_groups(directory, "train")
        self.train = Pairs.of(groups, encode, config.model.query_tokens, config.model.product_tokens)
        if config.teacher.path:
            self.train = taught(self.train, groups, config.teacher, directory, progress)
        self.dev = {name: pairs(f"dev.{name}") for name in self.report.dev_sets}
        self.test = pairs(TEST) if test else None

    def batches(self, epoch: int | str) -> list[Batch]:
        training = self._config.training
        return self.train.batches(training.pairs_per_batch, f"{self._config.seed}:{epoch}", training.products_per_query)

    def scores(self, score: Score) -> dict[str, Scores]:
        """What a model gives every pair of each dev set."""
        return {name: score(pairs, partial(self.evaluating, name)) for name, pairs in self.dev.items()}

    def encoding(self, done: int, total: int) -> None:
        self._progress("encoding", done, total)

    def evaluating(self, name: str, done: int, total: int) -> None:
        self._progress("evaluating", done, total, name)

    def quality(self, scores: Mapping[str, Scores]) -> Quality:
        """nDCG@10 of each dev set's judged products; the score is the sets' mean."""
        per_query = {name: ndcg_by_query(self.dev[name], of_set) for name, of_set in scores.items()}
        ndcg = {name: float(np.mean(list(values.values()))) for name, values in per_query.items()}
        dev = {name: {NDCG: value} for name, value in ndcg.items()}
        return Quality(dev, float(np.mean(list(ndcg.values()))), per_query)

    def judge_test(self, score: Score) -> float | None:
        """Mean nDCG@10 of the queries held out for a test, which are written down one by one; None without any."""
        if self.test is None:
            return None
        found = ndcg_by_query(self.test, score(self.test, lambda done, total: self._progress("testing", done, total)))
        (self._run / _TEST_RESULT).write_bytes(msgspec.json.format(msgspec.json.encode(found)))
        return float(np.mean(list(found.values())))

    def notes(self, base: str, method: str, recipe: Sequence[str], metrics: Sequence[str] = ()) -> Notes:
        sizes = {
            name: dict(zip(("queries", "pairs"), self.report.splits[f"dev.{name}"], strict=True)) for name in self.dev
        }
        lines = [*recipe, *_origins(self._config)]
        return Notes(base, method, list(_data_lines(self.report)), lines, sizes, metrics)


def _data_lines(data: Data) -> Iterator[str]:
    yield from ("| source | queries | pairs | of them mined | times | licence |", "|---|---|---|---|---|---|")
    for source in data.sources:
        yield (
            f"| {source.name} | {source.queries:,} | {source.pairs:,} | {source.mined:,} | {source.repeat} "
            f"| {source.license or 'not stated'} |"
        )
    n_queries, n_pairs = data.splits["train"]
    dropped = sum(source.dropped for source in data.sources)
    yield from ("", f"{n_queries:,} queries with {n_pairs:,} pairs were trained on.")
    if dropped:
        yield f"{dropped:,} queries with the stems of a dev query were left out."
    yield from checksum_table(data.sha256)


def _origins(config: RankingConfig) -> Iterator[str]:
    """Where products and labels are from that no source has."""
    teacher, negatives = config.teacher, config.negatives
    if teacher.path:
        yield (
            f"Labels are {teacher.weight:g} of a teacher's probability at temperature {teacher.temperature:g}, the "
            "rest their own; those of pairs that nobody judged are the teacher's alone. The teacher is "
            f"{Path(teacher.path).absolute().parent.name}."
        )
    if teacher.path and teacher.false_negatives:
        yield (
            "Products that nobody judged were left out where the teacher finds them at least "
            f"{teacher.false_negatives:g} times as probable as the query's most probable judged one."
        )
    if negatives.mine:
        found_by = {"hybrid": "the hybrid search", "bm25": "BM25", "model": "the base model"}[negatives.retriever]
        yield (
            f"Per judged query {negatives.hard} products from the best {negatives.depth} of {found_by} and "
            f"{negatives.random} at random, that nobody judged; none that has all of the query's words."
        )
    for source in config.source:
        if isinstance(source, QueriesSource):
            yield (
                f"Per query of {Path(source.path).name}, its judgments unread, the best {source.best} of the hybrid "
                f"search, {source.middle} from the middle and {source.deep} from down to rank {source.depth}, and "
                f"{source.random} at random; labels are the {source.labels}'s."
            )


def taught(pairs: Pairs, groups: Sequence[Group], settings: TeacherSettings, data: Path, progress: Progress) -> Pairs:
    """The pairs with labels mixed as ``settings`` say; those that nobody judged get the teacher's alone.

    ``groups`` are the same pairs as text, which ``data`` holds.

    Raises ConfigError where the teacher's directory is not the ``best`` of a run.
    """
    teacher = RunTeacher(Path(settings.path))
    kept = data / f"teacher-{teacher.fingerprint_on((data / 'data.json').read_bytes())[:16]}.safetensors"
    logits = teacher.logits(groups, kept, partial(progress, "asking the teacher"))
    given = teacher.probabilities(logits, settings.temperature)
    judged = np.array([label is not None for group in groups for label in group.labels])
    share = np.where(judged, settings.weight, 1.0)
    mixed = (share * given + (1 - share) * pairs.all_labels).astype(np.float32)
    ends = np.cumsum([len(labels) for labels in pairs.labels])[:-1]
    mixed_pairs = replace(pairs, labels=np.split(mixed, ends))
    if not settings.false_negatives:
        return mixed_pairs
    best = [
        of[known].max() if known.any() else np.inf
        for of, known in zip(np.split(given, ends), np.split(judged, ends), strict=True)
    ]
    limits = settings.false_negatives * np.repeat(best, [len(labels) for labels in pairs.labels])
    dropped = ~judged & (given >= limits)
    _log.info("%d of %d mined products may well be relevant and were left out", dropped.sum(), (~judged).sum())
    return mixed_pairs.without(dropped)
