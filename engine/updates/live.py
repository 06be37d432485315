"""A live index: one version, the log of its changes, and the snapshot that new searches see.

A search holds one snapshot from its beginning to its end. A commit or a refresh makes the next one beside it, and then
puts it in its place; nobody waits.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from engine.errors import UpdateError
from engine.product import Product
from engine.seams import Encoder
from engine.storage.change_log import Batch, ChangeLog
from engine.storage.locks import ReaderLock
from engine.storage.manifest import current_name
from engine.updates.changes import Change, Commit, is_patch, resolved
from engine.updates.state import Parts, State

logger = logging.getLogger(__name__)

S = TypeVar("S")

#: Makes a snapshot of parts, of which these columns changed since the last one, None where any may have.
Show = Callable[[Parts, set[str] | None], S]


class SupersededError(Exception):
    """The index has another version, or went back to an earlier commit: it must be loaded again."""


class LiveIndex(Generic[S]):
    """What an engine knows of the changes to the version it has loaded. Thread-safe."""

    def __init__(
        self, version: Path, state: State, show: Show[S], encoder: Callable[[], Encoder | None], lock: ReaderLock | None
    ) -> None:
        """``encoder`` is asked for when products are added; ``lock`` keeps the version from being deleted."""
        self.version, self.index = version, version.parent.parent
        self._state, self._show, self._encoder = state, show, encoder
        self._log, self._end = ChangeLog(self.index, version.name), 0
        self._changing = threading.Lock()
        self._lock = lock
        self.current: S | None = None

    def open(self) -> None:
        """Applies what was committed before. Raises IndexCorruptError."""
        batches, self._end = effective(self._log)
        for batch in batches:
            self._state.apply(batch)
        if batches:
            self._next()

    @property
    def n_commits(self) -> int:
        return self._state.n_commits

    @property
    def log_bytes(self) -> int:
        return self._end

    @property
    def state(self) -> State:
        return self._state

    def refresh(self) -> bool:
        """Applies what other engines have committed; whether there was anything. Raises SupersededError."""
        with self._changing:
            return self._catch_up()

    def commit(self, changes: Sequence[Change]) -> Commit:
        """Makes changes last, and then visible to new searches. The caller holds the writer lock.

        Raises UpdateError, and then nothing was changed, OSError, SupersededError.
        """
        with self._changing:
            self._catch_up()
            products, missing = resolved(changes, self._state.product)
            batch = self._batch(products)
            if batch is None:
                return Commit(0, missing=missing)
            self._end = self._log.append(batch, self._end)
            self._state.apply(batch)
            self._next()
            return Commit(batch.number, len(batch.puts), len(batch.patches), len(batch.deletes), missing)

    def _batch(self, products: dict[str, tuple[Product | None, Product | None]]) -> Batch | None:
        puts, patches, deletes = [], [], []
        for product_id, (before, after) in products.items():
            if after is None:
                if before is not None:
                    deletes.append(product_id)
            elif before is None or not is_patch(before, after):
                puts.append(after)
            elif before != after:
                patches.append(after)
        if not (puts or patches or deletes):
            return None
        if puts or deletes:
            self._state.require_growth()
            if self._state.n_alive + len(puts) <= len(deletes) + sum(
                products[p.product_id][0] is not None for p in puts
            ):
                raise UpdateError("no product would be left; an index has one at least. Nothing was changed")
        encoder = self._encoder() if puts else None
        vectors = encoder.encode_products(puts).astype(np.float32).tobytes() if encoder else b""
        return Batch(
            number=self._state.n_commits + 1, puts=tuple(puts), vectors=vectors, terms=self._state.analysed(puts),
            patches=tuple(patches), deletes=tuple(deletes),
        )  # fmt: skip

    def _catch_up(self) -> bool:
        if current_name(self.index) != self.version.name:
            raise SupersededError
        if self._log.size() == self._end:
            return False
        batches = list(self._log.read(self._end))
        if any(batch.undo is not None for batch, _ in batches):
            raise SupersededError
        for batch, end in batches:
            self._state.apply(batch)
            self._end = end
        if batches:
            self._next()
        return bool(batches)

    def _next(self) -> None:
        self.current = self._show(*self._state.parts())


def effective(log: ChangeLog) -> tuple[list[Batch], int]:
    """The commits that hold, after going back where that was asked for, and where the log ends."""
    batches: dict[int, Batch] = {}
    before: dict[int, int] = {}
    holds = {0: 0}  # per commit, the last that changed products of those that held then
    last = at = 0
    for batch, end in log.read():
        if batch.undo is not None:
            holds[batch.number] = holds[batch.undo]
        else:
            batches[batch.number], before[batch.number] = batch, holds[last]
            holds[batch.number] = batch.number
        last, at = batch.number, end
    kept = [Batch(number=last)] if last and holds[last] != last else []  # later commits count on
    place = holds[last]
    while place:
        kept.append(batches[place])
        place = before[place]
    return kept[::-1], at
