"""Queries made from a catalog alone, each with candidates that rules have labelled. None was typed by a shopper.

Candidates are what the engine finds, so the wrong ones among them are those a reranker will meet; beside them stand
products of the same line that differ in one decisive thing, others of the type asked for, and one at random.
"""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from engine.analysis.analyzer import Analyzer
from engine.errors import ConfigError
from engine.product import Product
from engine.search import SearchEngine
from engine.types import SearchResult
from qpt.product_types import ProductTypes
from training.data.judging import Judge, Want
from training.data.shelf import Shelf
from training.data.writers import Writer
from training.data.writers.desk import some

_RETRIEVED, _DEPTH = 60, 100  # products kept, and fetched by each retriever
_AT_ONCE = 64  # queries written before they are searched together, on all threads
_FRUITLESS = 400  # queries in a row that came to nothing
_POSITIVES = _PARTIAL = 3
_LINE_NEGATIVES, _SEARCHED_LINE = 2, 40
_TOP_NEGATIVES = _LOWER_NEGATIVES = 2
_SAME_TYPE, _REPLACING = 4, 16  # of the type, beside what is found; where something is to be replaced
_LEAST_CANDIDATES = 3
RELEVANT = 0.9  # labels from here up say that a product answers the query
_IRRELEVANT = 0.1


@dataclass(frozen=True, slots=True)
class GeneratedQuery:
    """``candidates`` are (product id, label from 0 to 1); at least one is 0.9 or more, one 0.1 or less.

    ``source`` is the id of the product that it was made of, ``found_at`` the place from 1 where the search has it, 0
    where it is not among the best.
    """

    query: str
    kind: str
    source: str
    found_at: int
    candidates: tuple[tuple[str, float], ...]


def generate(
    products: Sequence[Product],
    engine: SearchEngine,
    types: ProductTypes,
    n_queries: int,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[GeneratedQuery]:
    """``n_queries`` queries about ``products``, which ``engine`` has indexed; the same for the same arguments.

    ``progress`` gets the queries made and wanted. Raises ConfigError where the products give no such queries: where
    nothing tells relevant ones from others.
    """
    if n_queries < 1 or not products:
        raise ConfigError(f"cannot make {n_queries} queries of {len(products)} products; give at least one of each")
    rng = random.Random(seed)
    shelf = Shelf(products, types, Analyzer(engine.manifest.config.language))
    writer, judge = Writer(shelf, rng), Judge(shelf)
    engine = engine.configured(msgspec.structs.replace(engine.config, rerank_depth=0, depth=_DEPTH))
    made: list[GeneratedQuery] = []
    fruitless = 0
    while True:
        wants = [writer.want() for _ in range(_AT_ONCE)]
        found = iter(engine.search_batch([want.query for want in wants if want], _RETRIEVED))
        for want in wants:
            one = want and _answered(want, next(found), shelf, judge, rng)
            if one:
                made.append(one)
                progress(len(made), n_queries)
                if len(made) == n_queries:
                    return made
            fruitless = 0 if one else fruitless + 1
            if fruitless == _FRUITLESS:
                raise ConfigError(
                    f"{len(made)} of {n_queries} queries could be made of {len(products)} products and "
                    f"{len(shelf.rows_of)} types; give more products, with brands, attributes or categories"
                )


def write_queries(path: str | Path, queries: Iterable[GeneratedQuery], products: Iterable[Product]) -> int:
    """Writes examples as ``training.data.examples`` reads them, a JSON object a line, gzipped for ``.gz``; how many.

    Every ``query_id`` begins with ``synthetic-`` and its kind.
    """
    by_id = {product.product_id: product for product in products}
    n = 0
    # mtime 0: the same queries make the same file.
    with Path(path).open("wb") as raw, (
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if str(path).endswith(".gz") else raw
    ) as file:  # fmt: skip
        for number, made in enumerate(queries):
            for product_id, label in made.candidates:
                row = {
                    "query_id": f"synthetic-{made.kind}-{number:06d}",
                    "query": made.query,
                    "label": label,
                    "product": by_id[product_id],
                }
                file.write(msgspec.json.encode(row) + b"\n")
                n += 1
    return n


# --------------------------------------------------------------------------------------------------------- candidates


def _answered(
    want: Want, result: SearchResult, shelf: Shelf, judge: Judge, rng: random.Random
) -> GeneratedQuery | None:
    """The query with its candidates; None where they would teach nothing."""
    ids = [hit.product.product_id for hit in result.hits]
    found = [shelf.row_of[product_id] for product_id in ids if product_id in shelf.row_of]
    labels = _labelled(want, found, shelf, judge, rng)
    if len(labels) < _LEAST_CANDIDATES or max(labels.values()) < RELEVANT or min(labels.values()) > _IRRELEVANT:
        return None
    candidates = tuple((shelf.products[row].product_id, label) for row, label in labels.items())
    source = shelf.products[want.source].product_id
    found_at = ids.index(source) + 1 if source in ids else 0
    return GeneratedQuery(want.query, want.kind, source, found_at, candidates)


def _labelled(want: Want, found: list[int], shelf: Shelf, judge: Judge, rng: random.Random) -> dict[int, float]:
    """Labels of the rows to learn from, out of those ``found`` and others."""
    alike = [row for type_id in sorted(want.types) for row in shelf.rows_of[type_id]]
    pool = dict.fromkeys([*found, want.source, *some(alike, _REPLACING if want.instead else _SAME_TYPE, rng)])
    labels = {row: label for row in pool if (label := judge.label(want, row)) is not None}
    positive = [row for row, label in labels.items() if label >= RELEVANT]
    partial = [row for row, label in labels.items() if _IRRELEVANT / 2 < label < RELEVANT]
    negative = [row for row in found if labels.get(row, 1.0) <= _IRRELEVANT / 2]
    picked = some(positive, _POSITIVES, rng) + some(partial, _PARTIAL, rng)
    line = {row: label for row in _same_line(want, shelf, rng) if (label := judge.label(want, row)) is not None}
    picked += [row for row, label in line.items() if label < RELEVANT][:_LINE_NEGATIVES]
    picked += negative[:_TOP_NEGATIVES] + some(negative[_TOP_NEGATIVES:], _LOWER_NEGATIVES, rng)
    anything = rng.randrange(len(shelf.facts))
    if judge.label(want, anything) == 0.0:
        picked.append(anything)
        labels.setdefault(anything, 0.0)
    labels |= line
    return {row: labels[row] for row in picked}


def _same_line(want: Want, shelf: Shelf, rng: random.Random) -> list[int]:
    """Products of the source's brand and type whose titles share most with its own, the most alike first."""
    source = shelf.facts[want.source]
    rows = shelf.line_of.get((source.type_id, source.brand), []) if source.type_id and source.brand else []

    def distance(row: int) -> int:
        return len(source.title ^ shelf.facts[row].title)

    near = [row for row in some(rows, _SEARCHED_LINE, rng) if 2 * distance(row) <= len(source.title)]
    return sorted(near, key=lambda row: (distance(row), row))
