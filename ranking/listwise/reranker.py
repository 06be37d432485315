"""A listwise reranker behind the seam: a language model orders what the index's own reranker found best.

The probabilities are those of the index's reranker, dealt out anew in the model's order: a model that only orders says
nothing of how probable a product is. Where time, tokens or the model fail, what was ordered so far stands, and the
rest is as the index's reranker has it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from engine.errors import AisleError
from engine.latency import LatencyEstimate
from engine.seams import ProductSource, Reranker
from engine.types import Rows, Scored, Scores
from ranking.cache import Recent
from ranking.listwise.decoders import Decoder, open_decoder
from ranking.listwise.defence import held
from ranking.listwise.permutation import Permutation
from ranking.listwise.prompts import Prompts, rendered
from ranking.listwise.readings import Reader
from ranking.listwise.settings import ListwiseSettings
from ranking.listwise.windows import windows
from ranking.over import OverReranker

_CACHED = 2_000  # windows
_RENDERED = 20_000  # products
_log = logging.getLogger(__name__)


class ListwiseModel:
    """Implements ``engine.seams.ListModel``: a directory with ``listwise.toml``."""

    def __init__(self, directory: Path, **changes: Any) -> None:
        """``changes`` take the place of what the file says. Raises ConfigError naming file and setting."""
        self._directory = directory
        self.settings = msgspec.structs.replace(ListwiseSettings.read(directory), **changes)
        self._decoder: Decoder | None = None

    def open(self, products: ProductSource, first: Reranker | None, threads: int) -> Listwise:
        """The language model is opened once, however many are opened over it."""
        prompts = Prompts.read(self._directory / self.settings.prompts if self.settings.prompts else None)
        self._decoder = self._decoder or open_decoder(self.settings, self._directory, threads)
        return Listwise(self.settings, Reader(self._decoder, self.settings, prompts), products, first)


class Listwise(OverReranker):
    """Implements ``engine.seams.Reranker``."""

    def __init__(
        self, settings: ListwiseSettings, reader: Reader, products: ProductSource, first: Reranker | None
    ) -> None:
        super().__init__(first)
        self._settings, self._reader = settings, reader
        self._text = lru_cache(_RENDERED)(lambda row: rendered(products(np.array([row]))[0], settings.defence))
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="listwise")
        self._token_latency = LatencyEstimate()  # seconds a token of a prompt
        self._known: Recent[tuple[str, ...], Permutation] = Recent(_CACHED)

    def understands(self, query: str) -> bool:
        return self._first.understands(query) if self._first is not None else any(map(str.isalnum, query))

    def score(self, query: str, rows: Rows, deadline: float | None) -> Scored:
        """As the seam has it. ``degraded`` says that not all windows were read, or an answer had to be mended."""
        first = self._before(query, rows, deadline)
        known = np.flatnonzero(np.isfinite(first.scores))
        places = known[np.argsort(-first.scores[known], kind="stable")][: self._settings.depth]
        if len(places) < 2:
            return first
        order, problem = self._order(query, rows[places], deadline)
        scores = first.scores.copy()
        scores[places[held(order, self._settings.defence)]] = first.scores[places]
        notes = [f"{self._settings.name} ordered {len(places)}", problem, first.note]
        return Scored(scores, "; ".join(filter(None, notes)), bool(problem) or first.degraded)

    def _before(self, query: str, rows: Rows, deadline: float | None) -> Scored:
        """By the index's own reranker; without one as they come, which means no more than their order."""
        if self._first is not None:
            return self._first.score(query, rows, deadline)
        if deadline is not None and deadline <= time.perf_counter():
            return Scored(np.full(len(rows), np.nan, np.float32))
        falling: Scores = np.linspace(1, 0, len(rows) + 2, dtype=np.float32)[1:-1]
        return Scored(falling, "no reranker before: scores are places")

    def _order(self, query: str, rows: Rows, deadline: float | None) -> tuple[list[int], str]:
        """Places of ``rows`` in their new order, and what went wrong; windows from the tail, as far as they go."""
        order, problem, spent = list(range(len(rows))), "", 0
        for window in windows(len(rows), self._settings.window, self._settings.stride):
            inside = order[window.start : window.stop]
            texts = tuple(self._text(int(rows[place])) for place in inside)
            found = self._known.get((query, *texts))
            if found is None:
                cost = self._reader.cost(query, texts)
                spent += cost
                if spent > self._settings.token_ceiling:
                    return order, f"token_ceiling {self._settings.token_ceiling} reached"
                try:
                    found = self._ask(query, texts, cost, deadline)
                except AisleError as error:
                    _log.warning("a window was not read: %s", error)
                    return order, str(error)
                if found is None:
                    return order, "no time for all windows"
            order[window.start : window.stop] = [inside[place] for place in found.order]
            problem = problem or found.problem
        return order, problem

    def _ask(self, query: str, texts: Sequence[str], cost: int, deadline: float | None) -> Permutation | None:
        """None where it is not there in time; it is kept all the same when it comes."""
        left = None if deadline is None else deadline - time.perf_counter()
        if left is not None and left <= self._token_latency.upper * cost:
            self._token_latency.fade()
            return None
        future = self._pool.submit(self._read, query, texts, cost)
        try:
            return future.result(left)
        except FutureTimeoutError:
            future.cancel()
            return None

    def _read(self, query: str, texts: Sequence[str], cost: int) -> Permutation:
        began = time.perf_counter()
        found = self._reader.order(query, texts)
        self._token_latency.add((time.perf_counter() - began) / max(cost, 1))
        self._known.put((query, *texts), found)
        return found
