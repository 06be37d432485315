"""An index with all changes that were committed to it, as parts that a search can use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.columns import PATH_SEPARATOR, Columns
from engine.config import LEXICAL_FIELDS, SearchConfig
from engine.dense.joined import JoinedVectors
from engine.dense.retriever import DenseRetriever
from engine.errors import UpdateError
from engine.families.store import ProductFamilies
from engine.lexical.postings import AddedPostings, JoinedBackend, Postings
from engine.lexical.retriever import LexicalRetriever, content_terms
from engine.product import Product
from engine.seams import GrowingReranker, GrowingRouter, Reranker, Router
from engine.storage.change_log import Batch
from engine.storage.products import JoinedProducts, ProductStore
from engine.types import Mask, Rows
from engine.understanding.spelling import SpellingModel
from engine.updates.columns import FREE, JoinedColumns

#: Of each of some products the terms of its fields.
Terms = tuple[dict[str, tuple[str, ...]], ...]

_GROWTH = 2  # of the room for vectors, when it is full
_ANALYSED = 8  # dead products up to which analysing them costs less than a look at all postings


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """What of an index depends on its products, after so many commits."""

    products: ProductStore
    columns: Columns
    lexical: LexicalRetriever | None
    dense: DenseRetriever | None
    reranker: Reranker | None
    router: Router | None
    spelling: SpellingModel | None
    families: ProductFamilies | None
    n_commits: int = 0


class State:
    """The changes since a version was built, applied to its parts. One thread at a time.

    Rows are only ever added: what is deleted or replaced is dead, and a row never stands for another product. So what
    ``parts`` gave before stays as it was.
    """

    def __init__(self, base: Parts, config: SearchConfig, directory: Path, dim: int) -> None:
        """``directory`` is that of the lexical index, ``dim`` that of the vectors, 0 where there are none."""
        self._base, self._config, self._dim, self._directory = base, config, dim, directory
        self._n = len(base.products)
        self._alive: Mask = np.ones(self._n, np.bool_)
        self._added: list[Product] = []
        self._lengths: list[list[int]] = []
        self._vectors: NDArray[np.float32] = np.empty((0, dim), np.float32)
        self._changed: dict[int, Product] = {}
        self._rows: dict[str, int | None] = {}  # of ids whose row is not the base's
        self._alike: list[Rows] = []
        self._postings: Postings | None = None
        self._new_postings = AddedPostings()
        self._frequencies: Counter[str] = Counter()
        self._dying: list[int] = []  # rows of the build that ``_frequencies`` still has
        self._fields: set[str] | None = set()  # columns that changed since ``parts``; None where all may have
        self._patched: set[int] = set()  # rows that were patched since ``parts``
        self._latest = base
        self.n_commits = 0

    @property
    def n_built(self) -> int:
        """How many products the version was built of."""
        return self._n

    @property
    def n_alive(self) -> int:
        return int(np.count_nonzero(self._alive))

    @property
    def pending(self) -> Mapping[str, int]:
        """How many products were put, patched and deleted since the build, for people."""
        n_dead = int(np.count_nonzero(~self._alive[: self._n]))
        return {"put": len(self._added), "patched": len(self._changed), "dead": n_dead}

    def product(self, product_id: str) -> Product | None:
        """The living product of an id."""
        row = self.row_of(product_id)
        return None if row is None else self._at(row)

    def row_of(self, product_id: str) -> int | None:
        if product_id in self._rows:
            return self._rows[product_id]
        return self._base.columns.row(product_id)

    def require_growth(self) -> None:
        """Raises UpdateError where the index cannot take products that must be analysed, or lose any."""
        if self._base.lexical and self._stored_postings() is None:
            raise UpdateError("the index was built by an older version of aisle, which left nothing to add products to")
        if self._base.reranker is not None and not isinstance(self._base.reranker, GrowingReranker):
            raise UpdateError("the index's reranker cannot take more products; build the index again")
        if self._base.router is not None and not isinstance(self._base.router, GrowingRouter):
            raise UpdateError("the index's router cannot take more products; build the index again")

    def apply(self, batch: Batch) -> None:
        """Makes one commit's changes, which were checked when it was made."""
        self.n_commits = batch.number
        for product in batch.patches:
            row = self.row_of(product.product_id)
            if row is not None:
                self._note({name for name in FREE if getattr(self._at(row), name) != getattr(product, name)})
                self._changed[row] = product
                self._patched.add(row)
        if not batch.deletes and not batch.puts:
            return
        self._fields = None
        self._alive = self._alive.copy()  # what was given out stays as it is
        for product_id in (*batch.deletes, *(product.product_id for product in batch.puts)):
            self._kill(product_id)
        if batch.puts:
            vectors = np.frombuffer(batch.vectors, np.float32).reshape(len(batch.puts), -1)
            self._put(batch.puts, batch.terms or self.analysed(batch.puts), vectors)

    def analysed(self, products: Sequence[Product]) -> Terms:
        """The terms of each product's fields, as they are indexed; none where nothing is searched by words."""
        lexical = self._base.lexical
        if not lexical:
            return ()
        return tuple(
            {field: tuple(terms) for field, terms in lexical.analysed(product).items()} for product in products
        )

    def _note(self, fields: set[str]) -> None:
        if self._fields is not None:
            self._fields |= fields

    def _at(self, row: int) -> Product:
        if row in self._changed:
            return self._changed[row]
        return self._base.products[row] if row < self._n else self._added[row - self._n]

    def _kill(self, product_id: str) -> None:
        row = self.row_of(product_id)
        if row is None:
            return
        if row < self._n:
            self._dying.append(row)
        elif self._base.lexical:
            self._frequencies.subtract(content_terms(self._base.lexical.analysed(self._at(row))))
        self._alive[row] = False
        self._changed.pop(row, None)
        self._rows[product_id] = None

    def _put(self, products: Sequence[Product], terms: Terms, vectors: NDArray[np.float32]) -> None:
        first = self._n + len(self._added)
        for row, product in enumerate(products, first):
            self._rows[product.product_id] = row
            self._alike.append(self._filed_with(product))
        for row, fields in enumerate(terms if self._base.lexical else (), first):
            self._frequencies.update(content_terms(fields))
            self._new_postings.add(row, fields)
            self._lengths.append([len(fields[field]) for field in LEXICAL_FIELDS])
        if isinstance(self._base.reranker, GrowingReranker):
            self._base.reranker.append(products)
        self._keep(vectors)
        self._added = [*self._added, *products]
        self._alive = np.concatenate([self._alive, np.ones(len(products), np.bool_)])

    def _keep(self, vectors: NDArray[np.float32]) -> None:
        n, needed = len(self._added), len(self._added) + len(vectors)
        if self._dim and needed > len(self._vectors):
            room = np.empty((_GROWTH * needed, self._dim), np.float32)
            room[:n] = self._vectors[:n]
            self._vectors = room
        if self._dim:
            self._vectors[n:needed] = vectors

    def _filed_with(self, product: Product) -> Rows:
        """Rows of the build in the same category."""
        column = self._base.columns.column("category")
        span = column.folded.get(PATH_SEPARATOR.join(product.category).casefold()) if column else None
        return column.rows[slice(*span)] if column and span else np.empty(0, np.int64)

    def _stored_postings(self) -> Postings | None:
        if self._postings is None and self._base.lexical:
            self._postings = LexicalRetriever.postings(self._directory, self._base.lexical.frequencies)
        return self._postings

    def parts(self) -> tuple[Parts, set[str] | None]:
        """The index as it is now, and which columns differ from what was given last, None where any may."""
        before, fields = self._latest, self._fields
        patched = dict(self._changed)
        columns: Columns
        if fields is not None and isinstance(before.columns, JoinedColumns):
            columns = before.columns.repatched(patched, fields, self._patched)
        else:
            columns = self._columns(patched).repatched(patched, FREE if fields is None else fields, ())
        products = JoinedProducts(self._base.products, self._added, patched)
        new = replace(before, products=products, columns=columns, n_commits=self.n_commits)
        if fields is None:
            new = self._regrown(new)
        self._latest, self._fields, self._patched = new, set(), set()
        return new, fields

    def _bury(self, lexical: LexicalRetriever, postings: Postings) -> None:
        """Takes the terms of the build's dead rows out: of a few analysed once more, of many looked up together."""
        if len(self._dying) <= _ANALYSED:
            for product in self._base.products.get(np.array(self._dying, np.int64)):
                self._frequencies.subtract(content_terms(lexical.analysed(product)))
        else:
            having = postings.having(self._dying)
            self._frequencies.subtract({term: count for term, count in having.items() if term in lexical.frequencies})
        self._dying = []

    def _columns(self, patched: Mapping[int, Product]) -> JoinedColumns:
        added = {self._n + i: p for i, p in enumerate(self._added) if self._alive[self._n + i]}
        return JoinedColumns(self._base.columns, self._alive, added, patched)

    def _regrown(self, parts: Parts) -> Parts:
        base, config = self._base, self._config
        lexical, dense, router = base.lexical, base.dense, base.router
        if lexical:
            postings = self._stored_postings()
            assert postings is not None  # required when the commit was made
            backend = JoinedBackend.of(postings, self._new_postings, self._lengths, self._alive)
            self._bury(lexical, postings)
            frequencies = {**lexical.frequencies}
            for term, count in self._frequencies.items():
                if not frequencies.setdefault(term, 0) + count:
                    del frequencies[term]
                else:
                    frequencies[term] += count
            lexical = lexical.joined(backend, frequencies, config)
        if dense:
            vectors = JoinedVectors(dense.index, self._vectors[: len(self._added)], self._alive)
            dense = DenseRetriever(dense.encoder, vectors, config.min_similarity)
        if isinstance(router, GrowingRouter):
            router = router.grown(self._alike)
        living = {self._n + i: p for i, p in enumerate(self._added) if self._alive[self._n + i]}
        return replace(
            parts,
            lexical=lexical,
            dense=dense,
            router=router,
            spelling=base.spelling.grown(living.values()) if base.spelling and living else base.spelling,
            families=base.families.joined(living, self._alive) if base.families else None,
        )
