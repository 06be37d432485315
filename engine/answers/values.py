"""The texts that a catalog has as values, asked for words: found where they stand, so that none is read beforehand."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import accumulate, islice

from engine.analysis.analyzer import fold
from engine.answers.lexicon import WORDS
from engine.answers.wording import stem, words_of

_FEW_WORDS = 2
_BREAK = "\n"
_MOST_HITS = 400  # places of a word's beginning that are looked at


class ValueTexts:
    """Texts, and which words they have. Thread-safe. ``usable`` says whether a text may count at all."""

    def __init__(self, texts: Iterable[str], usable: Callable[[str], bool]) -> None:
        self._texts = [" ".join(text.split()) for text in texts]
        folded = [text.lower() if text.isascii() else fold(text).lower() for text in self._texts]
        self._folded = _BREAK.join(folded)
        self._starts = [0, *accumulate(len(text) + len(_BREAK) for text in folded)]
        self._usable = usable
        self.having = lru_cache(maxsize=4_096)(self._having)

    def _having(self, stems: frozenset[str], most: int = 0) -> bool:
        """Whether one text has all of some words, given by their stems; with ``most``, one of no more words than
        that.
        """
        if not stems:
            return False
        for text in self._beginning(max(stems, key=len)):
            words = words_of(text)
            if (not most or len(words) <= most) and stems <= {word.stem for word in words} and self._counts(text):
                return True
        return False

    def _beginning(self, wanted: str) -> Iterator[str]:
        """The texts that have a word which begins as a stem does, each once."""
        last = -1
        for match in islice(_beginning(wanted).finditer(self._folded), _MOST_HITS):
            row = bisect_right(self._starts, match.start()) - 1
            if row != last:
                yield self._texts[row]
            last = row

    def _counts(self, text: str) -> bool:
        """Whether a text may count. One of a word or two tells nobody what to do."""
        return text.count(" ") < _FEW_WORDS or self._usable(text)


@lru_cache(maxsize=20_000)
def _beginning(wanted: str) -> re.Pattern[str]:
    """Where a word with a stem may begin: of a stem the last letter may be another ("batteri" of "battery"), and what
    is written as two words begins with the first.
    """
    pairs = [first for name, of in WORDS.joined.items() if stem(name) == wanted for first, _ in of]
    beginnings = [wanted[:-1] if len(wanted) > 3 and wanted.isalpha() else wanted, *pairs]
    before = r"(?<!\d)(?<!\d[.,])" if wanted[:1].isdigit() else r"(?<![^\W\d_])"
    return re.compile(before + "(?:" + "|".join(map(re.escape, beginnings)) + ")")
