"""Progress on stderr, for builds and queries."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

_EVERY = 0.2  # seconds between two drawings


class Bars:
    """A set of bars. As a context manager it draws them; outside of one it counts in silence.

    Draws only when it is told of progress, never from a thread of its own, which would slow the searches being timed.
    """

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console, auto_refresh=False)
        self._stages: dict[str, TaskID] = {}
        self._drawn = 0.0

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        """A line above the bars."""
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def report(self, stage: str, done: int, total: int | None) -> None:
        """A build's progress; a stage that ended and starts over is a new build."""
        task = self._stages.get(stage)
        if task is None or self._progress.tasks[task].finished:
            task = self._stages[stage] = self._progress.add_task(f"index: {stage}", total=total)
        self._progress.update(task, completed=done, total=total)
        self._draw()

    @contextmanager
    def counting(self, name: str, total: int) -> Iterator[Callable[[], None]]:
        """A bar that every call of what it gives moves by one."""
        task = self._progress.add_task(name, total=total)

        def tick() -> None:
            self._progress.advance(task)
            self._draw()

        yield tick

    def _draw(self) -> None:
        now = time.monotonic()
        if now - self._drawn >= _EVERY:
            self._drawn = now
            self._progress.refresh()
