"""What of a product is searched: its text per lexical field, and the one text that is encoded.

Catalog text is hostile input: mark-up is taken out, entities are resolved, nothing is interpreted.
"""

from __future__ import annotations

import html
import re

from engine.analysis.units import UNITS
from engine.product import AttributeValue, Product

_TAG = re.compile(r"<[^<>]{1,500}>")
_SEPARATOR = " . "  # ends a phrase for the analyzer: nothing is joined across it
#: Attributes a shopper reads first, in that order, where a catalog has them.
_LEADING_ATTRIBUTES = ("product_type", "type", "color", "colour", "product_colour", "material")


def plain(text: str) -> str:
    """Text without mark-up."""
    return html.unescape(_TAG.sub(" ", text)) if "<" in text or "&" in text else text


def lexical_fields(product: Product) -> dict[str, str]:
    """One text per lexical field."""
    return {
        "title": plain(product.title),
        "brand": product.brand,
        "model": _SEPARATOR.join((product.model, product.product_id, *product.ean)),
        "category": _SEPARATOR.join(product.category[-2:]),
        "attributes": _SEPARATOR.join(filter(None, map(_attribute_text, *_items(product)))),
        "body": plain(_SEPARATOR.join((product.description, *product.bullets))),
    }


def encoded_text(product: Product) -> str:
    """What a shopper reads first, first: brand and title, type, key attributes, then the description."""
    title = plain(product.title)
    if product.brand.lower() not in title.lower():
        title = f"{product.brand} {title}"
    leading = ", ".join(str(product.attributes[k]) for k in _LEADING_ATTRIBUTES if k in product.attributes)
    body = plain(product.description or " ".join(product.bullets))
    return ". ".join(filter(None, (title, " ".join(product.category[-2:]), leading, body)))


def _items(product: Product) -> tuple[list[str], list[AttributeValue]]:
    return list(product.attributes), list(product.attributes.values())


def _attribute_text(name: str, value: AttributeValue) -> str:
    """Text as it is, a true flag by its name, a number with the unit its name ends in (``screen_size_in``)."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return _SEPARATOR.join(value)
    if isinstance(value, bool):
        return name.replace("_", " ") if value else ""
    unit = name.rpartition("_")[2]
    return f"{value:g} {unit}" if unit in UNITS else ""
