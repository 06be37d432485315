"""Lucene, as Anserini packs it, inside this process: the engine that published baselines are measured with.

Crossing between Python and Java costs more than the scoring of a short query when it is done object by object (0.6 ms
to build a query, 0.5 ms to read 100 hits). So a query crosses once, as the XML of Lucene's own query parser, and its
hits once, as the JSON of Jackson, which comes in Anserini's jar too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import msgspec
import numpy as np

from engine.config import LEXICAL_FIELDS
from engine.errors import IndexCorruptError
from engine.lexical.bm25 import K1, B, widen
from engine.lexical.jvm import calling, java_class
from engine.types import Candidates, Mask

_WRITER_MB = 128.0
_MAX_TERM = 8191  # characters; Lucene's tokenizer would cut at 255, and a term may have 32,766 bytes
_MAX_CLAUSES = 2**31 - 1  # the length of a query is bounded where it is read, not here

# What XML cannot carry, or would strip. No analysis yields it, but a term of a foreign one must not break the query.
_UNLAWFUL = re.compile("[\x00-\x1f\ud800-\udfff\ufffe\uffff]")

# pyjnius guesses among constructors by the look of the arguments, at times wrongly; a signature ends the guessing.
_NEW_FIELD = "(Ljava/lang/String;Ljava/lang/CharSequence;Lorg/apache/lucene/index/IndexableFieldType;)V"
_NEW_TERM = "(Ljava/lang/String;Ljava/lang/String;)V"
_NEW_SEARCHER = "(Lorg/apache/lucene/index/IndexReader;)V"
_NEW_PARSER = "(Ljava/lang/String;Lorg/apache/lucene/analysis/Analyzer;)V"
_NEW_CONFIG = "(Lorg/apache/lucene/analysis/Analyzer;)V"


class _ScoreDoc(msgspec.Struct):
    doc: int
    score: float


class _TopDocs(msgspec.Struct, rename="camel"):
    score_docs: list[_ScoreDoc]


_TOP_DOCS = msgspec.json.Decoder(_TopDocs)


class LuceneBackend:
    """One segment, documents in row order, so that a document's number is its row. Searches from any thread."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader
        self._n_documents = int(reader.maxDoc())
        self._term = java_class("org.apache.lucene.index.Term")
        self._stream = java_class("java.io.ByteArrayInputStream")
        searcher_class = java_class("org.apache.lucene.search.IndexSearcher")
        searcher_class.setMaxClauseCount(_MAX_CLAUSES)
        self._searcher = searcher_class(reader, signature=_NEW_SEARCHER)
        similarity = _similarity()
        self._searcher.setSimilarity(similarity)
        self._parser = java_class("org.apache.lucene.queryparser.xml.CoreParser")(
            LEXICAL_FIELDS[0], _whitespace_analyzer(), signature=_NEW_PARSER
        )
        self._mapper = java_class("com.fasterxml.jackson.databind.ObjectMapper")(signature="()V")

    @classmethod
    def build(cls, directory: Path, documents: Iterable[Mapping[str, Sequence[str]]]) -> LuceneBackend:
        """Indexes analysed documents, in row order, below ``directory``. Raises AisleError when Lucene cannot."""
        with calling(f"write the index in {directory}"):
            writer = _writer(directory)
            try:
                _write(writer, documents)
            except BaseException:
                writer.rollback()
                raise
            writer.close()
        return cls.open(directory)

    @classmethod
    def open(cls, directory: Path) -> LuceneBackend:
        """Raises IndexCorruptError when the directory holds no readable Lucene index of one segment."""
        if not directory.is_dir():  # Lucene would create it
            raise IndexCorruptError(f"the lexical index in {directory} is missing")
        with calling(f"open the index in {directory}", IndexCorruptError):
            files = _java_directory(directory)
            reader = java_class("org.apache.lucene.index.DirectoryReader").open(files)
            if reader.leaves().size() > 1 or reader.hasDeletions():
                reader.close()
                raise IndexCorruptError(f"the lexical index in {directory} was changed after it was built")
            return cls(reader)

    @property
    def n_documents(self) -> int:
        return self._n_documents

    def document_frequency(self, field: str, term: str) -> int:
        with calling("count documents"):
            java_term = self._term(field, _lawful(term), signature=_NEW_TERM)
            return int(self._reader.docFreq(java_term))

    def search(
        self,
        clauses: Sequence[tuple[str, float]],
        field_weights: dict[str, float],
        tie: float,
        k: int,
        allowed: Mask | None,
    ) -> Candidates:
        if not clauses or k <= 0 or not self._n_documents:
            return Candidates.empty()
        xml = _query_xml(clauses, field_weights, tie)
        with calling("search"):
            stream = self._stream(xml, signature="([B)V")
            query = self._parser.parse(stream)
            return widen(lambda limit: self._fetch(query, limit), k, allowed, self._n_documents)

    def close(self) -> None:
        """Frees the files. The backend cannot search afterwards."""
        with calling("close the index"):
            self._reader.close()

    def _fetch(self, query: Any, limit: int) -> Candidates:
        """Lucene's own order is ours: by score, equal ones by document."""
        hits = self._searcher.search(query, limit)
        found = _TOP_DOCS.decode(self._mapper.writeValueAsBytes(hits).tostring()).score_docs
        return Candidates(
            np.fromiter((hit.doc for hit in found), np.int64, len(found)),
            np.fromiter((hit.score for hit in found), np.float32, len(found)),
        )


def _query_xml(clauses: Sequence[tuple[str, float]], field_weights: dict[str, float], tie: float) -> bytes:
    """The query as Lucene's CoreParser reads it. Since version 8 Lucene leaves out BM25's factor (k1 + 1)."""
    fields = [(field, weight * (K1 + 1)) for field, weight in field_weights.items() if weight > 0]
    parts = ["<BooleanQuery>"]
    for term, clause_weight in clauses:
        if clause_weight <= 0:
            continue
        text = escape(_lawful(term))
        parts.append(f'<Clause occurs="should"><DisjunctionMaxQuery tieBreaker="{float(tie)}">')
        parts += [f'<TermQuery fieldName="{f}" boost="{w * clause_weight}">{text}</TermQuery>' for f, w in fields]
        parts.append("</DisjunctionMaxQuery></Clause>")
    parts.append("</BooleanQuery>")
    return "".join(parts).encode()


def _lawful(text: str) -> str:
    return _UNLAWFUL.sub("\ufffd", text)


def _write(writer: Any, documents: Iterable[Mapping[str, Sequence[str]]]) -> None:
    """One Lucene document serves for all rows: only its fields' texts change."""
    document = java_class("org.apache.lucene.document.Document")()
    field_class, field_type = java_class("org.apache.lucene.document.Field"), _field_type()
    fields = [(name, field_class(name, "", field_type, signature=_NEW_FIELD)) for name in LEXICAL_FIELDS]
    for _, field in fields:
        document.add(field)
    for terms in documents:
        for name, field in fields:
            text = _lawful(" ".join(terms[name]))
            field.setStringValue(text)
        writer.addDocument(document)
    writer.forceMerge(1)


def _writer(directory: Path) -> Any:
    similarity = _similarity()
    # The default policy merges segments out of order; this one keeps documents in the order they came.
    policy = java_class("org.apache.lucene.index.LogDocMergePolicy")()
    config = java_class("org.apache.lucene.index.IndexWriterConfig")(_whitespace_analyzer(), signature=_NEW_CONFIG)
    config.setSimilarity(similarity)
    config.setRAMBufferSizeMB(_WRITER_MB)
    config.setMergePolicy(policy)
    return java_class("org.apache.lucene.index.IndexWriter")(_java_directory(directory), config)


def _field_type() -> Any:
    """Indexed with term frequencies and lengths; no positions, nothing stored."""
    options = java_class("org.apache.lucene.index.IndexOptions").DOCS_AND_FREQS
    field_type = java_class("org.apache.lucene.document.FieldType")(signature="()V")
    field_type.setIndexOptions(options)
    field_type.freeze()
    return field_type


def _java_directory(directory: Path) -> Any:
    """The build owns its directory, so no lock file is left in what gets published."""
    lock = java_class("org.apache.lucene.store.NoLockFactory").INSTANCE
    path = java_class("java.io.File")(str(directory), signature="(Ljava/lang/String;)V").toPath()
    return java_class("org.apache.lucene.store.FSDirectory").open(path, lock)


def _similarity() -> Any:
    return java_class("org.apache.lucene.search.similarities.BM25Similarity")(K1, B, signature="(FF)V")


def _whitespace_analyzer() -> Any:
    return java_class("org.apache.lucene.analysis.core.WhitespaceAnalyzer")(_MAX_TERM, signature="(I)V")
