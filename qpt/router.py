"""The router: from a query's product types to what a search does about them, and to the rows that are of these types.

``CatalogRouter`` learns a linear head from the catalog alone when an index is built. The configuration may name a file
of types that people corrected instead, or the directory of a head that was fitted, or a transformer that was trained,
on a shop's own queries.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError, IndexCorruptError, ModelError
from engine.fitted import Fitted
from engine.product import Product
from engine.seams import Embeddings, Encoder
from engine.types import Candidates, RouteAction, Routed, Rows, TypeProbability
from qpt.examples import from_catalog
from qpt.head_fit import TypedProducts, fit_head
from qpt.hierarchy import Hierarchy
from qpt.linear_head import LinearHead
from qpt.product_types import NO_TYPE, ProductTypes, derive
from qpt.softmax import Matrix
from qpt.taxonomy import TypeNode, from_product_types
from qpt.transformer_head import CARD as TRANSFORMER_CARD
from qpt.transformer_head import TransformerHead
from qpt.types_file import read_types

Head = LinearHead | TransformerHead

CATALOG = "catalog"  # the name of a router that learns from the catalog
_HEAD, _ROWS, _CARD = "head", "types.npy", "router.json"
_VERSION = "catalog-3"  # of what is written; another needs a new index
_LEAST_TYPES, _LEAST_EXAMPLES = 2, 10
_MOST_FITTED = 100_000  # products that a head learns from
_SHOWN = 5  # product types that a route tells
_ALL = 0.95  # share of the typed products from which a type above them says nothing: choosing it would do nothing


class RouterNumbers(Fitted, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a router acts, and what the products found count for it.

    - ``sure``: the probability of a type or parent from which products of others fall back.
    - ``likely``: of one from which products are raised; ``plausible`` the same where none reaches that.
    - ``found_weight``: what the types of the products found count, of 1; the query's words count the rest.
    - ``voters``: how many products found have a vote, each the square of its score.
    - ``sharpness``: the power that the average of both is raised to: it is less sure than both together may be.
    """

    sure: float
    likely: float
    plausible: float
    found_weight: float
    voters: int
    sharpness: float

    def __post_init__(self) -> None:
        for name in ("sure", "likely", "plausible", "found_weight"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be from 0 to 1")
        if self.voters < 1 or self.sharpness <= 0:
            raise ConfigError(f"voters is {self.voters} and sharpness {self.sharpness}; they must be above 0")


NUMBERS = RouterNumbers.read(Path(__file__).with_suffix(".toml"))


class _Card(msgspec.Struct, frozen=True):
    """``router.json``. ``derived``: whether most products' types were guessed, and nobody has looked at them. ``off``
    says why there is no head; then it is the only file.
    """

    derived: bool
    off: str = ""


class CatalogRouter:
    """A ``RouterModel``. Without ``head`` one is fitted on queries made of the catalog; without ``types`` the products'
    types are derived. An index holds all that it needs of either.
    """

    def __init__(self, head: Head | None = None, types: ProductTypes | None = None) -> None:
        self._head, self._types = head, types

    @classmethod
    def named(cls, name: str) -> CatalogRouter:
        """One that learns from the catalog where ``name`` is ``catalog``; with the types of the file ``name``, which
        people corrected; or with the head or the transformer in the directory ``name``.

        Raises CatalogError, ConfigError or ModelError.
        """
        if name == CATALOG:
            return cls()
        return cls(types=read_types(name)) if Path(name).is_file() else cls(_head_in(Path(name)))

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
        head = self._head or _fitted(*_spread(listed, vectors), types, encoder)
        if head is None:
            off = "the catalog has fewer than two product types"
            (directory / _CARD).write_bytes(msgspec.json.encode(_Card(derived=True, off=off)))
            return f"off: {off}; give its products a category"
        if isinstance(head, LinearHead) and head.encoder_fingerprint != encoder.fingerprint:
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
        derived = self._types is None and 2 * given < typed  # a file of types is one that people have looked at
        (directory / _CARD).write_bytes(msgspec.json.encode(_Card(derived=derived)))
        return f"{len(set(head.types) - {NO_TYPE})} product types; {typed} of {len(of_rows)} products have one"

    def open(self, directory: Path) -> TypeRouter:
        try:
            card = msgspec.json.decode((directory / _CARD).read_bytes(), type=_Card)
            if card.off:
                return TypeRouter(None, np.empty(0, np.int32), derived=True)
            rows = np.load(directory / _ROWS, allow_pickle=False)
            head = _head_in(directory / _HEAD)
            if rows.dtype != np.int32 or rows.ndim != 1 or not -1 <= rows.min() <= rows.max() < len(head.types):
                raise ValueError(f"{_ROWS} does not hold a column of the head, or -1, for each product")
            return TypeRouter(head, rows, derived=card.derived)
        except (OSError, ValueError, EOFError, ModelError, msgspec.MsgspecError) as error:
            raise IndexCorruptError(f"the router in {directory} cannot be read: {error}") from error


class TypeRouter:
    """A ``Router``: a head, and each row's type as a column of the head, int32 (n_products,), -1 for none.

    ``derived`` types were guessed from titles: they are told, and not acted on. Without a head, for a catalog of one
    type, it never routes.
    """

    def __init__(
        self, head: Head | None, of_rows: NDArray[np.int32], *, derived: bool, numbers: RouterNumbers = NUMBERS
    ) -> None:
        self._head, self._of_rows, self._derived, self._numbers = head, of_rows, derived, numbers
        if head is None:
            return
        self._hierarchy = Hierarchy(head.taxonomy, head.types)
        self._places = {node: place for place, node in enumerate(self._hierarchy.nodes)}
        chains = [[self._places[node] for node in (type_id, *head.taxonomy.above(type_id))] for type_id in head.types]
        self._idle = self._idle_nodes(head, chains)
        chains = [[node for node in chain if not self._idle[node]] or chain[:1] for chain in chains]
        longest = max(map(len, chains))
        # A chain shorter than the longest repeats its root, whose share stands for the levels it lacks.
        self._chains = np.array([chain + [chain[-1]] * (longest - len(chain)) for chain in chains])

    def grown(self, alike: Sequence[Rows]) -> TypeRouter:
        """This router over more rows: each new one is of the type that most of the rows which are like it are of."""
        if self._head is None:
            return self
        new = [np.bincount(of + 1).argmax() - 1 if len(of := self._of_rows[rows]) else -1 for rows in alike]
        other = copy(self)
        other._of_rows = np.concatenate([self._of_rows, np.array(new, np.int32)])
        return other

    def _idle_nodes(self, head: Head, chains: Sequence[Sequence[int]]) -> NDArray[np.bool_]:
        """Bool (nodes,): which lie above nearly all typed products, so that to choose them would be to choose nothing.

        A catalog may have all its categories under "Shop".
        """
        typed = [head.types[column] != NO_TYPE for column in range(len(head.types))]
        counts = np.bincount(self._of_rows[self._of_rows >= 0], minlength=len(head.types)) * typed
        below = np.zeros(len(self._hierarchy.nodes))
        for chain, count in zip(chains, counts.tolist(), strict=True):
            below[chain[1:]] += count
        return np.asarray(below >= _ALL * max(counts.sum(), 1))

    def route(self, query: str, vector: NDArray[np.float32]) -> Routed:
        likely = self.probabilities(query, vector)
        if likely is None:
            return Routed((), "none", (), "the catalog has fewer than two product types")
        return self.routed(likely)

    def probabilities(self, query: str, vector: NDArray[np.float32]) -> NDArray[np.floating[Any]] | None:
        """What the head says of a query, a probability for each of its types; None without a head."""
        return None if self._head is None else self._head.probabilities([query], vector[None], [""])[0]

    def routed(self, likely: NDArray[np.floating[Any]]) -> Routed:
        """The route for what ``probabilities`` said, to be revised by what is found."""
        return replace(
            self._routed(likely), members=self._members, revise=partial(self._revised, likely),
            narrowed=partial(self._narrowed, likely),
        )  # fmt: skip

    def with_numbers(self, numbers: RouterNumbers) -> TypeRouter:
        """The same head over the same rows, acting by other numbers."""
        other = copy(self)
        other._numbers = numbers
        return other

    def _routed(self, likely: NDArray[np.floating[Any]]) -> Routed:
        """The route for a distribution over the head's types."""
        numbers = self._numbers
        rolled = self._hierarchy.roll_up(likely[None])[0]
        ranked = self._best(likely)
        telling = np.where(self._idle, np.float32(0.0), rolled)
        found = [self._hierarchy.choose(telling, least) for least in (numbers.sure, numbers.likely, numbers.plausible)]
        best = next(filter(None, found), None)
        if best is None or best[0] == NO_TYPE:
            first = ranked[0]
            reason = (
                f"no type is as probable as {numbers.plausible:.0%}; the best is {first.name}, {first.probability:.0%}"
            )
            return Routed(ranked, "none", (), reason)
        if self._derived:
            return Routed(ranked, "none", (), "product types that were guessed from titles are told, not acted on")
        action: RouteAction = "filter" if found[0] else "boost"
        chosen = self._told(*best)
        # A row's fit is the mean over its type and the types above: a sure parent lifts all below it, a likely leaf
        # more than its siblings. A row without a type has none.
        by_type = rolled[self._chains].mean(axis=1)
        fit = np.append(by_type, np.float32(0.0))[self._of_rows].astype(np.float32)
        under = (self._chains == self._places[chosen.type_id]).any(axis=1)
        inside = np.append(under, False)[self._of_rows] if action == "filter" else None
        reason = f"{chosen.name}, {chosen.probability:.0%}"
        name_of = partial(self._name_of, likely, under, chosen.name)
        return Routed(ranked, action, (chosen,), reason, fit, inside, name_of)

    def _narrowed(self, likely: NDArray[np.floating[Any]], rows: NDArray[np.bool_]) -> Routed:
        """The route among the types of which most products are among ``rows``; of all where none is."""
        typed = self._of_rows >= 0
        n_types = len(likely)
        counts = np.bincount(self._of_rows[typed], minlength=n_types)
        inside = 2 * np.bincount(self._of_rows[typed & rows], minlength=n_types) > counts
        kept = np.where(inside, likely, np.float32(0.0))
        if not kept.sum():
            return self.routed(likely)
        kept /= kept.sum()
        return replace(
            self._routed(kept), members=self._members, revise=partial(self._revised, kept, inside=inside)
        )  # fmt: skip

    def _revised(
        self, likely: NDArray[np.floating[Any]], found: Candidates, inside: NDArray[np.bool_] | None = None
    ) -> Routed:
        """The route for what is likely by the query and by the types of the best products found, of the types
        ``inside`` alone where they are given.

        A linear pool, made sharper (Ranjan and Gneiting 2010, "Combining probability forecasts").
        """
        voters, share = self._numbers.voters, self._numbers.found_weight
        votes = np.zeros(len(likely) + 1)  # the last is of products without a column
        np.add.at(votes, self._of_rows[found.rows[:voters]], np.maximum(found.scores[:voters], 0.0) ** 2)
        if inside is not None:
            votes[:-1] *= inside
        if not votes[:-1].sum():
            return replace(self._routed(likely), members=self._members)
        pooled = ((1 - share) * likely + share * votes[:-1] / votes[:-1].sum()) ** self._numbers.sharpness
        return replace(self._routed((pooled / pooled.sum()).astype(np.float32)), members=self._members)

    def _members(self, type_id: str) -> NDArray[np.bool_]:
        """Bool (n_products,): the rows that are of a type of the head, or of one below it."""
        under = (self._chains == self._places[type_id]).any(axis=1)
        return np.append(under, False)[self._of_rows]

    def _name_of(self, likely: Matrix, under: NDArray[np.bool_], chosen: str, row: int) -> str:
        """The name of a row's own type where that is the likely one, or else of the chosen one above it."""
        assert self._head is not None
        column = self._of_rows[row]
        if column >= 0 and likely[column] >= self._numbers.likely and self._head.types[column] != NO_TYPE:
            return self._head.taxonomy.name(self._head.types[column])
        return chosen if column >= 0 and under[column] else ""

    def _best(self, likely: NDArray[np.floating[Any]]) -> tuple[TypeProbability, ...]:
        assert self._head is not None
        order = [i for i in np.argsort(-likely, kind="stable")[: _SHOWN + 1] if self._head.types[i] != NO_TYPE]
        return tuple(self._told(self._head.types[i], likely[i]) for i in order[:_SHOWN])

    def _told(self, type_id: str, probability: float) -> TypeProbability:
        assert self._head is not None
        return TypeProbability(type_id, self._head.taxonomy.name(type_id), float(probability))


def _head_in(directory: Path) -> Head:
    """The head in a directory, of whichever kind. Raises ModelError."""
    return TransformerHead(directory) if (directory / TRANSFORMER_CARD).exists() else LinearHead.load(directory)


def _type_of(types: ProductTypes, product_id: str) -> str:
    """A product's type. ``NO_TYPE`` is one of its own: what is like products without a type should not be taken for
    the nearest type there is.
    """
    kind = types.of(product_id)
    return kind.type_id if kind else NO_TYPE


def _spread(products: Sequence[Product], vectors: Embeddings) -> tuple[Sequence[Product], Embeddings]:
    """At most ``_MOST_FITTED`` products from all over the catalog, and their vectors: a head keeps far fewer."""
    step = -(-len(products) // _MOST_FITTED)
    return products[::step], vectors[::step]


def _fitted(
    products: Sequence[Product], vectors: Embeddings, types: ProductTypes, encoder: Encoder
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
