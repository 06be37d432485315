"""The phrases of a catalog that are worth suggesting, with how likely each is to be asked for.

Brands, categories, models, and runs of words that several titles have; with a log, queries. All lower case and without
accents, as words are compared.
"""

from __future__ import annotations

import gzip
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import msgspec

from engine.analysis.analyzer import STOP_WORDS
from engine.errors import CatalogError, ConfigError
from engine.fitted import Fitted
from engine.product import Product
from engine.text import plain
from engine.understanding.words import tokens

Kind = Literal["phrase", "brand", "type", "query"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_BREAK = re.compile(r"[,|;:()\[\]{}•–—/!?+&]|\s-\s|\.\s")
_PERSONAL = re.compile(r"@|\d[\d\s().-]{7,}\d")  # mail addresses, and numbers as long as telephones'
_LONGEST_QUERY = 80  # characters
_MOST_COUNTED = 4_000_000  # runs of words in memory while they are counted


class SuggestionNumbers(Fitted, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``suggestions.toml``, which says what each is."""

    longest: int
    first_words: int
    least_count: int
    most_phrases: int
    open_share: float
    query_gain: float
    least_asked: int
    inside: float
    apart: float
    composed: float
    slip: float


NUMBERS = SuggestionNumbers.read(Path(__file__).with_name("suggestions.toml"))


class Phrase(NamedTuple):
    """``weight`` is higher for the likelier of two phrases."""

    text: str
    kind: Kind
    weight: float


def key(text: str) -> str:
    """Words as they are compared and suggested: lower case, without accents and signs, a space apart."""
    return " ".join(token.text for token in tokens(text))


class PhraseBuilder:
    """Collects phrases, product by product; ``phrases`` gives them. Memory is bounded: the rarest runs of words are
    forgotten where there are millions.
    """

    def __init__(self, numbers: SuggestionNumbers = NUMBERS) -> None:
        self._numbers = numbers
        self._runs: Counter[tuple[str, ...]] = Counter()
        self._brands: Counter[str] = Counter()
        self._types: Counter[str] = Counter()

    def add(self, product: Product) -> None:
        """Adds one product."""
        self._runs.update(set(self._runs_of(product.title)))
        if brand := key(product.brand):
            self._brands[brand] += 1
        for name in product.category[-2:]:
            if kind := key(name):
                self._types[kind] += 1
        if len(self._runs) > _MOST_COUNTED:
            self._runs = Counter({run: n for run, n in self._runs.items() if n > 1})

    def phrases(self, queries: Mapping[str, int] | None = None) -> list[Phrase]:
        """The phrases, the likeliest first, then by text; ``queries`` say how often each was asked."""
        numbers = self._numbers
        best: dict[str, Phrase] = {}

        def offer(text: str, kind: Kind, weight: float) -> None:
            # What is a brand or a type as well as a run of words is the former.
            weight = max(weight, best[text].weight) if text in best else weight
            best[text] = Phrase(text, kind, weight)

        opened = self._opened()
        for run, count in self._runs.items():
            if count >= numbers.least_count and run not in opened:
                offer(" ".join(run), "phrase", math.log(count))
        for text, count in self._brands.items():
            offer(text, "brand", math.log(count))
        for text, count in self._types.items():
            offer(text, "type", math.log(count))
        for text, count in (queries or {}).items():
            if count >= numbers.least_asked:
                offer(text, "query", math.log(count) + numbers.query_gain)
        ordered = sorted(best.values(), key=lambda phrase: (-phrase.weight, phrase.text))
        return ordered[: numbers.most_phrases]

    def _runs_of(self, title: str) -> Iterator[tuple[str, ...]]:
        """Runs of words between signs that neither begin nor end with a word such as "with"."""
        left = self._numbers.first_words
        for part in _BREAK.split(plain(title)):
            words = [token.text for token in tokens(part)][:left]
            left -= len(words)
            for start, first in enumerate(words):
                if first in STOP_WORDS:
                    continue
                for end in range(start + 1, min(start + self._numbers.longest, len(words)) + 1):
                    if words[end - 1] not in STOP_WORDS:
                        yield tuple(words[start:end])

    def _opened(self) -> set[tuple[str, ...]]:
        """Runs that go on with one word nearly always, and so are no phrase of their own: ``galaxy z``."""
        share = self._numbers.open_share
        return {
            run[:-1]
            for run, count in self._runs.items()
            if len(run) > 2 and count >= self._numbers.least_count and count >= share * self._runs[run[:-1]]
        }


def read_queries(path: str | Path) -> dict[str, int]:
    """How often each query of a log was asked, by its words as they are compared.

    A line is ``QUERY`` or ``QUERY<TAB>COUNT``; in a file whose name ends in .jsonl a JSON object with ``query``, as
    ``engine.log`` writes them; either with .gz. Queries with a mail address or a long number, and texts too long to be
    suggested, are left out. Raises ConfigError on no file, and CatalogError naming a bad line.
    """
    path = Path(path)
    counts: Counter[str] = Counter()
    read = _json_lines if path.name.removesuffix(".gz").endswith(".jsonl") else _plain_lines
    for text, count in read(path):
        if len(text) <= _LONGEST_QUERY and not _PERSONAL.search(text):
            counts[key(text)] += count
    counts.pop("", None)
    return dict(counts)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield from enumerate(file, 1)
    except (OSError, EOFError) as error:
        raise ConfigError(f"cannot read the queries {path}: {error}") from error


def _plain_lines(path: Path) -> Iterator[tuple[str, int]]:
    for number, line in _lines(path):
        try:
            text, _, count = line.decode("utf-8-sig").rstrip("\r\n").partition("\t")
            if text.strip():
                yield text, _counted(count or "1")
        except ValueError as error:
            raise CatalogError(str(path), number, None, f"write QUERY or QUERY<TAB>COUNT; {error}") from None


def _json_lines(path: Path) -> Iterator[tuple[str, int]]:
    for number, line in _lines(path):
        if line.isspace():
            continue
        try:
            yield _LOGGED(line).query, 1
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise CatalogError(str(path), number, "query", str(error)) from None


def _counted(text: str) -> int:
    if not text.strip().isdigit():
        raise ValueError(f"{text[:20]!r} is no count")
    return int(text)


class _Logged(msgspec.Struct):
    query: str


_LOGGED = msgspec.json.Decoder(_Logged).decode
