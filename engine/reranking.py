"""The last stages of a ranking: the reranker's word on the best candidates, and how it is weighed against the rest."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from engine.columns import Columns
from engine.config import SearchConfig
from engine.features import features
from engine.fusion import reranked
from engine.lexical.retriever import LexicalRetriever
from engine.seams import Combiner, Reranker
from engine.types import Candidates, Features, Rows, Scores

if TYPE_CHECKING:
    from engine.ranker import Request

logger = logging.getLogger(__name__)

RERANK, COMBINE = "rerank", "combine"  # the stages, as reports and traces name them
_Stages = tuple[tuple[str, Candidates], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Combined:
    """What a combiner made of ``rows``: their features, float32 (n, len(FEATURES)), and scores, float32 (n,)."""

    combiner: Combiner
    rows: Rows
    values: Features
    scores: Scores

    def parts(self, row: int) -> tuple[tuple[str, float], ...]:
        """What each feature adds to the log-odds of ``row``'s score; none of a row that was not weighed."""
        place = np.flatnonzero(self.rows == row)
        return self.combiner.parts(self.values[place[0]]) if len(place) else ()


@dataclass(frozen=True, slots=True, eq=False)
class Reranked:
    """``final`` is the new order, ``stages`` what these two gave; ``combined`` is None without the second of them."""

    final: Candidates
    stages: _Stages = ()
    combined: Combined | None = None


class Reranking:
    """Reranks the first candidates of one index. Thread-safe."""

    def __init__(
        self, config: SearchConfig, columns: Columns, lexical: LexicalRetriever | None, reranker: Reranker | None,
        combiner: Combiner | None, misfit: str = "",
    ) -> None:  # fmt: skip
        """``misfit`` says why the combiner cannot be used on this index, empty where it can."""
        self.reranker, self.combiner, self.misfit = reranker, combiner, misfit
        self._config, self._columns, self._lexical = config, columns, lexical
        self._prices = columns.numbers("price") if combiner else None

    def __call__(self, request: Request, fused: Candidates, stages: _Stages) -> Reranked:
        """The first ``rerank_depth`` candidates in a new order, and after them the others. ``stages`` ran before."""
        best = Candidates(fused.rows[: self._config.rerank_depth], fused.scores[: self._config.rerank_depth])
        reranker = request.adapted.reranker or self.reranker
        scores = self._probabilities(request, reranker, best.rows) if reranker is not None and len(best) else None
        if scores is None:
            return Reranked(fused)
        known = np.isfinite(scores)
        own: _Stages = ((RERANK, Candidates.ranked(best.rows[known], scores[known])),)
        combined = self._combine(request, best, scores, stages)
        if combined is None:
            return Reranked(reranked(fused, scores, self._config.rerank_weight), own)
        scores = np.full(len(best), np.nan, np.float32)
        scores[known] = combined.scores
        own = (*own, (COMBINE, Candidates.ranked(combined.rows, combined.scores)))
        return Reranked(reranked(fused, scores, 1.0), own, combined)

    def _probabilities(self, request: Request, reranker: Reranker, best: Rows) -> Scores | None:
        """Float32 (n,), NaN where the reranker did not get to a row; None where it got to none."""
        started = time.perf_counter()
        if not reranker.understands(request.meant):
            request.report(RERANK, started, len(best), 0, "the query holds no word that the model knows", "skipped")
            return None
        deadline = None if request.deadline is None else request.deadline - request.reserve_ms / 1e3
        try:
            scored = reranker.score(request.meant, best, deadline)
        except Exception as error:
            logger.warning("reranking failed", exc_info=True)
            request.report(RERANK, started, len(best), 0, f"{type(error).__name__}: {error}", "degraded")
            return None
        n_known, notes = int(np.isfinite(scored.scores).sum()), [scored.note] if scored.note else []
        if n_known < len(best):
            left = [] if request.deadline is None else [f"{max(request.remaining_ms, 0):.1f} ms left"]
            notes = [f"{n_known} of {len(best)} scored", *left, *notes]
        if request.adapted.reranker:
            notes = [request.adapted.note, *notes]
        whole = n_known == len(best) and not scored.degraded
        request.report(RERANK, started, len(best), n_known, "; ".join(notes), "ran" if whole else "degraded")
        return scored.scores if n_known else None

    def _combine(self, request: Request, best: Candidates, probabilities: Scores, stages: _Stages) -> Combined | None:
        """The candidates that have a probability, weighed; None where there is no combiner, or it cannot be used."""
        if self.combiner is None:
            return None
        started = time.perf_counter()
        if self.misfit:
            request.report(COMBINE, started, len(best), 0, self.misfit, "degraded")
            return None
        if request.evidence is None or self._lexical is None:
            why = "it weighs what words and meaning found together, and there is no such thing"
            request.report(COMBINE, started, len(best), 0, why, "skipped")
            return None
        known = np.isfinite(probabilities)
        try:
            values = features(
                best, probabilities, request.evidence, self._lexical.terms(request.query), request.guidance, stages,
                self._columns, self._prices,
            )[known]  # fmt: skip
            scores = self.combiner.scores(values)
        except Exception as error:
            logger.warning("combining failed", exc_info=True)
            request.report(COMBINE, started, len(best), 0, f"{type(error).__name__}: {error}", "degraded")
            return None
        request.report(COMBINE, started, len(best), len(scores))
        return Combined(self.combiner, best.rows[known], values, scores)
