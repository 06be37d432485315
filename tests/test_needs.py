"""Vague words as places within a type: the lexicon, what it means on a catalog, and what a search makes of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

import engine
from benchmarks.needs import judged_of
from benchmarks.needs_judgments import Judge
from engine.catalog import read_catalog
from engine.cli import app
from engine.columns import Columns
from engine.errors import ConfigError
from engine.needs.categories import Categories, before_links
from engine.needs.learnt import learn
from engine.needs.lexicon import Lexicon
from engine.needs.match import Matcher
from engine.needs.measures import Measures
from engine.needs.numbers import NUMBERS
from engine.preferences import Preference, Scope, Wants
from engine.product import Product
from engine.storage.products import ProductStore
from engine.types import Candidates
from tests.conftest import SAMPLE

LEXICON = Lexicon.named("shipped")


def columns_of(directory: Path, products: list[Product]) -> Columns:
    list(Columns.build(directory, ProductStore.write(directory, products)))
    return Columns.open(directory)


def fridge(number: int, litres: float | None, **more: object) -> Product:
    attributes = {} if litres is None else {"capacity_l": litres}
    return Product(
        product_id=f"f{number}", title=f"Fridge {number}", category=("Home", "Fridges"),
        attributes={**attributes, **more}, price=100.0 + number,
    )  # fmt: skip


class TestLexicon:
    def test_the_longest_phrase_is_read_and_a_superlative_before_a_word(self):
        matcher = Matcher(LEXICON)
        found = matcher.find(["phone", "with", "long", "battery", "life", "for", "gaming"])
        assert [(word.kind, word.name) for word in found] == [("gradable", "long battery"), ("use", "gaming")]
        assert [word.most for word in matcher.find(["latest", "tablet"])] == [True]

    @pytest.mark.parametrize("words", ["big family", "big families", "movie nights", "selfie", "selfies", "athletes"])
    def test_plurals_are_read_as_singulars(self, words: str):
        assert Matcher(LEXICON).find(words.split())

    def test_a_shops_file_replaces_adds_and_takes_away(self, tmp_path: Path):
        own = tmp_path / "own.toml"
        own.write_text(
            '[gradable.cheap]\nwords = ["a steal"]\nleast = ["price"]\n[use.gaming]\n[use.diy]\nwords = ["diy"]\n'
        )
        lexicon = Lexicon.named(str(own))
        assert lexicon.gradable["cheap"].words == ("a steal",)
        assert "gaming" not in lexicon.use
        assert lexicon.use["diy"].words == ("diy",)
        assert lexicon.gradable["big"] == LEXICON.gradable["big"]

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ('[use.x]\nwords = ["x"]\nwants = [{most = "a", least = "b"}]', "one of most, least and has"),
            ('[gradable.x]\nwords = ["!"]', "holds no word"),
            ('[gradable.x]\nwrods = ["x"]', "wrods"),
        ],
    )
    def test_what_is_wrong_in_it_is_named(self, tmp_path: Path, text: str, said: str):
        own = tmp_path / "own.toml"
        own.write_text(text)
        with pytest.raises(ConfigError, match=said):
            Lexicon.named(str(own))

    def test_no_judged_query_stands_in_it(self):
        text = json.dumps([sorted(entry.words) for entry in LEXICON.use.values()])
        queries = [judged.query.lower() for name in ("sample", "mission") for judged in judged_of(name)]
        assert not [query for query in queries if f'"{query}"' in text]


class TestMeasures:
    def test_places_are_within_the_rows_and_what_is_not_said_has_none(self, tmp_path: Path):
        columns = columns_of(tmp_path, [*(fridge(n, litres) for n, litres in enumerate((100, 200, 200, 300, None)))])
        measures = Measures(columns, {}, NUMBERS)
        rows = np.array([True, True, True, False, True])
        [field] = measures.fields("capacity")
        places = measures.places(field, rows, most=True)
        np.testing.assert_allclose(places, [1 / 6, 4 / 6, 4 / 6, np.nan, np.nan], rtol=1e-6)
        np.testing.assert_allclose(measures.places(field, rows, most=False)[:3], 1 - places[:3], rtol=1e-6)
        assert measures.fact(field, 0) == "capacity 100 L"
        assert measures.fact(field, 4) == ""

    def test_texts_are_read_as_numbers_where_they_are(self, tmp_path: Path):
        shown = ["1920x1080", "3840x2160", "4K", "HD"]
        columns = columns_of(tmp_path, [fridge(n, n, resolution=text) for n, text in enumerate(shown)])
        numbers = Measures(columns, LEXICON.scale, NUMBERS).numbers("attributes.resolution")
        assert numbers is not None
        assert numbers[3] < numbers[0] < numbers[1] == numbers[2]

    def test_few_ratings_are_pulled_to_the_mean(self, tmp_path: Path):
        rated = [(5.0, 1), (4.6, 4000), (3.0, 4000)]
        products = [replace(fridge(n, 1), rating=rating, rating_count=count) for n, (rating, count) in enumerate(rated)]
        quality = Measures(columns_of(tmp_path, products), {}, NUMBERS).numbers("quality")
        assert quality is not None
        assert quality[1] > quality[0] > quality[2]


def test_categories_are_what_their_last_word_says(tmp_path: Path):
    paths = [("Wear", "Smartwatches"), ("Wear", "Watch Straps"), ("Audio", "Earphones"), ("Mobiles", "Smartphones")]
    paths += [("Mobiles", "Smartphones"), ("Mobiles", "Feature Phones")]
    products = [Product(product_id=str(n), title="x", category=path) for n, path in enumerate(paths)]
    categories = Categories(columns_of(tmp_path, products))
    [(name, rows)] = categories.called(["watch"])
    assert (name, np.flatnonzero(rows).tolist()) == ("Smartwatches", [0])
    named = categories.named(["best", "phone", "for", "watch"])
    assert named is not None
    assert np.flatnonzero(named[1]).tolist() == [3, 4, 5]
    named = categories.named(["feature", "phone"])
    assert named is not None
    assert np.flatnonzero(named[1]).tolist() == [5]
    assert categories.named(["for", "phone"]) is None
    assert categories.named(["outdoor"]) is None  # no "door"


def test_a_noun_means_what_most_of_its_name_are(tmp_path: Path):
    paths = [("Mobiles", "Smartphones")] * 30 + [("Mobiles", "Feature Phones"), ("Mobiles", "Foldables")]
    paths += [("Extras", "Phone Cases")] * 3
    products = [Product(product_id=str(n), title="x", category=path) for n, path in enumerate(paths)]
    categories = Categories(
        columns_of(tmp_path, products), having=lambda word: np.arange(len(paths)) == (30 if word == "keypad" else -1)
    )

    def head(query: str, named: dict[str, list[int]] | None = None) -> list[int] | None:
        def by_name(words: tuple[str, ...]) -> np.ndarray | None:
            rows = (named or {}).get(" ".join(words))
            return None if rows is None else np.isin(np.arange(len(paths)), rows)

        mask = categories.head(query.split(), lambda word: word in ("5g", "black"), by_name)
        return None if mask is None else np.flatnonzero(mask).tolist()

    phones = [*range(30), 31]  # foldables are beside, and feature phones too few
    assert head("good phone with case") == phones == head("phone 5g black")
    assert head("feature phone") == [30]
    assert head("mobile phone") == phones == head("mobile phone", {"mobile phone": [30]})
    assert head("mobile", {"mobile": [30]}) == phones[:-1]  # what few mobiles are is not meant, whatever they are named
    assert head("android phone") == phones  # the few that are not meant do not have the word either
    assert head("keypad phone") == [*phones[:-1], 30, 31]
    assert head("which phone") == phones
    assert head("phone case") is None  # another word names another category
    assert head("phone case", {"phone case": [32, 33, 34]}) == [32, 33, 34]  # unless it is of the name
    assert head("phone arm") is None
    assert head("phone", {"phone": [0, 32, 33, 34]}) is None  # most of what is called so is elsewhere
    assert head("case phone", {"case phone": [32]}) is None


def test_what_products_that_name_a_use_share_is_learnt(tmp_path: Path):
    rng = np.random.default_rng(1)
    products = [fridge(n, float(rng.integers(100, 900)), hertz_hz=float(60 + 60 * (n % 4 == 0))) for n in range(80)]
    columns = columns_of(tmp_path, products)
    rows = np.ones(80, np.bool_)
    saying = np.arange(0, 80, 4)
    found = learn(saying, rows, Measures(columns, {}, replace(NUMBERS, least_values=2)), columns, 4)
    assert [want.most for want in found.wants] == ["attributes.hertz_hz"]
    assert not learn(saying[:2], rows, Measures(columns, {}, NUMBERS), columns, 4).wants  # two are no evidence


class TestOrder:
    FOUND = Candidates(np.array([4, 2, 0, 1, 3]), np.array([1.0, 0.9, 0.8, 0.7, 0.1], np.float32))

    def preference(self, fit: list[float], *, orders: bool = False) -> Preference:
        return Preference("x", np.array(fit, np.float32), 1.0, lambda row: "", "x", orders)

    def test_a_superlative_orders_what_is_relevant_enough_and_scores_never_rise(self):
        fit = [0.9, 0.1, 0.5, 1.0, np.nan]
        wants = Wants((self.preference(fit, orders=True),), qualifying_share=0.5)
        relevant = wants.relevant(self.FOUND)
        assert relevant.tolist() == [4, 2, 0, 1]
        ordered = wants.ordered(self.FOUND, relevant)
        assert ordered.rows.tolist() == [0, 2, 1, 4, 3]
        assert ordered.scores.tolist() == self.FOUND.scores.tolist()
        within = wants.ordered(self.FOUND, relevant, np.array([False, True, True, True, True]))
        assert within.rows.tolist() == [2, 1, 0, 4, 3]  # 0 is beyond a limit

    def test_types_take_turns(self):
        groups = tuple(Scope(np.isin(np.arange(5), rows)) for rows in ([2, 3], [0, 4]))
        wants = Wants((self.preference([0.5] * 5),), groups=groups)
        assert wants.ordered(self.FOUND, self.FOUND.rows).rows.tolist() == [2, 4, 3, 0, 1]
        within = wants.ordered(self.FOUND, self.FOUND.rows, np.array([True, True, False, True, True]))
        assert within.rows.tolist() == [3, 4, 0, 2, 1]

    def test_what_is_not_said_neither_wins_nor_vanishes(self):
        wants = Wants((self.preference([0.0, 1.0, np.nan, np.nan, np.nan]),), unknown_fit=0.3)
        preferred = wants.preferred(Candidates(np.arange(3), np.zeros(3, np.float32)))
        assert preferred.rows.tolist() == [1, 2, 0]


class TestSample:
    def test_superlatives_put_the_type_in_order(self, sample: engine.SearchEngine):
        weights = [hit.product.attributes["weight_kg"] for hit in sample.search("lightest laptop", 5).hits]
        assert weights == sorted(weights)
        prices = [hit.product.price for hit in sample.search("cheapest washing machine", 5).hits]
        assert prices == sorted(prices)

    def test_a_superlative_is_the_same_on_every_page(self, sample: engine.SearchEngine):
        whole = [hit.product.product_id for hit in sample.search("phone with longest battery", 20).hits]
        paged = [hit.product.product_id for hit in sample.search("phone with longest battery", 10, offset=10).hits]
        assert whole[10:] == paged

    def test_a_query_without_a_need_is_ranked_as_without_a_lexicon(self, sample: engine.SearchEngine):
        plain = sample.configured(replace(sample.config, needs=""))
        for query in ("double door fridge", "s23 ultra 256gb", "usb c charger 25w"):
            with_needs, without = sample.search(query, 10), plain.search(query, 10)
            assert [(h.product.product_id, h.score) for h in with_needs.hits] == [
                (h.product.product_id, h.score) for h in without.hits
            ]
            assert "needs" not in [report.stage for report in with_needs.stages]

    @pytest.mark.parametrize(
        "query", ["phone for gaming", "big television", "laptop for video editing", "earbuds for travel", "cheapest tv"]
    )
    def test_facts_that_are_told_are_the_products_own(self, sample: engine.SearchEngine, query: str):
        result = sample.search(query, 5)
        assert result.route is not None
        told = 0
        for hit, sku in zip(result.hits, result.route.skus, strict=True):
            own = {**hit.product.attributes, "price": hit.product.price, "rating": hit.product.rating}
            own["popularity"] = hit.product.popularity
            for fact in re.split("[;,] ", sku.reason):
                match = re.fullmatch(r"([a-z ]+) (\d+(?:\.\d+)?)(?: \w+)?", fact)
                if match:
                    fields = [value for name, value in own.items() if name.replace("_", " ").startswith(match[1])]
                    assert float(match[2]) in fields, fact
                    told += 1
        assert told

    @pytest.mark.parametrize(
        ("query", "category"),
        [
            ("laptop with best display", "Laptops"), ("phones with stylus", "Mobiles"), ("outdoor tv", "Televisions"),
            ("monitors with speakers", "Monitors"), ("fitness tracker under 5000", "Fitness Bands"),
            ("pen drive cheapest", "USB Flash Drives"), ("smallest power bank", "Power Banks"),
        ],
    )  # fmt: skip
    def test_what_a_query_calls_the_thing_comes_first(self, sample: engine.SearchEngine, query: str, category: str):
        assert all(category in hit.product.category for hit in sample.search(query, 3).hits)

    def test_a_superlative_is_of_what_has_the_other_words(self, sample: engine.SearchEngine):
        first = sample.search("cheapest laptop with 16gb ram", 3).hits
        assert {hit.product.attributes["ram_gb"] for hit in first} == {16}
        assert all(hit.product.attributes["curved"] for hit in sample.search("lowest price curved monitor", 3).hits)
        assert all("Fully" in hit.product.title for hit in sample.search("cheapest fully automatic washer", 2).hits)

    @pytest.mark.parametrize("query", ["single door fridge not too big", "single door fridge not big"])
    def test_a_not_turns_a_direction_round(self, sample: engine.SearchEngine, query: str):
        litres, more = (
            [float(hit.product.attributes["capacity_l"]) for hit in sample.search(text, 3).hits]  # type: ignore[arg-type]
            for text in (query, query.replace("not too ", "").replace("not ", ""))
        )
        assert np.mean(litres) < np.mean(more)
        assert max(litres) < 200

    def test_types_that_take_turns_keep_to_limits(self, sample: engine.SearchEngine):
        assert all(hit.product.price <= 5000 for hit in sample.search("gifts under 5000", 3).hits if hit.product.price)

    @pytest.mark.parametrize("query", ["samsung", "samsung spring sale", "offers"])
    def test_who_names_no_thing_is_shown_the_most_wanted_of_several_types(
        self, sample: engine.SearchEngine, query: str
    ):
        products = [hit.product for hit in sample.search(query, 4).hits]
        assert len({product.category[:2] for product in products}) > 1
        assert not any("Accessories" in product.category for product in products)

    @pytest.mark.parametrize("query", ["which phone is best for gaming", "which phone should i buy for gaming"])
    def test_a_question_for_the_best_names_its_type(self, sample: engine.SearchEngine, query: str):
        assert all("Smartphones" in hit.product.category for hit in sample.search(query, 3).hits)

    def test_offers_of_a_model_are_that_model(self, sample: engine.SearchEngine):
        assert all("S23 Ultra" in hit.product.title for hit in sample.search("s23 ultra offers", 3).hits)

    def test_a_query_without_a_type_is_answered_by_several_in_turn(self, sample: engine.SearchEngine):
        hits = sample.search("gift for a photographer", 6).hits
        assert len({hit.product.category[:2] for hit in hits[:3]}) == 3

    def test_most_judged_queries_have_a_first_hit_that_fits(self, sample: engine.SearchEngine):
        judge = Judge(list(read_catalog(SAMPLE / "corpus.jsonl")))
        fits = [
            sample.search(judged.query, 1).hits[0].product.product_id in judge.fitting(judged.fits)
            for judged in judged_of("sample", "dev")
        ]
        assert sum(fits) >= 0.85 * len(fits)

    def test_the_command_shows_and_writes(self, tmp_path: Path, sample: engine.SearchEngine):
        index = str(sample.version.parent.parent)
        shown = json.loads(CliRunner().invoke(app, ["needs", index, "--json"]).stdout)
        big = [need for need in shown if (need["name"], need["category"]) == ("big", "Home Appliances > Refrigerators")]
        assert big[0]["asks"] == ["most capacity_l"]
        out = tmp_path / "own.toml"
        assert CliRunner().invoke(app, ["needs", index, "--write", str(out)]).exit_code == 0
        assert Lexicon.named(str(out)) == LEXICON


@pytest.mark.parametrize(
    ("query", "thing"),
    [
        (["", "on", "tv"], ["tv"]),  # "sale on tv"
        (["", "for", "a", "tv", "with", "stand"], ["tv"]),
        (["", "for", "a", ""], [""]),  # "gift for a photographer"
        (["tv", "on", "sale"], ["tv"]),
    ],
)
def test_words_that_were_read_lead_to_the_thing(query: list[str], thing: list[str]):
    assert before_links(query) == thing


def test_a_for_yields_to_a_longer_phrase_and_the_beginning_of_a_categorys_name_is_no_need(sample: engine.SearchEngine):
    assert not Matcher(LEXICON).find(["pen", "for", "a", "phone"])
    assert [(word.name, word.end) for word in Matcher(LEXICON).find(["tv", "for", "my", "kids"])] == [("kids", 4)]
    assert [word.name for word in Matcher(LEXICON).find(["watch", "for", "her"])] == ["gift"]
    assert [word.name for word in Matcher(LEXICON).find(["monitor", "for", "photo", "editing"])] == ["video editing"]
    route = sample.search("top load washer", 3).route
    assert route is not None
    assert not any("best" in note for note in route.notes)


def test_a_flag_beside_the_type_narrows_what_is_cheapest(sample: engine.SearchEngine):
    [hit] = sample.search("cheapest tablet with s pen", 1).hits
    assert hit.product.attributes["s_pen"] is True


def test_a_size_is_what_is_called_so_and_not_some_capacity(tmp_path: Path):
    products = [fridge(n, None, ssd_capacity=100 + n, screen_size_in=20 - n) for n in range(8)]
    measures = Measures(columns_of(tmp_path, products), {}, NUMBERS)
    assert measures.is_just("attributes.screen_size_in", "screen size")
    assert not measures.is_just("attributes.ssd_capacity", "capacity")
    rows = np.ones(8, np.bool_)
    assert measures.named(["capacity", "laptop"], rows) == "attributes.ssd_capacity"  # named from the middle
