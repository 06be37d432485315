"""The protocol of selection on made-up problems, whose right choice is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.nested import Family, PerCatalog, Span, Values, chosen, interval, mean, paired, select

CATALOGS = ("a", "b", "c", "d")
SIMPLE = Family("simple", {"x": Span(0, 1)}, {"x": 0.5})
COMPLEX = Family("complex", {f"y{i}": Span(0, 1) for i in range(4)}, {f"y{i}": 0.0 for i in range(4)})
Truth = Callable[[str, Values], NDArray[np.float64]]


class MadeUp:
    """A scorer by a function of catalog and values. ``asked`` are the catalogs and values of ``means``."""

    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self.asked: list[tuple[str, Values]] = []

    def means(self, asked: Sequence[tuple[str, Values]]) -> list[float]:
        self.asked += asked
        return [float(self._truth(*pair).mean()) for pair in asked]

    def per_query(self, catalog: str, values: Values) -> NDArray[np.float64]:
        return self._truth(catalog, values)


def noise(catalog: str, name: str, n: int = 40) -> NDArray[np.float64]:
    """Each query's liking of a setting, of no meaning; the same whenever it is asked for."""
    seed = [CATALOGS.index(catalog), *name.encode()]
    return np.random.default_rng(seed).normal(0, 1, n)


def misleading(catalog: str, values: Values) -> NDArray[np.float64]:
    """The best place of the complex family's settings is another in every catalog: choosing there fits noise."""
    places = np.random.default_rng(list(catalog.encode())).random(4)
    wiggles = sum(
        0.2 * np.cos(6 * np.pi * (values[f"y{i}"] - place)) - 0.2 * np.cos(6 * np.pi * place)
        for i, place in enumerate(places)
        if f"y{i}" in values
    )
    return 0.5 - (values["x"] - 0.4) ** 2 + wiggles + 0.1 * noise(catalog, "base")


def helpful(catalog: str, values: Values) -> NDArray[np.float64]:
    """The complex family has one setting that helps everywhere, some queries more than others."""
    gain = 0.3 * (1 - (values["y0"] - 0.7) ** 2 / 0.49) if "y0" in values else 0.0
    best_x = 0.4 + 0.05 * CATALOGS.index(catalog)
    return 0.5 - (values["x"] - best_x) ** 2 + gain * (1 + 0.2 * noise(catalog, "gain")) + 0.1 * noise(catalog, "base")


@pytest.mark.parametrize("seed", range(5))
def test_what_only_fits_noise_is_seen_and_not_kept(seed: int) -> None:
    simple, other = select([SIMPLE, COMPLEX], CATALOGS, MadeUp(misleading), 40, seed)
    assert mean(other.fit.in_sample) > mean(simple.fit.in_sample) + 0.05  # it looks better where it was chosen
    assert other.difference <= other.error
    assert other.verdict != "kept"
    assert chosen([simple, other]) is simple.fit
    assert "y0" not in chosen([simple, other]).values


@pytest.mark.parametrize("seed", range(5))
def test_what_helps_everywhere_is_kept_and_its_numbers_are_found(seed: int) -> None:
    steps = select([SIMPLE, COMPLEX], CATALOGS, MadeUp(helpful), 40, seed)
    assert [step.kept for step in steps] == [True, True]
    assert steps[1].difference == pytest.approx(0.3, abs=0.06)
    best = chosen(steps)
    assert best.values["y0"] == pytest.approx(0.7, abs=0.15)
    assert best.values["x"] == pytest.approx(0.475, abs=0.15)
    assert mean(best.left_out) == pytest.approx(mean(best.in_sample), abs=0.02)


def test_numbers_are_chosen_without_the_catalog_that_is_left_out() -> None:
    def only_a(catalog: str, values: Values) -> NDArray[np.float64]:
        """Catalog a wants x at 0, the others at 1."""
        return np.full(3, 1 - abs(values["x"] - (0.0 if catalog == "a" else 1.0)))

    [step] = select([SIMPLE], CATALOGS, MadeUp(only_a), 40, seed=0)
    assert step.fit.of_fold["a"]["x"] > 0.9
    assert mean({"a": step.fit.left_out["a"]}) < 0.1
    assert all(step.fit.of_fold[name]["x"] > 0.5 for name in "bcd")

    changed = MadeUp(lambda catalog, values: only_a(catalog, values) * (0 if catalog == "b" else 1))
    [other] = select([SIMPLE], CATALOGS, changed, 40, seed=0)
    assert other.fit.of_fold["b"] == step.fit.of_fold["b"]  # whatever b says


def test_a_family_that_does_nothing_is_not_kept_and_leaves_the_numbers_alone() -> None:
    idle = Family("idle", {"z": Span(0, 1)}, {"z": 0.0})
    first, second, third = select([SIMPLE, idle, COMPLEX], CATALOGS, MadeUp(helpful), 24, seed=3)
    assert not second.kept
    assert third.kept
    assert [family.name for family in third.fit.families] == ["simple", "complex"]
    assert "z" not in third.fit.values
    assert first.kept


def test_a_family_is_tried_with_those_it_needs() -> None:
    gate = Family("gate", {"g": Span(0, 1)}, {"g": 0.5}, {"mode": "on"})
    behind = Family("behind", {"h": Span(0, 1)}, {"h": 0.0}, needs=("gate",))

    def gated(catalog: str, values: Values) -> NDArray[np.float64]:
        helps = values.get("h", 0.0) if values.get("mode") == "on" else 0.0
        return 0.5 + 0.3 * helps - (0.05 if values.get("mode") == "on" else 0.0) + 0.01 * noise(catalog, "base")

    steps = select([SIMPLE, gate, behind], CATALOGS, MadeUp(gated), 24, seed=1)
    assert [(step.family.name, step.kept) for step in steps] == [
        ("simple", True), ("gate", False), ("gate + behind", True),
    ]  # fmt: skip
    assert chosen(steps).values["mode"] == "on"
    assert chosen(steps).values["h"] > 0.8


def test_what_gains_too_little_alone_is_kept_with_what_it_gains_together() -> None:
    """The first helps one catalog much and others hardly, the second those others."""
    halves = [Family(name, {name: Span(0, 1)}, {name: 0.0}) for name in ("left", "right")]
    harm = Family("harm", {"harm": Span(0.5, 1)}, {"harm": 1.0})

    def shared(catalog: str, values: Values) -> NDArray[np.float64]:
        left, right = {"a": (0.2, 0), "b": (0.04, 0), "c": (-0.035, 0.2), "d": (0, 0.15)}[catalog]
        gain = left * values.get("left", 0.0) + right * values.get("right", 0.0) - values.get("harm", 0.0)
        return 0.5 + gain + 0.01 * noise(catalog, "base")

    steps = select([SIMPLE, halves[0], harm, halves[1]], CATALOGS, MadeUp(shared), 32, seed=2)
    assert [step.verdict for step in steps] == ["kept", "on trial", "dropped", "kept"]
    assert [family.name for family in chosen(steps).families] == ["simple", "left", "right"]
    assert mean(steps[1].fit.left_out) > mean(steps[0].fit.left_out)
    assert chosen(steps[:3]) is steps[0].fit


def test_the_same_seed_makes_the_same_choice_and_the_first_trial_is_the_start() -> None:
    scorers = [MadeUp(helpful) for _ in range(3)]
    first, again, other = (
        select([SIMPLE, COMPLEX], CATALOGS, s, 16, seed) for s, seed in zip(scorers, (1, 1, 2), strict=True)
    )
    assert scorers[0].asked == scorers[1].asked
    assert [step.fit.values for step in first] == [step.fit.values for step in again]
    assert [step.fit.values for step in first] != [step.fit.values for step in other]
    assert scorers[0].asked[0] == ("b", {"x": 0.5})  # of the fold without a


def test_each_catalog_has_one_vote() -> None:
    of_catalogs: PerCatalog = {"large": np.zeros(1_000), "small": np.ones(2)}
    assert mean(of_catalogs) == 0.5


def test_the_standard_error_is_that_of_paired_queries() -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 5, 200)  # how hard a query is takes no part in a difference
    simpler: PerCatalog = {"a": hard, "b": hard[:50]}
    other: PerCatalog = {name: v + rng.normal(0.1, 1, len(v)) for name, v in simpler.items()}
    difference, error = paired(simpler, other)
    by_query = np.sqrt(np.var((other["a"] - hard), ddof=1) / 200 + np.var(other["b"] - hard[:50], ddof=1) / 50) / 2
    by_catalog = np.std([(other[name] - simpler[name]).mean() for name in "ab"], ddof=1) / np.sqrt(2)
    assert error == pytest.approx(max(by_query, by_catalog))
    assert abs(difference - 0.1) < 4 * error
    assert error < 0.15


def test_catalogs_that_disagree_make_the_error_large_however_many_queries_they_have() -> None:
    simpler: PerCatalog = {name: np.zeros(10_000) for name in CATALOGS}
    other: PerCatalog = {
        name: np.full(10_000, gain) for name, gain in zip(CATALOGS, (0.3, -0.3, 0.2, 0.1), strict=True)
    }
    difference, error = paired(simpler, other)
    assert difference == pytest.approx(0.075)
    assert error == pytest.approx(np.std([0.3, -0.3, 0.2, 0.1], ddof=1) / 2)


def test_the_interval_covers_the_mean_of_catalogs() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for seed in range(60):
        drawn = {"a": rng.normal(0.2, 0.3, 60), "b": rng.normal(0.6, 0.3, 30)}
        low, high = interval(drawn, seed, resamples=400)
        hits += low <= 0.4 <= high
    assert hits >= 50


@pytest.mark.parametrize("span", [Span(0.1, 4, log=True), Span(0, 1), Span(2, 40, log=True, whole=True)])
def test_a_span_goes_from_end_to_end_and_back(span: Span) -> None:
    values = [span.value(unit) for unit in np.linspace(0, 1, 11)]
    assert (values[0], values[-1]) == (span.low, span.high)
    assert values == sorted(values)
    assert [span.value(span.unit(value)) for value in values] == values
    assert span.unit(span.high * 2) == 1.0
