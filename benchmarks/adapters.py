"""Measures what an adapter costs: a request with one against one without, changing adapters, and adding one::

python benchmarks/adapters.py --out results/adapters.json

A merged model is a plain one of other weights: it takes as long as ``model.onnx`` does, which an adapted request, on
``adaptable.onnx``, is compared with. The two take turns, so that the machine's drifts hit both alike.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

if not __package__:  # run as a file: the repository is what is imported from, not this folder
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
import typer
from rich.console import Console

from benchmarks import options
from benchmarks.data import SAMPLE, load_set
from benchmarks.machine import machine
from benchmarks.report import table
from benchmarks.results import write_result
from benchmarks.significance import bootstrap_interval
from engine.adapters import Adapter, AdapterBase, AdapterCard, AdapterKind
from engine.catalog import read_catalog
from engine.demo import SAMPLE as CATALOG
from engine.dense.encoder import OnnxEncoder
from engine.errors import ConfigError, MissingExtraError
from ranking.cross_encoder import CrossEncoder, CrossEncoderModel

_ADDED = 10  # times


@dataclass(frozen=True, slots=True)
class Shape:
    """A reranker's: layers, and of each attention heads, neurons and activation; 384 wide, heads of 32."""

    layers: int
    heads: int
    neurons: int
    activation: str


@dataclass(frozen=True, slots=True)
class _Case:
    """One kind of request: by name, ``ask`` of a model for a text that was not asked for before."""

    name: str
    ask: Callable[[Any, str], object]


class _Stopwatch:
    """Times calls; every one gets a text that no cache has."""

    def __init__(self, queries: Sequence[str]) -> None:
        self._queries, self._number = queries, 0

    def ms(self, case: _Case, model: Any) -> float:
        self._number += 1
        text = f"{self._queries[self._number % len(self._queries)]} {100 + self._number}"
        began = time.perf_counter()
        case.ask(model, text)
        return (time.perf_counter() - began) * 1e3


def random_adapter(name: str, kind: AdapterKind, base: AdapterBase, rank: int, seed: int) -> Adapter:
    """Of small matrices on every target."""
    draw = np.random.default_rng(seed)

    def matrix(*shape: int) -> Any:
        return (draw.standard_normal(shape) * 0.02).astype(np.float32)

    pairs = {target: (matrix(n_in, rank), matrix(rank, n_out)) for target, (n_in, n_out) in base.targets.items()}
    return Adapter(AdapterCard(name=name, kind=kind, method="lora", base=base.base), pairs)


def measure(model: Any, kind: AdapterKind, rank: int, cases: Sequence[_Case], rounds: int, seed: int) -> dict[str, Any]:
    """Times of an encoder or a reranker that takes adapters; milliseconds, ratios with 95 % bootstrap intervals."""
    base = model.card.adapters
    if base is None:
        raise ConfigError(f"the {kind} {model.card.name} takes no adapters; export it with them")
    adapters = [random_adapter(name, kind, base, rank, seed + place) for place, name in enumerate("ab")]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "adapter"
        adapters[0].write(path)
        size, added = path.stat().st_size, []
        for _ in range(1 + _ADDED):
            began = time.perf_counter()
            model.adapted(Adapter.read(path))
            added.append((time.perf_counter() - began) * 1e3)
    views = [model.adapted(adapter) for adapter in adapters]
    watch = _Stopwatch(list(load_set(SAMPLE, "synthetic").queries.values()))
    return {
        "kind": kind,
        "targets": len(base.targets),
        "rank": rank,
        "bytes": size,
        "add_first_ms": added[0],
        "add_ms": float(np.median(added[1:])),
        "requests": [_compared(watch, case, model, views, rounds, seed) for case in cases],
    }


def _compared(
    watch: _Stopwatch, case: _Case, plain: Any, views: Sequence[Any], rounds: int, seed: int
) -> dict[str, Any]:  # fmt: skip
    """Plain three times, then one adapter, then the other, which is a change, then that again, which is none.

    The third of each is compared: two graphs that take turns turn each other's weights out of the processor's caches.
    """
    models = (plain, plain, plain, *views, views[1])
    for model in models:
        watch.ms(case, model)
    times = np.array([[watch.ms(case, model) for model in models] for _ in range(rounds)])
    _, _, without, _, changed, same = times.T
    logs, changes = np.log(same / without), changed - same
    low, high = bootstrap_interval(logs, seed)
    return {
        "request": case.name,
        "rounds": rounds,
        "merged_ms": float(np.median(without)),
        "adapted_ms": float(np.median(same)),
        "ratio": float(np.exp(logs.mean())),
        "ratio_interval": [float(np.exp(low)), float(np.exp(high))],
        "change_ms": float(np.median(changes)),
        "change_interval": list(bootstrap_interval(changes, seed)),
    }


class _Opened:
    """A reranker over the sample catalog, with the card that says what fits."""

    def __init__(self, directory: Path, folder: Path, threads: int) -> None:
        model, products = CrossEncoderModel(directory), list(read_catalog(CATALOG))
        folder.mkdir(parents=True)
        model.build(folder, products)
        self.card, self._reranker, self.n = model.card, model.open(folder, threads), len(products)
        self.score = self._reranker.score

    def adapted(self, adapter: Adapter) -> CrossEncoder:
        return self._reranker.adapted(adapter)


def _reranking(n_products: int, candidates: Sequence[int], seed: int) -> Iterator[_Case]:
    """With a deadline, which makes batches of 4, and without one, of up to 16."""
    rows = np.random.default_rng(seed).permutation(n_products)
    for n in candidates:
        for name, seconds in (("batches of 16", None), ("batches of 4", 60.0)):

            def score(model: Any, text: str, n: int = n, seconds: float | None = seconds) -> object:
                return model.score(text, rows[:n], None if seconds is None else time.perf_counter() + seconds)

            yield _Case(f"{n} pairs, {name}", score)


def _encoding() -> Iterator[_Case]:
    yield _Case("one query", lambda model, text: model.encode_queries([text]))


def main(
    reranker: Annotated[
        Path | None, typer.Option(help="A reranker directory that takes adapters.", show_default="random weights")
    ] = None,
    encoder: Annotated[
        Path | None, typer.Option(help="An encoder directory that takes adapters.", show_default="random weights")
    ] = None,
    targets: Annotated[str, typer.Option(help="Of random models, the layers that take matrices.")] = (
        "all,attention,query+value"
    ),
    layers: Annotated[int, typer.Option(min=1, help="Of the random reranker.")] = 4,
    heads: Annotated[int, typer.Option(min=1, max=12, help="Of each of its layers.")] = 12,
    neurons: Annotated[int, typer.Option(min=1, max=1536, help="Of each of its layers.")] = 1536,
    activation: Annotated[str, typer.Option(help="Of its neurons: gelu or relu.")] = "gelu",
    rank: Annotated[int, typer.Option(min=1, max=256, help="Of the adapters.")] = 8,
    candidates: Annotated[
        str, typer.Option(help="Pairs to score, comma-separated; with few, a change shows best.")
    ] = "1,30,50",
    threads: Annotated[int, typer.Option(min=1, help="That score.")] = 1,
    rounds: Annotated[int, typer.Option(min=2, help="Of every kind of request.")] = 60,
    trained: Annotated[
        Path | None, typer.Option(help="A run's best, whose adapter on --reranker is compared with it in torch.")
    ] = None,
    judged: Annotated[Path | None, typer.Option(help="For --trained: judged examples to compare on.")] = None,
    out: Annotated[Path, typer.Option(help="The result (JSON).")] = Path("results/adapters.json"),
    seed: options.Seed = 1,
    as_json: options.Json = False,
) -> None:
    """Measure what adapters cost: requests with one against requests of a merged model, changing and adding them.

    Without a directory, models of random weights and of MiniLM's shape are made, which needs the extra train.

    Example: python benchmarks/adapters.py --rounds 200 --threads 2
    """
    errors = Console(stderr=True)
    with options.errors_to(errors):
        if trained or judged:
            print("\n".join(_parity(reranker, trained, judged)))
            return
        shape = Shape(layers, heads, neurons, activation)
        numbers = [int(number) for number in candidates.split(",")]
        measured = []
        with TemporaryDirectory() as folder:
            work = Path(folder)
            for name, directory in _directories("reranker", reranker, targets, work, shape):
                opened = _Opened(directory, work / "tokens" / name, threads)
                cases = list(_reranking(opened.n, numbers, seed))
                measured.append({"layers": name, **measure(opened, "reranker", rank, cases, rounds, seed)})
            for name, directory in _directories("encoder", encoder, targets, work, shape):
                found = measure(OnnxEncoder(directory), "encoder", rank, list(_encoding()), rounds * 5, seed)
                measured.append({"layers": name, **found})
    result = {"measured": measured, "command": shlex.join(["python", *sys.argv]), "machine": machine()}
    write_result(out, result)
    if as_json:
        print(out.read_text(encoding="utf-8"))
        return
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table("An adapter against a merged model", list(_cells(measured))))
    console.print(f"written: {out}", highlight=False, soft_wrap=True)


def _parity(reranker: Path | None, trained: Path | None, judged: Path | None) -> list[str]:
    if not (reranker and trained and judged):
        raise ConfigError("to compare a trained adapter give all of --reranker DIR, --trained DIR and --judged FILE")
    from benchmarks import adapter_models

    return adapter_models.parity(reranker, trained, judged).table()


def _directories(
    kind: AdapterKind, given: Path | None, targets: str, work: Path, shape: Shape
) -> Iterator[tuple[str, Path]]:  # fmt: skip
    if given is not None:
        yield given.name, given
        return
    try:
        from benchmarks import adapter_models  # loads torch, which --help and wrong options need not wait for
    except ImportError as error:
        raise MissingExtraError("train", error.name or "torch") from error
    for name in targets.split(","):
        directory = work / f"{kind}-{name}"
        if kind == "reranker":
            yield name, adapter_models.write_reranker(directory, shape, name)  # type: ignore[arg-type]
        else:
            yield name, adapter_models.write_encoder(directory, 6, name)  # type: ignore[arg-type]


def _cells(measured: Sequence[dict[str, Any]]) -> Iterator[list[str]]:
    yield ["model, layers", "request", "merged, adapted", "ratio, 95 %", "changing", "adding, first", "size"]
    for model in measured:
        for request in model["requests"]:
            low, high = request["ratio_interval"]
            yield [
                f"{model['kind']}, {model['layers']}", request["request"],
                f"{request['merged_ms']:.2f}, {request['adapted_ms']:.2f} ms",
                f"{request['ratio']:.2f}, {low:.2f} to {high:.2f}", f"{request['change_ms']:+.2f} ms",
                f"{model['add_ms']:.0f} ms, {model['add_first_ms']:.0f} ms", f"{model['bytes'] / 1e6:.2f} MB",
            ]  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
