"""What a name in a query stands for in a catalog: the products so named, their models, and what they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from engine.columns import PATH_SEPARATOR, Columns
from engine.families.lines import Line, Model
from engine.families.store import ProductFamilies, name_words
from engine.families.words import FamilyWords
from engine.types import Mask, Rows
from engine.understanding.words import Token

_FEW = 40  # products, or
_RARE = 0.05  # share of the catalog, that a name without a number may stand for and yet tell one thing from others


@dataclass(frozen=True, slots=True, eq=False)
class Named:
    """``rows`` are the products that a name stands for, ascending; ``line`` is their series, if they are of one, and
    ``number`` and ``variant`` say which of its models. ``kind``, bool (n_products,), are all products of their kind,
    None where the catalog has no categories.
    """

    name: str
    rows: Rows
    line: Line | None
    number: int
    variant: tuple[str, ...]
    kind: Mask | None


class Naming:
    """Looks names up in one index. Thread-safe."""

    def __init__(self, families: ProductFamilies, columns: Columns, words: FamilyWords) -> None:
        self._families, self._n, self._words = families, len(columns), words
        #: for each row the place of its series in ``lines``, -1 for none, and of its model in the series
        self.line_of = np.full(self._n, -1, np.int32)
        self.model_of = np.full(self._n, -1, np.int32)
        for at, line in enumerate(families.lines):
            for place, model in enumerate(line.models):
                self.line_of[list(model.rows)], self.model_of[list(model.rows)] = at, place
        paths = columns.postings("category") if "category" in columns.fields else ()
        self._paths = [(tuple(path.split(PATH_SEPARATOR)), rows) for path, rows in paths]
        self._leaf = np.full(self._n, -1, np.int32)
        for place, (_, rows) in sorted(enumerate(self._paths), key=lambda item: len(item[1][0])):
            self._leaf[rows] = place

    @property
    def lines(self) -> tuple[Line, ...]:
        return self._families.lines

    def knows(self, words: Sequence[str]) -> bool:
        """Whether the products' own names have all of these words."""
        return all(word in self._families for word in words)

    def find(self, about: Sequence[Token], query: str) -> Named | None:
        """The products that ``about``, words of ``query``, name; None where they name none, or any."""
        rows, used = self._rows(about)
        if not len(rows):
            return None
        coded = any(any(c.isdigit() for c in word) and any(c.isalpha() for c in word) for word in used)
        if all(word.isdigit() for word in used) or (not coded and len(rows) > max(_FEW, _RARE * self._n)):
            return None
        rows = self._of_one_kind(rows)
        variant = self._variant(about, query)
        models = [
            (at, place) for at, place in zip(self.line_of[rows].tolist(), self.model_of[rows].tolist(), strict=True)
        ]
        exact = np.array(
            [at >= 0 and self.lines[at].models[place].variant == variant for at, place in models], np.bool_
        )
        if exact.any() and (coded or variant):
            rows = rows[exact]
        line = self._line(rows)
        number = max((model.number for model in self._models(rows)), default=0) if line and coded else 0
        name = " ".join(query[token.start : token.end] for token in about)
        return Named(name, rows, line, number, variant, self.kind(rows, used, line))

    def _rows(self, about: Sequence[Token]) -> tuple[Rows, list[str]]:
        """The rows whose names have as many of the words as can be, from the first on, and the words."""
        words = [token.text for token in about]
        joined = [word for word in name_words(about)[len(words) :] if word in self._families]
        parts = {part for word in joined for part in self._halves(word, words)}
        rows: Rows | None = None
        used: list[str] = []
        for word in (*joined, *(word for word in words if word not in parts)):
            found = self._families.rows(word)
            both = found if rows is None else np.intersect1d(rows, found, assume_unique=True)
            if len(both):
                rows = both
                used.append(word)
            elif any(c.isdigit() for c in word) or not len(found):
                return np.empty(0, np.int64), []  # another model, or maker, than those that there are
        return (np.empty(0, np.int64) if rows is None else rows), used

    @staticmethod
    def _halves(joined: str, words: Sequence[str]) -> tuple[str, ...]:
        return next((pair for pair in pairwise(words) if "".join(pair) == joined), ())

    def _variant(self, about: Sequence[Token], query: str) -> tuple[str, ...]:
        words = [token.text for token in about if token.text in self._words.names.variants]
        plus = ["plus" for token in about if query[token.end : token.end + 1] == "+"]
        return tuple(sorted((*words, *plus)))

    def _of_one_kind(self, rows: Rows) -> Rows:
        """Those of the commonest root category: not the cases that are named after phones."""
        if not self._paths:
            return rows
        roots = [self._paths[leaf][0][0] if leaf >= 0 else "" for leaf in self._leaf[rows].tolist()]
        best = max(roots, key=roots.count)
        return rows[[root == best for root in roots]]

    def _line(self, rows: Rows) -> Line | None:
        found = self.line_of[rows]
        found = found[found >= 0]
        return self.lines[int(np.bincount(found).argmax())] if 2 * len(found) > len(rows) else None

    def _models(self, rows: Rows) -> list[Model]:
        return [
            self.lines[at].models[place]
            for at, place in zip(self.line_of[rows], self.model_of[rows], strict=True)
            if at >= 0
        ]

    def kind(self, rows: Rows, used: Sequence[str], line: Line | None) -> Mask | None:
        """All products of the category above the one that most of ``rows`` are of, or of that itself where it is right
        below a root and not named after the model: "Galaxy Tab S" under "Tablets".
        """
        leaves = self._leaf[rows]
        if not self._paths or not (leaves >= 0).any():
            return None
        path, _ = self._paths[int(np.bincount(leaves[leaves >= 0]).argmax())]
        own = {*used, *(line.name.lower().split() if line else ())}
        if len(path) > 2 or (len(path) == 2 and own.intersection(path[-1].lower().split())):
            path = path[:-1]
        mask = np.zeros(self._n, np.bool_)
        for other, of_rows in self._paths:
            if other[: len(path)] == path:
                mask[of_rows] = True
        return mask
