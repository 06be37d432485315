"""What changes to a live index cost: until they are durable and visible, and to searches meanwhile.

The catalog is the sample's, varied: copy number i of a product has i in its id, its model and its title, and a price of
its own. Base vectors are random, for building them would take most of the time and no figure depends on what they are;
products that are added are encoded by the shipped encoder. There is neither a reranker nor a router in the index.

    python -m benchmarks.updates --products 50000 --out updates.json
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np

from engine import EngineConfig, IndexConfig, Product, SearchConfig, SearchEngine
from engine.catalog import read_catalog
from engine.demo import SAMPLE
from engine.dense.encoder import OnnxEncoder
from engine.seams import Embeddings

T = TypeVar("T")

_QUERIES = ("double door fridge", "samsung 55 inch tv", "washing machine 7 kg", "wireless earbuds", "laptop 16 gb ram",
            "running shoes", "mixer grinder", "phone case", "cheapest air conditioner", "led bulb")  # fmt: skip


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Times in ms unless they are named otherwise; medians where a thing was done several times."""

    products: int
    build_s: float
    load_s: float
    prices_1000_ms: float
    price_1_ms: float
    delete_1000_ms: float
    add_1000_s: float
    add_1000_encoding_s: float
    load_with_changes_s: float
    search_idle: dict[str, float]
    search_after_patches: dict[str, float]
    search_after_adds: dict[str, float]
    search_while_updating: dict[str, float]
    updates_a_second: float


class _RandomBase:
    """The shipped encoder, but for the products of the build."""

    def __init__(self) -> None:
        self.real = OnnxEncoder.named(IndexConfig().encoder)
        self.building, self.encoding_s = True, 0.0
        self._random = np.random.default_rng(7)

    @property
    def dim(self) -> int:
        return self.real.dim

    @property
    def fingerprint(self) -> str:
        return self.real.fingerprint

    def understands(self, query: str) -> bool:
        return self.real.understands(query)

    def encode_queries(self, queries: Sequence[str]) -> Embeddings:
        return self.real.encode_queries(queries)

    def encode_products(self, products: Sequence[Product]) -> Embeddings:
        if self.building:
            vectors: Embeddings = self._random.standard_normal((len(products), self.dim), np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            return vectors
        started = time.perf_counter()
        encoded = self.real.encode_products(products)
        self.encoding_s += time.perf_counter() - started
        return encoded


def varied(n: int, first: int = 0) -> Iterator[Product]:
    """``n`` products made of the sample's, from number ``first`` on."""
    sample = list(read_catalog(SAMPLE))
    for number in range(first, first + n):
        plain, copy = sample[number % len(sample)], number // len(sample)
        price = None if plain.price is None else round(plain.price * (0.8 + 0.4 * (number * 7919 % 1000) / 1000), 2)
        yield msgspec.structs.replace(
            plain, product_id=f"{plain.product_id}-{copy}", model=f"{plain.model}{copy}" if plain.model else "",
            title=f"{plain.title} V{copy}", price=price,
        )  # fmt: skip


def run(n: int, seconds: float, directory: Path) -> Report:
    encoder = _RandomBase()
    search = SearchConfig(threads=1, route_weight=0.0, rerank_depth=0)
    config = EngineConfig(index=IndexConfig(reranker="", router=""), search=search)

    def load() -> SearchEngine:
        return SearchEngine.load(directory, search, encoder=encoder, verify=False)

    build_s, _ = _timed(lambda: SearchEngine.build(varied(n), directory, config, encoder=encoder))
    encoder.building = False
    load_s, engine = _timed(load)
    ids = [product.product_id for product in islice(engine.products(), 20_000)]
    prices = []
    for round_ in range(5):
        engine.update([{"product_id": i, "price": 10.0 + round_ + k} for k, i in enumerate(ids[:1000])])
        prices.append(_timed(engine.commit)[0])
    singles = []
    for round_ in range(20):
        engine.update([{"product_id": ids[round_], "price": 5.0}])
        singles.append(_timed(engine.commit)[0])
    patched = _percentiles(_searched(engine, seconds))
    idle, updating, rate = _idle_and_updating(engine, ids, seconds)
    engine.delete(ids[-1000:])
    delete_s, _ = _timed(engine.commit)
    engine.add(list(varied(1000, n)))
    add_s, _ = _timed(engine.commit)
    return Report(
        products=n, build_s=build_s, load_s=load_s, prices_1000_ms=1e3 * float(np.median(prices)),
        price_1_ms=1e3 * float(np.median(singles)), delete_1000_ms=1e3 * delete_s, add_1000_s=add_s,
        add_1000_encoding_s=encoder.encoding_s, search_idle=_percentiles(idle), search_after_patches=patched,
        search_after_adds=_percentiles(_searched(engine, seconds)), search_while_updating=_percentiles(updating),
        updates_a_second=rate, load_with_changes_s=_timed(load)[0],
    )  # fmt: skip


def _timed(call: Callable[[], T]) -> tuple[float, T]:
    started = time.perf_counter()
    result = call()
    return time.perf_counter() - started, result


def _searched(engine: SearchEngine, seconds: float) -> list[float]:
    """Milliseconds of each search, one after the other, for so long."""
    for query in _QUERIES:
        engine.search(query)
    took, until, number = [], time.perf_counter() + seconds, 0
    while time.perf_counter() < until:
        took.append(1e3 * _timed(lambda at=number: engine.search(_QUERIES[at % len(_QUERIES)]))[0])  # type: ignore[misc]
        number += 1
    return took


def _idle_and_updating(
    engine: SearchEngine, ids: Sequence[str], seconds: float
) -> tuple[list[float], list[float], float]:
    """Searches of an idle index, searches while prices change, and how many changed a second.

    Both in turns of a second, so that what else the machine does falls on either.
    """
    idle, updating, rates = [], [], []
    for turn in range(max(1, round(seconds))):
        idle += _searched(engine, 1.0)
        took, rate = _while_updating(engine, ids, 1.0, 100 * turn)
        updating += took
        rates.append(rate)
    return idle, updating, float(np.mean(rates))


def _while_updating(
    engine: SearchEngine, ids: Sequence[str], seconds: float, first: int
) -> tuple[list[float], float]:  # fmt: skip
    """Searches while prices change one by one from id ``first`` on, each with a commit of its own, at 100 a second."""
    stop, done = threading.Event(), 0

    def update() -> None:
        nonlocal done
        begun = time.perf_counter()
        while not stop.is_set():
            engine.update([{"product_id": ids[(first + done) % len(ids)], "price": 1.0 + first + done}])
            engine.commit()
            done += 1
            time.sleep(max(0.0, begun + done / 100 - time.perf_counter()))

    thread = threading.Thread(target=update)
    thread.start()
    started = time.perf_counter()
    took = _searched(engine, seconds)
    stop.set()
    thread.join()
    return took, done / (time.perf_counter() - started)


def _percentiles(took: Sequence[float]) -> dict[str, float]:
    return {"p50": float(np.percentile(took, 50)), "p99": float(np.percentile(took, 99)), "n": len(took)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--products", type=int, default=50_000)
    parser.add_argument("--seconds", type=float, default=10.0, help="of searching, for each figure")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        report = run(arguments.products, arguments.seconds, Path(temporary) / "index")
    text = msgspec.json.format(msgspec.json.encode(report)).decode()
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
