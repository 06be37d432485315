"""What an answer is made of: data, described by ``schema.json`` beside this file."""

from __future__ import annotations

from inspect import cleandoc
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from engine.cards import Count, ProductCard, SearchPage

SCHEMA = Path(__file__).with_name("schema.json")

Kind = Literal["fact", "yes_no", "comparison", "recommendation", "support", "refusal", "abstention"]
#: Why an answer is as it is, for programs: ``answered``; why nothing is said; or why it is refused.
Code = Literal[
    "answered", "search", "conflict", "not_said", "no_such_product", "which_product", "no_document", "opinion",
    "off_domain", "refused_topic", "instructions", "nothing_asked",
]  # fmt: skip


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """Words of the catalog: ``text`` is ``[start:end]``, in characters, of a field of a product.

    ``field`` is a field's name; of lists one item (``bullets[0]``), of attributes ``attributes.NAME`` or
    ``attributes.NAME[0]``, whose numbers and flags are written as in JSON. ``engine.answers.fields.field_text`` gives
    its text. Where ``document`` is not empty, it is the text of that passage, and ``product_id`` the product it is
    about, empty for all.
    """

    product_id: str
    field: str
    text: str
    start: Count
    end: Count
    document: str = ""


class TableRow(msgspec.Struct, frozen=True, kw_only=True):
    """An attribute of the compared products, in their order; None where a product does not say. ``evidence`` are places
    in the answer's evidence.
    """

    attribute: str
    values: tuple[str | None, ...]
    evidence: tuple[Count | None, ...]
    differs: bool


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a question.

    ``text`` is for people, ``verdict`` the bare answer to a question of yes or no. ``products`` are those it is about,
    or that are offered. ``evidence`` holds every fact of ``text``. ``confidence`` is how probable it is that the answer
    is right, of an abstention that there is nothing to say. ``reason`` says how it came about, ``code`` the same for
    programs; ``topic`` is what a refusal is about. ``table`` is a comparison's. ``missing`` names what was asked about
    and the catalog lacks.
    """

    kind: Kind
    text: str
    code: Code
    confidence: Annotated[float, msgspec.Meta(ge=0, le=1)]
    reason: str
    verdict: Literal["yes", "no"] | None = None
    products: tuple[ProductCard, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    table: tuple[TableRow, ...] = ()
    missing: tuple[str, ...] = ()
    topic: str = ""

    def to_json(self) -> bytes:
        """By the schema."""
        return msgspec.json.encode(self)


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of everything that is published: an answer, or a search result."""
    refs, components = msgspec.json.schema_components((Answer, SearchPage), ref_template="#/$defs/{name}")
    for component in components.values():
        if component.get("type") == "object" and "properties" in component:
            component["additionalProperties"] = False
            component["description"] = " ".join(cleandoc(component["description"]).split())
            component["required"] = list(component["properties"])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Aisle answer or search result",
        "oneOf": list(refs),
        "$defs": components,
    }
