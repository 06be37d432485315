"""Queries in the words people speak: a fridge for a refrigerator, a telly, ``i need a``; and queries mistyped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from engine.understanding.synonyms import ELECTRONICS, Phrase, Synonyms, read_rules
from engine.understanding.words import tokens
from training.data.judging import Want
from training.data.typos import mistype
from training.data.writers.desk import Desk, Write
from training.data.writers.plain import write_attribute, write_brand, write_measure, write_several, write_type
from training.data.writers.things import write_short

_SPOKEN: tuple[Write, ...] = (write_type, write_type, write_brand, write_attribute, write_measure, write_several)
_TYPED: tuple[Write, ...] = (write_type, write_brand, write_attribute, write_several, write_short)
_FRAMES = (
    "best {}", "good {}", "a good {}", "buy {}", "buy {} online", "i need {}", "i want {}", "looking for {}", "need {}",
    "show me {}", "top rated {}", "new {}", "{} please", "{} deals", "{} price", "which {} to buy", "do you have {}",
)  # fmt: skip
#: Short forms of writing, which change no meaning.
_SHORT = {
    "and": "&", "with": "w/", "without": "w/o", "bluetooth": "bt", "replacement": "repl", "refrigerator": "refrig",
    "television": "tv", "televisions": "tvs", "microphone": "mic", "microphones": "mics", "professional": "pro",
    "black": "blk", "white": "wht", "women's": "womens", "men's": "mens", "children's": "childrens",
    "accessories": "acc", "batteries": "battery", "washing": "wash", "smartphone": "phone", "smartphones": "phones",
    "photograph": "photo", "gigabit": "gig", "headphones": "headphone", "original": "orig", "high": "hi",
}  # fmt: skip
_SHORT_SHARE, _FRAME_SHARE = 0.35, 0.25
#: What people say may be narrower than what shops write; words that would name another shop's make, or half a kind.
_NARROWER = frozenset({"pad", "grinder", "stick", "button"})


def write_everyday(desk: Desk, row: int) -> Want | None:
    """A plain query with some of it said otherwise; None where it has nothing to say otherwise."""
    want = desk.rng.choice(_SPOKEN)(desk, row)
    if want is None:
        return None
    words = [token.text for token in tokens(want.query)]
    said = " ".join(_respoken(desk, words)) if len(" ".join(words)) == len(want.query) else want.query
    if desk.rng.random() < _SHORT_SHARE:
        said = " ".join(_SHORT.get(word, word) for word in said.split())
    if desk.rng.random() < _FRAME_SHARE:
        said = desk.rng.choice(_FRAMES).format(said)
    return replace(want, kind="everyday", query=said) if said != want.query else None


def write_typo(desk: Desk, row: int) -> Want | None:
    """A query with a slip or two of the kinds that fingers and ears make."""
    want = desk.rng.choice(_TYPED)(desk, row)
    if want is None:
        return None
    slips = 2 if len(want.query) > 12 and desk.rng.random() < 0.2 else 1
    typed = want.query
    for _ in range(slips):
        typed = mistype(typed, desk.rng, desk.tokens)
    return replace(want, kind="typo", query=typed) if typed != want.query else None


def _respoken(desk: Desk, words: Sequence[str]) -> list[str]:
    """``words`` with one phrase put as people say it; as they are where no rule applies."""
    found = [
        (meaning, replacement)
        for meaning in _spoken().expand(words)
        for replacement in meaning.replacements
        if replacement[-1] not in _NARROWER
    ]
    if not found:
        return list(words)
    meaning, replacement = desk.rng.choice(found)
    return [*words[: meaning.start], *replacement, *words[meaning.end :]]


@cache
def _spoken() -> Synonyms:
    """The shipped rules turned round: from what shops write to what people say."""
    rules: list[tuple[Phrase, Phrase]] = [(written, said) for said, written in read_rules(ELECTRONICS)]
    return Synonyms(rules)
