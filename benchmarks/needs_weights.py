"""Chooses what needs and relations count, one number at a time, by cross-validation over judged queries::

python benchmarks/needs_weights.py --out results/needs-weights.json

A query's figure is the mean of whether its first hit fits and of its precision@3, over the sets that may be tuned on.
Queries are put into folds by their own text. For each fold the value is chosen that is best on the other folds, and
judged by this one; of values that are as good the one nearest to today's is taken. A number is to be changed only where
what is so chosen beats today's on the folds left out by more than the standard error of the difference.
"""

from __future__ import annotations

import hashlib
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
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
from benchmarks.data import SAMPLE, load_set
from benchmarks.indexes import Workbench, default_root
from benchmarks.machine import machine
from benchmarks.needs import judged_of
from benchmarks.needs_judgments import Judge, Judged
from benchmarks.progress import Bars
from benchmarks.report import table
from benchmarks.results import write_result
from engine.config import EngineConfig
from engine.families.words import NUMBERS as RELATIONS
from engine.needs.numbers import NUMBERS as NEEDS
from engine.search import SearchEngine

TUNED = (("sample", "dev"), ("mission", None), ("ja", None), ("es", None))  # sets and their halves
FOLDS = 5
#: What is tried beside today's value.
GRID: Mapping[str, Sequence[float]] = {
    "needs.gradable_weight": (0.5, 0.75, 1.0, 1.5, 2.0, 3.0), "needs.use_weight": (0.4, 0.6, 0.9, 1.2, 1.6, 2.4),
    "needs.unknown_fit": (0.1, 0.2, 0.3, 0.4, 0.5), "needs.learnt_share": (0.0, 0.15, 0.3, 0.5),
    "needs.qualifying_share": (0.2, 0.3, 0.4, 0.5, 0.6), "needs.category_share": (0.5, 0.6, 0.7, 0.8, 0.9),
    "needs.typical_share": (0.0, 0.02, 0.05, 0.1), "needs.wanted_quantile": (0.5, 0.7, 0.85),
    "needs.of_a_type": (0.25, 0.5, 0.75), "relations.weight": (0.6, 0.9, 1.2, 1.8),
    "relations.series_weight": (0.3, 0.6, 1.0), "relations.nearest_share": (0.2, 0.35, 0.5),
    "relations.price_share": (0.3, 0.5, 0.7),
}  # fmt: skip

Figures = NDArray[np.float64]


def fold_of(query: str) -> int:
    return hashlib.sha256(query.encode()).digest()[1] % FOLDS


def chosen(
    figures: Mapping[float, Figures], folds: NDArray[np.int64], today: float
) -> tuple[dict[int, float], Figures]:
    """For each fold the value that is best on the others, and each query's figure by its own fold's value.

    ``figures`` has, for each value tried, the figure of each query.
    """
    values = {fold: _best(figures, folds != fold, today) for fold in sorted(set(folds.tolist()))}
    return values, np.array([figures[values[fold]][at] for at, fold in enumerate(folds.tolist())])


def _best(figures: Mapping[float, Figures], among: NDArray[np.bool_], today: float) -> float:
    return max(figures, key=lambda value: (round(figures[value][among].mean(), 9), -abs(value - today)))


def _figures(engine: SearchEngine, rows: Sequence[Judged], fitting: Mapping[str, frozenset[str]]) -> Figures:
    out = []
    for row in rows:
        fits, hits = fitting[row.query_id], [hit.product.product_id for hit in engine.search(row.query, 3).hits]
        deep = max(min(3, len(fits)), 1)
        out.append(((bool(hits) and hits[0] in fits) + sum(hit in fits for hit in hits) / deep) / 2)
    return np.array(out)


def _tried(
    bench: Workbench, config: EngineConfig, rows: Sequence[Judged]
) -> Iterator[tuple[str, dict[float, Figures]]]:
    engine = bench.engine(config)[0].snapshot()
    judge = Judge(list(bench.products()))
    fitting = {row.query_id: judge.fitting(row.fits) for row in rows}
    reader, today = engine._reader, _figures(engine, rows, fitting)
    for name, values in GRID.items():
        table_name, _, key = name.partition(".")
        figures = {_today(name): today}
        for value in (value for value in values if value not in figures):
            needs, relations = NEEDS, RELATIONS
            if table_name == "needs":
                needs = msgspec.structs.replace(needs, **{key: value})
            else:
                relations = msgspec.structs.replace(relations, **{key: value})
            engine._reader = reader.wanting(needs, relations)
            figures[value] = _figures(engine, rows, fitting)
        engine._reader = reader
        yield name, dict(sorted(figures.items()))


def _today(name: str) -> float:
    table_name, _, key = name.partition(".")
    return float(getattr(NEEDS if table_name == "needs" else RELATIONS, key))


def _told(figures: Mapping[float, Figures], folds: NDArray[np.int64], today: float) -> dict[str, Any]:
    values, left_out = chosen(figures, folds, today)
    gain = left_out - figures[today]
    return {
        "today": today, "means": {str(value): float(found.mean()) for value, found in figures.items()},
        "by_fold": list(values.values()), "left_out": float(left_out.mean()), "gain": float(gain.mean()),
        "standard_error": float(gain.std(ddof=1) / len(gain) ** 0.5),
        "best_of_all": _best(figures, np.ones(len(folds), np.bool_), today),
    }  # fmt: skip


def main(
    index: options.Index = None,
    out: Annotated[Path, typer.Option("--out", "--json", help="The result (JSON).")] = Path(
        "results/needs-weights.json"
    ),
) -> None:
    """Try other values of what needs and relations count, and say which hold on queries that did not choose them.

    Example: python benchmarks/needs_weights.py --out results/needs-weights.json
    """
    errors, console = Console(stderr=True), Console()
    with options.errors_to(errors):
        rows = [row for name, half in TUNED for row in judged_of(name, half)]
        folds = np.array([fold_of(row.query) for row in rows])
        config = EngineConfig()
        with Bars(errors) as bars:
            corpus = load_set(SAMPLE, "synthetic", None).corpus
            bench = Workbench(corpus, config, index or default_root(), bars.report, bars.say)
            found = {}
            for done, (name, figures) in enumerate(_tried(bench, config, rows), 1):
                found[name] = _told(figures, folds, _today(name))
                bars.report("numbers", done, len(GRID))
    command = shlex.join(["python", *sys.argv])
    write_result(out, {"n": len(rows), "numbers": found, "command": command, "machine": machine()})
    cells = [["number", "today", "means by value", "chosen by fold", "gain left out", "±"]]
    for name, told in found.items():
        means = " ".join(f"{value}: {mean:.3f}" for value, mean in told["means"].items())
        by_fold = " ".join(f"{value:g}" for value in told["by_fold"])
        gain, spread = f"{told['gain']:+.4f}", f"{told['standard_error']:.4f}"
        cells.append([name, f"{told['today']:g}", means, by_fold, gain, spread])
    console.print(table(f"{len(rows)} queries, {FOLDS} folds", cells))
    console.print(f"written: {out}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
