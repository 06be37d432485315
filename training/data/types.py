"""What the query classifier learns from: its settings, its taxonomy, the types that can be answered, and examples."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.analysis.analyzer import Analyzer
from engine.errors import ConfigError
from engine.product import Product
from qpt.calibration import Flags
from qpt.examples import LabelledQuery, from_catalog, from_judgments, read_labelled
from qpt.product_types import ProductTypes, derive
from qpt.softmax import Matrix
from qpt.taxonomy import Taxonomy, from_names, from_product_types, read_bestbuy, read_google
from qpt.types_file import read_types
from training.data.examples import numbered_lines
from training.data.settings import JudgedSource
from training.data.sources import Catalogs, read_judged
from training.settings import Settings, at_least

_RIGHT = 0.5  # the label from which on a product answers a query
_LEAST_DEV = 10  # queries: with fewer, nothing can be said of how sure the model may be


# Settings


class LabelsSource(Settings, frozen=True, kw_only=True, tag_field="kind", tag="labels"):
    """Labels or clicks, tab-separated with a head; the settings name its columns, ``locale`` is empty without one."""

    path: str
    query: str = "query"
    type: str = "type_id"
    locale: str = ""
    license: str = ""


class JudgedTypesSource(Settings, frozen=True, kw_only=True, tag_field="kind", tag="judged"):
    """A search set as ``training.data.settings.JudgedSource`` has it; types of products with a label of 1/2 or more.

    Products' types are derived, or those of ``types``, a file that ``qpt.types_file`` wrote and people corrected.
    """

    catalog: str
    queries: str
    qrels: str
    labels: dict[str, float] = msgspec.field(default_factory=dict)
    types: str = ""
    license: str = ""


class CatalogSource(Settings, frozen=True, kw_only=True, tag_field="kind", tag="catalog"):
    """Queries made of at most ``most`` products' titles (``qpt.examples.from_catalog``), for a shop without logs."""

    catalog: str
    most: int = 1_500
    types: str = ""
    license: str = ""

    def __post_init__(self) -> None:
        at_least(self, 1, "most")


TypeSource = LabelsSource | JudgedTypesSource | CatalogSource


class NamesTaxonomy(Settings, frozen=True, kw_only=True, tag_field="kind", tag="names"):
    """Types without a tree, whose ids are their names: those of the examples, and one a line of ``path``."""

    path: str = ""


class GoogleTaxonomy(Settings, frozen=True, kw_only=True, tag_field="kind", tag="google"):
    """Google's product taxonomy: ``files`` by locale."""

    files: dict[str, str]


class BestBuyTaxonomy(Settings, frozen=True, kw_only=True, tag_field="kind", tag="bestbuy"):
    """A category tree in JSON, as ``qpt.taxonomy.read_bestbuy`` reads it."""

    path: str


class CatalogTaxonomy(Settings, frozen=True, kw_only=True, tag_field="kind", tag="catalog"):
    """The types of a catalog's products, derived or from the file ``types``."""

    catalog: str
    types: str = ""


AnyTaxonomy = NamesTaxonomy | GoogleTaxonomy | BestBuyTaxonomy | CatalogTaxonomy


class TypeDevSettings(Settings, frozen=True, kw_only=True):
    """What a run is stopped and calibrated by: ``source``, or where there is none a ``share`` of the training queries.

    Queries of the same stems stay together; training queries with the stems of one of ``source`` are left out.
    """

    source: tuple[TypeSource, ...] = ()
    share: float = 0.15

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"share is {self.share}; it must be above 0 and below 1")


class TypesData(Protocol):
    """What a configuration says of data."""

    @property
    def seed(self) -> int: ...

    @property
    def taxonomy(self) -> AnyTaxonomy: ...

    @property
    def source(self) -> list[TypeSource]: ...

    @property
    def answers(self) -> Literal["examples", "leaves"]: ...

    @property
    def dev(self) -> TypeDevSettings: ...


# Examples


@dataclass(frozen=True, slots=True)
class LabelledQueries:
    """Queries, those of the same text and locale joined. ``weights`` is float32 (n, types), above 0 where a type
    answers the query: how often, or how surely."""

    queries: list[str]
    locales: list[str]
    weights: Matrix

    @classmethod
    def of(cls, examples: Iterable[LabelledQuery], types: Sequence[str]) -> LabelledQueries:
        """Queries that differ in case or spaces are one. Raises ConfigError on an example whose type is none of these,
        or that has no words or no weight."""
        columns = {type_id: column for column, type_id in enumerate(types)}
        rows: dict[tuple[str, str], dict[int, float]] = {}
        texts: list[str] = []
        for example in examples:
            if not example.query.strip() or not example.weight > 0 or example.type_id not in columns:
                raise ConfigError(
                    f"an example has query {example.query[:60]!r}, type {example.type_id[:60]!r} and weight "
                    f"{example.weight}; it must have words, one of the {len(columns)} types and a weight above 0"
                )
            key = " ".join(example.query.lower().split()), example.locale
            if key not in rows:
                texts.append(example.query)
            found = rows.setdefault(key, {})
            found[columns[example.type_id]] = found.get(columns[example.type_id], 0.0) + example.weight
        weights = np.zeros((len(rows), len(columns)), np.float32)
        for row, found in enumerate(rows.values()):
            weights[row, list(found)] = list(found.values())
        return cls(texts, [locale for _, locale in rows], weights)

    def __len__(self) -> int:
        return len(self.queries)

    def rows(self, places: Sequence[int] | NDArray[np.int64]) -> LabelledQueries:
        return LabelledQueries(
            [self.queries[i] for i in places], [self.locales[i] for i in places], self.weights[places]
        )

    def and_also(self, other: LabelledQueries) -> LabelledQueries:
        weights = np.concatenate([self.weights, other.weights])
        return LabelledQueries(self.queries + other.queries, self.locales + other.locales, weights)

    @property
    def right(self) -> Flags:
        return self.weights > 0

    @property
    def shares(self) -> Matrix:
        """Float32 (n, types), rows adding up to 1."""
        shares: Matrix = self.weights / self.weights.sum(axis=1, keepdims=True)
        return shares

    @property
    def importance(self) -> NDArray[np.float32]:
        """Float32 (n,): a query counts once however often it was clicked, and less only where its weights are below 1
        in all."""
        importance: NDArray[np.float32] = np.minimum(self.weights.sum(axis=1), 1.0)
        return importance

    @property
    def priors(self) -> NDArray[np.float32]:
        """Float32 (types,): how often each is asked for, as if half a query more had asked for it (Jeffreys)."""
        counts = (self.shares * self.importance[:, None]).sum(axis=0) + 0.5
        priors: NDArray[np.float32] = (counts / counts.sum()).astype(np.float32)
        return priors

    def stems(self) -> list[str]:
        """What queries that must not be on both sides of a split have in common."""
        analyzer = Analyzer()
        return [" ".join(sorted(set(analyzer.terms(query)))) or query for query in self.queries]


def split(queries: LabelledQueries, n_folds: int, seed: int) -> NDArray[np.int64]:
    """A fold, from 0, for each query; those of the same stems share one, and folds are as equal as that allows."""
    stems = queries.stems()
    distinct = sorted(set(stems))
    random.Random(seed).shuffle(distinct)
    folds = {stem: place % n_folds for place, stem in enumerate(distinct)}
    return np.array([folds[stem] for stem in stems], np.int64)


# Reading


class SourceReport(msgspec.Struct, frozen=True):
    """What a source gave: ``queries`` with different words, and examples, a query with two types being two."""

    name: str
    queries: int
    examples: int
    license: str


class TypeDataReport(msgspec.Struct, frozen=True):
    """``data.json``. ``dropped`` training queries had the stems of one of dev."""

    sources: list[SourceReport]
    dev_sources: list[SourceReport]
    queries: int
    dev_queries: int
    dropped: int
    types: int
    types_without_examples: int
    taxonomy: str
    sha256: dict[str, str]


@dataclass(frozen=True, slots=True)
class TypeData:
    """``types`` are ids in the order of the columns of ``queries``, to learn from, and ``dev``."""

    taxonomy: Taxonomy
    types: list[str]
    queries: LabelledQueries
    dev: LabelledQueries
    report: TypeDataReport

    @property
    def locales(self) -> list[str]:
        return sorted(set(self.queries.locales) - {""})


def read_data(config: TypesData) -> TypeData:
    """Reads everything and splits it. Raises CatalogError naming file and line, ConfigError on what does not fit."""
    files = _Files()
    learnt = [files.examples(source) for source in config.source]
    held = [files.examples(source) for source in config.dev.source]
    everything = [example for part in (*learnt, *held) for example in part]
    taxonomy = files.taxonomy(config.taxonomy, everything)
    types = _types(config, taxonomy, everything)
    queries = LabelledQueries.of([example for part in learnt for example in part], types)
    dev = LabelledQueries.of([example for part in held for example in part], types)
    n_before = len(queries)
    if config.dev.source:
        stems = set(dev.stems())
        queries = queries.rows([row for row, of_row in enumerate(queries.stems()) if of_row not in stems])
    else:
        queries, dev = held_out(queries, config.dev.share, config.seed)
    if len(types) < 2 or not len(queries) or len(dev) < _LEAST_DEV:
        raise ConfigError(
            f"there are {len(types)} types, {len(queries)} queries to train on and {len(dev)} held out; there must be "
            f"2 types, 1 query and {_LEAST_DEV} held out. Give more examples, or another dev.share"
        )
    report = TypeDataReport(
        [_report(source, part) for source, part in zip(config.source, learnt, strict=True)],
        [_report(source, part) for source, part in zip(config.dev.source, held, strict=True)],
        len(queries), len(dev), n_before - len(queries) if config.dev.source else 0, len(types),
        int((~queries.right.any(axis=0)).sum()), taxonomy.fingerprint, files.checksums(),
    )  # fmt: skip
    return TypeData(taxonomy, types, queries, dev, report)


def _types(config: TypesData, taxonomy: Taxonomy, examples: Sequence[LabelledQuery]) -> list[str]:
    said = {example.type_id for example in examples}
    if unknown := sorted(said - taxonomy.nodes.keys()):
        counts = Counter(example.type_id for example in examples)
        raise ConfigError(
            f"{len(unknown)} types of {sum(counts[u] for u in unknown)} examples are not in the taxonomy, such as "
            f"{unknown[0][:60]!r}; add them, or drop these examples"
        )
    chosen = said | set(taxonomy.leaves) if config.answers == "leaves" else said
    return [type_id for type_id in taxonomy.nodes if type_id in chosen]


def held_out(queries: LabelledQueries, share: float, seed: int) -> tuple[LabelledQueries, LabelledQueries]:
    """What to train on, and about ``share`` of the queries held out, those of the same stems on one side."""
    folds = split(queries, max(2, round(1 / share)), seed)
    return queries.rows(np.flatnonzero(folds != 0)), queries.rows(np.flatnonzero(folds == 0))


def _report(source: TypeSource, examples: Sequence[LabelledQuery]) -> SourceReport:
    path = Path(source.path if isinstance(source, LabelsSource) else source.catalog)
    queries = {example.query.lower() for example in examples}
    return SourceReport(f"{path.parent.name}/{path.name}", len(queries), len(examples), source.license)


class _Files:
    """Reads each catalog once, and knows what was read."""

    def __init__(self) -> None:
        self._read: set[str] = set()
        self._catalogs = Catalogs()
        self._catalog = cache(self._read_catalog)

    def checksums(self) -> dict[str, str]:
        return {path: hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in sorted(self._read)}

    def examples(self, source: TypeSource) -> list[LabelledQuery]:
        if isinstance(source, LabelsSource):
            return read_labelled(
                self._used(source.path), query=source.query, type_id=source.type, locale=source.locale or None
            )
        products, types = self._catalog(source.catalog, source.types)
        type_of = _typing(types)
        if not isinstance(source, JudgedTypesSource):
            return from_catalog(products, type_of, most=source.most)
        judged = JudgedSource(
            catalog=source.catalog, queries=source.queries, qrels=source.qrels, labels=source.labels
        )  # fmt: skip
        loaded = read_judged(judged, self._catalogs)
        self._read.update(loaded.files)
        graded = {
            group.query_id: {
                product.product_id: int((label or 0.0) >= _RIGHT)
                for product, label in zip(group.products, group.labels, strict=True)
            }
            for group in loaded.groups
        }
        return from_judgments({group.query_id: group.query for group in loaded.groups}, graded, 1, type_of)

    def taxonomy(self, said: AnyTaxonomy, examples: Sequence[LabelledQuery]) -> Taxonomy:
        if isinstance(said, GoogleTaxonomy):
            return read_google({locale: self._used(path) for locale, path in said.files.items()})
        if isinstance(said, BestBuyTaxonomy):
            return read_bestbuy(self._used(said.path))
        if isinstance(said, CatalogTaxonomy):
            return from_product_types(self._catalog(said.catalog, said.types)[1])
        lines = numbered_lines(Path(self._used(said.path))) if said.path else ()
        names = {line.decode("utf-8-sig", errors="replace").strip() for _, line in lines}
        return from_names(sorted({*names, *(example.type_id for example in examples)}))

    def _read_catalog(self, path: str, types: str) -> tuple[list[Product], ProductTypes]:
        products = list(self._catalogs[self._used(path)].values())
        return products, read_types(self._used(types)) if types else derive(products)

    def _used(self, path: str) -> str:
        self._read.add(path)
        return path


def _typing(types: ProductTypes) -> Callable[[str], str | None]:
    return lambda product_id: found.type_id if (found := types.of(product_id)) else None
