"""Slips as people make them: fingers miss, drop, double or swap letters, ears misspell, spaces go astray."""

from __future__ import annotations

import random
from collections.abc import Callable, Container

from engine.understanding.edits import NEIGHBOURS

_LEAST_WORD = 4  # letters of a word worth mistyping
_TRIES = 12
#: The keys beside each.
_KEYS = {key: "".join(sorted(b for a, b in NEIGHBOURS if a == key)) for key, _ in NEIGHBOURS}
#: Spellings that sound alike, either of which may be written for the other.
_SOUNDS = (
    ("ph", "f"), ("ei", "ie"), ("ea", "ee"), ("ck", "k"), ("tion", "sion"), ("able", "ible"), ("er", "or"),
    ("ou", "u"), ("c", "k"), ("c", "s"), ("s", "z"), ("x", "cks"), ("qu", "kw"), ("y", "i"), ("gh", "g"),
    ("wh", "w"), ("ance", "ence"), ("ant", "ent"), ("oo", "u"), ("ai", "ay"), ("j", "g"), ("le", "el"),
)  # fmt: skip

Slip = Callable[[str, random.Random], str]


def mistype(query: str, rng: random.Random, known: Container[str] = ()) -> str:
    """``query`` with one slip; as it was where it has no word long enough.

    A slip that makes another of the ``known`` words is tried again: ``cast`` for ``case`` would ask for something
    else. A query's words without a letter, such as measures, stay.
    """
    for _ in range(_TRIES):
        slipped = rng.choices((_in_word, _joined, _split), (84, 9, 7))[0](query, rng)
        if slipped != query and not any(word in known for word in set(slipped.split()) - set(query.split())):
            return slipped
    return query


def _in_word(query: str, rng: random.Random) -> str:
    words = query.split(" ")
    places = [place for place, word in enumerate(words) if len(word) >= _LEAST_WORD and word.isalpha()]
    if not places:
        return query
    place = rng.choice(places)
    slips: tuple[Slip, ...] = (_drop, _double, _swap, _key, _sound)
    words[place] = rng.choices(slips, (26, 14, 20, 16, 24))[0](words[place], rng)
    return " ".join(words)


def _drop(word: str, rng: random.Random) -> str:
    at = rng.randrange(1, len(word))
    return word[:at] + word[at + 1 :]


def _double(word: str, rng: random.Random) -> str:
    """A letter twice, or a double letter once, as people get doubles wrong either way."""
    doubles = [at for at in range(1, len(word)) if word[at] == word[at - 1]]
    if doubles:
        at = rng.choice(doubles)
        return word[:at] + word[at + 1 :]
    at = rng.randrange(1, len(word))
    return word[: at + 1] + word[at:]


def _swap(word: str, rng: random.Random) -> str:
    at = rng.randrange(1, len(word) - 1)
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]


def _key(word: str, rng: random.Random) -> str:
    at = rng.randrange(1, len(word))
    beside = _KEYS.get(word[at], "")
    return word[:at] + rng.choice(beside) + word[at + 1 :] if beside else word


def _sound(word: str, rng: random.Random) -> str:
    """A group of letters for another of the same sound, not at the very beginning unless it is a group there."""
    ways = [(a, b) for pair in _SOUNDS for a, b in (pair, pair[::-1]) if a in word[1:] or (len(a) > 1 and a in word)]
    if not ways:
        return word
    heard, written = rng.choice(ways)
    at = word.find(heard, 0 if len(heard) > 1 else 1)
    return word[:at] + written + word[at + len(heard) :]


def _joined(query: str, rng: random.Random) -> str:
    """Two words written as one."""
    spaces = [at for at, letter in enumerate(query) if letter == " "]
    if not spaces:
        return query
    at = rng.choice(spaces)
    return query[:at] + query[at + 1 :]


def _split(query: str, rng: random.Random) -> str:
    """A long word in two."""
    words = query.split(" ")
    places = [place for place, word in enumerate(words) if len(word) >= 2 * _LEAST_WORD and word.isalpha()]
    if not places:
        return query
    place = rng.choice(places)
    at = rng.randrange(3, len(words[place]) - 2)
    words[place] = f"{words[place][:at]} {words[place][at:]}"
    return " ".join(words)
