"""Query to product type: a classifier of queries, with all the types that each was meant to ask for.

Its run's folder also has ``data.json``, what it was made of, and ``classifier/``, which ``qpt.transformer_head``
serves: it is exported and calibrated when all steps are done.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from engine.errors import ConfigError
from qpt.examples import LabelledQuery
from qpt.log_linear import log_shares
from qpt.softmax import Matrix
from qpt.taxonomy import Taxonomy
from qpt.transformer_head import TransformerCard
from training.data.types import (
    AnyTaxonomy,
    LabelledQueries,
    SourceReport,
    TypeData,
    TypeDataReport,
    TypeDevSettings,
    TypeSource,
    read_data,
)
from training.export import write_json
from training.export.types import TypeExport, export_types
from training.loop import Loop, has_checkpoint, trained_parameters
from training.methods.saved import read_recipe, save_adapter
from training.models import licence
from training.models.classifier import TypeModel
from training.report import BEST, Best, Notes, Quality, Recipe, checksum_table
from training.run import Outcome, claim, settle, train_task
from training.settings import LoopSettings, ModelSettings, Progress, RunConfig, at_least

CLASSIFIER = "classifier"
_DATA, _DEV = "data.json", "dev"
_NEVER = 1_000_000_000

#: A row, and whether its locale is read.
Batch = list[tuple[int, bool]]


class TypeModelSettings(ModelSettings, frozen=True, kw_only=True):
    """What is trained.

    Where ``output`` is ``names`` the output layer begins as the encoder's vectors of the types' names, so that a type
    without examples can be answered; ``random`` is there to compare. ``locale`` gives every locale of the examples a
    token of its own.
    """

    output: Literal["names", "random"] = "names"
    locale: bool = True


class TypeTrainingSettings(LoopSettings, frozen=True, kw_only=True):
    """How it is trained.

    ``smoothing`` of a query's target goes evenly to all types (Szegedy et al. 2016). ``names`` is the weight of each
    type's name as one more example of it, 0 for none. The model that is judged and kept lies this ``distance`` of the
    way from the one that training began with to the one it has come to, 1 being the latter: halfway is better where
    examples are few and types many (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models"). ``drop_locale`` of
    the examples are read without their locale in each epoch, so that a query without one is nothing new.
    """

    epochs: int = 8
    queries_per_batch: int = 64
    learning_rate: float = 1e-4
    smoothing: float = 0.1
    names: float = 1.0
    distance: float = 0.5
    drop_locale: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 1, "queries_per_batch")
        at_least(self, 0, "names")
        for name in ("smoothing", "drop_locale"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be from 0 to below 1")
        if not 0 < self.distance <= 1:
            raise ValueError(f"distance is {self.distance}; it must be above 0 and at most 1")


class TypesRun(RunConfig, frozen=True, kw_only=True):
    """What is trained and how, whatever the data.

    ``tolerance`` is the accuracy@1 that 8 bits may lose; where they lose more, full precision is kept.
    """

    tolerance: float = 0.01
    model: TypeModelSettings = TypeModelSettings()
    training: TypeTrainingSettings = TypeTrainingSettings()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.tolerance < 1:
            raise ValueError(f"tolerance is {self.tolerance}; it is a share of queries, from 0 to below 1")


class TypesConfig(TypesRun, frozen=True, kw_only=True):
    """All settings of ``aisle train types``.

    ``answers`` says which types can be answered: those with an example, or the ``leaves`` of the taxonomy too.
    """

    taxonomy: AnyTaxonomy
    source: list[TypeSource]
    answers: Literal["examples", "leaves"] = "leaves"
    dev: TypeDevSettings = TypeDevSettings()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.source:
            raise ValueError("source is empty; name at least one [[source]]")

    def task(self, run: Path, data: Path, test: bool, progress: Progress) -> TypesTask:
        if test:
            raise ConfigError("a query classifier has no queries held out for a test; judge it with benchmarks/q2pt.py")
        return open_task(read_data(self), self, run, progress)


def train_on(data: TypeData, config: TypesRun, run: Path, progress: Progress) -> Outcome:
    """As ``training.run.train``, with data that was read already; the outcome's result is the export."""
    claim(run, config)
    settle(config)
    return train_task(open_task(data, config, run, progress), config, run, progress)


def open_task(data: TypeData, config: TypesRun, run: Path, progress: Progress) -> TypesTask:
    """Raises ConfigError where the run that is to go on had other input."""
    _note_data(run, data.report)
    locales = data.locales if config.model.locale else []
    names = type_names(data.taxonomy, data.types)
    model = TypeModel.load(
        config.model, names, data.queries.priors, locales, config.training.bf16, output=config.model.output
    )
    queries = with_names(data.queries, data.taxonomy, data.types, locales, config.training.names)
    return TypesTask(config, model, queries, data, progress)


class TypesTask:
    """An example is a query with the types it asks for; a batch is a list of queries, some without their locale."""

    score = "MRR on dev"

    def __init__(
        self, config: TypesRun, model: TypeModel, queries: LabelledQueries, data: TypeData | None, progress: Progress
    ) -> None:
        """Without ``data`` nothing is judged, described or exported."""
        self._config, self._settings, self._model = config, config.training, model
        self._queries, self._data, self._progress = queries, data, progress
        self._sequences = model.sequences(queries.queries, queries.locales)
        self._without = model.sequences(queries.queries, [""] * len(queries))
        self._began = [parameter.detach().clone() for parameter in trained_parameters(model.module)]

    @property
    def module(self) -> torch.nn.Module:
        return self._model.module

    def batches(self, epoch: int) -> list[Batch]:
        draw = random.Random(f"{self._config.seed}:{epoch}")
        rows = [(row, draw.random() >= self._settings.drop_locale) for row in range(len(self._queries))]
        draw.shuffle(rows)
        size = self._settings.queries_per_batch
        return [rows[begin : begin + size] for begin in range(0, len(rows), size)]

    def loss(self, batch: Batch) -> tuple[torch.Tensor, int]:
        """Cross-entropy with soft targets."""
        logits = self._model.logits([(self._sequences if told else self._without)[row] for row, told in batch])
        some = self._queries.rows([row for row, _ in batch])
        smoothing = self._settings.smoothing
        wanted = torch.from_numpy((1 - smoothing) * some.shares + smoothing / some.shares.shape[1]).to(logits.device)
        losses = -(wanted * functional.log_softmax(logits, dim=1)).sum(dim=1)
        return (losses * torch.from_numpy(some.importance).to(logits.device)).mean(), len(batch)

    @contextmanager
    def _halfway(self) -> Iterator[None]:
        """Within it the model is the one that is judged and kept, ``distance`` of the way."""
        now = trained_parameters(self._model.module)
        trained = [parameter.detach().clone() for parameter in now]
        self.settle()
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, weight in zip(now, trained, strict=True):
                    parameter.copy_(weight)

    @torch.no_grad()
    def settle(self) -> None:
        """Moves the model back to ``distance`` of the way from where training began."""
        for parameter, began in zip(trained_parameters(self._model.module), self._began, strict=True):
            parameter.copy_(torch.lerp(began, parameter, self._settings.distance))

    def judge(self) -> Quality:
        assert self._data is not None
        dev = self._data.dev
        with self._halfway():
            logits = self._model.score(self._model.sequences(dev.queries, dev.locales))
        found = type_quality(logits, dev)
        asked = (f"{query} {locale}".strip() for query, locale in zip(dev.queries, dev.locales, strict=True))
        per_query = dict(zip(asked, (1 / _ranks(logits, dev)).tolist(), strict=True))
        return Quality({_DEV: found}, found["MRR"], {_DEV: per_query})

    def recipe(self, quality: Quality) -> Recipe:
        config = self._config
        return Recipe(
            task="types", name=config.name, query_tokens=config.model.query_tokens, source=self._model.base.origin,
            license=config.license, model=config.model.as_saved(),
        )  # fmt: skip

    def notes(self) -> Notes:
        assert self._data is not None
        report, settings, training = self._data.report, self._config.model, self._settings
        layers = f"layers {', '.join(map(str, settings.layers))}" if settings.layers else "all layers"
        method = f"{layers}; {self._model.adapted.method.describe(settings)}; output layer from {settings.output}"
        recipe = [
            f"Soft cross-entropy, smoothing {training.smoothing:g}; names count {training.names:g}; batches of "
            f"{training.queries_per_batch} queries. Kept is what lies {training.distance:g} of the way from the base "
            "model."
        ]
        sizes = {_DEV: {"queries": report.dev_queries}}
        return Notes(self._model.base.origin, method, list(_data_lines(report)), recipe, sizes)

    def save(self, directory: Path, recipe: Recipe) -> None:
        with self._halfway():
            self._model.save(directory)
            save_adapter(directory, self._model.adapted, recipe)

    def finish(self, run: Path, best: Best) -> TypeExport:
        """The best model in ``classifier/``, with its parity and calibration. Raises ModelError."""
        assert self._data is not None
        config, model, data = self._config, self._model, self._data
        served = TypeModel.open(run / BEST, model.locales, config.model.query_tokens)
        card = TransformerCard(
            name=config.name, query_tokens=config.model.query_tokens, locales=model.locales, types=data.types,
            nodes=list(data.taxonomy.nodes.values()), version=data.taxonomy.version, sha256={},
            source=model.base.origin, license=config.license or licence(model.base.location),
            calibrated_on=f"{len(data.dev)} queries held out",
        )  # fmt: skip
        recipe = read_recipe(run / BEST)
        notes = recipe.card if recipe else ""
        return export_types(
            served, card, data.queries, data.dev, run / CLASSIFIER, tolerance=config.tolerance, notes=notes
        )  # fmt: skip


def fit(
    settings: TypeModelSettings, training: TypeTrainingSettings, queries: LabelledQueries, names: list[list[str]],
    locales: list[str], seed: int,
) -> TypeModel:  # fmt: skip
    """A model that went through all epochs, without a run folder and without anything held out: to compare by."""
    torch.manual_seed(seed)
    model = TypeModel.load(settings, names, queries.priors, locales, training.bf16, output=settings.output)
    once = msgspec.structs.replace(training, evaluate_every=_NEVER, checkpoint_minutes=_NEVER)
    config = TypesRun(name="fit", seed=seed, model=settings, training=once)
    task = TypesTask(config, model, queries, None, lambda *_: None)
    with TemporaryDirectory() as folder:
        Loop(once, Path(folder), task, lambda moment: moment.epoch, lambda *_: None).train()
    task.settle()
    return model


def type_quality(logits: Matrix, queries: LabelledQueries) -> dict[str, float]:
    """Means over queries of logits, float32 (n, types), against right types. The rank is of the best right type, ties
    by column."""
    ranks = _ranks(logits, queries)
    loss = -(queries.shares * log_shares(logits)).sum(axis=1)
    return {
        "accuracy@1": float((ranks == 1).mean()), "recall@3": float((ranks <= 3).mean()),
        "MRR": float((1 / ranks).mean()), "log loss": float(loss.mean()),
    }  # fmt: skip


def _ranks(logits: Matrix, queries: LabelledQueries) -> NDArray[np.int64]:
    order = np.argsort(-logits, axis=1, kind="stable")
    ranks: NDArray[np.int64] = np.take_along_axis(queries.right, order, axis=1).argmax(axis=1) + 1
    return ranks


def type_names(taxonomy: Taxonomy, types: list[str]) -> list[list[str]]:
    """Of each type, in every locale that the taxonomy has: its name, and that of the type above with it."""
    locales = taxonomy.locales or ("",)
    return [
        list(dict.fromkeys(name for said in locales for name in _names(taxonomy.path(type_id, said))))
        for type_id in types
    ]


def _names(path: tuple[str, ...]) -> tuple[str, str]:
    return path[-1], " ".join(path[-2:])


def with_names(
    queries: LabelledQueries, taxonomy: Taxonomy, types: list[str], locales: list[str], weight: float
) -> LabelledQueries:
    """The queries, and the types' own names of ``weight`` as queries in each locale."""
    named = {
        (name, type_id, locale)
        for type_id in types
        for locale in (locales or [""])
        if (name := taxonomy.name(type_id, locale)).strip()
    }
    if not weight or not named:
        return queries
    examples = [LabelledQuery(name, type_id, weight, locale) for name, type_id, locale in sorted(named)]
    return queries.and_also(LabelledQueries.of(examples, types))


def _note_data(run: Path, report: TypeDataReport) -> None:
    """Writes ``data.json``. Raises ConfigError where the run that is to go on had other input."""
    path = run / _DATA
    if has_checkpoint(run) and path.exists():
        before = msgspec.json.decode(path.read_bytes(), type=TypeDataReport).sha256
        changed = sorted(name for name in before | report.sha256 if before.get(name) != report.sha256.get(name))
        if changed:
            raise ConfigError(f"{changed[0]} changed since this run began; name another --out, or delete {run}")
    write_json(path, report)


def _data_lines(report: TypeDataReport) -> Iterator[str]:
    yield from ("| source | queries | examples | licence |", "|---|---|---|---|")
    for source in (*report.sources, *report.dev_sources):
        yield _source_row(source)
    yield (
        f"\n{report.queries:,} queries were trained on, {report.dev_queries:,} held out; {report.dropped:,} with the "
        f"stems of one of dev were left out. {report.types:,} types, {report.types_without_examples:,} of them known "
        "by name alone."
    )
    yield from checksum_table(report.sha256)


def _source_row(source: SourceReport) -> str:
    return f"| {source.name} | {source.queries:,} | {source.examples:,} | {source.license or 'not stated'} |"
