"""Product types of a catalog: which there are, and which each product is.

A product with a category path is of that path's type, and the paths above are its parents. In a catalog where most
products have no path, the title of such a product names its type (``qpt/title_types.py``), or else a classifier that
learnt from the titles that do: from the names of the attributes a product has, which differ from type to type, and from
its vector.

All of it is kept in one tab-separated file for people to read. They write only in its column ``correction``, which
derivation copies and never fills, so corrections survive every new derivation:

- beside a product or a type, the id of the type that it, or all its products, shall have; an unknown id makes a new
  type, below what stands before its last `` > ``;
- beside either, ``-``: no type;
- beside a type, ``< ID``: its parent.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engine.analysis.analyzer import Analyzer
from engine.columns import PATH_SEPARATOR
from engine.errors import ConfigError
from engine.product import Product
from engine.seams import Embeddings
from qpt.softmax import Labels, Matrix, SoftmaxRegression
from qpt.title_types import head, title_types

NO_TYPE = "-"
BELOW = "< "
_CONFIDENCE = 0.5  # of the classifier, to be believed
_LEAST_TYPED = 100  # products that a classifier can learn from
_HELD_OUT, _MOST_HELD_OUT = 0.1, 800  # share and number of them that measure it
_MOST_FITTED = 50_000  # products that the classifier learns from
_SLICE = 10_000  # products that are classified at a time
_LEAST_NAMED, _MOST_NAMES = 5, 1_500  # products that an attribute's name must have to be a feature; features
_VECTOR_WEIGHT, _NAMES_WEIGHT = 3.0, 2.0  # lengths of the two halves of a feature vector
_SEED = 0


@dataclass(frozen=True, slots=True)
class ProductType:
    """A kind of product. ``parent`` is the id of the type above, None at a root."""

    type_id: str
    parent: str | None = None

    @property
    def name(self) -> str:
        """What people call it: the last part of a category path, or the phrase of a title."""
        return self.type_id.rpartition(PATH_SEPARATOR)[2]


@dataclass(frozen=True, slots=True)
class Typing:
    """A product's type, None where nothing tells it. ``confidence`` is from 0 to 1.

    ``source`` is category, title, attributes (with the vector), correction, or empty without a type.
    """

    type_id: str | None
    confidence: float
    source: str


@dataclass(frozen=True, slots=True)
class Corrections:
    """What people wrote, by type and by product; see the top of this page."""

    types: Mapping[str, str]
    products: Mapping[str, str]


class ProductTypes:
    """The types and every product's, corrected. Read-only.

    ``derived`` and ``derived_typings`` are what there was before corrections. ``held_out_accuracy`` is the
    classifier's on titles that name their type, None where there was none. ``fingerprint`` names types and typings.

    Raises ConfigError on corrections that go in a circle.
    """

    def __init__(
        self, derived: Mapping[str, ProductType], derived_typings: Mapping[str, Typing],
        corrections: Corrections | None = None, held_out_accuracy: float | None = None,
    ) -> None:  # fmt: skip
        self.derived, self.derived_typings = derived, derived_typings
        self.corrections = corrections or Corrections({}, {})
        self.held_out_accuracy = held_out_accuracy
        self.types, self.typings = _corrected(derived, derived_typings, self.corrections)
        said = sorted((t.type_id, t.parent or "") for t in self.types.values())
        given = sorted((product_id, t.type_id or "") for product_id, t in self.typings.items())
        self.fingerprint = hashlib.sha256(repr((said, given)).encode(errors="backslashreplace")).hexdigest()[:16]

    def of(self, product_id: str) -> ProductType | None:
        """A product's type; None where it has none or is unknown."""
        typing = self.typings.get(product_id)
        return self.types[typing.type_id] if typing and typing.type_id is not None else None

    def above(self, type_id: str) -> Iterator[ProductType]:
        """The types above one, the nearest first."""
        parent = self.types[type_id].parent
        while parent is not None:
            yield self.types[parent]
            parent = self.types[parent].parent

    def corrected(self, corrections: Corrections) -> ProductTypes:
        """These types with other corrections, such as those of an earlier derivation."""
        return ProductTypes(self.derived, self.derived_typings, corrections, self.held_out_accuracy)

    def joined(self, other: ProductTypes) -> ProductTypes:
        """The uncorrected types of two catalogs whose products have different ids."""
        return ProductTypes({**other.derived, **self.derived}, {**other.derived_typings, **self.derived_typings})


def derive(
    products: Sequence[Product], vectors: Embeddings | None = None, heads: frozenset[str] | None = None
) -> ProductTypes:
    """The product types of a catalog, not yet corrected.

    ``vectors`` are the products', float32 (n, dim); without them only categories and titles are asked.

    ``heads`` is what ``qpt.title_types.read_heads`` made of a taxonomy; it makes types of titles surer.
    """
    analyzer = Analyzer()
    paths = [_path(product) for product in products]
    bare = [row for row, path in enumerate(paths) if not path]
    if 2 * len(bare) <= len(products):
        bare = []  # a second set of names beside the shop's own would only say the same things twice
    named = title_types([products[row] for row in bare], heads, analyzer)
    typings = {
        product.product_id: Typing(PATH_SEPARATOR.join(path), 1.0, "category") if path else _UNTYPED
        for product, path in zip(products, paths, strict=True)
    }
    types = dict(_path_types(paths)) | dict(_title_types(set(filter(None, named)), analyzer))
    for row, name in zip(bare, named, strict=True):
        if name:
            typings[products[row].product_id] = Typing(name, 1.0, "title")
    accuracy = None
    if vectors is not None and len(named) - named.count(None) >= _LEAST_TYPED and len(set(filter(None, named))) > 1:
        accuracy, guessed = _classify([products[row] for row in bare], named, vectors[bare])
        typings |= guessed
    return ProductTypes(types, typings, held_out_accuracy=accuracy)


_UNTYPED = Typing(None, 0.0, "")


def _path(product: Product) -> tuple[str, ...]:
    """Levels without a name, and those that feeds call ``-``, which here stands for no type, are none."""
    parts = (" ".join(part.split()) for part in product.category)
    return tuple(part for part in parts if part not in ("", NO_TYPE))


def _path_types(paths: Sequence[tuple[str, ...]]) -> Iterator[tuple[str, ProductType]]:
    for path in dict.fromkeys(paths):
        for depth in range(1, len(path) + 1):
            type_id = PATH_SEPARATOR.join(path[:depth])
            yield type_id, ProductType(type_id, PATH_SEPARATOR.join(path[: depth - 1]) or None)


def _title_types(names: set[str], analyzer: Analyzer) -> Iterator[tuple[str, ProductType]]:
    """A type's parent is the longest other type that its name ends in: a ``wireless router`` is a ``router``."""
    for name in sorted(names):
        ends = [other for other in names if name.endswith(f" {other}") and head(other, analyzer)]
        yield name, ProductType(name, max(ends, key=len, default=None))


# ---------------------------------------------------------------------------------- products whose title names no type


def _classify(
    products: Sequence[Product], named: Sequence[str | None], vectors: Embeddings
) -> tuple[float, dict[str, Typing]]:
    """Held-out accuracy, and a typing for each product without a name that the classifier is sure of."""
    classes = sorted(set(filter(None, named)))
    numbers = {name: number for number, name in enumerate(classes)}
    places = _places(products, vectors.shape[1])
    known = np.array([row for row, name in enumerate(named) if name], np.int64)
    labels: Labels = np.array([numbers[name] for name in named if name], np.int64)
    order = np.random.default_rng(_SEED).permutation(len(known))
    held, kept = np.split(order, [min(int(_HELD_OUT * len(known)), _MOST_HELD_OUT)])
    kept = kept[:_MOST_FITTED]
    features = _features(products, known[kept], vectors, places)
    model = SoftmaxRegression(seed=_SEED).fit(features, labels[kept], len(classes))
    del features
    right = model.probabilities(_features(products, known[held], vectors, places)).argmax(axis=1) == labels[held]
    rest = np.array([row for row, name in enumerate(named) if not name], np.int64)
    guessed = {}
    for start in range(0, len(rest), _SLICE):
        rows = rest[start : start + _SLICE]
        probabilities = model.probabilities(_features(products, rows, vectors, places))
        for row, likely, best in zip(rows.tolist(), probabilities, probabilities.argmax(axis=1), strict=True):
            if likely[best] >= _CONFIDENCE:
                guessed[products[row].product_id] = Typing(classes[best], float(likely[best]), "attributes")
    return float(right.mean()), guessed


def _places(products: Sequence[Product], dim: int) -> dict[str, int]:
    """The columns of attributes' names among the features, behind those of a vector."""
    counts = Counter(name for product in products for name in product.attributes)
    names = [name for name, n in counts.most_common(_MOST_NAMES) if n >= _LEAST_NAMED]
    return {name: dim + place for place, name in enumerate(names)}


def _features(
    products: Sequence[Product], rows: NDArray[np.int64], vectors: Embeddings, places: Mapping[str, int]
) -> Matrix:
    """Float32 (n_rows, dim + attribute names): the vector, and which attributes there are, each half of a fixed length.

    Of some rows at a time: of all products of a large catalog they would take many times what their vectors do.
    """
    dim = vectors.shape[1]
    features = np.zeros((len(rows), dim + len(places)), np.float32)
    features[:, :dim] = _VECTOR_WEIGHT * vectors[rows]
    for place, row in enumerate(rows.tolist()):
        here = [places[name] for name in products[row].attributes if name in places]
        features[place, here] = _NAMES_WEIGHT / max(len(here), 1) ** 0.5
    return features


# ------------------------------------------------------------------------------------------------------- corrections


def _corrected(
    derived: Mapping[str, ProductType], typings: Mapping[str, Typing], corrections: Corrections
) -> tuple[dict[str, ProductType], dict[str, Typing]]:
    moved = {type_id: said for type_id, said in corrections.types.items() if not said.startswith(BELOW)}
    below = {type_id: said[len(BELOW) :].strip() for type_id, said in corrections.types.items() if type_id not in moved}

    def resolved(type_id: str | None) -> str | None:
        seen: list[str] = []
        while type_id is not None and type_id in moved:
            if type_id in seen:
                raise ConfigError(f"the corrections {' → '.join([*seen, type_id])} go in a circle; empty one of them")
            seen.append(type_id)
            type_id = None if moved[type_id] == NO_TYPE else moved[type_id]
        return type_id

    corrected = {}
    for product_id, typing in typings.items():
        said = corrections.products.get(product_id)
        wanted = resolved((None if said == NO_TYPE else said) if said else typing.type_id)
        if wanted != typing.type_id:
            typing = Typing(wanted, 1.0, "correction")
        corrected[product_id] = typing
    types: dict[str, ProductType] = {}
    for type_id in (*derived, *moved.values(), *below.values(), *corrections.products.values()):
        for new in _with_parents(resolved(None if type_id == NO_TYPE else type_id), derived):
            parent = resolved(below.get(new.type_id, new.parent)) or None
            if new.type_id not in moved:
                types.setdefault(new.type_id, replace(new, parent=None if parent == new.type_id else parent))
    _check_tree(types)
    return types, corrected


def _with_parents(type_id: str | None, derived: Mapping[str, ProductType]) -> Iterator[ProductType]:
    """A type and, if it is none of the derived, those that its path names above it."""
    while type_id:
        if type_id in derived:
            yield derived[type_id]
            return
        parent = type_id.rpartition(PATH_SEPARATOR)[0] or None
        yield ProductType(type_id, parent)
        type_id = parent


def _check_tree(types: Mapping[str, ProductType]) -> None:
    for type_id in types:
        seen: list[str] = []
        at: str | None = type_id
        while at is not None:
            if at in seen:
                raise ConfigError(f"the types {' < '.join([*seen, at])} lie below themselves; mend their corrections")
            seen.append(at)
            at = types[at].parent
