"""Queries made from a catalog alone, each with candidates that rules have labelled. None was typed by a shopper.

Candidates are what the engine finds, so the wrong ones among them are those a reranker will meet; beside them stand
products of the same line that differ in one decisive thing, others of the type asked for, and one at random.
"""

from __future__ import annotations

import gzip
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import msgspec

from engine.analysis.analyzer import Analyzer
from engine.analysis.units import UNITS
from engine.errors import ConfigError
from engine.product import Product
from engine.search import SearchEngine
from qpt.product_types import ProductTypes
from training.data.judging import Judge, Want
from training.data.shelf import Shelf, Words, is_short, read_measures

T = TypeVar("T")

#: Of a hundred queries. Where a catalog has nothing for a kind, the others get its share.
KINDS = {
    "type": 16, "brand": 13, "attribute": 12, "words": 13, "measure": 8, "negation": 5, "for": 6, "device": 3,
    "code": 6, "title": 18,
}  # fmt: skip
_RETRIEVED = 60
_TRIES = 40  # products looked at for one query of a kind
_FRUITLESS = 400  # queries in a row that came to nothing
_LENGTHS = range(3, 71)  # characters of a query
_ANY_PRODUCT = 0.35  # of draws are over all products, the others over types first, so that small types count
_COMMON = 0.12  # of titles; a word in more of them says little
_TYPO_SHARE = 0.06
_POSITIVES = _PARTIAL = 3
_LINE_NEGATIVES, _SEARCHED_LINE = 2, 40
_TOP_NEGATIVES = _LOWER_NEGATIVES = 2
_SAME_TYPE = 4
_LEAST_CANDIDATES = 3
_RELEVANT, _IRRELEVANT = 0.9, 0.1
_NEGATED_RANGE, _NEGATED_PRODUCTS = (0.08, 0.6), 200  # share of a type's titles that hold a word worth ruling out


@dataclass(frozen=True, slots=True)
class GeneratedQuery:
    """``candidates`` are (product id, label from 0 to 1); at least one is 0.9 or more, one 0.1 or less."""

    query: str
    kind: str
    candidates: tuple[tuple[str, float], ...]


def generate(
    products: Sequence[Product],
    engine: SearchEngine,
    types: ProductTypes,
    n_queries: int,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[GeneratedQuery]:
    """``n_queries`` queries about ``products``, which ``engine`` has indexed; the same for the same arguments.

    ``progress`` gets the queries made and wanted. Raises ConfigError where the products give no such queries: where
    nothing tells relevant ones from others.
    """
    if n_queries < 1 or not products:
        raise ConfigError(f"cannot make {n_queries} queries of {len(products)} products; give at least one of each")
    rng = random.Random(seed)
    shelf = Shelf(products, types, Analyzer(engine.manifest.config.language))
    writer, judge = _Writer(shelf, rng), Judge(shelf)
    engine = engine.configured(msgspec.structs.replace(engine.config, rerank_depth=0))
    made: list[GeneratedQuery] = []
    fruitless = 0
    while len(made) < n_queries:
        want = writer.want()
        one = want and _answered(want, engine, shelf, judge, rng)
        if one:
            made.append(one)
            progress(len(made), n_queries)
        fruitless = 0 if one else fruitless + 1
        if fruitless == _FRUITLESS:
            raise ConfigError(
                f"{len(made)} of {n_queries} queries could be made of {len(products)} products and "
                f"{len(shelf.rows_of)} types; give more products, with brands, attributes or categories"
            )
    return made


def write_queries(path: str | Path, queries: Iterable[GeneratedQuery], products: Iterable[Product]) -> int:
    """Writes examples as ``training.data.examples`` reads them, a JSON object a line, gzipped for ``.gz``; how many.

    Every ``query_id`` begins with ``synthetic-`` and its kind.
    """
    by_id = {product.product_id: product for product in products}
    n = 0
    # mtime 0: the same queries make the same file.
    with Path(path).open("wb") as raw, (
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if str(path).endswith(".gz") else raw
    ) as file:  # fmt: skip
        for number, made in enumerate(queries):
            for product_id, label in made.candidates:
                row = {
                    "query_id": f"synthetic-{made.kind}-{number:06d}",
                    "query": made.query,
                    "label": label,
                    "product": by_id[product_id],
                }
                file.write(msgspec.json.encode(row) + b"\n")
                n += 1
    return n


# --------------------------------------------------------------------------------------------------------- candidates


def _answered(
    want: Want, engine: SearchEngine, shelf: Shelf, judge: Judge, rng: random.Random
) -> GeneratedQuery | None:
    """The query, now and then mistyped, with its candidates; None where they would teach nothing."""
    query = _mistyped(want.query, rng) if rng.random() < _TYPO_SHARE else want.query
    ids = (hit.product.product_id for hit in engine.search(query, _RETRIEVED).hits)
    found = [shelf.row_of[product_id] for product_id in ids if product_id in shelf.row_of]
    labels = _labelled(want, found, shelf, judge, rng)
    if len(labels) < _LEAST_CANDIDATES or max(labels.values()) < _RELEVANT or min(labels.values()) > _IRRELEVANT:
        return None
    candidates = tuple((shelf.products[row].product_id, label) for row, label in labels.items())
    return GeneratedQuery(query, want.kind, candidates)


def _labelled(want: Want, found: list[int], shelf: Shelf, judge: Judge, rng: random.Random) -> dict[int, float]:
    """Labels of the rows to learn from, out of those ``found`` and others."""
    alike = [row for type_id in sorted(want.types) for row in shelf.rows_of[type_id]]
    pool = dict.fromkeys([*found, want.source, *rng.sample(alike, min(_SAME_TYPE, len(alike)))])
    labels = {row: label for row in pool if (label := judge.label(want, row)) is not None}
    positive = [row for row, label in labels.items() if label >= _RELEVANT]
    partial = [row for row, label in labels.items() if _IRRELEVANT / 2 < label < _RELEVANT]
    negative = [row for row in found if labels.get(row, 1.0) <= _IRRELEVANT / 2]
    picked = _some(positive, _POSITIVES, rng) + _some(partial, _PARTIAL, rng)
    line = {row: label for row in _same_line(want, shelf, rng) if (label := judge.label(want, row)) is not None}
    picked += [row for row, label in line.items() if label < _RELEVANT][:_LINE_NEGATIVES]
    picked += negative[:_TOP_NEGATIVES] + _some(negative[_TOP_NEGATIVES:], _LOWER_NEGATIVES, rng)
    anything = rng.randrange(len(shelf.facts))
    if judge.label(want, anything) == 0.0:
        picked.append(anything)
        labels.setdefault(anything, 0.0)
    labels |= line
    return {row: labels[row] for row in picked}


def _some(rows: Sequence[T], n: int, rng: random.Random) -> list[T]:
    return rng.sample(rows, min(n, len(rows)))


def _same_line(want: Want, shelf: Shelf, rng: random.Random) -> list[int]:
    """Products of the source's brand and type whose titles share most with its own, the most alike first."""
    source = shelf.facts[want.source]
    rows = shelf.line_of.get((source.type_id, source.brand), []) if source.type_id and source.brand else []

    def distance(row: int) -> int:
        return len(source.title ^ shelf.facts[row].title)

    near = [row for row in _some(rows, _SEARCHED_LINE, rng) if 2 * distance(row) <= len(source.title)]
    return sorted(near, key=lambda row: (distance(row), row))


# -------------------------------------------------------------------------------------------------------------- queries


class _Writer:
    """Makes up queries. Every kind has a method that takes a row and gives a Want, or None where it cannot."""

    def __init__(self, shelf: Shelf, rng: random.Random) -> None:
        self._shelf, self._rng = shelf, rng
        self._types = [type_id for type_id in shelf.rows_of if shelf.names(type_id)]
        self._fitting = [row for row, facts in enumerate(shelf.facts) if facts.made_for_names]
        self._devices = list(shelf.devices)
        self._tokens = Counter(token for facts in shelf.facts for token in facts.tokens)
        self._spellings: dict[str, list[str]] = {}  # of units, as the catalog's titles have them
        for spelling, unit in UNITS.items():
            if spelling in self._tokens or spelling == '"':
                self._spellings.setdefault(unit, []).append(spelling)
        self._by_kind: dict[str, Callable[[int], Want | None]] = {
            "type": self._type, "brand": self._brand, "attribute": self._attribute, "words": self._words,
            "measure": self._measure, "negation": self._negation, "for": self._for, "device": self._device,
            "code": self._code, "title": self._title,
        }  # fmt: skip

    def want(self) -> Want | None:
        """One query of a kind drawn by its share, about a product that has what the kind needs."""
        (kind,) = self._rng.choices(list(KINDS), list(KINDS.values()))
        for _ in range(_TRIES):
            made = self._by_kind[kind](self._row(kind))
            if made and len(made.query) in _LENGTHS:
                return made
        return None

    def _row(self, kind: str) -> int:
        if kind == "for" and self._fitting:
            return self._rng.choice(self._fitting)
        if not self._types or self._rng.random() < _ANY_PRODUCT:
            return self._rng.randrange(len(self._shelf.facts))
        return self._rng.choice(self._shelf.rows_of[self._rng.choice(self._types)])

    def _named(self, kind: str, row: int) -> Want | None:
        """A query of nothing but the type's name, in singular or plural."""
        type_id = self._shelf.facts[row].type_id
        names = self._shelf.names(type_id) if type_id else ()
        if not type_id or not names:
            return None
        *modifiers, noun = self._rng.choice(names).split()
        draw = self._rng.random()
        noun = self._singular(noun) if draw < 0.5 else _plural(self._singular(noun)) if draw < 0.8 else noun
        named = frozenset().union(*map(self._shelf.token_terms, [*modifiers, noun]))
        return Want(kind, " ".join([*modifiers, noun]), row, frozenset({type_id}), named)

    def _singular(self, noun: str) -> str:
        """The form without its s that titles have most; ``noun`` itself where they have none."""
        forms = [noun[:-1]] if noun.endswith("s") and not noun.endswith("ss") else []
        forms += [noun[:-2]] * noun.endswith("es") + [f"{noun[:-3]}y"] * noun.endswith("ies")
        best = max(forms, key=lambda form: self._tokens[form], default=noun)
        return best if self._tokens[best] else noun

    def _with(self, want: Want | None, words: Sequence[str], first: float) -> Want | None:
        """``want`` with further words, which stand first in that share of queries."""
        words = [word for word in words if want and not self._shelf.token_terms(word) <= want.named]
        if want is None or not words:
            return None
        said = " ".join(words)
        query = f"{said} {want.query}" if self._rng.random() < first else f"{want.query} {said}"
        return replace(want, query=query, words=tuple(map(self._shelf.token_terms, words)))

    def _type(self, row: int) -> Want | None:
        return self._named("type", row)

    def _brand(self, row: int) -> Want | None:
        return self._with(self._named("brand", row), self._shelf.facts[row].brand[:3], 0.8)

    def _attribute(self, row: int) -> Want | None:
        attributes = self._shelf.products[row].attributes.items()
        values = [v for k, v in attributes if k in self._shelf.facets and isinstance(v, str) and is_short(v)]
        if not values:
            return None
        return self._with(self._named("attribute", row), self._rng.choice(values).lower().split(), 0.6)

    def _words(self, row: int) -> Want | None:
        common = max(_COMMON * len(self._shelf.facts), 3)
        terms, counts = self._shelf.token_terms, self._shelf.frequencies
        words = [w for w in self._shelf.content(row) if any(counts[t] < common for t in terms(w))]
        return self._with(self._named("words", row), _some(words, self._rng.choice((1, 1, 2)), self._rng), 0.6)

    def _measure(self, row: int) -> Want | None:
        said, want = read_measures(self._shelf.facts[row].title), self._named("measure", row)
        if not said or want is None:
            return None
        unit, number = self._rng.choice(said)
        spelled = self._rng.choice(self._spellings.get(unit, [unit]))
        gap = self._rng.choice(("", " ")) if spelled.isalpha() else ""
        value = f"{number:g}{gap}{spelled}"
        query = f"{value} {want.query}" if self._rng.random() < 0.7 else f"{want.query} {value}"
        return replace(want, query=query, measure=(unit, number))

    def _negation(self, row: int) -> Want | None:
        """Rules out a word that some titles of the type have, and the source has nowhere."""
        want = self._named("negation", row)
        if want is None:
            return None
        rows = self._shelf.rows_of[next(iter(want.types))][:_NEGATED_PRODUCTS]
        counts = Counter(w for r in rows for w in set(self._shelf.content(r)) if len(w) > 3 and w.isalpha())
        low, high = (share * len(rows) for share in _NEGATED_RANGE)
        facts, terms = self._shelf.facts[row], self._shelf.token_terms
        words = [w for w, n in sorted(counts.items()) if low <= n <= high and not terms(w) & (facts.terms | want.named)]
        if not words or len(rows) < 8:
            return None
        word, no = self._rng.choice(words), self._rng.choice(("without", "without", "no", "not"))
        return replace(want, query=f"{want.query} {no} {word}", excluded=terms(word))

    def _for(self, row: int) -> Want | None:
        """A type for a thing: ``case for galaxy s6``."""
        facts, want = self._shelf.facts[row], self._named("for", row)
        names = [name for name in facts.made_for_names if any(c.isdigit() for c in " ".join(name))]
        if want is None or not names:
            return None
        name = self._rng.choice(names)[:4]
        known = self._shelf.devices.keys() & {name[i:j] for i in range(len(name)) for j in range(i + 2, len(name) + 1)}
        about = self._rng.choice(sorted(known)) if known else name
        query = f"{want.query} for {' '.join(about)}" if self._rng.random() < 0.7 else f"{' '.join(about)} {want.query}"
        return self._about(replace(want, query=query), about)

    def _device(self, _: int) -> Want | None:
        """A thing that accessories are made for, by name: ``galaxy s6``."""
        if not self._devices:
            return None
        about = self._rng.choice(self._devices)
        types = self._shelf.devices[about]
        facts = self._shelf.facts
        rows = [r for t in sorted(types) for r in self._shelf.rows_of[t] if facts[r].line[: len(about)] == about]
        return self._about(Want("device", " ".join(about), self._rng.choice(rows), types), about)

    def _about(self, want: Want, about: Words) -> Want | None:
        """``want`` of one thing, and not of those whose name says more: a ``galaxy s7`` is no ``galaxy s7 edge``.

        What more a name may say is known from the line's other models (``galaxy s6 edge``). None where the source is
        such a thing.
        """
        longer = {name[-1] for name in self._devices if name[0] in about and name[:-1] in self._shelf.devices}
        others = frozenset().union(*(self._shelf.token_terms(word) for word in longer - {*about} if word.isalpha()))
        facts = self._shelf.facts[want.source]
        if others & (facts.made_for or facts.title):
            return None
        return replace(want, words=tuple(map(self._shelf.token_terms, about)), others=others)

    def _code(self, row: int) -> Want | None:
        model = self._shelf.products[row].model.lower().split()
        if not 0 < len(model) <= 3 or not any(c.isdigit() for c in " ".join(model)):
            return None
        brand = [" ".join(self._shelf.facts[row].brand)] if self._rng.random() < 0.4 else []
        return Want("code", " ".join([*brand, *model]), row, words=tuple(map(self._shelf.token_terms, model)))

    def _title(self, row: int) -> Want | None:
        """A few words of the title, in their order."""
        content = self._shelf.content(row)[:14]
        if len(content) < 2:
            return None
        places = sorted(_some(list(range(len(content))), self._rng.randint(2, 5), self._rng))
        words = [content[place] for place in places]
        return Want("title", " ".join(words), row, words=tuple(map(self._shelf.token_terms, words)))


def _plural(noun: str) -> str:
    if noun.endswith("y") and not noun.endswith(("ay", "ey", "oy", "uy")):
        return f"{noun[:-1]}ies"
    if noun.endswith("s") and not noun.endswith("ss"):
        return noun  # ``scissors``
    return f"{noun}es" if noun.endswith(("ss", "x", "ch", "sh")) else f"{noun}s"


def _mistyped(query: str, rng: random.Random) -> str:
    """A letter left out, doubled, swapped with the next or replaced; a query of under five letters stays."""
    if len(query) < 5:
        return query
    at = rng.randrange(1, len(query) - 1)
    before, letter, after = query[:at], query[at], query[at + 1 :]
    if not letter.isalpha():
        return query
    typos = (before + after, before + 2 * letter + after, before + after[0] + letter + after[1:],
             before + rng.choice("aeiourstlnm") + after)  # fmt: skip
    return rng.choice(typos)
