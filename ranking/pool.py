"""One pool of threads that serves many searches fairly."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from heapq import heappop, heappush
from itertools import count
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class FairPool(Generic[T]):
    """Runs jobs on ``threads`` threads, the earliest due first, whoever asked first among those due at once.

    When everyone asks with the time at which the job would begin if they were alone, all get the same share of a busy
    pool, and nobody waits for ever (start-time fair queueing, Goyal, Vin and Cheng 1996).
    """

    def __init__(self, threads: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="rerank")
        self._waiting: list[tuple[float, int, Future[T], Callable[[], T]]] = []
        self._numbers = count()
        self._lock = Lock()

    def submit(self, due: float, job: Callable[[], T]) -> Future[T]:
        """The job's future; cancelled before it began, the job does not run."""
        future: Future[T] = Future()
        with self._lock:
            heappush(self._waiting, (due, next(self._numbers), future, job))
        self._executor.submit(self._run_next)
        return future

    def _run_next(self) -> None:
        with self._lock:
            _, _, future, job = heappop(self._waiting)
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(job())
        except BaseException as error:  # or whoever waits for it would wait for ever
            future.set_exception(error)
