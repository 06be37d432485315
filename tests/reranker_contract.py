"""What every reranker must do; each one's test class inherits this and opens it on ``synthetic_products``."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

QUERY = "acme phone with a bright camera"
N = 120
_AT_ONCE = 0.5  # seconds; generous, so that a busy machine does not fail it


class RerankerContract:
    """A test class gives ``subject``: a reranker opened on the 120 products of ``synthetic_products``."""

    @pytest.fixture
    def rows(self) -> np.ndarray:
        return np.random.default_rng(2).permutation(N)[:50].astype(np.int64)

    def test_probabilities_in_input_order(self, subject: Any, rows: np.ndarray) -> None:
        scores = subject.score(QUERY, rows, None).scores
        assert scores.shape == rows.shape
        assert scores.dtype == np.float32
        assert ((scores >= 0) & (scores <= 1)).all()

    def test_without_a_deadline_every_row_is_scored(self, subject: Any) -> None:
        for n in (1, 2, 7, 8, 9, N):
            assert np.isfinite(subject.score(f"acme phone {n}", np.arange(n), None).scores).all()

    def test_with_time_enough_every_row_is_scored(self, subject: Any, rows: np.ndarray) -> None:
        scores = subject.score("white fridge", rows, time.perf_counter() + 60).scores
        assert np.isfinite(scores).all()

    def test_no_rows(self, subject: Any) -> None:
        for deadline in (None, 0.0, time.perf_counter() + 60):
            assert subject.score(QUERY, np.empty(0, np.int64), deadline).scores.shape == (0,)

    def test_no_time(self, subject: Any, rows: np.ndarray) -> None:
        started = time.perf_counter()
        scores = subject.score("a query not asked before", rows, started - 1).scores
        assert time.perf_counter() - started < _AT_ONCE
        assert scores.shape == rows.shape
        assert np.isnan(scores).all()

    def test_rows_are_left_as_they_are(self, subject: Any, rows: np.ndarray) -> None:
        before = rows.copy()
        subject.score("acme tv", rows, None)
        np.testing.assert_array_equal(rows, before)

    def test_what_is_relevant_is_more_probable(self, subject: Any) -> None:
        scores = subject.score("fridge keeps food fresh for a family", np.arange(N), None).scores
        fridges = np.arange(N) % 4 == 1
        assert scores[fridges].min() > scores[~fridges].max()

    @pytest.mark.parametrize("query", ["", " ", "\x00", "🙂", "acme " * 2_000, "x" * 100_000])
    def test_any_query_has_an_answer(self, subject: Any, query: str) -> None:
        assert isinstance(subject.understands(query), bool)
        assert np.isfinite(subject.score(query, np.arange(5), None).scores).all()

    def test_a_query_without_known_words_is_not_understood(self, subject: Any) -> None:
        assert subject.understands(QUERY)
        assert not subject.understands("холодильник")

    def test_threads_get_the_same_answers(self, subject: Any, rows: np.ndarray) -> None:
        queries = [f"{color} {kind}" for color in ("acme", "globex") for kind in ("phone", "fridge", "tv", "case")]
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda query: subject.score(query, rows, None).scores, queries * 3))
        for query, scores in zip(queries * 3, found, strict=True):
            np.testing.assert_allclose(scores, subject.score(query, rows, None).scores, atol=1e-5)


class PointwiseContract(RerankerContract):
    """For rerankers that judge each product for itself."""

    def test_a_score_does_not_depend_on_what_else_is_scored(self, reopen: Any, rows: np.ndarray) -> None:
        together = reopen().score(QUERY, rows, None).scores
        alone = np.concatenate([reopen().score(QUERY, rows[[i]], None).scores for i in range(0, 50, 7)])
        np.testing.assert_allclose(alone, together[::7], atol=1e-5)

    def test_a_score_does_not_depend_on_the_order(self, reopen: Any, rows: np.ndarray) -> None:
        forwards, backwards = (reopen().score(QUERY, order, None).scores for order in (rows, rows[::-1]))
        np.testing.assert_allclose(forwards, backwards[::-1], atol=1e-5)
