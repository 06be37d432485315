"""Experiments: who sees what, two searches on one page, and what the log then says, where the truth is known."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from benchmarks.experiments import World, app, detections, difference, preference, simulated
from engine import ConfigError, Product
from engine.experiments import arm_of, team_draft
from engine.feedback_log import FeedbackLog
from engine.feedback_rows import Logged, Page
from engine.types import Hit, SearchResult


def result(ids: str) -> SearchResult:
    hits = tuple(Hit(Product(product_id=c, title=c), rank, 1 / rank) for rank, c in enumerate(ids, 1))
    return SearchResult("q", hits, (), len(hits))


def drawn(a: str, b: str, k: int, seed: str) -> tuple[str, str]:
    found = team_draft(result(a), result(b), k, seed)
    assert [hit.rank for hit in found.hits] == list(range(1, len(found.hits) + 1))
    return "".join(hit.product.product_id for hit in found.hits), "".join(found.teams)


class TestArms:
    def test_shares_are_kept_and_units_stay_where_they_are(self):
        arms = {f"u{n}": arm_of(f"u{n}", "new", {"a": 0.7, "b": 0.3}) for n in range(20_000)}
        assert Counter(arms.values())["a"] / len(arms) == pytest.approx(0.7, abs=0.015)
        assert all(arm_of(unit, "new", {"a": 0.7, "b": 0.3}) == arm for unit, arm in list(arms.items())[:100])
        assert arm_of("u1", "new", {"a": 0.7, "b": 0.3}) == "b"  # whatever process asks

    def test_experiments_do_not_know_of_each_other(self):
        half = {"a": 0.5, "b": 0.5}
        both = Counter((arm_of(f"u{n}", "one", half), arm_of(f"u{n}", "two", half)) for n in range(20_000))
        assert all(count / 20_000 == pytest.approx(0.25, abs=0.015) for count in both.values())

    @pytest.mark.parametrize("shares", [{}, {"a": 0.5}, {"a": 1.5, "b": -0.5}])
    def test_shares_that_cannot_be(self, shares):
        with pytest.raises(ConfigError, match="add up to 1"):
            arm_of("u", "new", shares)

    def test_an_arm_without_a_share_gets_nobody(self):
        assert {arm_of(f"u{n}", "new", {"a": 1.0, "b": 0.0}) for n in range(1000)} == {"a"}


class TestTeamDraft:
    def test_each_team_picks_its_best_in_every_round(self):
        seen = {drawn("1234", "3142", 4, f"s{n}") for n in range(50)}
        for ids, teams in seen:
            assert sorted(ids) == list("1234")
            assert all(sorted(teams[at : at + 2]) == ["a", "b"] for at in (0, 2))
            left = {"a": list("1234"), "b": list("3142")}
            for product_id, team in zip(ids, teams, strict=True):
                assert left[team][0] == product_id
                for of in left.values():
                    of.remove(product_id)
        assert len({teams[0] for _, teams in seen}) == 2

    def test_the_same_seed_gives_the_same_page(self):
        assert drawn("12345", "54321", 5, "s") == drawn("12345", "54321", 5, "s")

    def test_lists_of_other_lengths(self):
        ids, teams = drawn("12", "3", 9, "s")
        assert sorted(ids) == ["1", "2", "3"]
        assert len(teams) == 3
        assert drawn("", "", 5, "s") == ("", "")
        assert len(drawn("1234", "5678", 3, "s")[0]) == 3

    def test_equal_rankings_share_their_clicks(self):
        firsts = Counter(drawn("123", "123", 3, f"s{n}")[1][0] for n in range(4000))
        assert firsts["a"] / 4000 == pytest.approx(0.5, abs=0.03)


class TestTruth:
    """The truth is known here: equal searches seldom differ, a better one is found, and it is never the other one."""

    @pytest.mark.parametrize("kind", ["interleaving", "split"])
    def test_equal_searches(self, kind):
        found = detections(World(shoppers=60), 40, kind)
        assert found["a"] + found["b"] <= 0.2  # 5 % in truth; more than 8 of 40 has a probability under 0.0001

    def test_a_better_search(self):
        better = World(shoppers=150, better=0.6)
        interleaved, split = detections(better, 12, "interleaving"), detections(better, 12, "split")
        assert interleaved["b"] > 0.8
        assert interleaved["b"] >= split["b"]
        assert interleaved["a"] == split["a"] == 0

    def test_which_of_both_is_better_is_told_by_its_sign(self):
        worse = World(shoppers=200, noise=0.2, better=-1.5)
        assert preference(simulated(worse, 1, "interleaving")).preference < 0
        assert difference(simulated(worse, 1, "split")).difference < 0


def page(number: int, clicked: str = "", session: str = "", **more) -> Page:
    shown = Logged(event="shown", id=str(number), time=0.0, products=("1", "2"), session=session, **more)
    return Page(shown, frozenset(clicked), frozenset())


class TestStatistics:
    def test_pages_of_a_session_are_one_unit(self):
        pages = [page(n, "1", "one", teams=("a", "b")) for n in range(50)] + [page(99, "2", "two", teams=("a", "b"))]
        found = preference(pages)
        assert (found.units, found.pages, found.a, found.b) == (2, 51, 1, 1)
        assert found.preference == 0
        assert found.p == 1

    def test_welchs_t(self):
        rng = np.random.default_rng(1)
        pages = []
        for n in range(400):
            arm = "a" if n % 2 else "b"
            pages.append(page(n, "1" if rng.random() < (0.3 if arm == "a" else 0.5) else "", f"s{n}", arm=arm))
        found = difference(pages)
        a, b = found.a.rate, found.b.rate
        error = np.sqrt((a * (1 - a) + b * (1 - b)) / 199)
        assert found.t == pytest.approx((b - a) / error, rel=1e-6)
        assert found.interval[0] < found.difference < found.interval[1]
        assert found.p < 0.01
        clicks = {arm: np.array([float(bool(p.clicked)) for p in pages if p.shown.arm == arm]) for arm in "ab"}
        theirs = stats.ttest_ind(clicks["b"], clicks["a"], equal_var=False)
        assert (found.t, found.p) == pytest.approx((theirs.statistic, theirs.pvalue))
        assert found.interval == pytest.approx(tuple(theirs.confidence_interval(0.95)))
        assert found.balance_p == 1

    def test_a_split_that_is_not_as_meant(self):
        pages = [page(n, session=f"s{n}", arm="b" if n % 10 else "a") for n in range(500)]
        assert difference(pages).balance_p < 0.001
        assert difference(pages, (0.1, 0.9)).balance_p == 1

    def test_arms_in_which_all_do_the_same(self):
        pages = [page(n, "1" if n % 2 else "", f"s{n}", arm="ab"[n % 2]) for n in range(20)]
        assert (difference(pages).t, difference(pages).p) == (float("inf"), 0)
        same = [page(n, "1", f"s{n}", arm="ab"[n % 2]) for n in range(20)]
        assert (difference(same).t, difference(same).p, difference(same).interval) == (0, 1, (0, 0))

    @pytest.mark.parametrize(
        ("pages", "said"),
        [
            ([], "the arms none"),
            ([page(n, session=f"s{n}", arm="abc"[n % 3]) for n in range(9)], "two by two"),
            ([page(n, session="same", arm="ab"[n % 2]) for n in range(9)], "in both arms"),
            ([page(n, session=f"s{n}", arm="a" if n else "b") for n in range(9)], "has 1 session"),
        ],
    )
    def test_what_cannot_be_compared(self, pages, said):
        with pytest.raises(ConfigError, match=said):
            difference(pages)
        with pytest.raises(ConfigError, match="pages with teams"):
            preference(pages)


class TestTool:
    def test_from_the_log_to_the_answer(self, tmp_path):
        log = FeedbackLog(tmp_path)
        for n in range(40):
            found = team_draft(result("123"), result("321"), 3, f"s{n}")
            ids = [hit.product.product_id for hit in found.hits]
            shown = log.shown(result("123"), session=f"s{n}", products=ids, teams=found.teams, experiment="new")
            log.clicked(shown, ids[found.teams.index("b")])
            arm = arm_of(f"s{n}", "arms", {"a": 0.5, "b": 0.5})
            other = log.shown(result("123"), session=f"s{n}", experiment="arms", arm=arm)
            if arm == "b" or n % 4 == 0:
                log.clicked(other, "1")
        log.close()
        run = CliRunner().invoke(app, ["interleaving", str(tmp_path), "--experiment", "new"])
        assert "more of b's 40" in run.stdout
        assert "b beyond a +1.0000" in run.stdout
        run = CliRunner().invoke(app, ["split", str(tmp_path), "--experiment", "arms"])
        assert "b less a: +" in run.stdout
        run = CliRunner().invoke(app, ["split", str(tmp_path), "--experiment", "other"])
        assert run.exit_code == 1
        assert "it has arms, new" in run.stderr
