"""What a title calls its product: the nouns in it, each with the noun that follows it and may make it another thing.

A "notebook" is one in "ProBook 450 Notebook, silver", and none in "Notebook Case": there the case is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import pairwise

import Stemmer

from engine.analysis.analyzer import STOP_WORDS
from engine.analysis.analyzer import singular as short_singular
from engine.analysis.units import UNITS
from engine.families.names import own_tokens
from engine.families.words import shipped_words
from engine.understanding.words import GRAMMAR

#: One or two words, as stems, that may be what a thing is called.
Key = tuple[str, ...]

_BREAK = re.compile(r"[,;:|/•–—.]|\s-\s")
_AHEAD = 3  # words after a noun among which another is looked for
_porter = lru_cache(maxsize=50_000)(Stemmer.Stemmer("english").stemWord)


def stem(word: str) -> str:
    """The stem of a word, lower case; the word itself where its stem is another, small word, as of a "UPS"."""
    found = _porter(short_singular(word) or word)
    return word if found in GRAMMAR and word not in GRAMMAR else found


def may_name(word: str) -> bool:
    """Whether a word, lower case, can be a noun of a kind at all: letters that are neither unit nor stop word."""
    return word.isalpha() and len(word) > 1 and word not in UNITS and word not in STOP_WORDS


def runs(title: str) -> Iterator[list[str]]:
    """The words of a product's own name, lower case, in stretches without numbers, stop words or marks between."""
    run: list[str] = []
    found = list(own_tokens(title, shipped_words().names.ends))
    for token, after in pairwise([*found, None]):
        assert token is not None
        if token.text.isalpha() and token.text not in STOP_WORDS:
            run.append(token.text)
            if after is not None and not _BREAK.search(title[token.end : after.start]):
                continue
        if run:
            yield run
            run = []
    if run:
        yield run


def named_in(title: str, is_noun: Callable[[str], bool]) -> Iterator[tuple[Key, str]]:
    """Each noun, and each pair of neighbouring ones, with the stem of the noun that follows, empty where none does."""
    for run in runs(title):
        stems = [stem(word) if is_noun(word) else "" for word in run]
        for at, noun in enumerate(stems):
            if not noun:
                continue
            follower = next(filter(None, stems[at + 1 : at + 1 + _AHEAD]), "")
            if follower == noun:
                continue
            yield (noun,), follower
            if at and stems[at - 1]:
                yield (stems[at - 1], noun), follower
