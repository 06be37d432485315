"""Tunes how an index is searched: one configuration, judged on several sets at once::

    python benchmarks/tune.py --sets esci:train,icecat:dev,homedepot:dev@600 --trials 300 --out tuned.toml

The objective is the mean over sets of nDCG@10 + 0.5 · R@100; the splits of one set share its vote.
"""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

if not __package__:  # run as a file: the repository is what is imported from, not this folder
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from benchmarks import options
from benchmarks.data import SearchSet, load_set
from benchmarks.indexes import Workbench, default_root, write_atomically
from benchmarks.metrics import NDCG, RECALL, QuickJudge
from benchmarks.progress import Bars
from benchmarks.sources import engine_sources
from benchmarks.space import RANGES, config_at, point_of, propose
from benchmarks.systems import UNGUIDED
from engine.config import EngineConfig, SearchConfig
from engine.errors import AisleError, ConfigError
from engine.search import SearchEngine

_K = 100
_RECALL_WEIGHT = 0.5
_SET = re.compile(r"([^:@]+):([^:@]+)(?:@(\d+))?")


@dataclass(frozen=True, slots=True)
class Task:
    """One split that votes with ``weight``; weights add up to 1 over all tasks."""

    label: str
    engine: SearchEngine
    queries: list[str]
    judge: QuickJudge
    weight: float

    def score(self, config: SearchConfig) -> dict[str, float]:
        """Mean nDCG@10 and R@100 under ``config``, of retrieval alone."""
        bare = msgspec.structs.replace(config, rerank_depth=0, **UNGUIDED)
        results = self.engine.configured(bare).search_batch(self.queries, _K)
        ndcg, recall = self.judge.judge([[hit.product.product_id for hit in r.hits] for r in results])
        return {NDCG: float(ndcg.mean()), RECALL: float(recall.mean())}


class Trial(msgspec.Struct, frozen=True):
    """A configuration and its figures: the objective, and per task the metrics."""

    objective: float
    tasks: dict[str, dict[str, float]]
    config: SearchConfig


class Journal(msgspec.Struct):
    """All trials so far, and what they were run on: trials of other conditions do not compare."""

    conditions: dict[str, str]
    trials: list[Trial]

    @property
    def best(self) -> Trial:
        return max(self.trials, key=lambda trial: trial.objective)


def parse_sets(text: str) -> list[tuple[str, str, int | None]]:
    """(set, split, first N or None) per entry of ``SET:SPLIT[@N],…``. Raises ConfigError."""
    found = []
    for entry in filter(None, map(str.strip, text.split(","))):
        match = _SET.fullmatch(entry)
        if not match:
            raise ConfigError(f"--sets has {entry!r}; write SET:SPLIT or SET:SPLIT@N, comma-separated")
        found.append((match[1], match[2], int(match[3]) if match[3] else None))
    if not found:
        raise ConfigError("--sets is empty; name at least one SET:SPLIT")
    return found


def make_tasks(
    sets: Sequence[tuple[str, str, int | None]], data: Path | None, config: EngineConfig, root: Path, bars: Bars
) -> list[Task]:
    """Loads every split; splits of one set share one engine."""
    splits = Counter(name for name, _, _ in sets)
    engines: dict[str, SearchEngine] = {}
    tasks = []
    for name, split, first in sets:
        found = load_set(name, split, data, first=first)
        if name not in engines:
            # Retrieval is tuned; what reads, routes and reranks is set on top of it.
            index = msgspec.structs.replace(config.index, reranker="", router="")
            bare = msgspec.structs.replace(config, index=index)
            engines[name] = Workbench(found.corpus, bare, root, bars.report, bars.say).engine(bare)[0]
        label = f"{name}:{split}" + (f"@{first}" if first else "")
        tasks.append(_task(label, engines[name], found, 1 / (len(splits) * splits[name])))
    return tasks


def _task(label: str, engine: SearchEngine, found: SearchSet, weight: float) -> Task:
    return Task(label, engine, list(found.queries.values()), QuickJudge(found.qrels, found.grading), weight)


def run_trial(tasks: Sequence[Task], config: SearchConfig) -> Trial:
    figures = {task.label: task.score(config) for task in tasks}
    votes = (task.weight * (figures[task.label][NDCG] + _RECALL_WEIGHT * figures[task.label][RECALL]) for task in tasks)
    return Trial(sum(votes), figures, config)


def tune(
    tasks: Sequence[Task], base: EngineConfig, journal: Journal, trials: int, seed: int, out: Path, bars: Bars
) -> Trial:
    """Adds trials to the journal until it has ``trials``; the first is ``base`` itself. Returns the best.

    After every trial the journal is written, and ``out`` when there is a new best.
    """
    with bars.counting("trials", trials) as tick:
        for _ in journal.trials:
            tick()
        while len(journal.trials) < trials:
            number = len(journal.trials)
            ranked = sorted(journal.trials, key=lambda trial: -trial.objective)
            point = propose(number, trials, [point_of(trial.config) for trial in ranked], seed)
            started = time.perf_counter()
            trial = run_trial(tasks, config_at(point, base.search) if number else base.search)
            journal.trials.append(trial)
            if trial is journal.best:
                EngineConfig(index=base.index, search=trial.config).write(out)
                seconds = time.perf_counter() - started
                bars.say(f"trial {number}: {trial.objective:.4f}, the best so far ({seconds:.1f} s a trial)")
            write_atomically(_journal_path(out), msgspec.json.format(msgspec.json.encode(journal)))
            tick()
    return journal.best


def open_journal(out: Path, conditions: dict[str, str], resume: bool) -> Journal:
    """The journal beside ``out`` when resuming, else a new one. Raises ConfigError when it is of other conditions."""
    path = _journal_path(out)
    if path == out:
        raise ConfigError(f"--out is {out}; name a .toml file, as the trials go beside it as .json")
    if not resume or not path.exists():
        return Journal(conditions, [])
    try:
        journal = msgspec.json.decode(path.read_bytes(), type=Journal)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{path} cannot be resumed: {error}") from error
    changed = sorted(name for name in conditions if conditions[name] != journal.conditions.get(name))
    if changed:
        what = ", ".join(changed)
        raise ConfigError(f"{path} cannot be resumed: {what} changed since; leave out --resume to start over")
    return journal


def _journal_path(out: Path) -> Path:
    return out.with_suffix(".json")


def summary(first: Trial, best: Trial) -> Table:
    """Per task, the figures of the starting configuration and of the best."""
    drawn = Table("set", *(f"{metric} {which}" for metric in (NDCG, RECALL) for which in ("start", "best")))
    for label, of_best in best.tasks.items():
        of_first = first.tasks[label]
        drawn.add_row(label, *(f"{of[metric]:.4f}" for metric in (NDCG, RECALL) for of in (of_first, of_best)))
    drawn.add_row("objective", f"{first.objective:.4f}", f"{best.objective:.4f}")
    return drawn


def main(
    sets: options.Sets,
    out: options.Best,
    trials: options.Trials = 300,
    seed: options.Seed = 1,
    data: options.Data = None,
    config: options.Config = None,
    index: options.Index = None,
    resume: options.Resume = False,
) -> None:
    """Find one search configuration that is good on all sets: random search, then small moves from the best.

    The objective is the mean over sets of nDCG@10 + 0.5 R@100. Tune on train and dev; test is for the end.
    """
    errors = Console(stderr=True)
    try:
        base = EngineConfig.read(config) if config else EngineConfig()
        conditions = {
            "sets": sets, "seed": str(seed), "start": msgspec.json.encode(base).decode(), "ranges": repr(RANGES),
            "engine": engine_sources(),
        }  # fmt: skip
        journal = open_journal(out, conditions, resume)
        with Bars(errors) as bars:
            tasks = make_tasks(parse_sets(sets), data, base, index or default_root(), bars)
            best = tune(tasks, base, journal, trials, seed, out, bars)
    except AisleError as error:
        errors.print(f"error: {error}", style="red", markup=False, highlight=False)
        raise typer.Exit(1) from error
    Console().print(summary(journal.trials[0], best))
    Console().print(f"written: {out}, {_journal_path(out).name}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
