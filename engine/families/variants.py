"""Variants of one product: the same thing in another colour or with other storage, derived from a catalog.

Two products are variants of one another where brand and category are the same, and

- their titles are, once colours, storage and codes are taken out, and their codes differ in a letter or two at most,
  or they have one code, and
- of the attributes that both have, colour and storage left out, all but a few agree: a code may be a whole series', and
  a title may leave out what tells two products apart.

``variants.npy``, int32 (n,), has for each row the first row that is a variant of it, its own where none is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.analysis.analyzer import STOP_WORDS
from engine.analysis.units import UNITS
from engine.errors import IndexCorruptError
from engine.fitted import Fitted
from engine.product import AttributeValue, Product
from engine.understanding.words import tokens

VARIANTS = "variants.npy"
_LEAST_CODE = 4  # characters
_CODE_LETTERS = 2  # of a code that may say which colour it is
_LEAST_WORDS = 2  # of a title, once all is taken out, that can tell products apart
_COLOR_SHARE = 0.001  # of the products that have a colour, so that what stands there is a colour's name


class VariantWords(Fitted, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``variants.toml``. ``agreement`` is the share of common attributes that must be the same."""

    agreement: float
    colors: frozenset[str]
    beside: frozenset[str]
    about_storage: frozenset[str]
    storage: frozenset[str]
    differ: frozenset[str]


@cache
def shipped_variant_words() -> VariantWords:
    """The words that ship. Raises ConfigError naming the file and the entry."""
    return VariantWords.read(Path(__file__).with_name("variants.toml"))


class Products(Protocol):
    """Products by row, which may be read more than once."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Product]: ...

    def __getitem__(self, row: int) -> Product: ...


def derive_variants(products: Products, words: VariantWords | None = None) -> NDArray[np.int32]:
    """For each row the first row that is a variant of it, int32 (n,).

    Reads all products twice, and those that have another's title or code once more; in memory stay two numbers a row.
    """
    words = words or shipped_variant_words()
    reader = _Reader(words, _color_words(products, words))
    keys = np.zeros((2, len(products)), np.int64)
    for row, product in enumerate(products):
        keys[:, row] = reader.keys(product)
    first = list(range(len(products)))
    for of_rows in keys:
        for rows in _alike(of_rows):
            _join(rows, [reader.compared(products[row]) for row in rows], words.agreement, first)
    return np.array([_root(first, row) for row in range(len(first))], np.int32)


def _color_words(products: Iterable[Product], words: VariantWords) -> frozenset[str]:
    """The words of colours: those that ship, and what stands often in the catalog's own colour fields."""
    counts: Counter[str] = Counter()
    n = 0
    for product in products:
        own = set(_own_colors(product))
        counts.update(own)
        n += bool(own)
    least = max(2.0, _COLOR_SHARE * n)
    return words.colors | {word for word, count in counts.items() if count >= least and word.isalpha()}


def _own_colors(product: Product) -> Iterator[str]:
    for name, value in product.attributes.items():
        if isinstance(value, str) and "colo" in name.lower():
            yield from (token.text for token in tokens(value))


class _Compared(NamedTuple):
    code: str
    attributes: dict[str, object]


class _Reader:
    """What of a product is compared."""

    def __init__(self, words: VariantWords, colors: frozenset[str]) -> None:
        self._words, self._colors = words, colors
        self._differ: dict[str, bool] = {}

    def keys(self, product: Product) -> tuple[int, int]:
        """Numbers that are the same for products of one code, and of one plain title; 0 where there is none."""
        code, kind = _code(product), (product.brand.casefold(), *product.category)
        plain = self._plain(product, code)
        return hash((kind, code)) if code else 0, hash((kind, plain)) if plain else 0

    def compared(self, product: Product) -> _Compared:
        """The code, and the attributes in which variants do not differ."""
        attributes = {name: _value(value) for name, value in product.attributes.items() if not self._differs(name)}
        return _Compared(_code(product), attributes)

    def _plain(self, product: Product, code: str) -> tuple[str, ...]:
        """The title's words in any order, without colours, storage and codes; none where too few are left to tell
        products apart.
        """
        own, title = set(_own_colors(product)), list(self._title(product, code))
        rest = [word for word in title if word not in self._colors and word not in own]
        if len(rest) < len(title):  # beside a colour
            rest = [word for word in rest if word not in self._words.beside]
        brand = {token.text for token in tokens(product.brand)}
        return tuple(sorted(rest)) if len(set(rest) - brand) >= _LEAST_WORDS else ()

    def _title(self, product: Product, code: str) -> Iterator[str]:
        """The title's words without storage, codes and words that only join."""
        words, found = self._words, tokens(product.title)
        codes = {token.text for token in tokens(code)} | {product.product_id.casefold()}
        place = 0
        while place < len(found):
            text = found[place].text
            unit = found[place + 1].text if text.isdigit() and place + 1 < len(found) else ""
            if UNITS.get(unit) in words.storage:
                place += 2
                continue
            place += 1
            number = text.rstrip("abcdefghijklmnopqrstuvwxyz")
            stored = number.isdigit() and UNITS.get(text[len(number) :]) in words.storage
            if not (stored or text in STOP_WORDS or text in words.about_storage or text in codes):
                yield text

    def _differs(self, name: str) -> bool:
        """Whether variants may differ in an attribute."""
        if name not in self._differ:
            parts = name.lower().replace("-", "_").replace(" ", "_").split("_")
            self._differ[name] = not self._words.differ.isdisjoint(parts)
        return self._differ[name]


def _alike(keys: NDArray[np.int64]) -> Iterator[list[int]]:
    """Rows, ascending, that have a key in common."""
    order = np.argsort(keys, kind="stable")
    ends = np.flatnonzero(np.diff(keys[order], append=0)) + 1
    for rows in np.split(order, ends):
        if len(rows) > 1 and keys[rows[0]]:
            yield rows.tolist()


def _join(rows: Sequence[int], compared: Sequence[_Compared], agreement: float, first: list[int]) -> None:
    """Joins each row with the first before it that it agrees with."""
    heads: list[int] = []
    for place, row in enumerate(rows):
        head = next((head for head in heads if _agree(compared[head], compared[place], agreement)), None)
        if head is None:
            heads.append(place)
            continue
        one, other = sorted((_root(first, rows[head]), _root(first, row)))
        first[other] = one


def _agree(left: _Compared, right: _Compared, agreement: float) -> bool:
    """Whether of the attributes that both have enough are the same, and their codes may be of one product."""
    if not _codes_agree(left.code, right.code):
        return False
    both = left.attributes.keys() & right.attributes.keys()
    return sum(left.attributes[name] == right.attributes[name] for name in both) >= agreement * len(both)


def _root(first: list[int], row: int) -> int:
    while first[row] != row:
        first[row] = row = first[first[row]]
    return row


def _code(product: Product) -> str:
    """The model code, lower case; empty where the model is a name or a number."""
    model = product.model.casefold()
    spaced = any(c.isspace() for c in model)
    mixed = any(c.isdigit() for c in model) and any(c.isalpha() for c in model)
    return model if len(model) >= _LEAST_CODE and mixed and not spaced else ""


def _codes_agree(left: str, right: str) -> bool:
    """Whether two model codes may be of one product: makers tell its colours apart by a letter or two, and other
    products by numbers.
    """
    if not left or not right or left == right:
        return True
    differing = [pair for pair in zip(left, right, strict=False) if pair[0] != pair[1]]
    numbers = any(one.isdigit() and other.isdigit() for one, other in differing)
    return len(left) == len(right) and len(differing) <= _CODE_LETTERS and not numbers


def _value(value: AttributeValue) -> object:
    if isinstance(value, str):
        return value.casefold()
    return tuple(value) if isinstance(value, list) else value


def build_variants(directory: Path, products: Products) -> str:
    """Writes the variants of a catalog; returns a note for people."""
    found = derive_variants(products)
    np.save(directory / VARIANTS, found)
    sizes = np.bincount(found)
    return f"{int((sizes > 1).sum())} products of {int(sizes[sizes > 1].sum())} variants"


def open_variants(directory: Path, n: int) -> NDArray[np.int32]:
    """Reads what a build wrote of ``n`` products. Raises IndexCorruptError."""
    path = directory / VARIANTS
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise IndexCorruptError(f"{path} cannot be read: {error}") from error
    if found.shape != (n,) or found.dtype != np.int32 or not ((found >= 0) & (found <= np.arange(n))).all():
        raise IndexCorruptError(f"{path} is not of the {n} products of this index")
    return np.asarray(found)
