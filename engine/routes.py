"""How a search came to its result: the ``Route``, made of what was understood, routed and found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.analysis.analyzer import Analyzer
from engine.guidance import Guidance
from engine.product import Product
from engine.types import Candidates, Route, Routed, Scores, SkuCandidate
from engine.understanding.constraints import Constraint
from engine.understanding.understand import Understood

SKUS = 5  # products that a route names
_FEATURES = 5
_POPULAR = 0.8  # share of the catalog that is less popular
_LONGEST = 60  # characters of a feature's value


def describe_route(
    understood: Understood, routed: Routed | None, products: Sequence[Product], found: Candidates,
    guidance: Guidance, popular: Scores | None, analyzer: Analyzer, lacking: Sequence[str],
) -> Route:  # fmt: skip
    """The route of a search that ``found`` rows, the first of them ``products``.

    ``guidance`` is what was acted on, ``popular`` each row's place by popularity. ``lacking`` says what no product has.
    """
    limits, preferences = guidance.limits, guidance.wants.preferences
    routed = routed or Routed((), "none", (), "this index has no router, or routing is off")
    codes: set[str] = set()
    if any(character.isdigit() for character in understood.query):  # most queries have no code
        codes = {term.text for term in analyzer.analyze(understood.query) if term.is_code}

    def reasons(product: Product, row: int) -> Iterator[str]:
        if codes and codes & {term.text for term in analyzer.analyze(f"{product.model} {product.product_id}")}:
            yield "has the model code asked for"
        if name := routed.name_of(row):
            yield f"is of the type {name}"
        yield from (_met(constraint, product) for constraint, fits in limits if fits[row])
        yield from dict.fromkeys(filter(None, (preference.fact(row) for preference in preferences)))
        if popular is not None and popular[row] >= _POPULAR:
            yield "is popular"

    skus = tuple(
        SkuCandidate(
            product.product_id, product.title, product.price, product.currency,
            "; ".join(reasons(product, row)) or "is the nearest by its words and meaning",
            _features(product, [constraint.field for constraint, _ in limits]),
        )
        for product, row in zip(products, found.rows[: len(products)].tolist(), strict=True)
    )  # fmt: skip
    broken = [limit.reason for limit, fits in limits if limit.sure and len(found) and not fits[found.rows].any()]
    lacking = [*lacking, *(f"no product found has {reason}" for reason in broken)]
    notes = (*(note.text for note in understood.notes), *(preference.reason for preference in preferences))
    return Route(
        understood.corrected, notes, routed.product_types, routed.action,
        routed.chosen, routed.reason, skus, "; ".join(lacking),
    )  # fmt: skip


def _met(constraint: Constraint, product: Product) -> str:
    """Why a product is within a limit: for a household its own value, since what fits four may say "3-4" or "4-5"."""
    name = constraint.field.removeprefix("attributes.")
    if constraint.kind != "household" or name not in product.attributes:
        return constraint.reason
    return f"{constraint.reason.split(':')[0]}: {name} {product.attributes[name]}"


def _features(product: Product, first: Sequence[str]) -> dict[str, object]:
    """The attributes that the query speaks of, and then the first of the others."""
    named = [name.removeprefix("attributes.") for name in first]
    names = [name for name in named if name in product.attributes]
    names += [name for name in product.attributes if name not in names]
    return {name: _short(product.attributes[name]) for name in names[:_FEATURES]}


def _short(value: object) -> object:
    return value[:_LONGEST] if isinstance(value, str) else value
