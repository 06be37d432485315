"""At most so many of a value among the first results: nothing lost, pins, stock, groups and pages respected."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import AtMost, ConfigError, EngineConfig, Equal, InvalidFilterError, InvalidQueryError, SearchConfig
from engine.arrangement import Arrangement
from engine.diversity import Limits
from engine.grouping import Groups
from engine.types import Candidates


@st.composite
def tiers(draw):
    n = draw(st.integers(1, 40))
    of = np.array([draw(st.integers(0, min(row, 5))) for row in range(n)], np.int64)
    order = draw(st.permutations(range(n)))
    pins = dict(zip(draw(st.sets(st.integers(1, 12), max_size=3)), order[::-1], strict=False))
    limits = [AtMost("brand", draw(st.integers(1, 3)), draw(st.integers(1, 15)))]
    behind = np.array([draw(st.booleans()) for _ in range(n)]) if draw(st.booleans()) else None
    return of, np.array(order, np.int64), pins, limits, behind


def arranged(of, order, pins, limits, behind):
    groups = Groups("brand", of, np.arange(len(of)))
    arrangement = Arrangement(behind=behind, pins=pins, limits=Limits(limits, lambda field: groups) if limits else None)
    return arrangement.first(Candidates(order, np.linspace(1, 0.1, len(order), dtype=np.float32)))


class TestSpread:
    @settings(max_examples=200, deadline=None)
    @given(tiers())
    def test_what_holds(self, data):
        of, order, pins, limits, behind = data
        plain, found = arranged(of, order, pins, [], behind), arranged(of, order, pins, limits, behind)
        [limit] = limits
        first, rest = found.rows[: limit.first].tolist(), found.rows[limit.first :].tolist()
        assert sorted(found.rows.tolist()) == sorted(plain.rows.tolist())
        assert (np.diff(found.scores) <= 0).all()
        for row in pins.values():
            assert found.rows.tolist().index(row) == plain.rows.tolist().index(row)
        counts = Counter(of[first].tolist())
        free = [row for row in rest if row not in pins.values() and counts[of[row]] < limit.n]
        for row in first:
            over = counts[of[row]] > limit.n and row not in pins.values()
            # Too many of a value only where nothing that may take its place is left.
            assert not over or not [one for one in free if behind is None or not behind[one] or behind[row]]
        before = {row: place for place, row in enumerate(plain.rows.tolist())}
        moved = [row for row in rest if row not in pins.values()]
        assert [before[row] for row in moved] == sorted(before[row] for row in moved)
        if behind is not None and not pins:
            assert (np.diff(behind[found.rows].astype(int)) >= 0).all()

    def test_what_is_too_many_comes_right_after(self):
        of = np.array([0, 0, 0, 3, 4, 0])
        assert arranged(of, np.arange(6), {}, [AtMost("brand", 1, 3)], None).rows.tolist() == [0, 3, 4, 1, 2, 5]
        assert arranged(of, np.arange(6), {1: 5}, [AtMost("brand", 1, 3)], None).rows.tolist() == [5, 3, 4, 0, 1, 2]


class TestSearch:
    @pytest.fixture
    def engine(self, small):
        return small

    def test_pages_filters_groups_and_settings(self, engine):
        limit = [AtMost("brand", 2, 4)]
        plain = engine.search("thing phone", 40)
        whole = engine.search("thing phone", 40, at_most=limit)
        assert max(Counter(hit.product.brand for hit in whole.hits[:4]).values()) == 2
        assert max(Counter(hit.product.brand for hit in plain.hits[:4]).values()) > 2
        assert {hit.product.product_id for hit in whole.hits} == {hit.product.product_id for hit in plain.hits}
        pages = [h for at in range(0, 40, 8) for h in engine.search("thing phone", 8, offset=at, at_most=limit).hits]
        assert [hit.product for hit in pages] == [hit.product for hit in whole.hits]
        one = engine.search("thing phone", 10, at_most=limit, filters=[Equal("brand", "Acme")])
        assert len(one.hits) == 10  # there is no other brand to take a place
        configured = engine.configured(SearchConfig(at_most=tuple(limit)))
        assert configured.search("thing phone", 40).hits == whole.hits
        assert configured.search("thing phone", 40, at_most=[]).hits == plain.hits
        grouped = engine.search("thing phone", 4, at_most=limit, group="price")
        assert max(Counter(hit.product.brand for hit in grouped.hits).values()) == 2
        assert "at most 2 of a brand in the first 4" in next(s.note for s in whole.stages if s.stage == "arrange")

    def test_errors(self, engine):
        with pytest.raises(InvalidFilterError, match="brnad"):
            engine.search("thing", at_most=[AtMost("brnad", 2)])
        with pytest.raises(InvalidQueryError, match="AtMost"):
            engine.search("thing", at_most=["brand"])
        for wrong in (0, 1.5, "2"):
            with pytest.raises(ConfigError, match="whole number"):
                AtMost("brand", wrong)
        for text in ("brand", "brand=x", "=2", "brand=2/", "brand=2/x"):
            with pytest.raises(ConfigError, match="brand=2/10"):
                AtMost.parsed(text)
        assert AtMost.parsed("brand=2/20") == AtMost("brand", 2, 20)

    def test_settings_go_through_a_file(self, tmp_path):
        config = EngineConfig(search=SearchConfig(at_most=(AtMost("brand", 2), AtMost("category", 5, 20))))
        config.write(tmp_path / "aisle.toml")
        assert EngineConfig.read(tmp_path / "aisle.toml") == config
