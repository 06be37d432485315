"""Products and search results as a page or an agent gets them: one form, described by one JSON Schema.

``engine/answers/schema.json`` is that schema, of answers too.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from engine.product import AttributeValue, Product
from engine.text import plain

_FEATURES = 5
_LONGEST = 120  # characters of a feature's value

Count = Annotated[int, msgspec.Meta(ge=0)]


class ProductCard(msgspec.Struct, frozen=True, kw_only=True):
    """What is always told of a product. ``price`` is in units of ``currency``, None where the feed has none;
    ``features`` are some of its attributes, by name. Text is plain: without mark-up, on one line.
    """

    product_id: str
    title: str
    price: float | None
    currency: str
    features: dict[str, AttributeValue]

    @classmethod
    def of(cls, product: Product, first: tuple[str, ...] = ()) -> ProductCard:
        """The card of a product, with the attributes named ``first`` before the others."""
        return ProductCard(
            product_id=product.product_id,
            title=one_line(product.title),
            price=product.price,
            currency=product.currency,
            features=_features(product, first),
        )


class RankedCard(ProductCard, frozen=True, kw_only=True):
    """A product of a search result. ``rank`` counts from 1; ``score`` is comparable within the result."""

    rank: Annotated[int, msgspec.Meta(ge=1)]
    score: float

    @classmethod
    def ranked(cls, product: Product, rank: int, score: float) -> RankedCard:
        """The card of a hit."""
        return cls(**msgspec.structs.asdict(ProductCard.of(product)), rank=rank, score=score)


class SearchPage(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="search"):
    """A search result as JSON. ``corrected`` is the query as it was probably meant, ``notes`` what was read in it,
    ``nearest`` what no product has, where the products are only the nearest there are.
    """

    query: str
    products: tuple[RankedCard, ...]
    n_candidates: Count
    corrected: str
    notes: tuple[str, ...]
    nearest: str


def one_line(text: str) -> str:
    """Without mark-up, control characters and line breaks."""
    shown = "".join(c if c.isprintable() else " " for c in plain(text))
    return " ".join(shown.split())


def _features(product: Product, first: tuple[str, ...]) -> dict[str, AttributeValue]:
    names = [name for name in first if name in product.attributes]
    names += [name for name in product.attributes if name not in names]
    return {name: _short(product.attributes[name]) for name in names[:_FEATURES]}


def _short(value: AttributeValue) -> AttributeValue:
    if isinstance(value, list):
        return [one_line(text)[:_LONGEST] for text in value]
    return one_line(value)[:_LONGEST] if isinstance(value, str) else value
