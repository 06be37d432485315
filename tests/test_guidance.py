"""What understanding and routing add to scores: who gains, who falls behind, and that nobody disappears."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import engine.guidance as guiding
from engine import Candidates, Equal, Product, Range, SearchConfig
from engine.columns import Columns
from engine.guidance import Guidance, GuidanceNumbers
from engine.types import Routed, Rows, TypeProbability
from engine.understanding.constraints import Constraint
from engine.understanding.names import find_names
from engine.understanding.negation import Excluded
from engine.understanding.understand import Understood
from engine.understanding.words import tokens

#: The numbers are fitted on judged queries; what is done with them is tested here with these.
NUMBERS = GuidanceNumbers(
    provenance="", outside_penalty=0.3, other_penalty=0.3, exclusion_penalty=0.5, model_name_gain=0.7, wanted_share=0.5,
    named_limit_share=0.5, behind=1.0, far_behind=3.0, likely_type=0.5, denied_gain=0.5, stating_share=0.5,
    least_excluded=0.02, most_excluded=0.95,
)  # fmt: skip
guide = partial(guiding.guide, numbers=NUMBERS)
PRICES = [100.0, 500.0, None, 900.0, 300.0, None]
COLORS = ["red", "red", "blue", "", "blue", "red"]
N = len(PRICES)


@pytest.fixture(scope="module")
def columns(tmp_path_factory: pytest.TempPathFactory) -> Columns:
    products = [
        Product(product_id=str(i), title="thing", price=price, attributes={"color": color} if color else {})
        for i, (price, color) in enumerate(zip(PRICES, COLORS, strict=True))
    ]
    directory: Path = tmp_path_factory.mktemp("columns")
    assert len(list(Columns.build(directory, products))) == N
    return Columns.open(directory)


def limit(at_most: float, sure: bool = True) -> Constraint:
    return Constraint("price", "price", Range("price", at_most=at_most), 0, 1, "x", f"price ≤ {at_most}", sure)


def color(name: str, sure: bool = True) -> Constraint:
    return Constraint("color", "color", Equal("color", name), 0, 1, name, f"color {name}", sure)


def routed(fit: Sequence[float], inside: Sequence[int] | None = None) -> Routed:
    """A filter to the rows ``inside``, or else a boost."""
    best, given = TypeProbability("t", "t", max(fit)), np.array(fit, np.float32)
    mask = None if inside is None else np.isin(np.arange(len(fit)), inside)
    return Routed((best,), "boost" if inside is None else "filter", (best,), "for a test", given, mask)


def unread(rows: Rows) -> Sequence[Product]:
    raise AssertionError("nothing is excluded and no model named, so no product needs to be read")


class Shelf:
    """Products whose titles are to be read: ``titles`` by row, others are things. ``read`` are the rows that were."""

    def __init__(self, **titles: str) -> None:
        self.titles = {int(name.removeprefix("row")): title for name, title in titles.items()}
        self.read: list[int] = []

    def __call__(self, rows: Rows) -> Sequence[Product]:
        self.read.extend(rows.tolist())
        return [Product(product_id=str(row), title=self.titles.get(row, "thing")) for row in rows.tolist()]


def guidance(columns: Columns, *constraints: Constraint, route: Routed | None = None, **config: float) -> Guidance:
    understood = Understood("x", "x", constraints=constraints)
    settings = SearchConfig(**{"constraint_weight": 0.1, "route_weight": 0.2, **config})  # type: ignore[arg-type]
    return guide(understood, route, columns, settings, unread)


def fused(*scores: float) -> Candidates:
    return Candidates.ranked(np.arange(len(scores)), np.array(scores, np.float32))


#: From the best to the worst, as fusion gives them: the last rows are the best.
RISING = fused(0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


class TestConstraints:
    def test_a_query_without_limits_asks_for_nothing(self, columns: Columns) -> None:
        found = guidance(columns)
        assert (found.constraints, found.excludes, found.named, found.wanted) == (None, None, None, None)
        assert not found.constrains
        assert not found.boosts

    def test_what_fits_rises_what_says_otherwise_falls_behind_what_says_nothing_stays(self, columns: Columns) -> None:
        found = guidance(columns, limit(400))
        assert found.constraints is not None
        assert found.constraints.tolist() == pytest.approx([0.1, -1.0, 0.0, -1.0, 0.1, 0.0])
        order = found.constrained(RISING, N).rows.tolist()
        assert order == [5, 4, 2, 0, 3, 1]
        assert found.wanted is not None
        assert np.flatnonzero(found.wanted).tolist() == [0, 4]

    def test_an_unsure_limit_only_prefers(self, columns: Columns) -> None:
        found = guidance(columns, limit(400, sure=False))
        assert found.constraints is not None
        assert found.constraints.tolist() == pytest.approx([0.1, 0.0, 0.0, 0.0, 0.1, 0.0])
        assert found.wanted is None

    def test_limits_add_up(self, columns: Columns) -> None:
        found = guidance(columns, limit(400), limit(1000), limit(200, sure=False))
        assert found.constraints is not None
        assert found.constraints.tolist() == pytest.approx([0.3, -0.9, 0.0, -0.9, 0.2, 0.0])
        assert found.wanted is not None
        assert np.flatnonzero(found.wanted).tolist() == [0, 4]

    def test_what_has_another_colour_is_not_punished_for_shops_say_too_little_of_them(self, columns: Columns) -> None:
        found = guidance(columns, color("blue"), constraint_weight=0.5)
        assert found.constraints is not None
        assert found.constraints.tolist() == [0.0, 0.0, 0.25, 0.0, 0.25, 0.0]
        assert found.wanted is None

    def test_a_limit_that_no_field_can_answer_does_nothing(self, columns: Columns) -> None:
        dumb = Constraint("price", "price", None, 0, 1, "x", "the catalog has no prices", False)
        assert guidance(columns, dumb).constraints is None

    def test_a_limit_that_nothing_meets_looks_for_nothing(self, columns: Columns) -> None:
        found = guidance(columns, limit(50))
        assert found.wanted is None
        assert found.constrained(RISING, N).rows.tolist()[:2] == [5, 2]  # no price is better than one that is too high

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.floats(0, 1, width=32), min_size=N, max_size=N), st.floats(50, 1000), st.booleans())
    def test_any_order_is_a_permutation_with_violators_last(self, columns, scores, at_most, sure) -> None:
        ranked = guidance(columns, limit(at_most, sure)).constrained(fused(*scores), N)
        assert sorted(ranked.rows.tolist()) == list(range(N))
        assert (np.diff(ranked.scores) <= 0).all()
        if sure:
            score = dict(zip(ranked.rows.tolist(), ranked.scores.tolist(), strict=True))
            too_dear = [score[row] for row, price in enumerate(PRICES) if price is not None and price > at_most]
            rest = [score[row] for row, price in enumerate(PRICES) if price is None or price <= at_most]
            assert max(too_dear, default=-1.0) <= min(rest)


class TestExclusion:
    def understood(self) -> Understood:
        return Understood("x", "x", excluded=(Excluded(("stand",), 0, 1, "x"),))

    def test_what_has_it_falls_but_not_behind_everything(self, columns: Columns) -> None:
        found = guide(self.understood(), None, columns, SearchConfig(), Shelf(row5="thing with stand"))
        assert found.constrains
        assert found.constrained(RISING, N).rows.tolist() == [4, 3, 5, 2, 1, 0]

    def test_only_the_best_are_read(self, columns: Columns) -> None:
        shelf = Shelf(row5="stand", row4="stand", row3="stand")
        guide(self.understood(), None, columns, SearchConfig(), shelf).constrained(RISING, 3)
        assert shelf.read == [5, 4, 3]

    def test_the_best_after_limits_are_read(self, columns: Columns) -> None:
        shelf = Shelf()
        understood = Understood("x", "x", (), (), (limit(400),), self.understood().excluded)
        guide(understood, None, columns, SearchConfig(), shelf).constrained(RISING, 2)
        assert shelf.read == [5, 4]


class TestNames:
    def guided(self, columns: Columns, query: str, shelf: Shelf) -> Guidance:
        return guide(
            Understood(query, query, names=find_names(query, tokens(query))), None, columns, SearchConfig(), shelf
        )

    def test_titles_that_have_a_name_rise(self, columns: Columns) -> None:
        shelf = Shelf(row1="S23 Ultra", row4="S23 is not as large as the Ultra")
        found = self.guided(columns, "s23 ultra", shelf)
        assert found.constrains
        ranked = found.constrained(RISING, N)
        assert ranked.rows.tolist() == [5, 1, 4, 3, 2, 0]
        assert ranked.scores.tolist() == pytest.approx([1.0, 0.9, 0.8, 0.6, 0.4, 0.0])

    def test_of_two_names_each_counts_half(self, columns: Columns) -> None:
        found = self.guided(columns, "tab s9 ultra", Shelf(row0="Tab S9", row1="Tab S9 Ultra"))
        ranked = found.constrained(fused(0, 0, 0, 0, 0, 0), N)
        assert ranked.rows.tolist()[:3] == [1, 0, 2]
        assert ranked.scores.tolist()[:3] == pytest.approx([0.7, 0.35, 0.0])

    def test_only_the_best_are_read(self, columns: Columns) -> None:
        shelf = Shelf(row0="S23 Ultra")
        found = self.guided(columns, "s23 ultra", shelf)
        assert found.constrained(RISING, 3).rows.tolist() == RISING.rows.tolist()
        assert shelf.read == [5, 4, 3]


class TestRoute:
    FIT = (0.9, 0.9, 0.5, 0.1, 0.1, 0.0)

    def added(self, found: Guidance) -> list[float]:
        """What each row gains."""
        ranked = found.boosted(RISING)
        return (ranked.scores - RISING.scores[N - 1 - ranked.rows])[np.argsort(ranked.rows)].tolist()

    def test_a_filter_raises_what_is_inside_over_what_is_not(self, columns: Columns) -> None:
        found = guidance(columns, route=routed((0.9,) * N, inside=[0, 2, 4]), route_weight=0.0)
        assert self.added(found) == pytest.approx([0.0, -0.3] * 3, abs=1e-6)
        assert found.boosted(RISING).rows.tolist()[0] == 4

    def test_a_boost_adds_by_probability(self, columns: Columns) -> None:
        found = guidance(columns, route=routed(self.FIT), route_weight=0.6)
        assert self.added(found) == pytest.approx([0.6 * fit for fit in self.FIT], abs=1e-6)
        assert found.boosted(RISING).rows.tolist() == [5, 4, 1, 2, 3, 0]

    def test_without_an_action_nothing_is_asked(self, columns: Columns) -> None:
        found = guidance(columns, route=Routed((), "none", (), "unsure"))
        assert not found.boosts
        assert found.wanted is None

    def test_what_is_looked_for_fits_type_and_limits(self, columns: Columns) -> None:
        found = guidance(columns, limit(400), route=routed(self.FIT))
        assert found.wanted is not None
        assert np.flatnonzero(found.wanted).tolist() == [0]

    def test_what_is_found_makes_another_route(self, columns: Columns) -> None:
        looked: list[Candidates] = []

        def revise(found: Candidates) -> Routed:
            looked.append(found)
            return routed(self.FIT)

        before = guidance(columns, route=replace(routed(self.FIT[::-1]), revise=revise), route_weight=0.6)
        after = before.revised(RISING)
        assert looked == [RISING]
        assert self.added(after) == pytest.approx([0.6 * fit for fit in self.FIT], abs=1e-6)
        assert after.wanted is before.wanted
        assert before.revised(Candidates.empty()) is before

    @pytest.mark.parametrize("route", [None, routed(FIT)])
    def test_a_router_that_does_not_look_says_the_same(self, columns: Columns, route: Routed | None) -> None:
        found = guidance(columns, route=route)
        assert found.revised(RISING) is found

    @settings(max_examples=100, deadline=None)
    @given(
        st.lists(st.floats(0, 1, width=32), min_size=N, max_size=N),
        st.lists(st.floats(0, 1, width=32), min_size=N, max_size=N).filter(any),
    )
    def test_any_route_is_a_permutation_that_keeps_the_order_of_rows_of_equal_fit(self, columns, scores, fit) -> None:
        fit = [fit[0]] * 3 + fit[3:]
        ranking = fused(*scores)
        ranked = guidance(columns, route=routed(fit)).boosted(ranking)
        assert sorted(ranked.rows.tolist()) == list(range(N))
        assert (np.diff(ranked.scores) <= 0).all()
        before, after = ([row for row in found.rows.tolist() if row < 3] for found in (ranking, ranked))
        assert before == after or len(set(scores[:3])) < 3 or min(np.diff(sorted(scores[:3]))) < 1e-6
