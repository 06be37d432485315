"""Words near a word, found without trying each: by which letters they are made of, then by distance.

One edit changes at most one letter of what a word is made of on each side, so two words within ``d`` edits differ by
at most ``d`` letters each way. Letters are bits; comparing bits of thousands of words takes microseconds, and what is
left, some tens, is measured with OSA distance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rapidfuzz import process
from rapidfuzz.distance import OSA

_BITS = 32


class NearestWords:
    """An index over ``words``; a word is known by its place there. Thread-safe."""

    def __init__(self, words: Sequence[str]) -> None:
        self._order = sorted((i for i, word in enumerate(words) if word.isalpha()), key=lambda i: len(words[i]))
        self._words = [words[i] for i in self._order]
        self._letters = np.array([_letters(word) for word in self._words], np.uint32)
        lengths = [len(word) for word in self._words]
        #: where words of each length begin; one more entry than lengths, so that the last has an end
        self._starts = np.searchsorted(np.array(lengths, np.int64), np.arange(max(lengths, default=0) + 2))

    def within(self, word: str, reach: int) -> list[tuple[int, int]]:
        """(place, distance) of every other word at most ``reach`` edits away, in no particular order."""
        low, high = self._start(len(word) - reach), self._start(len(word) + reach + 1)
        theirs, own = self._letters[low:high], np.uint32(_letters(word))
        near = _at_most(theirs & ~own, reach) & _at_most(own & ~theirs, reach)
        places = (np.flatnonzero(near) + low).tolist()
        found = process.extract(
            word, [self._words[place] for place in places], scorer=OSA.distance, score_cutoff=reach, limit=None,
        )  # fmt: skip
        return [(self._order[places[at]], int(distance)) for _, distance, at in found if distance]

    def _start(self, length: int) -> int:
        return int(self._starts[min(max(length, 0), len(self._starts) - 1)])


def _letters(word: str) -> int:
    bits = 0
    for letter in word:
        bits |= 1 << (ord(letter) % _BITS)
    return bits


def _at_most(bits: NDArray[np.uint32], n: int) -> NDArray[np.bool_]:
    """Where at most ``n`` bits are set: taking the lowest one away ``n`` times leaves nothing."""
    for _ in range(n):
        bits = bits & (bits - np.uint32(1))
    return np.asarray(bits == 0)
