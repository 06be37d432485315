"""Searches of every kind of nonsense: no exception without a type, no answer that breaks its contract, memory flat.

Queries are words of the catalog in any order, slips, codes, measures, limits, other scripts, marks, control characters,
half characters and long texts; with them go filters, facets, deadlines, pages, groups, limits, locales and contexts, of
which many name what is not there. An ``AisleError`` is an answer; anything else that is raised is a fault.

    python -m benchmarks.fuzz --queries 100000 --out fuzz.json
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from rich.console import Console

from benchmarks.indexes import write_atomically
from benchmarks.progress import Bars
from benchmarks.scale_steps import memory_mb
from engine import AisleError, AtMost, Equal, Exists, In, Range, SearchConfig, SearchEngine, SearchResult
from engine.catalog import read_catalog
from engine.demo import SAMPLE

_WARM_UP = 0.2  # of the queries, after which memory is to stay as it is: caches are full by then
_SHOWN_FAULTS = 20
_WORDS = ("cheap", "best", "under", "below", "without", "not", "for", "with", "or", "and", "than", "like", "newest",
          "5g", "16 gb", "55 inch", "$300", "₹20,000", "4 star", "2kg", "two", "gaming", "kids", "it's", "N/A", "null",
          "-1", "冷蔵庫", "テレビ 55インチ", "móvil barato", "холодильник", "ثلاجة",
          "🧊", "١٢", "ﬁ", "İ", "ß")  # fmt: skip
_NOISE = "\x00\x1b[31m\ud800\udfff\u202e\u200b\ufeff\n\t\r\"'`\\/<>{}[]()|&;:*?%$#@!~^=+-_.,�"
_NUMBERS = (0, -1, 1.5, 1e308, float("inf"), float("nan"), 10**30, True, None, "12", "abc", "")
_LOCALES = ("", "es-MX", "ja", "xx", "en_US.UTF-8", "\x00", "ES")
_DEADLINES = (None, None, None, 0, 0.01, 1, 5, 20, 1e9, -1, float("nan"), float("inf"))


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What happened. ``faults`` are exceptions without a type and broken contracts, and are to be none; ``errors``
    counts those with a type. ``memory_mb`` is what no file backs, after a fifth of the queries and at the end.
    """

    queries: int
    answered: int
    errors: dict[str, int]
    faults: list[str]
    n_faults: int
    p50_ms: float
    p99_ms: float
    memory_mb: tuple[float, float]
    seconds: float


class Nonsense:
    """Draws arguments of searches. ``engine``'s products give words, fields and values."""

    def __init__(self, engine: SearchEngine, seed: int) -> None:
        self._chance = random.Random(seed)
        products = list(engine.products())
        self._titles = [product.title for product in products]
        self._words = [word for title in self._titles for word in title.split()]
        self._values = [
            v for p in products for v in (p.brand, p.model, p.product_id, *p.category, *p.attributes.values())
        ]
        self._fields = engine.fields

    def search(self) -> dict[str, Any]:
        """Arguments of ``SearchEngine.search``."""
        chance = self._chance
        return {
            "query": self.query(),
            "k": chance.choice((0, 1, 10, 10, 10, 50, 400)),
            "offset": chance.choice((0, 0, 0, 0, 5, 60, 1000)),
            "filters": [self._filter() for _ in range(chance.choice((0, 0, 0, 1, 1, 2, 3)))],
            "facets": [self._field() for _ in range(chance.choice((0, 0, 0, 1, 2)))],
            "deadline_ms": chance.choice(_DEADLINES),
            "explain": chance.random() < 0.1,
            "locale": chance.choice(_LOCALES),
            "group": self._field() if chance.random() < 0.2 else "",
            "at_most": [AtMost(self._field(), chance.randint(1, 3))] if chance.random() < 0.1 else None,
            "context": {"channel": self._noise(3)} if chance.random() < 0.1 else {},
        }

    def query(self) -> str:
        """A text that somebody, or something, may type."""
        chance = self._chance
        kind = chance.random()
        if kind < 0.1:
            return chance.choice(self._titles)
        if kind < 0.2:
            return self._noise(chance.randint(0, 40))
        if kind < 0.21:
            return " ".join(chance.choices(self._words, k=500))
        words = [chance.choice(self._words if chance.random() < 0.6 else _WORDS) for _ in range(chance.randint(1, 7))]
        return chance.choice((" ", " ", " ", "-", "")).join(self._slipped(word) for word in words)

    def _slipped(self, word: str) -> str:
        chance = self._chance
        if chance.random() < 0.8 or not word:
            return word
        at = chance.randrange(len(word))
        letter = chance.choice("aeiou12 " + _NOISE)
        return chance.choice((word[:at] + letter + word[at:], word[:at] + word[at + 1 :], word.upper(), word * 2))

    def _noise(self, length: int) -> str:
        chance = self._chance
        return "".join(
            chance.choice(_NOISE) if chance.random() < 0.7 else chr(chance.randrange(0x20, 0x2FFFF))
            for _ in range(length)
        )

    def _field(self) -> str:
        chance = self._chance
        if chance.random() < 0.85:
            return chance.choice((*self._fields, "family"))
        return chance.choice(("nothing", "", "attributes.", self._noise(4)))

    def _value(self) -> Any:
        chance = self._chance
        return chance.choice(self._values) if chance.random() < 0.7 else chance.choice(_NUMBERS)

    def _filter(self) -> Any:
        chance, field = self._chance, self._field()
        kind = chance.randrange(4)
        if kind == 0:
            return Exists(field)
        if kind == 1:
            return In(field, [self._value() for _ in range(chance.randint(0, 4))])
        if kind == 2:
            low, high = chance.choice(_NUMBERS), chance.choice(_NUMBERS)
            return Range(chance.choice(("price", "rating", field)), low, high)  # type: ignore[arg-type]
        return Equal(field, self._value())


def broken(asked: dict[str, Any], result: SearchResult) -> str:
    """What of a search's contract an answer breaks; empty where it breaks nothing."""
    ids, scores = [hit.product.product_id for hit in result.hits], [hit.score for hit in result.hits]
    if len(ids) > asked["k"]:
        return f"{len(ids)} hits for k={asked['k']}"
    if len(set(ids)) < len(ids):
        return "a product twice"
    if not np.isfinite(scores).all() or any(after > before + 1e-6 for before, after in pairwise(scores)):
        return "scores that are no numbers, or rise"
    if [hit.rank for hit in result.hits] != list(range(asked["offset"] + 1, asked["offset"] + 1 + len(ids))):
        return "ranks that do not follow each other"
    return "" if set(result.facets) == set(asked["facets"]) else "other facets than those asked for"


def run(engine: SearchEngine, n: int, seed: int, tick: Callable[[], None] = lambda: None) -> Report:
    """Asks ``n`` searches."""
    nonsense, errors, faults, took = Nonsense(engine, seed), Counter[str](), list[str](), list[float]()
    started, n_faults, warm = time.perf_counter(), 0, memory_mb()[1]
    for number in range(n):
        if number == int(_WARM_UP * n):
            warm = memory_mb()[1]
        asked, begun = dict[str, Any](), time.perf_counter()
        try:
            asked = nonsense.search()  # a filter may refuse what it is given as well
            fault = broken(asked, engine.search(**asked))
        except AisleError as error:
            errors[type(error).__name__] += 1
            fault = ""
        except Exception:
            fault = traceback.format_exc(limit=-4)
        took.append(1e3 * (time.perf_counter() - begun))
        if fault:
            n_faults += 1
            faults += [f"{asked!r}: {fault}"] if len(faults) < _SHOWN_FAULTS else []
        tick()
    return Report(
        queries=n, answered=n - errors.total() - n_faults, errors=dict(errors), faults=faults, n_faults=n_faults,
        p50_ms=float(np.percentile(took, 50)), p99_ms=float(np.percentile(took, 99)),
        memory_mb=(warm, memory_mb()[1]), seconds=time.perf_counter() - started,
    )  # fmt: skip


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--rerank", action="store_true", help="with reranking, which takes ten times as long")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args(given)
    search = SearchConfig(threads=1) if arguments.rerank else SearchConfig(threads=1, rerank_depth=0)
    with tempfile.TemporaryDirectory() as temporary, Bars(Console(stderr=True)) as bars:
        SearchEngine.build(read_catalog(SAMPLE), Path(temporary) / "index", progress=bars.report)
        engine = SearchEngine.load(Path(temporary) / "index", search)
        with bars.counting("queries", arguments.queries) as tick:
            report = run(engine, arguments.queries, arguments.seed, tick)
    text = msgspec.json.format(msgspec.json.encode(report))
    print(text.decode())
    if arguments.out:
        write_atomically(arguments.out, text)
    return 1 if report.n_faults else 0


if __name__ == "__main__":
    sys.exit(main())
