"""What an engine does with a live index: change it, follow it, merge it. ``SearchEngine`` inherits this."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import msgspec

from engine.errors import AisleError, UpdateError
from engine.product import Product
from engine.seams import RerankerModel, RouterModel
from engine.storage.locks import writing
from engine.updates.changes import Change, Commit, added, deleted, updated
from engine.updates.live import LiveIndex, SupersededError
from engine.updates.merge import Progress, merge

if TYPE_CHECKING:
    from engine.search import SearchEngine

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")
WAIT_S = 10.0  # for another writer


class Health(msgspec.Struct, frozen=True):
    """How an engine is. ``commits``, ``log_bytes``, ``put``, ``patched`` and ``dead`` grow until a merge.

    ``loaded_s`` is how long ago the version was loaded; ``refresh_error`` why following the index last failed, or
    empty; ``merging`` whether a merge goes on in the background, and ``merge_error`` why the last one there failed.
    """

    directory: str
    version: str
    n_products: int
    commits: int
    log_bytes: int
    put: int
    patched: int
    dead: int
    loaded_s: float
    refresh_error: str = ""
    merging: bool = False
    merge_error: str = ""


def on_snapshot(method: Callable[Concatenate[SearchEngine, P], R]) -> Callable[Concatenate[SearchEngine, P], R]:
    """Runs a method on what the index is now, from its beginning to its end."""

    @wraps(method)
    def call(self: SearchEngine, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return method(self.snapshot(), *args, **kwargs)

    return call


class LiveUpdates:
    """Changes are collected by ``add``, ``update`` and ``delete``, and made at once by ``commit``."""

    version: Path
    _live: LiveIndex[Any] | None = None
    _reload: Callable[[], SearchEngine] | None = None

    def _follow(
        self, live: LiveIndex[Any], reload: Callable[[], SearchEngine],
        models: tuple[RerankerModel | None, RouterModel | None],
    ) -> None:  # fmt: skip
        """``models`` are those that were given in place of the index's own."""
        self._models = models
        live.current = copy(self)  # a snapshot follows nothing
        self._live, self._reload = live, reload
        self._pending: list[Change] = []
        self._refreshing = threading.RLock()
        self._loaded = time.monotonic()
        self._refresh_error = self._merge_error = ""
        self._merging = threading.Lock()

    def snapshot(self) -> SearchEngine:
        """The index as it is now, which no later change reaches."""
        here: Any = self
        now: SearchEngine = here if self._live is None or self._live.current is None else self._live.current
        return now

    def products(self) -> Iterator[Product]:
        """The products there are as this is called, in the order of the index; none that is added later."""
        now = self.snapshot()
        return (now._products[row] for row in now._columns.rows.tolist())

    def add(self, products: Iterable[Product | Mapping[str, object]]) -> None:
        """Adds products at the next commit, in place of those of the same ids. Raises UpdateError on what is none."""
        self._changes().extend(list(added(products)))

    def update(self, products: Iterable[Product | Mapping[str, object]]) -> None:
        """Changes products at the next commit: records whole, or mappings of ``product_id`` and the fields to set.

        A field set to its default, such as ``None`` for a price, has no value afterwards. Raises UpdateError.
        """
        self._changes().extend(list(updated(products)))

    def delete(self, product_ids: Iterable[str]) -> None:
        """Deletes products at the next commit; ids that are not there are passed over. Raises UpdateError."""
        self._changes().extend(list(deleted(product_ids)))

    def commit(self, changes: Iterable[Change] = (), *, wait_s: float = WAIT_S) -> Commit:
        """Makes what was collected, and then ``changes``, last and visible, all of it or nothing.

        When this returns it is on the disk, and new searches of this engine see it; other engines see it when they
        refresh. Waits ``wait_s`` for another writer. Raises UpdateError where a change cannot be made,
        IndexLockedError, IndexCorruptError and OSError; whatever is raised, nothing has changed, and nothing stays
        collected.
        """
        collected = self._changes()
        self._pending = []
        wanted = [*collected, *changes]
        assert self._live is not None
        if not wanted:
            return Commit(0)
        with self._refreshing, writing(self._live.index, "committing changes", wait_s):
            self._refresh()
            done = self._live.commit(wanted)
        self._merge_where_due()
        return done

    def _merge_where_due(self) -> None:
        """Merges in the background, where the settings want that and enough has changed."""
        here: Any = self
        share, live = here.config.merge_share, self._live
        assert live is not None
        pending = live.state.pending
        if (
            not share
            or pending["put"] + pending["dead"] < share * live.state.n_built
            or not self._merging.acquire(False)
        ):
            return

        def work() -> None:
            try:
                self.merge()
                self._merge_error = ""
            except (AisleError, OSError) as error:
                self._merge_error = str(error)
                logger.warning("merging failed", exc_info=True)
            finally:
                self._merging.release()

        # No daemon: a process that ends waits for it, so that no half of a build is left behind.
        threading.Thread(target=work, name="aisle-merge").start()

    def refresh(self) -> bool:
        """Lets new searches see what other processes have committed, merged or rolled back; whether there was anything.

        Costs two looks at the file system where there is nothing. A new version is loaded beside the old one, which
        answers until then. Raises what ``load`` raises, and then all stays as it is.
        """
        self._changes()
        with self._refreshing:
            return self._refresh()

    def _refresh(self) -> bool:
        assert self._live is not None
        assert self._reload is not None
        try:
            return self._live.refresh()
        except SupersededError:
            fresh = self._reload()
            live = fresh._live
            assert live is not None
            self._live, self.version, self._loaded = live, fresh.version, time.monotonic()
            here: Any = self
            here.manifest = fresh.manifest
            return True

    def merge(self, progress: Progress = lambda *_: None) -> bool:
        """Publishes a version of the products there are, with which the log of changes begins anew, and follows it.

        Whether there was anything to merge. Searches and commits, here and elsewhere, go on meanwhile. Raises what a
        build raises, and UpdateError where another version was published meanwhile.
        """
        self._changes()
        with self._refreshing:
            self._refresh()
            now, n_commits = self.snapshot(), self.info().commits
        return merge(now, n_commits, progress, *self._models) and self.refresh()

    def watch(self, interval_s: float = 1.0) -> Callable[[], None]:
        """Refreshes every ``interval_s`` seconds on a thread of its own, until what is returned is called.

        A forked process has no such thread: call this after the fork. What goes wrong is told by ``info``.
        """
        self._changes()
        stop = threading.Event()

        def follow() -> None:
            while not stop.wait(interval_s):
                try:
                    self.refresh()
                    self._refresh_error = ""
                except (AisleError, OSError) as error:
                    self._refresh_error = str(error)

        threading.Thread(target=follow, name="aisle-watch", daemon=True).start()
        return stop.set

    def info(self) -> Health:
        """How the engine is, for a health check: costs nothing and reads no file."""
        self._changes()
        live = self._live
        assert live is not None
        return Health(
            str(live.index), live.version.name, live.state.n_alive, live.n_commits, live.log_bytes,
            **live.state.pending, loaded_s=time.monotonic() - self._loaded, refresh_error=self._refresh_error,
            merging=self._merging.locked(), merge_error=self._merge_error,
        )  # fmt: skip

    def _changes(self) -> list[Change]:
        if self._live is None:
            raise UpdateError(
                "this engine is a view of another at one moment; change and refresh the one it was made of"
            )
        return self._pending
