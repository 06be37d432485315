"""The suggestions of an index, in one file, ``suggestions.npz``: compressed arrays, texts as bytes with line breaks."""

from __future__ import annotations

import io
import zipfile
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.errors import IndexCorruptError, IndexMismatchError
from engine.product import Product
from engine.suggestions.phrases import KINDS, Phrase, PhraseBuilder, read_queries

SUGGESTIONS = "suggestions.npz"
_FORMAT = 1


@dataclass(frozen=True, slots=True, eq=False)
class Arranged:
    """Phrases, and how they are found.

    ``starts`` are the places where completion may begin, in the order of the text from there on: int64 (n, 2), a phrase
    and which of its words. ``words`` ascend; ``ends`` int64 (n_words,) is where each one's phrases end in ``having``,
    int64, ascending.
    """

    phrases: tuple[Phrase, ...]
    starts: NDArray[np.int64]
    words: tuple[str, ...]
    ends: NDArray[np.int64]
    having: NDArray[np.int64]

    @classmethod
    def of(cls, phrases: Sequence[Phrase]) -> Arranged:
        """``phrases`` come the likeliest first."""
        starts: list[tuple[str, int, int]] = []
        having: dict[str, array[int]] = {}
        for number, phrase in enumerate(phrases):
            own = phrase.text.split(" ")
            starts += [(" ".join(own[place:]), number, place) for place in range(len(own))]
            for word in dict.fromkeys(own):
                having.setdefault(word, array("q")).append(number)
        places = np.array([(number, place) for _, number, place in sorted(starts)], np.int64).reshape(-1, 2)
        words = tuple(sorted(having))
        ends = np.cumsum([len(having[word]) for word in words], dtype=np.int64)
        joined = np.concatenate([np.frombuffer(having[word], np.int64) for word in words] or [np.empty(0, np.int64)])
        return cls(tuple(phrases), places, words, ends, joined)


def build_suggestions(path: Path, products: Iterable[Product], queries: str = "") -> str:
    """Writes the suggestions of a catalog, and of a log of queries where one is named; returns a note for people.

    Raises ConfigError and CatalogError on a log that cannot be used.
    """
    asked = read_queries(queries) if queries else {}
    builder = PhraseBuilder()
    for product in products:
        builder.add(product)
    phrases = builder.phrases(asked)
    save_suggestions(path, Arranged.of(phrases))
    n_queries = sum(phrase.kind == "query" for phrase in phrases)
    return f"{len(phrases)} phrases, {n_queries} of them queries" if queries else f"{len(phrases)} phrases"


def save_suggestions(path: Path, arranged: Arranged) -> None:
    """Writes one compact file."""
    np.savez_compressed(
        path, format=np.int64(_FORMAT), texts=_joined([phrase.text for phrase in arranged.phrases]),
        kinds=np.array([KINDS.index(phrase.kind) for phrase in arranged.phrases], np.uint8),
        weights=np.array([phrase.weight for phrase in arranged.phrases], np.float32),
        starts=arranged.starts.astype(np.int32),
        words=_joined(arranged.words), ends=arranged.ends, having=arranged.having.astype(np.int32),
    )  # fmt: skip


def read_suggestions(path: Path) -> Arranged:
    """Reads what was written. Raises IndexMismatchError where nothing was, and IndexCorruptError on anything else."""
    if not path.exists():
        raise IndexMismatchError(
            f"{path.parent} was built by an aisle that kept no suggestions. "
            "Build the index again with: aisle build CATALOG --out INDEX"
        )
    try:
        # From memory: of a damaged file NumPy would leave one open.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            if arrays["format"] != _FORMAT:
                raise ValueError(f"its format is {arrays['format']}, not {_FORMAT}")
            texts, words = _split(arrays["texts"]), _split(arrays["words"])
            kinds, weights = arrays["kinds"].tolist(), arrays["weights"].tolist()
            phrases = tuple(
                Phrase(text, KINDS[kind], weight) for text, kind, weight in zip(texts, kinds, weights, strict=True)
            )
            starts, having = (arrays[name].astype(np.int64) for name in ("starts", "having"))
            arranged = Arranged(phrases, starts, words, arrays["ends"], having)
        _check(arranged)
        return arranged
    except (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile) as error:
        raise IndexCorruptError(f"the suggestions in {path} cannot be read: {error}") from error


def _check(arranged: Arranged) -> None:
    """Raises ValueError where one array speaks of what another does not have."""
    starts, ends, having = arranged.starts, arranged.ends, arranged.having
    n = len(arranged.phrases)
    fits = (
        starts.ndim == 2
        and starts.shape[1] == 2
        and len(ends) == len(arranged.words)
        and (ends[-1] if len(ends) else 0) == len(having)
    )
    if not fits or any(len(rows) and not (rows.min() >= 0 and rows.max() < n) for rows in (starts[:, 0], having)):
        raise ValueError("its arrays do not fit one another")
    n_words = np.array([phrase.text.count(" ") + 1 for phrase in arranged.phrases], np.int64)
    if len(starts) and not (starts[:, 1] >= 0).all() & (starts[:, 1] < n_words[starts[:, 0]]).all():
        raise ValueError("it speaks of words that phrases do not have")


def _joined(texts: Sequence[str]) -> NDArray[np.uint8]:
    return np.frombuffer("\n".join(texts).encode(), np.uint8)


def _split(data: NDArray[np.uint8]) -> tuple[str, ...]:
    return tuple(data.tobytes().decode().split("\n")) if len(data) else ()
