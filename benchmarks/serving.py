"""One engine in many threads and in forked workers: the same answers as one thread gives, and what memory is shared.

Threads search for a while, each the same queries in an order of its own, and every answer is compared with that of one
thread. Workers are forked after loading, search, and tell what they hold: PSS counts a page that is shared by n
processes as a n-th of it in each, so that the sum over all of them is what the machine holds.

    python -m benchmarks.serving INDEX --seconds 60 --out serving.json
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec

from benchmarks.indexes import write_atomically
from engine import SearchConfig, SearchEngine

_FORK = multiprocessing.get_context("fork")
_QUERY_WORDS = 4  # of a title, which are a query

Answer = tuple[tuple[str, float], ...]


class Threads(msgspec.Struct, frozen=True):
    """``wrong`` answers of those that threads gave, which are to be none."""

    threads: int
    seconds: float
    searches: int
    wrong: int


class Workers(msgspec.Struct, frozen=True):
    """In MB: what the parent holds before the fork, what each worker holds, and the sum of all PSS after searches.

    ``own_mb`` is what a worker has to itself, on average.
    """

    workers: int
    parent_mb: float
    resident_mb: float
    sum_pss_mb: float
    own_mb: float


class Report(msgspec.Struct, frozen=True):
    """Both."""

    threads: Threads
    workers: Workers


def queries(engine: SearchEngine, n: int) -> list[str]:
    """Some words of ``n`` products' titles, from all over the index."""
    titles = [product.title.split() for product in engine.products()]
    step = max(1, len(titles) // n)
    return [" ".join(words[:_QUERY_WORDS]) for words in titles[::step]][:n]


def answer(engine: SearchEngine, query: str) -> Answer:
    """Ids and scores of the first twenty."""
    return tuple((hit.product.product_id, hit.score) for hit in engine.search(query, 20).hits)


def in_threads(engine: SearchEngine, asked: Sequence[str], n_threads: int, seconds: float) -> Threads:
    """Searches in threads for so long, after all queries were asked on one."""
    expected = {query: answer(engine, query) for query in asked}
    counts: Counter[str] = Counter()
    lock, started = threading.Lock(), time.perf_counter()

    def work(seed: int) -> None:
        chance, own = random.Random(seed), Counter[str]()
        while time.perf_counter() - started < seconds:
            query = chance.choice(asked)
            own["wrong"] += answer(engine, query) != expected[query]
            own["searches"] += 1
        with lock:
            counts.update(own)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Threads(n_threads, time.perf_counter() - started, counts["searches"], counts["wrong"])


def in_workers(engine: SearchEngine, asked: Sequence[str], n_workers: int) -> Workers:
    """Forks workers, has all of them search, and reads what each holds while all are there. Linux only."""
    parent = held_mb()["Rss"]
    workers = []
    for _ in range(n_workers):
        mine, theirs = _FORK.Pipe()
        process = _FORK.Process(target=_serve, args=(engine, asked, theirs))
        process.start()
        workers.append((process, mine))
    for _, pipe in workers:
        pipe.recv()  # it has searched
    held = []
    for _, pipe in workers:
        pipe.send("tell")
        held.append(pipe.recv())
    own = held_mb()["Pss"]
    for process, pipe in workers:
        pipe.send("end")
        process.join()
    private = [of["Private_Clean"] + of["Private_Dirty"] for of in held]
    return Workers(
        n_workers, parent, sum(of["Rss"] for of in held) / n_workers, own + sum(of["Pss"] for of in held),
        sum(private) / n_workers,
    )  # fmt: skip


def _serve(engine: SearchEngine, asked: Sequence[str], pipe: Connection) -> None:
    for query in asked:
        engine.search(query)
    pipe.send("done")
    while pipe.recv() != "end":
        pipe.send(held_mb())


def held_mb() -> dict[str, float]:
    """What this process holds, by the names of Linux's ``smaps_rollup``, in MB."""
    text = Path("/proc/self/smaps_rollup").read_text()
    return {name: int(kb) * 1024 / 1e6 for name, kb in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    # Without a reranker, whose threads do not survive a fork.
    engine = SearchEngine.load(arguments.index, SearchConfig(rerank_depth=0))
    workers = in_workers(engine, queries(engine, arguments.queries), arguments.workers)
    engine = SearchEngine.load(arguments.index)
    threads = in_threads(engine, queries(engine, arguments.queries), arguments.threads, arguments.seconds)
    text = msgspec.json.format(msgspec.json.encode(Report(threads, workers)))
    print(text.decode())
    if arguments.out:
        write_atomically(arguments.out, text)


if __name__ == "__main__":
    main()
