"""The inputs of curation: click logs, judged examples and search sets, each read with the lines of its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from engine.product import Product
from training.curation.logs import COLUMNS, LogReader
from training.curation.report import Tally, Unit
from training.curation.rows import Origin, Pair, Rows
from training.data.examples import ExamplesError, read_judgments, read_queries
from training.data.negatives import Pools
from training.data.settings import JudgedSource, QueriesSource
from training.data.sources import Catalogs, read_qrels
from training.settings import Progress, Settings


class Input(Settings, frozen=True, kw_only=True, tag_field="kind"):
    """Where rows come from. ``license`` is for the manifest."""

    license: str = ""


class LogInput(Input, frozen=True, kw_only=True, tag="log"):
    """A click log, as ``training.curation.logs`` describes, of products of ``catalog``.

    ``columns`` says what a column is called in this log: ``{ product_id = "sku", session = "visitor" }``. With
    ``on_error = "skip"`` a row that cannot be used is counted and left out.
    """

    catalog: str
    path: str
    columns: dict[str, str] = msgspec.field(default_factory=dict)
    on_error: Literal["stop", "skip"] = "stop"

    def __post_init__(self) -> None:
        for name in self.columns:
            if name not in COLUMNS:
                raise ValueError(f"columns names {name!r}; it must be one of {', '.join(COLUMNS)}")

    @property
    def files(self) -> tuple[str, ...]:
        return (self.path, self.catalog)


class ExamplesInput(Input, frozen=True, kw_only=True, tag="examples"):
    """Judged pairs, as ``training.data.settings.ExamplesSource`` has them. Pairs that nobody judged are left out."""

    path: str
    labels: dict[str, float] = msgspec.field(default_factory=dict)
    where: dict[str, list[str | bool | int]] = msgspec.field(default_factory=dict)

    @property
    def files(self) -> tuple[str, ...]:
        return (self.path,)


class JudgedInput(Input, frozen=True, kw_only=True, tag="judged"):
    """A search set, as ``training.data.settings.JudgedSource`` has it."""

    catalog: str
    queries: str
    qrels: str
    labels: dict[str, float] = msgspec.field(default_factory=dict)

    @property
    def files(self) -> tuple[str, ...]:
        return (self.qrels, self.queries, self.catalog)


class QueriesInput(Input, frozen=True, kw_only=True, tag="queries"):
    """Queries that nobody judged, with products that the search finds, as ``training.data.settings.QueriesSource``.

    Their pairs have no labels until a step of kind ``label`` gives them.
    """

    path: str
    catalogs: tuple[str, ...]
    where: dict[str, list[str | bool | int]] = msgspec.field(default_factory=dict)
    best: int = 5
    middle: int = 4
    deep: int = 3
    random: int = 0
    depth: int = 200

    def __post_init__(self) -> None:
        self.source()  # refuses what it cannot use

    @property
    def files(self) -> tuple[str, ...]:
        return (self.path, *self.catalogs)

    def source(self) -> QueriesSource:
        """The same for training."""
        return QueriesSource(
            path=self.path, catalogs=self.catalogs, where=self.where, best=self.best, middle=self.middle,
            deep=self.deep, random=self.random, depth=self.depth,
        )  # fmt: skip


AnyInput = LogInput | ExamplesInput | JudgedInput | QueriesInput


class _Gathered:
    def __init__(
        self, files: tuple[str, ...], catalogs: Catalogs, tally: Tally, seed: int, progress: Progress
    ) -> None:  # fmt: skip
        self.products: dict[str, Product] = {}
        self.pairs: list[Pair] = []
        self.log = LogReader()
        self._files, self._catalogs, self._tally = files, catalogs, tally
        self._pools, self._seed, self._progress = Pools(catalogs, "hybrid", "", progress), seed, progress

    def add(self, source: AnyInput) -> None:
        file = self._files.index(source.files[0])
        match source:
            case LogInput():
                self._add_log(source, file)
            case ExamplesInput():
                self._add_examples(source, file)
            case JudgedInput():
                self._add_judged(source, file)
            case QueriesInput():
                self._add_queries(source, file)

    def _add_log(self, source: LogInput, file: int) -> None:
        catalog = self._add_catalog(source.catalog)

        def skip(line: int, error: ExamplesError) -> None:
            self._refuse("impressions", f"row that cannot be used ({error.field or 'its form'})", [Origin(file, line)])

        on_bad = skip if source.on_error == "skip" else None
        unknown = self.log.read(source.path, file, source.columns, catalog.keys(), source.catalog, on_bad)
        origins = [Origin(file, line) for line in unknown]
        self._refuse("impressions", "product that the catalog does not have", origins)

    def _add_examples(self, source: ExamplesInput, file: int) -> None:
        for row in read_judgments(source.path, source.labels, source.where):
            origin = Origin(file, row.line)
            if row.label is None:
                self._refuse("pairs", "pair that nobody judged", [origin])
                continue
            self.products.setdefault(row.product.product_id, row.product)
            self.pairs.append(Pair(row.query.strip(), row.product.product_id, row.label, (origin,)))

    def _add_judged(self, source: JudgedInput, file: int) -> None:
        catalog = self._add_catalog(source.catalog)
        judged = JudgedSource(
            catalog=source.catalog, queries=source.queries, qrels=source.qrels, labels=source.labels
        )  # fmt: skip
        for row in read_qrels(judged, catalog):
            self.pairs.append(Pair(row.query.strip(), row.product_id, row.label, (Origin(file, row.line),)))

    def _add_queries(self, source: QueriesInput, file: int) -> None:
        queries = read_queries(source.path, source.where)
        for path in source.catalogs:
            self._add_catalog(path)
        pool, spread = self._pools.of(source.catalogs), source.source()
        for number, (query, line) in enumerate(queries.items()):
            self._progress("finding products", number, len(queries))
            for product, _ in pool.spread(query, spread, f"{self._seed} {query}"):
                self.pairs.append(Pair(query, product.product_id, None, (Origin(file, line),)))

    def _refuse(self, unit: Unit, rule: str, origins: list[Origin]) -> None:
        self._tally.add(unit, len(origins))
        self._tally.drop(unit, rule, len(origins), origins)

    def _add_catalog(self, path: str) -> Mapping[str, Product]:
        for product_id, product in self._catalogs[path].items():
            self.products.setdefault(product_id, product)
        return self._catalogs[path]


def read_inputs(
    inputs: Sequence[AnyInput], catalogs: Catalogs, tally: Tally, seed: int, progress: Progress
) -> Rows:  # fmt: skip
    """All rows of all inputs. Products of the same id count as one, the first; ``seed`` is of those drawn by chance.

    Raises ExamplesError naming file, line and field, and CatalogError.
    """
    files = row_files(inputs)
    gathered = _Gathered(files, catalogs, tally, seed, progress)
    for number, source in enumerate(inputs):
        progress("reading", number, len(inputs), source.files[0])
        gathered.add(source)
    rows = Rows(files, gathered.log.impressions(), tuple(gathered.pairs), gathered.products)
    tally.add("impressions", len(rows.impressions))
    tally.add("pairs", len(rows.pairs))
    tally.add("products", len(rows.products))
    return rows


def row_files(inputs: Sequence[AnyInput]) -> tuple[str, ...]:
    """The files that rows are from, each once."""
    return tuple(dict.fromkeys(source.files[0] for source in inputs))
