"""From a log's events to rows that training reads: each product that was shown, where, and whether it was clicked."""

from __future__ import annotations

import gzip
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import msgspec

from engine.errors import ConfigError
from engine.feedback_log import SUFFIX, Event


class Logged(msgspec.Struct, frozen=True, kw_only=True):
    """One event, as ``engine.feedback_log`` writes it."""

    event: Event
    id: str
    time: float
    query: str = ""
    products: tuple[str, ...] = ()
    offset: int = 0
    product_id: str = ""
    session: str = ""
    version: str = ""
    rules: tuple[str, ...] = ()
    experiment: str = ""
    arm: str = ""
    teams: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """A page with all that was done on it: ids of products, each once."""

    shown: Logged
    clicked: frozenset[str]
    purchased: frozenset[str]


@dataclass(slots=True)
class Counts:
    """What was read, and what could not be used: lines that are no event (such as the last one of a process that was
    killed), and clicks on pages, or on products, that nobody was shown.
    """

    pages: int = 0
    clicks: int = 0
    lines: int = 0
    bad_lines: int = 0
    stray_clicks: int = 0
    bad: list[str] = field(default_factory=list)


def read_pages(directory: str | Path, counts: Counts) -> Iterator[Page]:
    """The pages of a log, by time within a file, with the clicks of all files; ``counts`` are filled in.

    Reads all files twice; in memory stay the clicks. Raises ConfigError where the directory has no log.
    """
    files = _files(Path(directory))
    done: dict[str, set[tuple[Event, str]]] = {}
    for logged in _events(files, counts):
        if logged.event != "shown":
            done.setdefault(logged.id, set()).add((logged.event, logged.product_id))
    n_done = sum(map(len, done.values()))
    counts.lines, counts.bad_lines, counts.bad = 0, 0, []
    for logged in _events(files, counts):
        if logged.event != "shown":
            continue
        on_page = {one for one in done.pop(logged.id, ()) if one[1] in logged.products}
        clicked, purchased = (
            frozenset(product for event, product in on_page if event == name) for name in ("clicked", "purchased")
        )
        counts.pages += 1
        counts.clicks += len(clicked)
        n_done -= len(on_page)
        yield Page(logged, clicked, purchased)
    counts.stray_clicks = n_done


def write_rows(directory: str | Path, out: str | Path) -> Counts:
    """Writes a row for each product of each page, as JSON lines that ``aisle curate`` and ``aisle train`` both read.

    A purchase counts as a click. ``out`` appears whole or not at all; with .gz it is compressed. Raises ConfigError.
    """
    counts = Counts()
    with _whole(Path(out)) as file:
        for page in read_pages(directory, counts):
            for place, product_id in enumerate(page.shown.products, 1):
                clicked = int(product_id in page.clicked or product_id in page.purchased)
                row: dict[str, Any] = {
                    "query": page.shown.query, "product_id": product_id, "position": page.shown.offset + place,
                    "clicked": clicked, "purchased": int(product_id in page.purchased), "clicks": clicked,
                    "impressions": 1, "time": page.shown.time, "id": page.shown.id,
                }  # fmt: skip
                row |= {"session": page.shown.session} if page.shown.session else {}
                file.write(msgspec.json.encode(row) + b"\n")
    return counts


def write_queries(directory: str | Path, out: str | Path) -> Counts:
    """Writes how often each query was searched for, the most frequent first, as QUERY<TAB>COUNT lines.

    Pages after the first count nothing. Raises ConfigError.
    """
    counts, asked = Counts(), Counter[str]()
    for page in read_pages(directory, counts):
        if not page.shown.offset:
            asked[" ".join(page.shown.query.split())] += 1
    del asked[""]
    with _whole(Path(out)) as file:
        for query, count in sorted(asked.items(), key=lambda one: (-one[1], one[0])):
            file.write(f"{query}\t{count}\n".encode())
    return counts


def _files(directory: Path) -> Sequence[Path]:
    files = sorted(directory.glob(f"*{SUFFIX}"))
    if not files:
        state = "has no log" if directory.is_dir() else "is no directory"
        raise ConfigError(f"{directory} {state}; name the one that the setting log names, with files *{SUFFIX}")
    return files


def _events(files: Sequence[Path], counts: Counts) -> Iterator[Logged]:
    decode = msgspec.json.Decoder(Logged).decode
    for path in files:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                counts.lines += 1
                try:
                    yield decode(line)
                except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                    counts.bad_lines += 1
                    if len(counts.bad) < 3:
                        counts.bad.append(f"{path.name}, line {number}: {error}")


@contextmanager
def _whole(path: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    """A file that takes its name when all is written, and leaves nothing behind on an error."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with gzip.open(part, "wb") if path.suffix == ".gz" else part.open("wb") as file:
            yield file
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
