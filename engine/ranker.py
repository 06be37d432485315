"""Ranking: from a query to rows in their order.

``retrieve (lexical, dense) → fuse → feedback → constraints → boost → needs → rerank → combine → order``; where nothing
is found, the nearest; where what is found looks poor, once more in other words (``rewrite``).

Lexical retrieval is mandatory where it is configured; the stages after it are optional, and degrade visibly.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from engine.adapter_registry import NOT_ADAPTED, Adapted
from engine.analysis.analyzer import STOP_WORDS
from engine.arrangement import ARRANGE, Arrangement
from engine.columns import Columns
from engine.config import SearchConfig
from engine.dense.retriever import DenseRetriever
from engine.diversity import AtMost
from engine.domain import Domain
from engine.errors import ConfigError
from engine.features import Evidence
from engine.fusion import ReciprocalRankFusion, WeightedFusion, among, normalise, union
from engine.guidance import Guidance, require_rows
from engine.latency import LatencyEstimate
from engine.lexical.retriever import LexicalRetriever, QueryExpansion
from engine.preferences import NO_WANTS
from engine.reranking import COMBINE, Combined, Reranking
from engine.rewriting import REWRITE, Rewriting
from engine.rules.ruling import Ruling
from engine.seams import Combiner, Fusion, Reranker, Rewriter
from engine.types import Candidates, Mask, Routed, Rows, StageReport, StageStatus, StageTrace

logger = logging.getLogger(__name__)

_DEPTH_GROWTH = 4
_WANTED_SHARE = 4  # of depth: one in so many is looked for among the rows that guidance wants
_EXAMINED = 100  # products that are read for what a query excludes and for models' names


@dataclass(slots=True)
class Request:
    """One search under way: its clock and the reports so far.

    ``deadline`` is on ``time.perf_counter``'s clock; ``reserve_ms`` is what of the time before it the stages after
    ranking will need. ``meant`` is the query as it was probably meant, which models read, with what it excludes:
    products that say "without buckle" are near it. ``query``, as typed, and ``expansions`` are searched by words.
    ``locale`` is the shopper's.
    ``adapted`` has the encoder and the reranker of the adapter that was chosen.
    ``guided`` is whether the first tier, whose word holds for all, has been looked at for what ``guidance`` says.
    ``domain`` tells what is too far from the catalog, None where nothing does, and ``foreign`` is whether this query
    is: then no type is told, and no want acted on. ``lacking`` is whether no product has one of its words,
    ``relevant`` are the rows of the first tier that superlatives may put in order, ``in_category`` is whether the query
    names a category, ``near`` the cosine of the nearest product, and ``has_code`` whether a
    product has a model code of the query.
    ``last_resort`` is whether no word was found or understood, so that the most popular products were taken.
    ``evidence`` is what the latest fusion saw, None where there was nothing to fuse.
    ``context`` is what the shop says of the search, for its rules, and ``group`` the field of which one product a value
    is shown, empty for none; ``at_most`` limits how many of a value are among the first, None for those of the
    settings. ``ruling`` is what the rules say, None where there are none, and ``ruling_ms`` what they
    took so far; ``arrangement`` has the last say on the order.
    """

    query: str
    deadline: float | None
    reserve_ms: float = 0.0
    meant: str = ""
    locale: str = ""
    adapted: Adapted = NOT_ADAPTED
    guided: bool = False
    expansions: tuple[QueryExpansion, ...] = ()
    guidance: Guidance = field(default_factory=Guidance)
    evidence: Evidence | None = None
    domain: Domain | None = None
    foreign: bool = False
    last_resort: bool = False
    lacking: bool = False
    in_category: bool = False
    near: float = 1.0
    relevant: Rows = field(default_factory=lambda: np.empty(0, np.int64))
    has_code: bool = False
    context: Mapping[str, str] = field(default_factory=dict)
    group: str = ""
    at_most: Sequence[AtMost] | None = None
    ruling: Ruling | None = None
    ruling_ms: float = 0.0
    arrangement: Arrangement = field(default_factory=Arrangement)
    reports: list[StageReport] = field(default_factory=list)

    @property
    def remaining_ms(self) -> float:
        return float("inf") if self.deadline is None else (self.deadline - time.perf_counter()) * 1e3

    def report(
        self, stage: str, started: float, n_in: int, n_out: int, note: str = "", status: StageStatus = "ran"
    ) -> float:
        """Adds a report and returns the milliseconds it took since ``started``."""
        elapsed = (time.perf_counter() - started) * 1e3
        self.reports.append(StageReport(stage, status, n_in, n_out, elapsed, note))
        return elapsed


@dataclass(frozen=True, slots=True)
class Ranking:
    """The final order and, per stage, the order it had. ``combined`` is None where no combiner was asked."""

    final: Candidates
    stages: tuple[tuple[str, Candidates], ...]
    exhausted: bool
    combined: Combined | None = None

    @classmethod
    def empty(cls) -> Ranking:
        return cls(Candidates.empty(), (), True)

    def traces(self, rows: Rows, explain: bool = False) -> Iterator[tuple[StageTrace, ...]]:
        """For each row, what every stage gave it; with ``explain`` what a combiner's score is made of as well."""
        stages = [
            (stage, {row: place for place, row in enumerate(found.rows.tolist())}, found.scores.tolist())
            for stage, found in self.stages
        ]
        for row in rows.tolist():
            parts = self.combined.parts(row) if self.combined and explain else ()
            yield tuple(
                StageTrace(stage, places[row] + 1, scores[places[row]], parts if stage == COMBINE else ())
                if row in places
                else StageTrace(stage, None, None)
                for stage, places, scores in stages
            )


class Ranker:
    """Ranks the rows of one index. Thread-safe. At least one of ``lexical`` and ``dense`` is there."""

    def __init__(
        self, config: SearchConfig, columns: Columns, lexical: LexicalRetriever | None, dense: DenseRetriever | None,
        reranker: Reranker | None, combiner: Combiner | None = None, misfit: str = "",
        rewriter: Rewriter | None = None,
    ) -> None:  # fmt: skip
        """``misfit`` says why the combiner cannot be used on this index, empty where it can."""
        self.lexical, self.dense, self.reranker, self._rewriter = lexical, dense, reranker, rewriter
        self._reranking = Reranking(config, columns, lexical, reranker, combiner, misfit)
        self._config, self._columns = config, columns
        self._fusion = _fusion(config)
        self._popularity = columns.percentiles if config.popularity_weight else None
        self._rewriting = None
        if rewriter and config.rewrite_weight:
            self._rewriting = Rewriting(rewriter, config.rewrite_below, config.rewrite_weight)
        self._dense_latency = LatencyEstimate()  # in milliseconds a query

    def configured(
        self, config: SearchConfig, combiner: Combiner | None, misfit: str, rewriter: Rewriter | None = None
    ) -> Ranker:
        """The same parts with other settings and combiner, and perhaps rewriter.

        Raises ConfigError when none of its retrievers is there.
        """
        lexical = self.lexical.configured(config) if self.lexical and "lexical" in config.retrievers else None
        dense = None
        if self.dense and "dense" in config.retrievers:
            dense = DenseRetriever(self.dense.encoder, self.dense.index, config.min_similarity)
        if lexical is None and dense is None:
            raise ConfigError(f"none of {config.retrievers} was loaded with this engine")
        rewriter = rewriter or self._rewriter
        return Ranker(config, self._columns, lexical, dense, self.reranker, combiner, misfit, rewriter)

    def over(self, columns: Columns, lexical: LexicalRetriever | None, dense: DenseRetriever | None) -> Ranker:
        """The same settings and models over an index that has changed."""
        reranking = self._reranking
        return Ranker(
            self._config, columns, lexical, dense, self.reranker, reranking.combiner, reranking.misfit, self._rewriter
        )

    def rank(self, request: Request, needed: int, allowed: Mask | None) -> Ranking:
        """Ranks at least ``needed`` products, if that many match.

        Candidates come in tiers of growing depth, and a tier never changes the order of the ones before it, so that
        the next page cannot move what the last one showed. For the same reason only the first
        tier's best are reranked, and only the first tier is asked in other words.
        """
        depth = self._config.depth
        ranking = self._rank_tier(request, depth, allowed)
        new = self._reranking(request, ranking.final, ranking.stages)
        own = new.stages
        if self._rewriting:
            both = self._rewriting(request, ranking.final, own, lambda text: self._in_words(text, request, allowed))
            if both is not None:
                request.evidence = self._widened(request, both.rows)
                new = self._reranking(request, both, ranking.stages)
                own = ((REWRITE, both), *new.stages)
        final = new.final
        if request.guidance.wants.orders:
            started = time.perf_counter()
            final = request.guidance.wants.ordered(final, request.relevant, request.guidance.meets)
            own = (*own, ("order", final))
            request.report("order", started, len(final), len(final), "superlatives, or types in turn")
        started, n_found, arrangement = time.perf_counter(), len(final), request.arrangement
        final = arrangement.first(final)
        if arrangement.note:
            own = (*own, (ARRANGE, final))
            request.report(ARRANGE, started, n_found, len(final), arrangement.note)
        ranking = Ranking(final, ranking.stages + own, ranking.exhausted, new.combined)
        while len(ranking.final) < needed and not ranking.exhausted and len(ranking.final) < arrangement.most:
            depth *= _DEPTH_GROWTH
            deeper = self._rank_tier(request, depth, allowed)
            final = arrangement.deeper(ranking.final, deeper.final)
            ranking = Ranking(final, deeper.stages + own, deeper.exhausted, new.combined)
        return ranking

    def _in_words(self, text: str, request: Request, allowed: Mask | None) -> Candidates:
        """What ``request`` finds when it is asked in these words."""
        asked = replace(request, query=text, meant=text, expansions=(), reports=[])
        return self._rank_tier(asked, self._config.depth, allowed).final

    def _widened(self, request: Request, rows: Rows) -> Evidence | None:
        """The evidence with the query's cosines of all ``rows``, those that only a rewrite found among them."""
        if request.evidence is None or self.dense is None:
            return None
        rows = np.sort(rows)
        query = self.dense.adapted(request.adapted.encoder).vector(request.meant)
        return replace(request.evidence, rows=rows, cosines=_cosines(self.dense.vectors(rows), query))

    def _rank_tier(self, request: Request, depth: int, allowed: Mask | None) -> Ranking:
        stages: list[tuple[str, Candidates]] = []
        lexical = dense = None
        if self.lexical:
            started = time.perf_counter()
            lexical = self.lexical.retrieve(request.query, depth, allowed=allowed, expansions=request.expansions)
            request.report("lexical", started, len(self._columns), len(lexical))
            stages.append(("lexical", lexical))
        if self.dense:
            dense = self._retrieve_dense(request, depth, allowed)
            if dense is not None:
                stages.append(("dense", dense))
        exhausted = all(len(found) < depth for _, found in stages)
        if lexical is None or dense is None:
            final = stages[0][1] if stages else Candidates.empty()
        else:
            final = self._fuse(request, lexical, dense, allowed, stages)
        if not len(final):
            final = self._nearest(request, depth, allowed)
        return Ranking(self._guide(request, final, stages), tuple(stages), exhausted)

    def _retrieve_dense(self, request: Request, depth: int, allowed: Mask | None) -> Candidates | None:
        started = time.perf_counter()
        assert self.dense is not None
        retriever = self.dense.adapted(request.adapted.encoder)
        optional = self.lexical is not None
        if optional and all(term.text in STOP_WORDS for term in self.lexical.plan(request.query)):  # type: ignore[union-attr]
            request.report("dense", started, len(self._columns), 0, "only stop words", "skipped")
            return None
        if optional and request.remaining_ms < self._dense_latency.upper:
            note = (
                f"{max(request.remaining_ms, 0):.1f} ms left, it lately took up to {self._dense_latency.upper:.1f} ms"
            )
            self._dense_latency.fade()
            request.report("dense", started, len(self._columns), 0, note, "degraded")
            return None
        try:
            found, request.near = retriever.retrieve_near(request.meant, depth, allowed=allowed)
            # What a query wants of a type is among the candidates even where no word of it is near any product.
            if request.guidance.wanted is not None and (len(found) or request.guidance.wants):
                wanted = request.guidance.wanted if allowed is None else request.guidance.wanted & allowed
                near = retriever.index.search(retriever.vector(request.meant), depth // _WANTED_SHARE, wanted)
                found = _merged(found, near)
        except Exception as error:
            if not optional:
                raise
            logger.warning("dense retrieval failed", exc_info=True)
            request.report("dense", started, len(self._columns), 0, f"{type(error).__name__}: {error}", "degraded")
            return None
        note = request.adapted.note if request.adapted.encoder else ""
        self._dense_latency.add(request.report("dense", started, len(self._columns), len(found), note))
        return found

    def _fuse(
        self, request: Request, lexical: Candidates, dense: Candidates, allowed: Mask | None,
        stages: list[tuple[str, Candidates]],
    ) -> Candidates:  # fmt: skip
        """Fuses on cosines of all candidates, then once more after the best of them have moved the query's vector."""
        assert self.dense is not None
        started = time.perf_counter()
        rows = union([lexical, dense])
        vectors, query = self.dense.vectors(rows), self.dense.adapted(request.adapted.encoder).vector(request.meant)
        others = self._signals(request.query, rows, allowed) if self._config.fusion == "weighted" else []

        def fuse(cosines: NDArray[np.float32]) -> Candidates:
            return self._fusion([lexical, Candidates.ranked(rows, cosines), *others], len(rows))

        cosines = _cosines(vectors, query)
        fused = fuse(cosines)
        if len(rows):
            request.evidence = Evidence(rows, cosines, lexical, others[0] if others else Candidates.empty())
            request.has_code = bool(len(request.evidence.codes))
        stages.append(("fusion", fused))
        request.report("fusion", started, len(lexical) + len(dense), len(fused), self._config.fusion)
        weight, top = self._config.feedback_weight, self._config.feedback_products
        if not weight or not top or not len(fused):
            return fused
        started = time.perf_counter()
        best = vectors[np.searchsorted(rows, fused.rows[:top])]
        fused = fuse(_cosines(vectors, _moved(query, best, weight)))
        stages.append(("feedback", fused))
        request.report("feedback", started, len(rows), len(fused), f"from the best {len(best)}")
        return fused

    def _nearest(self, request: Request, depth: int, allowed: Mask | None) -> Candidates:
        """For a query that finds nothing: what is nearest to it, however far; else what is most popular."""
        started = time.perf_counter()
        if not self._config.nearest:
            return Candidates.empty()
        failed = any(report.stage == "dense" and report.status == "degraded" for report in request.reports)
        dense = self.dense and self.dense.adapted(request.adapted.encoder)
        if dense and not failed and dense.encoder.understands(request.meant):
            found, note = dense.index.search(dense.vector(request.meant), depth, allowed), "by meaning"
        else:
            rows = self._columns.rows if allowed is None else np.flatnonzero(allowed)
            liked = self._columns.percentiles
            scores = np.zeros(len(rows), np.float32) if liked is None else liked[rows]
            found, note = Candidates.ranked(rows, scores, depth), "by popularity"
            request.last_resort = True
        request.report("nearest", started, len(self._columns), len(found), f"nothing found, so the nearest {note}")
        return found

    def _guide(self, request: Request, found: Candidates, stages: list[tuple[str, Candidates]]) -> Candidates:
        """What the query's limits and its product type add and take, each as a stage of its own."""
        guidance = request.guidance
        if not len(found) or (guidance.routed is None and not guidance.constrains and guidance.wants_of is None):
            return found
        found = Candidates(found.rows, normalise(found.scores, 0.0))
        if guidance.constrains:
            started = time.perf_counter()
            found = guidance.constrained(found, _EXAMINED)
            stages.append(("constraints", found))
            request.report("constraints", started, len(found), len(found))
        started = time.perf_counter()
        if not request.guided:
            self._revise(request, found)
        if request.guidance.boosts:
            found = request.guidance.boosted(found)
            stages.append(("boost", found))
            assert request.guidance.routed is not None
            request.report("boost", started, len(found), len(found), request.guidance.routed.reason)
        wants = request.guidance.wants
        if wants:
            started = time.perf_counter()
            if not len(request.relevant):
                request.relevant = wants.relevant(found)
            found = wants.preferred(found)
            stages.append(("needs", found))
            request.report("needs", started, len(found), len(found), "; ".join(p.reason for p in wants.preferences))
        # The best counts 1 again, whatever was added, for those who blend.
        return Candidates(found.rows, found.scores + np.float32(1 - found.scores[0]))

    def _revise(self, request: Request, found: Candidates) -> None:
        """Lets the router revise the route by what was found. One that fails is left out."""
        started = time.perf_counter()
        request.guided = True
        try:
            request.guidance = request.guidance.revised(found)
            self._abstain(request)
            if request.guidance.routed is not None:
                require_rows(request.guidance.routed, len(self._columns))
        except Exception as error:
            logger.warning("routing failed", exc_info=True)
            request.report("boost", started, len(found), 0, f"{type(error).__name__}: {error}", "degraded")
            request.guidance = replace(request.guidance, routed=None)

    def _abstain(self, request: Request) -> None:
        """Takes the route and the wants back where the query asks for nothing that is near this catalog."""
        guidance = request.guidance
        if request.domain is None or self.dense is None or request.has_code or guidance.named:
            return
        limited = any(limit.kind != "color" for limit, _ in guidance.limits)  # a colour is said of anything
        refusal = request.domain.refusal(
            request.meant, self.dense.vector(request.meant), request.near, lacking=request.lacking,
            told=limited or guidance.excludes is not None or request.in_category or bool(guidance.wants.groups),
        )  # fmt: skip
        if not refusal:
            return
        request.foreign = True
        routed = request.guidance.routed
        if routed is not None:
            routed = Routed((), "none", (), refusal)
        request.guidance = replace(request.guidance, routed=routed, wants=NO_WANTS)

    def _signals(self, query: str, rows: Rows, allowed: Mask | None) -> list[Candidates]:
        """What else speaks for a candidate: the query's model codes, and popularity. Too weak for an equal vote."""
        assert self.lexical is not None
        codes = self.lexical.retrieve_codes(query, self._config.depth, allowed=allowed)
        known = among(codes.rows, rows)
        signals = [Candidates(codes.rows[known], codes.scores[known])]
        if self._popularity is not None:
            signals.append(Candidates.ranked(rows, self._popularity[rows]))
        return signals


def _merged(left: Candidates, right: Candidates) -> Candidates:
    """Both, of scores on the same scale."""
    new = ~among(right.rows, np.sort(left.rows))
    return Candidates.ranked(
        np.concatenate([left.rows, right.rows[new]]), np.concatenate([left.scores, right.scores[new]])
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


def _fusion(config: SearchConfig) -> Fusion:
    """Of the lists lexical, dense, codes and, where the catalog has it, popularity."""
    if config.fusion == "rrf":
        return ReciprocalRankFusion(config.rrf_k)
    weights = (config.lexical_weight, 1 - config.lexical_weight, config.code_weight, config.popularity_weight)
    # A lexical score of 0 is no match; of cosines, the lowest among the candidates is.
    return WeightedFusion(weights, floors=(0.0, None, 0.0, 0.0), powers=(config.lexical_power, 1.0, 1.0, 1.0))
