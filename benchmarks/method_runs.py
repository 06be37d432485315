"""What ``benchmarks/methods.py`` trains: data, the settings of each run, and one run measured in its own process."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from engine.errors import ModelError
from training.settings import RunConfig

#: Learning rates that each method chooses from: the fewer weights move, the higher. The middle one is tried first.
RATES: dict[str, tuple[float, ...]] = {
    "full": (5e-5, 1.5e-4, 4e-4),
    "lora": (3e-4, 1e-3, 3e-3),
    "qlora": (3e-4, 1e-3, 3e-3),
    "prefix": (3e-3, 1e-2, 3e-2),
    "prompt": (3e-4, 3e-3, 3e-2),
    "bottleneck": (3e-4, 1e-3, 3e-3),
    "bitfit": (1e-3, 3e-3, 1e-2),
    "lora+prefix": (3e-4, 1e-3, 3e-3),
}
#: A set that is trained on, and the one that is looked at for what was forgotten.
OTHER = {"esci": "icecat", "icecat": "esci"}
STOCK = "all-MiniLM-L6-v2"
LAYERS = [0, 1, 3, 5]  # of the reranker, as in the shipped recipes
_GENERATED = 1_500  # queries made from icecat's catalog, of which no judgment may be trained on
_LABELS = {
    "esci": {"3": 1.0, "2": 0.4, "1": 0.15, "0": 0.0},
    "icecat": {"3": 1.0, "2": 0.7, "1": 0.25, "0": 0.0},
}
_GAINS = {"esci": {"3": 100, "2": 10, "1": 1, "0": 0}, "icecat": {"3": 3, "2": 2, "1": 1, "0": 0}}
_WANDS = "wands_queries"


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One run. ``base`` is where it begins; ``tuning`` has it judged on a share of the training queries; one for its
    ``memory`` alone gives every tensor pages of its own, which its peak then counts, and is not timed.
    """

    task: str
    train: str
    method: str
    rate: float
    seed: int
    steps: int
    base: str = STOCK
    tuning: bool = False
    memory: bool = False

    @property
    def name(self) -> str:
        kind = f"rate-{self.rate:g}" if self.tuning else f"seed-{self.seed}{'-memory' if self.memory else ''}"
        return f"{self.task}-{self.train}-{self.method}-{kind}"


class Measured(msgspec.Struct, frozen=True):
    """What a run came to. Memory, in MB, is its peak above what the process held before the model was loaded."""

    job: Job
    trained: int
    weights: int
    saved_bytes: int
    seconds_per_step: float
    memory_mb: float
    first_loss: float
    score: float
    per_query: dict[str, dict[str, float]]
    before: dict[str, dict[str, float]]


def write_sets(data: Path, out: Path, progress: Any) -> None:
    """The training examples of each set, once, with the products that search finds for them."""
    from training.data.prepare import prepare
    from training.tasks.reranker import RerankerConfig

    for name in OTHER:
        if (out / f"{name}.jsonl.gz").exists():
            continue
        tables = {
            "name": "sets", "source": _sources(name, data), "dev": {"sets": [_dev_set(name, data)]},
            "negatives": {"mine": True, "hard": 5, "random": 1},
        }  # fmt: skip
        prepare(msgspec.convert(tables, RerankerConfig), out / name, progress)
        shutil.copyfile(out / name / "train.jsonl.gz", out / f"{name}.jsonl.gz")


def config_of(job: Job, data: Path, sets: Path, threads: int) -> RunConfig:
    """The settings of a run of the job."""
    from training.tasks import config_of as configuration

    training: dict[str, Any] = {
        "learning_rate": job.rate, "max_steps": job.steps, "epochs": 1_000, "evaluate_every": 1_000_000,
        "patience": 0, "checkpoint_minutes": 1e6, "threads": threads,
    }  # fmt: skip
    model: dict[str, Any] = {"base": job.base, "method": job.method}
    tables: dict[str, Any] = {"name": "run", "seed": job.seed, "training": training, "model": model}
    if job.task == "types":
        labels = {"kind": "labels", "query": "query", "type": "query_class"}
        tables["source"] = [labels | {"path": str(data / _WANDS / "train.tsv")}]
        tables["dev"] = {"source": [labels | {"path": str(data / _WANDS / "dev.tsv")}]}
        tables |= {"taxonomy": {"kind": "names"}, "tolerance": 0.5}
        training["distance"] = 1.0
    else:
        tables["source"] = [{"kind": "examples", "path": str(sets / f"{job.train}.jsonl.gz")}]
        tables["dev"] = {"share": 0.25} if job.tuning else {"sets": [_dev_set(name, data) for name in OTHER]}
        model |= {"query_tokens": 24, "product_tokens": 48}
        training["pairs_per_batch"] = 48
        training["loss"] = "bce+ranknet" if job.task == "reranker" else "mnr+listnet"
        if job.task == "reranker" and job.base == STOCK:
            model["layers"] = LAYERS
    config: RunConfig = msgspec.convert(tables, configuration(job.task))
    return config


def run(job: Job, data: Path, sets: Path, runs: Path, threads: int) -> Measured:
    """Trains, in a process that does nothing else, and measures. A run that is there already is not repeated."""
    kept = runs / f"{job.name}.json"
    if kept.exists():
        return msgspec.json.decode(kept.read_bytes(), type=Measured)
    from training.report import BEST, Best
    from training.run import claim, settle, train_task

    config = config_of(job, data, sets, threads)
    folder = runs / job.name
    shutil.rmtree(folder, ignore_errors=True)
    claim(folder, config)
    settle(config)
    prepared = runs / f"data-{job.train}-{'tuning' if job.tuning else job.seed}-{job.task == 'types'}"
    steps: list[float] = []

    def progress(task: str, done: int, total: int, detail: str = "") -> None:
        if task == "training":
            steps.append(time.perf_counter())

    held = _reset_peak()
    task = config.task(folder, prepared, False, progress)
    judged = job.method == "full" and not job.tuning and not job.memory and job.task != "types"
    before = task.judge().per_query if judged else {}
    # A byte of a 4-bit layer holds two weights.
    counts = [
        (p.numel() * (2 if str(p.dtype) == "torch.uint8" else 1), p.requires_grad) for p in task.module.parameters()
    ]
    with suppress(ModelError):  # no better than chance is a figure too
        train_task(task, config, folder, progress)
    best = Best.read(folder)
    adapter, whole = folder / BEST / "adapter.safetensors", folder / BEST / "model.safetensors"
    found = Measured(
        job=job, trained=sum(n for n, moves in counts if moves), weights=sum(n for n, _ in counts),
        saved_bytes=(adapter if adapter.exists() else whole).stat().st_size,
        seconds_per_step=median(b - a for a, b in pairwise(steps)), memory_mb=_peak() - held,
        first_loss=best.evaluation.loss, score=best.evaluation.score, per_query=best.quality.per_query, before=before,
    )  # fmt: skip
    if job.method != "full" or job.tuning or job.memory:
        shutil.rmtree(folder)
    kept.write_bytes(msgspec.json.encode(found))
    return found


def _sources(name: str, data: Path) -> list[dict[str, Any]]:
    corpus = str(data / name / "corpus.jsonl.gz")
    if name == "icecat":
        return [{"kind": "generated", "catalogs": [corpus], "queries": _GENERATED}]
    judged = {"kind": "judged", "catalog": corpus, "labels": _LABELS[name]}
    files = {"queries": str(data / name / "queries.train.tsv"), "qrels": str(data / name / "qrels.train.txt")}
    pairs = {"kind": "examples", "path": str(data / "esci_pairs" / "train.jsonl.gz"), "where": {"locale": ["us"]}}
    return [judged | files | {"repeat": 2}, pairs | {"labels": {"E": 1.0, "S": 0.4, "C": 0.15, "I": 0.0}}]


def _dev_set(name: str, data: Path) -> Mapping[str, Any]:
    return {
        "name": name, "catalog": str(data / name / "corpus.jsonl.gz"),
        "queries": str(data / name / "queries.dev.tsv"), "qrels": str(data / name / "qrels.dev.txt"),
        "labels": _LABELS[name], "gains": _GAINS[name],
    }  # fmt: skip


def _reset_peak() -> float:
    """Has the kernel count the peak anew; returns what the process holds now, in MB."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _peak() -> float:
    return _status("VmHWM")


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024
