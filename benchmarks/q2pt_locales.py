"""Compares a model per locale, one for all, and one for all that is told the locale, on made queries::

python benchmarks/q2pt_locales.py --data DIR --out result.json

What is compared follows arXiv 2410.07121, which found the model that is told the locale best and small locales to gain
most. Queries are synthetic (``benchmarks.synthetic_locales``); only type names are a real taxonomy's.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

if not __package__:  # run as a file: the repository is what is imported from, not this folder
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import msgspec
import numpy as np
import torch
import typer
from rich.console import Console

from benchmarks import options
from benchmarks.data import DataError
from benchmarks.indexes import write_atomically
from benchmarks.machine import machine
from benchmarks.report import table
from benchmarks.significance import Values, bootstrap_interval, compare_all
from benchmarks.synthetic_locales import N_TEST, SIZES, Market, synthetic_markets
from qpt.examples import LabelledQuery
from qpt.taxonomy import Taxonomy, read_google
from training.data.types import LabelledQueries
from training.tasks.types import TypeModelSettings, TypeTrainingSettings, fit, type_names

SPECIFIC, AGNOSTIC, AWARE = "locale-specific", "locale-agnostic", "locale-aware"
ALL, SHARED = "all", "shared words"
_METRIC = "accuracy@1"


def measure(
    taxonomy: Taxonomy, seeds: int, model: TypeModelSettings, training: TypeTrainingSettings,
    told: Callable[[str], None], sizes: Mapping[str, int] = SIZES, n_test: int = N_TEST,
) -> dict[str, Any]:  # fmt: skip
    """The result as plain values: accuracy@1 by locale and variant with 95 % intervals, and paired differences."""
    types, markets = synthetic_markets(taxonomy, 0, sizes, n_test)
    names = type_names(taxonomy, types)
    hits: dict[str, dict[str, list[Values]]] = {v: {m.locale: [] for m in markets} for v in (SPECIFIC, AGNOSTIC, AWARE)}
    seconds = dict.fromkeys(hits, 0.0)
    for seed in range(seeds):
        for variant in hits:
            began = time.perf_counter()
            for part in [[m] for m in markets] if variant == SPECIFIC else [markets]:
                locales = [m.locale for m in part] if variant == AWARE else []
                queries = LabelledQueries.of(_without(variant, (e for m in part for e in m.train)), types)
                fitted = fit(model, training, queries, names, locales, seed)
                for market in part:
                    test = [example.query for example in market.test]
                    logits = fitted.score(fitted.sequences(test, [market.locale] * len(test)))
                    found = [types[column] for column in logits.argmax(axis=1)]
                    right = [example.type_id for example in market.test]
                    hits[variant][market.locale].append((np.array(found) == np.array(right)).astype(np.float64))
            seconds[variant] += time.perf_counter() - began
            told(f"seed {seed}, {variant}: {time.perf_counter() - began:.0f} s")
    return {
        "markets": {m.locale: {"train": len(m.train), "test": len(m.test), "shared": sum(m.shared)} for m in markets},
        "n_types": len(types), "seeds": seeds, "seconds": seconds,
        "model": msgspec.to_builtins(model), "training": msgspec.to_builtins(training),
        "by_locale": {m.locale: _of_locale(m, {v: of[m.locale] for v, of in hits.items()}) for m in markets},
    }  # fmt: skip


def _without(variant: str, examples: Iterable[LabelledQuery]) -> list[LabelledQuery]:
    """Examples as the variant reads them: only one of them is told the locale."""
    if variant == AWARE:
        return list(examples)
    return [LabelledQuery(e.query, e.type_id, e.weight) for e in examples]


def _of_locale(market: Market, hits: dict[str, list[Values]]) -> dict[str, Any]:
    """A query's value is its mean over seeds; ``seeds`` has each seed's accuracy."""
    means = {variant: np.mean(of_seeds, axis=0) for variant, of_seeds in hits.items()}
    parts = {ALL: np.ones(len(market.test), bool), SHARED: np.array(market.shared)}
    kept = {name: mask for name, mask in parts.items() if mask.any()}
    per_query = {
        variant: {_METRIC: {str(i): float(value) for i, value in enumerate(values)}}
        for variant, values in means.items()
    }
    return {
        **{
            name: {
                variant: {"mean": float(values[mask].mean()), "interval": bootstrap_interval(values[mask], 0)}
                for variant, values in means.items()
            }
            for name, mask in kept.items()
        },
        "seeds": {variant: [float(values.mean()) for values in of_seeds] for variant, of_seeds in hits.items()},
        "comparisons": [msgspec.to_builtins(c) for c in compare_all(per_query, [_METRIC], 0)],
    }


def _cells(result: dict[str, Any]) -> list[list[str]]:
    variants = [SPECIFIC, AGNOSTIC, AWARE]
    head = ["locale", "train", *variants, "aware − specific", "p", *(f"{v}, {SHARED}" for v in variants)]
    rows = [head]
    for locale, found in result["by_locale"].items():
        pair = next(c for c in found["comparisons"] if (c["a"], c["b"]) == (SPECIFIC, AWARE))
        low, high = pair["interval"]
        rows.append([
            locale, str(result["markets"][locale]["train"]), *(_cell(found[ALL][v]) for v in variants),
            f"{pair['difference']:+.3f} ({low:+.3f} … {high:+.3f})", f"{pair['p_holm']:.3f}",
            *(_cell(found[SHARED][v]) if SHARED in found else "–" for v in variants),
        ])  # fmt: skip
    return rows


def _cell(of: dict[str, Any]) -> str:
    low, high = of["interval"]
    return f"{of['mean']:.3f} ({low:.3f} … {high:.3f})"


def main(
    data: options.Data = None,
    out: Annotated[Path, typer.Option(help="The result (JSON).")] = Path("results/q2pt-locales.json"),
    seeds: Annotated[int, typer.Option(min=1, help="How often each variant is trained.")] = 3,
    epochs: Annotated[int, typer.Option(min=1, help="Of every training.")] = 6,
    names: Annotated[
        bool, typer.Option("--names/--random", help="Whether output layers begin as the types' names, or at random.")
    ] = True,
    base: Annotated[str, typer.Option(help="The model to start from.")] = "all-MiniLM-L6-v2",
) -> None:
    """Train a query classifier per locale, one for all, and one that is told the locale, and compare them.

    Example: python benchmarks/q2pt_locales.py --data DATA --out results/q2pt-locales.json
    """
    errors = Console(stderr=True)
    torch.set_num_threads(1)
    with options.errors_to(errors):
        if data is None:
            raise DataError("where is Google's taxonomy? Give --data DIR or set AISLE_DATA")
        taxonomy = read_google({locale: data / "google_taxonomy" / f"{locale}.txt" for locale in ("en-US", "es-ES")})
        training = TypeTrainingSettings(epochs=epochs, learning_rate=2e-4, names=0.0, distance=1.0)
        model = TypeModelSettings(base=base, output="names" if names else "random")
        result = measure(taxonomy, seeds, model, training, errors.print)
        result |= {"command": shlex.join(["python", *sys.argv]), "machine": machine()}
        write_atomically(out, msgspec.json.format(msgspec.json.encode(result)))
    heading = f"synthetic queries of {len(SIZES)} locales, {result['n_types']} types, {seeds} seeds: accuracy@1"
    Console(width=240).print(table(heading, _cells(result)), f"written: {out}")


if __name__ == "__main__":
    typer.run(main)
