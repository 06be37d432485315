"""Words, and beginnings of words, that are near what is typed: for letters left out, added, swapped or mistaken.

Beginnings are compared with beginnings, for what is typed may not be finished: of all words that share a first letter
with the typed one, the different beginnings of about its length are few.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache

from rapidfuzz import process
from rapidfuzz.distance import OSA

_SHORTEST = 3  # letters; shorter ones are near everything
_LONG = 6  # letters from which two may be mistaken
_MOST = 3  # readings of one word


class NearbyWords:
    """The words of a catalog's phrases, to be found by what is near them. Thread-safe."""

    def __init__(self, words: Sequence[str], counts: Sequence[int]) -> None:
        """``words`` ascend, and each is in as many phrases as its count says."""
        self._words = words
        self._counts = dict(zip(words, counts, strict=True))
        self._beginnings = lru_cache(maxsize=2_000)(self._beginnings_of)
        self._weight = lru_cache(maxsize=20_000)(self._count_of)

    def __contains__(self, word: str) -> bool:
        return word in self._counts

    def begins(self, beginning: str) -> bool:
        """Whether any word begins like this."""
        at = bisect_left(self._words, beginning)
        return at < len(self._words) and self._words[at].startswith(beginning)

    def near(self, word: str) -> list[tuple[str, int]]:
        """Words near a whole one with how many letters are mistaken, the likeliest first."""
        far = _far(word)
        if not far:
            return []
        found = {
            choice: int(distance)
            for choices in {letter: self._of_letter(letter) for letter in word[:2]}.values()
            for choice, distance, _ in process.extract(word, choices, scorer=OSA.distance, score_cutoff=far, limit=None)
        }
        return sorted(found.items(), key=lambda one: (one[1], one[0][0] != word[0], -self._counts[one[0]], one[0]))[
            :_MOST
        ]

    def near_beginnings(self, beginning: str) -> list[tuple[str, int]]:
        """Beginnings of words near that of one, in the same way."""
        far = _far(beginning)
        found: dict[str, int] = {}
        for letter in dict.fromkeys(beginning[:2] if far else ""):
            for length in range(len(beginning) - far, len(beginning) + far + 1):
                choices = self._beginnings(letter, length)
                for choice, distance, _ in process.extract(
                    beginning, choices, scorer=OSA.distance, score_cutoff=far, limit=None
                ):
                    found[choice] = int(distance)
        ranked = sorted(
            found.items(), key=lambda one: (one[1], one[0][0] != beginning[0], -self._weight(one[0]), one[0])
        )
        return ranked[:_MOST]

    def _of_letter(self, letter: str) -> Sequence[str]:
        return self._words[bisect_left(self._words, letter) : bisect_left(self._words, letter + "\uffff")]

    def _beginnings_of(self, letter: str, length: int) -> tuple[str, ...]:
        return tuple(dict.fromkeys(word[:length] for word in self._of_letter(letter) if len(word) >= length))

    def _count_of(self, beginning: str) -> int:
        start, end = bisect_left(self._words, beginning), bisect_left(self._words, beginning + "\uffff")
        return sum(self._counts[word] for word in self._words[start:end])


def _far(word: str) -> int:
    """How many letters of a word may be mistaken; none of a number."""
    if len(word) < _SHORTEST or any(c.isdigit() for c in word):
        return 0
    return 2 if len(word) >= _LONG else 1
