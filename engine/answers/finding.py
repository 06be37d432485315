"""What a reader found, before it is an answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from engine.answers.records import Code, Evidence, Kind
from engine.cards import one_line
from engine.product import Product

Verdict = Literal["yes", "no"]
_LONGEST_TITLE = 90  # characters of a title in a sentence


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """As ``Answer`` has it. ``products`` are records, ``fields`` the attributes it is about."""

    kind: Kind
    text: str
    code: Code
    confidence: float
    reason: str
    verdict: Verdict | None = None
    products: tuple[Product, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    fields: tuple[str, ...] = ()


def title_of(product: Product) -> str:
    """A product's title as a sentence has it."""
    title = one_line(product.title)
    return title if len(title) <= _LONGEST_TITLE else f"{title[:_LONGEST_TITLE].rsplit(' ', 1)[0]} …"


def capital(text: str) -> str:
    """With a capital at the start."""
    return text[:1].upper() + text[1:]
