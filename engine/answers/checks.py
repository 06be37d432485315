"""What is checked of every answer before it leaves: its evidence is where it says, and it says nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from engine.answers.fields import field_text
from engine.answers.policy import Policy
from engine.answers.records import Answer, Evidence
from engine.product import Product

_FACT = re.compile(r"\d+(?:[.,]\d+)*")
_FACTS_OF = frozenset({"fact", "yes_no", "comparison"})


def holds(evidence: Evidence, products: dict[str, Product], documents: Callable[[str], str | None]) -> bool:
    """Whether the words are at their place in the product, or the document."""
    if evidence.document:
        text = documents(evidence.document)
    else:
        product = products.get(evidence.product_id)
        try:
            text = field_text(product, evidence.field) if product is not None else None
        except (KeyError, IndexError):
            text = None
    return text is not None and bool(evidence.text) and text[evidence.start : evidence.end] == evidence.text


def unfounded(text: str, evidence: Sequence[Evidence], named: Sequence[str]) -> list[str]:
    """The numbers of a text that neither its evidence nor the names of products have."""
    known = {_same(number) for source in (*(one.text for one in evidence), *named) for number in _FACT.findall(source)}
    return [number for number in _FACT.findall(text) if _same(number) not in known]


def _same(number: str) -> str:
    """One spelling of a number that JSON writes as 84999.0."""
    return number.removesuffix(".0").replace(",", "")


def checked(
    answer: Answer,
    products: dict[str, Product],
    policy: Policy,
    documents: Callable[[str], str | None] = lambda _: None,
) -> Answer:
    """The answer, cut to the policy's lengths, or an abstention where it does not hold."""
    fields = [one.field.split("[")[0] for one in answer.evidence]
    titles = [*(card.title for card in answer.products), *answer.missing, *fields]
    sound = all(holds(one, products, documents) for one in answer.evidence)
    if answer.kind in _FACTS_OF and answer.code == "answered":
        sound = sound and bool(answer.evidence) and not unfounded(answer.text, answer.evidence, titles)
    if not sound:
        return Answer(
            kind="abstention", text="I do not know.", code="not_said", confidence=answer.confidence,
            reason="what was found did not stand up to the check of its evidence", products=answer.products,
        )  # fmt: skip
    limit = policy.answers.max_characters
    text = answer.text if len(answer.text) <= limit else answer.text[: limit - 1].rsplit(" ", 1)[0] + "…"
    return replace(answer, text=text, products=answer.products[: policy.answers.max_products])
