"""A file of rules that is read again when it changes: each search asks, which costs a look at the file's date.

A new file that cannot be used changes nothing: the rules read before go on to hold, and searches say so.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from threading import Lock

from engine.errors import RulesError
from engine.rules.matching import RuleIndex, WordReader
from engine.rules.schema import parse_rules, read_file

logger = logging.getLogger(__name__)

_SETTLED = 0.1  # seconds; of a file that changed so lately the date may hide one more change

_Seen = tuple[int, int, int]
_UNSETTLED: _Seen = (-1, -1, -1)  # as no file is: the next search reads it again


class LiveRules:
    """The rules that a file has now. Thread-safe; a search that began with some keeps them."""

    def __init__(self, path: str | Path, words: WordReader) -> None:
        """Raises RulesError."""
        self._path, self._words, self._lock = Path(path), words, Lock()
        self._seen: _Seen | None = _UNSETTLED
        self._data = read_file(self._path)
        self._index = RuleIndex(parse_rules(self._data, str(self._path)), words)
        #: Why the file as it is now does not hold; empty where it does.
        self.problem = ""

    def current(self) -> RuleIndex:
        """The rules, read again where the file is another than it was."""
        seen = _seen(self._path)
        if seen != self._seen and self._lock.acquire(blocking=False):  # who comes meanwhile gets those of before
            try:
                self._read(seen)
            finally:
                self._lock.release()
        return self._index

    def _read(self, seen: _Seen | None) -> None:
        try:
            data = read_file(self._path)
            if data != self._data or self.problem:
                self._data = data
                self._index, self.problem = RuleIndex(parse_rules(data, str(self._path)), self._words), ""
                logger.info("%s: %d rules", self._path, len(self._index))
        except RulesError as error:
            if str(error) != self.problem:
                logger.warning("%s; the rules read before go on to hold", error)
            self.problem = str(error)
        settled = seen is None or time.time() - seen[0] / 1e9 > _SETTLED
        self._seen = seen if settled else _UNSETTLED


def _seen(path: Path) -> _Seen | None:
    """What tells one file from another at a look; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
