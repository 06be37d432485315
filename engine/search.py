"""The one orchestrator: a query goes in, stages run in order, each leaves a report, hits come out.

``filter → understand → route → rank (engine/ranker.py) → hydrate → explain → facets``. Optional stages degrade
visibly.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from engine.adapters import Adapter, AdapterInfo
from engine.analysis.analyzer import Analyzer
from engine.builder import Progress, build_index, checked
from engine.config import EngineConfig, SearchConfig
from engine.controls import checked_context
from engine.diversity import AtMost
from engine.errors import ConfigError, InvalidFilterError, InvalidQueryError
from engine.feedback_log import FeedbackLog
from engine.filters import Equal, Exists, Filter, In, Range
from engine.latency import LatencyEstimate
from engine.needs.shown import ShownNeed, shown
from engine.opening import Opened, live_index, open_index
from engine.product import Product
from engine.ranker import Ranking, Request
from engine.routes import SKUS, describe_route
from engine.seams import Combiner, Encoder, RerankerModel, Rewriter, RouterModel
from engine.storage.adapter_store import AdapterStore
from engine.storage.change_log import ChangeLog
from engine.storage.manifest import publishing
from engine.suggestions.completer import Suggestion
from engine.types import Candidates, FacetCount, Hit, Mask, Route, SearchResult, StageReport, TermMatch
from engine.understanding.understand import Understood
from engine.updates.engine import LiveUpdates, on_snapshot

if TYPE_CHECKING:
    from engine.answers.answerer import Answerer
    from engine.answers.records import Answer

logger = logging.getLogger(__name__)

_NO_CONTEXT: Mapping[str, str] = {}
_MAX_TYPED = 200  # characters that suggestions look at
_MAX_QUERY = 2_000  # characters; what is beyond is not read, and the understand stage says so


class SearchEngine(LiveUpdates):
    """Searches one index, and changes it. Thread-safe; every search uses one core, but for reranking, which all
    searches together do on ``threads`` cores.

    Make one with ``build`` or ``load``. ``on_search`` is called with the reports of every search's stages, for counters
    and timings; it must be quick, and what it raises is logged.
    """

    on_search: Callable[[tuple[StageReport, ...]], None] | None = None

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        self.version, self.manifest, self.config = opened.version, opened.manifest, opened.config
        self._products, self._columns, self._ranker = opened.products, opened.parts.columns, opened.ranker
        self._router, self._adapters = opened.parts.router, opened.adapters
        self._reader, self._controls = opened.reader, opened.controls
        self._analyzer = Analyzer(opened.manifest.config.language)
        # What the stages after ranking lately took, in ms a hit, route or facet; deadlines are planned with it.
        self._latencies = {stage: LatencyEstimate() for stage in ("hydrate", "describe", "explain", "facets")}

    # ------------------------------------------------------------------------------------------- making and keeping

    @classmethod
    def build(
        cls, products: Iterable[Product | dict[str, object]], directory: str | Path | None = None,
        config: EngineConfig | None = None, *, encoder: Encoder | None = None, reranker: RerankerModel | None = None,
        router: RouterModel | None = None, documents: str | Path | None = None, progress: Progress = lambda *_: None,
    ) -> Self:  # fmt: skip
        """Builds an index of ``products`` (records or mappings) and opens it.

        ``documents`` is a folder of manuals, questions, reviews or rules, which ``ask`` may cite.

        Without ``directory`` the index lives in a temporary one until the engine is gone; ``save`` keeps it.
        Raises CatalogError on a bad or repeated product.
        """
        config = config or EngineConfig()
        target = Path(directory) if directory else Path(tempfile.mkdtemp(prefix="aisle-"))
        try:
            build_index(
                checked(products), target, config, encoder=encoder, reranker=reranker, router=router,
                documents=Path(documents) if documents else None, progress=progress,
            )  # fmt: skip
            engine = cls.load(target, config.search, encoder=encoder, reranker=reranker, router=router)
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
        reranker: RerankerModel | None = None, router: RouterModel | None = None, rewriter: Rewriter | None = None,
        verify: bool = True,
    ) -> Self:  # fmt: skip
        """Opens the published index in ``directory``.

        ``verify`` reads every file once to check its checksum. ``encoder``, ``reranker`` and ``router`` stand in for
        the index's own and must have their fingerprints, ``rewriter`` for the configured one. Raises
        IndexNotFoundError, IndexCorruptError, IndexMismatchError or ModelError.
        """
        config = config or SearchConfig()
        reload = partial(
            cls.load, directory, config, encoder=encoder, reranker=reranker, router=router, rewriter=rewriter,
            verify=verify,
        )  # fmt: skip
        opened, lock = open_index(
            Path(directory), config, encoder=encoder, reranker=reranker, router=router, rewriter=rewriter, verify=verify
        )
        engine = cls(opened)
        live = live_index(opened, cls, encoder, lock)
        engine._follow(live, reload, (reranker, router))
        live.open()
        # The first search of a process pays for what libraries set up lazily; it should not be a shopper's.
        engine.search(opened.products[0].title, 1)
        return engine

    @on_snapshot
    def save(self, directory: str | Path) -> None:
        """Publishes a copy of this index in ``directory``, with its changes and the adapters that are kept with it."""
        index, target_index = self.version.parent.parent, Path(directory)

        def settle(name: str) -> None:
            ChangeLog(index, self.version.name).copy_to(ChangeLog(target_index, name), self._opened.parts.n_commits)

        with publishing(target_index, lambda: self.manifest, settle) as target:
            for name in self.manifest.files:
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(self.version / name, target / name)
        AdapterStore(index).copy(AdapterStore(target_index))

    @on_snapshot
    def configured(
        self, config: SearchConfig, *, combiner: Combiner | None = None, rewriter: Rewriter | None = None,
        clock: Callable[[], float] = time.time,
    ) -> SearchEngine:  # fmt: skip
        """This index, searched another way.

        Shares all data, adapters, and the reranker's threads; retrievers, a reranker and a rewriter that were not
        loaded stay out. ``combiner`` stands in for the configured one, ``rewriter`` for the one that was loaded; rules
        hold by ``clock``, in seconds since 1970. Raises ConfigError, and ModelError on a combiner of no use.
        """
        return SearchEngine(self._opened.configured(config, combiner, rewriter, clock))

    @on_snapshot
    def __len__(self) -> int:
        return len(self._columns.rows)

    @property
    @on_snapshot
    def fields(self) -> list[str]:
        """The fields that filters and facets can name."""
        return self._columns.fields

    # ----------------------------------------------------------------------------------------------------- adapters

    def add_adapter(self, adapter: Adapter | str | Path, *, name: str | None = None) -> AdapterInfo:
        """Adds an adapter, or the one in a file, to what searches can choose, under ``name`` or its own.

        It takes the place of one of the same name and kind. Searches under way keep what they began with. The index's
        files stay as they are: for engines that are loaded later there is ``aisle adapter add``. Raises AdapterError
        when it cannot be used or is for another model, and ModelError when that cannot take any.
        """
        adapter = adapter if isinstance(adapter, Adapter) else Adapter.read(adapter)
        return self._adapters.add(adapter if name is None else adapter.named(name))

    def remove_adapter(self, name: str) -> None:
        """Removes the adapters of that name from what searches can choose. Raises AdapterError when there is none."""
        self._adapters.remove(name)

    @property
    def adapters(self) -> tuple[AdapterInfo, ...]:
        """What can be chosen, and what was kept aside, with the reason; by name, then kind."""
        return self._adapters.infos

    # ---------------------------------------------------------------------------------------------------- searching

    def search(
        self, query: str, k: int = 10, *, filters: Sequence[Filter] = (), offset: int = 0,
        deadline_ms: float | None = None, facets: Sequence[str] = (), explain: bool = False,
        adapter: str | None = None, locale: str = "", context: Mapping[str, str] = _NO_CONTEXT, group: str = "",
        at_most: Sequence[AtMost] | None = None,
    ) -> SearchResult:  # fmt: skip
        """The ``k`` best products for ``query`` after the first ``offset``.

        Pages are stable: hits 11 to 20 are the same whether asked for as k=20 or as k=10, offset=10. A query without
        letters or digits has no hits. With ``deadline_ms`` optional stages are left out where they would not fit, and
        reranking stops when the time is up; how far it came can then differ from page to page.
        ``facets`` names fields to count over the candidates; ``explain`` fills in every hit's ``matches``. ``adapter``
        names what the encoder, the reranker or both answer with, as the reports of their stages say. ``locale``, such
        as ``es-MX``, says what the query's words are to be read as, where its script leaves that open; one that is not
        known is told in the report of ``understand``. ``context`` is what the shop's rules may ask of a search, such as
        ``{"channel": "app"}``. With ``group``, a field, or ``family`` for variants of one product, of the products that
        have one value there only the best is a hit, which tells of the others. ``at_most`` limits how many products of
        a field's value are among the first results, in place of what the settings say.
        Raises InvalidQueryError, InvalidFilterError and AdapterError.
        """
        return self._observed(
            self.snapshot()._search(
                query, k, filters, offset, deadline_ms, facets, explain, adapter, locale, context, group, at_most
            )
        )

    def _observed(self, result: SearchResult) -> SearchResult:
        if self.on_search is not None:
            try:
                self.on_search(result.stages)
            except Exception:
                logger.warning("on_search failed", exc_info=True)
        return result

    def _search(
        self, query: str, k: int, filters: Sequence[Filter] = (), offset: int = 0, deadline_ms: float | None = None,
        facets: Sequence[str] = (), explain: bool = False, adapter: str | None = None, locale: str = "",
        context: Mapping[str, str] = _NO_CONTEXT, group: str = "", at_most: Sequence[AtMost] | None = None,
    ) -> SearchResult:  # fmt: skip
        _check(query, k, offset, deadline_ms)
        started = time.perf_counter()
        deadline = None if deadline_ms is None else started + deadline_ms / 1e3
        request = Request(
            _readable(query), deadline, adapted=self._adapters.chosen(adapter), locale=locale,
            context=checked_context(context), group=group, at_most=at_most,
        )  # fmt: skip
        request.reserve_ms = self._reserve_ms(k, explain, len(facets))
        allowed = self._filter(request, filters)
        ranking, understood = self._ranking(request, offset + k, allowed)
        hits = self._hydrate(request, ranking, offset, k, explain)
        route = self._describe(request, understood, ranking, hits if not offset else ())
        if explain:
            hits = self._explain(request, hits)
        counts = self._facets(request, ranking, facets)
        ruled = [rule.id for rule in request.ruling.rules] if request.ruling else []
        redirect = request.ruling.redirect if request.ruling else ""
        return SearchResult(
            query, hits, tuple(request.reports), len(request.arrangement.found), route, counts, tuple(ruled), redirect
        )

    def search_batch(
        self, queries: Sequence[str], k: int = 10, *, filters: Sequence[Filter] = (), facets: Sequence[str] = (),
        explain: bool = False, adapter: str | None = None, locale: str = "",
        context: Mapping[str, str] = _NO_CONTEXT, group: str = "", at_most: Sequence[AtMost] | None = None,
    ) -> list[SearchResult]:  # fmt: skip
        """``search`` for each query, in order, on ``threads`` cores."""

        def one(query: str) -> SearchResult:
            return self.search(
                query, k, filters=filters, facets=facets, explain=explain, adapter=adapter, locale=locale,
                context=context, group=group, at_most=at_most,
            )  # fmt: skip

        if self.config.n_threads == 1 or len(queries) < 2:
            return [one(query) for query in queries]
        with ThreadPoolExecutor(min(self.config.n_threads, len(queries))) as pool:
            return list(pool.map(one, queries))

    @on_snapshot
    def explain(
        self, query: str, product_id: str, *, adapter: str | None = None, context: Mapping[str, str] = _NO_CONTEXT
    ) -> Hit:
        """Why a product is where it is for a query, found or not: rank 0 says that it is not among the candidates.

        Raises InvalidQueryError when the index has no such product, and AdapterError.
        """
        _check(query, 1, 0, None)
        mask = self._columns.mask([Equal("product_id", product_id)])
        rows = np.flatnonzero(mask) if mask is not None else np.empty(0, np.int64)
        if not len(rows):
            raise InvalidQueryError(f"the index has no product {product_id!r}")
        request = Request(
            _readable(query), None, adapted=self._adapters.chosen(adapter), context=checked_context(context)
        )
        ranking, _ = self._ranking(request, 1, None)
        place = np.flatnonzero(ranking.final.rows == rows[0])
        rank, score = (int(place[0]) + 1, float(ranking.final.scores[place[0]])) if len(place) else (0, 0.0)
        product = self._products[int(rows[0])]
        return Hit(
            product, rank, score, next(ranking.traces(rows[:1], explain=True)), self._matches(request, product),
            *next(self._controls.told(request, rows[:1], self._products.get)),
        )  # fmt: skip

    def ask(self, question: str, *, product_id: str = "", writer: Callable[[str], str] | None = None) -> Answer:
        """The answer to a shopper's question, with the words of the catalog that it rests on.

        ``product_id`` is the product at hand, which "it" means. What no field says is not made up: the answer then is
        an abstention. A text that is no question is answered with what it finds. ``writer``, any language model that
        answers a prompt, may put the answer into other words; what the evidence does not hold of them is dropped.
        Raises InvalidQueryError, and ConfigError on a policy that cannot be read.
        """
        _check(question, 1, 0, None)
        if not isinstance(product_id, str):
            raise InvalidQueryError(f"product_id is {type(product_id).__name__}; it must be text, empty for none")
        now = self.snapshot()

        def search(text: str, k: int) -> SearchResult:
            return self._observed(now._search(text, k))

        return now._answerer.ask(_readable(question), search, product_id, writer)

    @cached_property
    def _answerer(self) -> Answerer:
        from engine.answers.answerer import Answerer  # they stand above: only who asks loads them
        from engine.answers.shop import open_shop

        opened = self._opened
        language = opened.manifest.config.language
        return Answerer(open_shop(opened.version, opened.config, opened.parts, opened.documents, language))

    # ------------------------------------------------------------------------------------------------------- stages

    def _filter(self, request: Request, filters: Sequence[Filter]) -> Mask | None:
        started = time.perf_counter()
        if isinstance(filters, (Equal, In, Range, Exists, str)):
            raise InvalidFilterError(f"filters is {filters!r}; it must be a list of filters")
        for filter in filters:
            if not isinstance(filter, (Equal, In, Range, Exists)):
                raise InvalidFilterError(f"{filter!r} is no filter; use Equal, In, Range or Exists from engine")
        mask = self._columns.mask(filters)
        if mask is not None:
            request.report("filter", started, len(self), int(np.count_nonzero(mask)), f"{len(filters)} filters")
        return mask

    def _ranking(self, request: Request, needed: int, allowed: Mask | None) -> tuple[Ranking, Understood]:
        understood = self._understood(request)
        if understood is None:
            return Ranking.empty(), Understood(request.query, request.query)
        self._reader.guide(request, understood, allowed)
        allowed = self._controls.arrange(request, allowed)
        return self._ranker.rank(request, needed, allowed), understood

    def _understood(self, request: Request) -> Understood | None:
        return self._controls.read(request, self._reader.understand)

    def _describe(
        self, request: Request, understood: Understood, ranking: Ranking, first: Sequence[Hit]
    ) -> Route | None:
        """The route of a result, with the products of its first page: later ones have the same.

        ``first`` are hits from rank 1 on, as many as there are at hand.
        """
        started = time.perf_counter()
        nearest = any(report.stage == "nearest" for report in request.reports)
        routed = request.guidance.routed
        if not self.config.understand and routed is None and not nearest:
            return None
        depth = self.config.depth  # the first candidates, which no page changes
        found = Candidates(ranking.final.rows[:depth], ranking.final.scores[:depth])
        lacking = (
            [f"no product has {word!r}" for word in self._reader.missing(request, understood)] if len(found) else []
        )
        if request.foreign and not lacking:
            lacking = ["no product is near what was asked for"]
        if nearest and not lacking:
            lacking = [f"no product was found for {request.query!r}"]
        if request.last_resort:
            lacking.append("no word of the query was found or understood, so these are the most popular products")
        best = [hit.product for hit in first[: min(SKUS, len(found))]]
        best += self._products.get(found.rows[len(best) : SKUS])
        route = describe_route(
            understood, routed, best, found, request.guidance, self._columns.percentiles, self._analyzer, lacking
        )
        self._timed("describe", request.report("describe", started, len(found), len(route.skus), route.nearest), 1)
        return route

    def _hydrate(self, request: Request, ranking: Ranking, offset: int, k: int, explain: bool) -> tuple[Hit, ...]:
        started = time.perf_counter()
        rows, scores = ranking.final.rows[offset : offset + k], ranking.final.scores[offset : offset + k]
        found = zip(
            self._products.get(rows), scores.tolist(), ranking.traces(rows, explain),
            self._controls.told(request, rows, self._products.get), strict=True,
        )  # fmt: skip
        hits = tuple(
            Hit(product, rank, score, trace, (), ruled, group)
            for rank, (product, score, trace, (ruled, group)) in enumerate(found, offset + 1)
        )
        self._timed("hydrate", request.report("hydrate", started, len(ranking.final), len(hits)), len(hits))
        return hits

    def _explain(self, request: Request, hits: tuple[Hit, ...]) -> tuple[Hit, ...]:
        started = time.perf_counter()
        explained = tuple(replace(hit, matches=self._matches(request, hit.product)) for hit in hits)
        self._timed("explain", request.report("explain", started, len(hits), len(hits)), len(hits))
        return explained

    def _matches(self, request: Request, product: Product) -> tuple[TermMatch, ...]:
        return self._ranker.lexical.explain(request.query, product, request.expansions) if self._ranker.lexical else ()

    def _facets(self, request: Request, ranking: Ranking, names: Sequence[str]) -> dict[str, tuple[FacetCount, ...]]:
        started = time.perf_counter()
        found = request.arrangement.found if names else ranking.final.rows
        counts = {name: self._columns.facets(name, found) for name in names}
        if names:
            self._timed("facets", request.report("facets", started, len(ranking.final), len(counts)), len(counts))
        return counts

    @on_snapshot
    def suggest(self, typed: str, k: int = 8) -> list[Suggestion]:
        """The ``k`` likeliest things that a shopper who has typed this much may mean, the likeliest first.

        None where there is no letter or digit in it. The first call of an engine reads what later ones need.
        Raises InvalidQueryError, IndexMismatchError where the index was built without suggestions, and
        IndexCorruptError.
        """
        _check(typed, k, 0, None)
        return self._opened.lasting.completer.suggest(_readable(typed[:_MAX_TYPED]), int(k))

    @property
    def log(self) -> FeedbackLog:
        """Writes what was shown and clicked where the settings say. Raises ConfigError where they do not."""
        log = self._feedback_log
        log.version = self.version.name  # another one, once the engine follows a merge
        return log

    @cached_property
    def _feedback_log(self) -> FeedbackLog:
        if not self.config.log:
            raise ConfigError(
                "there is no log; name its directory with the setting log, as SearchConfig(log='shop-log')"
            )
        return FeedbackLog(self.config.log, version=self.version.name, keep_days=self.config.log_days)

    @on_snapshot
    def needs(self) -> list[tuple[ShownNeed, str]]:
        """What the lexicon of needs asks for in each category, with the title of the product that meets it best."""
        needs = self._reader.needs
        found = list(shown(needs, self._columns)) if needs else []
        return [(need, self._products[need.best].title) for need in found]

    def _reserve_ms(self, k: int, explain: bool, n_facets: int) -> float:
        """What of a deadline the stages after ranking will need."""
        n_hits = min(k, len(self))
        expected = {"hydrate": n_hits, "describe": 1, "explain": n_hits if explain else 0, "facets": n_facets}
        return sum(self._latencies[stage].upper * n for stage, n in expected.items())

    def _timed(self, stage: str, elapsed_ms: float, n: int) -> None:
        if n:
            self._latencies[stage].add(elapsed_ms / n)


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
