"""Measures the query → product type classifier on a set, beside its baselines::

python benchmarks/q2pt.py --data DIR --set wands_queries --out result.json
"""

from __future__ import annotations

import shlex
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
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
from benchmarks.q2pt_sets import TASKS, Task, right_types
from benchmarks.report import table
from benchmarks.significance import bootstrap_interval
from engine.dense.encoder import OnnxEncoder
from engine.seams import Encoder
from qpt.calibration import Flags, Numbers, calibration_error, chance_error
from qpt.classifier import QueryTypes, TypeClassifier
from qpt.conformal import in_set, threshold
from qpt.head_fit import CrossFitted, fit_head
from qpt.linear_head import LinearHead
from qpt.log_linear import log_shares
from qpt.softmax import Matrix

ENCODER = "all-MiniLM-L6-v2"
TOKENS = 48  # of a product: brand, title and type come first, and a type needs no more
_COVERAGE = 0.9
_PER_BIN = 20  # queries in a bin of the calibration error, at least, where there are fewer than 200
_TIMED = 300

Values = dict[str, Numbers]


def measure(
    task: Task, encoder: Encoder, seed: int, others: Mapping[str, TypeClassifier] = MappingProxyType({})
) -> dict[str, Any]:  # fmt: skip
    """The result as plain values: the head's metrics with 95 % intervals, cross-validated ones, the baselines'.

    ``others`` are further classifiers of the task's types, by name.
    """
    began = time.perf_counter()
    head, crossed = fit_head(
        task.learnt, task.taxonomy, encoder, types=task.types, products=task.products, seed=seed
    )  # fmt: skip
    seconds = time.perf_counter() - began
    queries = list(task.asked)
    vectors = encoder.encode_queries(queries)
    likely = head.probabilities(queries, vectors, [""] * len(queries))
    right = right_types(task)
    inside = threshold(head.conformal_scores, _COVERAGE)
    baselines = {
        "majority": q2pt_baselines.majority(task, queries),
        "tf-idf + logistic regression": q2pt_baselines.tf_idf_regression(task, queries),
        "class name by cosine": q2pt_baselines.names_by_cosine(task, queries, encoder),
    }
    return {
        "set": task.name,
        "metrics": _means(likely, right, inside),
        "baselines": {name: _quality_means(scores, right) for name, scores in baselines.items()},
        "intervals": _intervals(likely, right, inside, seed),
        "baseline_intervals": {
            name: {m: bootstrap_interval(v, seed) for m, v in quality(scores, right).items()}
            for name, scores in baselines.items()
        },
        "others": {name: _other(other, queries, right, seed) for name, other in others.items()},
        "cross_validated": _cross_validated(head, crossed, seed),
        "calibration": _calibration(likely, right),
        "recall_of_all_types@3": float(_all_types(likely, right).mean()),
        "chosen": _chosen(task, head, encoder),
        "latency_ms": _latency(head, queries, vectors),
        "split": task.split, "n_queries": len(queries), "n_dropped": task.n_dropped, "note": task.note,
        "n_types": len(task.types), "fit_seconds": seconds, "coverage_stated": _COVERAGE,
        "learnt_from": head.card.learnt_from, "calibrated_on": head.card.calibrated_on,
        "temperature": head.card.temperature, "weights": head.card.weights, "encoder": encoder.fingerprint,
    }  # fmt: skip


def _other(classifier: TypeClassifier, queries: list[str], right: Flags, seed: int) -> dict[str, Any]:
    """The same figures of a classifier that reads queries, not vectors."""
    vectors = np.zeros((len(queries), 0), np.float32)
    likely = classifier.probabilities(queries, vectors, [""] * len(queries))
    inside = threshold(classifier.conformal_scores, _COVERAGE)
    return {
        "metrics": _means(likely, right, inside), "intervals": _intervals(likely, right, inside, seed),
        "calibration": _calibration(likely, right), "latency_ms": _latency(classifier, queries, vectors),
    }  # fmt: skip


def quality(scores: Matrix, right: Flags) -> Values:
    """Per query: is the best type right, is one of the best three. Equal scores rank by column."""
    top = np.argsort(-scores, axis=1, kind="stable")[:, :3]
    found = np.take_along_axis(right, top, axis=1)
    return {"accuracy@1": np.asarray(found[:, 0], np.float64), "recall@3": np.asarray(found.any(axis=1), np.float64)}


def _quality_means(scores: Matrix, right: Flags) -> dict[str, float]:
    return {name: float(values.mean()) for name, values in quality(scores, right).items()}


def _sets(likely: Matrix, right: Flags, inside: float) -> Values:
    members = in_set(likely, inside)
    return {
        "coverage": np.asarray((members & right).any(axis=1), np.float64),
        "set_size": np.asarray(members.sum(axis=1), np.float64),
    }


def confidence(likely: Matrix, right: Flags) -> tuple[Numbers, Flags]:
    best = likely.argmax(axis=1)
    rows = np.arange(len(best))
    return likely[rows, best].astype(np.float64), right[rows, best]


def n_bins(n: int) -> int:
    return max(1, min(10, n // _PER_BIN))


def _means(likely: Matrix, right: Flags, inside: float) -> dict[str, float]:
    sure, hits = confidence(likely, right)
    values = {**quality(likely, right), **_sets(likely, right, inside)}
    means = {name: float(of.mean()) for name, of in values.items()}
    ece = calibration_error(sure, hits, n_bins(len(sure)))
    return {
        "accuracy@1": means["accuracy@1"], "recall@3": means["recall@3"], "ece": ece, "coverage": means["coverage"],
        "set_size": means["set_size"],
    }  # fmt: skip


def _intervals(likely: Matrix, right: Flags, inside: float, seed: int) -> dict[str, tuple[float, float]]:
    values = {**quality(likely, right), **_sets(likely, right, inside)}
    return {name: bootstrap_interval(of, seed) for name, of in values.items()}


def _cross_validated(head: LinearHead, crossed: CrossFitted, seed: int) -> dict[str, Any]:
    """On what was learnt, with evidence and weights from the other folds; types only a fold knew have their names.

    The temperature and the conformal threshold are from the same queries, so coverage is near what is stated by
    construction; it is left out.
    """
    likely = np.exp(log_shares((crossed.logits / head.card.temperature).astype(np.float32)))
    found = quality(likely, crossed.right)
    sizes = _sets(likely, crossed.right, threshold(head.conformal_scores, _COVERAGE))["set_size"]
    return {
        "n_queries": len(likely),
        "metrics": {name: float(values.mean()) for name, values in found.items()},
        "intervals": {name: bootstrap_interval(values, seed) for name, values in found.items()},
        "set_size": float(sizes.mean()),
        **_calibration(likely, crossed.right),
    }


def _calibration(likely: Matrix, right: Flags) -> dict[str, float]:
    """``ece`` beside ``ece_by_chance``, what it would be on average if every probability were exactly true."""
    sure, hits = confidence(likely, right)
    bins = n_bins(len(sure))
    return {
        "bins": bins, "ece": calibration_error(sure, hits, bins), "ece_by_chance": chance_error(sure, bins),
        "ece_10_bins": calibration_error(sure, hits), "ece_10_bins_by_chance": chance_error(sure),
        "mean_confidence": float(sure.mean()),
    }  # fmt: skip


def _all_types(likely: Matrix, right: Flags) -> Numbers:
    """Per query, the share of its right types, of at most three, that the best three hold."""
    top = np.argsort(-likely, axis=1, kind="stable")[:, :3]
    found = np.take_along_axis(right, top, axis=1).sum(axis=1)
    return np.asarray(found / np.minimum(right.sum(axis=1), 3), np.float64)


def _chosen(task: Task, head: LinearHead, encoder: Encoder) -> dict[str, float]:
    """Of the types and parents chosen at a probability of one half: how many, how many right, how many parents."""
    asking = QueryTypes(head, encoder)
    answers = [asking.ask(query) for query in task.asked]
    chosen = [(answer.chosen, types) for answer, types in zip(answers, task.asked.values(), strict=True)]
    right = [
        node.type_id in {above for type_id in types for above in (type_id, *task.taxonomy.above(type_id))}
        for node, types in chosen
        if node
    ]
    parents = sum(node.type_id not in head.types for node, _ in chosen if node)
    return {
        "abstained": 1 - len(right) / len(answers),
        "right_when_chosen": float(np.mean(right)) if right else 0.0,
        "parents": parents / len(answers),
    }


def _latency(head: TypeClassifier, queries: list[str], vectors: Matrix) -> dict[str, float]:
    """Of one query at a time, already encoded."""
    taken = []
    for turn in range(_TIMED):
        row = turn % len(queries)
        began = time.perf_counter()
        head.probabilities([queries[row]], vectors[row : row + 1], [""])
        taken.append((time.perf_counter() - began) * 1e3)
    return {f"p{p}": float(np.percentile(taken, p)) for p in (50, 95)}


def _cells(result: dict[str, Any]) -> list[list[str]]:
    crossed = result["cross_validated"]
    systems = [
        ("linear head", result["metrics"], result["intervals"]),
        (f"… cross-validated, {crossed['n_queries']} queries", crossed["metrics"] | {"ece": crossed["ece"],
         "set_size": crossed["set_size"]}, crossed["intervals"]),
        *((name, of["metrics"], of["intervals"]) for name, of in result["others"].items()),
        *((name, of, result["baseline_intervals"][name]) for name, of in result["baselines"].items()),
    ]  # fmt: skip
    names = list(result["metrics"])
    return [["system", *names], *([system, *(_cell(of, i, name) for name in names)] for system, of, i in systems)]


def _cell(values: dict[str, float], intervals: dict[str, tuple[float, float]], name: str) -> str:
    if name not in values:
        return "–"
    low, high = intervals.get(name, (None, None))
    return f"{values[name]:.3f}" + (f" ({low:.3f} … {high:.3f})" if low is not None else "")


def main(
    set_name: Annotated[str, typer.Option("--set", help=f"What to measure on: {', '.join(TASKS)}.")] = "wands_queries",
    data: options.Data = None,
    test: Annotated[
        Path | None,
        typer.Option(
            help="A file like the set's dev file to ask in its place; train and dev are then learnt. For judged sets "
            "queries.SPLIT.tsv, with qrels.SPLIT.txt beside it."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The result (JSON).", show_default="results/q2pt-SET.json")] = None,
    seed: options.Seed = 1,
    as_json: options.Json = False,
    transformer: Annotated[
        Path | None, typer.Option(help="A run folder: fine-tune a transformer in it too. It takes minutes.")
    ] = None,
) -> None:
    """Measure query → product type: accuracy, calibration and conformal sets, beside baselines.

    Example: python benchmarks/q2pt.py --data DATA --set wands_queries --out results/q2pt-wands.json
    """
    errors = Console(stderr=True)
    with options.errors_to(errors):
        if set_name not in TASKS:
            raise DataError(f"--set is {set_name!r}; it must be one of {', '.join(TASKS)}")
        if data is None:
            raise DataError("where are the sets? Give --data DIR or set AISLE_DATA")
        encoder = OnnxEncoder.named(ENCODER, max_tokens=TOKENS)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)  # types are many by nature
            task = TASKS[set_name](data, test, encoder)
            others = {}
            if transformer:
                from benchmarks.q2pt_transformer import fine_tuned  # loads torch

                others["transformer"] = fine_tuned(task, data, transformer, seed)
            result = measure(task, encoder, seed, others)
        result |= {"command": shlex.join(["python", *sys.argv]), "machine": machine()}
        out = out or Path("results") / f"q2pt-{set_name}.json"
        write_atomically(out, msgspec.json.format(msgspec.json.encode(result)))
    if as_json:
        print(msgspec.json.encode(result).decode())
        return
    heading = f"{set_name} {result['split']}: {result['n_queries']} queries, {result['n_types']} types"
    Console(width=160).print(table(heading, _cells(result)), "")
    calibration, chosen = result["calibration"], result["chosen"]
    print(f"ece by chance alone {calibration['ece_by_chance']:.3f} in {calibration['bins']} bins; "
          f"abstained {chosen['abstained']:.3f}, right when chosen {chosen['right_when_chosen']:.3f}, "
          f"p50 {result['latency_ms']['p50']:.2f} ms, fitted in {result['fit_seconds']:.1f} s; "
          f"written: {out}")  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
