"""Fits a linear head: evidence from everything, weights and calibration from evidence that leaves the example out.

Examples are cut into folds, queries of the same stems together. A fold's evidence comes from the other folds alone, so
that an example is never its own neighbour, and types that only the fold knew are without examples, as often as they
will be in use (Good and Turing's estimate): the weights learn how far names carry such a type. Temperature and
conformal scores are cross-fitted once more, with weights from the other folds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError
from engine.seams import Encoder
from qpt.calibration import Flags, Numbers, fit_temperature
from qpt.conformal import nonconformity
from qpt.evidence import (
    ANALYZER,
    Evidence,
    ItemEvidence,
    NameEvidence,
    QueryWords,
    fit_basis,
    fit_mapping,
    narrow,
    with_locales,
)
from qpt.examples import LabelledQuery
from qpt.linear_head import LinearHead, made_card
from qpt.log_linear import fit_log_linear, log_shares
from qpt.softmax import Matrix
from qpt.taxonomy import Taxonomy

_FOLDS = 10
_MOST_PAIRS = 2_048  # items kept per kind: a product with their vectors takes a tenth of a millisecond
_MOST_CELLS = 3_000_000  # pairs of an example and a type that weights are fitted on; 180 MB of evidence
_ENOUGH_REAL = 30  # shoppers' queries that make made ones needless


@dataclass(frozen=True, slots=True)
class TypedProducts:
    """Products with their vectors, float32 (n, dim), and types; those without a type are left out by the caller."""

    product_ids: Sequence[str]
    vectors: Matrix
    type_ids: Sequence[str]
    locales: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class CrossFitted:
    """Of every example with evidence that left it out: logits before the temperature, float32 (n, types), and which
    types are right, bool (n, types). ``real`` tells shoppers' queries, bool (n,), from those made of products.
    """

    queries: tuple[str, ...]
    logits: Matrix = field(repr=False)
    right: Flags = field(repr=False)
    real: Flags = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Table:
    """Examples with those of the same query and locale joined: targets are float32 (n, types), weights summed."""

    queries: list[str]
    locales: list[str]
    product_ids: list[str]
    targets: Matrix
    vectors: Matrix
    fold: NDArray[np.int64]

    @property
    def importance(self) -> Numbers:
        """A query counts once however often it was clicked, and less only where its weights are below 1 in all."""
        weights: Numbers = np.minimum(self.targets.sum(axis=1, dtype=np.float64), 1.0)
        return weights

    @property
    def real(self) -> Flags:
        return np.array([not product_id for product_id in self.product_ids], bool)


def fit_head(
    examples: Sequence[LabelledQuery], taxonomy: Taxonomy, encoder: Encoder, *,
    types: Sequence[str] | None = None, products: TypedProducts | None = None, seed: int = 0,
) -> tuple[LinearHead, CrossFitted]:  # fmt: skip
    """The head, and what it said of its examples when it had not seen them.

    ``types`` are the ids that can be answered, None for all leaves and whatever has an example or a product. Examples
    may be shoppers' or made of ``products`` (``qpt.examples.from_catalog``), which then are left out of their own
    evidence; with 30 of shoppers' queries they are not used. Raises ConfigError on too few examples, or on types that
    the taxonomy lacks.
    """
    said = [example.type_id for example in examples] + list(products.type_ids if products else ())
    chosen = tuple(dict.fromkeys(types if types is not None else (*taxonomy.leaves, *said)))
    unknown = sorted({*chosen, *said} - taxonomy.nodes.keys())
    if unknown or not set(said) <= set(chosen):
        lacking = (unknown or sorted(set(said) - set(chosen)))[0]
        raise ConfigError(
            f"the type {lacking[:60]!r} of an example is not among the types; add it, or drop the example"
        )
    if len(chosen) < 2 or len(examples) < _FOLDS:
        raise ConfigError(
            f"there are {len(chosen)} types and {len(examples)} examples; a head needs 2 types and {_FOLDS} examples, "
            "which qpt.examples.from_catalog makes of products"
        )
    shoppers = [example for example in examples if not example.product_id]
    if len({example.query for example in shoppers}) >= _ENOUGH_REAL:
        examples = shoppers  # made queries are another kind of query, and would only blur what these say
    table = _table(examples, chosen, encoder, seed)
    maker = _Maker(taxonomy, chosen, encoder, products, table)
    features = maker.cross_fitted(table)
    weights = fit_log_linear(features, _shares(table.targets), table.importance)
    crossed = CrossFitted(tuple(table.queries), _cross_logits(features, table), table.targets > 0, table.real)
    temperature = fit_temperature(crossed.logits, crossed.right, table.importance)
    scores = nonconformity(np.exp(log_shares((crossed.logits / temperature).astype(np.float32))), crossed.right)
    evidence = maker.evidence(table, np.ones(len(table.queries), bool), frozenset())
    card = made_card(
        taxonomy, chosen, evidence, encoder=encoder.fingerprint, temperature=temperature,
        weights=dict(zip(evidence.feature_names, weights.tolist(), strict=True)),
        learnt_from={
            "queries": int(table.real.sum()), "made queries": int((~table.real).sum()),
            "products": len(products.product_ids) if products else 0,
        },
        calibrated_on="queries" if crossed.real.all() else "made queries",
    )  # fmt: skip
    return LinearHead(card, taxonomy, evidence, scores), crossed


class _Maker:
    """Makes evidence of a part of the examples; what no part changes is made once."""

    def __init__(
        self, taxonomy: Taxonomy, types: tuple[str, ...], encoder: Encoder, products: TypedProducts | None,
        table: _Table,
    ) -> None:  # fmt: skip
        paths = {
            locale: [taxonomy.path(type_id, locale) for type_id in types]
            for locale in dict.fromkeys(("", *taxonomy.locales))
        }
        wide = {locale: NameEvidence.made(named, encoder) for locale, named in paths.items()}
        seen = [array for names in wide.values() for array in (names.parts, names.whole)] + [table.vectors]
        self._basis = fit_basis(np.vstack([*seen, products.vectors] if products else seen))
        self._names = {locale: NameEvidence.narrowed(wide[locale], paths[locale], self._basis) for locale in paths}
        self._columns = {type_id: column for column, type_id in enumerate(types)}
        self._products = replace(products, vectors=narrow(products.vectors, self._basis)) if products else None
        self._kinds = (["queries"] if table.real.any() else []) + (["products"] if products else [])
        told = {*table.locales, *(products.locales if products else ())} - {""}
        self._locales = tuple(sorted(told)) if len(told) > 1 else ()

    def cross_fitted(self, table: _Table) -> Matrix:
        """Float32 (n, types, features): each example's evidence from the other folds."""
        out = np.zeros((0,), np.float32)
        for fold in range(_FOLDS):
            held = np.flatnonzero(table.fold == fold)
            gone = frozenset(table.product_ids[row] for row in held) - {""}
            evidence = self.evidence(table, table.fold != fold, gone)
            found = evidence.features(
                [table.queries[row] for row in held], table.vectors[held], [table.locales[row] for row in held]
            )
            if not len(out):
                out = np.zeros((len(table.queries), found.shape[2], found.shape[1]), np.float32)
            out[held] = found.transpose(0, 2, 1)
        return out

    def evidence(self, table: _Table, kept: Flags, gone: frozenset[str]) -> Evidence:
        """Of the real queries that are ``kept``, bool (n,), and of the products that are not ``gone``."""
        rows = np.flatnonzero(kept & table.real)
        shares, vectors = _once(table.targets[rows]), narrow(table.vectors[rows], self._basis)
        whole = self._names[""].whole
        items = {}
        if "queries" in self._kinds:
            of, columns = np.nonzero(shares)
            placed = with_locales(vectors, [table.locales[row] for row in rows], self._locales)
            items["queries"] = ItemEvidence.made(placed, of, columns, shares[of, columns], whole, _MOST_PAIRS)
        if self._products:
            items["products"] = self._product_items(self._products, whole, gone)
        wanted = _shares(shares) @ whole
        named = np.flatnonzero(np.linalg.norm(wanted, axis=1) > 0)
        words = QueryWords.made([table.queries[row] for row in rows], shares)
        return Evidence(
            self._basis, self._names, fit_mapping(vectors[named], wanted[named]), words, self._locales, items
        )

    def _product_items(self, products: TypedProducts, names: Matrix, gone: frozenset[str]) -> ItemEvidence:
        kept = np.array([i for i, product_id in enumerate(products.product_ids) if product_id not in gone], np.int64)
        columns = np.array([self._columns[products.type_ids[i]] for i in kept], np.int64)
        locales = [products.locales[i] for i in kept] if products.locales else [""] * len(kept)
        placed = with_locales(products.vectors[kept], locales, self._locales)
        ones = np.ones(len(kept), np.float32)
        return ItemEvidence.made(placed, np.arange(len(kept)), columns, ones, names, _MOST_PAIRS)


def _table(
    examples: Sequence[LabelledQuery], types: tuple[str, ...], encoder: Encoder, seed: int
) -> _Table:  # fmt: skip
    columns = {type_id: column for column, type_id in enumerate(types)}
    rows: dict[tuple[str, str, str], dict[int, float]] = {}
    texts: list[str] = []
    for example in examples:
        if not example.query.strip() or not example.weight > 0:
            raise ConfigError(f"an example has query {example.query!r} and weight {example.weight}; both must be there")
        key = (" ".join(example.query.lower().split()), example.locale, example.product_id)
        if key not in rows:
            texts.append(example.query)
        of_query = rows.setdefault(key, {})
        of_query[columns[example.type_id]] = of_query.get(columns[example.type_id], 0.0) + example.weight
    rng = np.random.default_rng(seed)
    keys = list(rows)
    kept = np.sort(rng.permutation(len(keys))[: max(_FOLDS, _MOST_CELLS // len(types))])
    targets = np.zeros((len(kept), len(types)), np.float32)
    for row, place in enumerate(kept):
        for column, weight in rows[keys[place]].items():
            targets[row, column] = weight
    return _Table(
        [texts[place] for place in kept], [keys[place][1] for place in kept], [keys[place][2] for place in kept],
        targets, encoder.encode_queries([texts[place] for place in kept]),
        np.array(list(stem_folds([keys[place][0] for place in kept], _FOLDS, rng)), np.int64),
    )  # fmt: skip


def stem_folds(queries: Sequence[str], n_folds: int, rng: np.random.Generator) -> Iterator[int]:
    """A fold for each query, the same for queries of the same stems; folds are as equal as that allows."""
    groups = [tuple(sorted(set(ANALYZER.terms(query)))) or (query,) for query in queries]
    distinct = list(dict.fromkeys(groups))
    places = {distinct[int(i)]: place % n_folds for place, i in enumerate(rng.permutation(len(distinct)))}
    return (places[group] for group in groups)


def _cross_logits(features: Matrix, table: _Table) -> Matrix:
    """Float32 (n, types): with weights that were fitted on the other folds."""
    out = np.zeros(features.shape[:2], np.float32)
    for fold in range(_FOLDS):
        held = table.fold == fold
        weights = fit_log_linear(features[~held], _shares(table.targets[~held]), table.importance[~held])
        out[held] = features[held] @ weights.astype(np.float32)
    return out


def _once(targets: Matrix) -> Matrix:
    """Float32 (n, types): a query counts once however often it was clicked, and less only where its weights do."""
    shares: Matrix = targets / np.maximum(targets.sum(axis=1, keepdims=True), 1.0)
    return shares


def _shares(targets: Matrix) -> Matrix:
    shares: Matrix = targets / np.maximum(targets.sum(axis=1, keepdims=True), 1e-9)
    return shares
