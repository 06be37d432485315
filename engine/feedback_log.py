"""What was shown and what was clicked, appended to files as it happens.

Each process writes files of its own below one directory, so that none waits for another, and each event is one write of
one line: what a call has returned from survives the process. Clicks name the page they are on by its id, whichever
process showed it; ``engine.feedback_rows`` brings both together for training.

A line is a JSON object. ``shown``: ``id``, ``time`` (seconds since 1970), ``query``, ``products`` in their order,
``offset`` (ranks before the first), ``version`` of the index, and where there are any ``session``, ``rules``,
``experiment`` with ``arm`` or ``teams``. ``clicked`` and ``purchased``: ``id``, ``time`` and ``product_id``.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, Literal
from weakref import WeakSet

import msgspec

from engine.errors import InvalidQueryError
from engine.types import SearchResult

logger = logging.getLogger(__name__)

SUFFIX = ".events.jsonl"
_DAY = 86_400.0

Event = Literal["shown", "clicked", "purchased"]


class FeedbackLog:
    """A log of one shop's searches. Thread-safe, and safe in processes that fork.

    Serving goes on where it cannot be written: then events are dropped, counted and told in a warning.
    """

    def __init__(
        self, directory: str | Path, *, version: str = "", max_bytes: int = 64_000_000, keep_days: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        """``version`` is that of the index that is searched. A file is closed once it has ``max_bytes``; files that
        nobody has written to for ``keep_days`` are deleted then, 0 keeps them.
        """
        self._directory, self._version = Path(directory), version
        self._max_bytes, self._keep_days, self._clock = max_bytes, keep_days, clock
        self._lock, self._file, self._size, self._owner = Lock(), -1, 0, 0
        #: Events that could not be written.
        self.dropped = 0
        _LOGS.add(self)

    def shown(
        self, result: SearchResult, *, session: str = "", products: Sequence[str] | None = None, experiment: str = "",
        arm: str = "", teams: Sequence[str] = (),
    ) -> str:  # fmt: skip
        """Writes that a page was shown; returns its id, which clicks on it name.

        ``products`` are the ids that were shown where those are others than the result's, in their order. ``session``
        is whatever the shop calls a visit; nothing of the shopper is written but that and the query. ``experiment`` is
        the one that the search is part of, with its ``arm``, or with the team of each product.
        """
        ids = [hit.product.product_id for hit in result.hits] if products is None else list(products)
        if teams and len(teams) != len(ids):
            raise InvalidQueryError(f"teams has {len(teams)} names for {len(ids)} products; give one for each")
        page = secrets.token_hex(8)
        event: dict[str, Any] = {
            "event": "shown", "id": page, "time": self._clock(), "query": result.query, "products": ids,
            "offset": result.hits[0].rank - 1 if result.hits else 0, "version": self._version,
        }  # fmt: skip
        more = {"session": session, "rules": result.rules, "experiment": experiment, "arm": arm, "teams": teams}
        self._write(event | {name: value for name, value in more.items() if value})
        return page

    def clicked(self, page: str, product_id: str) -> None:
        """Writes that a product of a page was clicked."""
        self._write({"event": "clicked", "id": page, "time": self._clock(), "product_id": product_id})

    def purchased(self, page: str, product_id: str) -> None:
        """Writes that a product of a page was bought."""
        self._write({"event": "purchased", "id": page, "time": self._clock(), "product_id": product_id})

    def close(self) -> None:
        """Closes the file; what is written later goes to another."""
        with self._lock:
            self._close()

    def _write(self, event: dict[str, Any]) -> None:
        line = msgspec.json.encode(_encodable(event)) + b"\n"
        with self._lock:
            try:
                self._open()
                written = os.write(self._file, line)
                self._size += written
                if written < len(line):
                    self._close()  # what follows must not be of the same line
                    raise OSError(f"{written} of {len(line)} bytes were written")
            except OSError as error:
                self.dropped += 1
                if self.dropped & (self.dropped - 1) == 0:  # the 1st, 2nd, 4th, 8th, …
                    logger.warning("%s: %d events could not be written: %s", self._directory, self.dropped, error)

    def _open(self) -> None:
        """Opens a file of this process where there is none, or the last one is full."""
        if self._owner == os.getpid() and self._size < self._max_bytes and self._file >= 0:
            return
        self._close()  # after a fork it is the parent's as well, who goes on to write to it
        self._directory.mkdir(parents=True, exist_ok=True)
        self._delete_old()
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._clock()))
        path = self._directory / f"{moment}-{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size, self._owner = 0, os.getpid()

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def _delete_old(self) -> None:
        if not self._keep_days:
            return
        for path in self._directory.glob(f"*{SUFFIX}"):
            if self._clock() - path.stat().st_mtime > self._keep_days * _DAY:
                path.unlink(missing_ok=True)


_LOGS: WeakSet[FeedbackLog] = WeakSet()


def _renew_locks() -> None:
    """In a child: another thread of the parent may have been writing as it forked, and is not here to let go."""
    for log in _LOGS:
        log._lock = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


def _encodable(value: Any) -> Any:
    """Without the half characters that no encoding of text has."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, dict):
        return {key: _encodable(item) for key, item in value.items()}
    return [_encodable(item) for item in value] if isinstance(value, list | tuple) else value
