"""How well products fit a use: by the lexicon's wants, and by what the products that name it share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from engine.columns import Columns
from engine.kinds.titles import stem
from engine.needs.categories import singular
from engine.needs.learnt import Learnt, learn
from engine.needs.lexicon import Lexicon, Want
from engine.needs.measures import Measures, packed, room, unpacked
from engine.needs.numbers import NeedNumbers
from engine.product import Product
from engine.types import Mask, Rows, Scores
from engine.understanding.words import tokens

_MET = 0.6  # the fit of a want from which a product meets it, and is told to
_FACTS = 2  # told of a product
_MOST_UNKNOWN = 0.9  # of a type's products, for an attribute that some have
_MOST_SAYING = 0.6  # of a type's products that name a use, so that naming it tells them apart

#: A want, the field that answers it, and how well each product does.
Part = tuple[Want, str, Scores]


@dataclass(frozen=True, slots=True, eq=False)
class Met:
    """How well products fit a use, float32 (n_products,), the best 1 and the worst 0, NaN where nothing tells.

    ``parts`` are the wants that the type can answer, the lexicon's first.
    """

    fit: Scores
    parts: tuple[Part, ...]


class Uses:
    """The lexicon's uses over one index. Thread-safe; what is learnt of a type is kept."""

    def __init__(
        self, lexicon: Lexicon, columns: Columns, measures: Measures, found: Callable[[str, int], Rows],
        numbers: NeedNumbers, products: Callable[[Rows], Sequence[Product]],
    ) -> None:  # fmt: skip
        """``found`` gives the rows of products that have words of a text, at most so many; ``products`` those of some
        rows.
        """
        self._products = products
        self._lexicon, self._columns, self._measures, self._numbers = lexicon, columns, measures, numbers
        self._found = found
        self._met = lru_cache(maxsize=room(len(columns), 64))(self._fitted)
        self._saying = lru_cache(maxsize=128)(self._rows_saying)

    def met(self, name: str, rows: Mask, types: tuple[str, ...]) -> Met | None:
        """How well the products of ``rows`` fit a use; ``types`` are what they are called. None where nothing tells."""
        return self._met(name, types, packed(rows))

    def learnt(self, name: str, rows: Mask) -> Learnt:
        """What the catalog says of a use among ``rows``."""
        return learn(self._saying(name), rows, self._measures, self._columns, self._numbers.learnt_prior)

    def fact(self, name: str, parts: Sequence[Part], row: int) -> str:
        """The facts that count most, of the wants that a product meets; without wants, that it names the use."""
        if not parts:
            said = (word for word in self._single_words(name) if row in self._with_word(word))
            return next((f"says {word}" for word in said if self._says(row, word)), "")
        met = [(want.weight, want, field) for want, field, fit in parts if fit[row] >= _MET]
        met.sort(key=lambda found: -found[0])
        facts = [self._measures.fact(field, row, text=bool(want.has), values=want.values) for _, want, field in met]
        return "; ".join(list(dict.fromkeys(filter(None, facts)))[:_FACTS])

    def _says(self, row: int, word: str) -> bool:
        """Whether a product's text has the word itself: a "light room" may be found for "lightroom"."""
        [product] = self._products(np.array([row]))
        text = " ".join([product.title, *product.bullets, product.description, *map(str, product.attributes.values())])
        return stem(word) in {stem(token.text) for token in tokens(text)}

    def _fitted(self, name: str, types: tuple[str, ...], packed_rows: bytes) -> Met | None:
        rows = unpacked(packed_rows, len(self._columns))
        own = tuple(self._answered(self._lexicon.use[name].wants, rows, types))
        learnt = tuple(self._answered(self.learnt(name, rows).wants, rows, types))
        fits = [fit for fit in (self._mean(own), self._mean(learnt)) if fit is not None]
        said = np.zeros(len(self._columns), np.float32)
        said[self._saying(name)] = 1.0
        share = self._numbers.learnt_share
        if not fits:
            return Met(np.where(rows, said, np.nan).astype(np.float32), ()) if said[rows].any() else None
        fit = fits[0] if len(fits) == 1 else (1 - share) * fits[0] + share * fits[1]
        if 0 < said[rows].mean() < _MOST_SAYING:
            fit = (1 - share / 2) * fit + share / 2 * said
        return Met(_spread(np.where(rows, fit, np.nan).astype(np.float32)), (*own, *learnt))

    def _rows_saying(self, name: str) -> Rows:
        found = [self._with_word(word) for word in self._single_words(name)]
        return np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)

    def _single_words(self, name: str) -> list[str]:
        words = (word.removeprefix("for ") for word in self._lexicon.use[name].words)
        return [word for word in dict.fromkeys(words) if " " not in word]

    def _with_word(self, word: str) -> Rows:
        return self._found(word, len(self._columns))

    def _answered(self, wants: Sequence[Want], rows: Mask, types: tuple[str, ...]) -> Iterator[Part]:
        """The wants that these products can answer: some say so, and not all alike."""
        words = {singular(part) for name in types for part in name.lower().replace("-", " ").split()}
        for want in wants:
            if want.of and words.isdisjoint(want.of):
                continue
            part = self._had(want, rows) if want.has else self._measured(want, rows)
            if part is not None:
                yield part

    def _had(self, want: Want, rows: Mask) -> Part | None:
        field, fit = self._measures.has(want.has, want.values)
        known = fit[rows]
        unknown = np.isnan(known)
        if not field or unknown.mean() >= _MOST_UNKNOWN or np.nanmax(known) == 0 or (known == 1).all():
            return None
        return want, field, fit

    def _measured(self, want: Want, rows: Mask) -> Part | None:
        for field in self._measures.fields(want.most or want.least):
            if self._measures.tells_enough(field, rows):
                return want, field, self._measures.places(field, rows, most=bool(want.most))
        return None

    def _mean(self, parts: Sequence[Part]) -> Scores | None:
        """The weighted mean of the fits, float32 (n,); NaN where a product says nothing. None without parts."""
        if not parts:
            return None
        weights = np.array([want.weight for want, _, _ in parts], np.float32)
        fits = np.stack([fit for _, _, fit in parts])
        known = ~np.isnan(fits)
        mean = weights @ np.where(known, fits, np.float32(self._numbers.unknown_fit)) / weights.sum()
        out: Scores = np.where(known.any(axis=0), mean, np.nan).astype(np.float32)
        return out


def told(want: Want) -> str:
    """A want in words: "most refresh rate", "graphics geforce"."""
    name = (want.most or want.least or want.has).removeprefix("attributes.")
    if want.has:
        return f"{name} {want.values[0]}" if want.values else name
    return f"{'most' if want.most else 'least'} {name}"


def _spread(fit: Scores) -> Scores:
    """The same order, the best at 1 and the worst at 0, so that uses of many wants count as much as those of one."""
    known = fit[~np.isnan(fit)]
    if not len(known) or known.max() == known.min():
        return fit
    out: Scores = ((fit - known.min()) / (known.max() - known.min())).astype(np.float32)
    return out
