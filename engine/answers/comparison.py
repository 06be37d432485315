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


def alike(sides: Sequence[Side]) -> list[Side]:
    """The sides, each but the first with its product in front that has most in common with the first's: variants of
    like storage are compared.
    """
    model = sides[0].products[0].attributes
    out = [sides[0]]
    for side in sides[1:]:
        common = [sum(model.get(name) == value for name, value in p.attributes.items()) for p in side.products]
        best = common.index(max(common))
        out.append(Side(side.name, (side.products[best], *side.products[:best], *side.products[best + 1 :])))
    return out


def compare(
    sides: Sequence[Side], index: AttributeIndex, confidence: float, first: Sequence[str] = ()
) -> Compared:  # fmt: skip
    """The table of two or more sides with products: the attributes named ``first``, those that differ, then the others,
    in the products' own order. Units are the catalog's, the same for all.
    """
    shown = [side.products[0] for side in sides]
    rows = [_Row(index.attributes[field], _cells(shown, field)) for field in _fields(shown, index, first)]
    said = [row for row in rows if any(row.cells)]
    rows = sorted(said, key=lambda row: (row.attribute.field not in first, not row.differs))[:_MOST_ROWS]
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
        "comparison", _in_words(shown, table, len(first)), "answered", confidence, "their attributes side by side",
        None, tuple(shown), tuple(evidence), fields,
    )  # fmt: skip
    return Compared(finding, tuple(table))


def _in_words(products: Sequence[Product], table: Sequence[TableRow], n_asked: int) -> str:
    titles = " and ".join(title_of(product) for product in products)
    telling = [row for row in table if row.differs and None not in row.values][:_IN_TEXT]
    parts = [f"{row.attribute} {' against '.join(map(str, row.values))}" for row in telling]
    text = f"{titles} differ in: {'; '.join(parts)}." if parts else f"{titles} differ in nothing that both say."
    same = [row for row in table[:n_asked] if not row.differs]
    text += "".join(f" Both have {row.attribute} {row.values[0]}." for row in same)
    unsaid = [row.attribute for row in table if None in row.values][:_IN_TEXT]
    return f"{text} Not said of all: {', '.join(unsaid)}." if unsaid else text


def _fields(products: Sequence[Product], index: AttributeIndex, first: Sequence[str]) -> list[str]:
    own = [f"{ATTRIBUTE}{name}" for product in products for name in product.attributes]
    return [field for field in dict.fromkeys((*first, *_CORE, *own)) if field in index.attributes]


def _cells(products: Sequence[Product], field: str) -> tuple[tuple[Passage, ...], ...]:
    return tuple(tuple(value_passages(product, field)) for product in products)
