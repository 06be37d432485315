"""Opens an index: its parts, checked against the settings, and what reads queries over them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Generic, TypeVar

from engine.adapter_registry import AdapterRegistry
from engine.analysis.analyzer import Analyzer
from engine.builder import (
    DENSE,
    LEXICAL,
    RERANK,
    ROUTE,
    SPELLING,
    dense_kind,
    open_combiner,
    open_encoder,
    open_listwise,
    open_reranker,
    open_rewriter,
    open_router,
)
from engine.columns import Columns
from engine.config import EngineConfig, SearchConfig
from engine.controls import Controls
from engine.dense.retriever import DenseRetriever
from engine.dense.vectors import VectorIndex
from engine.documents import DOCUMENTS, DocumentStore
from engine.errors import ConfigError
from engine.families.store import FAMILIES, ProductFamilies
from engine.guidance import NUMBERS
from engine.lexical.retriever import LexicalRetriever
from engine.product import Product
from engine.query_reader import QueryReader
from engine.ranker import Ranker
from engine.seams import Combiner, Encoder, RerankerModel, Rewriter, Router, RouterModel
from engine.storage.adapter_store import AdapterStore
from engine.storage.locks import ReaderLock
from engine.storage.manifest import Manifest, matching, mismatch, open_version, read_manifest, require_intact
from engine.storage.products import ProductStore
from engine.suggestions.completer import Completer, open_suggestions
from engine.suggestions.store import SUGGESTIONS
from engine.text import fingerprints
from engine.types import Rows
from engine.understanding.facts import CatalogFacts
from engine.understanding.spelling import SpellingModel
from engine.updates.live import LiveIndex
from engine.updates.state import Parts, State

E = TypeVar("E")


class Lasting:
    """What of an index version no change reaches, read when it is first needed. Thread-safe."""

    def __init__(self, version: Path) -> None:
        self._version = version

    @cached_property
    def completer(self) -> Completer:
        """Raises IndexMismatchError where the index was built without suggestions, and IndexCorruptError."""
        return open_suggestions(self._version / SUGGESTIONS)

    @cached_property
    def documents(self) -> DocumentStore | None:
        """Raises IndexCorruptError."""
        path = self._version / DOCUMENTS
        return DocumentStore.open(path) if path.exists() else None


class CurrentProducts:
    """The products of an index as they are now, for models that read them by themselves, whatever the snapshot: a row
    never stands for another product. Thread-safe.
    """

    def __init__(self, store: ProductStore) -> None:
        self.store = store

    def get(self, rows: Rows) -> list[Product]:
        """The products of ``rows``, in their order."""
        return self.store.get(rows)


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """An index at one moment, with all that searches it.

    ``products`` are the engine's own, and those of ``parts`` are for what is in cycles of references: a temporary
    index goes with its last engine.
    """

    version: Path
    manifest: Manifest
    config: SearchConfig
    products: ProductStore
    parts: Parts
    ranker: Ranker
    facts: CatalogFacts
    adapters: AdapterRegistry
    reader: QueryReader
    controls: Controls
    lasting: Lasting
    current: CurrentProducts

    @property
    def documents(self) -> DocumentStore | None:
        """The documents about products that there are, and about none; None where the index was built without any."""
        documents, columns = self.lasting.documents, self.parts.columns
        return documents.of(lambda product_id: columns.row(product_id) is not None) if documents else None

    def configured(
        self, config: SearchConfig, combiner: Combiner | None, rewriter: Rewriter | None, clock: Callable[[], float]
    ) -> Opened:
        """The same with other settings, as ``SearchEngine.configured`` says."""
        combiner = combiner or open_combiner(config.combiner)
        ranker = self.ranker.configured(config, *_fitting(combiner, self.manifest), rewriter)
        return replace(
            self,
            config=config,
            parts=replace(self.parts, lexical=ranker.lexical, dense=ranker.dense),
            ranker=ranker,
            reader=_reader(self.version, self.manifest, config, ranker, self.facts, self.parts, self.products),
            controls=_controls(self.version, self.manifest, config, self.parts.columns, clock),
        )


def open_index(
    directory: Path, config: SearchConfig, *, encoder: Encoder | None, reranker: RerankerModel | None,
    router: RouterModel | None, rewriter: Rewriter | None, verify: bool,
) -> tuple[Opened, ReaderLock | None]:  # fmt: skip
    """The published index in ``directory`` as it was built, and what keeps it from being deleted.

    As ``SearchEngine.load`` says, which tells the errors.
    """
    version, lock = open_version(directory)
    manifest = read_manifest(version)
    if verify:
        require_intact(version, manifest)
    analyzer = Analyzer(manifest.config.language)
    for part, index, here in zip(
        ("analyzer", "fields"), (manifest.analyzer, manifest.fields), fingerprints(analyzer), strict=True
    ):
        if index != here:
            raise mismatch(part, index, here)
    lexical = dense = built = None
    if "lexical" in config.retrievers:
        lexical = LexicalRetriever.open(version / LEXICAL, manifest.config.lexical_backend, analyzer, config)
    if "dense" in config.retrievers and manifest.dense_kind:
        dense = _open_dense(version, manifest, config, encoder)
    if lexical is None and dense is None:
        raise ConfigError(f"{directory} has no vectors, so it cannot be searched with retrievers={config.retrievers}")
    if config.rerank_depth and (manifest.reranker or reranker):
        reranker = matching("reranker", manifest.reranker, reranker or open_reranker(manifest.config.reranker))
        built = reranker.open(version / RERANK, config.n_threads)
    current, opened = CurrentProducts(ProductStore(version)), built
    if config.rerank_depth and (listwise := open_listwise(config.listwise)):
        opened = listwise.open(current.get, built, config.n_threads)
    columns = Columns.open(version)
    fitting = _fitting(open_combiner(config.combiner), manifest)
    ranker = Ranker(config, columns, lexical, dense, opened, *fitting, rewriter or open_rewriter(config.rewriter))
    adapters = AdapterRegistry(dense.encoder if dense else None, opened)
    adapters.load(AdapterStore(directory))
    parts = Parts(
        current.store, columns, lexical, dense, built, _open_guide(version, manifest, config, router),
        SpellingModel.load(version / SPELLING) if (version / SPELLING).exists() else None,
        ProductFamilies.open(version / FAMILIES) if (version / FAMILIES).exists() else None,
    )  # fmt: skip
    facts, products = CatalogFacts.from_columns(columns), ProductStore(version)
    reader = _reader(version, manifest, config, ranker, facts, parts, products)
    controls = _controls(version, manifest, config, columns, time.time)
    return Opened(
        version, manifest, config, products, parts, ranker, facts, adapters, reader, controls, Lasting(version), current
    ), lock  # fmt: skip


def live_index(
    opened: Opened, engine: Callable[[Opened], E], encoder: Encoder | None, lock: ReaderLock | None
) -> LiveIndex[E]:
    """An index that follows its changes; ``engine`` makes what searches it, ``encoder`` is the one that was given."""
    dense, version, config = opened.parts.dense, opened.version, opened.config
    state = State(opened.parts, config, version / LEXICAL, dense.encoder.dim if dense else 0)
    for_added = partial(_encoder_of, opened.manifest, config, dense.encoder if dense else encoder)
    return LiveIndex(version, state, _Shown(engine, opened), for_added, lock)


class _Shown(Generic[E]):
    """Makes engines of an index's parts, each from the one before."""

    def __init__(self, engine: Callable[[Opened], E], opened: Opened) -> None:
        self._engine, self._opened = engine, opened

    def __call__(self, parts: Parts, changed: set[str] | None) -> E:
        before = self._opened
        before.current.store = parts.products
        facts = before.facts
        if changed is None:
            facts = CatalogFacts.from_columns(parts.columns)
        elif changed & {"price", "rating"}:
            facts = facts.with_numbers_of(parts.columns)
        ranker = before.ranker.over(parts.columns, parts.lexical, parts.dense)
        self._opened = replace(
            before,
            products=parts.products,
            parts=parts,
            ranker=ranker,
            facts=facts,
            reader=before.reader.over(parts, ranker, facts, regrown=changed is None),
            controls=before.controls.over(parts.columns, changed),
        )
        return self._engine(self._opened)


def _reader(
    version: Path, manifest: Manifest, config: SearchConfig, ranker: Ranker, facts: CatalogFacts, parts: Parts,
    products: ProductStore,
) -> QueryReader:  # fmt: skip
    return QueryReader(version, manifest, config, ranker, facts, parts, products.get, NUMBERS)


def _controls(
    version: Path, manifest: Manifest, config: SearchConfig, columns: Columns, clock: Callable[[], float]
) -> Controls:
    analyzer = Analyzer(manifest.config.language)
    return Controls(config, columns, analyzer, version / FAMILIES, manifest.n_products, clock)


def _open_guide(
    version: Path, manifest: Manifest, config: SearchConfig, router: RouterModel | None
) -> Router | None:  # fmt: skip
    if not config.route_weight or not (manifest.router or router):
        return None
    return matching("router", manifest.router, router or open_router("catalog")).open(version / ROUTE)


def _encoder_of(manifest: Manifest, config: SearchConfig, encoder: Encoder | None) -> Encoder | None:
    """The index's encoder, for products that are added; None where it has no vectors."""
    if not manifest.dense_kind:
        return None
    opened = encoder or open_encoder(EngineConfig(index=manifest.config, search=config))
    return matching("encoder", manifest.encoder, opened)


def _open_dense(version: Path, manifest: Manifest, config: SearchConfig, encoder: Encoder | None) -> DenseRetriever:
    encoder = encoder or open_encoder(EngineConfig(index=manifest.config, search=config))
    encoder = matching("encoder", manifest.encoder, encoder)
    return DenseRetriever(encoder, VectorIndex.open(version / DENSE, dense_kind(manifest)), config.min_similarity)


def _fitting(combiner: Combiner | None, manifest: Manifest) -> tuple[Combiner | None, str]:
    """The combiner, and why it cannot be used on the index; empty where it can."""
    return combiner, combiner.misfit(manifest.encoder, manifest.reranker) if combiner else ""
