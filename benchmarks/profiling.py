"""The latency profile itself: what is measured, in which order, and what of it is kept."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import deadlines, latency_report
from benchmarks.data import SearchSet, read_titles
from benchmarks.graphs import Graph
from benchmarks.indexes import Workbench, write_atomically
from benchmarks.latency_plan import Plan
from benchmarks.lists import time_lists
from benchmarks.machine import machine
from benchmarks.measure import warm_up_texts
from benchmarks.pairs import REAL, Ask, Products, asks, products_of, query_ids
from benchmarks.peaks import peaks
from benchmarks.peer_models import PeerModel, peer_model
from benchmarks.plot import draw_latency
from benchmarks.progress import Bars
from benchmarks.results import write_result
from benchmarks.rounds import Effort, in_turn, median_split
from benchmarks.scorers import Aisle, Scorer, all_scorers
from engine.errors import ConfigError
from engine.model_files import MODEL
from engine.text import encoded_text
from ranking.cross_encoder import RERANKERS, CrossEncoderModel
from ranking.listwise.prompts import LETTERS

_MOST_PRODUCTS = 1_000  # texts to draw candidates from
_WARM_UPS = 20  # searches without a deadline before those with one


@dataclass(frozen=True, slots=True)
class _Shop:
    """What is asked, no two of the same tokens: the set's queries, then beginnings of titles. Products by length."""

    queries: list[str]
    products: dict[str, Products]
    model: CrossEncoderModel

    def asks(self, length: str, candidates: int, seed: int) -> Iterator[Ask]:
        return asks(self.queries, self.products[length], candidates, self.model, seed)


def profile(search_set: SearchSet, bench: Workbench, plan: Plan, bars: Bars) -> dict[str, Any]:
    """Measures all of the plan and writes JSON, report and plot. Returns the result."""
    directory = RERANKERS.find(plan.reranker)
    model = CrossEncoderModel(directory)
    graph = Graph(directory / MODEL)
    if not graph.in_8_bits:
        raise ConfigError(f"{directory} is no reranker in 8 bits; `aisle export` makes one, unless told --fp32")
    shop = _shop(search_set, bench, plan, model)
    with tempfile.TemporaryDirectory(prefix="aisle-latency-") as work:
        bars.say("preparing the peers' model")
        peer = peer_model(plan.peer_model, model, graph, Path(work))
        scorers = all_scorers(directory, peer, Path(work))
        result = {
            "set": search_set.name,
            "reranker": {"name": model.card.name, "directory": str(directory)},
            "peers_at": plan.lengths[-1],
            **_about(plan, shop, peer, scorers),
            "machine": machine(),  # before anything is timed, for its load
            "peaks": (of_machine := {str(threads): peaks(threads) for threads in plan.threads}),
            "cells": list(_cells(plan, shop, scorers, of_machine, bars)),
            "splits": list(_splits(plan, shop, scorers, bars)),
            "deadlines": list(_deadlines(plan, shop, bench, bars)),
            "lists": _lists(plan, shop, bench, bars) if bench.lists else [],
        }
    picture = plan.out.with_suffix(".png")
    write_result(plan.out, result)
    write_atomically(plan.out.with_suffix(".md"), latency_report.markdown(result, picture.name).encode())
    draw_latency(latency_report.compared(result), picture)
    return result


def _lists(plan: Plan, shop: _Shop, bench: Workbench, bars: Bars) -> list[dict[str, Any]]:
    """Of whole products, in windows of at most a language model's labels."""
    products = [product for product in bench.products() if encoded_text(product).split()]
    candidates = [n for n in plan.candidates if n <= len(LETTERS)] or [len(LETTERS)]
    return time_lists(
        shop.model, bench.lists, products[:: -(-len(products) // _MOST_PRODUCTS) or 1], shop.queries, candidates,
        plan.rounds, plan.seed, bars.say,
    )  # fmt: skip


def _shop(search_set: SearchSet, bench: Workbench, plan: Plan, model: CrossEncoderModel) -> _Shop:
    """Raises ConfigError where the plan asks for more than the catalog or the model has."""
    most = model.card.product_tokens
    if longer := [length for length in plan.lengths if length != REAL and int(length) > most]:
        raise ConfigError(f"--lengths has {longer[0]}; {model.card.name} reads at most {most} tokens of a product")
    texts = [text for text in map(encoded_text, bench.products()) if text.split()]
    texts = texts[:: -(-len(texts) // _MOST_PRODUCTS) or 1]
    if max(plan.candidates) > len(texts):
        raise ConfigError(f"--candidates has {max(plan.candidates)}; {search_set.name} has {len(texts)} products")
    titles = list(dict.fromkeys(read_titles(search_set.corpus).values()))
    distinct: dict[tuple[int, ...], str] = {}
    for query in (*search_set.queries.values(), *warm_up_texts(titles, search_set, _MOST_PRODUCTS)):
        distinct.setdefault(tuple(query_ids(query, model)), query)
    if len(distinct) <= _WARM_UPS:
        raise ConfigError(f"{search_set.name} has too few queries and titles: {len(distinct)} that differ")
    products = {length: products_of(length, texts, model) for length in plan.lengths}
    return _Shop(list(distinct.values()), products, model)


def _about(plan: Plan, shop: _Shop, peer: PeerModel, scorers: Sequence[Scorer]) -> dict[str, Any]:
    window = shop.model.card.query_tokens + shop.model.card.product_tokens + len(shop.model.special)
    work = {scorer.name: scorer.graph.multiply_adds(np.array([window])) / 1e6 for scorer in scorers}
    return {
        "peer_model": peer.origin,
        "pair_tokens": window,
        "multiply_adds_millions": work,
        "n_products": len(next(iter(shop.products.values())).texts),
        "mean_tokens": {length: float(of.tokens.mean()) for length, of in shop.products.items()},
        "n_queries": len(shop.queries),
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "seed": plan.seed,
        "command": plan.command,
    }


def _cells(
    plan: Plan, shop: _Shop, scorers: Sequence[Scorer], of_machine: dict[str, dict[str, float]], bars: Bars
) -> Iterator[dict[str, Any]]:
    """A row for every system and combination; at all lengths but the last, of Aisle alone."""
    combinations = list(product(plan.lengths, plan.threads, plan.candidates))
    with bars.counting("combinations", len(combinations)) as tick:
        for length, threads, candidates in combinations:
            systems = [s for s in scorers if length == plan.lengths[-1] or isinstance(s, Aisle)]
            products, effort = shop.products[length], Effort(plan.rounds, plan.seconds)
            timed = in_turn(systems, products, threads, shop.asks(length, candidates, plan.seed), effort)
            for of_system in timed:
                row: dict[str, Any] = {"length": length, "threads": threads, "candidates": candidates}
                row |= of_system.figures(of_machine[str(threads)])
                if len(timed) == len(scorers):
                    row |= of_system.speedup(timed[0], plan.seed)
                yield row
            tick()


def _splits(plan: Plan, shop: _Shop, scorers: Sequence[Scorer], bars: Bars) -> Iterator[dict[str, Any]]:
    combinations = list(product(plan.lengths, plan.candidates, [s for s in scorers if isinstance(s, Aisle)]))
    with bars.counting("splits", len(combinations)) as tick:
        for length, candidates, aisle in combinations:
            asked = shop.asks(length, candidates, plan.seed)
            parts = median_split(aisle, shop.products[length], asked, plan.seconds / 4)
            yield {"system": aisle.name, "length": length, "candidates": candidates, "split_ms": parts}
            tick()


def _deadlines(plan: Plan, shop: _Shop, bench: Workbench, bars: Bars) -> Iterator[dict[str, Any]]:
    warm_up, queries = shop.queries[:_WARM_UPS], shop.queries[_WARM_UPS : _WARM_UPS + plan.searches]
    with bars.counting("deadlines", len(plan.deadlines) * len(queries)) as tick:
        for deadline in plan.deadlines:
            yield deadlines.kept(bench, queries, deadline, warm_up, tick)
