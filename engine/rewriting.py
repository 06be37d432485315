"""Rewriting: where the first results look poor, the query is asked once more in other words, and both answers fused.

Poor is what the reranker says: the most probable product of the first results is hardly what was asked for. The
reranker, which reads the shopper's own words, then orders the products of both answers, so that a rewrite that misses
the point adds little.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from engine.fusion import WeightedFusion
from engine.latency import LatencyEstimate
from engine.reranking import RERANK
from engine.seams import Rewriter
from engine.types import Candidates, Rewrite

if TYPE_CHECKING:
    from engine.ranker import Request

logger = logging.getLogger(__name__)

REWRITE = "rewrite"  # the stage, as reports and traces name it
_MAX_REWRITE = 200  # characters; longer ones are no query


class Rewriting:
    """A rewriter and when it is asked: where the best probability is under ``below``.

    What the rewrite finds counts ``weight`` of what the query itself does. Thread-safe.
    """

    def __init__(self, rewriter: Rewriter, below: float, weight: float) -> None:
        self._rewriter, self._below = rewriter, below
        self._fuse = WeightedFusion((1.0, weight), (0.0, 0.0), (1.0, 1.0))
        self._latency = LatencyEstimate()  # in milliseconds a query

    def __call__(
        self, request: Request, first: Candidates, judged: tuple[tuple[str, Candidates], ...],
        search: Callable[[str], Candidates],
    ) -> Candidates | None:  # fmt: skip
        """``first`` and what ``search`` finds for a rewrite; None where it is left as it is.

        ``judged`` has the stages that ran on ``first``, the reranker's among them.
        """
        started, n = time.perf_counter(), len(first)
        best = next((float(found.scores[0]) for stage, found in judged if stage == RERANK and len(found)), None)
        if best is None or best >= self._below:
            note = "nothing was reranked" if best is None else f"the best product is {best:.0%} probable"
            request.report(REWRITE, started, n, n, note, "skipped")
            return None
        if request.remaining_ms - request.reserve_ms < self._latency.upper:
            note = f"{max(request.remaining_ms, 0):.1f} ms left, it lately took up to {self._latency.upper:.1f} ms"
            self._latency.fade()
            request.report(REWRITE, started, n, n, note, "degraded")
            return None
        try:
            rewrite = self.rewrite(request.meant)
        except Exception as error:
            logger.warning("rewriting failed", exc_info=True)
            request.report(REWRITE, started, n, n, f"{type(error).__name__}: {error}", "degraded")
            return None
        if rewrite is None:
            request.report(REWRITE, started, n, n, "no other words for it", "skipped")
            return None
        both = self.fused(first, search(rewrite.text))
        note = f"{request.meant} → also {rewrite.text}, for the best product is {best:.0%} probable"
        self._latency.add(request.report(REWRITE, started, n, len(both), note))
        return both

    def rewrite(self, query: str) -> Rewrite | None:
        """The best rewrite that is a query other than this one. Whatever a model said, it is text of a bounded length.

        Raises what the rewriter does.
        """
        asked = query.casefold().split()
        for found in self._rewriter.rewrite(query):
            text = "".join(c if c.isprintable() else " " for c in found.text[:_MAX_REWRITE])
            text = " ".join(text.encode(errors="ignore").decode().split())
            if any(c.isalnum() for c in text) and text.casefold().split() != asked:
                return Rewrite(text, found.score)
        return None

    def fused(self, first: Candidates, other: Candidates) -> Candidates:
        """The products of the query and those of its rewrite, the best score being 1."""
        both = self._fuse([first, other], len(first) + len(other))
        return Candidates(both.rows, both.scores / both.scores[0]) if len(both) and both.scores[0] > 0 else both
