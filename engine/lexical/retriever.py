"""Lexical retrieval: one analysis and one vocabulary in front of any backend, and the reasons behind every score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

import msgspec

from engine.analysis.analyzer import STOP_WORDS, Analyzer, Term
from engine.analysis.vocabulary import QueryTerm, Vocabulary
from engine.config import LEXICAL_FIELDS, SearchConfig
from engine.errors import IndexCorruptError
from engine.lexical import bm25
from engine.lexical.postings import POSTINGS, Fields, JoinedBackend, Postings, PostingsWriter
from engine.product import Product
from engine.seams import LexicalBackend
from engine.text import lexical_fields
from engine.types import Candidates, Mask, TermMatch

#: Configured name to class; every entry is built and searched by a test.
BACKENDS = {
    "tantivy": "engine.lexical.tantivy:TantivyBackend",
    "lucene": "engine.lexical.lucene:LuceneBackend",
    "rank-bm25": "engine.lexical.rank_bm25:RankBm25Backend",
}

#: Stands in an empty field, so that every backend counts every document in every field. No analysis yields it.
_EMPTY = ("\u2205",)
_VOCABULARY = "vocabulary.tsv"
_STATISTICS = "statistics.json"
_INDEX = "index"
#: The source of an expansion that is what the typed words are in the catalog's language.
TRANSLATION = "translation"
_EXPANSION_WEIGHT = 0.8  # of a typed word, which is worth 1


class _Statistics(msgspec.Struct, frozen=True):
    n_documents: int
    total_terms: dict[str, int]


@dataclass(frozen=True, slots=True)
class QueryExpansion:
    """Words searched beside a query's own. ``source`` is translation, correction or synonym; ``origin`` was typed."""

    text: str
    source: str
    origin: str


class LexicalRetriever:
    """Fielded BM25. ``retrieve`` finds, ``explain`` says what every term added."""

    def __init__(
        self, backend: LexicalBackend, analyzer: Analyzer, vocabulary: Vocabulary, statistics: _Statistics,
        config: SearchConfig,
    ) -> None:  # fmt: skip
        self._backend, self._analyzer, self._vocabulary = backend, analyzer, vocabulary
        self._statistics = statistics
        self._weights, self._tie = dict(config.field_weights), config.field_tie
        self.plan = lru_cache(maxsize=10_000)(self._plan)

    @staticmethod
    def build(directory: Path, products: Iterable[Product], backend: str, analyzer: Analyzer) -> None:
        """Analyses and indexes products, in row order, below ``directory``. Streams: holds only the vocabulary."""
        frequencies: Counter[str] = Counter()
        totals: Counter[str] = Counter()
        postings = PostingsWriter()
        count = 0

        def documents() -> Iterator[Mapping[str, Sequence[str]]]:
            nonlocal count
            for product in products:
                fields = _analyse(analyzer, product)
                frequencies.update({term for terms in fields.values() for term in terms if terms is not _EMPTY})
                totals.update({field: len(terms) for field, terms in fields.items()})
                postings.add(count, fields)
                count += 1
                yield fields

        (directory / _INDEX).mkdir(parents=True)
        _backend_class(backend).build(directory / _INDEX, documents())
        (directory / _STATISTICS).write_bytes(msgspec.json.encode(_Statistics(count, dict(totals))))
        Vocabulary(frequencies).save(directory / _VOCABULARY)
        postings.write(directory / POSTINGS, [*frequencies, *_EMPTY])

    @classmethod
    def open(cls, directory: Path, backend: str, analyzer: Analyzer, config: SearchConfig) -> LexicalRetriever:
        """Raises IndexCorruptError when a part is missing or unreadable."""
        try:
            statistics = msgspec.json.decode((directory / _STATISTICS).read_bytes(), type=_Statistics)
            vocabulary = Vocabulary.load(directory / _VOCABULARY)
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            raise IndexCorruptError(f"the lexical index in {directory} cannot be read: {error}") from error
        index = _backend_class(backend).open(directory / _INDEX)
        return cls(index, analyzer, vocabulary, statistics, config)

    def configured(self, config: SearchConfig) -> LexicalRetriever:
        """The same index with other weights."""
        return LexicalRetriever(self._backend, self._analyzer, self._vocabulary, self._statistics, config)

    @property
    def frequencies(self) -> Mapping[str, int]:
        """How many products have each term."""
        return self._vocabulary.frequencies

    @staticmethod
    def postings(directory: Path, frequencies: Iterable[str]) -> Postings | None:
        """The postings that ``build`` wrote; None where an older version of aisle built the index."""
        files = directory / POSTINGS
        return Postings(files, [*frequencies, *_EMPTY]) if files.exists() else None

    def joined(self, backend: JoinedBackend, frequencies: Mapping[str, int], config: SearchConfig) -> LexicalRetriever:
        """The same analysis in front of other products; ``frequencies`` are how many have each term."""
        totals = dict(zip(LEXICAL_FIELDS, backend.totals.tolist(), strict=True))
        statistics = _Statistics(backend.n_documents, totals)
        return LexicalRetriever(backend, self._analyzer, Vocabulary(frequencies), statistics, config)

    def analysed(self, product: Product) -> Fields:
        """A product's terms by field, as they are indexed."""
        return _analyse(self._analyzer, product)

    def retrieve(
        self, query: str, k: int, *, allowed: Mask | None = None, expansions: tuple[QueryExpansion, ...] = ()
    ) -> Candidates:
        """The best ``k`` products that hold at least one term of the query, or of its ``expansions``."""
        clauses = [(term.text, term.weight) for term in self.plan(query, expansions) if term.text in self._vocabulary]
        if not clauses or k <= 0:
            return Candidates.empty()
        return self._backend.search(clauses, self._weights, self._tie, k, allowed)

    def retrieve_codes(self, query: str, k: int, *, allowed: Mask | None = None) -> Candidates:
        """The best ``k`` products that hold a model code of the query, by those codes alone."""
        codes = [
            (term.text, term.weight) for term in self.plan(query) if term.is_code and term.text in self._vocabulary
        ]
        return self._backend.search(codes, self._weights, self._tie, k, allowed) if codes else Candidates.empty()

    def terms(self, query: str) -> list[Term]:
        """The query's own terms with their kinds, in order, whether or not they are searched."""
        return self._analyzer.analyze(query)

    def _plan(self, query: str, expansions: tuple[QueryExpansion, ...] = ()) -> tuple[QueryTerm, ...]:
        """The terms that are searched for ``query``; those the vocabulary lacks find nothing but are listed."""
        terms = {term.text: term for term in self._vocabulary.expand(self._analyzer, query)}
        foreign = {
            text for other in expansions if other.source == TRANSLATION for text in self._analyzer.terms(other.origin)
        }
        # What is translated is no slip of this language's words.
        terms = {text: term for text, term in terms.items() if term.source == "typed" or term.origin not in foreign}
        for other in expansions:
            for term in self._analyzer.analyze(other.text):
                if term.text not in STOP_WORDS:
                    added = QueryTerm(term.text, _EXPANSION_WEIGHT, other.source, other.origin, term.is_code)
                    terms.setdefault(term.text, added)
        return tuple(terms.values())

    def unknown(self, query: str, expansions: tuple[QueryExpansion, ...] = (), *, spelt: bool = False) -> list[str]:
        """The words of ``query``, as written, that no product has, and that nothing known stands in for.

        ``spelt`` says that slips are corrected in it, so that the known words near an unknown one are only guesses.
        """
        terms = [term.text for term in self._analyzer.analyze(query) if term.kind == "word"]
        lacking = {text for text in terms if text not in self._vocabulary} - STOP_WORDS
        if not lacking:
            return []
        guesses = {"spelling"} if spelt else set()
        plan = [term for term in self.plan(query, expansions) if term.text in self._vocabulary]
        known = {term.origin for term in plan if term.source not in guesses}
        stood_in = {stem for origin in known for stem in self._analyzer.terms(origin)} | known
        plain = [part for part in query.split() if not any(c.isdigit() for c in part)]  # not the letters of a code
        words = dict.fromkeys(word for part in plain for word in self._analyzer.words(part))
        return [word for word in words if (lacking - stood_in).intersection(self._analyzer.terms(word))]

    def explain(
        self, query: str, product: Product, expansions: tuple[QueryExpansion, ...] = ()
    ) -> tuple[TermMatch, ...]:
        """Every query term in every field of ``product``, by what it adds; the sum is the lexical score."""
        fields = _analyse(self._analyzer, product)
        counts = {field: Counter(terms) for field, terms in fields.items()}
        matches: list[TermMatch] = []
        for term in self.plan(query, expansions):
            scored = sorted(
                (
                    (self._weights.get(field, 0.0) * term.weight * self._score(field, term.text, tally, fields), field)
                    for field, tally in counts.items()
                    if tally[term.text] and self._weights.get(field, 0.0) > 0
                ),
                reverse=True,
            )
            matches += [
                TermMatch(
                    term.text, field, term.source, term.origin, counts[field][term.text],
                    self._backend.document_frequency(field, term.text),
                    score if place == 0 else score * self._tie,
                )
                for place, (score, field) in enumerate(scored)
            ]  # fmt: skip
        return tuple(sorted(matches, key=lambda match: -match.score))

    def _score(self, field: str, term: str, tally: Counter[str], fields: Mapping[str, Sequence[str]]) -> float:
        n = self._statistics.n_documents
        return bm25.term_score(
            tally[term], len(fields[field]), self._statistics.total_terms[field] / n,
            self._backend.document_frequency(field, term), n,
        )  # fmt: skip


def content_terms(fields: Fields) -> set[str]:
    """The terms of a product that count in the vocabulary."""
    return {term for terms in fields.values() for term in terms if term not in _EMPTY}


def _analyse(analyzer: Analyzer, product: Product) -> dict[str, Sequence[str]]:
    texts = lexical_fields(product)
    return {field: analyzer.terms(texts[field]) or _EMPTY for field in LEXICAL_FIELDS}


class _BackendClass(Protocol):
    def build(self, directory: Path, documents: Iterable[Mapping[str, Sequence[str]]]) -> LexicalBackend: ...

    def open(self, directory: Path) -> LexicalBackend: ...


def _backend_class(name: str) -> _BackendClass:
    module, attribute = BACKENDS[name].split(":")
    return cast(_BackendClass, getattr(import_module(module), attribute))
