"""Product types that titles name, as those of data sheets do: lower-case phrases such as ``wireless router``.

A phrase is a run of lower-case words; what follows a preposition in it says something else. It is a type when

- it is frequent, and over several brands: a word of one brand's line is no type;
- its last word is a noun that names things: it ends a name of a given taxonomy or, without one, the catalog has it in
  singular and plural, or ending several such phrases, or the phrase has several words;
- it is no value: few products that are called so have it as an attribute's value too (``white``);
- it is no qualifier: it does not mostly stand beside another type (``mounting`` … ``mounting kit``).

Words that follow bare numbers are units, and no part of a phrase (``1000 sheets``).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from pathlib import Path

from engine.analysis.analyzer import STOP_WORDS, Analyzer, fold
from engine.analysis.units import UNITS
from engine.errors import CatalogError
from engine.product import Product
from engine.text import plain

_MAX_TITLE = 400  # characters; what comes later is no name
_MIN_LETTERS = 3
_LEAST_PRODUCTS, _LEAST_BRANDS = 5, 2
_ENOUGH_PRODUCTS = 10  # for a phrase of one brand, or of a catalog without brands
_MOST_VALUES = 0.3  # of a type's products may have its name as an attribute's value
_MOST_BESIDE = 0.5  # of a type's titles may hold another type too
_UNIT_SHARE = 0.6  # of a unit's uses as a phrase of its own stand behind a number
_PART = re.compile(r"\s*(?:[/&,|]|\band\b)\s*", re.IGNORECASE)
_PARENTHESES = re.compile(r"\([^()]{0,200}\)")
_LEADING_ID = re.compile(r"^\s*\d+\s*-\s*")  # of Google's taxonomy with ids

_Run = tuple[list[str], str]  # lower-case words, and the token before them


def name_parts(name: str) -> list[str]:
    """The names in a name, lower case: ``Jugs & Carafes (Glass)`` are ``jugs`` and ``carafes``."""
    return [part for part in _PART.split(_PARENTHESES.sub(" ", fold(name)).lower().strip()) if part]


def head(part: str, analyzer: Analyzer) -> str:
    """The stem of the last word before a stop word, which says what a thing is: of ``phones with plans`` the first.

    Empty where there is none.
    """
    words = list(takewhile(lambda word: word not in STOP_WORDS, analyzer.words(part)))
    return analyzer.terms(words[-1])[-1] if words else ""


def read_heads(path: str | Path, analyzer: Analyzer) -> frozenset[str]:
    """Stems that end a name in a taxonomy file: a path a line, ``A > B > C``, with or without ``ID - `` before it.

    Lines that begin with ``#`` are comments. Raises CatalogError on a file that cannot be read or names nothing.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogError(str(path), None, None, f"the taxonomy cannot be read: {error}") from error
    names = (_LEADING_ID.sub("", line).rpartition(">")[2] for line in lines if not line.startswith("#"))
    heads = {head(part, analyzer) for name in names for part in name_parts(name)} - {""}
    if not heads:
        raise CatalogError(str(path), None, None, "the taxonomy has no names; write one path a line, as A > B > C")
    return frozenset(heads)


def title_types(products: Sequence[Product], heads: frozenset[str] | None, analyzer: Analyzer) -> list[str | None]:
    """For each product the type its title names, None where it names none.

    ``heads`` are the stems that may end a type's name, None to tell them from the catalog itself. Where a title names
    several types, the one with most words wins, then the more frequent.
    """
    phrases = _phrases(products)
    counts = Counter(phrase for named in phrases for phrase in named)
    accepted = _frequent(products, phrases, counts)
    accepted = {phrase for phrase in accepted if head(phrase, analyzer) in heads} if heads is not None else (
        _noun_phrases(accepted, products, analyzer)
    )  # fmt: skip
    accepted -= _values(products, phrases, counts)

    ranks = {phrase: (len(re.split(r"[ /]", phrase)), counts[phrase], phrase) for phrase in accepted}
    accepted -= _qualifiers(ranks, phrases, counts, analyzer)
    return [
        max((phrase for phrase in named if phrase in accepted), key=ranks.__getitem__, default=None)
        for named in phrases
    ]


def _phrases(products: Sequence[Product]) -> list[list[str]]:
    """Each title's phrases, in order, each once."""
    runs = [list(_runs(fold(plain(product.title))[:_MAX_TITLE])) for product in products]
    units = _units(run for found in runs for run in found)
    out = []
    for found in runs:
        phrases = [" ".join(_without_unit(words, before, units)).strip(" &") for words, before in found]
        out.append(list(dict.fromkeys(phrase for phrase in phrases if len(phrase) >= _MIN_LETTERS)))
    return out


def _runs(title: str) -> Iterator[_Run]:
    """Runs of lower-case words, up to a stop word, with the token before each. A comma ends a run."""
    words: list[str] = []
    before = previous = ""
    ended = False
    for token in title.split():
        word = token.rstrip(",;.:")
        if not _is_plain(word) and not (word == "&" and words):
            yield from [(words, before)] if words else []
            words, ended = [], False
        elif word in STOP_WORDS or ended:
            ended = True
        else:
            before = before if words else previous
            words.append(word)
        if words and word != token:
            yield words, before
            words, ended = [], False
        previous = token
    if words:
        yield words, before


def _is_plain(word: str) -> bool:
    pieces = re.split(r"[/'&-]", word)
    return len(word) > 1 and word.islower() and pieces[0] != "" and all(not p or p.isalpha() for p in pieces)


def _units(runs: Iterable[_Run]) -> frozenset[str]:
    """Words that, standing alone, mostly follow a bare number."""
    alone: Counter[str] = Counter()
    counted: Counter[str] = Counter()
    for words, before in runs:
        if len(words) == 1:
            alone[words[0]] += 1
            counted[words[0]] += _is_number(before)
    return frozenset(w for w, n in alone.items() if n >= _LEAST_PRODUCTS and counted[w] >= _UNIT_SHARE * n)


def _is_number(token: str) -> bool:
    return token.replace(".", "").replace(",", "").isdigit()


def _without_unit(words: list[str], before: str, units: frozenset[str]) -> list[str]:
    is_unit = (words[0] in units and _is_number(before)) or (words[0] in UNITS and before[-1:].isdigit())
    return words[1:] if is_unit else words


def _frequent(products: Sequence[Product], phrases: list[list[str]], counts: Counter[str]) -> set[str]:
    brands: defaultdict[str, set[str]] = defaultdict(set)
    for product, named in zip(products, phrases, strict=True):
        for phrase in named:
            brands[phrase].add(product.brand.casefold())
    return {
        phrase
        for phrase, n in counts.items()
        if n >= _LEAST_PRODUCTS and (len(brands[phrase]) >= _LEAST_BRANDS or n >= _ENOUGH_PRODUCTS)
    }


def _noun_phrases(accepted: set[str], products: Sequence[Product], analyzer: Analyzer) -> set[str]:
    """Those whose last word the catalog has in two forms, or after several other words, or that have several words."""
    forms: defaultdict[str, set[str]] = defaultdict(set)
    for product in products:
        for word in analyzer.words(f"{plain(product.title)} {plain(product.description)}"):
            forms[head(word, analyzer)].add(word)
    ends = Counter(head(phrase, analyzer) for phrase in accepted)

    def is_noun(phrase: str) -> bool:
        stem, word = head(phrase, analyzer), re.split(r"[ /-]", phrase)[-1]
        singular = word.removesuffix("s")
        return " " in phrase or ends[stem] > 1 or {singular, f"{singular}s"} <= forms[stem]

    return {phrase for phrase in accepted if is_noun(phrase)}


def _values(products: Sequence[Product], phrases: list[list[str]], counts: Counter[str]) -> set[str]:
    """Phrases that are what an attribute of their own product says, unless the attribute says its type."""
    said: Counter[str] = Counter()
    for product, named in zip(products, phrases, strict=True):
        values = set()
        for name, value in product.attributes.items():
            if name.rpartition("_")[2] not in ("type", "category"):
                values |= {v.casefold() for v in (value if isinstance(value, list) else [value]) if isinstance(v, str)}
        said.update(phrase for phrase in named if phrase in values)
    return {phrase for phrase, n in said.items() if n >= _MOST_VALUES * counts[phrase]}


def _qualifiers(
    ranks: dict[str, tuple[int, int, str]], phrases: list[list[str]], counts: Counter[str], analyzer: Analyzer
) -> set[str]:
    """Phrases that mostly stand beside one that is longer or more frequent, and is not a kind of the same thing."""
    heads = {phrase: head(phrase, analyzer) for phrase in ranks}
    beside: Counter[str] = Counter()
    for named in phrases:
        types = [phrase for phrase in named if phrase in ranks]
        for phrase in types:
            beside[phrase] += any(heads[t] != heads[phrase] and ranks[t] > ranks[phrase] for t in types)
    return {phrase for phrase, n in beside.items() if n > _MOST_BESIDE * counts[phrase]}
