"""Building an index: one pass over the products for text and columns; over the stored products one for vectors and one
for what the reranker must know of them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from itertools import chain, islice
from pathlib import Path
from typing import Protocol, cast

import msgspec
import numpy as np
from msgspec.structs import replace

from engine.analysis.analyzer import Analyzer
from engine.columns import Columns
from engine.config import EngineConfig, IndexConfig
from engine.dense.encoder import ENCODERS, OnnxEncoder
from engine.dense.vectors import Kind, VectorIndex, choose_kind
from engine.documents import DOCUMENTS, DocumentPassage, DocumentStore, read_documents
from engine.domain import DOMAIN, Domain
from engine.errors import CatalogError, ConfigError
from engine.families.store import FAMILIES, ProductFamilies
from engine.families.type_words import learn, save
from engine.families.variants import build_variants
from engine.kinds.learn import learn as learn_kinds
from engine.languages.detect import LANGUAGE_PRODUCTS, catalog_language
from engine.lexical.retriever import LexicalRetriever
from engine.product import Product
from engine.seams import Combiner, Embeddings, Encoder, ListModel, RerankerModel, Rewriter, RouterModel
from engine.storage.manifest import FORMAT_VERSION, Manifest, publishing
from engine.storage.products import ProductStore
from engine.suggestions.store import SUGGESTIONS, build_suggestions
from engine.text import fingerprints
from engine.understanding.spelling import SpellingModel

LEXICAL, DENSE, RERANK, ROUTE = "lexical", "dense", "rerank", "route"
SPELLING = "spelling.npz"
#: The classes of configured rerankers, routers, combiners and rewriters. By name, for they stand above the engine, and
#: only what has one loads it.
_RERANKER = "ranking.cross_encoder:CrossEncoderModel"
_ROUTER = "qpt.router:CatalogRouter"
_COMBINER = "ranking.combiner:FittedCombiner"
_REWRITER = "qpt.rewriter:OnnxRewriter"
_LISTWISE = "ranking.lists:named"
_ENCODE_BATCH = 256

#: Called with a stage's name, how many products it has done, and how many there are (None while unknown).
Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True, slots=True)
class _Dense:
    kind: str
    encoder: str
    notes: dict[str, str]


def build_index(
    products: Iterable[Product],
    directory: str | Path,
    config: EngineConfig | None = None,
    *,
    encoder: Encoder | None = None,
    reranker: RerankerModel | None = None,
    router: RouterModel | None = None,
    documents: Path | Iterable[DocumentPassage] | None = None,
    progress: Progress = lambda *_: None,
    scale: float | None = None,
    settle: Callable[[str], None] = lambda name: None,
) -> Path:
    """Builds and publishes an index of ``products`` in ``directory``; returns the directory.

    Streams: products are written as they come; in memory stay the vocabulary and the columns. Ids must be unique
    (``engine.catalog`` and ``SearchEngine.build`` see to that). ``encoder``, ``reranker`` and ``router`` replace the
    configured ones. ``documents`` is a folder of them, which answers may cite, or their passages. ``scale`` is for
    ``VectorIndex.build``, ``settle`` for ``publishing``. On any error the directory is as it was before. Raises
    ConfigError on a router without an encoder.
    """
    config = _settled(config or EngineConfig())
    directory = Path(directory)
    encoder = encoder or open_encoder(config)
    if encoder is None and (router or config.index.router not in ("", IndexConfig().router)):
        raise ConfigError(
            "router is given, but the index has no encoder, whose vectors routers read; name an encoder, such as "
            f"encoder = {IndexConfig().encoder!r}, or leave the router out"
        )
    reranker = reranker or open_reranker(config.index.reranker)
    router = router or (open_router(config.index.router) if encoder else None)
    built: dict[str, Manifest] = {}
    with publishing(directory, lambda: built["manifest"], settle) as version:
        index, products = in_language(config.index, products)
        stream = Columns.build(version, ProductStore.write(version, _counted(products, progress)))
        analyzer = Analyzer(index.language)
        LexicalRetriever.build(version / LEXICAL, stream, config.index.lexical_backend, analyzer)
        store = ProductStore(version)
        SpellingModel.build(store).save(version / SPELLING)
        suggestions_note = build_suggestions(version / SUGGESTIONS, store, index.queries)
        dense, route_note = _build_meaning(version, store, encoder, router, index, config, progress, scale)
        rerank_note = _build_rerank(version, store, reranker, progress)
        notes = {
            **dense.notes,
            RERANK: rerank_note,
            ROUTE: route_note,
            **_build_names(version, store, encoder),
            "suggest": suggestions_note,
        }
        if documents is not None:
            notes[DOCUMENTS] = _build_documents(version, store, documents, encoder)
        analysis, fields = fingerprints(analyzer)
        built["manifest"] = Manifest(
            format_version=FORMAT_VERSION,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            n_products=len(store),
            analyzer=analysis,
            fields=fields,
            encoder=dense.encoder,
            dense_kind=dense.kind,
            reranker=reranker.fingerprint if reranker else "",
            router=router.fingerprint if router and encoder else "",
            config=index,
            notes=notes,
            files={},
        )
    return directory


def _build_meaning(
    version: Path, store: ProductStore, encoder: Encoder | None, router: RouterModel | None, index: IndexConfig,
    config: EngineConfig, progress: Progress, scale: float | None,
) -> tuple[_Dense, str]:  # fmt: skip
    """Writes all that vectors are for: their index, what tells queries about nothing here, and routes, with a note."""
    with tempfile.NamedTemporaryFile(dir=version, suffix=".tmp") as file:
        # On disk: the vectors of a million products are 1.5 GB, of which an index needs a slice at a time.
        vectors = np.memmap(file, np.float32, "w+", shape=(len(store), encoder.dim if encoder else 1))
        dense = _build_dense(version, store, encoder, vectors, config, progress, scale)
        if encoder is not None and index.language == "english":
            _learn_domain(version, store, encoder, dense)
        return dense, _build_route(version, store, encoder, vectors, router, progress)


def _build_names(version: Path, store: ProductStore, encoder: Encoder | None) -> dict[str, str]:
    """Writes what products are called: series and generations, variants, other people's words for types, and kinds
    where there are no categories.
    """
    folder = version / FAMILIES
    folder.mkdir()
    notes = {FAMILIES: ProductFamilies.build(folder, store), "variants": build_variants(folder, store)}
    columns = Columns.open(version)
    save(folder, learn(columns, ProductFamilies.open(folder), _embed(encoder)))
    if kinds := learn_kinds(store, columns):
        kinds.save(folder)
    return notes


def _learn_domain(version: Path, store: ProductStore, encoder: Encoder, dense: _Dense) -> None:
    """Writes what tells queries that are about nothing in the catalog, if it can be told."""
    vectors = VectorIndex.open(version / DENSE, msgspec.convert(dense.kind, Kind))
    domain = Domain.learn(store, vectors, encoder)
    if domain is not None:
        domain.save(version / DOMAIN)


def _build_documents(
    version: Path, store: ProductStore, documents: Path | Iterable[DocumentPassage], encoder: Encoder | None
) -> str:
    """Writes the documents beside the catalog; returns the build's note."""
    ids = (product.product_id for product in store)
    passages = read_documents(documents, ids) if isinstance(documents, Path) else documents
    return DocumentStore.build(version / DOCUMENTS, passages, encoder)


def in_language(index: IndexConfig, products: Iterable[Product]) -> tuple[IndexConfig, Iterable[Product]]:
    """With the language that the catalog is in where it is to be found out, and all products, the first ones read."""
    if index.language != "auto":
        return index, products
    rest = iter(products)
    first = list(islice(rest, LANGUAGE_PRODUCTS))
    return replace(index, language=catalog_language(first)), chain(first, rest)


def _settled(config: EngineConfig) -> EngineConfig:
    """With models' directories as paths that hold wherever the index is loaded from."""
    index = config.index
    index = replace(index, encoder=ENCODERS.lasting(index.encoder)) if index.encoder else index
    index = replace(index, reranker=_reranker_class().lasting(index.reranker)) if index.reranker else index
    index = replace(index, router=_router_class().lasting(index.router)) if index.router else index
    return replace(config, index=index)


def open_encoder(config: EngineConfig) -> OnnxEncoder | None:
    """The configured encoder, or None where the configuration names none."""
    name = config.index.encoder
    return (
        OnnxEncoder.named(name, max_tokens=config.index.max_tokens, threads=config.search.n_threads) if name else None
    )


class _RouterClass(Protocol):
    def named(self, name: str) -> RouterModel:
        """One that learns from the catalog where ``name`` is ``catalog``, or a trained one. Raises ModelError."""
        ...

    def lasting(self, name: str) -> str:
        """``name``, absolute if it is that of a directory."""
        ...


class _RewriterClass(Protocol):
    def named(self, name: str) -> Rewriter:
        """The shipped model of that name, or the one in the directory ``name``. Raises ModelError."""
        ...


class _RerankerClass(Protocol):
    def named(self, name: str) -> RerankerModel:
        """The shipped model of that name, or the one in the directory ``name``. Raises ModelError."""
        ...

    def lasting(self, name: str) -> str:
        """``name``, absolute if it is that of a directory."""
        ...


class _CombinerClass(Protocol):
    def read(self, path: str | Path) -> Combiner:
        """The one in the file ``path``. Raises ModelError."""
        ...


def _reranker_class() -> _RerankerClass:
    return cast(_RerankerClass, _named(_RERANKER))


def _router_class() -> _RouterClass:
    return cast(_RouterClass, _named(_ROUTER))


def _named(target: str) -> object:
    module, attribute = target.split(":")
    return getattr(import_module(module), attribute)


def open_reranker(name: str) -> RerankerModel | None:
    """The configured reranker, or None where ``name`` is empty."""
    return _reranker_class().named(name) if name else None


def open_router(name: str) -> RouterModel | None:
    """The configured router, or None where ``name`` is empty."""
    return _router_class().named(name) if name else None


def open_listwise(name: str) -> ListModel | None:
    """The configured reranker of lists, or None where ``name`` is empty. Raises ConfigError, ModelError."""
    return cast("Callable[[str], ListModel]", _named(_LISTWISE))(name) if name else None


def open_combiner(path: str) -> Combiner | None:
    """The configured combiner, or None where ``path`` is empty. Raises ModelError."""
    return cast(_CombinerClass, _named(_COMBINER)).read(path) if path else None


def open_rewriter(name: str) -> Rewriter | None:
    """The configured query rewriter, or None where ``name`` is empty."""
    return cast(_RewriterClass, _named(_REWRITER)).named(name) if name else None


def checked(rows: Iterable[Product | dict[str, object]]) -> Iterator[Product]:
    """Products from records or mappings. Raises CatalogError (line = position from 1) on a bad or repeated one."""
    seen: dict[str, int] = {}
    for line, row in enumerate(rows, 1):
        try:
            product = row if isinstance(row, Product) else msgspec.convert(row, Product)
        except (msgspec.ValidationError, ValueError) as error:
            raise CatalogError("products", line, None, str(error)) from error
        first = seen.setdefault(product.product_id, line)
        if first != line:
            raise CatalogError("products", line, "product_id", f"{product.product_id!r} was already given at {first}")
        yield product


def _counted(products: Iterable[Product], progress: Progress) -> Iterator[Product]:
    count = 0
    for count, product in enumerate(products, 1):
        yield product
        if count % 500 == 0:
            progress(LEXICAL, count, None)
    if not count:
        raise CatalogError("products", None, None, "there are no products to index")
    progress(LEXICAL, count, count)


def _build_dense(
    version: Path, store: ProductStore, encoder: Encoder | None, vectors: Embeddings, config: EngineConfig,
    progress: Progress, scale: float | None = None,
) -> _Dense:  # fmt: skip
    if encoder is None:
        return _Dense("", "", {"dense": "off: the configuration names no encoder"})
    kind, reason = choose_kind(len(store), encoder.dim, config.index.memory_mb)
    if config.index.dense_index != "auto":
        kind, reason = config.index.dense_index, "as configured"
    done = 0
    for batch in _batches(store):
        vectors[done : done + len(batch)] = encoder.encode_products(batch)
        done += len(batch)
        progress(DENSE, done, len(store))
    (version / DENSE).mkdir()
    VectorIndex.build(version / DENSE, vectors, kind, config.search.n_threads, scale)
    notes = {"dense": f"{kind} ({reason})"}
    if isinstance(encoder, OnnxEncoder):
        share = encoder.n_truncated / max(encoder.n_texts, 1)
        notes["truncated"] = (
            f"{encoder.n_truncated} of {encoder.n_texts} products ({share:.0%}) have more text than the "
            f"{encoder.max_tokens} tokens that are encoded"
        )
    return _Dense(kind, encoder.fingerprint, notes)


def _build_route(
    version: Path, store: ProductStore, encoder: Encoder | None, vectors: Embeddings, router: RouterModel | None,
    progress: Progress,
) -> str:  # fmt: skip
    if router is None or encoder is None:
        return "off: the configuration names no router" if encoder else "off: there is no encoder"
    (version / ROUTE).mkdir()
    progress(ROUTE, 0, len(store))
    note = router.build(version / ROUTE, store, vectors, encoder)
    progress(ROUTE, len(store), len(store))
    return note


def _embed(encoder: Encoder | None) -> Callable[[Sequence[str]], Embeddings] | None:
    return encoder.encode_queries if encoder is not None else None


def _build_rerank(version: Path, store: ProductStore, reranker: RerankerModel | None, progress: Progress) -> str:
    if reranker is None:
        return "off: the configuration names no reranker"

    def products() -> Iterator[Product]:
        for done, product in enumerate(store, 1):
            yield product
            if done % 500 == 0 or done == len(store):
                progress(RERANK, done, len(store))

    (version / RERANK).mkdir()
    return reranker.build(version / RERANK, products())


def _batches(products: Iterable[Product]) -> Iterator[list[Product]]:
    iterator = iter(products)
    while batch := list(islice(iterator, _ENCODE_BATCH)):
        yield batch


def dense_kind(manifest: Manifest) -> Kind:
    """The manifest's vector index, checked against the kinds there are."""
    return cast(Kind, msgspec.convert(manifest.dense_kind, Kind))
