"""Learns kinds of things from titles and attributes, where a catalog has no categories.

Products of one kind state the same attributes: a notebook its processor, a notebook case its closure. So a noun that
titles end on is a kind where those products state much the same, and a noun after it ("notebook case") makes it another
thing where the products of both words together state something else, but not in "toner cartridge original". Similarity
is the cosine of vectors of attribute names, each product's weighed by how rare the names are and of length 1.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.columns import Columns
from engine.errors import ConfigError
from engine.fitted import Fitted
from engine.kinds.store import Kind, Kinds
from engine.kinds.titles import Key, may_name, named_in, stem
from engine.product import Product
from engine.types import Rows
from engine.understanding.words import tokens

_LEAST_NAMED = 3  # products that state an attribute, so that it tells anything
_MOST_COMPARED = 500  # products of a group that its centroid is made of, evenly spaced
_LONGEST_VALUE = 60  # characters of a text that is a value and no sentence
_ROUNDS = 2  # of leaving out what is unlike the rest
_PART = re.compile(r"[,/]")

_Vector = NDArray[np.float64]


class KindNumbers(Fitted, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What makes a kind.

    - ``least_uncategorised``: the share of products without a category from which a catalog's kinds are learnt.
    - ``least_attributes``: how many attributes a product must state in the middle, so that they tell what it is.
    - ``least_products``: that titles must end on the noun.
    - ``most_values``: of the titles with a word, those whose product has it as a brand or as an attribute's value: what
      is more often one ("black") is no noun.
    - ``same_cosine``: of a noun's products and those where another follows it, from which both are the same thing.
    - ``member_cosine``: of a product and its kind, from which it is one.
    - ``least_coherence``: the mean cosine of a kind's products and the kind.
    """

    least_uncategorised: float
    least_attributes: int
    least_products: int
    most_values: float
    same_cosine: float
    member_cosine: float
    least_coherence: float

    def __post_init__(self) -> None:
        for name in ("least_uncategorised", "most_values", "same_cosine", "member_cosine", "least_coherence"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be from 0 to 1")


NUMBERS = KindNumbers.read(Path(__file__).with_name("kinds.toml"))


def learn(products: Iterable[Product], columns: Columns, numbers: KindNumbers = NUMBERS) -> Kinds:
    """The kinds of a catalog, the largest first; none where its products have categories, or state too little.

    ``products`` are gone through several times; ``columns`` are theirs.
    """
    n = len(columns)
    filed = (rows for _, rows in columns.postings("category")) if "category" in columns.fields else ()
    n_filed = len(np.unique(np.concatenate([np.empty(0, np.int64), *filed])))
    if n - n_filed < numbers.least_uncategorised * n:
        return Kinds.none(n)
    stated, titles, values = _count(products)
    if not stated:
        return Kinds.none(n)
    vectors = _Attributes(products, n, stated)
    if vectors.middle < numbers.least_attributes:
        return Kinds.none(n)
    nouns = {word for word, count in titles.items() if may_name(word) and values[word] < numbers.most_values * count}
    groups = _groups(products, nouns)
    shown = {stem(word): word for word, _ in reversed(titles.most_common()) if word in nouns}
    kinds = (_kind(key, shown, followed, vectors, numbers) for key, followed in groups.items())
    return Kinds(tuple(sorted(filter(None, kinds), key=lambda kind: (-len(kind.rows), kind.key))), n)


def _count(products: Iterable[Product]) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """Per attribute how many products state it; and per word of titles how many have it there, and how many of these as
    a value or brand too.
    """
    stated, titles, values = Counter[str](), Counter[str](), Counter[str]()
    for product in products:
        stated.update(product.attributes.keys())
        words = {token.text for token in tokens(product.title)}
        titles.update(words)
        values.update(words.intersection(_values(product)))
    return stated, titles, values


def _values(product: Product) -> Iterator[str]:
    """The words of the brand, and texts of attributes that are one word or several with commas between; not of those
    that say the product's type.
    """
    yield from (token.text for token in tokens(product.brand))
    for name, value in product.attributes.items():
        if name.rpartition("_")[2] in ("type", "category"):
            continue
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and len(text) <= _LONGEST_VALUE:
                yield from (part.strip().casefold() for part in _PART.split(text))


def _groups(products: Iterable[Product], nouns: set[str]) -> dict[Key, dict[str, list[int]]]:
    """By noun, and by the one that follows it, the rows of the products whose titles say so, ascending."""
    groups: dict[Key, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row, product in enumerate(products):
        for key, follower in dict.fromkeys(named_in(product.title, nouns.__contains__)):
            groups[key][follower].append(row)
    return groups


def _kind(
    key: Key, shown: Mapping[str, str], followed: Mapping[str, Sequence[int]], vectors: _Attributes,
    numbers: KindNumbers,
) -> Kind | None:  # fmt: skip
    """The kind that a noun names, None where it names none; ``followed`` are rows by what follows it."""
    groups = {follower: vectors.stating(np.array(rows, np.int64)) for follower, rows in followed.items()}
    ended = groups.pop("", np.empty(0, np.int64))
    if len(ended) < numbers.least_products:
        return None
    centre = vectors.centroid(ended)
    alike = {name: float(vectors.centroid(rows) @ centre) for name, rows in groups.items() if len(rows)}
    same = sorted(name for name, cosine in alike.items() if cosine >= numbers.same_cosine)
    other = sorted(name for name, cosine in alike.items() if cosine < numbers.same_cosine)
    rows = np.unique(np.concatenate([ended, *(groups[name] for name in same)]))
    rows = rows[~np.isin(rows, np.concatenate([ended[:0], *(groups[name] for name in other)]))]
    for _ in range(_ROUNDS):
        rows = rows[vectors.cosines(rows, centre) >= numbers.member_cosine]
        if len(rows) < numbers.least_products:
            return None
        centre = vectors.centroid(rows)
    if vectors.cosines(rows, centre).mean() < numbers.least_coherence:
        return None
    return Kind(key, " ".join(shown[word] for word in key), tuple(same), tuple(other), rows)


class _Attributes:
    """Products as vectors of the names of their attributes: rare ones count more, and each vector has length 1."""

    def __init__(self, products: Iterable[Product], n: int, stated: Mapping[str, int]) -> None:
        names = [name for name, count in stated.items() if count >= _LEAST_NAMED]
        places = {name: at for at, name in enumerate(names)}
        self._rarity = np.log(n / np.array([stated[name] for name in names], np.float64))
        held = [[places[name] for name in product.attributes if name in places] for product in products]
        self._starts = np.concatenate([[0], np.cumsum([len(row) for row in held])])
        self._places = np.array([place for row in held for place in row], np.int64)
        weights = self._rarity[self._places]
        owner = np.repeat(np.arange(n), np.diff(self._starts))
        self._lengths = np.sqrt(np.bincount(owner, weights**2, n))
        self._weights = weights / np.maximum(self._lengths[owner], 1e-9)
        self.middle = float(np.median(np.diff(self._starts))) if n else 0.0

    def stating(self, rows: Rows) -> Rows:
        """Those of ``rows`` that state anything that not all do."""
        stated: Rows = rows[self._lengths[rows] > 0]
        return stated

    def centroid(self, rows: Rows) -> _Vector:
        """The mean direction of the products, float64 (n_names,), of length 1."""
        places, _ = self._held(rows[:: max(1, len(rows) // _MOST_COMPARED)])
        total = np.bincount(self._places[places], self._weights[places], len(self._rarity))
        centre: _Vector = total / max(float(np.linalg.norm(total)), 1e-9)
        return centre

    def cosines(self, rows: Rows, centre: _Vector) -> _Vector:
        """Float64 (len(rows),): of each product and ``centre``."""
        places, owner = self._held(rows)
        cosines: _Vector = np.bincount(owner, self._weights[places] * centre[self._places[places]], len(rows)).astype(
            np.float64
        )
        return cosines

    def _held(self, rows: Rows) -> tuple[Rows, Rows]:
        """Where the names of ``rows`` lie, and the place in ``rows`` that each is of."""
        starts, counts = self._starts[rows], self._starts[rows + 1] - self._starts[rows]
        owner = np.repeat(np.arange(len(rows)), counts)
        within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        return starts[owner] + within, owner
