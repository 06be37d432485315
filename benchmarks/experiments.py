"""What came of an experiment on shoppers, from the log that ``engine.log`` wrote::

python benchmarks/experiments.py interleaving LOG --experiment new-model
python benchmarks/experiments.py split LOG --experiment new-model
python benchmarks/experiments.py simulate --out results/experiments.json

Shoppers are what varies, so sessions are the units: pages of one are added up before anything is compared. A page
without a session is a unit of its own. ``simulate`` draws clicks whose truth is known, and tells how often each kind of
experiment raises a false alarm, and how often it sees a difference that is there.
"""

from __future__ import annotations

import shlex
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

if not __package__:  # run as a file: the repository is what is imported from, not this folder
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import msgspec
import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from benchmarks import options
from benchmarks.machine import machine
from benchmarks.report import table
from benchmarks.results import write_result
from benchmarks.significance import bootstrap_interval, permutation_p
from engine.errors import ConfigError
from engine.experiments import arm_of, team_draft
from engine.feedback_rows import Counts, Logged, Page, read_pages
from engine.product import Product
from engine.types import Hit, SearchResult

Floats = NDArray[np.float64]
_SUSPICIOUS = 0.001  # p of the numbers of units, under which the split itself is taken to be broken
_LEAST_UNITS = 2

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, add_completion=False, help="Read what came of experiments on shoppers."
)

_Log = Annotated[Path, typer.Argument(metavar="LOG", help="The directory that the setting log names.")]
_Experiment = Annotated[str, typer.Option("--experiment", help="Its name in the log.")]


@dataclass(frozen=True, slots=True)
class Preference:
    """Of an interleaving: how many units clicked more of each team's, and the mean share of clicks that b got beyond
    a's, from -1 to 1, with its 95 % interval. ``p`` is two-sided, by random signs of the units.
    """

    units: int
    pages: int
    a: int
    b: int
    ties: int
    preference: float
    interval: tuple[float, float]
    p: float


@dataclass(frozen=True, slots=True)
class Arm:
    """One arm of a split: the mean over units of the share of their pages with a click."""

    name: str
    units: int
    pages: int
    rate: float


@dataclass(frozen=True, slots=True)
class Difference:
    """Of a split: the last arm's rate less the first's, Welch's t and its two-sided p, with the 95 % interval.

    ``balance_p`` is that of the numbers of units, were the arms as large as they were meant to be.
    """

    a: Arm
    b: Arm
    difference: float
    interval: tuple[float, float]
    t: float
    p: float
    balance_p: float


def preference(pages: Iterable[Page], seed: int = 1) -> Preference:
    """What an interleaving says. Raises ConfigError where there is too little to say."""
    credit: dict[str, Floats] = defaultdict(lambda: np.zeros(2))
    n_pages = 0
    for page in pages:
        if not page.shown.teams:
            continue
        n_pages += 1
        clicked = page.clicked | page.purchased
        unit = credit[_unit(page.shown)]
        for product_id, team in zip(page.shown.products, page.shown.teams, strict=True):
            unit["ab".index(team)] += product_id in clicked
    clicks = np.array(list(credit.values())).reshape(-1, 2)
    if len(clicks) < _LEAST_UNITS:
        raise ConfigError(f"{n_pages} pages with teams are in the log; an experiment needs sessions of some shoppers")
    total = clicks.sum(axis=1)
    beyond = np.where(total > 0, (clicks[:, 1] - clicks[:, 0]) / np.maximum(total, 1), 0.0)
    return Preference(
        len(clicks), n_pages, int((beyond < 0).sum()), int((beyond > 0).sum()), int((beyond == 0).sum()),
        float(beyond.mean()), bootstrap_interval(beyond, seed), permutation_p(beyond, seed),
    )  # fmt: skip


def difference(pages: Iterable[Page], shares: Sequence[float] = (0.5, 0.5)) -> Difference:
    """What a split in two arms says; ``shares`` are those that the arms, by name, were meant to have.

    Raises ConfigError on other numbers of arms, or where there is too little to say.
    """
    from scipy import stats

    units: dict[str, dict[str, Floats]] = defaultdict(lambda: defaultdict(lambda: np.zeros(2)))
    for page in pages:
        if page.shown.arm:
            units[page.shown.arm][_unit(page.shown)] += 1, bool(page.clicked | page.purchased)
    if len(units) != 2:
        raise ConfigError(f"the log has the arms {', '.join(sorted(units)) or 'none'}; a split is compared two by two")
    both = set.intersection(*(set(of_arm) for of_arm in units.values()))
    if both:
        raise ConfigError(f"{len(both)} sessions are in both arms, such as {min(both)!r}; split by session with arm_of")
    rates, arms = [], []
    for name in sorted(units):
        counts = np.array(list(units[name].values()))
        if len(counts) < _LEAST_UNITS:
            raise ConfigError(f"arm {name!r} has {len(counts)} session; an experiment needs those of some shoppers")
        rates.append(counts[:, 1] / counts[:, 0])
        arms.append(Arm(name, len(counts), int(counts[:, 0].sum()), float(rates[-1].mean())))
    gain = arms[1].rate - arms[0].rate
    error, freedom = _welch(rates[0], rates[1])
    # Where every session of both arms did the same there is no error, and nothing to doubt.
    t = gain / error if error else float(np.sign(gain)) * float("inf") if gain else 0.0
    reach = float(stats.t.ppf(0.975, freedom)) * error if error else 0.0
    expected = np.array(shares) * sum(arm.units for arm in arms)
    balance = stats.chisquare([arm.units for arm in arms], expected).pvalue
    return Difference(
        arms[0], arms[1], gain, (gain - reach, gain + reach), t, 2 * float(stats.t.sf(abs(t), freedom)), float(balance)
    )


def _welch(left: Floats, right: Floats) -> tuple[float, float]:
    """The standard error of the difference of two means, and its degrees of freedom (Welch 1947)."""
    parts = np.array([rates.var(ddof=1) / len(rates) for rates in (left, right)])
    if not parts.sum():
        return 0.0, 1.0
    freedom = parts.sum() ** 2 / sum(
        part**2 / (len(rates) - 1) for part, rates in zip(parts, (left, right), strict=True)
    )
    return float(np.sqrt(parts.sum())), float(freedom)


def _unit(shown: Logged) -> str:
    return shown.session or shown.id


# ---------------------------------------------------------------------------------------------------------- simulation


@dataclass(frozen=True, slots=True)
class World:
    """Shoppers whose truth is known. Each query's ``products`` are liked more or less. Ranking a puts them in the order
    of that plus noise of ``noise``, and b with ``noise - better`` of the same noise: where that is 0 both are one. A
    shopper searches ``searches`` times, looks at rank k with probability
    1 / k, and clicks what is looked at with probability 0.1 + 0.6 × liking.
    """

    shoppers: int = 400
    searches: int = 3
    queries: int = 40
    products: int = 30
    depth: int = 10
    noise: float = 1.0
    better: float = 0.0


def simulated(world: World, seed: int, kind: str) -> list[Page]:
    """The pages of one made experiment, ``interleaving`` or ``split``."""
    rng = np.random.default_rng(seed)
    likings = rng.random((world.queries, world.products)) ** 3
    noise = rng.standard_normal(likings.shape)
    orders = {
        team: np.argsort(-(likings + share * noise), axis=1)
        for team, share in (("a", world.noise), ("b", world.noise - world.better))
    }
    results = {
        (team, query): _result(query, order[query, : world.depth]) for team, order in orders.items()
        for query in range(world.queries)
    }  # fmt: skip
    pages = []
    for shopper in range(world.shoppers):
        session = f"{seed}-{shopper}"
        for search in range(world.searches):
            query = int(rng.integers(world.queries))
            if kind == "interleaving":
                drawn = team_draft(results["a", query], results["b", query], world.depth, f"{session} {search}")
                hits, teams, arm = drawn.hits, drawn.teams, ""
            else:
                arm = arm_of(session, "made", {"a": 0.5, "b": 0.5})
                hits, teams = results[arm, query].hits, ()
            ids = tuple(hit.product.product_id for hit in hits)
            liked = np.array([likings[query, int(product_id)] for product_id in ids])
            looked = rng.random(len(ids)) < 1 / np.arange(1, len(ids) + 1)
            clicks = looked & (rng.random(len(ids)) < 0.1 + 0.6 * liked)
            shown = Logged(
                event="shown", id=f"{session}-{search}", time=0.0, query=str(query), products=ids, session=session,
                experiment="made", arm=arm, teams=teams,
            )  # fmt: skip
            clicked = frozenset(product_id for product_id, click in zip(ids, clicks, strict=True) if click)
            pages.append(Page(shown, clicked, frozenset()))
    return pages


def _result(query: int, order: NDArray[np.int64]) -> SearchResult:
    products = (Product(product_id=str(number), title=str(number)) for number in order.tolist())
    hits = tuple(Hit(product, rank, 1 / rank) for rank, product in enumerate(products, 1))
    return SearchResult(str(query), hits, (), len(hits))


def detections(world: World, runs: int, kind: str, level: float = 0.05) -> dict[str, float]:
    """Of so many made experiments the shares that say at this level that b is better, and that a is."""
    wins = {"a": 0, "b": 0}
    for seed in range(runs):
        pages = simulated(world, seed, kind)
        if kind == "interleaving":
            told = preference(pages)
            p, up = told.p, told.preference > 0
        else:
            compared = difference(pages)
            p, up = compared.p, compared.difference > 0
        if p < level:
            wins["b" if up else "a"] += 1
    return {team: n / runs for team, n in wins.items()}


# ------------------------------------------------------------------------------------------------------------- command


def _pages(log: Path, experiment: str) -> list[Page]:
    pages = [page for page in read_pages(log, Counts()) if page.shown.experiment == experiment]
    if not pages:
        names = sorted({page.shown.experiment for page in read_pages(log, Counts())} - {""})
        raise ConfigError(f"{log} has no page of {experiment!r}; it has {', '.join(names) or 'no experiment'}")
    return pages


def _guarded(measure: Callable[[], Any]) -> Any:
    with options.errors_to(Console(stderr=True)):
        return measure()


def _print_json(data: object) -> None:
    print(msgspec.json.format(msgspec.json.encode(data)).decode())


@app.command()
def interleaving(log: _Log, experiment: _Experiment, seed: options.Seed = 1, as_json: options.Json = False) -> None:
    """Say whose products shoppers clicked more of, where two searches shared each page (team draft).

    Example: python benchmarks/experiments.py interleaving shop-log --experiment new-model
    """
    found: Preference = _guarded(lambda: preference(_pages(log, experiment), seed))
    if as_json:
        _print_json(asdict(found))
        return
    low, high = found.interval
    print(f"{experiment}: {found.units:,} sessions, {found.pages:,} pages")
    print(f"more of a's clicked {found.a:,}, more of b's {found.b:,}, as many {found.ties:,}")
    print(f"b beyond a {found.preference:+.4f} of clicks (95 % {low:+.4f} to {high:+.4f}), p = {found.p:.4f}")


@app.command()
def split(
    log: _Log, experiment: _Experiment,
    share: Annotated[float, typer.Option(min=0.001, max=0.999, help="Of all units, those for the first arm.")] = 0.5,
    as_json: options.Json = False,
) -> None:  # fmt: skip
    """Say in which of two arms more pages were clicked on.

    Example: python benchmarks/experiments.py split shop-log --experiment new-model
    """
    found: Difference = _guarded(lambda: difference(_pages(log, experiment), (share, 1 - share)))
    if as_json:
        _print_json(asdict(found))
        return
    low, high = found.interval
    for arm in (found.a, found.b):
        print(f"{arm.name}: {arm.units:,} sessions, {arm.pages:,} pages, {arm.rate:.2%} of a session's with a click")
    told = f"{found.difference:+.2%} (95 % {low:+.2%} to {high:+.2%}), t = {found.t:.2f}, p = {found.p:.4f}"
    print(f"{found.b.name} less {found.a.name}: {told}")
    if found.balance_p < _SUSPICIOUS:
        print(f"the arms are not as large as they were meant to be (p = {found.balance_p:.1e}): mend the split first")


@app.command()
def simulate(
    runs: Annotated[int, typer.Option(min=1, help="Made experiments of each kind.")] = 200,
    out: Annotated[Path, typer.Option(help="The result (JSON).")] = Path("results/experiments.json"),
    as_json: options.Json = False,
) -> None:
    """Count false alarms, and differences that are seen, in experiments on made shoppers."""
    rows = [
        {"kind": kind, "shoppers": shoppers, "better": better, "runs": runs,
         **detections(World(shoppers=shoppers, better=better), runs, kind)}
        for kind in ("interleaving", "split")
        for better in (0.0, 0.3)
        for shoppers in (100, 400)
    ]  # fmt: skip
    result = {"rows": rows, "command": shlex.join(["python", *sys.argv]), "machine": machine()}
    write_result(out, result)
    if as_json:
        print(out.read_text(encoding="utf-8"))
        return
    head = ["kind", "shoppers", "b is better by", "says b", "says a"]
    cells = [
        [str(row["kind"]), str(row["shoppers"]), f"{row['better']:.1f} of noise", f"{row['b']:.1%}", f"{row['a']:.1%}"]
        for row in rows
    ]
    Console().print(table(f"{runs} made experiments each, at p < 0.05", [head, *cells]))


if __name__ == "__main__":
    app()
