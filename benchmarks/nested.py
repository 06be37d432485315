"""Nested cross-validation: which family of settings, and which numbers in it, hold on a catalog nobody tuned for.

Families are ordered from simple to complex; each adds settings to those kept before it. For each family every catalog
is left out in turn: the numbers are chosen by the mean over the others alone, and what they score on the one left out
is what the family is judged by. A family is kept only where its left-out mean beats that of the simpler one by more
than the standard error of the difference (the one-standard-error rule of Breiman et al. 1984); so ties go to the
simpler. One that gains, but too little to be kept, stays on trial: later ones are tried on top of it, and it is kept
if they are. Last, the numbers of the families kept are chosen on all catalogs together. On why: Varma and Simon 2006,
"Bias in error estimation when using cross-validation for model selection".

Numbers are looked for by random search (Bergstra and Bengio 2012), then by small moves from the best found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

#: A setting's value by its name.
Values = dict[str, Any]
#: Per catalog, a figure for each of its queries, float64 (n_queries,).
PerCatalog = dict[str, NDArray[np.float64]]

_RANDOM_SHARE = 1 / 3  # of the trials of a search
GENERATION = 8  # trials proposed at once, so that they can be run beside each other
_ELITE = 4
_MOVED_SHARE = 0.4  # of the settings in one local move
_WIDTHS = (0.2, 0.04)  # standard deviation of a local move at the start and at the end, of a setting's range


@dataclass(frozen=True, slots=True)
class Span:
    """From ``low`` to ``high``. ``log`` spreads trials evenly over orders of magnitude; ``whole`` keeps to integers."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def value(self, unit: float) -> float:
        """The setting at ``unit`` in 0..1, rounded to what matters."""
        if self.log:
            found = math.exp(math.log(self.low) + unit * math.log(self.high / self.low))
        else:
            found = self.low + unit * (self.high - self.low)
        return round(found) if self.whole else round(found, 3)

    def unit(self, value: float) -> float:
        """The inverse of ``value``; what is outside goes to the nearer end."""
        value = min(max(value, self.low), self.high)
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True, slots=True)
class Family:
    """Settings that belong together: ``switches`` are set as they are, ``ranges`` are searched from ``start``.

    ``needs`` names families before it that it does nothing without: where they were not kept, it is tried with them.
    """

    name: str
    ranges: Mapping[str, Span]
    start: Mapping[str, float]
    switches: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()

    def with_needed(self, families: Sequence[Family], kept: Sequence[Family]) -> Family:
        """This family together with those it needs that were not kept."""
        have = {family.name for family in kept}
        parts = [family for family in families if family.name in self.needs and family.name not in have] + [self]
        return Family(
            " + ".join(part.name for part in parts),
            {name: span for part in parts for name, span in part.ranges.items()},
            {name: value for part in parts for name, value in part.start.items()},
            {name: value for part in parts for name, value in part.switches.items()},
        )


class Scorer(Protocol):
    """Says how good values are on catalogs. ``means`` answers many at once and may remember what it answered."""

    def means(self, asked: Sequence[tuple[str, Values]]) -> list[float]: ...

    def per_query(self, catalog: str, values: Values) -> NDArray[np.float64]: ...


@dataclass(frozen=True)
class Fit:
    """The families kept and one more, with their numbers.

    ``of_fold`` are the values chosen with a catalog left out, and ``left_out`` what they score on it; ``values`` those
    chosen on all catalogs, and ``in_sample`` what these score on each.
    """

    families: tuple[Family, ...]
    of_fold: dict[str, Values]
    left_out: PerCatalog
    values: Values
    in_sample: PerCatalog


@dataclass(frozen=True)
class Step:
    """A family, with those on trial, beside those kept: ``difference`` of left-out means, and its standard error.

    The first family has nothing simpler beside it, and is kept.
    """

    family: Family
    fit: Fit
    difference: float = 0.0
    error: float = 0.0
    verdict: Literal["kept", "on trial", "dropped"] = "kept"

    @property
    def kept(self) -> bool:
        return self.verdict == "kept"


def select(
    families: Sequence[Family], catalogs: Sequence[str], scorer: Scorer, trials: int, seed: int,
    done: Callable[[Step], None] = lambda _: None,
) -> list[Step]:  # fmt: skip
    """A step for each family, in order; the last that was kept is what is chosen. ``done`` is told each step.

    ``trials`` are those of one search; there are as many searches for a family as catalogs, and one more.
    """
    steps: list[Step] = []
    best: Fit | None = None
    tried: Fit | None = None  # what the next family is tried on top of
    for plain in families:
        family = plain.with_needed(families, tried.families if tried else ())
        fit = _fit(family, tried, catalogs, scorer, trials, seed)
        if best is None or tried is None:
            step = Step(family, fit)
        else:
            difference, error = paired(best.left_out, fit.left_out)
            gains = mean(fit.left_out) > mean(tried.left_out)
            step = Step(
                family, fit, difference, error, "kept" if difference > error else "on trial" if gains else "dropped"
            )
        best = fit if step.kept else best
        tried = tried if step.verdict == "dropped" else fit
        steps.append(step)
        done(step)
    return steps


def chosen(steps: Sequence[Step]) -> Fit:
    """What ``select`` ended with."""
    return next(step.fit for step in reversed(steps) if step.kept)


def mean(of_catalogs: PerCatalog) -> float:
    """The mean over catalogs of the mean over queries: each catalog has one vote."""
    return float(np.mean([values.mean() for values in of_catalogs.values()]))


def paired(simpler: PerCatalog, other: PerCatalog) -> tuple[float, float]:
    """The difference of ``mean``, other − simpler, and its standard error.

    That is the larger of two: over queries, catalogs being given, and over catalogs, which is what a catalog that
    nobody tuned for has to fear.
    """
    differences = [other[name] - values for name, values in simpler.items()]
    n = len(differences)
    by_query = math.sqrt(sum(d.var(ddof=1) / len(d) for d in differences if len(d) > 1)) / n
    of_catalogs = [d.mean() for d in differences]
    by_catalog = float(np.std(of_catalogs, ddof=1)) / math.sqrt(n) if n > 1 else 0.0
    return float(np.mean(of_catalogs)), max(by_query, by_catalog)


def interval(of_catalogs: PerCatalog, seed: int, resamples: int = 1_000) -> tuple[float, float]:
    """The 95 % bootstrap interval of ``mean``: queries are drawn anew within each catalog."""
    rng = np.random.default_rng(seed)
    drawn = np.mean(
        [
            values[rng.integers(0, len(values), (resamples, len(values)))].mean(axis=1)
            for values in of_catalogs.values()
        ],
        axis=0,
    )
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)


def _fit(family: Family, before: Fit | None, catalogs: Sequence[str], scorer: Scorer, trials: int, seed: int) -> Fit:
    """Searches the family's numbers, and anew those before it, once with each catalog left out and once with none."""
    families = (*(before.families if before else ()), family)
    folds = [[name for name in catalogs if name != left_out] for left_out in catalogs]
    starts = [dict(before.of_fold[name]) if before else {} for name in catalogs] + [
        dict(before.values if before else {})
    ]
    searches = [
        _Search(families, {**start, **family.switches, **family.start}, judges, trials, seed)
        for start, judges in zip(starts, [*folds, list(catalogs)], strict=True)
    ]
    for first in range(0, trials, GENERATION):
        proposed = [search.propose(min(GENERATION, trials - first)) for search in searches]
        asked = [
            (catalog, values)
            for search, batch in zip(searches, proposed, strict=True)
            for values in batch
            for catalog in search.catalogs
        ]
        answers = iter(scorer.means(asked))
        for search, batch in zip(searches, proposed, strict=True):
            search.learn(batch, [float(np.mean([next(answers) for _ in search.catalogs])) for _ in batch])
    of_fold = {name: search.best for name, search in zip(catalogs, searches, strict=False)}
    values = searches[-1].best
    return Fit(
        families, of_fold, {name: scorer.per_query(name, of_fold[name]) for name in catalogs},
        values, {name: scorer.per_query(name, values) for name in catalogs},
    )  # fmt: skip


class _Search:
    """Looks for the values that are best on the mean of ``catalogs``. The first trial is ``start``; what comes later
    must be better to take its place.
    """

    def __init__(
        self, families: Sequence[Family], start: Values, catalogs: Sequence[str], trials: int, seed: int
    ) -> None:
        self.catalogs = catalogs
        self._ranges = {name: span for family in families for name, span in family.ranges.items()}
        self._new = np.array([name in families[-1].ranges for name in self._ranges])
        self._start, self._trials, self._seed = start, trials, seed
        self._tried: list[tuple[float, int, Values]] = []

    @property
    def best(self) -> Values:
        return self._elite()[0]

    def propose(self, n: int) -> list[Values]:
        return [self._proposal(len(self._tried) + ahead) for ahead in range(n)]

    def learn(self, batch: Sequence[Values], scores: Sequence[float]) -> None:
        for values, score in zip(batch, scores, strict=True):
            self._tried.append((-score, len(self._tried), values))

    def _elite(self) -> list[Values]:
        return [values for _, _, values in sorted(self._tried, key=lambda trial: trial[:2])[:_ELITE]]

    def _proposal(self, number: int) -> Values:
        """The trial of this number, from the seed and what was found so far, and nothing else."""
        if not number:
            return self._start
        rng = np.random.default_rng([self._seed, number])
        n_random = max(1, round(self._trials * _RANDOM_SHARE))
        if number <= n_random or not self._tried:
            return self._at(np.where(self._new, rng.random(len(self._new)), self._point(self._start)))
        progress = (number - n_random) / max(1, self._trials - n_random)
        width = _WIDTHS[0] * (_WIDTHS[1] / _WIDTHS[0]) ** progress
        elite = self._elite()
        moved = rng.random(len(self._new)) < _MOVED_SHARE
        moved[rng.integers(len(moved))] = True
        start = self._point(elite[int(rng.integers(len(elite)))])
        return self._at(np.clip(start + moved * rng.normal(0, width, len(moved)), 0, 1))

    def _point(self, values: Values) -> NDArray[np.float64]:
        return np.array([span.unit(values[name]) for name, span in self._ranges.items()])

    def _at(self, point: NDArray[np.float64]) -> Values:
        found = {name: span.value(float(unit)) for (name, span), unit in zip(self._ranges.items(), point, strict=True)}
        return {**self._start, **found}
