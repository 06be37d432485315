"""The one-pass encoder keeps the contract of every reranker; this needs no training extra."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ranking.lists import named
from ranking.onepass import OnePassModel
from tests.conftest import synthetic_products
from tests.one_passes import write_one_pass
from tests.reranker_contract import QUERY, RerankerContract

PRODUCTS = synthetic_products()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_one_pass(tmp_path_factory.mktemp("one-pass"), PRODUCTS)


class TestOnePass(RerankerContract):
    @pytest.fixture
    def subject(self, directory: Path) -> Any:
        return named(str(directory)).open(lambda rows: [PRODUCTS[row] for row in rows], None, 2)

    def test_a_score_does_not_depend_on_the_order_within_a_list(self, subject: Any, rows: np.ndarray) -> None:
        few = rows[:7]
        forwards, backwards = (subject.score(QUERY, order, None).scores for order in (few, few[::-1]))
        np.testing.assert_allclose(forwards, backwards[::-1], atol=1e-5)

    def test_more_rows_than_a_list_holds_are_dealt_out_evenly(self, subject: Any, directory: Path) -> None:
        made: list[int] = []
        model = OnePassModel(directory)
        asked = model.probabilities
        model.probabilities = lambda query, products: (made.append(len(products)), asked(query, products))[1]  # type: ignore[method-assign]
        opened = model.open(lambda rows: [PRODUCTS[row] for row in rows], None, 1)
        opened.score(QUERY, np.arange(15), None)
        assert sorted(made) == [5, 5, 5]
