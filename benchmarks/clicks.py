"""Measures what position bias costs a ranker that learns from clicks, and how much of it curation brings back::

python benchmarks/clicks.py --set sample --out results/clicks.json

Clicks are synthetic, by the model that curation assumes (``benchmarks/synthetic_clicks.py``): this shows that the
estimates are right where the model is, and how much they are worth; not that shoppers follow it. The ranker is linear,
over features of words, vectors and popularity, learnt by ridge regression on four fifths of the queries and judged by
nDCG@10 of true grades on the fifth left out, each fifth in turn.
"""

from __future__ import annotations

import gzip
import shlex
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

if not __package__:  # run as a file: the repository is what is imported from, not this folder
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import msgspec
import numpy as np
import typer
from rich.console import Console
from rich.progress import track

from benchmarks import options
from benchmarks.click_features import asked_of
from benchmarks.data import load_set
from benchmarks.machine import machine
from benchmarks.report import table
from benchmarks.results import write_result
from benchmarks.significance import bootstrap_interval
from benchmarks.synthetic_clicks import Asked, Floats, Shoppers, synthetic_log, synthetic_shop_log
from engine.errors import ConfigError
from training.curation.clicks import ClicksStep
from training.curation.inputs import LogInput, read_inputs
from training.curation.report import Tally
from training.curation.step import Context
from training.data.sources import Catalogs
from training.metrics import ndcg

_FOLDS = 5
_PENALTY = 1.0  # of ridge regression, for features of standard deviation 1
_PRODUCTION = 5  # queries that production learnt from
_LOGGED = 16  # queries of a log to try curation on
_RAW, _TRUE = "raw clicks", "true labels of what was shown"

Labels = Mapping[tuple[str, str], float]

_Set = Annotated[str, typer.Option("--set", help="A folder of --data, or sample, which is the shipped catalog.")]
_Seeds = Annotated[int, typer.Option(min=2, help="Logs that are drawn, each with a production ranker of its own.")]
_Pages = Annotated[int, typer.Option(min=1, help="Times that each query is searched.")]
_Depth = Annotated[int, typer.Option(min=2, help="Products on a page.")]
_Eta = Annotated[float, typer.Option(min=0, help="Position k is looked at with probability k^-eta.")]
_Jitter = Annotated[float, typer.Option(min=0, help="How much a ranking varies from one search to the next.")]
_Log = Annotated[
    Path | None,
    typer.Option(
        "--log", metavar="FILE", help="Write a log of 16 queries there (.jsonl.gz), to try curation on, and stop."
    ),
]
_Out = Annotated[Path, typer.Option(help="The result (JSON).")]


def systems(shoppers: Shoppers) -> dict[str, ClicksStep]:
    """What labels are made by, by name."""
    known = tuple(shoppers.propensities().tolist())
    return {
        _RAW: ClicksStep(propensities="none"),
        "all-pairs": ClicksStep(propensities="all-pairs"),
        "em": ClicksStep(propensities="em"),
        "all-pairs, scale of the log": ClicksStep(propensities="all-pairs", scale="log"),
        "em, scale of the log": ClicksStep(propensities="em", scale="log"),
        "known propensities": ClicksStep(propensities=known),
    }


def run_seed(asked: Sequence[Asked], corpus: Path, shoppers: Shoppers, seed: int) -> dict[str, dict[str, float]]:
    """Of one drawn log: nDCG@10 by system, and the mean error of the logarithm of propensities that were estimated."""
    rng = np.random.default_rng(seed)
    production = _production(asked, rng)
    folds = rng.permutation(len(asked)) % _FOLDS
    ndcgs, errors = {"production": judge(asked, lambda fold: production, folds)}, {}
    shown: set[tuple[str, str]] = set()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "synthetic.jsonl"
        log.write_bytes(b"".join(synthetic_log(asked, production, shoppers, seed)))
        catalogs = Catalogs()
        logged = read_inputs([LogInput(catalog=str(corpus), path=str(log))], catalogs, Tally("read", ()), 0, _silent)
    for name, step in systems(shoppers).items():
        tally = Tally(name, logged.files)
        try:
            rows = step.apply(logged, Context(tally, catalogs, seed, _silent))
        except ConfigError:  # all-pairs where nothing moved
            continue
        labels = {(pair.query, pair.product_id): pair.label for pair in rows.pairs if pair.label is not None}
        shown |= labels.keys()
        ndcgs[name] = cross_validated(asked, labels, folds)
        if tally.propensities and not isinstance(step.propensities, tuple):
            found = np.log(np.maximum(tally.propensities.examination, 1e-3))
            errors[name] = float(np.abs(found - np.log(shoppers.propensities())).mean())
    truth = {(a.query, p): float(y) for a in asked for p, y in zip(a.product_ids, a.labels, strict=True)}
    ndcgs[_TRUE] = cross_validated(asked, {pair: truth[pair] for pair in shown}, folds)
    ndcgs["true labels of all candidates"] = cross_validated(asked, truth, folds)
    return {"ndcg": ndcgs, "error": errors}


def _production(asked: Sequence[Asked], rng: np.random.Generator) -> Floats:
    """The weights of a ranker that learnt from a few queries."""
    few = rng.choice(len(asked), _PRODUCTION, replace=False)
    return fit([(asked[place], asked[place].labels) for place in few])


def _write_log(path: Path, asked: Sequence[Asked], shoppers: Shoppers, seed: int) -> None:
    rng = np.random.default_rng(seed)
    production = _production(asked, rng)
    some = [asked[place] for place in rng.choice(len(asked), min(_LOGGED, len(asked)), replace=False)]
    with path.open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        packed.writelines(synthetic_shop_log(some, production, shoppers, seed))


def cross_validated(asked: Sequence[Asked], labels: Labels, folds: Any) -> float:
    """Mean nDCG@10 of true labels over all queries, each ranked by what was learnt from the labels of other folds."""

    def learnt(fold: int) -> Floats:
        return fit([_labelled(query, labels) for query, of in zip(asked, folds, strict=True) if of != fold])

    return judge(asked, learnt, folds)


def judge(asked: Sequence[Asked], weights: Callable[[int], Floats], folds: Any) -> float:
    found = []
    for fold in range(_FOLDS):
        learnt = weights(fold)
        for query, of in zip(asked, folds, strict=True):
            if of == fold:
                order = np.argsort(-(query.features @ learnt), kind="stable")
                found.append(ndcg(query.labels[order]))
    return float(np.mean(found))


def _labelled(query: Asked, labels: Labels) -> tuple[Asked, Floats]:
    """The query's labels, NaN where a product has none."""
    return query, np.array([labels.get((query.query, p), np.nan) for p in query.product_ids])


def fit(labelled: Sequence[tuple[Asked, Floats]]) -> Floats:
    """Weights of features, shape (d,), by ridge regression on labels less their query's mean."""
    xs, ys = [], []
    for query, labels in labelled:
        has = ~np.isnan(labels)
        if has.any():
            xs.append(query.features[has] - query.features[has].mean(axis=0))
            ys.append(labels[has] - labels[has].mean())
    x, y = np.concatenate(xs), np.concatenate(ys)
    weights: Floats = np.linalg.solve(x.T @ x + _PENALTY * np.eye(x.shape[1]), x.T @ y)
    return weights


def summary(seeds: Sequence[Mapping[str, Mapping[str, float]]], seed: int) -> dict[str, Any]:
    """By system: means over the logs with 95 % intervals, and the share of the bias's cost that comes back."""
    out: dict[str, Any] = {}
    names = [name for name in seeds[0]["ndcg"] if all(name in found["ndcg"] for found in seeds)]
    values = {name: np.array([found["ndcg"][name] for found in seeds]) for name in names}
    cost = values[_TRUE] - values[_RAW]
    for name in names:
        gain = values[name] - values[_RAW]
        errors = [found["error"][name] for found in seeds if name in found["error"]]
        out[name] = {
            "ndcg@10": float(values[name].mean()),
            "interval": bootstrap_interval(values[name], seed),
            "over_raw": float(gain.mean()),
            "over_raw_interval": bootstrap_interval(gain, seed),
            "recovered": float(gain.sum() / cost.sum()),
            "recovered_interval": _ratio_interval(gain, cost, seed),
            "log_error": float(np.mean(errors)) if errors else None,
        }
    return out


def _ratio_interval(gain: Floats, cost: Floats, seed: int) -> tuple[float, float]:
    """The 95 % bootstrap interval of sum(gain) / sum(cost), over logs."""
    picks = np.random.default_rng(seed).integers(0, len(gain), (1_000, len(gain)))
    low, high = np.percentile(gain[picks].sum(axis=1) / cost[picks].sum(axis=1), [2.5, 97.5])
    return float(low), float(high)


def _silent(task: str, done: int, total: int, detail: str = "") -> None:
    """No bar within a bar."""


def _cells(found: Mapping[str, Any]) -> list[list[str]]:
    rows = [
        [
            "learnt from",
            "nDCG@10",
            "95 % interval",
            "over raw",
            "95 % interval",
            "recovered",
            "95 % interval",
            "log error of p",
        ]
    ]
    for name, of in found.items():
        intervals = [f"{low:+.4f}…{high:+.4f}" for low, high in (of["interval"], of["over_raw_interval"])]
        low, high = of["recovered_interval"]
        error = "" if of["log_error"] is None else f"{of['log_error']:.3f}"
        rows.append([
            name, f"{of['ndcg@10']:.4f}", intervals[0].replace("+", ""), f"{of['over_raw']:+.4f}", intervals[1],
            f"{of['recovered']:.0%}", f"{low:.0%}…{high:.0%}", error,
        ])  # fmt: skip
    return rows


def main(
    set_name: _Set = "sample",
    split: options.Split = None,
    data: options.Data = None,
    seeds: _Seeds = 20,
    pages: _Pages = 100,
    depth: _Depth = 10,
    eta: _Eta = 1.0,
    jitter: _Jitter = 0.5,
    log: _Log = None,
    out: _Out = Path("results/clicks.json"),
    seed: options.Seed = 1,
    as_json: options.Json = False,
) -> None:
    """Learn a ranker from synthetic clicks, raw and curated, and compare it with one that learns from true labels."""
    console = Console(stderr=True)
    split = split or ("synthetic" if set_name == "sample" else "dev")
    shoppers = Shoppers(pages, depth, eta, jitter=jitter)
    with options.errors_to(console):
        search_set = load_set(set_name, split, data)
        asked = asked_of(search_set)
    if log:
        _write_log(log, asked, shoppers, seed)
        return
    logs = track(range(seed, seed + seeds), "logs", console=console, transient=True)
    found = [run_seed(asked, search_set.corpus, shoppers, number) for number in logs]
    result: dict[str, Any] = {
        "set": set_name, "split": split, "n_queries": len(asked), "synthetic": "clicks, looks and production ranking",
        "shoppers": asdict(shoppers), "seeds": seeds, "seed": seed, "systems": summary(found, seed),
        "command": shlex.join(["python", *sys.argv]), "machine": machine(),
    }  # fmt: skip
    write_result(out, result)
    if as_json:
        print(msgspec.json.encode(result).decode())
        return
    heading = f"{set_name} {split}: {len(asked)} queries, {seeds} synthetic logs of {pages} pages each"
    Console(width=None if sys.stdout.isatty() else 170).print(table(heading, _cells(result["systems"])))


if __name__ == "__main__":
    typer.run(main)
