"""How much a word looks like the catalog's words, by the letters that follow each other in them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

_EDGE = "\n"  # stands before and after every word
_SHARES = (0.6, 0.3, 0.1)  # of the estimates from three, two and one letters
_ALPHABET = 64  # letters among which what was never seen is spread


class LetterModel:
    """Costs of letters in nats, by interpolated trigrams over distinct words (Jelinek and Mercer 1980)."""

    def __init__(self, words: Iterable[str]) -> None:
        text = _EDGE + _EDGE.join(word for word in words if word.isalpha()) + _EDGE
        self._threes = Counter(zip(text, text[1:], text[2:], strict=False))
        self._twos = Counter(pairwise(text))
        self._ones = Counter(text)
        self._total = len(text)

    def cost(self, word: str) -> float:
        """What the letters of ``word`` and its end cost; about 2 to 3 a letter for one that looks like a word."""
        cost, before, last = 0.0, "", _EDGE
        for letter in (*word, _EDGE):
            three = self._threes[before, last, letter] / self._twos[before, last] if self._twos[before, last] else 0.0
            two = self._twos[last, letter] / self._ones[last] if self._ones[last] else 0.0
            one = (self._ones[letter] + 1) / (self._total + _ALPHABET)
            cost -= math.log(_SHARES[0] * three + _SHARES[1] * two + _SHARES[2] * one)
            before, last = last, letter
        return cost
