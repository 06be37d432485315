"""The made queries of the locale study, and the study itself on a tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from benchmarks.data import DataError
from benchmarks.q2pt_locales import AGNOSTIC, AWARE, SPECIFIC, measure
from benchmarks.synthetic_locales import WORD_TYPES, synthetic_markets
from qpt.taxonomy import Taxonomy, TypeNode
from tests.training_sets import write_base
from training.tasks.types import TypeModelSettings, TypeTrainingSettings

SIZES = {"en-US": 120, "en-GB": 40, "es-ES": 20}


@pytest.fixture
def taxonomy() -> Taxonomy:
    return Taxonomy(TypeNode(t, {"en-US": f"Things {t}", "es-ES": f"Cosas {t}"}) for t in (*WORD_TYPES, "7", "8"))


def test_markets_are_the_same_each_time_and_hold_nothing_back_for_learning(taxonomy: Taxonomy) -> None:
    types, markets = synthetic_markets(taxonomy, 3, SIZES, 50)
    assert (types, markets) == synthetic_markets(taxonomy, 3, SIZES, 50)
    assert {m.locale: len(m.train) for m in markets} == SIZES
    asked: dict[str, set[str]] = {}
    for market in markets:
        assert len(market.test) == len(market.shared) == 50
        assert not {e.query for e in market.train} & {e.query for e in market.test}
        for example in (*market.train, *market.test):
            assert (example.locale, example.type_id in types) == (market.locale, True)
            asked.setdefault(example.query, set()).add(example.type_id)
    assert any(len(of_query) > 1 for of_query in asked.values())  # the same words, another type elsewhere
    with pytest.raises(DataError, match="the taxonomy lacks the type"):
        synthetic_markets(Taxonomy([TypeNode("7", {"en-US": "Things"})]), 0, SIZES, 5)


def test_the_study_compares_three_variants_by_locale(taxonomy: Taxonomy, tmp_path: Path) -> None:
    _, markets = synthetic_markets(taxonomy, 0, SIZES, 40)
    base = write_base(tmp_path / "base", [e.query for m in markets for e in m.train])
    training = TypeTrainingSettings(
        epochs=2, learning_rate=0.003, names=0.0, distance=1.0, threads=1, bf16="off", queries_per_batch=32
    )
    told: list[str] = []
    result = measure(taxonomy, 1, TypeModelSettings(base=str(base)), training, told.append, SIZES, 40)
    assert len(told) == 3
    for found in result["by_locale"].values():
        assert set(found["all"]) == {SPECIFIC, AGNOSTIC, AWARE}
        for of in found["all"].values():
            assert 0 <= of["interval"][0] <= of["mean"] <= of["interval"][1] <= 1
        assert len(found["comparisons"]) == 3
