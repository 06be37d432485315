"""Rewriting as a stage of a search: when it runs, what it adds, and that no rewriter can break a search."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from engine import ConfigError, ModelError, SearchConfig, SearchEngine, SearchResult, StageReport
from engine.builder import build_index
from engine.types import Rewrite, Scored
from tests.conftest import HashedWordsEncoder, synthetic_products
from training.data.rewrites import ByRule, judged

QUERY = "wide screen"  # finds televisions, and names no category
REWRITE = "globex phone case"


class Says:
    """A rewriter that says what it is told to, and remembers what it was asked."""

    def __init__(self, *texts: str, error: Exception | None = None) -> None:
        self.texts, self.error, self.asked = texts, error, []

    def rewrite(self, query: str) -> Sequence[Rewrite]:
        self.asked.append(query)
        if self.error:
            raise self.error
        return [Rewrite(text, -float(place)) for place, text in enumerate(self.texts)]


class Flat:
    """A reranker, and the model it comes from, that finds every product as probable."""

    fingerprint = "flat"

    def __init__(self, probability: float) -> None:
        self._probability = probability

    def build(self, directory: Path, products) -> str:
        return "flat"

    def open(self, directory: Path, threads: int) -> Flat:
        return self

    def understands(self, query: str) -> bool:
        return True

    def score(self, query: str, rows: np.ndarray, deadline: float | None) -> Scored:
        return Scored(np.full(len(rows), self._probability, np.float32))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("flat")
    build_index(synthetic_products(), directory, encoder=HashedWordsEncoder(), reranker=Flat(0.1))
    return directory


@pytest.fixture
def load(directory: Path) -> Callable[..., SearchEngine]:
    def opened(rewriter: Says | None, probability: float = 0.1, **config) -> SearchEngine:
        return SearchEngine.load(
            directory, SearchConfig(depth=40, **config), encoder=HashedWordsEncoder(), reranker=Flat(probability),
            rewriter=rewriter, verify=False,
        )  # fmt: skip

    return opened


def ids(result: SearchResult) -> list[str]:
    return [hit.product.product_id for hit in result.hits]


def stages(result: SearchResult, name: str = "rewrite") -> list[StageReport]:
    return [report for report in result.stages if report.stage == name]


def test_a_poor_answer_gets_the_products_of_other_words(load) -> None:
    plain, found = (load(says, rewrite_weight=1.0).search(QUERY, 20) for says in (None, Says(REWRITE)))
    cases = {p.product_id for p in synthetic_products() if p.category[-1] == "Cases"}
    assert not cases & set(ids(plain)[:5])
    assert cases & set(ids(found)[:10])
    (report,) = stages(found)
    assert (report.status, report.n_in <= report.n_out) == ("ran", True)
    assert f"{QUERY} → also {REWRITE}" in report.note
    assert len(stages(found, "rerank")) == 2
    traced = [trace for trace in found.hits[0].trace if trace.stage == "rewrite"]
    assert traced[0].rank == 1
    assert traced[0].score == pytest.approx(1.0)


def test_weight_says_how_much_they_count(load) -> None:
    """The more it is, the higher stands the rewrite's best product; 0 is off."""
    best = ids(load(None).search(REWRITE, 1))[0]
    places = [ids(load(Says(REWRITE), rewrite_weight=w).search(QUERY, 60)).index(best) for w in (0.1, 0.5, 1.0)]
    assert places == sorted(places, reverse=True)
    assert places[0] > places[-1]
    off = Says(REWRITE)
    assert ids(load(off, rewrite_weight=0.0).search(QUERY, 60)) == ids(load(None).search(QUERY, 60))
    assert off.asked == []


def test_a_good_answer_is_left_alone(load) -> None:
    rewriter = Says(REWRITE)
    found = load(rewriter, probability=0.9).search(QUERY)
    plain = load(None, probability=0.9).search(QUERY)
    assert [(hit.rank, hit.score, hit.product) for hit in found.hits] == [
        (hit.rank, hit.score, hit.product) for hit in plain.hits
    ]
    assert rewriter.asked.count(QUERY) == 0
    assert (stages(found)[0].status, stages(found)[0].note) == ("skipped", "the best product is 90% probable")
    assert stages(load(Says(REWRITE), rerank_depth=0).search(QUERY))[0].note == "nothing was reranked"


HOSTILE = ["", "  ", "\n\t", "?!", QUERY.upper(), "\ud800", "\x00\x07", " ".join([QUERY] * 1)]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_no_other_query_is_not_asked(load, text: str) -> None:
    found = load(Says(text)).search(QUERY)
    assert ids(found) == ids(load(None).search(QUERY))
    assert (stages(found)[0].status, stages(found)[0].note) == ("skipped", "no other words for it")


@pytest.mark.parametrize("text", ["phone " * 100_000, "a\ud800b\x00 phone", "<b>phone</b>", "(phone", "холодильник"])
def test_any_text_can_be_asked(load, text: str) -> None:
    found = load(Says("", text)).search(QUERY, 100)
    assert stages(found)[0].status == "ran"
    assert len(stages(found)[0].note) < 400
    assert stages(found)[0].note.isprintable()
    assert set(ids(load(None).search(QUERY, 3))) <= set(ids(found))  # nothing that was found is taken away


def test_a_rewriter_that_fails_leaves_the_answer_as_it_was(load) -> None:
    found = load(Says(error=RuntimeError("no memory"))).search(QUERY)
    assert ids(found) == ids(load(None).search(QUERY))
    assert (stages(found)[0].status, stages(found)[0].note) == ("degraded", "RuntimeError: no memory")
    assert found.degraded


def test_pages_are_stable(load) -> None:
    engine = load(Says(REWRITE))
    every = ids(engine.search(QUERY, 60))
    assert [i for offset in range(0, 60, 7) for i in ids(engine.search(QUERY, 7, offset=offset))][:60] == every
    assert len(set(every)) == len(every)


def test_filters_hold_for_a_rewrite_too(load) -> None:
    from engine import Equal

    found = load(Says(REWRITE)).search(QUERY, 60, filters=[Equal("brand", "Acme")])
    assert stages(found)[0].status == "ran"
    assert {hit.product.brand for hit in found.hits} == {"Acme"}


def test_without_time_it_is_left_out(load) -> None:
    engine = load(Says(REWRITE))
    for _ in range(3):
        engine.search(QUERY)
    assert stages(engine.search(QUERY, deadline_ms=0.0))[0].status in ("degraded", "skipped")


def test_off_by_default_it_is_not_even_loaded(directory: Path) -> None:
    assert SearchConfig().rewriter == ""
    code = (
        "import sys\nfrom engine import SearchEngine\nfrom tests.conftest import HashedWordsEncoder\n"
        "from tests.test_rewriter_search import Flat\nfor name in list(sys.modules):\n"
        "    if name.startswith('qpt.rewriter'): del sys.modules[name]\n"
        f"engine = SearchEngine.load({str(directory)!r}, encoder=HashedWordsEncoder(), reranker=Flat(0.1))\n"
        f"stages = [report.stage for report in engine.search({QUERY!r}).stages]\n"
        "print('rewrite' in stages, 'qpt.rewriter' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_settings_that_cannot_be_say_so(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="rewrite_below"):
        SearchConfig(rewrite_below=1.5)
    with pytest.raises(ModelError, match=r"rewriter\.json"):
        SearchEngine.load(
            directory, SearchConfig(rewriter=str(tmp_path)), encoder=HashedWordsEncoder(), reranker=Flat(0.1)
        )


def test_feedback_is_what_the_engine_finds(load) -> None:
    """Gain is nDCG of the rewrite less that of the query; a query that finds nothing wanted, whatever is said, is no
    example."""
    engine = load(None, rerank_depth=0)
    wanted = ids(engine.search(REWRITE, 3))
    row = judged(engine, QUERY, dict.fromkeys(wanted, 1.0), [REWRITE, QUERY, "fridge"])
    assert row is not None
    by_text = {rewrite.text: rewrite.gain for rewrite in row.rewrites}
    assert set(by_text) == {REWRITE, "fridge"}
    assert by_text[REWRITE] > 0.8
    assert by_text[REWRITE] > by_text["fridge"]
    assert row.best.text == REWRITE
    assert judged(engine, QUERY, {"nowhere": 1.0}, ["fridge"]) is None


def test_rules_drop_and_add_words(load) -> None:
    engine = load(None)
    case = next(p for p in synthetic_products() if p.category[-1] == "Cases")
    made = ByRule(engine._analyzer)("the cheap case", [case])
    assert "the case" in made
    assert "the cheap" in made
    assert "the cheap case phone" in made
    assert not any("case cases" in text for text in made), "its stem is there already"
