"""Rules of merchandisers: files and their errors, and which searches a rule is for."""

from __future__ import annotations

import contextlib
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import Equal, RulesError
from engine.analysis.analyzer import Analyzer
from engine.rules.matching import RuleIndex, WordReader
from engine.rules.schema import parse_rules
from engine.types import Routed, TypeProbability

NOON = datetime(2026, 10, 20, 12, tzinfo=ZoneInfo("UTC")).timestamp()
DAY = 86_400.0


def rule(body: str, of: str = "r") -> str:
    return f'[[rule]]\nid = "{of}"\nnote = "Priya, leaflet"\n{body}\n'


def parsed(text: str):
    return parse_rules(text.encode(), "rules.toml")


class TestFile:
    def test_all_that_a_rule_may_say(self):
        (found,) = parsed(
            rule(
                """
priority = 3
starts = 2026-10-20
ends = 2026-10-21
when = { phrase = ["tv", "television"], locale = "en-IN", context = { channel = ["app", "web"] } }
[rule.then]
pin = { P1 = 1 }
boost = [{ where = ["brand=Acme", "price<=5"], by = 0.2 }]
bury = [{ where = "color=Red" }]
hide = "smart=false"
filter = ["has:price"]
redirect = "/tv"
synonyms = ["telly"]
"""
            )
        )
        assert [(move.by, len(move.filters)) for move in found.moves] == [(0.2, 2), (-1.0, 1)]
        assert found.hide == ((Equal("smart", False), "smart=false"),)
        assert found.span.ends - found.span.starts == 2 * DAY  # an end that is a date is a whole day

    @pytest.mark.parametrize(
        ("text", "of", "field", "said"),
        [
            ("[[rule]", "", "", "TOML"),
            ("[[rules]]", "", "rules", "is not known"),
            ("rule = 3", "", "rule", "[[rule]]"),
            ('timezone = "Asia/Nowhere"', "", "timezone", "Asia/Kolkata"),
            ("[[rule]]\nnote = 'x'\nthen = { replace = 'x' }", "number 1", "", "`id`"),
            (rule("then = { pin = { P1 = 0 } }"), "r", "then.pin", "from 1 to 100"),
            (rule("then = { pin = { P1 = 2, P2 = 2 } }"), "r", "then.pin", "both get rank 2"),
            (rule("then = { pin = { P1 = 'top' } }"), "r", "then.pin[...]", "int"),
            (rule("then = { boost = [{ where = 'brand=A' }] }"), "r", "then.boost[0].by", "above 0"),
            (rule("then = { boost = [{ where = 'brand=A', by = 1.5 }] }"), "r", "then.boost[0].by", "1.5"),
            (rule("then = { bury = [{ where = [] }] }"), "r", "then.bury[0].where", "empty"),
            (rule("then = { hide = 'brand Acme' }"), "r", "then.hide", "'brand Acme'"),
            (rule("then = { filter = 'price<=cheap' }"), "r", "then.filter", "no number"),
            (rule("then = { boots = 1 }"), "r", "then", "boots"),
            (rule("then = {}"), "r", "then", "pin, boost"),
            (rule("when = { phrase = '!!' }\nthen = { redirect = '/x' }"), "r", "when.phrase", "no word"),
            (rule("when = { locale = 'english' }\nthen = { hide = 'a=b' }"), "r", "when.locale", "en-IN"),
            (rule("when = { context = { a = [] } }\nthen = { hide = 'a=b' }"), "r", "when.context", "channel"),
            (rule("then = { replace = 'tv' }"), "r", "then.replace", "every query"),
            (rule("when = { type = 'TV', phrase = 'x' }\nthen = { replace = 'tv' }"), "r", "then.replace", "type"),
            (rule("then = { redirect = '/sale' }"), "r", "then.redirect", "every query"),
            (
                rule("when = { query = 'x' }\nthen = { redirect = 'javascript:alert(1)' }"),
                "r",
                "then.redirect",
                "no page",
            ),
            (rule("when = { query = 'x' }\nthen = { redirect = '/a b' }"), "r", "then.redirect", "no page"),
            (rule("starts = '2026-10-20'\nthen = { hide = 'a=b' }"), "r", "starts", "unquoted"),
            (rule("starts = 2026-10-20\nends = 2026-10-19\nthen = { hide = 'a=b' }"), "r", "ends", "never hold"),
            (rule("campaign = 'x'\nthen = { hide = 'a=b' }"), "r", "campaign", "no campaign 'x'"),
            (rule("then = { hide = 'a=b' }") * 2, "r", "id", "already given to rule 1"),
            ("[[rule]]\nid = 'r'\nnote = ' '\nthen = { hide = 'a=b' }", "r", "note", "who wants it"),
        ],
    )
    def test_errors_name_rule_field_and_remedy(self, text, of, field, said):
        with pytest.raises(RulesError) as caught:
            parsed(text)
        assert (caught.value.rule, caught.value.field) == (of, field)
        assert said in str(caught.value)

    def test_a_campaign_bounds_its_rules(self):
        text = "[[campaign]]\nid = 'c'\nnote = 'n'\nstarts = 2026-10-20\nends = 2026-10-22\n"
        (found,) = parsed(text + rule("campaign = 'c'\nends = 2026-10-20\nthen = { hide = 'a=b' }"))
        assert found.span.holds(NOON)
        assert not found.span.holds(NOON + DAY)
        with pytest.raises(RulesError, match="outside"):
            parsed(text + rule("campaign = 'c'\nstarts = 2026-10-23\nthen = { hide = 'a=b' }"))

    def test_dates_are_of_the_files_time_zone(self):
        (found,) = parsed("timezone = 'Asia/Kolkata'\n" + rule("starts = 2026-10-20\nthen = { hide = 'a=b' }"))
        assert found.span.starts == datetime(2026, 10, 19, 18, 30, tzinfo=ZoneInfo("UTC")).timestamp()

    @given(st.text(max_size=200) | st.text("[]{}='\"rulethnwpi \n", max_size=200))
    @settings(max_examples=150, deadline=None)
    def test_whatever_the_text_only_typed_errors(self, text):
        for body in (text, rule(text), rule(f"then = {{ {text} }}")):
            with contextlib.suppress(RulesError):
                parse_rules(body.encode(errors="replace"), "rules.toml")


def fires(text: str, query: str, locale: str = "", now: float = NOON, **context: str) -> list[str]:
    index = RuleIndex(parsed(text), WordReader(Analyzer()))
    return [index.rules[number].id for number in index.of_words(index.asked(query, locale, context, now))]


class TestMatching:
    @pytest.mark.parametrize(
        ("when", "query", "holds"),
        [
            ("query = 'Smart-TV'", "smart tv!", True),
            ("query = 'smart tv'", "smart tvs", False),  # exact
            ("query = 'smart tv'", "smart tv 55", False),
            ("phrase = 'running shoe'", "blue Running Shoes for men", True),
            ("phrase = 'running shoe'", "shoe running", False),
            ("phrase = 'tv'", "oled tvs", True),
            ("contains = 'shoe running'", "running in a shoe", True),
            ("contains = 'shoe running'", "running", False),
            ("phrase = ['a1', 'café']", "cafe crème", True),
            ("phrase = '洗濯機'", "ドラム式洗濯機 ホワイト", True),
            ("phrase = '洗濯機'", "冷蔵庫", False),
            ("phrase = 'tv', contains = 'red'", "red tv", True),
            ("phrase = 'tv', contains = 'red'", "blue tv", False),
            ("query = ['tv', 'television'], phrase = 'tv'", "television", False),
        ],
    )
    def test_words(self, when, query, holds):
        assert fires(rule(f"when = {{ {when} }}\nthen = {{ hide = 'a=b' }}"), query) == ["r"] * holds

    @pytest.mark.parametrize(("locale", "holds"), [("en-IN", True), ("en_in", True), ("en", False), ("", False)])
    def test_locale(self, locale, holds):
        assert fires(rule("when = { locale = 'en-IN' }\nthen = { hide = 'a=b' }"), "x", locale) == ["r"] * holds

    def test_a_language_has_all_its_countries(self):
        text = rule("when = { locale = ['es', 'en'] }\nthen = { hide = 'a=b' }")
        assert fires(text, "x", "en-IN") == ["r"]
        assert fires(text, "x", "eng-IN") == []

    def test_context_and_dates(self):
        text = rule("starts = 2026-10-20\nwhen = { context = { channel = ['app', 'web'] } }\nthen = { hide = 'a=b' }")
        assert fires(text, "x", channel="app") == ["r"]
        assert fires(text, "x", channel="shop") == fires(text, "x") == []
        assert fires(text, "x", channel="app", now=NOON - DAY) == []

    def test_conflicts_go_by_priority_then_narrowness_then_place(self):
        text = "".join(
            rule(f"priority = {priority}\nwhen = {{ {when} }}\nthen = {{ hide = 'a=b' }}", name)
            for name, priority, when in (
                ("always", 0, ""), ("phrase", 0, "phrase = 'tv'"), ("exact", 0, "query = 'red tv'"),
                ("contains", 0, "contains = 'red'"), ("phrase2", 0, "phrase = 'red'"), ("first", 1, ""),
            )
        )  # fmt: skip
        assert fires(text, "red tv") == ["first", "exact", "phrase", "phrase2", "contains", "always"]

    def test_types_and_all_above_them(self):
        text = "".join(
            rule(f"when = {{ type = '{name}' }}\nthen = {{ hide = 'a=b' }}", name)
            for name in ("TV & Video", "tv & video>televisions", "Televisions", "Radios", "QLED", "Lifestyle")
        )
        index = RuleIndex(parsed(text), WordReader(Analyzer()))
        leaves = (
            TypeProbability("TV & Video > Televisions > QLED", "QLED", 0.6),
            TypeProbability("L", "Lifestyle", 0.3),
        )
        routed = Routed(leaves, "filter", (TypeProbability("TV & Video > Televisions", "Televisions", 0.9),), "")
        found = [index.rules[number].id for number in index.of_types(index.asked("x", "", {}, NOON), routed)]
        assert found == ["TV & Video", "tv & video>televisions", "Televisions", "QLED"]

    def test_an_index_finds_what_reading_every_rule_finds(self):
        rng = np.random.default_rng(1)
        words = [f"w{n}" for n in range(12)]
        text = ""
        for n, kind in enumerate(rng.choice(["query", "phrase", "contains"], 300)):
            said = " ".join(rng.choice(words, rng.integers(1, 4)))
            text += rule(f"when = {{ {kind} = '{said}' }}\nthen = {{ hide = 'a=b' }}", f"{n}")
        rules = parsed(text)
        for _ in range(60):
            query = list(rng.choice(words, rng.integers(1, 6)))

            def holds(found, query=query) -> bool:
                kind = next(name for name in ("query", "phrase", "contains") if getattr(found.when, name))
                wanted = getattr(found.when, kind).split()
                spans = [query[at : at + len(wanted)] for at in range(len(query))]
                return {"query": wanted == query, "phrase": wanted in spans, "contains": set(wanted) <= set(query)}[
                    kind
                ]

            assert set(fires(text, " ".join(query))) == {found.id for found in rules if holds(found)}
