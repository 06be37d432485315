"""What a catalog is about: whether a query is about anything that it sells. Fitted when an index is built.

Queries that no shop can answer ("medical advice for headache") have nearest products as well. So four things are told
of a query, each as a distance, in standard deviations, from what such queries have (``off_domain.tsv``): the cosine of
the nearest product; on which side of a plane its vector lies, between such queries and queries made of the catalog; how
much nearer it is to the nearest of these than of those; and what share of its words titles know. A query is refused
where their weighted sum is below what most of those have, each judged by queries of other domains than its own, and
below what all but a few of the catalog's own have.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.analysis.analyzer import STOP_WORDS, Analyzer
from engine.dense.vectors import VectorIndex
from engine.errors import ConfigError, IndexCorruptError
from engine.fitted import Fitted
from engine.product import Product
from engine.seams import Encoder
from engine.storage.products import ProductStore
from engine.text import plain

Numbers = NDArray[np.float64]
Vectors = NDArray[np.float32]

DOMAIN = "domain.json"  # in an index version whose catalog is in English, and has vectors
_FOLDS = 5
_DEPARTMENT = "department"  # the domain of what other shops sell: off the domain of a catalog that has no such thing
_ASKS, _VAGUE = "asks", "vague"  # kinds of ``in_domain.tsv``
_TITLE_WORDS, _MADE_WORDS = 12, 4  # that are read of a title, and the most in a query made of it
_EDGE = 0.05  # keeps the log-odds of a share of words finite
_ANALYZER = Analyzer()


class DomainNumbers(Fitted, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a domain is fitted.

    - ``ridge``: of the regression that places the plane.
    - ``nearness_weight``, ``meaning_weight``, ``likeness_weight``, ``words_weight``: what the four distances count.
    - ``neighbours``: how many queries of a side are the nearest.
    - ``refused``: the share of the queries of other domains that is to be refused, as far as of those made of the
      catalog no more than ``lost`` is.
    - ``least_refused``: the share below which the two are not told apart, so that nothing is refused.
    - ``lacking``: how much more a query must have where no product has one of its words; ``told``: how much less where
      it says something that the catalog knows: a limit, an exclusion, a category's name.
    - ``made_queries``: how many are made of titles; ``made_share``: what these and phrases around them count of
      queries of the domain, the rest being vague ones.
    """

    ridge: float
    nearness_weight: float
    meaning_weight: float
    likeness_weight: float
    neighbours: int
    words_weight: float
    refused: float
    lost: float
    least_refused: float
    lacking: float
    told: float
    made_queries: int
    made_share: float

    def __post_init__(self) -> None:
        for name in ("refused", "lost", "least_refused", "made_share"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be between 0 and 1")
        for name in ("ridge", "made_queries", "neighbours"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be above 0")


NUMBERS = DomainNumbers.read(Path(__file__).with_suffix(".toml"))


class Scale(msgspec.Struct, frozen=True):
    """Mean and standard deviation over queries of other domains, and what a distance from the mean counts."""

    mean: float
    deviation: float
    weight: float

    @classmethod
    def of(cls, values: Numbers, weight: float) -> Scale:
        return cls(float(values.mean()), max(float(values.std()), 1e-6), weight)

    def __call__(self, value: float | Numbers) -> Numbers:
        return self.weight * (np.asarray(value, np.float64) - self.mean) / self.deviation


class Words(msgspec.Struct, frozen=True):
    """How many of ``n_products`` have a stem in title, categories or brand."""

    n_products: int
    counts: dict[str, int]

    @classmethod
    def of(cls, products: Iterable[Product]) -> Self:
        counts: Counter[str] = Counter()
        n_products = 0
        for product in products:
            n_products += 1
            text = " ".join((product.title, *product.category, product.brand))
            counts.update(set(_told(_ANALYZER.terms(text))))
        return cls(n_products, dict(counts))

    def share_known(self, text: str) -> float:
        """The share of a text's stems that are known, weighted by idf: what is rare says more. 0 without any."""
        told = _told(_ANALYZER.terms(text))
        weights = [math.log(1 + self.n_products / (0.5 + self.counts.get(stem, 0))) for stem in told]
        known = sum(weight for stem, weight in zip(told, weights, strict=True) if stem in self.counts)
        return known / sum(weights) if weights else 0.0


class Asked(msgspec.Struct, frozen=True, dict=True, forbid_unknown_fields=True):
    """Queries of both sides, as vectors: float16 (n, dim) by row, as bytes. ``neighbours`` are compared with."""

    dim: int
    neighbours: int
    inside: bytes
    outside: bytes

    @classmethod
    def of(cls, inside: Vectors, outside: Vectors, neighbours: int) -> Self:
        kept = (vectors.astype(np.float16).tobytes() for vectors in (inside, outside))
        return cls(inside.shape[1], neighbours, *kept)

    @cached_property
    def _sides(self) -> tuple[Vectors, Vectors]:
        inside, outside = (
            np.frombuffer(kept, np.float16).reshape(-1, self.dim) for kept in (self.inside, self.outside)
        )
        return inside.astype(np.float32), outside.astype(np.float32)

    def likeness(self, vector: Vectors) -> float:
        """How much nearer the nearest queries of the domain are than those of others."""
        inside, outside = self._sides
        return float(
            _nearest(vector[None], inside, self.neighbours)[0] - _nearest(vector[None], outside, self.neighbours)[0]
        )


class Domain(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is written to an index. ``plane`` is (dim + 1,), the last number its offset, and ``asked`` are the queries
    that it lies between. The scales are of the nearest product's cosine, of the side of the plane, of the likeness to
    these queries and of the log-odds of known words; a sum below ``least`` is refused.
    That is higher by ``lacking`` for a query that has a word of no product, and lower by ``told`` for one that says a
    limit, an exclusion or a category's name.
    """

    words: Words
    plane: list[float]
    nearness: Scale
    meaning: Scale
    known: Scale
    least: float
    lacking: float
    told: float
    asked: Asked | None = None  # in indexes that were built before likeness counted
    likeness: Scale | None = None

    @classmethod
    def learn(
        cls, products: ProductStore, index: VectorIndex, encoder: Encoder, numbers: DomainNumbers = NUMBERS
    ) -> Self | None:
        """The domain of a catalog, with the index of its vectors; None where the catalog is too small, or the encoder
        too poor, to tell its queries from others.
        """
        words = Words.of(products)
        made = _made(products, words, numbers.made_queries)
        if not made:
            return None
        names, off = zip(*_off_domain(words), strict=True)
        general = np.array([name != _DEPARTMENT for name in names])
        others, asked = (_Measured.of(queries, index, encoder, words) for queries in (off, made))
        vague = encoder.encode_queries([query for kind, query in _read("in_domain.tsv") if kind == _VAGUE])
        inside = np.vstack([asked.vectors, vague])
        shares = np.repeat(
            [numbers.made_share / len(made), (1 - numbers.made_share) / len(vague)], [len(made), len(vague)]
        )
        (inner, near_inner), (outer, near_outer) = _crossed(inside, shares, others.vectors, names, numbers)
        plane = _plane(inside, shares, others.vectors, numbers.ridge).tolist()
        nearness = Scale.of(others.nearest[general], numbers.nearness_weight)
        meaning = Scale.of(outer[general], numbers.meaning_weight)
        likeness = Scale.of(near_outer[general], numbers.likeness_weight)
        known = Scale.of(others.known[general], numbers.words_weight)
        strange = nearness(others.nearest) + meaning(outer) + likeness(near_outer) + known(others.known)
        own = nearness(asked.nearest) + known(asked.known)
        own += meaning(inner[: len(made)]) + likeness(near_inner[: len(made)])
        least = min(np.quantile(strange[general], numbers.refused), np.quantile(own, numbers.lost))
        if np.mean(strange[general] < least) < numbers.least_refused:
            return None
        kept = Asked.of(inside, others.vectors, numbers.neighbours)
        return cls(
            words, plane, nearness, meaning, known, float(least), numbers.lacking, numbers.told, kept, likeness
        )  # fmt: skip

    @classmethod
    def open(cls, path: Path, dim: int) -> Self:
        """One for an encoder of ``dim`` numbers. Raises IndexCorruptError."""
        try:
            domain = msgspec.json.decode(path.read_bytes(), type=cls)
        except (OSError, msgspec.MsgspecError) as error:
            raise IndexCorruptError(f"{path} cannot be read: {error}") from error
        if len(domain.plane) != dim + 1 or (domain.asked and domain.asked.dim != dim):
            raise IndexCorruptError(f"{path} is for vectors of {len(domain.plane) - 1} numbers, not {dim}")
        return domain

    def save(self, path: Path) -> None:
        path.write_bytes(msgspec.json.encode(self))

    def refusal(self, query: str, vector: Vectors, near: float, *, lacking: bool = False, told: bool = False) -> str:
        """Why a query is about something else, empty where it is not. ``vector`` is float32 (dim,), ``near`` the cosine
        of the nearest product; ``lacking`` is whether no product has one of its words, ``told`` whether it says a
        limit, an exclusion or a category's name.
        """
        share = self.words.share_known(query)
        side = float(np.dot(np.asarray(self.plane[:-1], np.float32), vector)) + self.plane[-1]
        least = self.least + self.lacking * lacking - self.told * told
        total = self.nearness(near) + self.meaning(side)
        if self.asked and self.likeness:
            total += self.likeness(self.asked.likeness(vector))
        if total + self.known(_log_odds(share)) >= least:
            return ""
        return (
            "the query is more like those that no shop answers than like this catalog's: "
            f"the nearest product has a cosine of {near:.2f}, titles have {share:.0%} of its words"
        )


@dataclass(frozen=True, eq=False)
class _Measured:
    """Of n queries the ``vectors``, float32 (n, dim), the cosine of each one's nearest product and the log-odds of its
    known words, float64 (n,).
    """

    vectors: Vectors
    nearest: Numbers
    known: Numbers

    @classmethod
    def of(cls, queries: Sequence[str], index: VectorIndex, encoder: Encoder, words: Words) -> Self:
        vectors = encoder.encode_queries(queries)
        nearest = np.array([float(index.search(vector, 1).scores[0]) for vector in vectors])
        return cls(vectors, nearest, _log_odds(np.array([words.share_known(query) for query in queries])))


def _told(stems: Iterable[str]) -> list[str]:
    """Stems that say something: of numbers every catalog knows some."""
    return [stem for stem in stems if stem not in STOP_WORDS and stem.isalpha()]


def _off_domain(words: Words) -> list[tuple[str, str]]:
    """Queries of other domains with their domain: of what shops sell, only what titles have no words for."""
    return [
        (domain, query)
        for domain, query in _read("off_domain.tsv")
        if domain != _DEPARTMENT or words.share_known(query) < 1
    ]


def _made(products: ProductStore, words: Words, most: int) -> list[str]:
    """Up to ``most`` queries made of titles, and phrases of shoppers around these and as many categories' names.

    A query is one to four words of a title in their order, drawn in proportion to how many products have them.
    """
    rng = np.random.default_rng(0)
    made: list[str] = []
    names: set[str] = set()
    for product in products.get(np.arange(len(products))[:: max(1, len(products) // most)][:most]):
        names.update(name.lower() for name in product.category)
        said = [word for word in _ANALYZER.words(plain(product.title))[:_TITLE_WORDS] if _told([word])]
        if said:
            weights = np.array([1 + words.counts.get(_ANALYZER.terms(word)[0], 0) for word in said], float)
            n = min(int(rng.integers(1, _MADE_WORDS + 1)), len(said))
            picked = np.sort(rng.choice(len(said), n, replace=False, p=weights / weights.sum()))
            made.append(" ".join(said[place] for place in picked))
    asks = [query for kind, query in _read("in_domain.tsv") if kind == _ASKS]
    return made + [asks[i % len(asks)].format(said) for i, said in enumerate([*made, *sorted(names)[:most]])]


def _read(name: str) -> list[tuple[str, str]]:
    """(kind, query) of each line of a file beside this one."""
    lines = Path(__file__).with_name(name).read_text(encoding="utf-8").splitlines()
    return [(kind, query) for kind, _, query in (line.partition("\t") for line in lines)]


def _plane(inside: Vectors, shares: Numbers, outside: Vectors, ridge: float) -> Numbers:
    """Float64 (dim + 1,): regularised least squares towards 1 inside and -1 outside, each half of the weight."""
    rows = np.vstack([inside, outside]).astype(np.float64)
    rows = np.hstack([rows, np.ones((len(rows), 1))])
    wanted = np.repeat([1.0, -1.0], [len(inside), len(outside)])
    weights = np.concatenate([shares / shares.sum(), np.full(len(outside), 1 / len(outside))]) / 2
    penalty = ridge * np.eye(rows.shape[1])
    penalty[-1, -1] = 1e-9  # the offset is free
    # By eigenvectors: OpenBLAS's solver needs more stack than a Java VM leaves the thread that started it.
    values, vectors = np.linalg.eigh(rows.T @ (rows * weights[:, None]) + penalty)
    plane: Numbers = vectors @ ((vectors.T @ (rows.T @ (weights * wanted))) / values)
    return plane


def _crossed(
    inside: Vectors, shares: Numbers, outside: Vectors, domains: Sequence[str], numbers: DomainNumbers
) -> tuple[tuple[Numbers, Numbers], tuple[Numbers, Numbers]]:
    """For the rows of each side where each lies by a plane of the other folds, and how much nearer it is to the inside
    of these folds than to their outside. A domain is in one fold, but for departments: each is one.
    """
    order = sorted(set(domains) - {_DEPARTMENT})
    out_fold = np.array([(i if name == _DEPARTMENT else order.index(name)) % _FOLDS for i, name in enumerate(domains)])
    in_fold = np.arange(len(inside)) % _FOLDS
    sides = tuple((np.empty(len(rows)), np.empty(len(rows))) for rows in (inside, outside))
    for fold in range(_FOLDS):
        kept = inside[in_fold != fold], outside[out_fold != fold]
        plane = _plane(kept[0], shares[in_fold != fold], kept[1], numbers.ridge)
        for (meaning, likeness), rows, held in zip(
            sides, (inside, outside), (in_fold == fold, out_fold == fold), strict=True
        ):
            meaning[held] = rows[held] @ plane[:-1] + plane[-1]
            near = (_nearest(rows[held], other, numbers.neighbours) for other in kept)
            likeness[held] = next(near) - next(near)
    return sides[0], sides[1]


def _nearest(rows: Vectors, others: Vectors, neighbours: int) -> Numbers:
    """Of each row the mean cosine of its nearest ``others``, so many of them."""
    cosines = rows @ others.T
    n = min(neighbours, cosines.shape[1])
    nearest: Numbers = np.partition(cosines, -n, axis=1)[:, -n:].mean(axis=1).astype(np.float64)
    return nearest


def _log_odds(share: float | Numbers) -> Numbers:
    return np.log((share + _EDGE) / (1 + _EDGE - np.asarray(share)))
