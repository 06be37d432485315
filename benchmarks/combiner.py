"""Measures learnt combiners against the blend, on each set by those fitted on others and on itself::

python benchmarks/combiner.py --sets esci:train+dev,icecat:dev,homedepot:dev --out results/combiner.json

Only the order of the candidates that are reranked changes, so that only those are judged. ``others`` leaves the set's
catalog out; ``own`` is five folds of the set's queries.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

if not __package__:  # run as a file: the repository is what is imported from, not this folder
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import msgspec
import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from benchmarks import options
from benchmarks.catalogs import Source, parse_sources, read_source
from benchmarks.data import Grading, SearchSet
from benchmarks.indexes import Workbench, default_root
from benchmarks.machine import machine
from benchmarks.metrics import NDCG, PerQuery, evaluate, means
from benchmarks.progress import Bars
from benchmarks.report import table
from benchmarks.results import write_result
from benchmarks.significance import bootstrap_interval, compare_all
from engine.config import EngineConfig
from engine.features import FEATURES
from ranking.combiner import CombinerFile, FittedCombiner
from training.combiner import BEFORE, BLEND, ask, blended, held_out
from training.combiner_fit import Asked, FitSettings, Kind, Unjudged, fit

JUDGED = f"{NDCG} judged-only"
_WEIGHTS = (0.1, 0.2, 0.4, 0.5, 0.6, 0.7)  # other blends: what a combiner must beat to be worth more than one number
_TIMED, _ROUNDS = 50, 500  # candidates of a timed call, and calls

Order = NDArray[np.int64]
#: A query's id and what was asked, to places of its candidates.
Ordering = Callable[[str, Asked], Order]


@dataclass(frozen=True, slots=True)
class Part:
    """One set's queries: what was asked, by the id of its query, and judgments."""

    name: str
    asked: dict[str, Asked]
    qrels: dict[str, dict[str, int]]
    grading: Grading

    def judge(self, order: Ordering) -> PerQuery:
        rankings = {
            query_id: [(one.ids[place], -float(rank)) for rank, place in enumerate(order(query_id, one).tolist())]
            for query_id, one in self.asked.items()
        }
        return evaluate(self.qrels, rankings, self.grading)


def collect(found: SearchSet, bench: Workbench, config: EngineConfig, bars: Bars) -> Part:
    """Asks a set's queries; labels are gains over the highest gain."""
    engine, _ = bench.engine(config)
    gains = found.grading.gains or {}
    highest = max(gains.get(grade, grade) for of in found.qrels.values() for grade in of.values())
    queries = [
        (text, {p: max(gains.get(grade, grade), 0) / highest for p, grade in found.qrels[query_id].items()})
        for query_id, text in found.queries.items()
    ]
    with bars.counting(f"{found.name}: queries", len(queries)) as tick:
        asked = dict(zip(found.queries, ask(engine, queries, found.name, tick), strict=True))
    return Part(found.name, asked, {query_id: found.qrels[query_id] for query_id in asked}, found.grading)


def measure(
    part: Part, others: Sequence[Part], settings: Mapping[str, FitSettings], weight: float
) -> dict[str, PerQuery]:
    """Per order, the metrics of each query. The blend comes first; without ``others`` no order is by them."""
    orders = {BLEND: _blend(weight), BEFORE: _as_they_are}
    orders |= {f"{BLEND} {other:g}": _blend(other) for other in _WEIGHTS}
    own, elsewhere = list(part.asked.values()), [one for other in others for one in other.asked.values()]
    for name, chosen in settings.items():
        if elsewhere:
            orders[f"{name}, others"] = _by(FittedCombiner(_file(chosen, elsewhere)))
        orders[f"{name}, own"] = _known(dict(zip(part.asked, held_out(_file(chosen, own), own, chosen), strict=True)))
    return {name: part.judge(order) for name, order in orders.items()}


def _as_they_are(_: str, one: Asked) -> Order:
    return np.arange(len(one.ids))


def _blend(weight: float) -> Ordering:
    return lambda _, one: blended(one.values, weight)


def _by(combiner: FittedCombiner) -> Ordering:
    return lambda _, one: np.argsort(-combiner.log_odds(one.values), kind="stable")


def _known(odds: Mapping[str, NDArray[np.float64]]) -> Ordering:
    return lambda query_id, _: np.argsort(-odds[query_id], kind="stable")


def _file(settings: FitSettings, asked: Sequence[Asked]) -> CombinerFile:
    return CombinerFile(
        name="measured", features=list(settings.features), model=fit(asked, settings), scale=1.0, offset=0.0,
        encoder="", reranker="",
    )  # fmt: skip


def timings(asked: Sequence[Asked], settings: Mapping[str, FitSettings]) -> dict[str, float]:
    """Milliseconds, p50, of weighing 50 candidates."""
    values = np.concatenate([one.values for one in asked])
    values = values[np.arange(_TIMED) % len(values)]
    found = {}
    for name, chosen in settings.items():
        combiner, took = FittedCombiner(_file(chosen, asked)), []
        for _ in range(_ROUNDS):
            started = time.perf_counter()
            combiner.scores(values)
            took.append(time.perf_counter() - started)
        found[name] = float(np.percentile(took, 50)) * 1e3
    return found


def summed_up(name: str, per_query: Mapping[str, PerQuery], seed: int) -> dict[str, Any]:
    """Means with intervals, and every order against the blend."""
    metrics = (NDCG, JUDGED)
    against = {
        order: [asdict(c) for c in compare_all({BLEND: per_query[BLEND], order: found}, metrics, seed)]
        for order, found in per_query.items()
        if order != BLEND
    }
    return {
        "set": name,
        "n_queries": len(next(iter(per_query[BLEND].values()))),
        "orders": {
            order: {
                "metrics": {metric: means(found)[metric] for metric in metrics},
                "intervals": {m: bootstrap_interval(np.array(list(found[m].values())), seed) for m in metrics},
                "against_blend": against.get(order, []),
            }
            for order, found in per_query.items()
        },
    }


def run(
    sources: Sequence[Source], data: Path | None, config: EngineConfig, root: Path, unjudged: Unjudged, seed: int,
    bars: Bars,
) -> dict[str, Any]:  # fmt: skip
    parts = []
    for source in sources:
        found = read_source(source, data, seed)
        parts.append(collect(found, Workbench(found.corpus, config, root, bars.report, bars.say), config, bars))
    kinds: tuple[Kind, ...] = ("trees", "linear")
    settings: dict[str, FitSettings] = {kind: FitSettings(kind=kind, unjudged=unjudged, seed=seed) for kind in kinds}
    results = []
    for part in parts:
        others = [other for other in parts if other is not part]
        results.append(summed_up(part.name, measure(part, others, settings, config.search.rerank_weight), seed))
    return {
        "sets": results,
        "features": list(FEATURES),
        "fit": msgspec.to_builtins(settings),
        "combine_ms_p50": timings(list(parts[0].asked.values()), settings),
        "config": msgspec.to_builtins(config),
    }


def _rows(result: Mapping[str, Any]) -> list[list[str]]:
    rows = [["order", NDCG, "− blend", "p", "judged only", "− blend", "p"]]
    for order, found in result["orders"].items():
        by_metric = {c["metric"]: c for c in found["against_blend"]}
        cells = [order]
        for metric in (NDCG, JUDGED):
            c = by_metric.get(metric)
            cells += [
                f"{found['metrics'][metric]:.4f}",
                *([f"{c['difference']:+.4f}", f"{c['p']:.3f}"] if c else ["", ""]),
            ]
        rows.append(cells)
    return rows


def main(
    sets: options.Sets,
    unjudged: Annotated[Unjudged, typer.Option(help="What candidates count as that nobody judged.")] = "irrelevant",
    data: options.Data = None,
    config: options.Config = None,
    index: options.Index = None,
    out: Annotated[Path, typer.Option(help="The result (JSON).")] = Path("results/combiner.json"),
    seed: options.Seed = 1,
    as_json: options.Json = False,
) -> None:
    """Measure what a learnt combiner makes of the candidates, against blends of two scores, with paired tests.

    Example: python benchmarks/combiner.py --sets esci:train+dev,icecat:dev --out results/combiner.json
    """
    errors = Console(stderr=True)
    with options.errors_to(errors):
        settings = EngineConfig.read(config) if config else EngineConfig()
        with Bars(errors) as bars:
            result = run(parse_sources(sets), data, settings, index or default_root(), unjudged, seed, bars)
    result |= {"command": shlex.join(["python", *sys.argv]), "machine": machine()}
    write_result(out, result)
    if as_json:
        print(out.read_text(encoding="utf-8"))
        return
    console = Console()
    for found in result["sets"]:
        console.print(table(f"{found['set']}: {found['n_queries']} queries", _rows(found)), "")
    console.print(f"50 candidates, ms: {result['combine_ms_p50']}; written: {out}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
