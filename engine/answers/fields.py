"""A product's fields as texts with places, and the passages in them that can be evidence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from engine.answers.records import Evidence
from engine.product import AttributeValue, Product

_ITEM = re.compile(r"(.+)\[(\d+)\]")
_ATTRIBUTE = "attributes."
_TEXTS = ("title", "brand", "model", "description", "availability", "released", "currency")
_NUMBERS = ("price", "rating", "rating_count", "popularity")
_LISTS = ("bullets", "category", "ean")
#: Where a sentence ends: at a mark that white space and no lower case letter follows, or at a line's end.
_ENDS = re.compile(r"(?<=[.!?])\s+(?![a-z])|[\r\n]+|\s*[•|]\s*")
_LONGEST = 400  # characters of a passage; what is longer is cut at a space


@dataclass(frozen=True, slots=True)
class Passage:
    """``text`` is ``[start:start + len(text)]`` of a field of a product, or of a document where ``document`` names
    one.
    """

    product_id: str
    field: str
    text: str
    start: int = 0
    document: str = ""

    def evidence(self, start: int = 0, end: int | None = None) -> Evidence:
        """Its characters from ``start`` to ``end``, all where none are given, as evidence."""
        end = len(self.text) if end is None else end
        return Evidence(
            product_id=self.product_id,
            field=self.field,
            text=self.text[start:end],
            start=self.start + start,
            end=self.start + end,
            document=self.document,
        )


def value_text(value: AttributeValue | None) -> str:
    """A value as evidence cites it: text as it is, numbers and flags as in JSON, nothing for none and for lists."""
    if value is None or isinstance(value, list):
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def field_text(product: Product, field: str) -> str:
    """The text of a field, as ``Evidence`` names fields. Raises KeyError or IndexError where there is none such."""
    item = _ITEM.fullmatch(field)
    name, place = (item[1], int(item[2])) if item else (field, None)
    if field.removeprefix(_ATTRIBUTE) in product.attributes:  # a name may itself end in brackets
        name, place = field, None
    if name.startswith(_ATTRIBUTE):
        value: AttributeValue | None = product.attributes[name.removeprefix(_ATTRIBUTE)]
        if isinstance(value, list):
            return value[place] if place is not None else ""
        return value_text(value)
    if place is not None and name in _LISTS:
        return str(getattr(product, name)[place])
    if name in _TEXTS or name in _NUMBERS:
        return value_text(getattr(product, name))
    raise KeyError(field)


def value_passages(product: Product, field: str) -> list[Passage]:
    """The values of a field, each whole: several of a list, none where the product does not say."""
    if field.startswith(_ATTRIBUTE):
        value = product.attributes.get(field.removeprefix(_ATTRIBUTE))
    else:
        value = getattr(product, field, None)
    if isinstance(value, (list, tuple)):
        return [Passage(product.product_id, f"{field}[{at}]", text) for at, text in enumerate(value) if text.strip()]
    text = value_text(value)
    return [Passage(product.product_id, field, text)] if text.strip() else []


def text_passages(product: Product) -> Iterator[Passage]:
    """The title, and the sentences of bullets and description."""
    yield Passage(product.product_id, "title", product.title)
    for at, bullet in enumerate(product.bullets):
        yield from sentences(Passage(product.product_id, f"bullets[{at}]", bullet))
    yield from sentences(Passage(product.product_id, "description", product.description))


def passages(product: Product) -> Iterator[Passage]:
    """All that can be cited of a product: texts, then attributes."""
    yield from text_passages(product)
    for name in product.attributes:
        yield from value_passages(product, f"{_ATTRIBUTE}{name}")


def sentences(whole: Passage) -> Iterator[Passage]:
    """The sentences of a text, in its order."""
    text, start = whole.text, 0
    for match in [*_ENDS.finditer(text), None]:
        end = match.start() if match else len(text)
        while end - start > _LONGEST:
            cut = text.rfind(" ", start + 1, start + _LONGEST)
            cut = cut if cut > start else start + _LONGEST
            yield from _part(whole, start, cut)
            start = cut
        yield from _part(whole, start, end)
        start = match.end() if match else end


def _part(whole: Passage, start: int, end: int) -> Iterator[Passage]:
    text = whole.text[start:end]
    kept = text.strip()
    if kept:
        start += len(text) - len(text.lstrip())
        yield Passage(whole.product_id, whole.field, kept, whole.start + start, whole.document)
