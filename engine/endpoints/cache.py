"""Answers of an endpoint on disk, and what they cost: no prompt is paid for twice, whatever was killed between."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path

from engine.errors import EndpointError

_TABLES = """
CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS costs (cost REAL NOT NULL);
"""


class AnswerCache:
    """One SQLite file. Every answer is on disk before the next is asked for. Threads may share it."""

    def __init__(self, path: Path) -> None:
        """Raises EndpointError where the file is none of SQLite's or cannot be written."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30)
            self._file.executescript(f"PRAGMA journal_mode=WAL;{_TABLES}")
        except (sqlite3.Error, OSError) as error:
            raise EndpointError(
                f"the answers in {path} cannot be kept ({error}); name another file as cache"
            ) from error
        self._lock = threading.Lock()

    def get(self, key: str) -> str | None:
        with self._lock:
            row = self._file.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def put(self, key: str, answer: str) -> None:
        with self._lock:
            self._file.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, answer))

    def spend(self, cost: float) -> None:
        with self._lock:
            self._file.execute("INSERT INTO costs VALUES (?)", (cost,))

    @property
    def spent(self) -> float:
        """What all answers cost that were ever paid for with this file, also those that could not be used."""
        with self._lock:
            return float(self._file.execute("SELECT COALESCE(SUM(cost), 0) FROM costs").fetchone()[0])

    def close(self) -> None:
        with self._lock:
            self._file.close()


def cache_key(parts: Sequence[str]) -> str:
    """A digest of what an answer depends on, in order."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()
