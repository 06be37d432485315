"""What was computed before: scores by query and row, and anything by a key."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock
from typing import Generic, TypeVar

import numpy as np

from engine.types import Rows, Scores

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """Holds at most ``capacity`` values; what was longest not asked for goes first. Thread-safe."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Key) -> Value | None:
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: Key, value: Value) -> None:
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            if len(self._values) > self._capacity:
                self._values.popitem(last=False)


class ScoreCache:
    """Holds at most ``capacity`` scores; the queries that were longest not asked for go first. Thread-safe."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._queries: OrderedDict[bytes, dict[int, float]] = OrderedDict()
        self._size = 0
        self._lock = Lock()

    def get(self, query: bytes, rows: Rows) -> Scores:
        """Float32 (n,), NaN where a score is not known."""
        with self._lock:
            known = self._queries.get(query)
            if known is None:
                return np.full(len(rows), np.nan, np.float32)
            self._queries.move_to_end(query)
            return np.array([known.get(row, np.nan) for row in rows.tolist()], np.float32)

    def put(self, query: bytes, rows: Rows, scores: Scores) -> None:
        with self._lock:
            known = self._queries.setdefault(query, {})
            self._queries.move_to_end(query)
            self._size -= len(known)
            known.update(zip(rows.tolist(), scores.tolist(), strict=True))
            self._size += len(known)
            while self._size > self._capacity:
                self._size -= len(self._queries.popitem(last=False)[1])
