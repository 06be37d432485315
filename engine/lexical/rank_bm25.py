"""The reference: rank-bm25, one model per field. It scores every product for every term, in Python, for tests and
benchmarks; its index is the documents themselves, and opening it counts them anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.config import LEXICAL_FIELDS
from engine.errors import IndexCorruptError, MissingExtraError
from engine.lexical.bm25 import K1, B, idf, quantised_length
from engine.types import Candidates, Mask

try:
    from rank_bm25 import BM25Okapi
except ImportError as error:
    raise MissingExtraError("bench", "rank-bm25") from error

_DOCUMENTS = "documents.jsonl"


class _FieldModel(BM25Okapi):  # type: ignore[misc]  # the package has no types
    """rank-bm25's formula with Lucene's idf and lengths in one byte, the mean length taken before that."""

    def __init__(self, corpus: list[list[str]]) -> None:
        self.document_frequencies: dict[str, int] = {}
        super().__init__(corpus, k1=K1, b=B)
        self.doc_len: list[int] = [quantised_length(len(terms)) for terms in corpus]

    def _calc_idf(self, nd: dict[str, int]) -> None:
        self.document_frequencies = nd
        self.idf = {term: idf(frequency, self.corpus_size) for term, frequency in nd.items()}


class RankBm25Backend:
    """Exact and slow. Holds all documents in memory."""

    def __init__(self, documents: list[dict[str, list[str]]]) -> None:
        self._n_documents = len(documents)
        self._models = (
            {field: _FieldModel([document[field] for document in documents]) for field in LEXICAL_FIELDS}
            if documents
            else {}
        )

    @classmethod
    def build(cls, directory: Path, documents: Iterable[Mapping[str, Sequence[str]]]) -> RankBm25Backend:
        """Writes analysed documents, in row order, below ``directory``, and counts them."""
        with (directory / _DOCUMENTS).open("wb") as file:
            for document in documents:
                file.write(msgspec.json.encode({field: list(document[field]) for field in LEXICAL_FIELDS}) + b"\n")
        return cls.open(directory)

    @classmethod
    def open(cls, directory: Path) -> RankBm25Backend:
        """Raises IndexCorruptError when the documents cannot be read."""
        decoder = msgspec.json.Decoder(dict[str, list[str]])
        try:
            documents = decoder.decode_lines((directory / _DOCUMENTS).read_bytes())
        except (OSError, msgspec.MsgspecError) as error:
            raise IndexCorruptError(f"the lexical index in {directory} cannot be opened: {error}") from error
        if any(set(document) != set(LEXICAL_FIELDS) for document in documents):
            raise IndexCorruptError(f"the lexical index in {directory} has other fields than {LEXICAL_FIELDS}")
        return cls(documents)

    @property
    def n_documents(self) -> int:
        return self._n_documents

    def document_frequency(self, field: str, term: str) -> int:
        return self._models[field].document_frequencies.get(term, 0) if self._models else 0

    def search(
        self,
        clauses: Sequence[tuple[str, float]],
        field_weights: dict[str, float],
        tie: float,
        k: int,
        allowed: Mask | None,
    ) -> Candidates:
        if not self._models or k <= 0:
            return Candidates.empty()
        total = np.zeros(self._n_documents)
        for term, weight in clauses:
            total += weight * self._term_scores(term, field_weights, tie)
        # Equal float32 scores go by row, so the rounding comes before the sorting.
        scores = total.astype(np.float32)
        rows = np.flatnonzero(scores > 0 if allowed is None else (scores > 0) & allowed)
        return Candidates.ranked(rows, scores[rows], k)

    def close(self) -> None:
        """Lets the documents go."""
        self._models, self._n_documents = {}, 0

    def _term_scores(self, term: str, field_weights: dict[str, float], tie: float) -> NDArray[np.float64]:
        """Best field plus ``tie`` times the others, float64 (n_documents,)."""
        fields = np.array([weight * self._models[field].get_scores([term]) for field, weight in field_weights.items()])
        best: NDArray[np.float64] = fields.max(axis=0)
        scores: NDArray[np.float64] = best + tie * (fields.sum(axis=0) - best)
        return scores
