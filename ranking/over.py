"""What rerankers of lists share: each stands over the index's own reranker, which may be none."""

from __future__ import annotations

import copy
from typing import Self

from engine.adapters import Adapter
from engine.errors import AdapterError
from engine.seams import Adaptable, Reranker


class OverReranker:
    """Takes the adapters that the reranker ``first`` under it takes."""

    def __init__(self, first: Reranker | None) -> None:
        self._first = first

    def adapted(self, adapter: Adapter) -> Self:
        """This one over the index's reranker with the adapter. Raises AdapterError where that takes none."""
        if not isinstance(self._first, Adaptable):
            raise AdapterError(f"the adapter {adapter.card.name} is for a cross-encoder, and this index has none")
        view = copy.copy(self)
        view._first = self._first.adapted(adapter)
        return view
