"""What ranking tasks learn from and are judged by: pairs of query and product, with labels that may be a teacher's.

A teacher, another cross-encoder or some encoders, is asked once. What it answers is kept beside the data, so that a
kill loses little and every run on the same data finds it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError
from training.data.pairs import Batch, Encode, Pairs, ndcg_by_query
from training.data.prepare import TEST, Data, prepare, read_groups
from training.data.settings import GeneratedSource, QueriesSource, RankingConfig, TeacherSettings
from training.data.sources import Group
from training.loop import has_checkpoint
from training.metrics import Scores, platt
from training.report import Notes, Quality, checksum_table
from training.settings import Progress
from training.teachers.encoders import Teachers
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
        if config.teacher.given:
            self.train = taught(self.train, groups, config, directory, progress)
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
    if teacher.given:
        of_people = teacher.weight if teacher.judged_weight is None else teacher.judged_weight
        who = (
            f"the mean of the standardised cosines of {', '.join(Path(name).name for name in teacher.encoders)}"
            if teacher.encoders
            else Path(teacher.path).absolute().parent.name
        )
        yield (
            f"Labels are {teacher.weight:g} of a teacher's probability at temperature {teacher.temperature:g}, the "
            f"rest their own ({of_people:g} where people judged); those of pairs that nobody judged are the teacher's "
            f"alone. The teacher is {who}."
        )
    if teacher.given and teacher.false_negatives:
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


def taught(pairs: Pairs, groups: Sequence[Group], config: RankingConfig, data: Path, progress: Progress) -> Pairs:
    """The pairs with labels mixed as ``config.teacher`` says; those that have none get the teacher's alone.

    ``groups`` are the same pairs as text, which ``data`` holds.

    Raises ConfigError where the teacher cannot be read, or encoders have no judged pairs that say what they mean.
    """
    settings = config.teacher
    labelled = np.array([label is not None for group in groups for label in group.labels])
    by_people = labelled & np.repeat(
        [_by_people(config, group) for group in groups], [len(rows) for rows in pairs.rows]
    )
    if settings.path:
        given = _of_run(groups, settings, data, progress)
    else:
        given = _of_encoders(pairs, groups, by_people, config, data, progress)
    judged_weight = settings.weight if settings.judged_weight is None else settings.judged_weight
    share = np.where(by_people, judged_weight, np.where(labelled, settings.weight, 1.0))
    mixed = (share * given + (1 - share) * pairs.all_labels).astype(np.float32)
    ends = np.cumsum([len(labels) for labels in pairs.labels])[:-1]
    mixed_pairs = replace(pairs, labels=np.split(mixed, ends))
    if not settings.false_negatives:
        return mixed_pairs
    best = [
        of[known].max() if known.any() else np.inf
        for of, known in zip(np.split(given, ends), np.split(labelled, ends), strict=True)
    ]
    limits = settings.false_negatives * np.repeat(best, [len(labels) for labels in pairs.labels])
    dropped = ~labelled & (given >= limits)
    _log.info("%d of %d mined products may well be relevant and were left out", dropped.sum(), (~labelled).sum())
    return mixed_pairs.without(dropped)


def _by_people(config: RankingConfig, group: Group) -> bool:
    """Whether its labels are judgments or clicks, and no rule's or search's; ``prepare`` begins ids with a source's."""
    number = int(group.query_id.partition(":")[0])
    return not isinstance(config.source[number], GeneratedSource | QueriesSource)


def _of_run(groups: Sequence[Group], settings: TeacherSettings, data: Path, progress: Progress) -> Scores:
    """Probabilities of all pairs by a cross-encoder of ours, which is asked some thousand at a time."""
    teacher = RunTeacher(Path(settings.path))
    kept = data / f"teacher-{teacher.fingerprint_on((data / 'data.json').read_bytes())[:16]}.safetensors"
    logits = teacher.logits(groups, kept, partial(progress, "asking the teacher"))
    return teacher.probabilities(logits, settings.temperature)


def _of_encoders(
    pairs: Pairs, groups: Sequence[Group], by_people: NDArray[np.bool_], config: RankingConfig, data: Path,
    progress: Progress,
) -> Scores:  # fmt: skip
    """Probabilities of all pairs by encoders: their scores, calibrated on what people judged (Platt 1999)."""
    teachers = Teachers(config.teacher.encoders, groups, config.model, data, partial(progress, "asking the teachers"))
    scores = teachers.of_pairs(pairs)
    scale, offset = platt([scores[by_people]], [pairs.all_labels[by_people]]) if by_people.any() else (0.0, 0.0)
    if scale <= 0:
        raise ConfigError(
            f"teacher.encoders are {list(config.teacher.encoders)}, and by the {by_people.sum()} pairs that people "
            "judged they are no better than chance; add a [[source]] of judgments, or name other encoders"
        )
    return (0.5 + 0.5 * np.tanh((scale * scores + offset) / config.teacher.temperature / 2)).astype(np.float32)
