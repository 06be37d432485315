"""The channel: how what is meant becomes what is typed. Which known words a word may be a slip of, and at what cost."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache

from engine.analysis.analyzer import STOP_WORDS, singular
from engine.analysis.units import UNITS
from engine.understanding.edits import EditCosts, edit_cost
from engine.understanding.language import LanguageModel
from engine.understanding.letters import LetterModel
from engine.understanding.nearest import NearestWords

MAX_LETTERS = 40  # a longer run of letters is noise, and is left alone
_CANDIDATES = 8  # known words tried for one typed word
_MIN_HALF = 4  # letters of two words run together of which one is misspelt
#: (letters of a word from which on, slips it may have), long words first
_REACH = ((9, 3), (5, 2), (3, 1), (0, 0))
_COMMON = 20  # sightings of a word above which it is surely one
_CACHED = 20_000
#: What makes one word of another without a slip; analysis takes most of it off again.
_ENDINGS = frozenset({"s", "es", "d", "ed", "r", "er", "ers", "ing", "ly"})
_OUTNUMBERED = 5.0  # times as often a word must be seen, so that another of the catalog's words may be a slip of it
_DERIVED = ("ly", "ed", "ing", "er", "ers", "able")

#: (words by number, the channel's cost, the text they make)
Option = tuple[tuple[int, ...], float, str]


@dataclass(frozen=True, slots=True)
class ChannelCosts:
    """What it costs, in nats, to take a query for other than what was typed. Fitted on pairs (docs/understanding.md).

    - ``misspelt``: that a word has a slip at all; ``short``: on top for words under five letters.
    - ``real_word``: on top, where what was typed is a word of the catalog. Less where the catalog may have slipped
      itself: ``rare_word``, and ``rare_slope`` times how much more frequent the word is than slips would make it.
    - ``split``, ``join``: a space left out or put in; ``number_space``: one left out beside a number.
    - ``unknown``, ``letter``: that a word the catalog lacks is one after all, and times what its letters cost.
    - ``language``: how much the language counts beside the channel.
    """

    misspelt: float = 1.75
    real_word: float = 8.0
    rare_word: float = 0.8
    rare_slope: float = 0.55
    split: float = 6.4
    join: float = 7.0
    number_space: float = 3.0
    unknown: float = 2.3
    letter: float = 0.4
    short: float = -0.3
    language: float = 0.7
    edits: EditCosts = field(default_factory=EditCosts)


class Channel:
    """What words may have been meant. Thread-safe; recent words are cached."""

    def __init__(self, language: LanguageModel, costs: ChannelCosts) -> None:
        self._language, self._costs = language, costs
        self._nearest = NearestWords(language.words)
        self._letters = LetterModel(language.words)
        self.candidates = lru_cache(maxsize=_CACHED)(self._find_candidates)
        self.splits = lru_cache(maxsize=_CACHED)(self._find_splits)
        self.slipped_splits = lru_cache(maxsize=_CACHED)(self._find_slipped_splits)

    def unknown(self, word: str) -> float:
        return self._language.unseen + self._costs.unknown + self._costs.letter * self._letters.cost(word)

    def real_word(self, known: int, meant: int, cost: float) -> float:
        """``cost`` of the slip, and what it costs on top that a word of the catalog is one.

        That is little where the catalog itself may have slipped: where the word is no more frequent than so many slips
        in the word that is meant would make it.
        """
        if known < 0:
            return cost
        language, costs = self._language, self._costs
        times = (language.counts[meant] + 1) / (language.counts[known] + 1)
        if times < _OUTNUMBERED:
            return cost + costs.real_word
        return max(0.0, cost + min(costs.real_word, costs.rare_word + costs.rare_slope * (cost - math.log(times))))

    def _find_candidates(self, word: str) -> tuple[Option, ...]:
        """The known words that ``word`` may have been meant as, cheapest first."""
        reach = next(edits for length, edits in _REACH if len(word) >= length)
        if not reach or self._is_derived(word):
            return ()
        base = self._costs.misspelt + (self._costs.short if len(word) < 5 else 0.0)
        language = self._language
        near = self._nearest.within(word, reach)
        scored = []
        for number, _ in near:
            if _is_form(word, language.words[number]):
                continue
            cost = base + edit_cost(word, language.words[number], self._costs.edits)
            scored.append((cost + self._costs.language * language.unigram[number], number, cost))
        scored.sort()
        return tuple(((number,), cost, language.words[number]) for _, number, cost in scored[:_CANDIDATES])

    def _is_derived(self, word: str) -> bool:
        """Whether ``word`` is unknown but a known word with an ending: no slip, and the same stem as a rule."""
        language = self._language
        if word in language:
            return False
        if singular(word) in language:
            return True
        if word.endswith("s") and len(word) > 4 and word[-2] not in "su" and word[:-1] in language:
            return True
        return any(word.endswith(ending) and language.frequency(word[: -len(ending)]) > _COMMON for ending in _DERIVED)

    def _find_splits(self, word: str) -> tuple[Option, ...]:
        """Ways to read ``word`` as known words without their spaces, cheapest first."""
        if len(word) > MAX_LETTERS:
            return ()
        number, language = self._language.number, self._language
        #: per end: (cost, numbers) of the cheapest reading of word[:end]
        best: list[tuple[float, tuple[int, ...]] | None] = [(0.0, ())] + [None] * len(word)
        for end in range(1, len(word) + 1):
            for start in range(end - 1):
                before = best[start]
                known = number.get(word[start:end], -1)
                if before is None or known < 0 or (end - start < 3 and not _is_short_word(word[start:end])):
                    continue
                last = before[1][-1] if before[1] else -1
                cost = before[0] + language.cost(last, known) + (self._costs.split if before[1] else 0.0)
                if best[end] is None or cost < best[end][0]:  # type: ignore[index]
                    best[end] = (cost, (*before[1], known))
        whole = best[-1]
        if whole is None or len(whole[1]) < 2:
            return ()
        numbers = whole[1]
        text = " ".join(language.words[n] for n in numbers)
        return ((numbers, (len(numbers) - 1) * self._costs.split, text),)

    def _find_slipped_splits(self, word: str) -> tuple[Option, ...]:
        """Ways to read ``word`` as two words without their space, one of them misspelt."""
        language, out = self._language, []
        for cut in range(_MIN_HALF, len(word) - _MIN_HALF + 1):
            left, right = language.number.get(word[:cut], -1), language.number.get(word[cut:], -1)
            if left >= 0 and right < 0 and language.counts[left] > _COMMON:
                out += [
                    ((left, *numbers), self._costs.split + cost, f"{word[:cut]} {text}")
                    for numbers, cost, text in self.candidates(word[cut:])[:2]
                ]
            elif right >= 0 and left < 0 and language.counts[right] > _COMMON:
                out += [
                    ((*numbers, right), self._costs.split + cost, f"{text} {word[cut:]}")
                    for numbers, cost, text in self.candidates(word[:cut])[:2]
                ]
        return tuple(sorted(out, key=lambda option: option[1])[:_CANDIDATES])


def _is_form(word: str, other: str) -> bool:
    """Whether the two are one word with and without an ending: no slip, and analysis makes them one as a rule."""
    shorter, longer = sorted((word, other), key=len)
    return longer.startswith(shorter) and longer[len(shorter) :] in _ENDINGS and not longer.endswith("ss")


def _is_short_word(word: str) -> bool:
    return word in STOP_WORDS or word in UNITS
