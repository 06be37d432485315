"""Judged queries as a linear ranker sees them: a few features of each candidate, on a scale that queries share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from benchmarks.data import SearchSet
from benchmarks.synthetic_clicks import Asked, Floats
from engine.analysis.analyzer import Analyzer
from engine.catalog import read_catalog
from engine.config import IndexConfig
from engine.dense.encoder import OnnxEncoder
from engine.lexical.bm25 import idf
from engine.product import Product
from engine.seams import Embeddings
from engine.text import lexical_fields

_LEAST = 5  # judged products that make a query worth ranking


def asked_of(search_set: SearchSet) -> list[Asked]:
    """The queries that have five judged products or more, not all of one grade.

    Features are, by query at mean 0 and standard deviation 1: the cosine of the shipped encoder, the share of the
    query's words by idf in each lexical field, and the logarithms of popularity, ratings, price and title length.
    """
    products = {product.product_id: product for product in read_catalog(search_set.corpus)}
    analyzer = Analyzer()
    frequencies = Counter(
        term
        for product in products.values()
        for term in {term for text in lexical_fields(product).values() for term in analyzer.terms(text)}
    )
    weight = {term: idf(n, len(products)) for term, n in frequencies.items()}
    encoder = OnnxEncoder.named(IndexConfig().encoder)
    gains = search_set.grading.gains
    vectors: dict[str, Embeddings] = {}
    out = []
    for query_id, query in search_set.queries.items():
        grades = {p: grade for p, grade in search_set.qrels[query_id].items() if p in products}
        labels = np.array([float(gains[grade] if gains else grade) for grade in grades.values()])
        if len(grades) < _LEAST or labels.min() == labels.max():
            continue
        candidates = [products[product_id] for product_id in grades]
        fresh = [product for product in candidates if product.product_id not in vectors]
        for product, vector in zip(fresh, encoder.encode_products(fresh) if fresh else (), strict=True):
            vectors[product.product_id] = vector
        cosines = np.stack([vectors[p] for p in grades]) @ encoder.encode_queries([query])[0]
        words = {term: weight.get(term, 0.0) for term in analyzer.terms(query)}
        rows = [
            [float(cosine), *_matches(product, words, analyzer), *_shop(product)]
            for product, cosine in zip(candidates, cosines, strict=True)
        ]
        highest = max(gains.values()) if gains else max(max(of.values()) for of in search_set.qrels.values())
        out.append(Asked(query, tuple(grades), labels / highest, _standardised(rows)))
    return out


def _matches(product: Product, words: dict[str, float], analyzer: Analyzer) -> list[float]:
    total = max(sum(words.values()), 1e-9)
    found = (set(analyzer.terms(text)) for text in lexical_fields(product).values())
    return [sum(weight for word, weight in words.items() if word in terms) / total for terms in found]


def _shop(product: Product) -> list[float]:
    counts = (product.popularity, product.rating_count, product.price, len(product.title))
    return [*(float(np.log1p(count or 0.0)) for count in counts), product.rating or 0.0]


def _standardised(rows: Sequence[Sequence[float]]) -> Floats:
    values = np.array(rows)
    spread = values.std(axis=0)
    scaled: Floats = (values - values.mean(axis=0)) / np.where(spread > 1e-9, spread, 1.0)
    return scaled
