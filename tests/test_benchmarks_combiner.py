"""The combiner's benchmark: which queries an order may have learnt from, and what it is compared with."""

from __future__ import annotations

import pytest

from benchmarks.combiner import JUDGED, Part, measure, summed_up, timings
from benchmarks.data import Grading
from benchmarks.metrics import NDCG
from tests.test_training_combiner import asked
from training.combiner import BEFORE, BLEND
from training.combiner_fit import FitSettings

SETTINGS = {kind: FitSettings(kind=kind, least=5) for kind in ("linear", "trees")}


def part(name: str, **weights: float) -> Part:
    """Queries whose relevant candidates are the best quarter by these features."""
    found = {f"{name}-{place}": one for place, one in enumerate(asked(40, len(name), name, **weights))}
    qrels = {
        query_id: {product: int(label) for product, label in zip(one.ids, one.labels.tolist(), strict=True)}
        for query_id, one in found.items()
    }
    return Part(name, found, qrels, Grading(relevant=1))


@pytest.fixture(scope="module")
def result() -> dict:
    cheap, dear = part("cheap", price=-1.0, popularity=1.0), part("dearest", price=1.0, popularity=1.0)
    return summed_up("cheap", measure(cheap, [dear], SETTINGS, 0.3), 1)


def test_own_queries_teach_what_others_contradict(result: dict) -> None:
    figures = {order: found["metrics"][NDCG] for order, found in result["orders"].items()}
    for kind in SETTINGS:
        assert figures[f"{kind}, own"] > 0.8
        assert figures[f"{kind}, others"] < figures[f"{kind}, own"] - 0.2
    assert figures[BLEND] < 0.6  # which sees neither price nor popularity
    assert result["n_queries"] == 40


def test_every_order_is_compared_with_the_blend_by_pairs(result: dict) -> None:
    orders = result["orders"]
    assert next(iter(orders)) == BLEND
    assert {BEFORE, "blend 0.5"} < orders.keys()
    for order, found in orders.items():
        compared = {comparison["metric"]: comparison for comparison in found["against_blend"]}
        assert set(compared) == (set() if order == BLEND else {NDCG, JUDGED})
        for metric, comparison in compared.items():
            difference = found["metrics"][metric] - orders[BLEND]["metrics"][metric]
            assert comparison["difference"] == pytest.approx(difference)
    assert orders["linear, own"]["against_blend"][0]["p"] < 0.01


def test_a_set_alone_has_no_others() -> None:
    orders = measure(part("cheap", price=-1.0), [], SETTINGS, 0.3)
    assert "linear, own" in orders
    assert not [order for order in orders if order.endswith("others")]


def test_it_says_what_weighing_takes() -> None:
    took = timings(asked(price=-1.0), SETTINGS)
    assert took.keys() == SETTINGS.keys()
    assert all(0 < ms < 10 for ms in took.values())
