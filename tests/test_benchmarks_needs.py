"""The judged queries of needs, the predicates that judge them, and the reading back of told facts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.data import DataError
from benchmarks.needs import SETS, judged_of, measure, off_domain_queries
from benchmarks.needs_judgments import Judge, Judged, Kind, read_judged, split_of
from benchmarks.needs_reasons import Releases, read_back
from benchmarks.needs_weights import GRID, _today, chosen
from engine.catalog import read_catalog
from engine.product import Product
from engine.types import SkuCandidate
from tests.conftest import SAMPLE

ON_SAMPLE = ("sample", "second", "third", "mission", "ja", "es", "second_ja", "second_es")
FRIDGES = "Home > Fridges"


def fridge(name: str, litres: int | str | None, price: float, **more: Any) -> Product:
    attributes = {} if litres is None else {"capacity_l": litres}
    return Product(product_id=name, title=f"Fridge {name}", category=("Home", "Fridges"), price=price,
                   attributes={**attributes, **more})  # fmt: skip


@pytest.fixture(scope="module")
def shop() -> Judge:
    return Judge([
        fridge("a", 100, 10), fridge("b", 200, 20, colors=["Red", "Off White"]), fridge("c", 300, 30, wifi=True),
        fridge("d", 300, 40), fridge("e", None, 50), fridge("f", "many", 60, released="soon"),
        Product(product_id="t", title="TV of 100 litres", category=("Home", "Fridges and more"), price=1),
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("predicate", "fitting"),
    [
        ({"category": FRIDGES}, "abcdef"),
        ({"field": "attributes.capacity_l", "op": ">=", "value": 200}, "bcd"),
        ({"field": "attributes.capacity_l", "op": "!=", "value": 100}, "bcdf"),
        ({"field": "attributes.colors", "op": "has", "value": "white"}, "b"),
        ({"field": "title", "op": "has", "value": "fridg"}, ""),
        ({"field": "price", "op": "in", "value": [10, 60]}, "af"),
        ({"percentile": "attributes.capacity_l", "within": FRIDGES, "at_least": 0.6}, "cd"),
        ({"percentile": "attributes.capacity_l", "within": FRIDGES, "at_most": 0.2}, "a"),
        ({"rank": "attributes.capacity_l", "within": FRIDGES, "order": "highest", "best": 1}, "cd"),
        ({"rank": "price", "within": FRIDGES, "order": "lowest", "best": 2}, "ab"),
        ({"rank": "price", "order": "lowest", "best": 1, "where": {"category": FRIDGES}}, "a"),
        ({"all": [{"category": FRIDGES}, {"not": {"field": "attributes.wifi", "op": "=", "value": True}}]}, "abdef"),
        ({"any": [{"category": "Home > TVs"}, {"field": "price", "op": "<", "value": 10}]}, "t"),
    ],
)  # fmt: skip
def test_a_predicate_fits_what_it_says(shop: Judge, predicate: dict[str, Any], fitting: str) -> None:
    assert shop.fitting(predicate) == set(fitting)


@pytest.mark.parametrize("predicate", [{}, {"all": []}, {"field": "price", "op": "~", "value": 1}, {"rank": "price"}])
def test_what_is_no_predicate_is_refused(shop: Judge, predicate: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="is no predicate"):
        shop.fitting(predicate)


@pytest.mark.parametrize("name", ON_SAMPLE)
def test_judgments_on_the_sample_are_neither_empty_nor_trivial(name: str) -> None:
    products = list(read_catalog(SAMPLE / "corpus.jsonl"))
    judge = Judge(products)
    sizes = {row.query: len(judge.fitting(row.fits)) for row in judged_of(name)}
    assert {query: n for query, n in sizes.items() if not 2 <= n <= 0.4 * len(products)} == {}


def test_queries_are_asked_once_and_split_by_their_own_text() -> None:
    rows = [row for name in (*ON_SAMPLE, "icecat", "second_icecat", "third_icecat") for row in judged_of(name)]
    texts = [row.query for row in rows]
    texts += [query for name in SETS if name.endswith("off_domain") for query in off_domain_queries(name)]
    assert len(texts) == len({text.casefold() for text in texts})
    assert all(row.split == split_of(row.query) for row in rows)
    assert len(off_domain_queries()) == 100
    assert len(judged_of("sample")) == 200
    assert len(judged_of("sample", "dev")) + len(judged_of("sample", "final")) == 200
    assert all(row.types for name in ("ja", "es", "second_ja", "second_es") for row in judged_of(name))


def test_a_bad_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"query_id": "1", "query": "q", "kind": "odd", "split": "dev", "fits": {}}\n')
    with pytest.raises(DataError, match=r"rows\.jsonl, line 1"):
        read_judged(path)


def test_first_hit_and_precision_are_counted_by_kind(shop: Judge) -> None:
    big = {"field": "attributes.capacity_l", "op": ">=", "value": 300}
    kinds_of: tuple[Kind, ...] = ("gradable", "gradable", "use")
    rows = [Judged(f"q{n}", f"q{n}", kind, "dev", big) for n, kind in enumerate(kinds_of)]
    found = {"q0": ["c", "a", "d"], "q1": ["a", "c", "b"], "q2": []}
    result = measure(lambda query: found[query], rows, shop, seed=1)
    kinds = {kind: (v["first_fits"]["mean"], v["precision_at_3"]["mean"]) for kind, v in result["kinds"].items()}
    assert kinds == {"all": (pytest.approx(1 / 3), 0.5), "gradable": (0.5, 0.75), "use": (0.0, 0.0)}  # 2 fridges fit
    assert result["wrong"] == {"q1": "q1", "q2": "q2"}


@pytest.mark.parametrize(
    ("reason", "verdict"),
    [
        ("refresh_rate_hz 120", "true"), ("refresh_rate_hz 90", "false"), ("120 Hz, 12 GB", "true"), ("60 Hz", "false"),
        ("big: price ≤ 30000", "true"), ("price ≥ 30,001", "false"), ("screen_size_in 6.5–6.9 in", "true"),
        ("screen_size_in 7–8 in", "false"), ("s_pen", "true"), ("foldable", "false"), ("foldable no", "true"),
        ("is of the type Galaxy S", "true"), ("is of the type Televisions", "false"), ("color black", "true"),
        ("refresh rate 120 Hz", "true"), ("refresh rate 60 Hz", "false"), ("screen size 6.7 in", "true"),
        ("s pen", "true"),
        ("battery 20 hours", "true"), ("battery 5000 mAh", "true"), ("battery 20 mAh", "false"),
        ("says gaming", "true"), ("says cooking", "false"),
        ("is splendid", "unknown"), ("is popular", "no fact"), ("connectivity NFC", "true"),
    ],
)  # fmt: skip
def test_a_told_fact_is_read_back(reason: str, verdict: str) -> None:
    phone = Product(
        product_id="p", title="Phone", category=("Mobiles", "Galaxy S"), price=29999, description="Made for games.",
        attributes={"refresh_rate_hz": 120, "ram_gb": 12, "screen_size_in": 6.7, "s_pen": True, "foldable": False,
                    "color": "Black", "connectivity": ["5G", "NFC"], "battery_mah": 5000, "battery_hours": 20},
    )  # fmt: skip
    told = read_back(SkuCandidate("p", "Phone", 29999, "INR", reason, {"ram_gb": 12}), phone)
    assert {word for _, word in told} == {verdict}
    assert ("ram_gb 8", "false") in read_back(SkuCandidate("p", "Phone", 1, "", reason, {"ram_gb": 8}), phone)


def test_a_newest_is_read_back_by_when_others_came_out() -> None:
    models = {"S23": "2023-02-01", "S24": "2024-02-01", "S25 Ultra": "2025-02-01", "Z Flip5": "2023-08-01"}
    phones = {
        name: Product(product_id=name, title=f"Phone {name}, Black", released=day) for name, day in models.items()
    }
    releases = Releases(list(phones.values()))
    for fact, product, verdict in [
        ("S25 Ultra: newest of S23, S24, S25 Ultra", "S25 Ultra", "true"),
        ("S25 Ultra: newest of S23, S24, S25 Ultra", "S24", "false"),  # the product is another
        ("S24: newest of S23, S25 Ultra, S24", "S24", "false"),
        ("S24: the one before the newest of S23, S24, S25 Ultra", "S24", "true"),
        ("S24: later than s23", "S24", "true"),
        ("S23: later than z flip 5", "S23", "false"),
        ("S23: later than s22", "S23", "unknown"),
        ("S26: newest of S24, S25, S26", "S24", "unknown"),
    ]:
        told = read_back(SkuCandidate(product, "", 1, "", fact, {}), phones[product], releases)
        assert told == [(fact, verdict)]


def test_a_weight_is_chosen_on_the_folds_that_do_not_judge_it() -> None:
    folds = np.array([0, 0, 1, 1])
    figures = {1.0: np.array([1.0, 1.0, 0.0, 0.0]), 2.0: np.array([0.0, 0.0, 1.0, 1.0]), 3.0: np.full(4, 0.1)}
    values, left_out = chosen(figures, folds, today=3.0)
    assert (values, left_out.tolist()) == ({0: 2.0, 1: 1.0}, [0.0] * 4)  # what is best of others, and worst here
    same = {value: np.full(4, 0.5) for value in (1.0, 2.0, 3.0)}
    assert chosen(same, folds, today=2.0)[0] == {0: 2.0, 1: 2.0}  # a tie is no reason to change


def test_numbers_that_are_tried_are_there_today() -> None:
    assert all(min(values) <= _today(name) <= max(values) for name, values in GRID.items())
