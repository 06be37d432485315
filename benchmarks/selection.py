"""Chooses how an index is searched: by nested cross-validation with a catalog left out whole in turn::

    python benchmarks/selection.py --sets esci:train+dev,icecat:dev,homedepot:dev@600 --out chosen.toml

The families are in ``benchmarks/families.py``, the protocol in ``benchmarks/nested.py``.
"""

from __future__ import annotations

import hashlib
import math
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

if not __package__:  # run as a file: the repository is what is imported from, not this folder
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import msgspec
import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from benchmarks import options
from benchmarks.catalogs import DEPTH, Catalogs, Figures, is_sparse, objective, parse_sources, plan, read_source
from benchmarks.data import SearchSet
from benchmarks.families import FAMILIES, settings_of
from benchmarks.indexes import Workbench, default_root, made_of, write_atomically
from benchmarks.metrics import QuickJudge
from benchmarks.nested import GENERATION, Step, Values, chosen, select
from benchmarks.plot import draw_families
from benchmarks.progress import Bars
from benchmarks.replay import Settings
from benchmarks.selection_report import CONFIGURED, IN_SAMPLE, LEFT_OUT, STOCK, Outcome, page, summary
from benchmarks.sources import engine_sources
from benchmarks.systems import factory
from engine.config import EngineConfig
from engine.errors import ConfigError

_WHOLE_POOL = 10_000  # products reranked where only the judged ones are ranked: all of them


class Shop(NamedTuple):
    """A catalog with its judged queries, and what it is indexed by."""

    found: SearchSet
    bench: Workbench


class Journal(msgspec.Struct):
    """All trials so far, and what they were run on: trials of other conditions do not compare.

    ``means`` has the objective by catalog and by checksum of the settings; ``result``, once there is one, the steps.
    """

    conditions: dict[str, str]
    means: dict[str, dict[str, float]]
    result: list[dict[str, Any]] = []


class Trials:
    """A ``Scorer`` that writes what it learns to the journal."""

    def __init__(
        self, catalogs: Catalogs, base: Settings, journal: Journal, path: Path, tick: Callable[[], None]
    ) -> None:
        self._catalogs, self._base, self._journal, self._path, self._tick = catalogs, base, journal, path, tick
        simplest = settings_of({}, base)
        figures = catalogs.measure([(name, simplest) for name in catalogs.names])
        #: By catalog, whether its judgments are sparse; measured once, so that all trials have the same objective.
        self.sparse = {name: is_sparse(found) for name, found in zip(catalogs.names, figures, strict=True)}

    def means(self, asked: Sequence[tuple[str, Values]]) -> list[float]:
        pairs = [(name, settings_of(values, self._base)) for name, values in asked]
        keys = [(name, _checksum(settings)) for name, settings in pairs]
        known = self._journal.means
        new = {key: pair for key, pair in zip(keys, pairs, strict=True) if key[1] not in known.setdefault(key[0], {})}
        for (name, key), figures in zip(new, self._catalogs.measure(list(new.values())), strict=True):
            known[name][key] = float(objective(figures, self.sparse[name]).mean())
        write_atomically(self._path, msgspec.json.encode(self._journal))
        self._tick()
        return [known[name][key] for name, key in keys]

    def per_query(self, catalog: str, values: Values) -> NDArray[np.float64]:
        [figures] = self._catalogs.measure([(catalog, settings_of(values, self._base))])
        return objective(figures, self.sparse[catalog])


def _checksum(settings: Settings) -> str:
    return hashlib.sha256(msgspec.json.encode(settings)).hexdigest()[:24]


def open_journal(path: Path, conditions: dict[str, str], resume: bool) -> Journal:
    """The journal at ``path`` when resuming, else a new one. Raises ConfigError when it is of other conditions."""
    if not resume or not path.exists():
        return Journal(conditions, {})
    try:
        journal = msgspec.json.decode(path.read_bytes(), type=Journal)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{path} cannot be resumed: {error}") from error
    changed = sorted(name for name in conditions if conditions[name] != journal.conditions.get(name))
    if changed:
        what = ", ".join(changed)
        raise ConfigError(f"{path} cannot be resumed: {what} changed since; leave out --resume to start over")
    return journal


def compared(
    catalogs: Catalogs, base: Settings, steps: Sequence[Step], stock: dict[str, Figures]
) -> dict[str, dict[str, Figures]]:
    """By system and catalog, the figures of stock parts, of ``base`` as it is, and of what was chosen."""
    best = chosen(steps)
    systems = {
        CONFIGURED: dict.fromkeys(catalogs.names, base),
        LEFT_OUT: {name: settings_of(best.of_fold[name], base) for name in catalogs.names},
        IN_SAMPLE: dict.fromkeys(catalogs.names, settings_of(best.values, base)),
    }
    asked = [(name, of_catalog[name]) for of_catalog in systems.values() for name in catalogs.names]
    figures = iter(catalogs.measure(asked))
    return {STOCK: stock} | {system: {name: next(figures) for name in catalogs.names} for system in systems}


def measure_stock(shop: Shop) -> Figures:
    system, found = factory(STOCK)(shop.bench), shop.found
    rankings = [[product_id for product_id, _ in system.rank(query, DEPTH)] for query in found.queries.values()]
    return QuickJudge(found.qrels, found.grading).judge(rankings)


def write_settings(out: Path, config: EngineConfig, settings: Settings, provenance: str) -> list[Path]:
    """The configuration at ``out``, and beside it fitted numbers where they are not those of today."""
    EngineConfig(index=config.index, search=settings.search).write(out)
    written = [out]
    today = Settings()
    for name, numbers, before in (
        ("guidance", settings.guidance, today.guidance),
        ("router", settings.router, today.router),
    ):
        if numbers != before:
            written.append(out.with_suffix(f".{name}.toml"))
            msgspec.structs.replace(numbers, provenance=provenance).write(written[-1])
    return written


def _paths(out: Path) -> tuple[Path, Path, Path]:
    found = (out.with_suffix(".json"), out.with_suffix(".md"), out.with_suffix(".png"))
    if out in found:
        raise ConfigError(f"--out is {out}; name a .toml file, as the trials go beside it as .json")
    return found


def _conditions(sets: str, seed: int, trials: int, config: EngineConfig) -> dict[str, str]:
    return {
        "sets": sets, "seed": str(seed), "trials": str(trials), "families": repr(FAMILIES), "engine": engine_sources(),
        "configuration": msgspec.json.encode(config).decode(),
        "models": msgspec.json.encode(made_of(config.index)).decode(),
    }  # fmt: skip


def run(
    shops: Mapping[str, Shop], base: Settings, journal: Journal, path: Path, trials: int, seed: int, processes: bool,
    bars: Bars,
) -> Outcome:  # fmt: skip
    """Everything that is to be said of these catalogs; ``journal`` is written to ``path`` as trials are done."""
    generations = len(FAMILIES) * math.ceil(trials / GENERATION)
    with ExitStack() as stack:
        folders = {name: Path(stack.enter_context(TemporaryDirectory(prefix="aisle-tokens-"))) for name in shops}
        plans = {name: plan(*shop, folders[name]) for name, shop in shops.items()}
        catalogs = stack.enter_context(Catalogs(plans, processes))
        tick = stack.enter_context(bars.counting("trials", generations))
        scorer = Trials(catalogs, base, journal, path, tick)
        steps = select(FAMILIES, catalogs.names, scorer, trials, seed, lambda step: bars.say(summary(step)))
        stock = {name: measure_stock(shop) for name, shop in shops.items()}
        whole = msgspec.structs.replace(base.search, rerank_depth=_WHOLE_POOL)
        stages = catalogs.stages(msgspec.structs.replace(base, search=whole))
        return Outcome(steps, scorer.sparse, compared(catalogs, base, steps, stock), stages, base, seed)


def main(
    out: options.Chosen,
    sets: options.Sets = "esci:train+dev,icecat:dev,homedepot:dev@600,sample:synthetic",
    trials: options.Trials = 32,
    seed: options.Seed = 1,
    data: options.Data = None,
    config: options.Config = None,
    index: options.Index = None,
    serial: options.Serial = False,
    resume: options.Resume = False,
) -> None:
    """Choose search settings by nested cross-validation, a catalog left out in turn, and write them for --config.

    The objective is nDCG@10 + 0.5 R@100, a vote a catalog. Choose on train and dev; test is for the end.
    """
    errors = Console(stderr=True)
    command = shlex.join(["python", *sys.argv])
    with options.errors_to(errors):
        base = EngineConfig.read(config) if config else EngineConfig()
        if not base.index.encoder:
            raise ConfigError("the configuration has no encoder, and all families search by meaning as well")
        journal_path, page_path, picture = _paths(out)
        journal = open_journal(journal_path, _conditions(sets, seed, trials, base), resume)
        with Bars(errors) as bars:
            found = [read_source(source, data, seed) for source in parse_sources(sets, least=2)]
            root = index or default_root()
            shops = {f.name: Shop(f, Workbench(f.corpus, base, root, bars.report, bars.say)) for f in found}
            outcome = run(
                shops, Settings(search=base.search), journal, journal_path, trials, seed, not serial, bars
            )  # fmt: skip
    best = settings_of(chosen(outcome.steps).values, Settings(search=base.search))
    written = write_settings(out, base, best, f"{command} ({len(shops)} catalogs, each left out in turn)")
    journal.result = outcome.plain()
    write_atomically(journal_path, msgspec.json.encode(journal))
    draw_families(outcome.plain(), picture)
    write_atomically(page_path, page(outcome, command, picture.name).encode())
    Console().print(page_path.read_text(), markup=False, highlight=False, soft_wrap=True)
    errors.print(f"written: {', '.join(map(str, [*written, journal_path, page_path, picture]))}", soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
