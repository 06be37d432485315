"""A query classifier's training run: reads data, trains, keeps the best by MRR on dev, exports and calibrates it.

The run folder holds ``config.toml``, ``data.json`` (what it was made of), ``metrics.jsonl``, ``curves.png``,
``checkpoint.safetensors``, ``best/`` (the model as transformers saves it) and ``classifier/``, which
``qpt.transformer_head`` serves. A run that was stopped goes on from its checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import torch

from engine.config import available_cores
from engine.errors import ConfigError
from qpt.examples import LabelledQuery
from qpt.taxonomy import Taxonomy
from qpt.transformer_head import TransformerCard
from training import checkpoint
from training.base_models import licence
from training.card import machine
from training.checkpoint import read_evaluations
from training.loop import claim
from training.onnx_files import publishing, write_json
from training.sources import Progress
from training.type_config import TypeModelSettings, TypesConfig, TypesRun, TypeTrainingSettings
from training.type_export import TypeExport, export_types
from training.type_model import TypeModel
from training.type_sources import SourceReport, TypeData, TypeDataReport, read_data
from training.type_task import Asked, Quality, TypeEvaluation, TypeTask

BEST, CLASSIFIER = "best", "classifier"
_DATA, _CONFIG = "data.json", "config.json"
_NEVER = 1_000_000_000


@dataclass(frozen=True, slots=True)
class TypeOutcome:
    """What a run came to: the best evaluation on dev, and the export of that model."""

    directory: Path
    best: TypeEvaluation
    dev: Quality
    steps: int
    minutes: float
    export: TypeExport


def train(config: TypesConfig, run: Path, *, progress: Progress = lambda *_: None) -> TypeOutcome:
    """Trains, or goes on where the run in this folder was stopped; a run that is done is only exported again.

    Raises ConfigError where the folder's run had other settings or input, CatalogError and ExamplesError on input that
    cannot be used, ModelError on a model that cannot be loaded or exported.
    """
    claim(run, config)
    return train_on(read_data(config), config, run, progress)


def train_on(data: TypeData, config: TypesRun, run: Path, progress: Progress) -> TypeOutcome:
    """As ``train``, with data that was read already."""
    claim(run, config)
    torch.set_num_threads(config.training.threads or available_cores())
    torch.manual_seed(config.seed)
    _note_data(run, data.report)
    locales = data.locales if config.model.locale else []
    names = type_names(data.taxonomy, data.types)
    model = TypeModel.load(config.model, names, data.asked.priors, locales, config.training.bf16)
    asked = with_names(data.asked, data.taxonomy, data.types, locales, config.training.names)

    def keep() -> None:
        with publishing(run / BEST, _CONFIG, "model") as work:
            model.save(work)

    position = TypeTask(config.training, config.seed, run, model, asked, data.dev, progress, keep).train()
    best = next(e for e in read_evaluations(run, TypeEvaluation) if e.step == position.best_step)
    assert best.dev is not None
    served = TypeModel.open(run / BEST, model.locales, config.model.query_tokens)
    card = TransformerCard(
        name=config.name, query_tokens=config.model.query_tokens, locales=model.locales, types=data.types,
        nodes=list(data.taxonomy.nodes.values()), version=data.taxonomy.version, sha256={}, source=model.base.origin,
        license=config.license or licence(model.base.location), calibrated_on=f"{len(data.dev)} queries held out",
    )  # fmt: skip
    notes = "\n".join(_notes(config, data, model, best))
    export = export_types(
        served, card, data.asked, data.dev, run / CLASSIFIER, tolerance=config.tolerance, notes=notes
    )  # fmt: skip
    return TypeOutcome(run, best, best.dev, position.step, position.seconds / 60, export)


def fit(
    settings: TypeModelSettings, training: TypeTrainingSettings, asked: Asked, names: list[list[str]],
    locales: list[str], seed: int,
) -> TypeModel:  # fmt: skip
    """A model that went through all epochs, without a run folder and without anything held out: to compare by."""
    torch.manual_seed(seed)
    model = TypeModel.load(settings, names, asked.priors, locales, training.bf16)
    once = msgspec.structs.replace(training, evaluate_every=_NEVER, checkpoint_minutes=_NEVER)
    with TemporaryDirectory() as folder:
        TypeTask(once, seed, Path(folder), model, asked, None, lambda *_: None).train()
    return model


def type_names(taxonomy: Taxonomy, types: list[str]) -> list[list[str]]:
    """Of each type, in every locale that the taxonomy has: its name, and that of the type above with it."""
    locales = taxonomy.locales or ("",)
    return [
        list(dict.fromkeys(name for said in locales for name in _names(taxonomy.path(type_id, said))))
        for type_id in types
    ]


def _names(path: tuple[str, ...]) -> tuple[str, str]:
    return path[-1], " ".join(path[-2:])


def with_names(asked: Asked, taxonomy: Taxonomy, types: list[str], locales: list[str], weight: float) -> Asked:
    """What was asked, and the types' own names of ``weight`` as queries in each locale."""
    named = {
        (name, type_id, locale)
        for type_id in types
        for locale in (locales or [""])
        if (name := taxonomy.name(type_id, locale)).strip()
    }
    if not weight or not named:
        return asked
    examples = [LabelledQuery(name, type_id, weight, locale) for name, type_id, locale in sorted(named)]
    return asked.and_also(Asked.of(examples, types))


def _note_data(run: Path, report: TypeDataReport) -> None:
    """Writes ``data.json``. Raises ConfigError where the run that is to go on had other input."""
    path = run / _DATA
    if checkpoint.exists(run) and path.exists():
        before = msgspec.json.decode(path.read_bytes(), type=TypeDataReport).sha256
        changed = sorted(name for name in before | report.sha256 if before.get(name) != report.sha256.get(name))
        if changed:
            raise ConfigError(f"{changed[0]} changed since this run began; name another --out, or delete {run}")
    write_json(path, report)


def _notes(config: TypesRun, data: TypeData, model: TypeModel, best: TypeEvaluation) -> Iterator[str]:
    """Markdown: data with licences and checksums, recipe, dev metrics, limits."""
    report, settings, training = data.report, config.model, config.training
    yield from ("## Data", "", "| source | queries | examples | licence |", "|---|---|---|---|")
    for source in (*report.sources, *report.dev_sources):
        yield _source_row(source)
    yield from (
        "",
        f"{report.queries:,} queries were trained on, {report.dev_queries:,} held out; {report.dropped:,} with the "
        f"stems of one of dev were left out. {report.types:,} types, {report.types_without_examples:,} of them known "
        "by name alone.",
        "", "| input file | SHA-256 |", "|---|---|",
    )  # fmt: skip
    for path, sha256 in report.sha256.items():
        yield f"| {Path(path).parent.name}/{Path(path).name} | `{sha256}` |"
    layers = f"layers {', '.join(map(str, settings.layers))}" if settings.layers else "all layers"
    method = f"LoRA of rank {settings.rank}" if settings.method == "lora" else "full fine-tuning"
    frozen = ", embeddings frozen" if settings.freeze_embeddings else ""
    yield from (
        "", "## Recipe", "",
        f"- From {model.base.origin}; {layers}; {method}{frozen}; output layer from {settings.output}.",
        f"- Soft cross-entropy, smoothing {training.smoothing:g}; names count {training.names:g}; at most "
        f"{training.epochs} epochs of batches of {training.queries_per_batch}; AdamW, learning rate "
        f"{training.learning_rate:g}, weight decay {training.weight_decay:g}, warm-up {training.warmup:g}, then a "
        f"cosine; seed {config.seed}. Kept is what lies {training.distance:g} of the way from the base model.",
        f"- Kept: step {best.step}, epoch {best.epoch:.2f}, after {best.minutes:.0f} minutes on {machine()}, torch "
        f"{metadata.version('torch').partition('+')[0]}, transformers {metadata.version('transformers')}.",
        "", "## Metrics", "", "On dev, which the kept step was chosen by.", "",
    )  # fmt: skip
    if best.dev:
        yield from (
            "| accuracy@1 | recall@3 | MRR | log loss |", "|---|---|---|---|",
            f"| {best.dev.accuracy:.4f} | {best.dev.recall_3:.4f} | {best.dev.mrr:.4f} | {best.dev.log_loss:.4f} |", "",
        )  # fmt: skip
    if config.notes:
        yield from ("## Limits", "", config.notes.strip(), "")


def _source_row(source: SourceReport) -> str:
    return f"| {source.name} | {source.queries:,} | {source.examples:,} | {source.license or 'not stated'} |"
