"""Completes what is typed.

In turn, until there are enough: phrases that go on from what is typed, from their beginning or from a word inside;
phrases that have all typed words, with others between; and where the whole is in no phrase, the end of it that is.
Words that no phrase has are read as those they are near.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import product as combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine.fusion import among
from engine.suggestions.nearby import NearbyWords
from engine.suggestions.phrases import NUMBERS, Kind, SuggestionNumbers, key
from engine.suggestions.store import Arranged, read_suggestions

_EXAMINED = 2_000  # phrases with one typed word that are looked at for the others
_LONGEST = 12  # words; a longer text is no query
_MISTYPED = 3  # finished words that are read as others
_READINGS = 6
_END = "\uffff"
_NONE = np.empty(0, np.int64)


class Suggestion(NamedTuple):
    """What may be meant. ``kind`` is brand, type, phrase or query; ``score`` is comparable within one answer."""

    text: str
    kind: Kind
    score: float


class Completer:
    """The phrases of an index. Thread-safe."""

    def __init__(self, arranged: Arranged, numbers: SuggestionNumbers = NUMBERS) -> None:
        self._phrases, self._numbers = arranged.phrases, numbers
        self._of, inside = arranged.starts[:, 0], arranged.starts[:, 1]
        self._starts = [
            self._phrases[number].text.split(" ", place)[place] for number, place in arranged.starts.tolist()
        ]
        weights = np.array([phrase.weight for phrase in self._phrases], np.float32)
        self._weights = weights[self._of] - np.float32(numbers.inside) * (inside > 0)
        ends = arranged.ends.tolist()
        spans = zip(arranged.words, [0, *ends], ends, strict=False)
        self._with_word = {word: arranged.having[start:end] for word, start, end in spans}
        self._nearby = NearbyWords(arranged.words, np.diff(arranged.ends, prepend=0).tolist())

    def __len__(self) -> int:
        return len(self._phrases)

    def suggest(self, typed: str, k: int = 8) -> list[Suggestion]:
        """The ``k`` likeliest ways to go on, the likeliest first; none for what has no letter, or is a whole text."""
        words = key(typed).split()
        if not 0 < len(words) <= _LONGEST or k <= 0:
            return []
        if typed[-1:].isspace():
            words.append("")  # the last word is finished
        found: dict[str, Suggestion] = {}
        readings = list(self._readings(words))
        for slips, reading in readings:
            self._add(found, self._going_on(reading, k), self._numbers.slip * slips)
        for slips, reading in readings:
            if len(found) < k and len(reading) > 1:
                self._add(found, self._apart(reading, k), self._numbers.slip * slips + self._numbers.apart)
        for slips, reading in readings:
            for place in range(1, len(reading)):
                if found:
                    break
                head, taken = reading[:place], self._numbers.slip * slips + self._numbers.composed * place
                self._add(found, self._composed(head, reading[place:], k), taken)
        return _different(sorted(found.values(), key=lambda one: (-one.score, one.text)))[:k]

    def _add(self, found: dict[str, Suggestion], more: Iterator[Suggestion], taken: float) -> None:
        for one in more:
            score = one.score - taken
            if one.text not in found or found[one.text].score < score:
                found[one.text] = one._replace(score=score)

    def _readings(self, words: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
        """What is typed, and where a word of it is in no phrase, what it may have been meant to be, with how many
        letters are mistaken.
        """
        *finished, last = words
        options = [[(word, 0)] for word in words]
        unknown = [place for place, word in enumerate(finished) if word not in self._nearby]
        for place in unknown[:_MISTYPED]:
            options[place] = self._nearby.near(words[place]) or options[place]
        if last and not self._nearby.begins(last):
            options[-1] = self._nearby.near_beginnings(last) or options[-1]
        readings = (
            (sum(slips for _, slips in picked), [word for word, _ in picked]) for picked in combinations(*options)
        )
        yield from sorted(readings, key=lambda reading: reading[0])[:_READINGS]

    def _going_on(self, words: Sequence[str], k: int) -> Iterator[Suggestion]:
        """Phrases in which these words stand in a row, the last one perhaps unfinished."""
        typed = " ".join(words)
        start, end = bisect_left(self._starts, typed), bisect_left(self._starts, typed + _END)
        weights = self._weights[start:end]
        most = 3 * k  # a phrase may have the same word twice
        places = np.argpartition(-weights, most)[:most] if len(weights) > most else np.arange(len(weights))
        for place in places[np.argsort(-weights[places], kind="stable")].tolist():
            phrase = self._phrases[self._of[start + place]]
            yield Suggestion(phrase.text, phrase.kind, float(weights[place]))

    def _apart(self, words: Sequence[str], k: int) -> Iterator[Suggestion]:
        """Phrases that have these words, in any order and with others between, the last one perhaps unfinished."""
        *finished, last = words
        rarest, *others = sorted((self._with_word.get(word, _NONE) for word in finished), key=len)
        numbers = rarest[:_EXAMINED]
        for having in others:
            numbers = numbers[among(numbers, having)]
        if not len(numbers):
            return
        start, end = bisect_left(self._starts, last), bisect_left(self._starts, last + _END)
        if end - start < _EXAMINED:
            numbers = numbers[among(numbers, np.unique(self._of[start:end]))]
        found = 0
        for number in numbers.tolist():
            phrase = self._phrases[number]
            own = phrase.text.split(" ")
            if any(word.startswith(last) and word not in finished for word in own):
                yield Suggestion(phrase.text, phrase.kind, phrase.weight)
                found += 1
                if found == k:
                    return

    def _composed(self, head: Sequence[str], tail: Sequence[str], k: int) -> Iterator[Suggestion]:
        """The first words as they are, and phrases that begin with the others after them."""
        typed = " ".join(tail)
        if not typed:
            return
        start, end = bisect_left(self._starts, typed), bisect_left(self._starts, typed + _END)
        weights = self._weights[start:end]
        places = np.argpartition(-weights, k)[:k] if len(weights) > k else np.arange(len(weights))
        for place in places.tolist():
            phrase = self._phrases[self._of[start + place]]
            yield Suggestion(" ".join([*head, self._starts[start + place]]), phrase.kind, float(weights[place]))


def _different(found: Sequence[Suggestion]) -> list[Suggestion]:
    """Without what differs from a likelier one in a plural's s alone."""
    kept = {" ".join(word.rstrip("s") for word in one.text.split(" ")): one for one in reversed(found)}
    return [one for one in found if one in kept.values()]


def open_suggestions(path: Path) -> Completer:
    """The suggestions of an index, by their file. Raises IndexMismatchError and IndexCorruptError."""
    return Completer(read_suggestions(path))
