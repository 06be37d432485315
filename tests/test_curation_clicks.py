"""Propensities are recovered from logs whose truth is known, and labels are clicks with the bias taken out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.errors import ConfigError
from tests.curation_rows import labels, log_of, page, rows_of, taken
from training.curation.clicks import ClicksStep
from training.curation.propensity import Counts, Floats, all_pairs, expectation_maximisation

K = 6


def synthetic_counts(
    jitter: float, *, eta: float = 1.0, searches: int = 60, skill: float = 1.0, seed: int = 0
) -> tuple[Counts, Floats]:
    """150 queries of 12 products, ranked with some ``skill``, searched often; and the true propensities."""
    rng = np.random.default_rng(seed)
    true = 1 / np.arange(1, K + 1) ** eta
    pair, position, clicks = [], [], []
    for query in range(150):
        liking = rng.beta(0.5, 1.5, 12)
        score = skill * liking / liking.std() + rng.standard_normal(12)
        for _ in range(searches):
            shown = np.argsort(-(score + jitter * rng.standard_normal(12)))[:K]
            pair.append(12 * query + shown)
            position.append(np.arange(K))
            clicks.append(rng.random(K) < true * liking[shown])
    as_floats = np.concatenate(clicks).astype(np.float64)
    return Counts.of(np.concatenate(pair), np.concatenate(position), as_floats, K), true


def log_error(found: Floats, true: Floats) -> float:
    return float(np.abs(np.log(found / true)).mean())


def click_rates(counts: Counts) -> Floats:
    """What takes all of ranking's skill for bias."""
    rates = np.bincount(counts.position, counts.clicks) / np.bincount(counts.position, counts.shown)
    return rates / rates[0]


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0, 1.5])
def test_all_pairs_recovers_propensities(eta: float) -> None:
    counts, true = synthetic_counts(0.5, eta=eta, skill=2.0)
    found = all_pairs(counts)
    assert found is not None
    assert found[0] == 1
    assert log_error(found, true) < 0.08
    assert log_error(click_rates(counts), true) > 0.4


def test_swaps_alone_are_enough_for_all_pairs() -> None:
    """One product in 1st and in k-th place, equally often and equally good: the ratio of clicks is p."""
    pair = np.repeat(np.arange(1, K), 2)
    position = np.array([place for k in range(1, K) for place in (0, k)])
    shown = np.full(len(pair), 100.0)
    clicks = np.array([value for k in range(1, K) for value in (60.0, 60.0 / (k + 1))])
    found = all_pairs(Counts(pair, position, shown, clicks, K))
    assert found == pytest.approx(1 / np.arange(1, K + 1), rel=1e-3)


def test_all_pairs_does_not_guess_what_nothing_tells() -> None:
    counts, _ = synthetic_counts(0.0)
    assert not counts.moved.any()
    assert all_pairs(counts) is None


@pytest.mark.parametrize("jitter", [0.02, 0.5])
def test_em_is_near_where_products_move_and_better_than_click_rates(jitter: float) -> None:
    counts, true = synthetic_counts(jitter, skill=2.0)
    assert log_error(expectation_maximisation(counts), true) < min(0.3, 0.5 * log_error(click_rates(counts), true))


def test_counts_are_added_up_and_moves_found() -> None:
    counts = Counts.of(np.array([1, 0, 1, 1]), np.array([0, 2, 0, 1]), np.array([1.0, 0.0, 0.0, 1.0]), 3)
    assert (counts.pair.tolist(), counts.position.tolist()) == ([0, 1, 1], [2, 0, 1])
    assert (counts.shown.tolist(), counts.clicks.tolist()) == ([1, 2, 1], [0, 1, 1])
    assert counts.moved.tolist() == [False, True, True]


# The step


def test_labels_without_bias_and_without_prior_are_rates_over_the_best(tmp_path: Path) -> None:
    pages = [page("shoes", ["shoe", "boot"], ["shoe", "boot"] if i % 4 == 0 else ["shoe"] * (i % 2)) for i in range(8)]
    rows = rows_of(impressions=log_of(pages, tmp_path))
    raw = taken(ClicksStep(propensities="none", prior=0, scale="query"), rows)[0]
    assert labels(raw) == [("shoes", "shoe", 1.0), ("shoes", "boot", pytest.approx(2 / 6))]
    step = ClicksStep(propensities=(1.0, 0.25), prior=0, scale="query")
    assert labels(taken(step, rows)[0]) == [("shoes", "shoe", 0.75), ("shoes", "boot", 1.0)]
    floored = taken(ClicksStep(propensities=(1.0, 0.25), prior=0, scale="query", floor=0.5), rows)[0]
    assert labels(floored)[1] == ("shoes", "boot", pytest.approx(4 / 6))


def test_one_scale_for_the_log_keeps_a_poor_query_poor(tmp_path: Path) -> None:
    pages = [page("shoes", ["shoe"], ["shoe"] * (i % 2)) for i in range(40)]
    pages += [page("boots", ["boot"], ["boot"] * (i % 10 == 0)) for i in range(40)]
    rows = rows_of(impressions=log_of(pages, tmp_path))
    own = taken(ClicksStep(propensities="none", prior=0, scale="query"), rows)[0]
    assert labels(own) == [("shoes", "shoe", 1.0), ("boots", "boot", 1.0)]
    whole = 0.1 + 0.95 * (0.5 - 0.1)  # the quantile between two rates
    one = taken(ClicksStep(propensities="none", prior=0), rows)[0]
    assert labels(one) == [("shoes", "shoe", 1.0), ("boots", "boot", pytest.approx(0.1 / whole))]


def test_few_impressions_say_little(tmp_path: Path) -> None:
    pages = [page("shoes", ["shoe"], ["shoe"] * (i % 2)) for i in range(40)] + [page("shoes", ["boot"], ["boot"])]
    rows = rows_of(impressions=log_of(pages, tmp_path))
    found = {
        product: label for _, product, label in labels(taken(ClicksStep(propensities="none", scale="query"), rows)[0])
    }
    assert found["boot"] == 1.0
    assert found["shoe"] > 0.8  # a rate of 1/2 from many looks, against one click of one look
    assert {p: y for _, p, y in labels(taken(ClicksStep(propensities="none", prior=0, scale="query"), rows)[0])}[
        "shoe"
    ] == 0.5


def test_pairs_know_every_line_and_rows_are_counted(tmp_path: Path) -> None:
    pages = [page("shoes", ["shoe", "boot"], ["shoe"]), page("boots", ["boot"]), page("shoes", ["shoe"])]
    rows = rows_of(impressions=log_of(pages, tmp_path))
    after, flows, _ = taken(ClicksStep(propensities="none"), rows)
    assert [[origin.line for origin in pair.origins] for pair in after.pairs] == [[1, 3], [1]]
    assert flows["impressions"].dropped["query with too few clicks"].count == 1
    assert flows["impressions"].merged["now in a pair"].count == 3
    assert (flows["pairs"].added, flows["impressions"].rows_out) == (2, 0)


def test_a_purchase_counts_as_the_settings_say(tmp_path: Path) -> None:
    pages = [page("shoes", ["shoe", "boot"], ["shoe", "boot"], purchased=["boot"])]
    rows = rows_of(impressions=log_of([*pages, page("shoes", ["cape"])], tmp_path))
    for purchase, label in ((1.0, 1.0), (4.0, 0.25)):
        step = ClicksStep(propensities="none", prior=0, purchase=purchase, scale="query")
        assert labels(taken(step, rows)[0])[0] == ("shoes", "shoe", label)


def test_clicks_alone_are_shares_as_the_trainer_has_them(tmp_path: Path) -> None:
    clicks = [{"query": "shoes", "product_id": product} for product in ("shoe", "shoe", "shoe", "boot")]
    rows = rows_of(impressions=log_of(clicks, tmp_path))
    after, _, tally = taken(ClicksStep(), rows)
    assert labels(after) == [("shoes", "shoe", 0.75), ("shoes", "boot", 0.25)]
    assert "clicks alone" in tally.report(rows, after).notes[0]


def test_rows_without_a_position_are_dropped_where_positions_count(tmp_path: Path) -> None:
    pages = [page("shoes", ["shoe", "boot"], ["shoe"]), {"query": "shoes", "product_id": "cape", "clicked": 1}]
    rows = rows_of(impressions=log_of(pages, tmp_path))
    after, flows, _ = taken(ClicksStep(propensities=(1.0, 0.5)), rows)
    assert flows["impressions"].dropped["no position"].count == 1
    assert len(after.pairs) == 2
    assert len(taken(ClicksStep(propensities="none"), rows)[0].pairs) == 3


def test_auto_falls_back_and_says_so_and_all_pairs_refuses(tmp_path: Path) -> None:
    rows = rows_of(impressions=log_of([page("shoes", ["shoe", "boot"], ["shoe"])] * 20, tmp_path))
    after, _, tally = taken(ClicksStep(), rows)
    assert tally.propensities is not None
    assert (tally.propensities.method, tally.propensities.moved) == ("em", 0.0)
    assert "a test that swaps products would tell" in tally.report(rows, after).notes[0]
    with pytest.raises(ConfigError, match=r"cannot tell propensities by all-pairs.*set a lower deepest"):
        taken(ClicksStep(propensities="all-pairs"), rows)


def test_the_log_of_a_swap_is_told_by_all_pairs(tmp_path: Path) -> None:
    """Both products are as good; the second place is looked at half as often."""
    rng = np.random.default_rng(0)
    pages = []
    for i in range(4000):
        shown = ["shoe", "boot"] if i % 4 else ["boot", "shoe"]
        clicks = rng.random(2) < (0.3, 0.15)
        pages.append(page("shoes", shown, [p for p, is_clicked in zip(shown, clicks, strict=True) if is_clicked]))
    rows = rows_of(impressions=log_of(pages, tmp_path))
    after, _, tally = taken(ClicksStep(), rows)
    assert tally.propensities is not None
    assert tally.propensities.method == "all-pairs"
    assert tally.propensities.examination[1] == pytest.approx(0.5, abs=0.08)
    assert min(label for _, _, label in labels(after)) > 0.88
    assert min(label for _, _, label in labels(taken(ClicksStep(propensities="none"), rows)[0])) < 0.75
