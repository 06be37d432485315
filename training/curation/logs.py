"""Click logs: what was shown for a query, where, and what was clicked.

A log is tab-separated with a head (.tsv), or JSON lines (.jsonl), gzipped where the name ends in ``.gz``. A row is one
product that was shown, with ``query`` and ``product_id`` and perhaps

- ``clicked`` and ``purchased``: 0 or 1, true or false; without a column ``clicked`` every row is a click;
- ``position``: where it was shown, from 1;
- ``session``: whose it was, a session or a user;
- ``time``: seconds since 1970, or ISO 8601.

In JSON lines a row may also be a whole page: ``products`` has the ids in the order they were shown, from position 1,
and ``clicked`` and ``purchased`` have lists of those ids. Other columns are ignored.
"""

from __future__ import annotations

import datetime
import math
from array import array
from collections.abc import Callable, Iterator, Mapping, Set
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from training.curation.rows import NO_POSITION, NO_SESSION, Impressions
from training.data.examples import ExamplesError, numbered_lines

COLUMNS = ("query", "product_id", "products", "clicked", "purchased", "position", "session", "time")

_FLAGS: Mapping[object, bool] = {"0": False, "1": True, "false": False, "true": True, False: False, True: True}
# The columns of Impressions, with the type code of their arrays.
_ARRAYS = {
    "query": "i", "product": "i", "session": "q", "position": "i", "clicked": "b", "purchased": "b", "time": "d",
    "file": "i", "line": "q",
}  # fmt: skip
_FORMS = (".tsv", ".tsv.gz", ".jsonl", ".jsonl.gz")
_MAX_POSITION = 1_000_000

Row = dict[str, Any]
_Bad = Callable[[str | None, str], ExamplesError]


class _Shown(NamedTuple):
    product_id: str
    position: int
    clicked: bool
    purchased: bool


class _Page(NamedTuple):
    query: str
    session: str
    time: float
    shown: list[_Shown]


class LogReader:
    """Gathers the rows of one log after another; ``impressions`` are those read so far, in order."""

    def __init__(self) -> None:
        self._queries: dict[str, int] = {}
        self._products: dict[str, int] = {}
        self._sessions: dict[str, int] = {}
        self._columns: dict[str, array[Any]] = {name: array(kind) for name, kind in _ARRAYS.items()}

    def read(
        self, path: str, file: int, columns: Mapping[str, str], known: Set[str], catalog: str, on_bad: _OnBad | None
    ) -> list[int]:
        """Adds a log's rows; ``columns`` gives a column of ``COLUMNS`` the name that it has in the log.

        ``file`` is what rows call the log. Products that are not ``known``, those of ``catalog``, are left out; returns
        the line of each, as often as a line has some. A row that cannot be used goes to ``on_bad``
        with its error, or that is raised: ExamplesError naming line, field and remedy.
        """
        unknown: list[int] = []
        n_before = len(self._columns["line"])
        for number, row in _rows(path, columns):
            try:
                page = _page(row, _bad_at(path, number))
            except ExamplesError as error:
                if on_bad is None:
                    raise
                on_bad(number, error)
                continue
            unknown += [number] * self._add(page, file, number, known)
        if len(self._columns["line"]) == n_before:
            raise ExamplesError(
                path, None, None, f"it has no row that shows a product of {catalog}; is it its catalog?"
            )
        return unknown

    def _add(self, page: _Page, file: int, line: int, known: Set[str]) -> int:
        """Adds a page's rows; returns how many it left out."""
        query = self._queries.setdefault(page.query, len(self._queries))
        session = self._sessions.setdefault(page.session, len(self._sessions)) if page.session else NO_SESSION
        n_unknown = 0
        for product_id, position, clicked, purchased in page.shown:
            if product_id not in known:
                n_unknown += 1
                continue
            product = self._products.setdefault(product_id, len(self._products))
            values = (query, product, session, position, clicked, purchased, page.time, file, line)
            for column, value in zip(self._columns.values(), values, strict=True):
                column.append(value)
        return n_unknown

    def impressions(self) -> Impressions:
        columns = {name: np.array(column) for name, column in self._columns.items()}
        for name in ("clicked", "purchased"):
            columns[name] = columns[name].astype(np.bool_)
        return Impressions(queries=tuple(self._queries), product_ids=tuple(self._products), **columns)


_OnBad = Callable[[int, ExamplesError], None]


def _bad_at(path: str, number: int) -> _Bad:
    return lambda field, reason: ExamplesError(path, number, field, reason)


def _rows(path: str, columns: Mapping[str, str]) -> Iterator[tuple[int, Row | ExamplesError]]:
    """Rows by our names for columns, or what is wrong with them."""
    if not path.lower().endswith(_FORMS):
        raise ExamplesError(path, None, None, f"unknown suffix; a log is {', '.join(_FORMS)}")
    ours = {columns.get(name, name): name for name in COLUMNS}
    if Path(path.lower().removesuffix(".gz")).suffix == ".jsonl":
        for number, line in numbered_lines(Path(path)):
            if not line.isspace():
                row = _json(line, _bad_at(path, number))
                yield number, row if isinstance(row, ExamplesError) else _named(row, ours)
        return
    head: list[str] = []
    for number, line in numbered_lines(Path(path)):
        cells = line.decode("utf-8-sig", errors="replace").rstrip("\r\n").split("\t")
        if not head:
            head = cells
            for name in ("query", "product_id"):
                if columns.get(name, name) not in head:
                    raise _no_column(path, number, columns.get(name, name), name, head)
        elif len(cells) == len(head):
            yield number, _named(dict(zip(head, cells, strict=True)), ours)
        elif not line.isspace():
            yield number, ExamplesError(path, number, None, f"it has {len(cells)} columns, the head {len(head)}")


def _json(line: bytes, bad: _Bad) -> Row | ExamplesError:
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return bad(None, f"not a JSON object: {error}")


def _named(row: Row, ours: Mapping[str, str]) -> Row:
    return {ours[name]: value for name, value in row.items() if name in ours and value not in (None, "")}


def _no_column(path: str, number: int, wanted: str, name: str, head: list[str]) -> ExamplesError:
    reason = f'there is no such column; the head has {", ".join(head)[:200]}. Name it: columns = {{ {name} = "…" }}'
    return ExamplesError(path, number, wanted, reason)


def _page(row: Row | ExamplesError, bad: _Bad) -> _Page:
    """Raises ExamplesError."""
    if isinstance(row, ExamplesError):
        raise row
    query = row.get("query")
    if not isinstance(query, str) or not query.strip():
        raise bad("query", "is missing; every row needs what was searched for")
    session = row.get("session", "")
    if isinstance(session, bool) or not isinstance(session, str | int):
        raise bad("session", f"is {_shown(session)}; it must be a text or a whole number")
    shown = _list(row, bad) if "products" in row else [_one(row, bad)]
    return _Page(query.strip(), str(session).strip(), _time(row.get("time"), bad), shown)


def _one(row: Row, bad: _Bad) -> _Shown:
    product_id = row.get("product_id")
    if isinstance(product_id, bool) or not isinstance(product_id, str | int):
        raise bad("product_id", "is missing; every row needs the product that was shown, or products, a list of them")
    flags = []
    for name, default in (("clicked", "clicked" not in row), ("purchased", False)):
        value = row.get(name, default)
        key = value.lower() if isinstance(value, str) else value
        if not isinstance(key, str | int) or key not in _FLAGS:
            raise bad(name, f"is {_shown(value)}; it must be 0 or 1, false or true")
        flags.append(_FLAGS[key])
    return _Shown(str(product_id).strip(), _position(row.get("position"), bad), *flags)


def _list(row: Row, bad: _Bad) -> list[_Shown]:
    ids: dict[str, list[str]] = {}
    for name in ("products", "clicked", "purchased"):
        value = row.get(name, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise bad(name, f"is {_shown(value)}; beside products it must be a list of product ids")
        ids[name] = value
    for name in ("clicked", "purchased"):
        absent = set(ids[name]) - set(ids["products"])
        if absent:
            raise bad(name, f"{min(absent)!r} is not among products; name there all that were shown")
    return [
        _Shown(product_id, place, product_id in ids["clicked"], product_id in ids["purchased"])
        for place, product_id in enumerate(ids["products"], 1)
    ]


def _position(value: object, bad: _Bad) -> int:
    if value is None:
        return NO_POSITION
    try:
        position = float(str(value))
    except ValueError:
        position = math.nan
    if not (1 <= position <= _MAX_POSITION and position.is_integer()):
        raise bad("position", f"is {_shown(value)}; it must be a whole number from 1, the place on the page")
    return int(position)


def _time(value: object, bad: _Bad) -> float:
    if value is None:
        return math.nan
    text = str(value)
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = datetime.datetime.fromisoformat(text)
            seconds = moment.replace(tzinfo=moment.tzinfo or datetime.UTC).timestamp()
        except (ValueError, OverflowError):
            seconds = math.nan
    if not math.isfinite(seconds):
        raise bad("time", f"is {_shown(value)}; it must be seconds since 1970 or ISO 8601, as 2025-01-31T12:00:00Z")
    return seconds


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
