"""Comparisons: what two or three products have, side by side, and what one of them lacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.answers.attributes import ATTRIBUTE, Attribute, AttributeIndex, told_value
from engine.answers.fields import Passage, value_passages
from engine.answers.finding import Finding, title_of
from engine.answers.records import Evidence, TableRow
from engine.product import Product

_MOST_ROWS = 14
_IN_TEXT = 4  # differences that the text names
_CORE = ("price", "rating")


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """What is compared: a name, and its products, the one that stands for them first; none that the catalog lacks."""

    name: str
    products: tuple[Product, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """A finding, and its table."""

    finding: Finding
    table: tuple[TableRow, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    """An attribute, and per product the passages that say it."""

    attribute: Attribute
    cells: tuple[tuple[Passage, ...], ...]

    @property
    def values(self) -> tuple[str | None, ...]:
        return tuple(told_value(self.attribute, [p.text for p in cell]) if cell else None for cell in self.cells)

    @property
    def differs(self) -> bool:
        return len(set(self.values)) > 1


def compare(sides: Sequence[Side], index: AttributeIndex, first: Sequence[str] = ()) -> Compared:
    """The table of two or more sides with products: the attributes that differ, then the others; of each kind those
    named ``first`` first, then in the products' own order. Units are the catalog's, the same for all.
    """
    shown = [side.products[0] for side in sides]
    rows = [_Row(index.attributes[field], _cells(shown, field)) for field in _fields(shown, index, first)]
    rows = sorted((row for row in rows if any(row.cells)), key=lambda row: not row.differs)[:_MOST_ROWS]
    evidence: list[Evidence] = []
    table = []
    for row in rows:
        places: list[int | None] = []
        for cell in row.cells:
            places.append(len(evidence) if cell else None)
            evidence += [passage.evidence() for passage in cell]
        table.append(
            TableRow(
                attribute=row.attribute.shown, values=row.values, evidence=tuple(places), differs=row.differs
            )
        )  # fmt: skip
    fields = tuple(row.attribute.field.removeprefix(ATTRIBUTE) for row in rows)
    finding = Finding(
        "comparison", _in_words(shown, table), "answered", 0.95, "their attributes side by side", None, tuple(shown),
        tuple(evidence), fields,
    )  # fmt: skip
    return Compared(finding, tuple(table))


def _in_words(products: Sequence[Product], table: Sequence[TableRow]) -> str:
    titles = " and ".join(title_of(product) for product in products)
    telling = [row for row in table if row.differs and None not in row.values][:_IN_TEXT]
    parts = [f"{row.attribute} {' against '.join(map(str, row.values))}" for row in telling]
    text = f"{titles} differ in: {'; '.join(parts)}." if parts else f"{titles} differ in nothing that both say."
    unsaid = [row.attribute for row in table if None in row.values][:_IN_TEXT]
    return f"{text} Not said of all: {', '.join(unsaid)}." if unsaid else text


def _fields(products: Sequence[Product], index: AttributeIndex, first: Sequence[str]) -> list[str]:
    own = [f"{ATTRIBUTE}{name}" for product in products for name in product.attributes]
    return [field for field in dict.fromkeys((*first, *_CORE, *own)) if field in index.attributes]


def _cells(products: Sequence[Product], field: str) -> tuple[tuple[Passage, ...], ...]:
    return tuple(tuple(value_passages(product, field)) for product in products)
