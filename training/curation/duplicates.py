"""Products and queries that are there more than once, to the letter or nearly.

Candidates are found by MinHash and banding (Broder 1997, "On the resemblance and containment of documents"; Leskovec,
Rajaraman and Ullman, "Mining of Massive Datasets", chapter 3), and then compared in full: two texts are near where the
Jaccard similarity of their shingles is ``jaccard`` or more. What sets two products or two wishes apart is often one
number or one word, so near is not enough: see the steps.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

import numpy as np
from rapidfuzz.distance import OSA

from engine.analysis.analyzer import fold
from engine.errors import MissingExtraError
from engine.product import Product
from engine.text import encoded_text
from training.curation.report import Tally
from training.curation.rows import Rows
from training.curation.step import Context, Step, rename_queries

_PERMUTATIONS = 128
_FOUND = 0.99  # of the pairs at the threshold, by banding
_CHARACTERS = 3  # of a query's shingles
_LONG = 4  # letters from which on a word may be misspelt
_WORD = re.compile(r"\w+")

Shingles = frozenset[str]


class _Near(Step, frozen=True, kw_only=True):
    """``jaccard`` is how similar two texts must be; 1 takes equal ones alone."""

    jaccard: float = 0.9

    def __post_init__(self) -> None:
        if not 0.5 <= self.jaccard <= 1:
            raise ValueError(f"jaccard is {self.jaccard}; it must be from 0.5 to 1")


class DuplicateProductsStep(_Near, frozen=True, kw_only=True, tag="duplicate-products"):
    """Products that are the same become the first of them; impressions and pairs follow.

    Compared is what encoders read, by words. Duplicates must also have the same numbers in their titles, and agree in
    brand, model and every attribute that both have: a phone in another colour is another product.
    """

    def apply(self, rows: Rows, context: Context) -> Rows:
        products = list(rows.products.values())
        words = [_words(encoded_text(product)) for product in products]
        clusters = _first_alike(
            [" ".join(found) for found in words], [frozenset(found) for found in words],
            lambda i, j: _same_product(products[i], products[j]), self.jaccard, context,
        )  # fmt: skip
        first = {products[i].product_id: products[j].product_id for i, j in clusters.items()}
        if not first:
            return rows
        context.tally.merge("products", "duplicate", len(first), first)
        return _showing(rows, first, context.tally)


def _showing(rows: Rows, first: Mapping[str, str], tally: Tally) -> Rows:
    impressions = rows.impressions.showing([first.get(p, p) for p in rows.impressions.product_ids])
    changed = [pair for pair in rows.pairs if pair.product_id in first]
    tally.change("pairs", "shows the first of duplicates", len(changed), (pair.place for pair in changed))
    pairs = tuple(replace(pair, product_id=first.get(pair.product_id, pair.product_id)) for pair in rows.pairs)
    products = {product_id: product for product_id, product in rows.products.items() if product_id not in first}
    return replace(rows, impressions=impressions, pairs=pairs, products=products)


def _same_product(a: Product, b: Product) -> bool:
    """Whether nothing that both say differs."""
    said: list[tuple[object, object]] = [(a.brand, b.brand), (a.model, b.model)]
    said += [(a.attributes[name], b.attributes[name]) for name in a.attributes.keys() & b.attributes.keys()]
    return _numbers(a.title) == _numbers(b.title) and all(x == y for x, y in said if x and y)


class DuplicateQueriesStep(_Near, frozen=True, kw_only=True, tag="duplicate-queries"):
    """Queries that are the same become the one that was asked most; their impressions and pairs are put together.

    The same are those equal but for case, accents and signs, and near ones, compared by three letters at a time, whose
    words, in order, are the same but for spelling: one edit apart, of four letters or more, and of the two at least one
    that no product has. So numbers are the same, and ``case`` and ``cape`` stay two wishes.
    """

    jaccard: float = 0.7

    def apply(self, rows: Rows, context: Context) -> Rows:
        impressions = rows.impressions
        asked: Counter[str] = Counter(pair.query for pair in rows.pairs)
        shown = np.bincount(impressions.query, minlength=len(impressions.queries))
        asked.update(dict(zip(impressions.queries, shown.tolist(), strict=True)))
        known = {word for product in rows.products.values() for word in _words(encoded_text(product))}
        queries = sorted(rows.queries(), key=lambda query: (-asked[query], query))
        words = [_words(query) for query in queries]
        texts = [" ".join(found) or query for found, query in zip(words, queries, strict=True)]
        clusters = _first_alike(
            texts, [_letters(text) for text in texts], lambda i, j: _same_wish(words[i], words[j], known), self.jaccard,
            context,
        )  # fmt: skip
        return rename_queries(
            rows, {queries[i]: queries[j] for i, j in clusters.items()}, "duplicate query", context.tally
        )


def _same_wish(a: Sequence[str], b: Sequence[str], known: Set[str]) -> bool:
    return len(a) == len(b) and all(x == y or _misspelt(x, y, known) for x, y in zip(a, b, strict=True))


def _misspelt(x: str, y: str, known: Set[str]) -> bool:
    if min(len(x), len(y)) < _LONG or not (x.isalpha() and y.isalpha()) or (x in known and y in known):
        return False
    return OSA.distance(x, y, score_cutoff=1) <= 1


def _words(text: str) -> list[str]:
    return _WORD.findall(fold(text).lower())


def _letters(text: str) -> Shingles:
    padded = f" {text} "
    return frozenset(padded[i : i + _CHARACTERS] for i in range(len(padded) - _CHARACTERS + 1))


def _numbers(text: str) -> Counter[str]:
    return Counter(word for word in _words(text) if any(c.isdigit() for c in word))


# Clusters


def _first_alike(
    texts: Sequence[str], shingles: Sequence[Shingles], agree: Callable[[int, int], bool], jaccard: float,
    context: Context,
) -> dict[int, int]:  # fmt: skip
    """For each text that is alike an earlier one, which; texts that are the first of their kind are left out.

    A text joins the earliest first that it is itself alike, so that a chain of small steps leads nowhere.
    """
    index = None if jaccard == 1 else _Index(jaccard, context.seed)
    exact: dict[str, list[int]] = {}
    first: dict[int, int] = {}
    for place, (text, own) in enumerate(zip(texts, shingles, strict=True)):
        signature = index.signature(own) if index else None
        near = exact.get(text, []) + (index.candidates(signature) if index else [])
        for other in sorted(set(near)):
            if (text == texts[other] or _jaccard(own, shingles[other]) >= jaccard) and agree(other, place):
                first[place] = other
                break
        else:
            exact.setdefault(text, []).append(place)
            if index:
                index.add(place, signature)
        if place % 1000 == 0:
            context.progress("comparing texts", place, len(texts))
    return first


def _jaccard(a: Shingles, b: Shingles) -> float:
    return len(a & b) / max(len(a | b), 1)


def _bands(jaccard: float) -> tuple[int, int]:
    """How many bands of how many values: the most selective that find enough of the pairs at the threshold.

    With b bands of r values a pair is found with probability 1 - (1 - jaccard^r)^b.
    """
    enough = (r for r in range(_PERMUTATIONS, 0, -1) if 1 - (1 - jaccard**r) ** (_PERMUTATIONS // r) >= _FOUND)
    r = next(enough, 1)
    return _PERMUTATIONS // r, r


class _Index:
    """Texts by their MinHash."""

    def __init__(self, jaccard: float, seed: int) -> None:
        try:
            from datasketch import MinHash, MinHashLSH
        except ImportError as error:
            raise MissingExtraError("train", "datasketch") from error
        self._lsh = MinHashLSH(num_perm=_PERMUTATIONS, params=_bands(jaccard))
        self._empty = MinHash(num_perm=_PERMUTATIONS, seed=seed + 1)

    def signature(self, shingles: Shingles) -> Any:
        signature = self._empty.copy()
        signature.update_batch([shingle.encode() for shingle in shingles])
        return signature

    def candidates(self, signature: Any) -> list[int]:
        return list(self._lsh.query(signature))

    def add(self, place: int, signature: Any) -> None:
        self._lsh.insert(place, signature, check_duplication=False)
