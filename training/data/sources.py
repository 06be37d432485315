"""From a training run's configuration to query groups: judged sets, examples, click logs, generated and bare queries.

A row that cannot be used is refused with file, line and field.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean as mean
from typing import NamedTuple

from engine.catalog import read_catalog
from engine.product import Product
from training.data.examples import ExamplesError, Judgment, numbered_lines, read_clicks, read_judgments, read_queries
from training.data.queries import make_queries
from training.data.settings import (
    ClicksSource,
    DevSet,
    ExamplesSource,
    GeneratedSource,
    JudgedSource,
    QueriesSource,
)
from training.settings import Progress

#: Products that nobody judged, each with its label.
Drawn = list[tuple[Product, float | None]]


@dataclass(frozen=True, slots=True)
class Group:
    """A query and products: their labels, from 0 to 1, and their gains in nDCG, in the same order.

    A label is None where nobody judged the pair: it is the teacher's, or 0 without one. A ``bare`` query came without
    judgments; labels it has are the search's.
    """

    query_id: str
    query: str
    products: tuple[Product, ...]
    labels: tuple[float | None, ...]
    gains: tuple[float, ...]
    repeat: int = 1
    bare: bool = False

    @property
    def judged(self) -> bool:
        """Whether anybody judged any of its pairs."""
        return not self.bare and any(label is not None for label in self.labels)

    def with_unjudged(self, drawn: Drawn) -> Group:
        """This group and more products."""
        return replace(
            self,
            products=(*self.products, *(product for product, _ in drawn)),
            labels=(*self.labels, *(label for _, label in drawn)),
            gains=(*self.gains, *[0.0] * len(drawn)),
        )


@dataclass(frozen=True, slots=True)
class Loaded:
    """A source's groups, its own products, and the files it was read from."""

    groups: list[Group]
    products: Mapping[str, Product]
    files: tuple[str, ...]


class Catalogs(dict[str, dict[str, Product]]):
    """Products by id by path; each catalog is read once, when it is first asked for."""

    def __missing__(self, path: str) -> dict[str, Product]:
        self[path] = {product.product_id: product for product in read_catalog(path)}
        return self[path]


Source = JudgedSource | ExamplesSource | ClicksSource | GeneratedSource | QueriesSource


def read_source(source: Source, catalogs: Catalogs, generated: Path, seed: int, progress: Progress) -> Loaded:
    """The source's groups. ``generated`` is where generated queries are written. Raises ExamplesError."""
    match source:
        case JudgedSource():
            loaded = read_judged(source, catalogs)
        case ExamplesSource():
            loaded = _examples(read_judgments(source.path, source.labels, source.where), source.path)
        case ClicksSource():
            products = catalogs[source.catalog]
            queries = read_clicks(source.path, products.keys(), source.catalog)
            loaded = Loaded(_grouped(queries, products), products, (source.catalog, source.path))
        case GeneratedSource():
            taxonomy = Path(source.taxonomy) if source.taxonomy else None
            make_queries(
                [Path(path) for path in source.catalogs], generated, n_queries=source.queries, seed=seed,
                taxonomy=taxonomy, progress=progress,
            )  # fmt: skip
            loaded = _examples(read_judgments(generated), *source.catalogs)
        case QueriesSource():
            bare = [Group(query, query, (), (), (), bare=True) for query in read_queries(source.path, source.where)]
            loaded = Loaded(bare, {}, (source.path,))
    return replace(loaded, groups=[replace(group, repeat=source.repeat) for group in loaded.groups])


def read_judged(source: JudgedSource | DevSet, catalogs: Catalogs) -> Loaded:
    """A search set's judged queries, as its qrels order them. A pair judged again gets the mean.

    Raises ExamplesError.
    """
    products = catalogs[source.catalog]
    gains = source.gains if isinstance(source, DevSet) else {}
    queries: dict[str, str] = {}
    found: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for row in read_qrels(source, products):
        gain = row.label if not gains else gains.get(row.grade)
        if gain is None:
            reason = f"{row.grade} has no gain; the configuration's gains have {', '.join(gains)}"
            raise ExamplesError(source.qrels, row.line, "grade", reason)
        queries[row.query_id] = row.query
        found[row.query_id][row.product_id].append((row.label, gain))
    groups = [
        Group(
            query_id, queries[query_id], tuple(products[product_id] for product_id in judged),
            tuple(mean(label for label, _ in judgments) for judgments in judged.values()),
            tuple(mean(gain for _, gain in judgments) for judgments in judged.values()),
        )
        for query_id, judged in found.items()
    ]  # fmt: skip
    return Loaded(groups, products, (source.catalog, source.queries, source.qrels))


class Graded(NamedTuple):
    """A line of qrels, with its query's text and its grade's label."""

    line: int
    query_id: str
    query: str
    product_id: str
    grade: str
    label: float


def read_qrels(source: JudgedSource | DevSet, products: Mapping[str, Product]) -> Iterator[Graded]:
    """The lines of a search set's qrels; ``products`` are its catalog's, by id.

    Raises ExamplesError naming line and field on an unknown query, product or grade, and on a file without rows.
    """
    queries = dict(_queries(source.queries))
    has_rows = False
    for number, line in numbered_lines(Path(source.qrels)):

        def bad(field: str | None, reason: str, number: int = number) -> ExamplesError:
            return ExamplesError(source.qrels, number, field, reason)

        columns = line.decode(errors="replace").split()
        if not columns:
            continue
        if len(columns) != 4:
            raise bad(None, f"{' '.join(columns)[:60]!r} is not 'query_id 0 product_id grade'")
        query_id, _, product_id, grade = columns
        if query_id not in queries:
            raise bad("query_id", f"{query_id!r} has no query in {source.queries}; add it there or drop the row")
        if product_id not in products:
            raise bad("product_id", f"{product_id!r} is not in {source.catalog}; add the product or drop the row")
        has_rows = True
        yield Graded(number, query_id, queries[query_id], product_id, grade, _label(grade, source.labels, bad))
    if not has_rows:
        raise ExamplesError(source.qrels, None, None, "it has no judgments; give 'query_id 0 product_id grade' lines")


def _queries(path: str) -> Iterator[tuple[str, str]]:
    for number, line in numbered_lines(Path(path)):
        query_id, tab, query = line.decode("utf-8-sig", errors="replace").rstrip("\r\n").partition("\t")
        if tab and query_id.strip() and query.strip():
            yield query_id, query
        elif not line.isspace():
            raise ExamplesError(path, number, None, "it is not query_id<TAB>query")


def _label(grade: str, labels: Mapping[str, float], bad: Callable[[str, str], ExamplesError]) -> float:
    if labels and grade not in labels:
        raise bad("grade", f"{grade} has no label; the configuration's labels have {', '.join(labels)}")
    try:
        label = labels[grade] if labels else float(grade)
    except ValueError:
        label = -1.0
    if not 0 <= label <= 1:
        raise bad("grade", f"{grade} is no label from 0 to 1; map grades to labels in the configuration: labels = …")
    return label


def _examples(rows: Iterable[Judgment], *files: str) -> Loaded:
    products: dict[str, Product] = {}
    queries: dict[str, tuple[str, dict[str, float | None]]] = {}
    for row in rows:
        products.setdefault(row.product.product_id, row.product)
        _, labels = queries.setdefault(row.query_id, (row.query, {}))
        labels[row.product.product_id] = row.label
    grouped = [(query_id, query, labels) for query_id, (query, labels) in queries.items()]
    return Loaded(_grouped(grouped, products), products, files)


def _grouped(
    queries: Iterable[tuple[str, str, Mapping[str, float | None]]], products: Mapping[str, Product]
) -> list[Group]:
    return [
        Group(
            query_id, query, tuple(products[product_id] for product_id in labels), tuple(labels.values()),
            tuple(label or 0.0 for label in labels.values()),
        )
        for query_id, query, labels in queries
    ]  # fmt: skip
