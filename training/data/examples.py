"""Files that training reads: judged examples, click logs, and queries that nobody judged.

Examples are JSON lines, gzipped where the name ends in ``.gz``, one pair a line::

    {"query_id": "q1", "query": "red shoes", "label": 0.4, "product": {"product_id": "p1", "title": "Shoes"}}

A product's fields may also stand beside query and label, with what no product has as its attributes; then the query's
text stands in for a missing ``query_id``. ``"judged": false`` says that nobody gave the label: it is what the pair
counts as for want of one.

A click log is tab-separated with a head, or JSON lines (.jsonl, also .gz), of ``query``, ``product_id`` and one of

- ``label``, from 0 to 1, as it is;
- ``clicks``: label = clicks / (clicks of the query's most clicked product + 1), so one click alone is worth 0.5;
- ``clicks`` and ``impressions``: label = rate / the query's best rate, with a rate smoothed by ten impressions at the
  log's own mean m: (clicks + 10 m) / (impressions + 10). So few impressions say little.

Counts of a pair that comes again add up. Positions are not corrected for: what was shown higher
was clicked more. ``training.curation`` makes labels of a log that has positions.

Queries alone are a .tsv, or a file of examples (.jsonl, also .gz) of which only the queries count. A .tsv has a head
with a column ``query``, or no head and rows of ``query`` or ``query<TAB>locale``.
"""

from __future__ import annotations

import gzip
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from engine.errors import CatalogError
from engine.product import Product
from engine.text import encoded_text

_PRIOR = 10.0  # impressions
_COLUMNS = ("query", "product_id", "label", "clicks", "impressions")
_WITHOUT_HEAD = ["query", "locale"]

Query = tuple[str, str, dict[str, float]]


class ExamplesError(CatalogError):
    """A file of examples, or a row of one, cannot be used."""


_Bad = Callable[[str | None, str], ExamplesError]


@dataclass(frozen=True, slots=True)
class Example:
    """A query, a product's text as encoders read it, and how relevant it is: 0 not at all, 1 fully."""

    query_id: str
    query: str
    label: float
    product: str


@dataclass(frozen=True, slots=True)
class Judgment:
    """An example with the product itself, and its line. The label is None where nobody judged the pair."""

    query_id: str
    query: str
    label: float | None
    product: Product
    line: int


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
    given = None if row.get("judged") is False else float(label)
    return Judgment(row["query_id"], row["query"], given, product, number)


def _found(row: dict[str, Any], name: str) -> str:
    return _shown(row[name]) if name in row else "missing"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"


# Logs


def read_clicks(path: str, known: Set[str], catalog: str) -> list[Query]:
    """Query id, query and label by product id, in the log's order; ``known`` are the ids of ``catalog``.

    Raises ExamplesError naming line and field on a product the catalog lacks, a number out of range, a repeated label.
    """
    counts: dict[str, dict[str, list[float]]] = defaultdict(dict)
    measure = ""
    for number, row in _rows(path):

        def bad(field: str | None, reason: str, number: int = number) -> ExamplesError:
            return ExamplesError(path, number, field, reason)

        query, product_id = (str(row.get(name, "")).strip() for name in ("query", "product_id"))
        if not query:
            raise bad("query", "is missing; every row needs one")
        if product_id not in known:
            raise bad("product_id", f"{product_id!r} is not in {catalog}; add the product or drop the row")
        measured, values = _values(row, bad)
        if measured != measure and measure:
            raise bad(measured, f"rows before have {measure}; give the same columns in every row")
        measure = measured
        if measure == "label" and product_id in counts[query]:
            raise bad("label", f"{product_id!r} already has a label for this query; give it once")
        totals = counts[query].get(product_id, [0.0] * len(values))
        counts[query][product_id] = [total + value for total, value in zip(totals, values, strict=True)]
    if not counts:
        raise ExamplesError(path, None, None, "it has no rows; give query, product_id and label or clicks")
    label = {"label": _as_they_are, "clicks": _shares, "impressions": _rates(counts)}[measure]
    return [(str(number), query, label(of)) for number, (query, of) in enumerate(counts.items())]


def _as_they_are(of_query: dict[str, list[float]]) -> dict[str, float]:
    return {product_id: label for product_id, (label,) in of_query.items()}


def _shares(of_query: dict[str, list[float]]) -> dict[str, float]:
    most = max(clicks for (clicks,) in of_query.values())
    return {product_id: clicks / (most + 1) for product_id, (clicks,) in of_query.items()}


def _rates(counts: dict[str, dict[str, list[float]]]) -> Callable[[dict[str, list[float]]], dict[str, float]]:
    rows = [row for of_query in counts.values() for row in of_query.values()]
    mean = sum(row[0] for row in rows) / max(sum(row[-1] for row in rows), 1)

    def labels(of_query: dict[str, list[float]]) -> dict[str, float]:
        rates = {
            product_id: (clicks + _PRIOR * mean) / (shown + _PRIOR) for product_id, (clicks, shown) in of_query.items()
        }
        best = max(rates.values())
        return {product_id: rate / best if best else 0.0 for product_id, rate in rates.items()}

    return labels


def _values(row: dict[str, Any], bad: _Bad) -> tuple[str, list[float]]:
    """What the row measures (its last column's name) and its numbers."""
    given = [name for name in ("label", "clicks", "impressions") if row.get(name) not in (None, "")]
    if given not in (["label"], ["clicks"], ["clicks", "impressions"]):
        raise bad(None, f"it has {' and '.join(given) or 'no count'}; give label, or clicks, or clicks and impressions")
    values = []
    for name in given:
        highest = 1 if name == "label" else float("inf")
        try:
            value = float(row[name])
        except (TypeError, ValueError):
            value = -1.0
        if not 0 <= value <= highest:
            raise bad(name, f"is {str(row[name])[:40]!r}; it must be a number from 0{' to 1' if highest == 1 else ''}")
        values.append(value)
    if given == ["clicks", "impressions"] and values[0] > values[1]:
        raise bad("clicks", f"is {values[0]:g}, more than the {values[1]:g} impressions")
    return given[-1], values


def _rows(path: str) -> Iterator[tuple[int, dict[str, Any]]]:
    head: list[str] = []
    as_json = ".jsonl" in Path(path).suffixes
    for number, line in numbered_lines(Path(path)):
        if line.isspace():
            continue
        text = line.decode("utf-8-sig", errors="replace").rstrip("\r\n")
        if as_json:
            yield number, _json(path, number, text)
        elif not head:
            head = text.split("\t")
            if not {"query", "product_id"} <= set(head) <= set(_COLUMNS):
                raise ExamplesError(path, number, None, f"the head is {text[:60]!r}; columns are {', '.join(_COLUMNS)}")
        else:
            cells = text.split("\t")
            if len(cells) != len(head):
                raise ExamplesError(path, number, None, f"it has {len(cells)} columns, the head {len(head)}")
            yield number, dict(zip(head, cells, strict=True))


def read_queries(path: str, where: Mapping[str, Sequence[str | bool | int]]) -> dict[str, int]:
    """Each query with the first line that has it, in the file's order.

    ``where`` keeps the rows of which every field named has one of the values.
    Raises ExamplesError naming the line of a row without a query or with too many columns, and on a file without rows.
    """
    queries: dict[str, int] = {}
    for number, row in _json_rows(path) if ".jsonl" in Path(path).suffixes else _columns(path):
        query = row.get("query")
        if not isinstance(query, str) or not query.strip():
            raise ExamplesError(path, number, "query", "is missing; every row needs one")
        if all(row.get(name) in values for name, values in where.items()):
            queries.setdefault(query.strip(), number)
    if not queries:
        reason = f" where {dict(where)}" if where else "; give one a line"
        raise ExamplesError(path, None, None, f"it has no queries{reason}")
    return queries


def _json_rows(path: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in numbered_lines(Path(path)):
        if not line.isspace():
            yield number, _json(path, number, line)


def _json(path: str, number: int, line: str | bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ExamplesError(path, number, None, f"not a JSON object: {error}") from error


def _columns(path: str) -> Iterator[tuple[int, dict[str, Any]]]:
    head: list[str] = []
    for number, line in numbered_lines(Path(path)):
        cells = line.decode("utf-8-sig", errors="replace").rstrip("\r\n").split("\t")
        if not head:
            head = cells if "query" in cells else _WITHOUT_HEAD
            if head is cells:
                continue
        if len(cells) > len(head):
            reason = f"it has {len(cells)} columns, more than {', '.join(head)}; give a head that names them"
            raise ExamplesError(path, number, None, reason)
        if any(cells):
            yield number, dict(zip(head, cells, strict=False))
