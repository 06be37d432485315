"""Permutation tests, intervals and Holm's correction on cases whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.significance import bootstrap_interval, compare_all, holm, permutation_p


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1.0] * 5, 2 / 32),  # only all plus and all minus are as extreme
        ([1.0, -1.0], 1.0),
        ([0.0] * 8, 1.0),
        ([3.0, 1.0, 1.0], 2 / 8),
        ([2.0, 1.0, -1.0], 6 / 8),  # |sum| ≥ 2: ±4, and four of the sums ±2
    ],
)
def test_small_samples_are_exact(differences: list[float], p: float) -> None:
    assert permutation_p(np.array(differences), seed=1) == pytest.approx(p)


def test_large_samples_agree_with_the_normal_approximation() -> None:
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 1, 400)
    shifted = noise - noise.mean() + 2 / np.sqrt(400) * noise.std()  # z = 2, so p is near 0.0455
    assert permutation_p(shifted, seed=1) == pytest.approx(0.0455, abs=0.008)
    assert permutation_p(shifted, seed=1) == permutation_p(shifted, seed=1)
    assert permutation_p(np.abs(noise), seed=1) == pytest.approx(1 / 10_001)


def test_the_sign_of_a_difference_does_not_change_its_p() -> None:
    values = np.random.default_rng(4).normal(0.1, 1, 60)
    assert permutation_p(values, seed=2) == pytest.approx(permutation_p(-values, seed=2))


def test_interval_is_that_of_the_mean() -> None:
    values = np.random.default_rng(5).normal(0.3, 0.2, 500)
    low, high = bootstrap_interval(values, seed=1)
    half = 1.96 * 0.2 / np.sqrt(500)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.004)
    assert bootstrap_interval(np.ones(7), seed=1) == (1.0, 1.0)


def test_holm_worked_out_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


def test_compare_all_counts_and_corrects_per_metric() -> None:
    base = {f"q{n}": 0.5 for n in range(6)}
    better = {query_id: value + 0.1 for query_id, value in base.items()}
    mixed = base | {"q0": 0.6, "q1": 0.4}
    found = compare_all({"x": {"m": base}, "y": {"m": better}, "z": {"m": mixed}}, ["m"], seed=1)
    assert [(c.a, c.b) for c in found] == [("x", "y"), ("x", "z"), ("y", "z")]
    first, second, _ = found
    assert first.difference == pytest.approx(0.1)
    assert first.interval == pytest.approx((0.1, 0.1))
    assert (first.wins, first.losses, first.ties) == (6, 0, 0)
    assert (second.wins, second.losses, second.ties) == (1, 1, 4)
    assert first.p == pytest.approx(2 / 64)
    assert first.p_holm == pytest.approx(3 * 2 / 64)
    assert second.p_holm == 1.0
