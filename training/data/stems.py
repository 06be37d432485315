"""When two queries count as the same."""

from __future__ import annotations

from engine.analysis.analyzer import Analyzer


class Stems:
    """What makes two queries the same for a split: the set of their stems, in whatever order."""

    def __init__(self) -> None:
        self._analyzer = Analyzer()

    def __call__(self, query: str) -> str:
        terms = {term.text for term in self._analyzer.analyze(query) if term.kind != "joined"}
        return " ".join(sorted(terms)) or query.casefold()
