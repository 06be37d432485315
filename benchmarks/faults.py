"""Kills writers at random moments, flips bits, and checks that an index holds what was acknowledged.

A quarter of the writers have a disk that is slow and takes a part of what it is given, a quarter a clock that goes
backwards (``benchmarks.hardships``).
A child process updates, merges, rolls back and prunes an index, and says after each commit what was acknowledged, until
it is killed with SIGKILL after a random time. Then the index is opened: it must hold the last acknowledged state, or
that of the commit under way, which may have become durable before anybody could say so.

    python -m benchmarks.faults --kills 1000 --out faults.json
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec
from rich.console import Console

from benchmarks.hardships import HARDSHIPS, hardship_of
from benchmarks.progress import Bars
from engine import EngineConfig, IndexConfig, IndexCorruptError, IndexMismatchError, Product, SearchConfig, SearchEngine
from engine.storage.versions import prune, rollback

_SETTINGS = EngineConfig(
    index=IndexConfig(encoder="", reranker="", router=""),
    search=SearchConfig(rerank_depth=0, needs="", understand=(), threads=1),
)
_PRODUCTS = 40
_MOST_SAID = 24  # messages of a child, two a step, after which it is killed
_LONGEST_S = (0.005, 0.05, 0.4)  # that it then lives on, at most: a commit takes the first, a build the last
_PATIENCE_S = 20.0
_LOG_FLIPS, _FILE_FLIPS = 200, 3  # bits of the log, and of each file of a version
_FORK = multiprocessing.get_context("fork")

State = dict[str, float | None]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What happened. ``lost`` and ``wrong`` are to be 0, ``unnoticed`` as well.

    ``killed_in`` counts kills by what was under way, ``killed_with`` by what made it hard, ``acknowledged`` the
    commits; ``ahead`` says how often the commit under way had become durable.
    """

    kills: int
    killed_in: dict[str, int]
    killed_with: dict[str, int]
    acknowledged: int
    ahead: int
    lost: int
    wrong: int
    flips: int
    unnoticed: int
    seconds: float


def run(
    kills: int, seed: int = 7, directory: Path | None = None, tick: Callable[[], None] = lambda: None
) -> Report:  # fmt: skip
    """Makes an index, in a temporary directory where none is given, and torments it. Who interrupts it gets the report
    of what was done.
    """
    with tempfile.TemporaryDirectory() as temporary:
        index = (directory or Path(temporary)) / "index"
        return _torment(index, kills, random.Random(seed), tick)


def _torment(index: Path, kills: int, chance: random.Random, tick: Callable[[], None]) -> Report:
    started = time.perf_counter()
    SearchEngine.build(_products(_PRODUCTS), index, _SETTINGS)
    known = _held(index)
    killed_in, killed_with, counts = Counter[str](), Counter[str](), Counter[str]()
    with suppress(KeyboardInterrupt):
        for number in range(kills):
            doing, acknowledged, possible = _killed(index, number, chance, known)
            killed_in[doing] += 1
            killed_with[hardship_of(number)] += 1
            counts["acknowledged"] += acknowledged
            tick()
            try:
                held = _held(index)
            except Exception as error:
                print(f"kill {number} in {doing}: {type(error).__name__}: {error}")
                counts["wrong"] += 1
                continue
            if held not in possible:
                counts["lost"] += 1
                print(f"kill {number} in {doing}: the index holds something else")
            counts["ahead"] += held != possible[0]
            known = held
    flips, unnoticed = _flip(index, chance)
    return Report(
        kills=killed_in.total(), killed_in=dict(killed_in), killed_with=dict(killed_with),
        acknowledged=counts["acknowledged"], ahead=counts["ahead"], lost=counts["lost"], wrong=counts["wrong"],
        flips=flips, unnoticed=unnoticed, seconds=time.perf_counter() - started,
    )  # fmt: skip


def _killed(index: Path, number: int, chance: random.Random, known: State) -> tuple[str, int, list[State]]:
    """Has a writer work on an index that holds ``known`` and kills it: what it was doing, how many steps it said were
    done, and what the index may hold: what was acknowledged, and then what was under way.
    """
    reader, writer = _FORK.Pipe(duplex=False)
    child = _FORK.Process(target=_work, args=(index, writer, number))
    child.start()
    writer.close()
    assert child.pid is not None
    said_before = _listened(reader, chance.randrange(_MOST_SAID))
    time.sleep(chance.uniform(0, chance.choice(_LONGEST_S)))
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    doing, acknowledged, possible = "loading", 0, [known]
    for said, state in (*said_before, *_messages(reader)):
        doing = said
        if said == "done":
            acknowledged, possible = acknowledged + 1, [state]
        elif state != possible[-1]:
            possible = [possible[0], state]
    return doing, acknowledged, possible


def _listened(reader: Connection, n: int) -> list[tuple[str, State]]:
    """What a child says first, ``n`` times, or as far as it comes in a while."""
    found: list[tuple[str, State]] = []
    while len(found) < n and reader.poll(_PATIENCE_S):
        found.append(reader.recv())
    return found


def _messages(reader: Connection) -> list[tuple[str, State]]:
    found = []
    try:
        while reader.poll(0):
            found.append(reader.recv())
    except (EOFError, OSError):
        pass  # cut off in a message: what it says was not said
    return found


def _work(index: Path, tell: Connection, seed: int) -> None:
    """Changes the index until killed. Before each step: what it would come to; after it: that it is done."""
    chance = random.Random(seed)
    HARDSHIPS[hardship_of(seed)](random.Random(seed))
    engine = SearchEngine.load(index, _SETTINGS.search)
    state = _of(engine)
    while True:
        kind = chance.choices(["update", "merge", "prune", "rollback", "build"], [12, 2, 1, 1, 1])[0]
        if kind == "update":
            after = dict(state)
            for _ in range(chance.randint(1, 5)):
                product_id = f"P{chance.randrange(2 * _PRODUCTS)}"
                if product_id not in after:
                    after[product_id] = 1.0
                    engine.add([_product(product_id, 1.0)])
                elif chance.random() < 0.3 and len(after) > 5:
                    del after[product_id]
                    engine.delete([product_id])
                else:
                    after[product_id] = price = float(chance.randrange(1, 1000))
                    engine.update([{"product_id": product_id, "price": price}])
            tell.send((kind, after))
            engine.commit()
            state = after
        elif kind == "rollback" and engine.info().commits:
            commit = chance.randrange(engine.info().commits + 1)
            before = _at_commit(index, engine, commit)
            tell.send((kind, before))
            rollback(index, f"@{commit}")
            engine.refresh()
            state = before
        else:
            tell.send((kind, state))
            if kind == "merge":
                engine.merge()
            elif kind == "prune":
                prune(index, 1)
            elif kind == "build":
                products = [_product(product_id, price) for product_id, price in state.items()]
                SearchEngine.build(products, index, _SETTINGS)
                engine.refresh()
        tell.send(("done", state))


def _at_commit(index: Path, engine: SearchEngine, commit: int) -> State:
    """What the log held after a commit, read independently of how engines do it."""
    from engine.storage.change_log import ChangeLog
    from engine.storage.products import ProductStore

    base: State = {product.product_id: product.price for product in ProductStore(engine.version)}
    states = {0: base}
    for batch, _ in ChangeLog(index, engine.version.name).read():
        if batch.undo is not None:
            states[batch.number] = states[batch.undo]
            continue
        state = dict(states[batch.number - 1])
        for product_id in batch.deletes:
            state.pop(product_id, None)
        state.update({product.product_id: product.price for product in (*batch.patches, *batch.puts)})
        states[batch.number] = state
    return states[commit]


def _held(index: Path) -> State:
    """What the index holds, each product found by its own word as well."""
    engine = SearchEngine.load(index, _SETTINGS.search)
    state = _of(engine)
    for product_id in list(state)[::9]:
        hits = engine.search(f"word{product_id}", 1).hits
        if not hits or hits[0].product.product_id != product_id:
            raise AssertionError(f"{product_id} is held and not found")
    return state


def _of(engine: SearchEngine) -> State:
    return {product.product_id: product.price for product in engine.products()}


def _flip(index: Path, chance: random.Random) -> tuple[int, int]:
    """Flips bits of the log and of every file of the version, one at a time; how many, and how many went unnoticed."""
    engine = SearchEngine.load(index, _SETTINGS.search)
    engine.update([{"product_id": next(iter(_of(engine))), "price": 12345.0}])
    engine.commit()
    files = [path for path in sorted(engine.version.rglob("*")) if path.is_file() and path.suffix != ".lock"]
    places = [(path, _FILE_FLIPS) for path in files if path.stat().st_size]
    places.append((index / "changes" / f"{engine.version.name}.log", _LOG_FLIPS))
    flips = unnoticed = 0
    for path, times in places:
        data = path.read_bytes()
        for _ in range(times):
            at, bit = chance.randrange(len(data)), 1 << chance.randrange(8)
            path.write_bytes(data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :])
            flips += 1
            try:
                SearchEngine.load(index, _SETTINGS.search)
            except (IndexCorruptError, IndexMismatchError, OSError):
                continue
            except Exception as error:
                print(f"{path.name}, byte {at}: {type(error).__name__}: {error}")
            else:
                print(f"{path.name}, byte {at}: unnoticed")
            unnoticed += 1
        path.write_bytes(data)
    return flips, unnoticed


def _products(n: int) -> list[Product]:
    return [_product(f"P{number}", 1.0) for number in range(n)]


def _product(product_id: str, price: float | None) -> Product:
    return Product(product_id=product_id, title=f"thing word{product_id}", price=price, category=("Things",))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with Bars(Console(stderr=True)) as bars, bars.counting("kills", arguments.kills) as tick:
        report = run(arguments.kills, arguments.seed, tick=tick)
    text = msgspec.json.format(msgspec.json.encode(report)).decode()
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
