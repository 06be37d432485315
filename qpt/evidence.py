"""What speaks for each type, given a query's words and vector: its names, labelled queries near by, products near by.

Each kind of evidence is a number per type that means the same for every type, so that a few weights serve all of them,
also those that nobody has asked for yet. A type's name counts as one more example of it, so what is learnt from a
handful of examples never strays far from what the name says. A query costs a few products of its vector with small
matrices.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from engine.analysis.analyzer import STOP_WORDS, Analyzer
from engine.columns import PATH_SEPARATOR
from engine.seams import Encoder
from engine.understanding.words import WITHOUT, contrary
from qpt.softmax import Matrix
from qpt.title_types import head, name_parts

Places = NDArray[np.int64]

NAME_FEATURES = ("name", "path", "mapped path", "words", "head")
ITEM_FEATURES = ("nearest", "prototype", "votes", "seen", "prior")
_VOTERS, _SHARPNESS = 50, 20.0  # items that vote; a cosine lower by 1/20 has a vote lower by a factor of e
_LIKENESS = 12.0  # the same for votes that pass to types with names alike
_LEAST_SHARE = 1e-3  # of the votes, before the logarithm
_PRIOR = 0.5  # examples that every type has before the first (Jeffreys)
_LOCALE_WEIGHT = 0.1  # what the same locale adds to a cosine
_MAP_RIDGE = 0.02
_WIDTH = 128  # of narrow vectors; on no set was 384 better

ANALYZER = Analyzer()


@dataclass(frozen=True)
class QueryWords:
    """Words of labelled queries, as stems. A word and a type that queries with it ask for are a pair: ``rows``, places
    in ``words``, ascending, and ``columns``, int64 (pairs,), with ``counts``, float32 (pairs,), of such queries.
    """

    words: tuple[str, ...]
    rows: Places
    columns: Places
    counts: Matrix

    @classmethod
    def made(cls, queries: Sequence[str], shares: Matrix) -> QueryWords:
        """``shares``, float32 (n, types), are what each query counts for each type."""
        counts: dict[str, dict[int, float]] = {}
        for query, row in zip(queries, shares, strict=True):
            for stem in set(_stems(query)):
                of_word = counts.setdefault(stem, {})
                for column in np.flatnonzero(row).tolist():
                    of_word[column] = of_word.get(column, 0.0) + float(row[column])
        words = tuple(sorted(counts))
        pairs = [(place, column, n) for place, word in enumerate(words) for column, n in counts[word].items()]
        places = np.array([pair[:2] for pair in pairs], np.int64).reshape(len(pairs), 2)
        return cls(words, places[:, 0], places[:, 1], np.array([n for *_, n in pairs], np.float32))

    @cached_property
    def _spans(self) -> dict[str, tuple[int, int]]:
        starts = np.searchsorted(self.rows, np.arange(len(self.words) + 1)).tolist()
        return dict(zip(self.words, pairwise(starts), strict=True))

    def of(self, word: str) -> tuple[Places, Matrix]:
        """Types of queries with the word, and how many; both empty for a word that none has."""
        start, stop = self._spans.get(word, (0, 0))
        return self.columns[start:stop], self.counts[start:stop]


class NameEvidence:
    """Type names of one locale. ``parts``, float32 (sum of parts, d), are vectors of the names in each name, which
    ``Jugs & Carafes`` has two of; ``whole``, float32 (types, d), those of the path. A type without names has zeros.
    """

    def __init__(self, paths: Sequence[tuple[str, ...]], parts: Matrix, whole: Matrix) -> None:
        self.parts, self.whole = parts, whole
        lists = [_parts(path) for path in paths]
        self._starts = np.cumsum([0, *map(len, lists)])[:-1]
        stems = [set(_stems(path[-1])) for path in paths]
        frequency = Counter(stem for found in stems for stem in found)
        self._unknown = _idf(len(paths), 0)
        self._idf = {stem: _idf(len(paths), n) for stem, n in frequency.items()}
        self._having = _inverted(stems)

    @classmethod
    def made(cls, paths: Sequence[tuple[str, ...]], encoder: Encoder) -> NameEvidence:
        """``paths`` are names from the root to each type. Vectors are the encoder's, not yet narrow."""
        texts = [text for path in paths for text in _parts(path)]
        whole = [PATH_SEPARATOR.join(path) if path[-1] else "" for path in paths]
        return cls(paths, _encoded(texts, encoder), _encoded(whole, encoder))

    @classmethod
    def narrowed(cls, wide: NameEvidence, paths: Sequence[tuple[str, ...]], basis: Matrix) -> NameEvidence:
        """The same names with vectors of the basis."""
        return cls(paths, narrow(wide.parts, basis), narrow(wide.whole, basis))

    @staticmethod
    def count_parts(paths: Sequence[tuple[str, ...]]) -> int:
        """How many vectors ``parts`` must have."""
        return sum(len(_parts(path)) for path in paths)

    def write(self, query: str, vector: Matrix, mapped: Matrix, words: QueryWords, out: Matrix) -> None:
        """Fills ``out``, float32 (5, types), which holds zeros. Vectors are of shape (d,)."""
        out[0] = np.maximum.reduceat(self.parts @ vector, self._starts)
        out[1] = self.whole @ vector
        out[2] = self.whole @ mapped
        stems = set(_stems(query))
        total = sum(self._idf.get(stem, self._unknown) for stem in stems)
        for stem in stems & self._having.keys():
            out[3, self._having[stem]] += self._idf[stem] / total
        self._write_head(head(query, ANALYZER), words, out[4])

    def denied(self, query: str) -> Places:
        """The types, int64, whose names say that they have what the query wants them without, or the other way round:
        "wireless earphones" are none of the wired ones. A query that says both denies neither.
        """
        stems = set(_stems(query))
        without = [stem for stem in stems if stem.endswith(WITHOUT)]
        denied = {name for name in self._having for stem in without if contrary(stem, name)}
        denied |= {name for stem in stems if contrary(name := stem + WITHOUT, stem)}
        return np.array(sorted({place for name in denied - stems for place in self._having.get(name, ())}), np.int64)

    def _write_head(self, stem: str, words: QueryWords, out: Matrix) -> None:
        """Of the names and labelled queries that have the query's head noun, each type's share."""
        columns, counts = words.of(stem)
        out[columns] = counts
        if stem in self._having:
            out[self._having[stem]] += 1.0
        out /= max(float(out.sum()), 1e-9)


class ItemEvidence:
    """Labelled queries or typed products. ``vectors`` is float32 (items, d); an item and a type of its are a pair:
    ``rows`` and ``columns``, int64 (pairs,), columns ascending, with ``weights``, float32 (pairs,). ``prototypes``,
    float32 (types, d), and ``counts``, float32 (types,), are of all items, also those left out of ``vectors``.
    """

    def __init__(
        self, vectors: Matrix, rows: Places, columns: Places, weights: Matrix, prototypes: Matrix, counts: Matrix
    ) -> None:
        self.vectors, self.rows, self.columns, self.weights = vectors, rows, columns, weights
        self.prototypes, self.counts = prototypes, counts
        self._present, self._starts = np.unique(columns, return_index=True)
        self._by_row = np.argsort(rows, kind="stable")
        self._row_starts = np.searchsorted(rows[self._by_row], np.arange(len(vectors) + 1))
        self._seen = (counts > 0).astype(np.float32)
        self._prior = np.log((counts + _PRIOR) / (counts.sum() + _PRIOR * len(counts)))

    @classmethod
    def made(
        cls, vectors: Matrix, rows: Places, columns: Places, weights: Matrix, names: Matrix, most: int
    ) -> ItemEvidence:
        """Keeps about ``most`` pairs, as many of each type and at least one: prototypes say the rest.

        ``names``, float32 (types, width of names), are vectors of the types' paths. A prototype is the mean direction
        of a type's items and its name, which counts as one item: the nearest-centroid classifier of Snell et al. 2017,
        "Prototypical Networks for Few-shot Learning", shrunk towards their zero-shot one where there are few items.
        """
        order = np.lexsort((rows, columns))
        rows, columns, weights = rows[order], columns[order], weights[order]
        prototypes = np.zeros((len(names), vectors.shape[1]), np.float32)
        prototypes[:, : names.shape[1]] = names  # a name is of no locale
        np.add.at(prototypes, columns, vectors[rows] * weights[:, None])
        prototypes /= np.maximum(np.linalg.norm(prototypes, axis=1, keepdims=True), 1e-9)
        counts = np.bincount(columns, weights, len(names)).astype(np.float32)
        if len(rows) > most:
            present, starts = np.unique(columns, return_index=True)
            shuffled = np.lexsort((np.random.default_rng(0).random(len(rows)), columns))
            rank = np.arange(len(rows)) - starts[np.searchsorted(present, columns)]
            kept = np.sort(shuffled[rank < max(1, most // len(present))])
            rows, columns, weights = rows[kept], columns[kept], weights[kept]
        used, rows = np.unique(rows, return_inverse=True)
        return cls(vectors[used], rows.astype(np.int64), columns, weights, prototypes, counts)

    def write(self, vector: Matrix, alike: Matrix, out: Matrix) -> None:
        """Fills ``out``, float32 (5, types), which holds zeros. ``alike`` is float32 (types, types)."""
        if len(self.vectors):
            near = self.vectors @ vector
            out[0, self._present] = np.maximum.reduceat(near[self.rows], self._starts)
            out[2] = np.log(self._votes(near, alike) + _LEAST_SHARE)
        out[1] = self.prototypes @ vector
        out[3] = self._seen
        out[4] = self._prior

    def _votes(self, near: Matrix, alike: Matrix) -> Matrix:
        """Float32 (types,): shares of the nearest items' votes, each passed on to types with names alike."""
        top = np.argpartition(near, -_VOTERS)[-_VOTERS:] if len(near) > _VOTERS else np.arange(len(near))
        votes = np.exp(_SHARPNESS * (near[top] - near[top].max()))
        starts, stops = self._row_starts[top], self._row_starts[top + 1]
        lengths = stops - starts
        places = np.repeat(stops - np.cumsum(lengths), lengths) + np.arange(lengths.sum())
        pairs = self._by_row[places]
        given = np.repeat(votes, lengths) * self.weights[pairs]
        kinds, which = np.unique(self.columns[pairs], return_inverse=True)
        shares = np.bincount(which, given).astype(np.float32)
        passed: Matrix = (shares / shares.sum()) @ alike[kinds]
        return passed


@dataclass(frozen=True)
class Evidence:
    """All of it. ``basis``, float32 (dim, d), makes an encoder's vectors narrow; all others are of d numbers.
    ``names`` is by locale and has the empty one; ``mapping``, float32 (d, d), moves a query's vector towards its
    types' paths; ``words`` are labelled queries'; ``locales`` are those that queries and products are told
    apart by; ``items`` has ``queries``, ``products``, both or neither.
    """

    basis: Matrix
    names: Mapping[str, NameEvidence]
    mapping: Matrix
    words: QueryWords
    locales: tuple[str, ...]
    items: Mapping[str, ItemEvidence]

    @property
    def feature_names(self) -> tuple[str, ...]:
        return (*NAME_FEATURES, *(f"{kind}: {name}" for kind in self.items for name in ITEM_FEATURES))

    @cached_property
    def _alike(self) -> Matrix:
        whole = self.names[""].whole
        likeness: Matrix = np.exp(_LIKENESS * (whole @ whole.T - 1))
        np.fill_diagonal(likeness, 1.0)  # also of a type without a name
        return likeness

    def features(self, queries: Sequence[str], vectors: Matrix, locales: Sequence[str]) -> Matrix:
        """Float32 (n, features, types) of n queries; ``vectors`` is float32 (n, dim)."""
        vectors = narrow(vectors, self.basis)
        n_types, width = len(self.names[""].whole), len(NAME_FEATURES)
        out = np.zeros((len(queries), len(self.feature_names), n_types), np.float32)
        mapped = vectors + vectors @ self.mapping
        mapped /= np.maximum(np.linalg.norm(mapped, axis=1, keepdims=True), 1e-9)
        placed = with_locales(vectors, locales, self.locales)
        for row, (query, locale) in enumerate(zip(queries, locales, strict=True)):
            self.names.get(locale, self.names[""]).write(query, vectors[row], mapped[row], self.words, out[row, :width])
            for place, items in enumerate(self.items.values()):
                first = width + place * len(ITEM_FEATURES)
                items.write(placed[row], self._alike, out[row, first : first + len(ITEM_FEATURES)])
        return out

    def denied(self, query: str, locale: str) -> Places:
        """The types that the query's words rule out, int64, by their names in its locale."""
        return self.names.get(locale, self.names[""]).denied(query)


def fit_basis(vectors: Matrix) -> Matrix:
    """Float32 (dim, d): the directions in which ``vectors``, (n, dim), are longest; at most 128, which keep cosines.

    The first right singular vectors, without centring, so that cosines are of the same kind as before (Eckart and
    Young 1936). What is read per query shrinks as the vectors do, and reading is what a query costs.
    """
    _, directions = np.linalg.eigh(vectors.T @ vectors)
    basis: Matrix = np.ascontiguousarray(directions[:, ::-1][:, :_WIDTH], np.float32)
    return basis


def narrow(vectors: Matrix, basis: Matrix) -> Matrix:
    """Float32 (n, d), of unit length; zeros stay zeros."""
    shorter: Matrix = vectors @ basis
    shorter /= np.maximum(np.linalg.norm(shorter, axis=1, keepdims=True), 1e-9)
    return shorter


def with_locales(vectors: Matrix, locales: Sequence[str], known: Sequence[str]) -> Matrix:
    """Vectors with one more number per known locale, so that the same locale adds to a cosine and others do not.

    Float32 (n, d + known). An unknown or empty locale adds nothing to anything.
    """
    added = np.zeros((len(vectors), len(known)), np.float32)
    for row, locale in enumerate(locales):
        if locale in known:
            added[row, known.index(locale)] = _LOCALE_WEIGHT**0.5
    return np.hstack([vectors, added]) if known else vectors


def fit_mapping(vectors: Matrix, wanted: Matrix) -> Matrix:
    """Float32 (d, d): by ridge regression, what to add to ``vectors`` to come near ``wanted``, both (n, d).

    It shrinks to adding nothing, which leaves the plain cosine. Source: the linear map from examples to descriptions of
    classes of Romera-Paredes and Torr 2015, "An embarrassingly simple approach to zero-shot learning".
    """
    d = vectors.shape[1]
    if not len(vectors):
        return np.zeros((d, d), np.float32)
    squares = vectors.T @ vectors + _MAP_RIDGE * len(vectors) * np.eye(d, dtype=np.float32)
    mapping: Matrix = np.linalg.solve(squares, vectors.T @ (wanted - vectors)).astype(np.float32)
    return mapping


def _parts(path: tuple[str, ...]) -> list[str]:
    return name_parts(path[-1]) or [path[-1]]


def _stems(text: str) -> list[str]:
    return [stem for stem in ANALYZER.terms(text) if stem not in STOP_WORDS]


def _idf(n: int, frequency: int) -> float:
    return math.log(1 + n / (0.5 + frequency))


def _inverted(stems: Sequence[set[str]]) -> dict[str, Places]:
    found: dict[str, list[int]] = {}
    for place, of_type in enumerate(stems):
        for stem in of_type:
            found.setdefault(stem, []).append(place)
    return {stem: np.array(places, np.int64) for stem, places in found.items()}


def _encoded(texts: Sequence[str], encoder: Encoder) -> Matrix:
    out = np.zeros((len(texts), encoder.dim), np.float32)
    told = [place for place, text in enumerate(texts) if text.strip()]
    if told:
        out[told] = encoder.encode_queries([texts[place] for place in told])
    return out
