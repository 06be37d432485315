"""Which products have which term how often, as arrays: what scoring needs once an index has changes beside it.

A backend's own statistics are those of the build. With products added and deleted they are others, for every term; so
products are scored here, by the same formula (``engine.lexical.bm25``), on the statistics of the products there are.

Files below ``lexical/postings``: ``starts.npy`` int64 (n_fields · n_terms + 1), where the postings of a field and a
term begin; ``rows.npy`` int32, ascending within a term; ``counts.npy`` uint16; ``lengths.npy`` int32 (n_fields, n), the
terms of each product's field. Terms are numbered as the vocabulary lists them.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from engine.config import LEXICAL_FIELDS
from engine.errors import IndexCorruptError
from engine.lexical.bm25 import K1, LENGTHS, B, idf
from engine.types import Candidates, Mask, Rows

Fields = Mapping[str, Sequence[str]]

POSTINGS = "postings"
_MOST = 2**16 - 1
_ARRAYS = ("starts", "rows", "counts", "lengths")
_NONE = np.empty(0, np.int32), np.empty(0, np.uint16)


class PostingsWriter:
    """Collects the postings of analysed products, in row order."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._found = {field: (array("i"), array("i"), array("H")) for field in LEXICAL_FIELDS}
        self._lengths = {field: array("i") for field in LEXICAL_FIELDS}

    def add(self, row: int, fields: Fields) -> None:
        for field in LEXICAL_FIELDS:
            terms, rows, counts = self._found[field]
            for term, count in Counter(fields[field]).items():
                terms.append(self._numbers.setdefault(term, len(self._numbers)))
                rows.append(row)
                counts.append(min(count, _MOST))
            self._lengths[field].append(len(fields[field]))

    def write(self, directory: Path, vocabulary: Iterable[str]) -> None:
        """``vocabulary`` gives the terms in the order in which they are to be numbered; others are left out."""
        directory.mkdir()
        place = {term: number for number, term in enumerate(vocabulary)}
        renumbered = np.array([place.get(term, len(place)) for term in self._numbers] or [0], np.int64)
        starts, all_rows, all_counts = [np.zeros(1, np.int64)], [], []
        for field in LEXICAL_FIELDS:
            terms, rows, counts = (np.asarray(part) for part in self._found[field])
            numbers = renumbered[terms]
            order = np.argsort(numbers, kind="stable")[: int((numbers < len(place)).sum())]
            starts.append(starts[-1][-1] + np.cumsum(np.bincount(numbers, minlength=len(place))[: len(place)]))
            all_rows.append(rows[order])
            all_counts.append(counts[order])
        np.save(directory / "starts.npy", np.concatenate(starts))
        np.save(directory / "rows.npy", np.concatenate(all_rows).astype(np.int32))
        np.save(directory / "counts.npy", np.concatenate(all_counts).astype(np.uint16))
        np.save(directory / "lengths.npy", np.array([self._lengths[field] for field in LEXICAL_FIELDS], np.int32))


class Postings:
    """What ``PostingsWriter`` wrote, through a memory map."""

    def __init__(self, directory: Path, vocabulary: Iterable[str]) -> None:
        """``vocabulary`` gives the terms as they were numbered. Raises IndexCorruptError."""
        try:
            loaded = [np.load(directory / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS]
        except (OSError, ValueError) as error:
            raise IndexCorruptError(f"the postings in {directory} cannot be read: {error}") from error
        self._starts, self._rows, self._counts, self.lengths = map(np.asarray, loaded)
        self._numbers = {term: number for number, term in enumerate(vocabulary)}
        if len(self._starts) != len(LEXICAL_FIELDS) * len(self._numbers) + 1 or self._starts[-1] != len(self._rows):
            raise IndexCorruptError(f"the postings in {directory} are cut short")

    def of(self, field: int, term: str) -> tuple[NDArray[np.int32], NDArray[np.uint16]]:
        """The rows that have a term in a field, ascending, and how often."""
        number = self._numbers.get(term)
        if number is None:
            return _NONE
        at = field * len(self._numbers) + number
        span = slice(self._starts[at], self._starts[at + 1])
        return self._rows[span], self._counts[span]

    def having(self, rows: Sequence[int]) -> dict[str, int]:
        """For each term how many of some rows have it, in whichever field. Reads all postings."""
        n = len(self._numbers)
        among = np.zeros(self.lengths.shape[1], np.bool_)
        among[list(rows)] = True
        at = np.flatnonzero(among[self._rows])
        numbers = (np.searchsorted(self._starts, at, "right") - 1) % n
        pairs = np.unique(numbers * among.size + self._rows[at])  # a term may be in several fields of a product
        counts = np.bincount(pairs // among.size, minlength=n).tolist()
        return {term: count for term, count in zip(self._numbers, counts, strict=True) if count}


class AddedPostings:
    """The postings of products added since: rows only grow, so that who reads up to a row may go on while one adds."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, str], list[tuple[int, int]]] = {}

    def add(self, row: int, fields: Fields) -> None:
        for at, field in enumerate(LEXICAL_FIELDS):
            for term, count in Counter(fields[field]).items():
                self._found.setdefault((at, term), []).append((row, min(count, _MOST)))

    def of(self, field: int, term: str, n: int) -> tuple[Rows, Rows]:
        """The rows below ``n`` that have a term in a field, ascending, and how often."""
        found = np.array(self._found.get((field, term), ()), np.int64).reshape(-1, 2)
        found = found[found[:, 0] < n]
        return found[:, 0], found[:, 1]


class JoinedBackend:
    """A ``LexicalBackend`` over the products of the build and those added since, without the dead ones.

    Scores are those that a build of the living products gives.
    """

    def __init__(self, base: Postings, added: AddedPostings, lengths: NDArray[np.int32], alive: Mask) -> None:
        """``lengths`` are those of all rows' fields, int32 (n_fields, n); ``alive``, bool (n,)."""
        self._base, self._added, self._alive = base, added, alive
        self._n, self.n_documents = len(alive), int(np.count_nonzero(alive))
        self.totals = lengths[:, alive].sum(axis=1, dtype=np.int64)
        quantised = _LENGTHS[np.searchsorted(_LENGTHS, lengths, "right") - 1]
        mean = np.maximum(self.totals, 1) / max(self.n_documents, 1)
        self._norms = (K1 * (1 - B + B * quantised / mean[:, None])).astype(np.float32)

    @classmethod
    def of(cls, base: Postings, added: AddedPostings, lengths: Sequence[Sequence[int]], alive: Mask) -> Self:
        """``lengths`` are those of the added rows alone, one a row."""
        new = np.array(lengths, np.int32).reshape(-1, len(LEXICAL_FIELDS)).T
        return cls(base, added, np.concatenate([base.lengths, new], axis=1), alive)

    def search(
        self,
        clauses: Sequence[tuple[str, float]],
        field_weights: dict[str, float],
        tie: float,
        k: int,
        allowed: Mask | None,
    ) -> Candidates:
        weights = [(at, weight) for at, f in enumerate(LEXICAL_FIELDS) if (weight := field_weights.get(f, 0.0)) > 0]
        total = np.zeros(self._n, np.float64)
        for term, clause_weight in clauses:
            best, every = np.zeros(self._n, np.float64), np.zeros(self._n, np.float64) if tie else None
            for at, weight in weights:
                rows, counts = self._of(at, term)
                if not len(rows):
                    continue
                factor = weight * (K1 + 1) * idf(len(rows), self.n_documents)
                scores = factor * counts / (counts + self._norms[at, rows])
                best[rows] = np.maximum(best[rows], scores)
                if every is not None:
                    every[rows] += scores
            total += clause_weight * (best if every is None else best + tie * (every - best))
        found = total.astype(np.float32)
        rows = np.flatnonzero(found > 0 if allowed is None else (found > 0) & allowed)
        return Candidates.ranked(rows, found[rows], k)

    def document_frequency(self, field: str, term: str) -> int:
        return len(self._of(LEXICAL_FIELDS.index(field), term)[0])

    def _of(self, field: int, term: str) -> tuple[NDArray[np.integer[Any]], NDArray[np.integer[Any]]]:
        rows: NDArray[np.integer[Any]]
        counts: NDArray[np.integer[Any]]
        rows, counts = self._base.of(field, term)
        new_rows, new_counts = self._added.of(field, term, self._n)
        if len(new_rows):
            rows, counts = np.concatenate([rows, new_rows]), np.concatenate([counts, new_counts])
        living = self._alive[rows]
        return rows[living], counts[living]


_LENGTHS = np.array(LENGTHS)
