"""What a catalog says of its products, read once: the facts that queries are made of and candidates are judged by."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from engine.analysis.analyzer import STOP_WORDS, Analyzer, fold
from engine.analysis.units import UNITS
from engine.product import AttributeValue, Product
from engine.text import lexical_fields, plain
from qpt.product_types import ProductTypes
from qpt.title_types import head, name_parts
from training.data.uses import AUDIENCES

Terms = frozenset[str]
Words = tuple[str, ...]

_FIELDS = ("brand", "model", "category", "summary")  # beside the title and the attributes
_MAX_TITLE, _MAX_FIELD = 400, 2_000  # characters read
_MARKS = str.maketrans("", "", "™®©℠")
_TOKEN = re.compile(r"[^\W_](?:[\w'.-]*[^\W_])?")
_MADE_FOR = re.compile(r"\b(?:for|fits|compatible with)\s+([^,()|;\[\]]{2,60})", re.IGNORECASE)
_MADE_FOR_END = re.compile(r"\s[-–]\s|\b(?:with|and|by|in)\b", re.IGNORECASE)
_COMPATIBLE = re.compile(r"compatib(?:ility|le_(?:with|products|devices|models))$")
_MEASURE = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)([a-z]+)")
_MEASURED = re.compile(r"\d+[a-z]{1,5}|\d+(?:x|mm|cm|in|ft)\d+.*")  # ``7200rpm``, ``1920x1080``
_WORDY = re.compile(r"[^\W\d_]{7}")
_UNIT_NAMES = frozenset(UNITS.values())
_ACRONYM = re.compile(r"\(([A-Z]{2,5})\)")
_ACCESSORY_SHARE = 0.3  # of a type's products that say what they are made for
_NAMED_SHARE = 0.1  # of a type's titles that hold the head of one of its names
_REPEATED_SHARE = 0.3  # of an attribute's values that their products' titles repeat
_LEAST_TYPE, _LEAST_ACRONYM, _LEAST_ATTRIBUTE = 3, 3, 3  # products
_MOST_FITTED = 30  # names, from one attribute
_LEAST_LINE, _OWN_SHARE = 2, 0.8  # titles of a line, and how many of those with its name are of its brand
_CODE_LETTERS = 5  # and digits, of a code at least
_LINE_WORDS = 3  # at most, of the name that a title begins with after the brand


@dataclass(frozen=True, slots=True)
class Facts:
    """One product. ``tokens`` are its title's words as a shopper would type them; terms are the analyzer's.

    ``line`` is what the title begins with after the brand. ``made_for`` has the terms of what it says to fit, and
    ``made_for_names`` the same as the title words it. ``measures`` has numbers by unit, ``sizes`` those of them in
    the title. ``codes`` are its model's and its title's, lower case, but those of what it fits.
    """

    tokens: Words
    title: Terms
    terms: Terms
    brand: Words
    line: Words
    made_for: Terms
    made_for_names: tuple[Words, ...]
    measures: dict[str, tuple[float, ...]]
    sizes: dict[str, tuple[float, ...]]
    codes: Words
    type_id: str | None


class Shelf:
    """All products by row, and what holds over them.

    ``rows_of`` has rows by type, ``accessories`` the types whose products mostly say what they fit, ``devices`` the
    names of things that accessories fit, with the types of what bears them, ``facets`` the attributes shoppers see,
    ``line_of`` rows by type and brand, ``brands_of`` brands by type.
    """

    def __init__(self, products: Sequence[Product], types: ProductTypes, analyzer: Analyzer) -> None:
        self.products, self.types, self.analyzer = products, types, analyzer
        self.token_terms = cache(lambda token: frozenset(analyzer.terms(token)))
        self.facts = [self._read(product) for product in products]
        self.row_of = {product.product_id: row for row, product in enumerate(products)}
        self.rows_of: dict[str, list[int]] = {}
        for row, facts in enumerate(self.facts):
            if facts.type_id is not None:
                self.rows_of.setdefault(facts.type_id, []).append(row)
        self.line_of: dict[tuple[str | None, Words], list[int]] = {}
        for row, facts in enumerate(self.facts):
            self.line_of.setdefault((facts.type_id, facts.brand), []).append(row)
        self.brands_of: defaultdict[str | None, set[Words]] = defaultdict(set)
        for type_id, brand in self.line_of:
            self.brands_of[type_id].update([brand] if brand else [])
        self._brands_of_line = self._find_lines()
        self.frequencies = Counter(term for facts in self.facts for term in facts.title)
        self.accessories = {t for t, rows in self.rows_of.items() if self._share(rows, "made_for") >= _ACCESSORY_SHARE}
        self.devices = self._find_devices()
        self.facets = self._find_facets()
        self.heads = cache(lambda name: frozenset(head(part, analyzer) for part in name_parts(name)) - {""})
        self.names = cache(self._names)

    def content(self, row: int) -> list[str]:
        """A title's words that say something: no stop words, letters or units."""
        return [t for t in self.facts[row].tokens if len(t) > 1 and t not in STOP_WORDS and t not in UNITS]

    def is_line(self, name: Words, brand: Words) -> bool:
        """Whether several titles begin with these words after their brand, and all but a few of them after this one."""
        brands = self._brands_of_line.get(name, Counter())
        return bool(brand) and brands[brand] >= _LEAST_LINE and brands[brand] >= _OWN_SHARE * brands.total()

    def _share(self, rows: Sequence[int], name: str) -> float:
        return sum(bool(getattr(self.facts[row], name)) for row in rows) / len(rows)

    # ------------------------------------------------------------------------------------------------- one product

    def _read(self, product: Product) -> Facts:
        title, brand = _plain(product.title), _tokens(_plain(product.brand))
        tokens = _tokens(title)
        found = self.types.of(product.product_id)
        fields = lexical_fields(product)
        names = tuple(n for n in map(_tokens, _fitted(title, product.attributes)) if n and n[0] not in AUDIENCES)
        title_terms = frozenset(self.analyzer.terms(title))
        terms = title_terms.union(self.analyzer.terms(fields["attributes"][:_MAX_FIELD]))
        rest = " . ".join([*(fields[name][:_MAX_FIELD] for name in _FIELDS), found.name if found else ""])
        return Facts(
            tokens=tokens,
            title=title_terms,
            terms=terms.union(self.analyzer.terms(rest)),
            brand=brand,
            line=_line(tokens, brand),
            made_for=frozenset().union(*map(self.token_terms, {token for name in names for token in name})),
            made_for_names=names,
            measures=_by_unit(terms),
            sizes=_by_unit(title_terms),
            codes=_codes(product, tokens, {*brand, *(token for name in names for token in name)}),
            type_id=found.type_id if found else None,
        )

    # ------------------------------------------------------------------------------------------------ all products

    def _find_devices(self) -> dict[Words, Terms]:
        """Beginnings of titles of things, with a number, that some accessory's title says it fits; and their types."""
        wanted = {
            name[start:end]
            for facts in self.facts
            for name in facts.made_for_names
            for start in range(len(name))
            for end in range(start + 2, min(start + _LINE_WORDS, len(name)) + 1)
        }
        bearers: defaultdict[Words, set[str]] = defaultdict(set)
        for facts in self.facts:
            if facts.type_id is None or facts.type_id in self.accessories:
                continue
            for end in range(2, len(facts.line) + 1):
                if facts.line[:end] in wanted and _is_model(facts.line[:end]):
                    bearers[facts.line[:end]].add(facts.type_id)
        return {name: frozenset(found) for name, found in sorted(bearers.items())}

    def _find_lines(self) -> dict[Words, Counter[Words]]:
        """How many titles begin with one or two words, the first of them a name, after their brand, by that brand."""
        found: defaultdict[Words, Counter[Words]] = defaultdict(Counter)
        for facts in self.facts:
            for end in (1, 2):
                name = facts.line[:end]
                if len(name) == end and name[0].isalpha() and len(name[0]) > 1:
                    found[name][facts.brand] += 1
        return dict(found)

    def _find_facets(self) -> frozenset[str]:
        """Attributes whose text values titles often repeat: what the shop itself thinks worth showing."""
        held: Counter[str] = Counter()
        repeated: Counter[str] = Counter()
        for product, facts in zip(self.products, self.facts, strict=True):
            for name, value in product.attributes.items():
                if isinstance(value, str) and is_short(value):
                    held[name] += 1
                    repeated[name] += self.value_terms(value) <= facts.title
        return frozenset(n for n, k in held.items() if k >= _LEAST_ATTRIBUTE and repeated[n] >= _REPEATED_SHARE * k)

    def value_terms(self, value: str) -> Terms:
        return frozenset().union(*(self.token_terms(token) for token in _tokens(_plain(value))))

    def _names(self, type_id: str) -> tuple[str, ...]:
        """What a shopper may call a type: parts of its name that its titles use, and acronyms that titles explain."""
        rows, name = self.rows_of[type_id], self.types.types[type_id].name
        if len(rows) < _LEAST_TYPE:
            return ()
        parts = name_parts(name)
        tail = parts[-1].split()[1:] if "/" in name and parts else []  # of "printer/scanner spare part", both have it
        used = []
        for part in parts:
            known = sum(head(part, self.analyzer) in self.facts[row].title for row in rows)
            if tail and part is not parts[-1] and " " not in part:
                used.append(" ".join([part, *tail]))
            elif known >= _NAMED_SHARE * len(rows):
                used.append(part)
        titles = [self.products[row].title for row in rows]
        acronyms = Counter(found for title in titles for found in set(_ACRONYM.findall(title[:_MAX_TITLE])))
        initials = "".join(word[0] for word in name.split()).upper()
        return (*used, initials.lower()) if acronyms[initials] >= _LEAST_ACRONYM else tuple(used)


def is_short(value: str) -> bool:
    """Whether a text value could be part of a query."""
    return 2 < len(value) < 20 and "," not in value


def read_measures(terms: Terms) -> list[tuple[str, float]]:
    """The measures among terms, as unit and number, in order."""
    found = filter(None, map(_MEASURE.fullmatch, terms))
    return sorted((match[2], float(match[1])) for match in found if match[2] in _UNIT_NAMES)


def bare_code(code: str) -> str:
    """Its letters and digits alone, by which two spellings of a code are the same."""
    return "".join(filter(str.isalnum, code))


def _codes(product: Product, tokens: Words, fitted: set[str]) -> Words:
    """Words of the model and the title that could be a product's code: long, of letters and digits, and no measure."""
    found = dict.fromkeys([*_tokens(_plain(product.model)), *tokens])
    return tuple(code for code in found if code not in fitted and _is_code(bare_code(code)))


def _is_code(bare: str) -> bool:
    """Whether letters and digits mix as in a code: no word of letters with a number beside it, and no measure."""
    digits = sum(c.isdigit() for c in bare)
    mixed = len(bare) >= _CODE_LETTERS and 2 <= digits < len(bare)
    return mixed and not _MEASURED.fullmatch(bare) and not _WORDY.search(bare)


def _by_unit(terms: Terms) -> dict[str, tuple[float, ...]]:
    measured: defaultdict[str, tuple[float, ...]] = defaultdict(tuple)
    for unit, number in read_measures(terms):
        measured[unit] += (number,)
    return dict(measured)


def _plain(text: str) -> str:
    return fold(plain(text).translate(_MARKS))[:_MAX_TITLE]  # folding would write the marks out


def _tokens(text: str) -> Words:
    return tuple(match.group().lower() for match in _TOKEN.finditer(text))


def _line(tokens: Words, brand: Words) -> Words:
    start = len(brand) if tokens[: len(brand)] == brand else 0
    return tokens[start : start + _LINE_WORDS]


def _is_model(name: Words) -> bool:
    """Whether these words could be a line's name and a model's number: ``galaxy s6``, not ``2 pack`` or ``usb 3.0``."""
    return (
        name[0].isalpha()
        and any(any(c.isdigit() for c in token) and "." not in token for token in name)
        and not any(token in STOP_WORDS or token in UNITS for token in name)
    )


def _fitted(title: str, attributes: dict[str, AttributeValue]) -> Iterator[str]:
    """Names of what a product says it fits: after "for" in the title, and in attributes on compatibility."""
    for match in _MADE_FOR.finditer(title):
        yield _MADE_FOR_END.split(match[1])[0]
    for name, value in attributes.items():
        if _COMPATIBLE.search(name):
            texts = [v for v in (value if isinstance(value, list) else [value]) if isinstance(v, str)]
            yield from re.split(r"[,;/|]|\\n|\s-\s", " , ".join(texts)[:_MAX_FIELD])[:_MOST_FITTED]
