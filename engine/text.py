"""What of a product is searched: its text per lexical field, and the one text that is encoded.

Catalog text is hostile input: mark-up is taken out, entities are resolved, nothing is interpreted.
"""

from __future__ import annotations

import hashlib
import html
import re

from engine.analysis.analyzer import Analyzer
from engine.analysis.units import UNITS
from engine.product import AttributeValue, Product

_PROBE = Product(
    product_id="SKU-1",
    title='Acme SmartRemote™ MLT-D206L for 55" TVs, 1 TB &amp; <b>Wi-Fi</b>',
    brand="Acme",
    model="RT28C3053S8/HL",
    description="Women's running shoes, 12,000 BTU, galaxy s 23, 4x8 ft., café. " * 12,
    bullets=("3 in 1 charger", "s23ultra"),
    category=("Home", "Kitchen", "Fridges"),
    attributes={"color": "Red", "type": "Dryer", "screen_size_in": 55, "smart": True, "sizes": ["S", "M"], "n": 3},
    ean=("0884420588030",),
)
#: What scripts beside the Latin one become, which the texts of the probe do not show.
_PROBE_SCRIPTS = "ドラム式洗濯機 55インチのﾃﾚﾋﾞ, teléfonos móviles para niños"
_TAG = re.compile(r"<[^<>]{1,500}>")
_SUMMARY_WORDS = 50
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
        "attributes": _SEPARATOR.join(filter(None, (_attribute_text(*item) for item in product.attributes.items()))),
        "summary": _summary(product),
        "body": plain(_SEPARATOR.join((product.description, *product.bullets))),
    }


def fingerprints(analyzer: Analyzer) -> tuple[str, str]:
    """Of the analyzer and of the fields: digests of what they make of a fixed product, so no change goes unseen."""
    terms = [
        analyzer.terms(text)
        for text in (_PROBE.title, _PROBE.model, _PROBE.description, *_PROBE.bullets, _PROBE_SCRIPTS)
    ]
    analysis = hashlib.sha256(repr((analyzer.language, terms)).encode()).hexdigest()
    fields = hashlib.sha256(repr((lexical_fields(_PROBE), encoded_text(_PROBE))).encode()).hexdigest()
    return analysis[:16], fields[:16]


def _summary(product: Product) -> str:
    """The start of the description, or of the bullets: what a shopper reads, and where a shop says what counts."""
    text = plain(product.description or _SEPARATOR.join(product.bullets))
    return " ".join(text.split(maxsplit=_SUMMARY_WORDS)[:_SUMMARY_WORDS])


def encoded_text(product: Product) -> str:
    """What a shopper reads first, first: brand and title, type, key attributes, then the description."""
    title = plain(product.title)
    if product.brand.lower() not in title.lower():
        title = f"{product.brand} {title}"
    leading = ", ".join(str(product.attributes[k]) for k in _LEADING_ATTRIBUTES if k in product.attributes)
    body = plain(product.description or " ".join(product.bullets))
    return ". ".join(filter(None, (title, " ".join(product.category[-2:]), leading, body)))


def _attribute_text(name: str, value: AttributeValue) -> str:
    """Text as it is, a number with the unit its name ends in (``screen_size_in``).

    Flags and bare numbers are left to filters: their names would match whole product types.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return _SEPARATOR.join(value)
    unit = name.rpartition("_")[2]
    return f"{value:g} {unit}" if unit in UNITS and not isinstance(value, bool) else ""
