"""What every lexical backend must do; each backend's test class inherits this and names its class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from engine.config import LEXICAL_FIELDS
from engine.errors import IndexCorruptError
from engine.lexical.bm25 import term_score

Document = Mapping[str, Sequence[str]]
WEIGHTS = {"title": 2.0, "brand": 0.5, "body": 1.0}
EMPTY = ["\u2205"]


def synthetic_documents(n: int = 300, seed: int = 7) -> list[Document]:
    """Documents over a small Zipfian vocabulary, some fields empty, some long enough for lengths to be rounded."""
    random = Random(seed)
    words = [f"w{i}" for i in range(60)]
    weights = [1 / (i + 1) for i in range(60)]

    def text(longest: int) -> list[str]:
        return random.choices(words, weights, k=random.randint(0, longest)) or EMPTY

    lengths = {"title": 12, "brand": 2, "model": 2, "category": 3, "attributes": 30, "summary": 40, "body": 150}
    return [{field: text(lengths[field]) for field in LEXICAL_FIELDS} for _ in range(n)]


def reference_scores(
    documents: list[Document], clauses: Sequence[tuple[str, float]], weights: dict[str, float], tie: float
) -> np.ndarray:
    """The contract's formula, document by document, term by term."""
    n = len(documents)
    mean = {f: sum(len(d[f]) for d in documents) / n for f in weights}
    frequency = {(f, t): sum(t in d[f] for d in documents) for f in weights for t, _ in clauses}
    scores = np.zeros(n)
    for row, document in enumerate(documents):
        for term, weight in clauses:
            parts = [
                boost * term_score(list(document[f]).count(term), len(document[f]), mean[f], frequency[f, term], n)
                for f, boost in weights.items()
                if term in document[f]
            ]
            if parts:
                scores[row] += weight * (max(parts) + tie * (sum(parts) - max(parts)))
    return scores


class LexicalBackendContract:
    backend: Any

    @pytest.fixture(scope="class")
    @classmethod
    def documents(cls) -> list[Document]:
        return synthetic_documents()

    @pytest.fixture(scope="class")
    @classmethod
    def index(cls, documents: list[Document], tmp_path_factory: pytest.TempPathFactory) -> Any:
        directory = tmp_path_factory.mktemp("lexical")
        cls.backend.build(directory, iter(documents))
        return cls.backend.open(directory)

    @pytest.mark.parametrize("tie", [0.0, 0.3, 1.0])
    @pytest.mark.parametrize("clauses", [[("w0", 1.0)], [("w3", 1.0), ("w40", 0.6), ("w9", 1.0)], [("w59", 0.8)]])
    def test_scores_are_the_formula(self, index, documents, clauses, tie):
        expected = reference_scores(documents, clauses, WEIGHTS, tie)
        found = index.search(clauses, WEIGHTS, tie, len(documents), None)
        assert len(found) == np.count_nonzero(expected)
        np.testing.assert_allclose(found.scores, expected[found.rows], rtol=1e-4)
        order = np.lexsort((np.arange(len(expected)), -expected))[:10]
        np.testing.assert_allclose(expected[found.rows[:10]], expected[order], rtol=1e-5)

    def test_best_first_unique_ties_by_row(self, index, documents):
        found = index.search([("w0", 1.0)], {"brand": 1.0}, 0.0, 200, None)
        assert len(set(found.rows.tolist())) == len(found)
        keys = list(zip(-found.scores, found.rows, strict=True))
        assert keys == sorted(keys)

    def test_fewer_only_when_no_more_match(self, index, documents):
        clauses = [("w2", 1.0)]
        everything = index.search(clauses, WEIGHTS, 0.1, len(documents), None)
        for k in (1, 5, 50):
            np.testing.assert_array_equal(index.search(clauses, WEIGHTS, 0.1, k, None).rows, everything.rows[:k])

    @pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 1.0])
    def test_allowed_equals_filtering_everything(self, index, documents, share):
        allowed = np.random.default_rng(3).random(len(documents)) < share
        everything = index.search([("w1", 1.0), ("w5", 1.0)], WEIGHTS, 0.1, len(documents), None)
        expected = everything.rows[allowed[everything.rows]][:20]
        np.testing.assert_array_equal(
            index.search([("w1", 1.0), ("w5", 1.0)], WEIGHTS, 0.1, 20, allowed).rows, expected
        )

    def test_unknown_terms_find_nothing(self, index):
        assert len(index.search([("nowhere", 1.0)], WEIGHTS, 0.1, 10, None)) == 0

    def test_document_frequency(self, index, documents):
        for field in ("title", "body"):
            assert index.document_frequency(field, "w4") == sum("w4" in d[field] for d in documents)
        assert index.document_frequency("title", "nowhere") == 0

    def test_threads_get_the_same_answers(self, index):
        queries = [[(f"w{i}", 1.0), (f"w{i + 7}", 1.0)] for i in range(20)]

        def rows(clauses):
            return index.search(clauses, WEIGHTS, 0.1, 20, None).rows.tolist()

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(rows, queries)) == [rows(c) for c in queries]

    def test_nothing_to_open(self, tmp_path: Path):
        with pytest.raises(IndexCorruptError):
            self.backend.open(tmp_path)
