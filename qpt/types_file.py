"""The file of product types that people read and correct: tab-separated, one row a type and one a product."""

from __future__ import annotations

import csv
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from engine.errors import CatalogError
from engine.product import Product
from qpt.product_types import BELOW, NO_TYPE, Corrections, ProductType, ProductTypes, Typing

_COLUMNS = ("product types, format 1", "id", "type", "correction", "confidence", "source", "shown")
_TYPE, _PRODUCT = "type", "product"
_SHOWN = 100  # characters of a title
_EXAMPLES = 2  # titles shown for a type


def write_types(path: str | Path, types: ProductTypes, products: Iterable[Product]) -> None:
    """Writes what was derived, types first, and the corrections beside it. The file appears whole.

    A type's row has its parent in the column ``type``; ``shown`` is for people: titles of ``products``.
    """
    part = Path(f"{path}.part")
    with part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(_COLUMNS)
        writer.writerows(_rows(types, {product.product_id: _shown(product.title) for product in products}))
    os.replace(part, path)


def read_types(path: str | Path) -> ProductTypes:
    """Reads what ``write_types`` wrote and people corrected.

    Raises CatalogError naming the line on a row that cannot be used, ConfigError on corrections that go in a circle.
    """
    derived: dict[str, ProductType] = {}
    typings: dict[str, Typing] = {}
    corrected: dict[str, dict[str, str]] = {_TYPE: {}, _PRODUCT: {}}
    for number, (kind, name, type_id, correction, confidence, source, _) in _lines(Path(path)):

        def bad(field: str, reason: str, number: int = number) -> CatalogError:
            return CatalogError(str(path), number, field, reason)

        if kind not in corrected or not name:
            raise bad("id" if kind in corrected else _COLUMNS[0], "a row is 'type' or 'product' and has an id")
        if name in (derived if kind == _TYPE else typings):
            raise bad("id", f"the {kind} {name[:60]!r} has a row already")
        if kind == _PRODUCT and correction.startswith(BELOW):
            raise bad("correction", f"{correction[:60]!r} is for types; write the id of a type, or {NO_TYPE}")
        if correction.strip():
            corrected[kind][name] = correction.strip()
        if not source:
            continue  # only a correction, of what is no longer in the catalog
        if kind == _TYPE:
            derived[name] = ProductType(name, type_id or None)
            continue
        if type_id and type_id not in derived:
            raise bad("type", f"there is no type {type_id[:60]!r} above; write what you want as correction")
        try:
            typings[name] = Typing(type_id or None, float(confidence), "" if source == "none" else source)
        except ValueError:
            raise bad("confidence", f"is {confidence[:60]!r}; it must be a number") from None
    if missing := {t.parent for t in derived.values()} - derived.keys() - {None}:
        raise CatalogError(
            str(path), None, "type", f"there is no row for the parent {min(filter(None, missing))[:60]!r}"
        )
    return ProductTypes(derived, typings, Corrections(corrected[_TYPE], corrected[_PRODUCT]))


def _rows(types: ProductTypes, titles: dict[str, str]) -> Iterator[tuple[str, ...]]:
    counts: Counter[str] = Counter()
    examples: defaultdict[str, list[str]] = defaultdict(list)
    for product_id, typing in types.derived_typings.items():
        if typing.type_id is not None:
            counts[typing.type_id] += 1
            examples[typing.type_id] += [titles[product_id]] if product_id in titles else []
    said = types.corrections
    for type_id, found in sorted(types.derived.items()):
        shown = " | ".join([f"{counts[type_id]} products", *examples[type_id][:_EXAMPLES]])
        yield _TYPE, type_id, found.parent or "", said.types.get(type_id, ""), "", "derived", shown
    for type_id in sorted(said.types.keys() - types.derived.keys()):
        yield _TYPE, type_id, "", said.types[type_id], "", "", ""
    for product_id, typing in types.derived_typings.items():
        correction, confidence = said.products.get(product_id, ""), f"{typing.confidence:.3f}"
        source, shown = typing.source or "none", titles.get(product_id, "")
        yield _PRODUCT, product_id, typing.type_id or "", correction, confidence, source, shown
    for product_id in sorted(said.products.keys() - types.derived_typings.keys()):
        yield _PRODUCT, product_id, "", said.products[product_id], "", "", ""


def _shown(title: str) -> str:
    return " ".join(title.split())[:_SHOWN]


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter="\t")
            if tuple(next(reader, ())) != _COLUMNS:
                raise CatalogError(str(path), 1, None, f"expected the columns {', '.join(_COLUMNS)}, tab-separated")
            for row in reader:
                if row and len(row) != len(_COLUMNS):
                    reason = f"has {len(row)} columns; there must be {len(_COLUMNS)}, separated by tabs"
                    raise CatalogError(str(path), reader.line_num, None, reason)
                if row:
                    yield reader.line_num, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CatalogError(str(path), None, None, f"the product types cannot be read: {error}") from error
