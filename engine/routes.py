"""What a search tells of its way: the ``Route`` of a result, made of what was understood, routed and found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.analysis.analyzer import Analyzer
from engine.columns import Columns
from engine.product import Product
from engine.types import Route, Routed, Rows, SkuCandidate
from engine.understanding.understand import Understood

SKUS = 5  # products that a route names
_FEATURES = 5
_FITS = 0.5  # probability of the type asked for from which a product is said to be of it
_POPULAR = 0.8  # share of the catalog that is less popular
_LONGEST = 60  # characters of a feature's value


def tell(
    understood: Understood, routed: Routed | None, products: Sequence[Product], rows: Rows, columns: Columns,
    analyzer: Analyzer, lacking: Sequence[str],
) -> Route:  # fmt: skip
    """The route of a search that found ``rows``, the first of them ``products``. ``lacking`` says what none has."""
    routed = routed or Routed((), "none", (), "this index has no router, or routing is off")
    limits, masks = [], []
    for constraint in understood.constraints:
        mask = columns.mask([constraint.filter]) if constraint.filter else None
        if mask is not None and not mask.all():  # what every product has tells nothing
            limits.append(constraint)
            masks.append(mask)
    popular = columns.percentiles
    codes = {term.text for term in analyzer.analyze(understood.query) if term.is_code}

    def reasons(product: Product, row: int) -> Iterator[str]:
        if codes and codes & {term.text for term in analyzer.analyze(f"{product.model} {product.product_id}")}:
            yield "has the model code asked for"
        if routed.fit is not None and routed.fit[row] >= _FITS:
            yield f"is of the type {routed.name_of(row)}"
        yield from (c.reason for c, mask in zip(limits, masks, strict=True) if mask[row])
        if popular is not None and popular[row] >= _POPULAR:
            yield "is popular"

    skus = tuple(
        SkuCandidate(
            product.product_id, product.title, product.price, product.currency,
            "; ".join(reasons(product, row)) or "is the nearest by its words and meaning",
            _features(product, [c.field for c in limits]),
        )
        for product, row in zip(products, rows[: len(products)].tolist(), strict=True)
    )  # fmt: skip
    broken = [c.reason for c, mask in zip(limits, masks, strict=True) if c.sure and len(rows) and not mask[rows].any()]
    lacking = [*lacking, *(f"no product found has {reason}" for reason in broken)]
    return Route(
        understood.corrected, tuple(note.text for note in understood.notes), routed.product_types, routed.action,
        routed.chosen, routed.reason, skus, "; ".join(lacking),
    )  # fmt: skip


def _features(product: Product, first: Sequence[str]) -> dict[str, object]:
    """The attributes that the query speaks of, and then the first of the others."""
    named = [name.removeprefix("attributes.") for name in first]
    names = [name for name in named if name in product.attributes]
    names += [name for name in product.attributes if name not in names]
    return {name: _short(product.attributes[name]) for name in names[:_FEATURES]}


def _short(value: object) -> object:
    return value[:_LONGEST] if isinstance(value, str) else value
