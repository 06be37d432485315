"""The reader of sentences: where no attribute says what is asked, a title, a bullet or a sentence may, word by word."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product as combinations

from engine.analysis.analyzer import STOP_WORDS
from engine.answers.fields import Passage, text_passages
from engine.answers.finding import Finding, Verdict, capital, title_of
from engine.answers.lexicon import WORDS
from engine.answers.numbers import AnswerNumbers
from engine.answers.reading import Question
from engine.answers.wording import Word, words_of
from engine.product import Product

_NEGATES = frozenset({
    "no", "not", "without", "lacks", "lack", "lacking", "isn't", "doesn't", "don't", "cannot", "can't", "never",
    "excluding", "excludes", "non", "minus",
})  # fmt: skip
_AWAY = re.compile(
    r"\b(?:sold separately|not included|not supplied|bought separately|not supported|not available|optional)\b", re.I
)
_SLACK = 2  # words that may stand between those that are asked for
_BEFORE = 3  # words before them in which a "no" is theirs
_AROUND = 4  # words around them in which a number is theirs
_MOST_PLACES = 6  # of one word in a sentence


@dataclass(frozen=True, slots=True)
class Sighting:
    """Asked words in a passage: the ``first`` and ``last`` of its words that have them, and whether they are denied."""

    passage: Passage
    words: tuple[Word, ...]
    first: int
    last: int
    verdict: Verdict


class TextReader:
    """Reads titles, bullets and descriptions. Thread-safe. ``usable`` says whether a passage may be evidence."""

    def __init__(self, numbers: AnswerNumbers, usable: Callable[[str], bool]) -> None:
        self._numbers, self._usable = numbers, usable

    def read(self, question: Question, asked: Sequence[Word], products: Sequence[Product]) -> Finding | None:
        """The finding of the first product whose text has the asked words together; None where none has."""
        wanted = [word for word in asked if word.text not in WORDS.question.modifier] or list(asked)
        if not wanted:
            return None
        found = [(product, sighting) for product in products if (sighting := self._best(question, wanted, product))]
        if not found:
            return None
        verdicts = {sighting.verdict for _, sighting in found}
        product, sighting = found[0]
        if question.polar and len(verdicts) > 1:
            product, sighting = next((p, s) for p, s in found if s.verdict == "no")
        evidence = tuple(s.passage.evidence() for _, s in found[:3] if s.verdict == sighting.verdict)
        source = sighting.passage.field.split("[")[0].removesuffix("s")
        quoted = " ".join(sighting.passage.text.split()).rstrip(".")
        about = title_of(product)
        if question.polar:
            verdict = sighting.verdict
            text = f"{capital(verdict)}: “{quoted}” ({about})."
            return Finding(
                "yes_no", text, "answered", self._numbers.text_confidence, f"its {source} says so", verdict,
                (product,), evidence,
            )  # fmt: skip
        return Finding(
            "fact", f"“{quoted}” ({about}).", "answered", self._numbers.text_confidence, f"its {source} says so", None,
            (product,), evidence,
        )  # fmt: skip

    def _best(self, question: Question, wanted: Sequence[Word], product: Product) -> Sighting | None:
        for passage in text_passages(product):
            if len(wanted) == 1 and passage.field == "description" and wanted[0].text.isalpha():
                continue  # one word in prose says little
            sighting = sighted(passage, wanted)
            if sighting is None or not self._usable(passage.text):
                continue
            if question.polar or _has_number(sighting):
                return sighting
        return None


def sighted(passage: Passage, wanted: Sequence[Word]) -> Sighting | None:
    """Where all wanted words stand close together in a passage; None where they do not."""
    words = words_of(passage.text)
    places = [[at for at, word in enumerate(words) if _is(word, words, at, want)][:_MOST_PLACES] for want in wanted]
    if not all(places):
        return None
    best = min(combinations(*places), key=lambda chosen: max(chosen) - min(chosen)) if _few(places) else ()
    if not best or max(best) - min(best) >= len(wanted) + _SLACK:
        return None
    first, last = min(best), max(best)
    if len(wanted) == 1 and _is_part(passage.text, words[last : last + 2]):
        return None
    # What stands between two full stops of a list is of its own: "HDMI, USB-C, microSD".
    before = passage.text[words[max(first - _BEFORE, 0)].start : words[first].start]
    own = re.split(r"[,;:.!]", before)[-1]
    denied = bool(_NEGATES.intersection(word.text for word in words_of(own)))
    after = passage.text[words[last].end :]
    denied = denied or bool(_AWAY.search(re.split(r"[,;.!]", after)[0]))
    return Sighting(passage, tuple(words), first, last, "no" if denied else "yes")


def _is_part(text: str, pair: Sequence[Word]) -> bool:
    """Whether the first of two words says what the other is of: a "stand drawer" is no stand."""
    if len(pair) < 2 or text[pair[0].end : pair[1].start] != " " or _AWAY.match(text, pair[1].start):
        return False
    after = text[pair[1].start : pair[1].end]
    grammar = STOP_WORDS | WORDS.question.carrier | WORDS.question.modifier | WORDS.question.auxiliary
    return after.isalpha() and after.islower() and after not in grammar


def _few(places: Sequence[Sequence[int]]) -> bool:
    """Whether there are few enough ways to choose."""
    ways = 1
    for of in places:
        ways *= len(of)
    return ways <= 2_000


def _is(word: Word, words: Sequence[Word], at: int, want: Word) -> bool:
    """Whether a word is the wanted one, also where the text writes it as two."""
    if word.stem == want.stem:
        return True
    after = words[at + 1].text if at + 1 < len(words) else ""
    return bool(after) and word.text + after == want.text


def _has_number(sighting: Sighting) -> bool:
    around = sighting.words[max(sighting.first - _AROUND, 0) : sighting.last + 1 + _AROUND]
    return any(any(c.isdigit() for c in word.text) for word in around)
