"""Recommendations: the products of a search's route, each with what it has of what was asked for."""

from __future__ import annotations

from engine.answers.attributes import ATTRIBUTE, AttributeIndex, name_words, told_value
from engine.answers.fields import Passage, value_passages
from engine.answers.finding import Finding, title_of
from engine.answers.policy import Policy
from engine.product import Product
from engine.types import SearchResult, SkuCandidate

_MOST = 3  # products
_FACTS = 3  # of each


def recommend(result: SearchResult, index: AttributeIndex, policy: Policy, confidence: float) -> Finding | None:
    """The first products of a result with the facts that its route gives for them; None where it found none.

    A fact is told as the product's own field says it, and cited.
    """
    skus = {sku.product_id: sku for sku in result.route.skus} if result.route else {}
    products = [policy.trusted_product(hit.product) for hit in result.hits[:_MOST]]
    if not products:
        return None
    cited = [(product, _facts(product, skus.get(product.product_id), index)) for product in products]
    lines = [f"{place}. {_line(product, facts, index)}" for place, (product, facts) in enumerate(cited, 1)]
    lacking = result.route.nearest if result.route else ""
    lead = "Nothing has all of it; nearest are: " if lacking else ""
    evidence = tuple(passage.evidence() for _, facts in cited for passages in facts.values() for passage in passages)
    fields = tuple(dict.fromkeys(field.removeprefix(ATTRIBUTE) for _, facts in cited for field in facts))
    reason = lacking or "the best of a search, with what they have of what was asked for"
    return Finding(
        "recommendation",
        lead + " ".join(lines),
        "answered",
        confidence,
        reason,
        None,
        tuple(products),
        evidence,
        fields,
    )


def _facts(product: Product, sku: SkuCandidate | None, index: AttributeIndex) -> dict[str, list[Passage]]:
    """The fields that the route's reason speaks of, and the price."""
    said = set(name_words(sku.reason)) if sku else set()
    found: dict[str, list[Passage]] = {}
    for name in product.attributes:
        field = f"{ATTRIBUTE}{name}"
        words = {word for word in name_words(name) if len(word) > 1}
        told = field in index.attributes and words and set(index.attributes[field].shown.split()) <= said
        if told and (passages := value_passages(product, field)):
            found[field] = passages
    found = dict(list(found.items())[:_FACTS])
    price = value_passages(product, "price")
    return {**found, "price": price} if price else found


def _line(product: Product, facts: dict[str, list[Passage]], index: AttributeIndex) -> str:
    told = [
        f"{index.attributes[field].shown} {told_value(index.attributes[field], [passage.text for passage in passages])}"
        + (f" {product.currency}" if field == "price" and product.currency else "")
        for field, passages in facts.items()
    ]
    shown = f" ({', '.join(told)})" if told else ""
    return f"{title_of(product)}{shown}."
