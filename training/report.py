"""What a run tells of itself: its evaluations, its best model, the card, the curves."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import msgspec
import torch
from matplotlib.figure import Figure

from engine.config import available_cores
from training.settings import ModelSettings, RunConfig

#: What ``aisle export`` reads beside a model.
RECIPE = "training.json"
BEST, BEST_RESULT, METRICS = "best", "best.json", "metrics.jsonl"
_CURVES = "curves.png"


class Quality(msgspec.Struct, frozen=True):
    """How good a model is on dev.

    ``dev`` has metrics by dev set, ``score``, 0 or more, decides which model is kept, ``per_query`` has the deciding
    metric by dev set and query. ``served`` are numbers that go with the model where it is served.
    """

    dev: dict[str, dict[str, float]]
    score: float
    per_query: dict[str, dict[str, float]] = {}
    served: dict[str, float] = {}


class Evaluation(msgspec.Struct, frozen=True):
    """A line of ``metrics.jsonl``. Loss and speed, in examples, are since the line before."""

    step: int
    epoch: float
    minutes: float
    loss: float
    learning_rate: float
    per_second: float
    dev: dict[str, dict[str, float]]
    score: float

    def __str__(self) -> str:
        dev = "; ".join(f"{name} {_listed(of_set)}" for name, of_set in self.dev.items())
        return (
            f"step {self.step}, epoch {self.epoch:.2f}, {self.minutes:.1f} min: loss {self.loss:.4f}, "
            f"{self.per_second:.0f} examples/s, {dev}; score {self.score:.4f}"
        )


class Best(msgspec.Struct, frozen=True):
    """``best.json``: the evaluation that was best, and how good the model was then."""

    evaluation: Evaluation
    quality: Quality

    @classmethod
    def read(cls, run: Path) -> Best:
        return msgspec.json.decode((run / BEST_RESULT).read_bytes(), type=cls)

    def write(self, run: Path) -> None:
        (run / BEST_RESULT).write_bytes(msgspec.json.encode(self))


class Recipe(msgspec.Struct, frozen=True):
    """``training.json``, beside a model that training saved: what serving it takes. ``card`` is for its README.

    ``model`` says by which method it was trained, as far as the saved weights do not.
    """

    task: str = "reranker"
    name: str = ""
    query_tokens: int = 24
    product_tokens: int = 64
    list_size: int = 1
    scale: float = 1.0
    offset: float = 0.0
    source: str = ""
    license: str = ""
    card: str = ""
    model: ModelSettings | None = None

    def __post_init__(self) -> None:
        for field in ("query_tokens", "product_tokens", "list_size"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} is {getattr(self, field)}; it must be at least 1")
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"scale is {self.scale}; it must be above 0")


@dataclass(frozen=True, slots=True)
class Notes:
    """What only a task can say for its model's card, in lines of markdown.

    ``base`` is where the base model is from, ``sizes`` how much there is by dev set: queries, pairs.
    """

    base: str
    method: str
    data: Sequence[str]
    recipe: Sequence[str]
    sizes: Mapping[str, Mapping[str, int]]
    metrics: Sequence[str] = ()


def card(config: RunConfig, notes: Notes, best: Evaluation) -> str:
    """Markdown: data with licences and checksums, recipe, dev metrics, machine, limits."""
    training = config.training
    lines = ["## Data", "", *notes.data, ""]
    lines += ["## Recipe", "", f"- From {notes.base}; {notes.method}.", *(f"- {line}" for line in notes.recipe)]
    lines.append(
        f"- At most {training.epochs} epochs; AdamW, learning rate {training.learning_rate:g}, weight decay "
        f"{training.weight_decay:g}, warm-up {training.warmup:g}, then a cosine; seed {config.seed}."
    )
    lines.append(
        f"- Kept: step {best.step}, epoch {best.epoch:.2f}, after {best.minutes:.0f} minutes on {machine()}, torch "
        f"{metadata.version('torch').partition('+')[0]}, transformers {metadata.version('transformers')}."
    )
    lines += ["", "## Metrics", "", "On dev, which the kept step was chosen by.", "", *_table(notes.sizes, best.dev)]
    lines += ["", *notes.metrics, ""]
    if config.notes:
        lines += ["## Limits", "", config.notes.strip(), ""]
    return "\n".join(lines)


def checksum_table(sha256: Mapping[str, str]) -> list[str]:
    """Markdown of input files by path, of which the last folder and the name are told."""
    rows = (f"| {Path(path).parent.name}/{Path(path).name} | `{digest}` |" for path, digest in sha256.items())
    return ["", "| input file | SHA-256 |", "|---|---|", *rows]


def _table(sizes: Mapping[str, Mapping[str, int]], dev: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    counted = list(dict.fromkeys(name for of_set in sizes.values() for name in of_set))
    measured = list(dict.fromkeys(name for of_set in dev.values() for name in of_set))
    yield f"| dev set | {' | '.join([*counted, *measured])} |"
    yield "|---" * (1 + len(counted) + len(measured)) + "|"
    for name, found in dev.items():
        cells = [f"{sizes.get(name, {}).get(what, 0):,}" for what in counted]
        cells += [f"{found[what]:.4f}" if what in found else "" for what in measured]
        yield f"| {name} | {' | '.join(cells)} |"


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


def read_evaluations(run: Path, n: int | None = None) -> list[Evaluation]:
    """The first ``n`` lines of the run's metrics, all when None."""
    path = run / METRICS
    lines = path.read_bytes().splitlines()[:n] if path.exists() else []
    return [msgspec.json.decode(line, type=Evaluation) for line in lines]


def write_evaluations(run: Path, evaluations: Sequence[Evaluation], label: str) -> None:
    """Replaces the run's metrics and their picture; ``label`` says what the score is."""
    part = run / f"{METRICS}.part"
    part.write_bytes(b"".join(msgspec.json.encode(evaluation) + b"\n" for evaluation in evaluations))
    os.replace(part, run / METRICS)
    draw(evaluations, label, run / _CURVES)


def draw(evaluations: Sequence[Evaluation], label: str, path: Path) -> None:
    """Writes a PNG with a point per evaluation: loss and learning rate, and dev's metrics between 0 and 1."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    steps = [evaluation.step for evaluation in evaluations]
    left.plot(steps, [evaluation.loss for evaluation in evaluations], marker="o", label="loss")
    left.set_xlabel("step")
    left.set_ylabel("training loss")
    rates = left.twinx()
    rates.plot(steps, [evaluation.learning_rate for evaluation in evaluations], color="tab:gray", linestyle=":")
    rates.set_ylabel("learning rate (dotted)")
    for name, of_set in evaluations[-1].dev.items():
        for what in of_set:
            values = [evaluation.dev[name][what] for evaluation in evaluations]
            if max(values) <= 1:
                right.plot(steps, values, marker=".", linewidth=0.8, label=f"{what}, {name}")
    scores = [evaluation.score for evaluation in evaluations]
    right.plot(steps, scores, marker="o", color="black", label="score")
    best = max(range(len(steps)), key=scores.__getitem__)
    right.axvline(steps[best], color="tab:gray", linewidth=0.8)
    right.set_title(f"best: {scores[best]:.4f} at step {steps[best]}")
    right.set_xlabel("step")
    right.set_ylabel(label)
    right.legend(fontsize="small")
    figure.savefig(path, dpi=110)


def _listed(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
