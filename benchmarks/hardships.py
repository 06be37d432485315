"""What makes the life of a writer hard that is about to be killed: a slow disk, a clock that goes backwards."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from datetime import datetime, tzinfo
from typing import Any

import engine.builder

_SLOWEST_S = 0.03  # of one write or one wait for the disk
_BACK_S = 90_000.0  # that the clock goes back at most, at every look: more than a day


def slow_disk(chance: random.Random) -> None:
    """From now on this process's disk takes its time, and takes only a part of what it is given at a time."""
    fsync, pwrite = os.fsync, os.pwrite

    def slow_fsync(descriptor: Any) -> None:
        time.sleep(chance.uniform(0, _SLOWEST_S))
        fsync(descriptor)

    def short_pwrite(descriptor: int, data: bytes, offset: int) -> int:
        time.sleep(chance.uniform(0, _SLOWEST_S))
        return pwrite(descriptor, data[: chance.randint(1, len(data))] if data else data, offset)

    vars(os).update(fsync=slow_fsync, pwrite=short_pwrite)


def backward_clock(chance: random.Random) -> None:
    """From now on every build of this process is older than the one before it, by the clock."""
    gone = 0.0

    class Backward(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Backward:
            nonlocal gone
            gone += chance.uniform(0, _BACK_S)
            return cls.fromtimestamp(time.time() - gone, tz)

    vars(engine.builder)["datetime"] = Backward


#: By name; half of the writers have none.
HARDSHIPS: dict[str, Callable[[random.Random], None]] = {
    "none": lambda chance: None,
    "slow disk": slow_disk,
    "clock backwards": backward_clock,
}


def hardship_of(number: int) -> str:
    """Which one the writer of a number has."""
    return ("none", "slow disk", "none", "clock backwards")[number % 4]
