"""What a latency profile measures, read from the command line."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.pairs import REAL
from engine.config import available_cores
from engine.errors import ConfigError

_SEARCHES = 400


@dataclass(frozen=True, slots=True)
class Plan:
    """Which combinations, and for how long.

    Every system gets ``rounds`` calls of a combination and goes on until it has taken ``seconds``; ``searches`` are
    those by each of the ``deadlines`` (ms).
    """

    reranker: str
    peer_model: Path | None
    candidates: tuple[int, ...]
    threads: tuple[int, ...]
    lengths: tuple[str, ...]
    deadlines: tuple[int, ...]
    rounds: int
    seconds: float
    seed: int
    out: Path
    command: str
    searches: int = _SEARCHES

    def __post_init__(self) -> None:
        if not self.reranker:
            raise ConfigError(
                "there is no shipped reranker to profile; give --reranker DIR, as `aisle export` makes it"
            )
        if not self.threads:
            raise ConfigError(f"--threads has no number from 1 to {available_cores()}, the cores of this process")
        if not self.candidates or not self.lengths:
            raise ConfigError("--candidates and --lengths need one number each, at least")

    def quick(self) -> Plan:
        """To try things out: its figures are not worth keeping."""
        return replace(self, candidates=(10, 50), lengths=(REAL,), rounds=2, seconds=0.0, searches=40)


def numbers(option: str, text: str) -> tuple[int, ...]:
    """Raises ConfigError on anything but whole numbers from 1, comma-separated; none are allowed."""
    parts = _parts(text)
    if not all(re.fullmatch(r"[1-9]\d*", part) for part in parts):
        raise ConfigError(f"{option} is {text!r}; write whole numbers from 1, comma-separated, as 10,50")
    return tuple(map(int, parts))


def lengths(text: str) -> tuple[str, ...]:
    """Raises ConfigError on anything but whole numbers from 1 and ``REAL``."""
    parts = _parts(text)
    numbers("--lengths", ",".join(part for part in parts if part != REAL))
    return parts


def _parts(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
