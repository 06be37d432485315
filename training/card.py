"""What a run says of its model in ``training.json``, which the served model's card is made of."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import torch

from engine.config import available_cores
from training.base_models import BaseModel
from training.checkpoint import Evaluation
from training.config import QueriesSource, RerankerConfig
from training.prepare import Data


def card(config: RerankerConfig, data: Data, base: BaseModel, best: Evaluation) -> str:
    """Markdown: data with licences and checksums, recipe, dev metrics, machine."""
    return "\n".join([*_data(data), *_recipe(config, base, best), *_metrics(data, best), *_notes(config)])


def _data(data: Data) -> Iterator[str]:
    yield from (
        "## Data",
        "",
        "| source | queries | pairs | of them mined | times | licence |",
        "|---|---|---|---|---|---|",
    )
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
    yield from ("", "| input file | SHA-256 |", "|---|---|")
    for path, sha256 in data.sha256.items():
        yield f"| {Path(path).parent.name}/{Path(path).name} | `{sha256}` |"
    yield ""


def _recipe(config: RerankerConfig, base: BaseModel, best: Evaluation) -> Iterator[str]:
    model, training, teacher = config.model, config.training, config.teacher
    layers = f"layers {', '.join(map(str, model.layers))}" if model.layers else "all layers"
    layers += "".join(
        f", {n} {what} of each"
        for n, what in ((model.heads, "attention heads"), (model.neurons, "feed-forward neurons"))
        if n
    )
    layers += f", activation {model.activation}" if model.activation else ""
    method = f"LoRA of rank {model.rank}" if model.method == "lora" else "full fine-tuning"
    frozen = ", embeddings frozen" if model.freeze_embeddings else ""
    yield from ("## Recipe", "", f"- From {base.origin}; {layers}; {method}{frozen}.")
    yield (
        f"- Loss {training.loss}; epochs: at most {training.epochs}, of batches of {training.pairs_per_batch} pairs; "
        f"AdamW, learning rate {training.learning_rate:g}, weight decay {training.weight_decay:g}, warm-up "
        f"{training.warmup:g}, then a cosine; seed {config.seed}."
    )
    if teacher.path:
        yield (
            f"- Labels are {teacher.weight:g} of a teacher's probability at temperature {teacher.temperature:g}, the "
            "rest their own; those of pairs that nobody judged are the teacher's alone. The teacher is "
            f"{Path(teacher.path).absolute().parent.name}."
        )
    if config.negatives.mine:
        negatives = config.negatives
        yield (
            f"- Per judged query {negatives.hard} products from the best {negatives.depth} of the hybrid search and "
            f"{negatives.random} at random, that nobody judged; none that has all of the query's words."
        )
    for source in config.source:
        if isinstance(source, QueriesSource):
            yield (
                f"- Per query of {Path(source.path).name}, its judgments unread, the best {source.best} of the hybrid "
                f"search, {source.middle} from the middle and {source.deep} from down to rank {source.depth}, and "
                f"{source.random} at random; labels are the {source.labels}'s."
            )
    yield (
        f"- Kept: step {best.step}, epoch {best.epoch:.2f}, after {best.minutes:.0f} minutes on {machine()}, torch "
        f"{metadata.version('torch').partition('+')[0]}, transformers {metadata.version('transformers')}."
    )
    yield ""


def _metrics(data: Data, best: Evaluation) -> Iterator[str]:
    yield from ("## Metrics", "", "On dev, which the kept step was chosen by: nDCG@10 of the judged products.", "")
    yield from ("| dev set | queries | pairs | nDCG@10 | RMSE |", "|---|---|---|---|---|")
    for name, value in best.ndcg.items():
        n_queries, n_pairs = data.splits[f"dev.{name}"]
        rmse = f"{best.rmse[name]:.4f}" if name in best.rmse else ""
        yield f"| {name} | {n_queries:,} | {n_pairs:,} | {value:.4f} | {rmse} |"
    yield from ("", "Probabilities are calibrated on the same pairs, each dev set counting the same (Platt 1999).", "")


def _notes(config: RerankerConfig) -> Iterator[str]:
    if config.notes:
        yield from ("## Limits", "", config.notes.strip(), "")


def machine() -> str:
    """What is trained on."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{available_cores()} × {_processor()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
