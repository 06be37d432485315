"""Reads judged examples: what cross-encoders are trained on, and what their exports are compared on.

JSON lines, gzipped where the name ends in ``.gz``, one pair a line::

    {"query_id": "q1", "query": "red shoes", "label": 0.4, "product": {"product_id": "p1", "title": "Shoes"}}

A product's fields may also stand beside query and label, with what no product has as its attributes; then the query's
text stands in for a missing ``query_id``. ``"judged": false`` says that nobody gave the label: it is what the pair
counts as for want of one.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from engine.errors import CatalogError
from engine.product import Product
from engine.text import encoded_text


class ExamplesError(CatalogError):
    """A file of examples, or a row of one, cannot be used."""


@dataclass(frozen=True, slots=True)
class Example:
    """A query, a product's text as encoders read it, and how relevant it is: 0 not at all, 1 fully."""

    query_id: str
    query: str
    label: float
    product: str


@dataclass(frozen=True, slots=True)
class Judgment:
    """An example with the product itself. The label is None where nobody judged the pair."""

    query_id: str
    query: str
    label: float | None
    product: Product


def read_examples(path: str | Path) -> list[Example]:
    """All examples of a file, in its order.

    Raises ExamplesError naming line and field on a file that cannot be read, a line that is not JSON, a field that is
    missing or of the wrong type, a label outside [0, 1], a product the engine would not take, and a file without rows.
    """
    return [Example(j.query_id, j.query, j.label or 0.0, encoded_text(j.product)) for j in read_judgments(path)]


def read_judgments(
    path: str | Path,
    labels: Mapping[str, float] | None = None,
    where: Mapping[str, Sequence[str | bool | int]] | None = None,
) -> list[Judgment]:
    """As ``read_examples``. ``labels`` gives those labels a number that have none, ``where`` keeps the rows of which
    every field named has one of the values."""
    path = Path(path)
    judgments = []
    for number, line in numbered_lines(path):
        if line.isspace():
            continue
        row = _row(path, number, line)
        if all(row.get(name) in values for name, values in (where or {}).items()):
            judgments.append(_judgment(path, number, row, labels or {}))
    if not judgments:
        reason = f" where {dict(where)}" if where else "; give at least one JSON object a line"
        raise ExamplesError(str(path), None, None, f"it has no examples{reason}")
    return judgments


def require_both_classes(path: str | Path, examples: Sequence[Example]) -> None:
    """Raises ExamplesError when all labels are equal: nothing can be learnt of them, and any order is as good."""
    first = examples[0]
    if all(example.label == first.label for example in examples):
        raise ExamplesError(
            str(path), None, "label",
            f"one class only: all {len(examples)} rows say {first.label:g}, as does row 1 (query {first.query!r}); "
            "add rows with another label, such as products that do not fit their query",
        )  # fmt: skip


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines with their number, from 1. Raises ExamplesError on a file that cannot be read."""
    number = 0
    try:
        with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
            for number, line in enumerate(file, 1):
                yield number, line
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ExamplesError(str(path), None, None, f"it cannot be read after line {number}: {reason}") from error


def _row(path: Path, number: int, line: bytes) -> dict[str, Any]:
    """A row with its product in one field."""
    try:
        row: Any = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ExamplesError(str(path), number, None, f"not JSON: {error}") from error
    if not isinstance(row, dict):
        reason = f"expected a JSON object with query_id, query, label and product, found {_shown(row)}"
        raise ExamplesError(str(path), number, None, reason)
    if "product" in row or "title" not in row:
        return row
    product = {name: row[name] for name in Product.__struct_fields__ if row.get(name) is not None}
    others = row.keys() - {"query_id", "query", "label", "judged", *Product.__struct_fields__}
    attributes = {name: row[name] for name in sorted(others) if row[name] is not None}
    product["attributes"] = attributes | product.get("attributes", {})
    return {"query_id": row.get("query"), **row, "product": product}


def _judgment(path: Path, number: int, row: dict[str, Any], labels: Mapping[str, float]) -> Judgment:
    def bad(field: str | None, reason: str) -> ExamplesError:
        return ExamplesError(str(path), number, field, reason)

    for name in ("query_id", "query"):
        if not isinstance(row.get(name), str) or not row[name].strip():
            raise bad(name, f"is {_found(row, name)}; every example needs a text that is not empty")
    label = row.get("label")
    if isinstance(label, str):
        label = labels.get(label)
    if isinstance(label, bool) or not isinstance(label, int | float) or not 0 <= label <= 1:
        known = f", or one of {', '.join(labels)}" if labels else ""
        raise bad(
            "label", f"is {_found(row, 'label')}; it must be a number from 0, not relevant, to 1, relevant{known}"
        )
    try:
        product = msgspec.convert(row.get("product"), Product)
    except msgspec.ValidationError as error:
        raise bad("product", f"{error}. It must be a product as in a catalog's JSON lines") from error
    return Judgment(row["query_id"], row["query"], None if row.get("judged") is False else float(label), product)


def _found(row: dict[str, Any], name: str) -> str:
    return _shown(row[name]) if name in row else "missing"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
