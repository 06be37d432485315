"""The seams: what a part must do to take another's place. Every implementation passes the contract test of its seam."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from engine.adapters import Adapter
from engine.product import Product
from engine.types import Candidates, Features, Mask, Rewrite, Routed, Rows, Scored, Scores

Embeddings = NDArray[np.float32]
#: The products of rows, in their order.
ProductSource = Callable[[Rows], Sequence[Product]]
T_co = TypeVar("T_co", covariant=True)


class Encoder(Protocol):
    """Text to vectors: float32 (n, dim), each of unit length, the same whatever else is in the batch."""

    @property
    def dim(self) -> int: ...

    @property
    def fingerprint(self) -> str:
        """Names the weights; vectors of two encoders compare only when these are equal."""
        ...

    def understands(self, query: str) -> bool:
        """Whether the query's vector would mean anything."""
        ...

    def encode_queries(self, queries: Sequence[str]) -> Embeddings: ...

    def encode_products(self, products: Sequence[Product]) -> Embeddings: ...


@runtime_checkable
class Adaptable(Protocol[T_co]):
    """An encoder or a reranker may be this too: then adapters can be chosen per request."""

    def adapted(self, adapter: Adapter) -> T_co:
        """One that answers with the adapter, and leaves this one as it is. Raises AdapterError where it does not fit.

        An adapted encoder moves queries' vectors only.
        """
        ...


class Retriever(Protocol):
    """Finds candidates. At most ``k``, fewer only when no more products match.

    ``allowed``, bool (n_products,), limits the answer before it is cut to ``k``; None allows all.
    """

    def retrieve(self, query: str, k: int, *, allowed: Mask | None = None) -> Candidates: ...


class Fusion(Protocol):
    """Merges rankings of the same query into one of at most ``k`` rows."""

    def __call__(self, lists: Sequence[Candidates], k: int) -> Candidates: ...


class Reranker(Protocol):
    """Says how probable it is that each candidate is what the query asks for. Thread-safe; opened on one index."""

    def understands(self, query: str) -> bool:
        """Whether the model's answer to this query would mean anything."""
        ...

    def score(self, query: str, rows: Rows, deadline: float | None) -> Scored:
        """Calibrated probabilities of ``rows``, which are unique and come best first.

        Returns by ``deadline`` (on ``time.perf_counter``'s clock; None leaves all the time). Where not all rows fit,
        the first are preferred. It gets all rows at once, so that an implementation may compare them.
        """
        ...


class RerankerModel(Protocol):
    """A reranker that has not met an index: what it must know of the products is written when one is built."""

    @property
    def fingerprint(self) -> str:
        """Names what ``build`` writes; a reranker only opens an index that has its own."""
        ...

    def build(self, directory: Path, products: Iterable[Product]) -> str:
        """Writes below ``directory``, which is empty, products in row order. Returns a note for people."""
        ...

    def open(self, directory: Path, threads: int) -> Reranker:
        """Reads what ``build`` wrote. All searches together use ``threads`` cores. Raises IndexCorruptError."""
        ...


class ListModel(Protocol):
    """A reranker that compares candidates, and has not met an index. It needs nothing built: it reads products' text
    when it ranks them.
    """

    def open(self, products: ProductSource, first: Reranker | None, threads: int) -> Reranker:
        """Over an index's ``products``. ``first`` is the index's own reranker, None where it has none: the order to
        begin with, and what is left where time or the model fails. Raises ConfigError, ModelError, MissingExtraError.
        """
        ...


class Combiner(Protocol):
    """Makes one score of all that is known of a candidate. Thread-safe; bound to no index."""

    def misfit(self, encoder: str, reranker: str) -> str:
        """Why it cannot be used with models of these fingerprints or with these features; empty if it can."""
        ...

    def scores(self, values: Features) -> Scores:
        """Float32 (n,), 0 to 1, of candidates with ``engine.features.FEATURES``, float32 (n, n_features).

        A candidate's score depends on its own features alone.
        """
        ...

    def parts(self, values: NDArray[np.float32]) -> tuple[tuple[str, float], ...]:
        """What each feature adds to the log-odds of the score of one candidate, float32 (n_features,), the most first.

        The first name that is no feature's is of what is there before any is looked at. They add up to the log-odds.
        """
        ...


class Router(Protocol):
    """Says what kind of product a query asks for. Thread-safe; opened on one index."""

    def route(self, query: str, vector: NDArray[np.float32]) -> Routed:
        """``vector`` is the query's, of unit length, by the index's encoder."""
        ...


class RouterModel(Protocol):
    """A router that has not met an index: what it learns from the catalog is written when one is built."""

    @property
    def fingerprint(self) -> str:
        """Names what ``build`` writes; a router only opens an index that has its own."""
        ...

    def build(self, directory: Path, products: Iterable[Product], vectors: Embeddings, encoder: Encoder) -> str:
        """Writes below ``directory``, which is empty. ``products`` come in row order, as often as they are asked for;
        ``vectors`` are theirs.

        Returns a note for people.
        """
        ...

    def open(self, directory: Path) -> Router:
        """Reads what ``build`` wrote. Raises IndexCorruptError."""
        ...


@runtime_checkable
class GrowingReranker(Protocol):
    """A reranker may be this too: then products can be added to an index that has it."""

    def append(self, products: Sequence[Product]) -> None:
        """Takes more products, whose rows follow those it has. Searches under way go on."""
        ...


@runtime_checkable
class GrowingRouter(Protocol):
    """A router may be this too: then products can be added to an index that has it."""

    def grown(self, alike: Sequence[Rows]) -> Router:
        """One of more rows: for each new one, rows of products that are filed where it is. This one stays as it is."""
        ...


class Rewriter(Protocol):
    """Says a query in other words. Thread-safe; it knows no index, and what it says is checked before it is asked."""

    def rewrite(self, query: str) -> Sequence[Rewrite]:
        """The best first; none where it has nothing to say."""
        ...


class LexicalBackend(Protocol):
    """An inverted index over analysed fields that scores with BM25.

    A clause is a query term's ``(term, weight)``. A product's score is the sum over clauses of
    ``weight · (best + tie · (sum of the others))`` over the fields' ``field_weight · BM25``, with k1 = 1.2, b = 0.75
    and the idf of Robertson and Zaragoza 2009 in Lucene's form; ``engine.lexical.bm25`` is the reference.
    Every field of every document holds at least one term.
    """

    def search(
        self,
        clauses: Sequence[tuple[str, float]],
        field_weights: dict[str, float],
        tie: float,
        k: int,
        allowed: Mask | None,
    ) -> Candidates: ...

    def document_frequency(self, field: str, term: str) -> int: ...
