"""From a query classifier's configuration to its taxonomy, the types that can be answered, and examples."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec
import numpy as np

from engine.errors import ConfigError
from engine.product import Product
from qpt.examples import LabelledQuery, from_catalog, from_judgments, read_labelled
from qpt.product_types import ProductTypes, derive
from qpt.taxonomy import Taxonomy, from_names, from_product_types, read_bestbuy, read_google
from qpt.types_file import read_types
from training.config import JudgedSource
from training.examples import numbered_lines
from training.sources import Catalogs, read_judged
from training.type_config import (
    BestBuyTaxonomy,
    CatalogTaxonomy,
    GoogleTaxonomy,
    JudgedTypesSource,
    LabelsSource,
    NamesTaxonomy,
    TypesConfig,
    TypeSource,
)
from training.type_task import Asked, split

_RIGHT = 0.5  # the label from which on a product answers a query
_LEAST_DEV = 10  # queries: with fewer, nothing can be said of how sure the model may be


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
    """``types`` are ids in the order of the columns of ``asked`` and ``dev``; ``locales`` are those of the queries."""

    taxonomy: Taxonomy
    types: list[str]
    asked: Asked
    dev: Asked
    report: TypeDataReport

    @property
    def locales(self) -> list[str]:
        return sorted(set(self.asked.locales) - {""})


def read_data(config: TypesConfig) -> TypeData:
    """Reads everything and splits it. Raises CatalogError naming file and line, ConfigError on what does not fit."""
    files = _Files()
    learnt = [files.examples(source) for source in config.source]
    held = [files.examples(source) for source in config.dev.source]
    everything = [example for part in (*learnt, *held) for example in part]
    taxonomy = files.taxonomy(config.taxonomy, everything)
    types = _types(config, taxonomy, everything)
    asked = Asked.of([example for part in learnt for example in part], types)
    dev = Asked.of([example for part in held for example in part], types)
    n_before = len(asked)
    if config.dev.source:
        stems = set(dev.stems())
        asked = asked.rows([row for row, of_row in enumerate(asked.stems()) if of_row not in stems])
    else:
        asked, dev = held_out(asked, config.dev.share, config.seed)
    if len(types) < 2 or not len(asked) or len(dev) < _LEAST_DEV:
        raise ConfigError(
            f"there are {len(types)} types, {len(asked)} queries to train on and {len(dev)} held out; there must be 2 "
            f"types, 1 query and {_LEAST_DEV} held out. Give more examples, or another dev.share"
        )
    report = TypeDataReport(
        [_report(source, part) for source, part in zip(config.source, learnt, strict=True)],
        [_report(source, part) for source, part in zip(config.dev.source, held, strict=True)],
        len(asked), len(dev), n_before - len(asked) if config.dev.source else 0, len(types),
        int((~asked.right.any(axis=0)).sum()), taxonomy.fingerprint, files.checksums(),
    )  # fmt: skip
    return TypeData(taxonomy, types, asked, dev, report)


def _types(config: TypesConfig, taxonomy: Taxonomy, examples: Sequence[LabelledQuery]) -> list[str]:
    said = {example.type_id for example in examples}
    if unknown := sorted(said - taxonomy.nodes.keys()):
        counts = Counter(example.type_id for example in examples)
        raise ConfigError(
            f"{len(unknown)} types of {sum(counts[u] for u in unknown)} examples are not in the taxonomy, such as "
            f"{unknown[0][:60]!r}; add them, or drop these examples"
        )
    chosen = said | set(taxonomy.leaves) if config.answers == "leaves" else said
    return [type_id for type_id in taxonomy.nodes if type_id in chosen]


def held_out(asked: Asked, share: float, seed: int) -> tuple[Asked, Asked]:
    """What to train on, and about ``share`` of the queries held out, those of the same stems on one side."""
    folds = split(asked, max(2, round(1 / share)), seed)
    return asked.rows(np.flatnonzero(folds != 0)), asked.rows(np.flatnonzero(folds == 0))


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

    def taxonomy(
        self, said: NamesTaxonomy | GoogleTaxonomy | BestBuyTaxonomy | CatalogTaxonomy,
        examples: Sequence[LabelledQuery],
    ) -> Taxonomy:  # fmt: skip
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
