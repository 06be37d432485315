"""What an index keeps of families: the series, as JSON that people can read, and the words of products' own names.

``lines.json`` has the series. ``names.npz`` is an inverted list: ``words``, in ascending order, as one text with line
breaks; ``ends`` int64 (n_words,), where each word's rows end in ``rows``, int32, ascending.
"""

from __future__ import annotations

import io
import zipfile
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.errors import IndexCorruptError
from engine.families.lines import Line, LineBuilder
from engine.families.names import own_tokens
from engine.families.words import NUMBERS, FamilyNumbers, NameWords, shipped_words
from engine.kinds.store import Kinds
from engine.product import Product
from engine.types import Mask, Rows
from engine.understanding.words import Token, tokens

FAMILIES = "families"
_LEAST_NOUN = 4  # letters of a noun that longer words may end in
_LEAST_CODE = 5  # characters of a model code that say which product is meant, though more may follow
_NONE = np.empty(0, np.int32)
_LINES, _NAMES = "lines.json", "names.npz"


def name_words(found: Sequence[Token]) -> list[str]:
    """The words of a name, and after them each word and the number after it as one: ``fold 5`` is ``fold5``, which is
    also ``fold``.
    """
    joined = [
        word.text + number.text
        for word, number in pairwise(found)
        if word.text.isalpha() and number.text.isdigit() and len(number.text) <= 3
    ]
    return [*(token.text for token in found), *joined]


def _series(word: str) -> str:
    """The letters of a short code that are a word of their own: ``fold5`` is a ``fold``, ``s24`` is no ``s``."""
    letters = word.rstrip("0123456789")
    return letters if letters.isalpha() and 0 < len(word) - len(letters) <= 2 and len(letters) > 2 else ""


def _named(products: Iterable[tuple[int, Product]], words: NameWords) -> dict[str, array[int]]:
    """Per word of products' own names the rows that have it, in the order of the products."""
    named: dict[str, array[int]] = {}
    for row, product in products:
        said = set(name_words([*own_tokens(product.title, words.ends), *tokens(product.model)]))
        for word in said.union(filter(None, map(_series, said))):
            named.setdefault(word, array("i")).append(row)
    return named


def _living(line: Line, alive: Mask) -> Line | None:
    """A series of the products that are left; None where none is."""
    if alive[[row for model in line.models for row in model.rows]].all():
        return line
    models = (
        msgspec.structs.replace(model, rows=tuple(row for row in model.rows if alive[row])) for model in line.models
    )
    left = tuple(model for model in models if model.rows)
    return msgspec.structs.replace(line, models=left) if left else None


@dataclass(frozen=True, slots=True, eq=False)
class ProductFamilies:
    """The series of a catalog, which rows have a word in their own names, and of what kinds they are by these."""

    lines: tuple[Line, ...]
    _words: tuple[str, ...]
    _places: dict[str, int]
    _ends: NDArray[np.int64]
    _rows: NDArray[np.int32]
    _text: str  # the words, a line each
    kinds: Kinds

    def rows(self, word: str) -> Rows:
        """The rows whose own name has a word, ascending; empty where none has."""
        return self._rows_of(word) if word in self._places else self._beginning(word)

    def called(self, noun: str) -> Rows:
        """The rows whose own name has a noun: as it is, in the other number, or at the end of a compound."""
        singular = noun.removesuffix("s")
        forms = {noun, singular, f"{singular}s"}
        if len(singular) >= _LEAST_NOUN:
            forms.update(self._compounds(singular))
        rows = [self._rows_of(form) for form in forms if form in self._places]
        return np.unique(np.concatenate(rows)) if rows else np.empty(0, np.int64)

    def _compounds(self, noun: str) -> list[str]:
        found = []
        for ending in (f"{noun}\n", f"{noun}s\n"):
            # One text is searched ten times as fast as each of a million words is asked for its end.
            at = self._text.find(ending)
            while at >= 0:
                found.append(self._text[self._text.rfind("\n", 0, at) + 1 : at + len(ending) - 1])
                at = self._text.find(ending, at + 1)
        return found

    def _rows_of(self, word: str) -> Rows:
        place = self._places[word]
        start = int(self._ends[place - 1]) if place else 0
        return np.asarray(self._rows[start : self._ends[place]], np.int64)

    def _beginning(self, code: str) -> Rows:
        """The rows with a word that begins with a model code, which people leave the end of unsaid; of others none."""
        if len(code) < _LEAST_CODE or code.isalpha() or code.isdigit():
            return np.empty(0, np.int64)
        first = bisect_left(self.words, code)
        last = bisect_left(self.words, code + "\uffff")
        start = int(self._ends[first - 1]) if first else 0
        end = int(self._ends[last - 1]) if last else 0
        return np.unique(self._rows[start:end]).astype(np.int64) if first < last else np.empty(0, np.int64)

    @property
    def words(self) -> tuple[str, ...]:
        """All words of products' own names, ascending."""
        return self._words

    def __contains__(self, word: str) -> bool:
        return word in self._places

    def joined(self, products: Mapping[int, Product], alive: Mask) -> ProductFamilies:
        """With the words of more products' own names, and without the rows that are not ``alive``, bool (n_all,); the
        generations of series that are left stay as they were built.
        """
        named = _named(products.items(), shipped_words().names)
        starts = np.concatenate([[0], self._ends[:-1]])[: len(self._ends)]
        keep = alive[self._rows]
        kept = np.concatenate([[0], np.cumsum(keep)])
        left = self._rows[keep]
        having = {
            word: left[start:end]
            for word, start, end in zip(self._words, kept[starts].tolist(), kept[self._ends].tolist(), strict=True)
            if start < end
        }
        for word, rows in named.items():
            having[word] = np.concatenate([having.get(word, _NONE), np.asarray(rows, np.int32)])
        words = sorted(having)
        ends = np.cumsum([len(having[word]) for word in words], dtype=np.int64)
        places = {word: place for place, word in enumerate(words)}
        lines = tuple(filter(None, (_living(line, alive) for line in self.lines)))
        joined = np.concatenate([*(having[word] for word in words), _NONE])
        kinds = self.kinds.joined(products, alive)
        return ProductFamilies(lines, tuple(words), places, ends, joined, _lines_of(words), kinds)

    @classmethod
    def build(
        cls, directory: Path, products: Iterable[Product], words: NameWords | None = None, numbers: FamilyNumbers =
        NUMBERS ) -> str:  # fmt: skip
        """Reads the products once and writes both files; returns a note for people."""
        words = words or shipped_words().names
        builder = LineBuilder(words, numbers)

        def passed() -> Iterator[tuple[int, Product]]:
            for row, product in enumerate(products):
                builder.add(row, product)
                yield row, product

        named = _named(passed(), words)
        lines = tuple(builder.lines())
        ordered = sorted(named)
        (directory / _LINES).write_bytes(msgspec.json.format(msgspec.json.encode(lines)))
        rows = np.concatenate([np.asarray(named[word], np.int32) for word in ordered] or [np.empty(0, np.int32)])
        ends = np.cumsum([len(named[word]) for word in ordered], dtype=np.int64)
        text = np.frombuffer("\n".join(ordered).encode(), np.uint8)
        np.savez_compressed(directory / _NAMES, words=text, ends=ends, rows=rows)
        n_models = sum(len(line.models) for line in lines)
        return f"{len(lines)} series of {n_models} models"

    @classmethod
    def open(cls, directory: Path) -> ProductFamilies:
        """Reads what ``build`` wrote. Raises IndexCorruptError on anything else."""
        try:
            lines = msgspec.json.decode((directory / _LINES).read_bytes(), type=tuple[Line, ...])
            # From memory: of a damaged file NumPy would leave one open.
            with np.load(io.BytesIO((directory / _NAMES).read_bytes()), allow_pickle=False) as arrays:
                words, ends, rows = arrays["words"], arrays["ends"], arrays["rows"]
            listed = words.tobytes().decode().split("\n") if len(words) else []
            if len(listed) != len(ends) or (len(ends) and ends[-1] != len(rows)):
                raise ValueError(f"{_NAMES} does not hold as many ends as words, or rows as its last end")
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, msgspec.MsgspecError) as error:
            raise IndexCorruptError(f"the families in {directory} cannot be read: {error}") from error
        places = {word: place for place, word in enumerate(listed)}
        return cls(lines, tuple(listed), places, ends, rows, _lines_of(listed), Kinds.open(directory))


def _lines_of(words: Sequence[str]) -> str:
    return "".join(f"{word}\n" for word in words)
