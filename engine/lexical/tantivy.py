"""The embedded default: tantivy, a Lucene-like index in Rust, inside this process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import tantivy
from tantivy import Occur, Query

from engine.config import LEXICAL_FIELDS
from engine.errors import IndexCorruptError
from engine.lexical.bm25 import widen
from engine.types import Candidates, Mask

_WRITER_BYTES = 256_000_000
_ROW = "row"


class TantivyBackend:
    """One segment, documents in row order, so that a document's address is its row."""

    def __init__(self, index: tantivy.Index) -> None:
        self._schema = index.schema
        self._searcher = index.searcher()

    @classmethod
    def build(cls, directory: Path, documents: Iterable[Mapping[str, Sequence[str]]]) -> TantivyBackend:
        """Indexes analysed documents, in row order, below ``directory``."""
        index = tantivy.Index(_schema(), str(directory))
        writer = index.writer(_WRITER_BYTES, 1)
        try:
            for row, fields in enumerate(documents):
                document = tantivy.Document()
                document.add_unsigned(_ROW, row)
                for field in LEXICAL_FIELDS:
                    document.add_text(field, " ".join(fields[field]))
                writer.add_document(document)
            writer.commit()
        finally:
            writer.wait_merging_threads()  # until then its threads write files, also where a product was refused
        return cls.open(directory)

    @classmethod
    def open(cls, directory: Path) -> TantivyBackend:
        """Raises IndexCorruptError when the directory holds no readable tantivy index."""
        try:
            index = tantivy.Index.open(str(directory))
            index.reload()
            return cls(index)
        except ValueError as error:
            raise IndexCorruptError(f"the lexical index in {directory} cannot be opened: {error}") from error

    @property
    def n_documents(self) -> int:
        return int(self._searcher.num_docs)

    def document_frequency(self, field: str, term: str) -> int:
        return int(self._searcher.doc_freq(field, term))

    def search(
        self,
        clauses: Sequence[tuple[str, float]],
        field_weights: dict[str, float],
        tie: float,
        k: int,
        allowed: Mask | None,
    ) -> Candidates:
        query = self._query(clauses, field_weights, tie)
        return widen(lambda limit: self._fetch(query, limit), k, allowed, self.n_documents)

    def _query(self, clauses: Sequence[tuple[str, float]], field_weights: dict[str, float], tie: float) -> Query:
        schema = self._schema
        return Query.boolean_query(
            [
                (
                    Occur.Should,
                    Query.disjunction_max_query(
                        [
                            Query.boost_query(Query.term_query(schema, field, term, "freq"), weight * boost)
                            for field, boost in field_weights.items()
                            if boost > 0
                        ],
                        float(tie),
                    ),
                )
                for term, weight in clauses
            ]
        )

    def _fetch(self, query: Query, limit: int) -> Candidates:
        hits = self._searcher.search(query, limit, count=False).hits
        rows = self._rows([address for _, address in hits])
        scores = np.fromiter((score for score, _ in hits), np.float32, len(hits))
        return Candidates.ranked(rows, scores)

    def _rows(self, addresses: list[tantivy.DocAddress]) -> np.ndarray:
        if self._searcher.num_segments == 1:
            return np.fromiter((a.doc for a in addresses), np.int64, len(addresses))
        return np.array(self._searcher.fast_field_values(_ROW, addresses), np.int64)


def _schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    for field in LEXICAL_FIELDS:
        builder.add_text_field(field, tokenizer_name="whitespace", index_option="freq")
    builder.add_unsigned_field(_ROW, fast=True)
    return builder.build()
