"""Reads a catalog file as a stream of products.

Held in memory: one row (one batch for Parquet), and per product a 16-byte digest of its id with its line number, about
135 MB per million products. At 16 bytes two different ids do not meet in practice, so no id is called a duplicate by
accident, and ids of any length cost the same.
"""

from __future__ import annotations

import csv
import datetime
import difflib
import gzip
import io
import json
import math
import os
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from engine.errors import CatalogError, ConfigError, MissingExtraError
from engine.product import AttributeValue, Product

_MAX_ROW = 64 * 1024 * 1024  # bytes; a longer row is damage, and reading on would only fill the memory
_REPORT_EVERY = 1024  # rows between two calls of ``progress``
_FIELDS = Product.__struct_fields__
_ALIASES = {"id": "product_id", "sku": "product_id", "asin": "product_id", "name": "title", "gtin": "ean"}
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_PLAIN_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,15})?")
_ROW_ERRORS = (ValueError, RecursionError)  # msgspec.MsgspecError and UnicodeError are ValueErrors
_ROW_NOTE = " (Parquet has no lines; the number is the row's)"
_TYPE_NAMES = {"str": "text", "int": "a whole number", "float": "a number", "bool": "true/false"}
_TYPE_NAMES |= {"array": "a list", "object": "an object"}


class _Bad(NamedTuple):
    """A row that is no product. ``row`` is its text, or its parsed cells where there is no text."""

    field: str | None
    reason: str
    row: object


class _Column(NamedTuple):
    name: str
    is_attribute: bool
    parse: Callable[[Any], object]


class _StrictProduct(Product, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Finds misspelt fields. Only ever an intermediate: its values are checked when it becomes a Product."""

    def __post_init__(self) -> None:
        pass


_Row = tuple[int, Product | _Bad]
_Report = Callable[[int], None]
_Source = Callable[[Path, _Report], Iterator[_Row]]
_decode = msgspec.json.Decoder(_StrictProduct).decode


def read_catalog(
    path: str | Path,
    *,
    on_error: Literal["stop", "skip"] = "stop",
    rejects: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CatalogReader:
    """The products of a file, in its order, read while iterating.

    JSON lines (.jsonl, .ndjson), CSV (.csv), tab-separated (.tsv), all also with .gz, and Parquet (.parquet). In CSV,
    ``category`` is split at ``>``, ``bullets`` and ``ean`` at ``|``; ``attributes.NAME`` and every unknown column is an
    attribute; an empty cell is absent. A null is absent in JSON and Parquet too.

    ``on_error="skip"`` writes each bad row to ``rejects`` as JSON lines with line, field, reason and row; the file
    appears, whole, when the iteration ends, and is empty if there was none. ``progress`` gets the bytes read so far and
    in total, of the compressed file where it is compressed.

    Raises CatalogError on a missing file or unknown suffix now, and while iterating on a damaged file, on a file
    without products and, unless skipped, on a bad row. Raises ConfigError on wrong arguments and MissingExtraError if
    Parquet cannot be read.
    """
    path = Path(path)
    rejects = None if rejects is None else Path(rejects)
    if on_error not in ("stop", "skip"):
        raise ConfigError(f"on_error is {on_error!r}; it must be 'stop' or 'skip'")
    if on_error == "skip" and rejects is None:
        raise ConfigError("on_error='skip' needs rejects: a path for the file of bad rows")
    if not path.is_file():
        raise CatalogError(str(path), None, None, "it is a directory" if path.is_dir() else "there is no such file")
    if rejects is not None and not rejects.parent.is_dir():
        raise ConfigError(f"rejects is {rejects}; its directory does not exist")
    if rejects is not None and rejects.resolve() == path.resolve():
        raise ConfigError(f"rejects is {rejects}, the catalog itself; give another path")
    source = next((read for suffix, read in _SOURCES.items() if path.name.lower().endswith(suffix)), None)
    if source is None:
        raise CatalogError(str(path), None, None, f"unknown suffix; allowed are {', '.join(_SOURCES)}")
    total = path.stat().st_size

    def report(done: int) -> None:
        if progress is not None:
            progress(done, total)

    return CatalogReader(path, rejects if on_error == "skip" else None, source, report)


@dataclass
class CatalogReader:
    """Iterates over the products of a catalog; each ``iter`` reads the file anew, so run one at a time.

    ``n_read`` and ``n_rejected`` count the products yielded and the rows rejected by the latest iteration, so far.
    """

    path: Path
    rejects_path: Path | None
    _source: _Source
    _report: _Report
    n_read: int = 0
    n_rejected: int = 0

    def __iter__(self) -> Iterator[Product]:
        """The products. Raises CatalogError as described at ``read_catalog``."""
        self.n_read = self.n_rejected = 0
        seen: dict[bytes, int] = {}
        with _rejects(self.rejects_path) as reject:
            for line, row in self._source(self.path, self._report):
                if isinstance(row, Product):
                    digest = blake2b(row.product_id.encode(), digest_size=16).digest()
                    first = seen.setdefault(digest, line)
                    if first == line:
                        self.n_read += 1
                        yield row
                        continue
                    row = _Bad("product_id", f"{row.product_id!r} is a duplicate; the first is on line {first}", row)
                reason = row.reason + (_ROW_NOTE if self._source is _read_parquet else "")
                if self.rejects_path is None:
                    raise CatalogError(str(self.path), line, row.field, reason)
                self.n_rejected += 1
                reject({"line": line, "field": row.field, "reason": reason, "row": row.row})
        if self.n_read == 0:
            reason = f"none of its {self.n_rejected} rows is a product; the reasons are in {self.rejects_path}"
            raise CatalogError(str(self.path), None, None, reason if self.n_rejected else "it has no products")


@contextmanager
def _rejects(path: Path | None) -> Iterator[Callable[[dict[str, object]], None]]:
    """A writer of bad rows. Their file is moved to its place whole, also after an error, which they may explain."""
    if path is None:
        yield lambda row: None
        return
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:

        def reject(row: dict[str, object]) -> None:
            # enc_hook: a Parquet row can hold what JSON has no word for.
            file.write(msgspec.json.encode(row, enc_hook=str) + b"\n")

        try:
            yield reject
        finally:
            file.close()
            os.replace(part, path)


def _lines(path: Path, report: _Report) -> Iterator[tuple[int, bytes]]:
    """Lines with their number, from 1, without a byte order mark. One over ``_MAX_ROW`` bytes comes cut, but longer.

    Raises CatalogError if the file cannot be read to its end.
    """
    number = 0
    try:
        with path.open("rb") as raw:
            packed = path.name.lower().endswith(".gz")
            stream = io.BufferedReader(gzip.GzipFile(fileobj=raw), 1 << 18) if packed else raw
            while line := stream.readline(_MAX_ROW + 1):
                number += 1
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                rest = line
                while len(line) > _MAX_ROW and rest and not rest.endswith(b"\n"):
                    rest = stream.readline(_MAX_ROW)
                if number % _REPORT_EVERY == 0:
                    report(raw.tell())
                yield number, line
            report(raw.tell())
    except EOFError:
        raise CatalogError(str(path), None, None, f"the gzip file is cut short after line {number}") from None
    except (OSError, zlib.error) as error:
        raise CatalogError(str(path), None, None, f"it cannot be read after line {number}: {error}") from error


def _read_jsonl(path: Path, report: _Report) -> Iterator[_Row]:
    for number, line in _lines(path, report):
        if len(line) > _MAX_ROW:
            yield number, _Bad(None, f"longer than {_MAX_ROW} bytes", _lossy(line[:1000]))
        elif line and not line.isspace():
            try:
                yield number, msgspec.convert(_decode(line), Product, from_attributes=True)
            except _ROW_ERRORS as error:
                yield number, _second_look(line, error)


def _second_look(line: bytes, error: Exception) -> Product | _Bad:
    """The product if only nulls stood in the way, else the reason that there is none."""
    try:
        row = _typed(msgspec.json.decode(line))
    except _ROW_ERRORS:
        return _Bad(*_explain_broken(line, error), _lossy(line))
    if not isinstance(row, dict):
        return _Bad(None, f"expected a JSON object with one product, found {_show(row)}", _lossy(line))
    return _to_product(row, _lossy(line))


def _explain_broken(line: bytes, error: Exception) -> tuple[str | None, str]:
    """Field and reason for a line that is not JSON. The standard parser takes NaN, and so can name its field."""
    if isinstance(error, msgspec.ValidationError) and not str(error).startswith("Expected"):
        return _explain(error, {})
    try:
        row = json.loads(line.decode())
    except UnicodeDecodeError as broken:
        return None, f"broken UTF-8 at byte {broken.start + 1} of the line"
    except json.JSONDecodeError as broken:
        return None, f"invalid JSON at column {broken.colno}: {broken.msg}"
    except RecursionError:
        return None, "nested too deeply"
    except ValueError as broken:
        return None, f"invalid JSON: {broken}"
    for name, value in row.items() if isinstance(row, dict) else ():
        entries = {f"{name}.{key}": entry for key, entry in value.items()} if isinstance(value, dict) else {name: value}
        for field, entry in entries.items():
            if isinstance(entry, float) and not math.isfinite(entry):
                return field, f"is {entry}, which JSON does not have; leave the field out"
            if isinstance(entry, str) and not _passes(entry.encode):
                return field, "has half of a surrogate pair (\\ud800 to \\udfff), which is no character"
    return None, f"invalid JSON: {error}"


def _to_product(row: dict[str, Any], raw: object) -> Product | _Bad:
    try:
        return msgspec.convert(msgspec.convert(row, _StrictProduct), Product, from_attributes=True)
    except _ROW_ERRORS as error:
        return _Bad(*_explain(error, row), raw)


def _explain(error: Exception, row: dict[str, Any]) -> tuple[str | None, str]:
    """Field and reason of a failed validation, from msgspec's message and the values it was about."""
    message = str(error)
    if found := re.fullmatch(r"Object missing required field `(\w+)`", message):
        return found[1], "is missing; every product needs it"
    if found := re.fullmatch(r"Object contains unknown field `(.*)`", message, re.DOTALL):
        name = found[1][:100]
        near = [_ALIASES[name.lower()]] if name.lower() in _ALIASES else difflib.get_close_matches(name, _FIELDS, 1)
        hint = f"did you mean {near[0]!r}?" if near else 'what only some products have belongs in "attributes"'
        return name, f"unknown field; {hint}"
    found = re.search(r" - at `\$\.(\w+)(?:\[(\d+)\])?[^`]*`\Z", message)
    if found is None:
        found = re.fullmatch(r"(attributes\..*?|\w+) (is .*)", message, re.DOTALL)
        return (found[1], found[2]) if found else (None, message)
    field, item, value = found[1], found[2], row.get(found[1])
    if item is not None:
        value = value[int(item)] if isinstance(value, list | tuple) else value
    elif field == "attributes" and isinstance(value, dict):
        for key, entry in value.items():
            if not _passes(msgspec.convert, entry, AttributeValue):
                field, value = f"attributes.{key}", entry
                break
    expected = re.match(r"Expected `([^`]+)`", message)
    if expected is None:
        return field, message[: found.start()].lower()
    names = [_TYPE_NAMES.get(name, name) for name in expected[1].split(" | ") if name != "null"]
    quotes = "; write it in quotes" if names == ["text"] and isinstance(value, int | float) else ""
    place = "" if item is None else f" as item {int(item) + 1}"
    return field, f"expected {' or '.join(names)}, found {_show(value)}{place}{quotes}"


def _show(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str | int | float):
        text = repr(value)
        return f"{'text' if isinstance(value, str) else 'number'} {text if len(text) <= 60 else text[:60] + '…'}"
    return "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else type(value).__name__


def _passes(check: Callable[..., object], *arguments: object) -> bool:
    try:
        check(*arguments)
    except _ROW_ERRORS:
        return False
    return True


def _lossy(line: bytes) -> str:
    return line.decode(errors="replace").rstrip("\r\n")


def _split(separator: str) -> Callable[[str], list[str]]:
    return lambda cell: [part for part in map(str.strip, cell.split(separator)) if part]


def _number(cell: str) -> float | str:
    """The number, or the text unchanged, for the validation to complain about."""
    text = cell.strip()
    return float(text) if _NUMBER.fullmatch(text) else cell


def _whole(cell: Any) -> object:
    """As ``_number``; 12.0 is whole, for a table with missing cells writes whole numbers so."""
    value = _number(cell) if isinstance(cell, str) else cell
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _attribute(cell: str) -> AttributeValue:
    """A number if it reads as one and writes back as one: neither 007 nor 3E5, which are codes."""
    if cell.lower() in ("true", "false"):
        return cell.lower() == "true"
    if _PLAIN_NUMBER.fullmatch(cell):
        return float(cell) if "." in cell else int(cell)
    return cell


_LISTS: dict[str, Callable[[str], list[str]]] = {"category": _split(">"), "bullets": _split("|"), "ean": _split("|")}
_NUMBERS = {"price": _number, "rating": _number, "popularity": _number, "rating_count": _whole}


def _typed(value: Any) -> Any:
    """A value as a product has it: no nulls, and of what Parquet has only the types that JSON has too."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, list) and value and all(isinstance(x, tuple) and isinstance(x[0], str) for x in value):
        value = dict(value)  # a map column arrives as pairs
    if isinstance(value, dict):
        return {key: _typed(entry) for key, entry in value.items() if entry is not None}
    return value


def _columns(path: Path, line: int | None, names: list[str], *, typed: bool) -> list[_Column]:
    """What to do with each column. Raises CatalogError if the names cannot be those of a catalog."""
    if not all(_passes(name.encode) for name in names):
        raise CatalogError(str(path), line, None, "broken UTF-8 in the column names")
    for name in ("product_id", "title"):
        if name not in names:
            reason = f"there is no such column; the columns are {', '.join(map(repr, names))[:500]}"
            raise CatalogError(str(path), line, name, reason)
    columns: dict[tuple[str, bool], _Column] = {}
    for place, name in enumerate(names, 1):
        column = _column(name, typed=typed)
        if not column.name:
            raise CatalogError(str(path), line, None, f"column {place} has no name")
        if (key := column[:2]) in columns:
            raise CatalogError(str(path), line, name, f"column {place} repeats an earlier column")
        columns[key] = column
    return list(columns.values())


def _column(name: str, *, typed: bool) -> _Column:
    if name not in _FIELDS:
        return _Column(name.removeprefix("attributes."), True, _typed if typed else _attribute)
    if name in _LISTS:
        return _Column(name, False, lambda cell: _LISTS[name](cell) if isinstance(cell, str) else cell)
    if typed:
        return _Column(name, False, _whole if name == "rating_count" else _typed)
    return _Column(name, False, _NUMBERS.get(name, str))


def _assemble(columns: list[_Column], cells: list[Any]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    attributes: dict[str, Any] = {}
    for (name, is_attribute, parse), cell in zip(columns, cells, strict=True):
        if cell is not None and not (isinstance(cell, str) and not cell.strip()):
            (attributes if is_attribute else row)[name] = parse(cell)
    if attributes and isinstance(row.setdefault("attributes", {}), dict):
        row["attributes"] |= attributes
    return row


class _Record:
    """Feeds csv.reader, and keeps the text of the record being read.

    Raises CatalogError from a record over ``_MAX_ROW``: a quote that is never closed would swallow the file.
    """

    def __init__(self, path: Path, report: _Report) -> None:
        self.start, self.at_end = 1, False
        self._size, self._parts = 0, list[bytes]()
        self._path, self._lines = path, _lines(path, report)

    def __iter__(self) -> Iterator[str]:
        for _, line in self._lines:
            self._parts.append(line)
            self._size += len(line)
            if self._size > _MAX_ROW:
                reason = f"the row is longer than {_MAX_ROW} bytes; is a quote never closed?"
                raise CatalogError(str(self._path), self.start, None, reason)
            yield line.decode(errors="surrogateescape")
        self.at_end = True

    def begin(self, line: int) -> None:
        self.start, self._size = line, 0
        self._parts.clear()

    def text(self) -> str:
        return _lossy(b"".join(self._parts))


def _read_csv(path: Path, report: _Report) -> Iterator[_Row]:
    # The limit belongs to the whole process and guards memory, which _Record does here; so it is only ever raised.
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_ROW))
    record = _Record(path, report)
    tabs = path.name.lower().endswith((".tsv", ".tsv.gz"))
    reader = csv.reader(record, delimiter="\t" if tabs else ",", strict=True)
    columns: list[_Column] = []
    while True:
        record.begin(reader.line_num + 1)
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if record.at_end or not columns:
                reason = "a quote is opened and never closed" if record.at_end else f"malformed header: {error}"
                raise CatalogError(str(path), record.start, None, reason) from error
            yield record.start, _Bad(None, f"malformed CSV: {error}", record.text())
            continue
        if not cells or (len(cells) == 1 and not cells[0].strip()):
            continue
        if columns:
            yield record.start, _csv_row(columns, cells, record)
        else:
            columns = _columns(path, record.start, [cell.strip() for cell in cells], typed=False)


def _csv_row(columns: list[_Column], cells: list[str], record: _Record) -> Product | _Bad:
    if len(cells) != len(columns):
        return _Bad(None, f"{len(cells)} columns, but the header has {len(columns)}", record.text())
    for column, cell in zip(columns, cells, strict=True):
        if not (cell.isascii() or _passes(cell.encode)):
            return _Bad(column.name, "broken UTF-8", record.text())
    product = _to_product(_assemble(columns, cells), None)
    return product._replace(row=record.text()) if isinstance(product, _Bad) else product


def _read_parquet(path: Path, report: _Report) -> Iterator[_Row]:
    """As the other readers; the number is the row's, for Parquet has no lines."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError("parquet", "pyarrow") from error
    number = 0
    try:
        total = path.stat().st_size
        with pq.ParquetFile(path) as file:
            # pandas stores its row labels as such a column.
            names = [name for name in file.schema_arrow.names if not name.startswith("__index_level_")]
            columns = _columns(path, None, names, typed=True)
            for batch in file.iter_batches(batch_size=_REPORT_EVERY):
                for row in _parquet_rows(batch):
                    number += 1
                    if isinstance(row, _Bad):
                        yield number, row
                    else:
                        yield number, _to_product(_assemble(columns, [row[name] for name in names]), row)
                report(total * number // max(1, file.metadata.num_rows))
    except (pa.ArrowException, ValueError, OSError) as error:  # ValueError: column names in broken UTF-8
        raise CatalogError(str(path), None, None, f"it cannot be read after row {number}: {error}") from error


def _parquet_rows(batch: Any) -> Iterator[dict[str, Any] | _Bad]:
    try:
        yield from batch.to_pylist()
    except _ROW_ERRORS as error:
        if batch.num_rows == 1:
            yield _Bad(None, f"it cannot be decoded: {error}", None)
        else:  # one by one, to find the row that cannot be decoded
            for place in range(batch.num_rows):
                yield from _parquet_rows(batch.slice(place, 1))


_SOURCES: dict[str, _Source] = {".jsonl": _read_jsonl, ".ndjson": _read_jsonl, ".csv": _read_csv, ".tsv": _read_csv}
_SOURCES |= {f"{suffix}.gz": source for suffix, source in _SOURCES.items()}
_SOURCES[".parquet"] = _read_parquet
