"""Queries that nobody judged: a .tsv, or a file of examples (.jsonl, also .gz) of which only the queries count.

A .tsv has a head with a column ``query``, or no head and rows of ``query`` or ``query<TAB>locale``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from training.examples import ExamplesError, numbered_lines

_WITHOUT_HEAD = ["query", "locale"]


def read_queries(path: str, where: Mapping[str, Sequence[str | bool | int]]) -> list[str]:
    """Each query once, in the file's order; ``where`` keeps the rows of which every field named has one of the values.

    Raises ExamplesError naming the line of a row without a query or with too many columns, and on a file without rows.
    """
    queries: dict[str, None] = {}
    for number, row in _json_rows(path) if ".jsonl" in Path(path).suffixes else _columns(path):
        query = row.get("query")
        if not isinstance(query, str) or not query.strip():
            raise ExamplesError(path, number, "query", "is missing; every row needs one")
        if all(row.get(name) in values for name, values in where.items()):
            queries[query.strip()] = None
    if not queries:
        reason = f" where {dict(where)}" if where else "; give one a line"
        raise ExamplesError(path, None, None, f"it has no queries{reason}")
    return list(queries)


def _json_rows(path: str) -> Iterator[tuple[int, dict[str, Any]]]:
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    for number, line in numbered_lines(Path(path)):
        if line.isspace():
            continue
        try:
            yield number, decode(line)
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
