"""The router: from a query's product types to what a search does about them, and to the rows that are of these types.

``CatalogRouter`` learns a linear head from the catalog alone when an index is built. The configuration may name a file
of types that people corrected instead, or the directory of a head that was fitted on a shop's own queries.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError, IndexCorruptError, ModelError
from engine.product import Product
from engine.seams import Embeddings, Encoder
from engine.types import RouteAction, Routed, TypeProbability
from qpt.examples import from_catalog
from qpt.head_fit import TypedProducts, fit_head
from qpt.hierarchy import Hierarchy
from qpt.linear_head import LinearHead
from qpt.product_types import NO_TYPE, ProductTypes, derive
from qpt.taxonomy import TypeNode, from_product_types
from qpt.types_file import read_types

CATALOG = "catalog"  # the name of a router that learns from the catalog
_HEAD, _ROWS, _CARD = "head", "types.npy", "router.json"
_VERSION = "catalog-1"  # of what is written; another needs a new index
_LEAST_TYPES, _LEAST_EXAMPLES = 2, 10
_SURE = 0.97  # probability of a type or parent from which products of others come after its own
_LIKELY = (0.5, 0.3)  # of one from which products are raised; the lower only where none reaches the higher
_DERIVED_TRUST = 0.25  # what a type counts that was guessed from titles, of one that the shop gave; never filtered by
_SHOWN = 5  # product types that a route tells


class _Card(msgspec.Struct, frozen=True):
    """``router.json``. ``derived``: whether most products' types were guessed, and not given by the shop."""

    derived: bool


class CatalogRouter:
    """A ``RouterModel``. Without ``head`` one is fitted on queries made of the catalog; without ``types`` the products'
    types are derived. An index holds all that it needs of either.
    """

    def __init__(self, head: LinearHead | None = None, types: ProductTypes | None = None) -> None:
        self._head, self._types = head, types

    @classmethod
    def named(cls, name: str) -> CatalogRouter:
        """One that learns from the catalog where ``name`` is ``catalog``; with the types of the file ``name``, which
        people corrected; or with the head in the directory ``name``.

        Raises CatalogError, ConfigError or ModelError.
        """
        if name == CATALOG:
            return cls()
        return cls(types=read_types(name)) if Path(name).is_file() else cls(LinearHead.load(name))

    @staticmethod
    def lasting(name: str) -> str:
        """``name``, absolute if it is that of a file or directory."""
        return name if name == CATALOG else str(Path(name).absolute())

    @property
    def fingerprint(self) -> str:
        return _VERSION

    def build(self, directory: Path, products: Iterable[Product], vectors: Embeddings, encoder: Encoder) -> str:
        """Types the products and, where no head was given, fits one. Holds titles and attributes in memory."""
        listed = [msgspec.structs.replace(product, description="", bullets=()) for product in products]
        types = self._types or derive(listed, vectors)
        head = self._head or _fitted(listed, types, vectors, encoder)
        if head is None:
            return "off: the catalog has fewer than two product types; give its products a category"
        if head.encoder_fingerprint != encoder.fingerprint:
            raise ModelError(
                f"the router takes vectors of {head.encoder_fingerprint}, the index's encoder is {encoder.fingerprint};"
                " fit it anew with this encoder"
            )
        columns = {type_id: column for column, type_id in enumerate(head.types)}
        of_rows = [columns.get(_type_of(types, product.product_id), -1) for product in listed]
        if max(of_rows) < 0:
            raise ConfigError("the router's types are none of this catalog's; fit it on this catalog's types")
        head.save(directory / _HEAD)
        np.save(directory / _ROWS, np.array(of_rows, np.int32))
        sources = Counter(typing.source for typing in types.typings.values())
        typed = sources.total() - sources[""]
        given = sources["category"] + sources["correction"]
        (directory / _CARD).write_bytes(msgspec.json.encode(_Card(derived=2 * given < typed)))
        return f"{len(set(head.types) - {NO_TYPE})} product types; {typed} of {len(of_rows)} products have one"

    def open(self, directory: Path) -> TypeRouter:
        if not (directory / _ROWS).exists():
            return TypeRouter(None, np.empty(0, np.int32), derived=True)
        try:
            rows = np.load(directory / _ROWS, allow_pickle=False)
            head = LinearHead.load(directory / _HEAD)
            if rows.dtype != np.int32 or rows.ndim != 1 or not -1 <= rows.min() <= rows.max() < len(head.types):
                raise ValueError(f"{_ROWS} does not hold a column of the head, or -1, for each product")
            card = msgspec.json.decode((directory / _CARD).read_bytes(), type=_Card)
            return TypeRouter(head, rows, derived=card.derived)
        except (OSError, ValueError, EOFError, ModelError, msgspec.MsgspecError) as error:
            raise IndexCorruptError(f"the router in {directory} cannot be read: {error}") from error


class TypeRouter:
    """A ``Router``: a head, and each row's type as a column of the head, int32 (n_products,), -1 for none.

    ``derived`` types were guessed from titles: they count less, and nothing is filtered by them. Without a head, for a
    catalog of one type, it never routes.
    """

    def __init__(self, head: LinearHead | None, of_rows: NDArray[np.int32], *, derived: bool) -> None:
        self._head, self._of_rows, self._derived = head, of_rows, derived
        if head is None:
            return
        self._hierarchy = Hierarchy(head.taxonomy, head.types)
        places = {node: place for place, node in enumerate(self._hierarchy.nodes)}
        chains = [[places[node] for node in (type_id, *head.taxonomy.above(type_id))] for type_id in head.types]
        longest = max(map(len, chains))
        # A chain shorter than the longest repeats its root, whose share stands for the levels it lacks.
        self._chains = np.array([chain + [chain[-1]] * (longest - len(chain)) for chain in chains])

    def route(self, query: str, vector: NDArray[np.float32]) -> Routed:
        if self._head is None:
            return Routed((), "none", (), "the catalog has fewer than two product types")
        likely = self._head.probabilities([query], vector[None], [""])
        rolled = self._hierarchy.roll_up(likely)[0]
        order = [i for i in np.argsort(-likely[0], kind="stable")[: _SHOWN + 1] if self._head.types[i] != NO_TYPE]
        ranked = [self._told(self._head.types[i], likely[0, i]) for i in order[:_SHOWN]]
        found = [self._hierarchy.choose(rolled, least) for least in (_SURE, *_LIKELY)]
        best = next(filter(None, found), None)
        if best is None or best[0] == NO_TYPE:
            first = ranked[0]
            reason = f"no type is as probable as {_LIKELY[-1]:.0%}; the best is {first.name}, {first.probability:.0%}"
            return Routed(tuple(ranked), "none", (), reason)
        action: RouteAction = "filter" if found[0] and not self._derived else "boost"
        chosen = self._told(*best)
        # A row's fit is the mean over its type and the types above: a sure parent lifts all below it, a likely leaf
        # more than its siblings. A row without a type has none.
        by_type = rolled[self._chains].mean(axis=1)
        by_type *= _DERIVED_TRUST if self._derived else 1.0
        fit = np.append(by_type, np.float32(0.0))[self._of_rows].astype(np.float32)
        inside = None
        if action == "filter":
            under = (self._chains == self._hierarchy.nodes.index(chosen.type_id)).any(axis=1)
            inside = np.append(under, False)[self._of_rows]
        reason = f"{chosen.name}, {chosen.probability:.0%}"
        return Routed(tuple(ranked), action, (chosen,), reason, fit, inside, self._name_of)

    def _name_of(self, row: int) -> str:
        assert self._head is not None
        column = self._of_rows[row]
        return self._head.taxonomy.name(self._head.types[column]) if column >= 0 else ""

    def _told(self, type_id: str, probability: float) -> TypeProbability:
        assert self._head is not None
        return TypeProbability(type_id, self._head.taxonomy.name(type_id), float(probability))


def _type_of(types: ProductTypes, product_id: str) -> str:
    """A product's type. ``NO_TYPE`` is one of its own: what is like products without a type should not be taken for
    the nearest type there is.
    """
    kind = types.of(product_id)
    return kind.type_id if kind else NO_TYPE


def _fitted(
    products: Sequence[Product], types: ProductTypes, vectors: Embeddings, encoder: Encoder
) -> LinearHead | None:
    type_ids = [_type_of(types, product.product_id) for product in products]
    examples = from_catalog(products, partial(_type_of, types))
    if len(set(type_ids) - {NO_TYPE}) < _LEAST_TYPES or len(examples) < _LEAST_EXAMPLES:
        return None
    known = TypedProducts(
        [product.product_id for product in products], vectors, type_ids, [product.locale for product in products]
    )
    taxonomy = from_product_types(types)
    if NO_TYPE in type_ids:
        taxonomy = taxonomy.with_types([TypeNode(NO_TYPE, {"": ""})])
    return fit_head(examples, taxonomy, encoder, products=known)[0]
