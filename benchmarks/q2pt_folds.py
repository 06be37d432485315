"""Query → product type on queries that nobody tuned on: nested cross-validation over all labelled queries of a set::

python benchmarks/q2pt_folds.py --data DIR --set wands_queries --out result.json

Train and dev are cut into outer folds, queries of the same stems together, several times over. A system learns all
folds but one and is asked that one. Every number it has, such as the penalty of a regression or the weight of a name,
is chosen on inner folds of what it learns; the linear head does so by itself, the baselines are given a grid.
"""

from __future__ import annotations

import shlex
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

if not __package__:  # run as a file: the repository is what is imported from, not this folder
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import msgspec
import numpy as np
import typer
from rich.console import Console

from benchmarks import options, q2pt_baselines
from benchmarks.data import DataError
from benchmarks.indexes import write_atomically
from benchmarks.machine import machine
from benchmarks.progress import Bars
from benchmarks.q2pt import ENCODER, TOKENS, confidence, n_bins, quality
from benchmarks.q2pt_sets import TASKS, Places, Task, right_types
from benchmarks.report import table
from benchmarks.significance import bootstrap_interval, compare_all
from engine.dense.encoder import OnnxEncoder
from engine.seams import Encoder
from qpt.calibration import Flags, Numbers, calibration_error, chance_error, fit_temperature
from qpt.examples import LabelledQuery
from qpt.head_fit import fit_head, stem_folds
from qpt.log_linear import log_shares
from qpt.softmax import Matrix

HEAD, MIX = "linear head", "plain mix"
_INNER = 3
_PENALTIES = (1.0, 10.0, 100.0, 1000.0)  # inverse: scikit-learn's C
_SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)  # of the name in the mix
_NEIGHBOURS = (1, 5, 20)
_SHARPNESS = 50.0  # cosines differ by tenths, logits by more; temperatures reach from a quarter to four times it
_LEAST = 1e-3  # a probability, before the logarithm
_RESAMPLES = 200  # of queries, for the interval of the calibration error


@dataclass(frozen=True, slots=True)
class Labelled:
    """Labelled queries with vectors, float32 (n, dim), their right types, bool (n, types), and the names' vectors."""

    task: Task = field(repr=False)
    queries: list[str] = field(repr=False)
    vectors: Matrix = field(repr=False)
    right: Flags = field(repr=False)
    names: Matrix = field(repr=False)

    @classmethod
    def of(cls, task: Task, encoder: Encoder) -> Labelled:
        """All of the task's that shoppers wrote: what it learns and what it is asked."""
        queries = list(task.asked)
        names = encoder.encode_queries([task.taxonomy.name(type_id) or " " for type_id in task.types])
        return cls(task, queries, encoder.encode_queries(queries), right_types(task), names)

    def examples(self, rows: Places) -> list[LabelledQuery]:
        """The right types of each query, with equal shares."""
        shares = self.right[rows] / self.right[rows].sum(axis=1, keepdims=True)
        return [
            LabelledQuery(self.queries[rows[place]], self.task.types[column], float(shares[place, column]))
            for place, column in np.argwhere(shares).tolist()
        ]


Answers = dict[str, dict[str, Matrix]]  # logits, float32 (asked, types), of each system in each setting, simpler first


def baselines(data: Labelled, learnt: Places, asked: Places) -> Answers:
    """What each baseline says in each of its settings; ``learnt`` and ``asked`` are rows."""
    cosines = data.vectors[asked] @ data.names.T
    near = data.vectors[asked] @ data.vectors[learnt].T
    regressions = {
        f"C {c:g}": q2pt_baselines.vector_regression(data.vectors[learnt], data.right[learnt], data.vectors[asked], c)
        for c in _PENALTIES
    }
    return {
        "class name by cosine": {"": _SHARPNESS * cosines},
        "logistic regression on vectors": {said: _logs(likely) for said, likely in regressions.items()},
        "nearest queries": {
            f"k {k}": _logs(q2pt_baselines.neighbour_votes(near, data.right[learnt], k)) for k in _NEIGHBOURS
        },
        MIX: {
            f"{said}, name {share:g}": _mixed(cosines, likely, share)
            for said, likely in regressions.items() for share in _SHARES
        },
    }  # fmt: skip


def _mixed(cosines: Matrix, likely: Matrix, share: float) -> Matrix:
    mixed: Matrix = (_SHARPNESS * (share * cosines + (1 - share) * likely)).astype(np.float32)
    return mixed


def _logs(likely: Matrix) -> Matrix:
    logs: Matrix = np.log(likely + np.float32(_LEAST))
    return logs


def fold_answers(
    data: Labelled, learnt: Places, asked: Places, encoder: Encoder, seed: int
) -> dict[str, tuple[str, Matrix]]:
    """Of every system the setting that the inner folds chose, and its probabilities, float32 (asked, types)."""
    rng = np.random.default_rng(seed)
    inner = np.array(list(stem_folds([data.queries[row] for row in learnt], _INNER, rng)))
    tried: Answers = {}
    for fold in range(_INNER):
        held = np.flatnonzero(inner == fold)
        for system, settings in baselines(data, learnt[inner != fold], learnt[held]).items():
            for said, logits in settings.items():
                of = tried.setdefault(system, {})
                of.setdefault(said, np.zeros((len(learnt), logits.shape[1]), np.float32))[held] = logits
    right, ones = data.right[learnt], np.ones(len(learnt))
    out = {}
    for system, settings in baselines(data, learnt, asked).items():
        said = max(settings, key=lambda s: sum(float(v.mean()) for v in quality(tried[system][s], right).values()))
        temperature = fit_temperature(tried[system][said], right, ones)
        out[system] = said, np.exp(log_shares((settings[said] / temperature).astype(np.float32)))
    task = data.task
    head, _ = fit_head(
        data.examples(learnt), task.taxonomy, encoder, types=task.types, products=task.products, seed=seed
    )
    queries = [data.queries[row] for row in asked]
    return out | {HEAD: ("", head.probabilities(queries, data.vectors[asked], [""] * len(asked)))}


def cuts(queries: Sequence[str], n_folds: int, repeats: int, seed: int) -> Iterator[tuple[int, Places, Places]]:
    """The number of each repeat, and of each of its folds the rows that are learnt and those that are asked."""
    for repeat in range(repeats):
        fold = np.array(list(stem_folds(queries, n_folds, np.random.default_rng([seed, repeat]))))
        for number in range(n_folds):
            yield repeat, np.flatnonzero(fold != number), np.flatnonzero(fold == number)


def measure(
    data: Labelled, encoder: Encoder, n_folds: int, repeats: int, seed: int, bars: Bars
) -> dict[str, Any]:  # fmt: skip
    """The result as plain values: of each system its metrics with 95 % intervals, and the head against each other.

    A query's value is its mean over repeats, and intervals and p-values are over queries.
    """
    likely: dict[str, Matrix] = {}
    chosen: dict[str, list[str]] = {}
    unseen = np.zeros((repeats, len(data.queries)), bool)
    with bars.counting(f"{data.task.name}: outer folds", n_folds * repeats) as tick:
        for repeat, learnt, asked in cuts(data.queries, n_folds, repeats, seed):
            unseen[repeat, asked] = ~(data.right[asked] & data.right[learnt].any(axis=0)).any(axis=1)
            for system, (said, found) in fold_answers(data, learnt, asked, encoder, seed).items():
                of = likely.setdefault(system, np.zeros((repeats, *data.right.shape), np.float32))
                of[repeat, asked] = found
                chosen.setdefault(system, []).append(said)
            tick()
    values = {system: _values(found, data.right) for system, found in likely.items()}
    means = {system: {name: of.mean(axis=0) for name, of in found.items()} for system, found in values.items()}
    return {
        "systems": {
            system: {
                "metrics": {name: float(of.mean()) for name, of in means[system].items()},
                "intervals": {name: bootstrap_interval(of, seed) for name, of in means[system].items()},
                **_calibration(likely[system], data.right, seed),
                "accuracy@1 of types without an example": _mean(values[system]["accuracy@1"][unseen]),
                "chosen": {said: chosen[system].count(said) for said in dict.fromkeys(chosen[system])},
            }
            for system in likely
        },
        "comparisons": _comparisons(means, seed),
        "n_queries": len(data.queries), "n_types": len(data.task.types), "folds": n_folds, "repeats": repeats,
        "inner_folds": _INNER, "share_of_types_without_an_example": float(unseen.mean()), "seed": seed,
        "encoder": encoder.fingerprint,
    }  # fmt: skip


def _mean(values: Numbers) -> float | None:
    return float(values.mean()) if len(values) else None


def _values(likely: Matrix, right: Flags) -> dict[str, Numbers]:
    """By metric, float64 (repeats, n)."""
    found = [quality(of_repeat, right) for of_repeat in likely]
    return {name: np.array([of[name] for of in found]) for name in found[0]}


def _comparisons(means: Mapping[str, Mapping[str, Numbers]], seed: int) -> list[dict[str, Any]]:
    per_query = {
        system: {name: {str(row): float(value) for row, value in enumerate(of)} for name, of in metrics.items()}
        for system, metrics in means.items()
    }
    return [
        msgspec.to_builtins(found)
        for system in means if system != HEAD
        for found in compare_all({system: per_query[system], HEAD: per_query[HEAD]}, list(means[system]), seed)
    ]  # fmt: skip


def _calibration(likely: Matrix, right: Flags, seed: int) -> dict[str, Any]:
    """The calibration error, its mean over repeats, with an interval; ``ece_by_chance`` is what chance alone makes."""
    told = [confidence(of_repeat, right) for of_repeat in likely]
    n, bins = len(right), n_bins(len(right))
    picks = np.random.default_rng(seed).integers(0, n, (_RESAMPLES, n))

    def mean(rows: Places) -> float:
        return float(np.mean([calibration_error(sure[rows], hits[rows], bins) for sure, hits in told]))

    low, high = np.percentile([mean(rows) for rows in picks], [2.5, 97.5])
    return {
        "ece": mean(np.arange(n)), "ece_interval": (float(low), float(high)), "bins": bins,
        "ece_by_chance": chance_error(told[0][0], bins),
    }  # fmt: skip


def _cells(result: Mapping[str, Any]) -> list[list[str]]:
    rows = [["system", "accuracy@1", "recall@3", "ECE", "by chance", "accuracy@1, no example"]]
    for system, of in result["systems"].items():
        new = of["accuracy@1 of types without an example"]
        rows.append([
            system, *(f"{value:.3f} {_between(of['intervals'][name])}" for name, value in of["metrics"].items()),
            f"{of['ece']:.3f} {_between(of['ece_interval'])}", f"{of['ece_by_chance']:.3f}",
            "–" if new is None else f"{new:.3f}",
        ])  # fmt: skip
    return rows


def _against(result: Mapping[str, Any]) -> list[list[str]]:
    lines = [
        [c["a"], c["metric"], f"{c['difference']:+.3f} {_between(c['interval'], '+')}", f"{c['p']:.4f}"]
        for c in result["comparisons"]
    ]
    return [[f"{HEAD} minus", "metric", "difference", "p"], *lines]


def _between(interval: tuple[float, float], sign: str = "") -> str:
    return f"({interval[0]:{sign}.3f} … {interval[1]:{sign}.3f})"


def main(
    set_name: Annotated[str, typer.Option("--set", help=f"What to measure on: {', '.join(TASKS)}.")] = "wands_queries",
    data: options.Data = None,
    out: Annotated[
        Path | None, typer.Option(help="The result (JSON).", show_default="results/q2pt-folds-SET.json")
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Outer folds.")] = 5,
    repeats: Annotated[int, typer.Option(min=1, help="How often queries are cut into outer folds.")] = 3,
    seed: options.Seed = 1,
    as_json: options.Json = False,
) -> None:
    """Measure query → product type by nested cross-validation, beside baselines in the same folds.

    Example: python benchmarks/q2pt_folds.py --data DATA --set wands_queries --out results/q2pt-folds-wands.json
    """
    errors = Console(stderr=True)
    with options.errors_to(errors):
        if set_name not in TASKS:
            raise DataError(f"--set is {set_name!r}; it must be one of {', '.join(TASKS)}")
        if data is None:
            raise DataError("where are the sets? Give --data DIR or set AISLE_DATA")
        encoder = OnnxEncoder.named(ENCODER, max_tokens=TOKENS)
        task = TASKS[set_name](data, None, encoder)
        labelled = Labelled.of(task.with_learnt_asked(), encoder)
        with Bars(errors) as bars, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)  # types are many by nature
            result = measure(labelled, encoder, folds, repeats, seed, bars)
        result |= {"set": set_name, "command": shlex.join(["python", *sys.argv]), "machine": machine()}
        out = out or Path("results") / f"q2pt-folds-{set_name}.json"
        write_atomically(out, msgspec.json.format(msgspec.json.encode(result)))
    if as_json:
        print(msgspec.json.encode(result).decode())
        return
    heading = (
        f"{set_name}: {result['n_queries']} queries, {result['n_types']} types; {folds} outer folds, {repeats} times; "
        f"{result['share_of_types_without_an_example']:.0%} ask for a type without an example"
    )
    Console(width=160).print(table(heading, _cells(result)), "", table("", _against(result)), "", f"written: {out}")


if __name__ == "__main__":
    typer.run(main)
