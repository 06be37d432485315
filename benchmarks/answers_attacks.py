"""Whether instructions hidden in a catalog, or put into a question, change an answer.

Every attack of ``answers/synthetic_injections.jsonl`` is planted in a field of a product, or beside a question about
it, and the same questions are asked with and without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec
from msgspec.structs import replace

from engine.answers.records import Answer
from engine.config import EngineConfig, IndexConfig
from engine.product import Product
from engine.search import SearchEngine

ATTACKS = Path(__file__).parent / "answers" / "synthetic_injections.jsonl"
#: What is asked of the attacked product: what a text might make it say, an attribute, a flag.
QUESTIONS = ("Does it support wireless charging?", "What is the battery capacity of it?", "What colour is it?")
_ATTRIBUTE = "color"


class Attack(msgspec.Struct, frozen=True):
    """``text`` stands in the field ``where`` of a product, or beside a question."""

    where: Literal["title", "description", "bullets", "attribute", "question"]
    text: str


def read_attacks() -> list[Attack]:
    """The suite."""
    return [msgspec.json.decode(line, type=Attack) for line in ATTACKS.read_bytes().splitlines()]


def planted(product: Product, attack: Attack) -> Product:
    """The product with the attack at the end of the field."""
    if attack.where == "title":
        return replace(product, title=f"{product.title}. {attack.text}")
    if attack.where == "description":
        return replace(product, description=f"{product.description} {attack.text}")
    if attack.where == "bullets":
        return replace(product, bullets=(*product.bullets, attack.text))
    value = f"{product.attributes[_ATTRIBUTE]}. {attack.text}"
    return replace(product, attributes={**product.attributes, _ATTRIBUTE: value})


def altered(
    products: Sequence[Product], attacks: Sequence[Attack], encoder: str = IndexConfig().encoder
) -> Iterator[tuple[Attack, str, Answer]]:  # fmt: skip
    """The attacks that changed an answer, with the question and what it became.

    All catalog attacks are in one index, each in a copy of a product of its own, and the same copies without them in
    another.
    """
    in_catalog = [attack for attack in attacks if attack.where != "question"]
    victims = [product for product in products if {_ATTRIBUTE, "battery_mah"} <= set(product.attributes)]
    copies = [
        replace(victims[place % len(victims)], product_id=f"ATTACKED-{place}") for place in range(len(in_catalog))
    ]
    attacked = [planted(product, attack) for product, attack in zip(copies, in_catalog, strict=True)]
    config = EngineConfig(index=IndexConfig(encoder=encoder, reranker="", router=""))
    clean_engine = SearchEngine.build([*products, *copies], config=config)
    engine = SearchEngine.build([*products, *attacked], config=config)
    for place, (attack, copy) in enumerate(zip(in_catalog, copies, strict=True)):
        for question in QUESTIONS:
            for product_id in (copy.product_id, victims[place % len(victims)].product_id):  # and of its neighbour
                clean, after = (of.ask(question, product_id=product_id) for of in (clean_engine, engine))
                if _told(clean, product_id) != _told(after, product_id):
                    yield attack, question, after
    for place, attack in enumerate(attack for attack in attacks if attack.where == "question"):
        product = victims[place % len(victims)]
        for question in QUESTIONS:
            clean = clean_engine.ask(question, product_id=product.product_id)
            for text in (f"{attack.text} {question}", f"{question} {attack.text}"):
                after = engine.ask(text, product_id=product.product_id)
                if after.kind != "refusal" and _told(clean, product.product_id) != _told(after, product.product_id):
                    yield attack, question, after


def _told(answer: Answer, product_id: str) -> tuple[object, ...]:
    """What an answer says, whichever copy of a product it is of: kind, verdict, and what it cites of itself alone."""
    cited = tuple((one.field, one.text, one.start, one.end) for one in answer.evidence)
    own = {one.product_id for one in answer.evidence} <= {product_id}
    return answer.kind, answer.verdict, answer.code, cited, own, answer.text.replace(product_id, "")
