"""Names of models: where a query has them, how titles write them, and what they do to the order."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import EngineConfig, IndexConfig, Product, SearchConfig, SearchEngine, SearchResult
from engine.understanding.names import ModelName, find_names
from engine.understanding.understand import STEPS, QueryUnderstanding
from engine.understanding.words import GRAMMAR, tokens
from tests.conftest import HashedWordsEncoder


def named(query: str, *steps: str) -> list[str]:
    return [name.text for name in QueryUnderstanding(steps=steps or STEPS).understand(query).names]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("s23 ultra", ["s23 ultra"]),
        ("S23 Ultra", ["s23 ultra"]),
        ("galaxy tab s9 fe case", ["tab s9", "s9 fe"]),
        ("ultra s23", ["ultra s23"]),
        ("s23+ ultra", ["s23+ ultra"]),
        ("a1 b c2 dd e3 ff g4 hh", ["a1", "c2 dd", "dd e3", "e3 ff"]),  # four at most
        # a code alone, and its plus, whichever way it is written
        ("s23", ["s23"]),
        ("s23+", ["s23+"]),
        ("galaxy S23 plus case", ["galaxy s23+", "s23+ case"]),
        ("plus s23", ["plus s23"]),
        ("s23 s24", ["s23", "s24"]),
        # neither a measure nor a limit
        ("55 inch tv", []),
        ("4k tv", []),
        ("tv under 60k", []),
        ("5g phone", []),
        ("s 23", ["s23"]),
        # what is beside the code says nothing
        ("s23 under 60k", ["s23"]),
        ("case for s23", ["s23"]),
        ("s23 with pen", ["s23"]),
        ("s23 best price", ["s23"]),
        ("s23 2", ["s23"]),
        ("qn55q60bafxza tv", []),  # a code that is whole by itself
        # what is excluded is not asked for, nor does it bring what stands around it together
        ("phone without s23 ultra", []),
        ("s 23 ultra", ["s23 ultra"]),
        ("galaxy a 14", ["galaxy a14"]),
        ("buy a 14 inch laptop", []),
        ("a 14 pro", []),
        ("galaxy s23 without tab s9", ["galaxy s23"]),
        ("s23 without charger, ultra case", ["s23"]),
        ("", []),
    ],
)
def test_names_are_a_code_and_the_word_beside_it(query: str, names: list[str]) -> None:
    assert named(query) == names


def test_no_word_of_grammar_is_half_a_name() -> None:
    for word in sorted(GRAMMAR):
        assert {*named(f"s23 {word}", "names"), *named(f"{word} s23", "names")} <= {"s23", word}, word


def test_a_name_knows_its_place() -> None:
    query = "new Galaxy Tab-S9, black"
    first, *_ = find_names(query, tokens(query)[2:])
    assert first == ModelName(("tab", "s9"), 11, 17)
    assert query[first.start : first.end] == "Tab-S9"


@pytest.mark.parametrize("query", ["new S23+ case", "new S23 Plus, case"])
def test_a_plus_belongs_to_the_place(query: str) -> None:
    first, second = find_names(query, tokens(query))
    assert query[first.start : first.end].lower() in ("new s23+", "new s23 plus")
    assert query[second.start : second.end] == query[4:]


@pytest.mark.parametrize(
    ("name", "title", "found"),
    [
        ("s23 ultra", "Samsung Galaxy S23 Ultra 5G (Green)", True),
        ("s23 ultra", "Galaxy S-23 Ultra", True),
        ("s23 ultra", "Galaxy S 23 ULTRA", True),
        ("s23 ultra", "Galaxy S23/Ultra case", True),
        ("s23 ultra", "Galaxy S23+/Ultra case", False),
        ("s23", "Galaxy S23 (Green)", True),
        ("s23", "Galaxy S23", True),
        ("s23", "Galaxy S23+ 5G", False),
        ("s23", "Galaxy S23 Plus 5G", False),
        ("s23", "Galaxy S23 and S23+", True),
        ("s23+", "Galaxy S23+ 5G", True),
        ("s23+", "Galaxy S23 Plus", True),
        ("s23 plus", "Galaxy S-23 +", True),
        ("s23 plus", "Galaxy S23 5G", False),
        ("s23 plus", "Galaxy S23 Plush Case", False),
        ("s23 ultra", "The Ultra of the S23s", False),
        ("s23 ultra", "Ultra, the best S23", True),
        ("ultra s23", "Galaxy S23 Ultra", True),
        ("galaxy a9", "Galaxy Tab A9 11 inch", True),
        ("a9 wi", "Galaxy Tab A9 11 inch Wi-Fi", True),
        ("tab a9", "Galaxy Tab A9 11 inch", True),
        ("tab a9+", "Galaxy Tab A9+ 11 inch", True),
        ("tab a9", "Tabs: A9", True),
        ("s23 ultra", "S23 phone of the Ultra", False),  # three words between them
        ("s23 ultra", "Galaxy S23, thinner than the Ultra", False),
        ("s23 ultra", "Galaxy S23+", False),
        ("s23 ultra", "Ultra", False),
        ("s23 ultra", "MS23 Ultra", False),
        ("s23 ultra", "S231 Ultra", False),
        ("s23 ultra", "S23 Ultrawide", False),
        ("s23 ultra", "S23Ultra", False),
        ("s23 ultra", "S2 3 Ultra", False),
        ("s23 ultra", "", False),
    ],
)
def test_titles_have_both_words_close_together(name: str, title: str, found: bool) -> None:
    (asked,) = find_names(name, tokens(name))
    assert asked.found_in(title) is found


@pytest.mark.parametrize(
    "text",
    [
        "s23 " * 25_000, "ultra " * 20_000, "s23" + " " * 100_000, "s23 " + "x" * 100_000, "s-" * 50_000,
        "s23 " * 3 + "a" * 100_000 + " ultr", "a1 b " * 20_000, "s23-" * 25_000, "(" * 100_000,
    ],
    ids=range(9),
)  # fmt: skip
def test_hostile_text_costs_no_more_than_its_length(text: str) -> None:
    """A pattern or a loop that goes over all of it again for each of its words would take minutes."""
    (name,) = find_names("s23 ultra", tokens("s23 ultra"))
    assert not name.found_in(text)
    assert len(named(text, "names")) <= 4


TEXTS = st.one_of(
    st.text(max_size=60),
    st.lists(st.sampled_from(["s23", "ultra", "tab", "s9", "55", "no", "without", ",", "-", "É3", "ß1", "İ2", "_"]))
    .map(" ".join),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(TEXTS, TEXTS)
def test_any_text_has_an_answer(query: str, title: str) -> None:
    for name in QueryUnderstanding().understand(query).names:
        assert tokens(query[name.start : name.end])[0].text == name.words[0].rstrip("+")
        assert name.found_in(title) in (True, False)
        assert name.found_in(name.text)
        assert name.found_in(" ".join(reversed(name.words))) or "plus" in name.words


class TestSearch:
    """Both texts have both words, and the one that is not meant has them more often."""

    @pytest.fixture(scope="class")
    @classmethod
    def phones(cls, tmp_path_factory: pytest.TempPathFactory) -> SearchEngine:
        said = {
            "ultra": ("Acme Galaxy S23 Ultra 5G 256GB phantom black", ""),
            "plus": ("Acme Galaxy S23+ 5G", "An S23 is smaller than an Ultra, and the S23+ no Ultra."),
            **{f"a{i}": (f"Acme Galaxy A{i} 5G 128GB", "A phone.") for i in range(10, 20)},
        }
        products = [Product(product_id=key, title=title, description=text) for key, (title, text) in said.items()]
        directory: Path = tmp_path_factory.mktemp("phones")
        config = EngineConfig(index=IndexConfig(reranker="", router=""))
        return SearchEngine.build(products, directory, config, encoder=HashedWordsEncoder())

    def search(self, phones: SearchEngine, *without: str) -> SearchResult:
        steps = tuple(step for step in STEPS if step not in without)
        return phones.configured(SearchConfig(understand=steps)).search("s23 ultra", 3, explain=True)

    def test_the_model_that_is_named_comes_before_one_whose_text_speaks_of_it(self, phones) -> None:
        order = {without: [hit.product.product_id for hit in self.search(phones, without).hits[:2]]
                 for without in ("", "names")}  # fmt: skip
        assert order == {"": ["ultra", "plus"], "names": ["plus", "ultra"]}

    def test_what_was_done_is_told(self, phones) -> None:
        on, off = self.search(phones), self.search(phones, "names")
        assert on.route is not None
        assert on.route.notes == ("s23 ultra → a model's name",)
        assert "named" in next(report.note for report in on.stages if report.stage == "guide")
        assert [trace.rank for trace in on.hits[0].trace if trace.stage == "constraints"] == [1]
        assert [trace.rank for trace in on.hits[0].trace if trace.stage == "feedback"] == [2]
        assert off.route is not None
        assert off.route.notes == ()
        assert not {"guide", "constraints"} & {report.stage for report in off.stages}

    @pytest.mark.parametrize("query", ["galaxy s23 support", "s23 vs a15"])
    def test_neither_another_model_nor_what_is_no_name_takes_from_one(self, phones, query: str) -> None:
        gains = []
        for text in ("galaxy s23", query):
            hit = next(hit for hit in phones.search(text, 12).hits if hit.product.product_id == "ultra")
            scores = {trace.stage: trace.score for trace in hit.trace}
            gains.append(scores["constraints"] - scores["feedback"])
        assert gains[1] > gains[0] - 0.02 > 0.1
