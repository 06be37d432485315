"""Rewriting: where the first results look poor, the query is asked once more in other words, and both answers fused.

Poor is what the reranker says: the most probable product of the first results is hardly what was asked for. The
reranker, which reads the shopper's own words, then orders the products of both answers, so that a rewrite that misses
the point adds little.
"""

from __future__ import annotations

from engine.fusion import WeightedFusion
from engine.seams import Rewriter
from engine.types import Candidates, Rewrite

_MAX_REWRITE = 200  # characters; longer ones are no query


class Rewriting:
    """A rewriter and when it is asked: where the best probability is under ``below``. What the rewrite finds counts
    ``weight`` of what the query itself does."""

    def __init__(self, rewriter: Rewriter, below: float, weight: float) -> None:
        self._rewriter, self.below = rewriter, below
        self._fuse = WeightedFusion((1.0, weight), (0.0, 0.0), (1.0, 1.0))

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
