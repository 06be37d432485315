"""Measures query rewriting: how many poor queries it rescues, how many good ones it hurts::

python benchmarks/rewriting.py --sets homedepot:dev@600,typos:dev,esci:dev,icecat:dev --rewriter my-rewriter

A query is poor where its first relevant product is below rank 10, and rescued where it comes into the first ten; a good
one is hurt where its first relevant product leaves them, or nDCG@10 falls by more than 0.1. Every rewriter is asked for
every query; from that follows what each threshold would do, and the one that is reported for a set was chosen on the
other catalogs' sets. The set ``typos`` are Home Depot's judged queries that the set of that name has as misspelt.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
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
from benchmarks.catalogs import parse_sources, read_source
from benchmarks.data import DataError, SearchSet, load_set, read_queries
from benchmarks.indexes import Workbench, default_root
from benchmarks.machine import machine
from benchmarks.metrics import NDCG, QuickJudge
from benchmarks.progress import Bars
from benchmarks.report import table
from benchmarks.results import write_result
from benchmarks.rewriting_rules import NAMES, ByOneRule, Fixed, Rules
from benchmarks.significance import bootstrap_interval, permutation_p
from benchmarks.spelling import read_pairs
from engine.builder import open_encoder, open_rewriter
from engine.config import EngineConfig
from engine.errors import ConfigError
from engine.seams import Rewriter
from engine.search import SearchEngine
from engine.types import SearchResult

_K, _PAGE = 100, 10
_WIDTH = 120  # of a page, where there is no terminal
_HURT = 0.1  # of nDCG@10
_MOST_HURT = 0.02  # of good queries, where a threshold is chosen
_THRESHOLDS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9, 1.0)
_TYPOS, _TYPOS_SET = "typos", "homedepot"

_Sets = Annotated[str, typer.Option(help="SET:SPLIT or SET:SPLIT+SPLIT, with @N only N drawn queries.")]
_Rewriter = Annotated[
    Path | None, typer.Option("--rewriter", metavar="DIR", help="An exported rewriter, to measure beside the rules.")
]
_Rules = Annotated[str, typer.Option(help="Rules to measure, comma-separated; empty for none.")]
_Oracle = Annotated[bool, typer.Option("--oracle", help="Also: how many poor queries any rewrite by a rule rescues.")]
_Weight = Annotated[float, typer.Option(help="What a rewrite's products count of the query's own, from 0 to 1.")]


@dataclass(frozen=True, slots=True)
class Asked:
    """Queries of one set, all of which have relevant products, and an engine over its catalog."""

    label: str
    catalog: str
    search_set: SearchSet
    engine: SearchEngine
    rules: Rules
    titles: Mapping[str, str]

    @property
    def queries(self) -> list[str]:
        return list(self.search_set.queries.values())

    @property
    def relevant(self) -> list[set[str]]:
        least = self.search_set.grading.relevant
        return [{p for p, grade in grades.items() if grade >= least} for grades in self.search_set.qrels.values()]


@dataclass(frozen=True, slots=True)
class Answers:
    """Per query, float64 (n,) each: the first relevant product's rank (inf: none), nDCG@10, the probability of the best
    of the first results, and whether there was a rewrite."""

    first: NDArray[np.float64]
    ndcg: NDArray[np.float64]
    probability: NDArray[np.float64]
    rewritten: NDArray[np.float64]

    def where(self, chosen: NDArray[np.bool_], other: Answers) -> Answers:
        """These for the chosen queries, the ``other`` ones for the rest."""
        first, ndcg = (np.where(chosen, a, b) for a, b in ((self.first, other.first), (self.ndcg, other.ndcg)))
        return Answers(first, ndcg, other.probability, self.rewritten * chosen)


def answers(engine: SearchEngine, asked: Asked, queries: Iterable[str]) -> Answers:
    found = [engine.search(query, _K) for query in queries]
    ids = [[hit.product.product_id for hit in result.hits] for result in found]
    ndcg = QuickJudge(asked.search_set.qrels, asked.search_set.grading).judge(ids)[NDCG]
    return Answers(
        np.array([_first(*pair) for pair in zip(ids, asked.relevant, strict=True)]), ndcg,
        np.array([_probability(result) for result in found]),
        np.array([any(r.stage == "rewrite" and r.status == "ran" for r in result.stages) for result in found], float),
    )  # fmt: skip


def _first(ranked: Sequence[str], relevant: set[str]) -> float:
    return next((float(rank) for rank, product in enumerate(ranked, 1) if product in relevant), np.inf)


def _probability(result: SearchResult) -> float:
    """Of the most probable of the hits that were reranked; 0 where none was."""
    scores = [trace.score for hit in result.hits for trace in hit.trace if trace.stage == "rerank"]
    return max((score for score in scores if score is not None), default=0.0)


def figures(before: Answers, after: Answers, seed: int) -> dict[str, Any]:
    """Shares of poor and of good queries, and nDCG@10 with its difference, interval and paired p."""
    poor = before.first > _PAGE
    hurt = (after.first > _PAGE) | (after.ndcg < before.ndcg - _HURT)
    difference = after.ndcg - before.ndcg
    return {
        "n": len(poor),
        "poor": int(poor.sum()),
        "rewritten": float(after.rewritten.mean()),
        "rescued": float((after.first[poor] <= _PAGE).mean()) if poor.any() else 0.0,
        "hurt": float(hurt[~poor].mean()) if (~poor).any() else 0.0,
        "ndcg_before": float(before.ndcg.mean()),
        "ndcg_after": float(after.ndcg.mean()),
        "difference": float(difference.mean()),
        "interval": bootstrap_interval(difference, seed),
        "p": permutation_p(difference, seed),
    }


def measure(
    asked: Sequence[Asked], rules: Sequence[str], rewriter: Rewriter | None, weight: float, seed: int
) -> dict[str, Any]:
    """By rewriter, by set: the figures at the threshold that was chosen on other catalogs, and at every threshold."""
    before = {one.label: answers(one.engine, one, one.queries) for one in asked}
    result: dict[str, Any] = {}
    for name in [*rules, *(["model"] if rewriter else [])]:
        after = {}
        for one in asked:
            by = rewriter if name == "model" and rewriter else ByOneRule(one.rules.by_name[name])
            after[one.label] = answers(_with(one.engine, by, weight), one, one.queries)
        result[name] = {one.label: _judged(one, asked, before, after, seed) for one in asked}
    return result


def _judged(
    one: Asked, asked: Sequence[Asked], before: Mapping[str, Answers], after: Mapping[str, Answers], seed: int
) -> dict[str, Any]:
    others = [other.label for other in asked if other.catalog != one.catalog]
    chosen = choose([(before[label], after[label]) for label in others])
    at = {below: figures(*_switched(before[one.label], after[one.label], below), seed) for below in _THRESHOLDS}
    return {"chosen": chosen, **at[chosen], "thresholds": {str(below): found for below, found in at.items()}}


def _switched(before: Answers, after: Answers, below: float) -> tuple[Answers, Answers]:
    """As if only queries whose best product is less probable than ``below`` had been rewritten."""
    return before, after.where(before.probability < below, before)


def choose(sets: Sequence[tuple[Answers, Answers]]) -> float:
    """The threshold that gains most nDCG@10, over sets of equal say, and hurts few; 0, which is never, where none does
    or there are no sets."""

    def gain(below: float) -> float:
        found = [_switched(before, after, below) for before, after in sets]
        good = np.concatenate([before.first <= _PAGE for before, _ in found])
        hurt = np.concatenate([(a.first > _PAGE) | (a.ndcg < b.ndcg - _HURT) for b, a in found])
        if good.any() and hurt[good].mean() > _MOST_HURT:
            return -1.0
        return float(np.mean([(a.ndcg - b.ndcg).mean() for b, a in found]))

    return max(_THRESHOLDS, key=lambda below: (gain(below), -below)) if sets else 0.0


def oracle(one: Asked, weight: float) -> dict[str, Any]:
    """The share of poor queries that any of a rule's rewrites would rescue, were it known which; ``wanted`` are words
    of the relevant products."""
    before = answers(one.engine, one, one.queries)
    result: dict[str, list[float]] = {}
    for query, products, first in zip(one.queries, one.relevant, before.first, strict=True):
        if first <= _PAGE:
            continue
        rules = {name: partial(rule, query) for name, rule in one.rules.by_name.items()}
        known = [one.titles[p] for p in sorted(products) if p in one.titles]
        rules["wanted"] = partial(one.rules.wanted, query, known)
        for name, rule in rules.items():
            found = (_with(one.engine, Fixed(text), weight).search(query, _PAGE) for text in rule())
            ranks = [_first([hit.product.product_id for hit in answer.hits], products) for answer in found]
            result.setdefault(name, []).append(float(min(ranks, default=np.inf) <= _PAGE))
    return {name: float(np.mean(rescued)) for name, rescued in result.items()}


def _with(engine: SearchEngine, rewriter: Rewriter, weight: float) -> SearchEngine:
    """The engine with a rewriter that is always asked."""
    return engine.configured(
        msgspec.structs.replace(engine.config, rewrite_below=1.0, rewrite_weight=weight), rewriter=rewriter
    )


def open_sets(sets: str, data: Path | None, settings: EngineConfig, index: Path, bars: Bars, seed: int) -> list[Asked]:
    """Raises DataError, ConfigError, and what building an index raises."""
    found = []
    for source in parse_sources(sets):
        split = "+".join(source.splits)
        search_set = _answerable(_typos(split, data) if source.name == _TYPOS else read_source(source, data, seed))
        bench = Workbench(search_set.corpus, settings, index, bars.report, bars.say)
        engine, _ = bench.engine(settings)
        products, encoder = list(bench.products()), open_encoder(settings)
        if encoder is None:
            raise DataError("the configuration names no encoder, by which rules find words that are near each other")
        titles = {product.product_id: product.title for product in products}
        rules = Rules(engine, products, encoder, seed)
        found.append(Asked(f"{source.name}:{split}", search_set.name, search_set, engine, rules, titles))
    return found


def _named(rules: str) -> list[str]:
    names = [name.strip() for name in rules.split(",") if name.strip()]
    unknown = set(names) - set(NAMES)
    if unknown:
        raise ConfigError(f"--rules has {', '.join(sorted(unknown))}; the rules are {', '.join(NAMES)}")
    return names


def _typos(split: str, data: Path | None) -> SearchSet:
    """Judged queries that are somebody's slips. All splits of the judged set are looked through."""
    if data is None:
        raise DataError("where is the data? Give --data DIR or set AISLE_DATA")
    misspelt = {query.lower() for query, _ in read_pairs(data / _TYPOS / f"{split}.tsv")}
    folder = data / _TYPOS_SET
    asked = {i: text for of in ("train", "dev") for i, text in read_queries(folder / f"queries.{of}.tsv").items()}
    qrels: dict[str, dict[str, int]] = {i: {} for i, text in asked.items() if text.strip().lower() in misspelt}
    for of in ("train", "dev"):
        for line in (folder / f"qrels.{of}.txt").read_text(encoding="utf-8").splitlines():
            query_id, _, product_id, grade = line.split()
            if query_id in qrels:
                qrels[query_id].setdefault(product_id, int(grade))  # train has a pair twice
    if not any(qrels.values()):
        raise DataError(f"none of the misspelt queries of {data / _TYPOS} is judged")
    qrels = {i: grades for i, grades in qrels.items() if grades}
    like = load_set(_TYPOS_SET, "dev", data)
    return replace(like, queries={i: asked[i] for i in qrels}, qrels=qrels)


def _answerable(found: SearchSet) -> SearchSet:
    """Its queries that have relevant products: others can be neither poor nor good."""
    least = found.grading.relevant
    kept = [i for i, grades in found.qrels.items() if max(grades.values()) >= least]
    return replace(found, queries={i: found.queries[i] for i in kept}, qrels={i: found.qrels[i] for i in kept})


def main(
    sets: _Sets = "homedepot:dev@600,typos:dev,esci:dev,icecat:dev",
    rewriter: _Rewriter = None,
    rules: _Rules = ",".join(NAMES),
    with_oracle: _Oracle = False,
    weight: _Weight = 0.5,
    data: options.Data = None,
    config: options.Config = None,
    index: options.Index = None,
    out: Annotated[Path, typer.Option(help="The result (JSON).")] = Path("results/rewriting.json"),
    seed: options.Seed = 1,
    as_json: options.Json = False,
) -> None:
    """Measure query rewriting: poor queries rescued, good ones hurt, nDCG@10; by rules and by a trained rewriter.

    Example: python benchmarks/rewriting.py --sets esci:dev,icecat:dev --rewriter my-rewriter
    """
    errors = Console(stderr=True)
    with options.errors_to(errors):
        settings = EngineConfig.read(config) if config else EngineConfig()
        model = open_rewriter(str(rewriter)) if rewriter else None
        with Bars(errors) as bars:
            asked = open_sets(sets, data, settings, index or default_root(), bars, seed)
            measured = measure(asked, _named(rules), model, weight, seed)
            rescued = {one.label: oracle(one, weight) for one in asked} if with_oracle else {}
    result = {
        "rewriters": measured, "oracle": rescued, "weight": weight, "config": msgspec.to_builtins(settings),
        "command": shlex.join(["python", *sys.argv]), "machine": machine(),
    }  # fmt: skip
    write_result(out, result)
    if as_json:
        print(out.read_text(encoding="utf-8"))
        return
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    for one in asked:
        console.print(table(one.label, _rows(measured, one.label)))
        if rescued:
            shares = ", ".join(f"{name} {share:.2f}" for name, share in rescued[one.label].items())
            console.print(f"any rewrite rescues: {shares}", highlight=False)
    console.print(f"written: {out}", highlight=False, soft_wrap=True)


def _rows(measured: Mapping[str, Any], label: str) -> list[list[str]]:
    """At the chosen threshold, and for every query."""
    rows = [["rewriter", "below", "rewritten", "rescued", "hurt", "nDCG@10", "difference", "95 %", "p"]]
    for name, by_set in measured.items():
        found = by_set[label]
        for below, at in ((found["chosen"], found), (1.0, found["thresholds"]["1.0"])):
            low, high = at["interval"]
            rows.append([
                name, f"{below:g}", f"{at['rewritten']:.2f}", f"{at['rescued']:.3f}", f"{at['hurt']:.3f}",
                f"{at['ndcg_after']:.4f}", f"{at['difference']:+.4f}", f"{low:+.4f} … {high:+.4f}", f"{at['p']:.3f}",
            ])  # fmt: skip
    return rows


if __name__ == "__main__":
    typer.run(main)
