"""The one orchestrator: a query goes in, stages run in order, each leaves a report, hits come out.

``understand → filter → retrieve (lexical, dense) → fuse → feedback → hydrate → facets``. Lexical retrieval is
mandatory where it is configured; dense retrieval and feedback are optional, and degrade visibly.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.analysis.analyzer import STOP_WORDS, Analyzer
from engine.builder import (
    DENSE,
    LEXICAL,
    Progress,
    build_index,
    checked,
    dense_kind,
    open_encoder,
)
from engine.columns import Columns
from engine.config import EngineConfig, SearchConfig
from engine.dense.retriever import DenseRetriever
from engine.dense.vectors import VectorIndex
from engine.errors import ConfigError, IndexMismatchError, InvalidFilterError, InvalidQueryError
from engine.filters import Equal, Exists, Filter, In, Range
from engine.fusion import ReciprocalRankFusion, WeightedFusion, union
from engine.lexical.retriever import LexicalRetriever
from engine.product import Product
from engine.seams import Encoder, Fusion
from engine.storage.manifest import Manifest, current_version, publishing, read_manifest, require_intact
from engine.storage.products import ProductStore
from engine.text import fingerprints
from engine.types import (
    Candidates,
    FacetCount,
    Hit,
    Mask,
    Rows,
    SearchResult,
    StageReport,
    StageStatus,
    StageTrace,
    TermMatch,
)

logger = logging.getLogger(__name__)

_MAX_QUERY = 2_000  # characters; what is beyond is not read, and the understand stage says so
_DEPTH_GROWTH = 4


@dataclass(slots=True)
class _Run:
    """One search under way: its clock and the reports so far."""

    query: str
    deadline: float | None
    reports: list[StageReport] = field(default_factory=list)

    @property
    def remaining_ms(self) -> float:
        return float("inf") if self.deadline is None else (self.deadline - time.perf_counter()) * 1e3

    def report(
        self, stage: str, started: float, n_in: int, n_out: int, note: str = "", status: StageStatus = "ran"
    ) -> None:
        elapsed = (time.perf_counter() - started) * 1e3
        self.reports.append(StageReport(stage, status, n_in, n_out, elapsed, note))


@dataclass(frozen=True, slots=True)
class _Ranking:
    """The final order and, per stage, the order it had."""

    final: Candidates
    stages: tuple[tuple[str, Candidates], ...]
    exhausted: bool


class SearchEngine:
    """Searches one index version. Thread-safe; every search uses one core.

    Make one with ``build`` or ``load``.
    """

    def __init__(
        self, version: Path, manifest: Manifest, config: SearchConfig, products: ProductStore, columns: Columns,
        lexical: LexicalRetriever | None, dense: DenseRetriever | None,
    ) -> None:  # fmt: skip
        self.version, self.manifest, self.config = version, manifest, config
        self._products, self._columns = products, columns
        self._lexical, self._dense = lexical, dense
        self._fusion = _fusion(config)
        self._popularity = _percentiles(columns) if config.popularity_weight else None
        self._dense_ms = 0.0  # what dense retrieval lately took; deadlines are planned with it

    # ------------------------------------------------------------------------------------------- making and keeping

    @classmethod
    def build(
        cls, products: Iterable[Product | dict[str, object]], directory: str | Path | None = None,
        config: EngineConfig | None = None, *, encoder: Encoder | None = None, progress: Progress = lambda *_: None,
    ) -> SearchEngine:  # fmt: skip
        """Builds an index of ``products`` (records or mappings) and opens it.

        Without ``directory`` the index lives in a temporary one until the engine is gone; ``save`` keeps it.
        Raises CatalogError on a bad or repeated product.
        """
        config = config or EngineConfig()
        target = Path(directory) if directory else Path(tempfile.mkdtemp(prefix="aisle-"))
        try:
            build_index(checked(products), target, config, encoder=encoder, progress=progress)
            engine = cls.load(target, config.search, encoder=encoder)
        except BaseException:
            if directory is None:
                shutil.rmtree(target, ignore_errors=True)
            raise
        if directory is None:
            weakref.finalize(engine._products, shutil.rmtree, target, ignore_errors=True)
        return engine

    @classmethod
    def load(
        cls, directory: str | Path, config: SearchConfig | None = None, *, encoder: Encoder | None = None,
        verify: bool = True,
    ) -> SearchEngine:  # fmt: skip
        """Opens the published index in ``directory``.

        ``verify`` reads every file once to check its checksum. ``encoder`` stands in for the index's own and must have
        its fingerprint. Raises IndexNotFoundError, IndexCorruptError, IndexMismatchError or ModelError.
        """
        config = config or SearchConfig()
        version = current_version(Path(directory))
        manifest = read_manifest(version)
        if verify:
            require_intact(version, manifest)
        analyzer = Analyzer(manifest.config.language)
        for part, index, here in zip(
            ("analyzer", "fields"), (manifest.analyzer, manifest.fields), fingerprints(analyzer), strict=True
        ):
            _require(index == here, part, index, here)
        lexical = dense = None
        if "lexical" in config.retrievers:
            lexical = LexicalRetriever.open(version / LEXICAL, manifest.config.lexical_backend, analyzer, config)
        if "dense" in config.retrievers and manifest.dense_kind:
            encoder = encoder or open_encoder(EngineConfig(index=manifest.config, search=config))
            fingerprint = encoder.fingerprint if encoder else "none"
            _require(fingerprint == manifest.encoder, "encoder", manifest.encoder, fingerprint)
            if encoder:
                vectors = VectorIndex.open(version / DENSE, dense_kind(manifest))
                dense = DenseRetriever(encoder, vectors, config.min_similarity)
        if lexical is None and dense is None:
            raise ConfigError(
                f"{directory} has no vectors, so it cannot be searched with retrievers={config.retrievers}"
            )
        engine = cls(version, manifest, config, ProductStore(version), Columns.open(version), lexical, dense)
        # The first search of a process pays for what libraries set up lazily; it should not be a shopper's.
        engine.search(engine._products[0].title, 1)
        return engine

    def save(self, directory: str | Path) -> None:
        """Publishes a copy of this index in ``directory``."""
        with publishing(Path(directory), lambda: self.manifest) as target:
            for name in self.manifest.files:
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(self.version / name, target / name)

    def configured(self, config: SearchConfig) -> SearchEngine:
        """This index, searched another way. Shares all data; retrievers that were not loaded stay out."""
        lexical = self._lexical.configured(config) if self._lexical and "lexical" in config.retrievers else None
        dense = None
        if self._dense and "dense" in config.retrievers:
            dense = DenseRetriever(self._dense.encoder, self._dense.index, config.min_similarity)
        if lexical is None and dense is None:
            raise ConfigError(f"none of {config.retrievers} was loaded with this engine")
        return SearchEngine(self.version, self.manifest, config, self._products, self._columns, lexical, dense)

    def __len__(self) -> int:
        return len(self._products)

    @property
    def fields(self) -> list[str]:
        """The fields that filters and facets can name."""
        return self._columns.fields

    # ---------------------------------------------------------------------------------------------------- searching

    def search(
        self, query: str, k: int = 10, *, filters: Sequence[Filter] = (), offset: int = 0,
        deadline_ms: float | None = None, facets: Sequence[str] = (), explain: bool = False,
    ) -> SearchResult:  # fmt: skip
        """The ``k`` best products for ``query`` after the first ``offset``.

        Pages are stable: hits 11 to 20 are the same whether asked for as k=20 or as k=10, offset=10. A query without
        letters or digits has no hits. With ``deadline_ms`` optional stages are left out when they would not fit.
        ``facets`` names fields to count over the candidates; ``explain`` fills in every hit's ``matches``.
        Raises InvalidQueryError and InvalidFilterError.
        """
        _check(query, k, offset, deadline_ms)
        started = time.perf_counter()
        run = _Run(_readable(query), None if deadline_ms is None else started + deadline_ms / 1e3)
        allowed = self._filter(run, filters)
        searchable = self._understand(run)
        ranking = self._rank(run, offset + k, allowed) if searchable else _Ranking(Candidates.empty(), (), True)
        hits = self._hydrate(run, ranking, offset, k)
        if explain:
            hits = self._explain(run, hits)
        counts = self._facets(run, ranking, facets)
        return SearchResult(query, hits, tuple(run.reports), len(ranking.final), facets=counts)

    def search_batch(
        self, queries: Sequence[str], k: int = 10, *, filters: Sequence[Filter] = (), facets: Sequence[str] = (),
        explain: bool = False,
    ) -> list[SearchResult]:  # fmt: skip
        """``search`` for each query, in order, on ``threads`` cores."""

        def one(query: str) -> SearchResult:
            return self.search(query, k, filters=filters, facets=facets, explain=explain)

        if self.config.n_threads == 1 or len(queries) < 2:
            return [one(query) for query in queries]
        with ThreadPoolExecutor(min(self.config.n_threads, len(queries))) as pool:
            return list(pool.map(one, queries))

    def explain(self, query: str, product_id: str) -> Hit:
        """Why a product is where it is for a query, found or not: rank 0 says that it is not among the candidates.

        Raises InvalidQueryError when the index has no such product.
        """
        _check(query, 1, 0, None)
        mask = self._columns.mask([Equal("product_id", product_id)])
        rows = np.flatnonzero(mask) if mask is not None else np.empty(0, np.int64)
        if not len(rows):
            raise InvalidQueryError(f"the index has no product {product_id!r}")
        run = _Run(_readable(query), None)
        ranking = self._rank(run, 1, None) if self._understand(run) else _Ranking(Candidates.empty(), (), True)
        place = np.flatnonzero(ranking.final.rows == rows[0])
        rank, score = (int(place[0]) + 1, float(ranking.final.scores[place[0]])) if len(place) else (0, 0.0)
        product = self._products[int(rows[0])]
        return Hit(product, rank, score, next(_traces(ranking, rows[:1])), self._matches(run.query, product))

    # ------------------------------------------------------------------------------------------------------- stages

    def _filter(self, run: _Run, filters: Sequence[Filter]) -> Mask | None:
        started = time.perf_counter()
        if isinstance(filters, (Equal, In, Range, Exists, str)):
            raise InvalidFilterError(f"filters is {filters!r}; it must be a list of filters")
        for filter in filters:
            if not isinstance(filter, (Equal, In, Range, Exists)):
                raise InvalidFilterError(f"{filter!r} is no filter; use Equal, In, Range or Exists from engine")
        mask = self._columns.mask(filters)
        if mask is not None:
            run.report("filter", started, len(self), int(np.count_nonzero(mask)), f"{len(filters)} filters")
        return mask

    def _understand(self, run: _Run) -> bool:
        """Whether the query has anything to search for."""
        started = time.perf_counter()
        if self._lexical:
            terms = [
                term.text if term.source == "typed" else f"{term.text} ({term.source}: {term.origin})"
                for term in self._lexical.plan(run.query)
            ]
        else:
            terms = [word for word in run.query.split() if any(c.isalnum() for c in word)]
        run.report("understand", started, 1, len(terms), ", ".join(terms) or "nothing to search for in this query")
        return bool(terms)

    def _rank(self, run: _Run, needed: int, allowed: Mask | None) -> _Ranking:
        """Ranks at least ``needed`` products, if that many match.

        Candidates come in tiers of growing depth, and a tier never changes the order of the ones before it, so that
        the next page cannot move what the last one showed.
        """
        depth = self.config.depth
        ranking = self._rank_tier(run, depth, allowed)
        while len(ranking.final) < needed and not ranking.exhausted:
            depth *= _DEPTH_GROWTH
            deeper = self._rank_tier(run, depth, allowed)
            new = ~np.isin(deeper.final.rows, ranking.final.rows)
            final = Candidates(
                np.concatenate([ranking.final.rows, deeper.final.rows[new]]),
                np.concatenate([ranking.final.scores, np.minimum(deeper.final.scores[new], _last(ranking.final))]),
            )
            ranking = _Ranking(final, deeper.stages, deeper.exhausted)
        return ranking

    def _rank_tier(self, run: _Run, depth: int, allowed: Mask | None) -> _Ranking:
        stages: list[tuple[str, Candidates]] = []
        lexical = dense = None
        if self._lexical:
            started = time.perf_counter()
            lexical = self._lexical.retrieve(run.query, depth, allowed=allowed)
            run.report("lexical", started, len(self), len(lexical))
            stages.append(("lexical", lexical))
        if self._dense:
            dense = self._retrieve_dense(run, depth, allowed)
            if dense is not None:
                stages.append(("dense", dense))
        exhausted = all(len(found) < depth for _, found in stages)
        if lexical is None or dense is None:
            final = stages[0][1] if stages else Candidates.empty()
            return _Ranking(final, tuple(stages), exhausted)
        final = self._fuse(run, lexical, dense, allowed, stages)
        return _Ranking(final, tuple(stages), exhausted)

    def _retrieve_dense(self, run: _Run, depth: int, allowed: Mask | None) -> Candidates | None:
        started = time.perf_counter()
        assert self._dense is not None
        optional = self._lexical is not None
        if optional and all(term.text in STOP_WORDS for term in self._lexical.plan(run.query)):  # type: ignore[union-attr]
            run.report("dense", started, len(self), 0, "only stop words", "skipped")
            return None
        if optional and run.remaining_ms < self._dense_ms:
            note = f"{max(run.remaining_ms, 0):.1f} ms left, it lately took {self._dense_ms:.1f} ms"
            run.report("dense", started, len(self), 0, note, "degraded")
            return None
        try:
            found = self._dense.retrieve(run.query, depth, allowed=allowed)
        except Exception as error:
            if not optional:
                raise
            logger.warning("dense retrieval failed", exc_info=True)
            run.report("dense", started, len(self), 0, f"{type(error).__name__}: {error}", "degraded")
            return None
        run.report("dense", started, len(self), len(found))
        took = (time.perf_counter() - started) * 1e3
        self._dense_ms = took if self._dense_ms == 0 else 0.8 * self._dense_ms + 0.2 * took
        return found

    def _fuse(
        self, run: _Run, lexical: Candidates, dense: Candidates, allowed: Mask | None,
        stages: list[tuple[str, Candidates]],
    ) -> Candidates:  # fmt: skip
        """Fuses on cosines of all candidates, then once more after the best of them have moved the query's vector."""
        assert self._dense is not None
        started = time.perf_counter()
        rows = union([lexical, dense])
        vectors, query = self._dense.vectors(rows), self._dense.vector(run.query)
        others = self._signals(run.query, rows, allowed) if self.config.fusion == "weighted" else []

        def fuse(vector: NDArray[np.float32]) -> Candidates:
            return self._fusion([lexical, Candidates.ranked(rows, _cosines(vectors, vector)), *others], len(rows))

        fused = fuse(query)
        stages.append(("fusion", fused))
        run.report("fusion", started, len(lexical) + len(dense), len(fused), self.config.fusion)
        weight, top = self.config.feedback_weight, self.config.feedback_products
        if not weight or not top or not len(fused):
            return fused
        started = time.perf_counter()
        best = vectors[np.searchsorted(rows, fused.rows[:top])]
        fused = fuse(_moved(query, best, weight))
        stages.append(("feedback", fused))
        run.report("feedback", started, len(rows), len(fused), f"from the best {len(best)}")
        return fused

    def _signals(self, query: str, rows: Rows, allowed: Mask | None) -> list[Candidates]:
        """What else speaks for a candidate: the query's model codes, and popularity. Too weak for an equal vote."""
        assert self._lexical is not None
        codes = self._lexical.retrieve_codes(query, self.config.depth, allowed=allowed)
        known = np.isin(codes.rows, rows)
        signals = [Candidates(codes.rows[known], codes.scores[known])]
        if self._popularity is not None:
            signals.append(Candidates.ranked(rows, self._popularity[rows]))
        return signals

    def _hydrate(self, run: _Run, ranking: _Ranking, offset: int, k: int) -> tuple[Hit, ...]:
        started = time.perf_counter()
        rows, scores = ranking.final.rows[offset : offset + k], ranking.final.scores[offset : offset + k]
        hits = tuple(
            Hit(product, rank, score, trace)
            for rank, (product, score, trace) in enumerate(
                zip(self._products.get(rows), scores.tolist(), _traces(ranking, rows), strict=True), offset + 1
            )
        )
        run.report("hydrate", started, len(ranking.final), len(hits))
        return hits

    def _explain(self, run: _Run, hits: tuple[Hit, ...]) -> tuple[Hit, ...]:
        started = time.perf_counter()
        explained = tuple(replace(hit, matches=self._matches(run.query, hit.product)) for hit in hits)
        run.report("explain", started, len(hits), len(hits))
        return explained

    def _matches(self, query: str, product: Product) -> tuple[TermMatch, ...]:
        return self._lexical.explain(query, product) if self._lexical else ()

    def _facets(self, run: _Run, ranking: _Ranking, names: Sequence[str]) -> dict[str, tuple[FacetCount, ...]]:
        started = time.perf_counter()
        counts = {name: self._columns.facets(name, ranking.final.rows) for name in names}
        if names:
            run.report("facets", started, len(ranking.final), len(counts))
        return counts


def _traces(ranking: _Ranking, rows: Rows) -> Iterator[tuple[StageTrace, ...]]:
    """For each row, what every stage gave it."""
    stages = [
        (stage, {row: place for place, row in enumerate(found.rows.tolist())}, found.scores.tolist())
        for stage, found in ranking.stages
    ]
    for row in rows.tolist():
        yield tuple(
            StageTrace(stage, places[row] + 1, scores[places[row]]) if row in places else StageTrace(stage, None, None)
            for stage, places, scores in stages
        )


def _cosines(vectors: NDArray[np.float32], vector: NDArray[np.float32]) -> NDArray[np.float32]:
    # Not vectors @ vector: that may wake BLAS's threads, and a search uses one core.
    cosines: NDArray[np.float32] = np.einsum("ij,j->i", vectors, vector)
    return cosines


def _moved(query: NDArray[np.float32], best: NDArray[np.float32], weight: float) -> NDArray[np.float32]:
    """The query's vector moved towards the mean of the best products' vectors, at unit length.

    Rocchio 1971, in embedding space as in Li et al. 2021, "Pseudo Relevance Feedback with Deep Language Models".
    """
    moved = (1 - weight) * query + weight * best.mean(axis=0)
    return np.asarray(moved / np.linalg.norm(moved), np.float32)


def _last(ranked: Candidates) -> np.float32:
    return ranked.scores[-1] if len(ranked) else np.float32(np.inf)


def _fusion(config: SearchConfig) -> Fusion:
    """Of the lists lexical, dense, codes and, where the catalog has it, popularity."""
    if config.fusion == "rrf":
        return ReciprocalRankFusion(config.rrf_k)
    weights = (config.lexical_weight, 1 - config.lexical_weight, config.code_weight, config.popularity_weight)
    # A lexical score of 0 is no match; of cosines, the lowest among the candidates is.
    return WeightedFusion(weights, floors=(0.0, None, 0.0, 0.0), powers=(config.lexical_power, 1.0, 1.0, 1.0))


def _percentiles(columns: Columns) -> NDArray[np.float32] | None:
    """Each product's place by popularity, float32 (n,), 1 the most popular, 0.5 where unknown; None if all are."""
    for name in ("popularity", "rating_count"):
        values = columns.numbers(name)
        if values is not None:
            known = np.flatnonzero(~np.isnan(values))
            places = np.full(len(values), 0.5, np.float32)
            places[known] = (np.searchsorted(np.sort(values[known]), values[known], "right")) / len(known)
            return places
    return None


def _require(matches: bool, part: str, index: str, here: str) -> None:
    if not matches:
        raise IndexMismatchError(
            f"the index was built with {part} {index!r}, this engine has {here!r}. "
            "Build the index again with: aisle build CATALOG --out INDEX"
        )


def _readable(query: str) -> str:
    """What is read of a query: its beginning, without the half characters that no encoding of text has."""
    return query[:_MAX_QUERY].encode(errors="replace").decode()


def _check(query: str, k: int, offset: int, deadline_ms: float | None) -> None:
    if not isinstance(query, str):
        raise InvalidQueryError(f"query is {type(query).__name__}; it must be text")
    for name, value in (("k", k), ("offset", offset)):
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 0:
            raise InvalidQueryError(f"{name} is {value!r}; it must be a whole number, 0 or more")
    if deadline_ms is not None and not deadline_ms >= 0:
        raise InvalidQueryError(f"deadline_ms is {deadline_ms!r}; it must be 0 or more milliseconds")
