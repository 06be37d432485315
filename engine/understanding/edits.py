"""How likely a word was meant when another was typed: optimal string alignment with a cost per kind of slip.

The alignment is that of Damerau (1964) in its restricted form: insert, drop, replace, and swap of neighbours, each
letter in at most one edit. What differs from the textbook is that slips people often make cost less.
"""

from __future__ import annotations

from dataclasses import dataclass

_VOWELS = frozenset("aeiouy")
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


def _neighbours() -> frozenset[tuple[str, str]]:
    """Pairs of keys that touch on a QWERTY keyboard, both ways round; each row is shifted by half a key."""
    place = {key: (row, column + row * 0.5) for row, keys in enumerate(_ROWS) for column, key in enumerate(keys)}
    return frozenset(
        (a, b)
        for a, (row_a, at_a) in place.items()
        for b, (row_b, at_b) in place.items()
        if a != b and abs(row_a - row_b) <= 1 and abs(at_a - at_b) <= 1
    )


#: Pairs of keys that touch.
NEIGHBOURS = _neighbours()
#: Letters that sound alike often enough to be written for each other.
_SOUNDS = frozenset({("c", "k"), ("c", "s"), ("s", "z"), ("f", "v"), ("g", "j"), ("k", "q"), ("m", "n"), ("d", "t")})
_ALIKE = _SOUNDS | {(b, a) for a, b in _SOUNDS}


@dataclass(frozen=True, slots=True)
class EditCosts:
    """Costs of slips in nats (negative log probabilities), fitted on pairs (docs/understanding.md).

    ``double``: one of two equal letters left out, or a letter written twice. ``vowel``: a vowel dropped, added or
    replaced by another. ``key``: the key beside it. ``sound``: a letter that sounds alike. ``swap``: two neighbours in
    the wrong order. ``drop``, ``add``, ``replace``: anything else. ``first``: on top, where the first letter is wrong.
    ``end``: on top, where a final ``s`` was dropped or added, which is more often meant than a slip.
    """

    double: float = 1.7
    vowel: float = 2.75
    key: float = 4.1
    sound: float = 2.85
    swap: float = 1.3
    drop: float = 1.8
    add: float = 5.5
    replace: float = 6.4
    first: float = 5.3
    end: float = 1.0


def edit_cost(typed: str, meant: str, costs: EditCosts) -> float:
    """What it costs to have typed ``typed`` for ``meant``; 0 when they are equal."""
    if typed == meant:
        return 0.0
    start = 0
    shorter = min(len(typed), len(meant))
    while start < shorter and typed[start] == meant[start]:
        start += 1
    stop = 0
    while stop < shorter - start and typed[-1 - stop] == meant[-1 - stop]:
        stop += 1
    # The letter before the difference stays: whether a letter is doubled depends on it.
    start = max(0, start - 1)
    return _align(typed, meant, start, len(typed) - stop, len(meant) - stop, costs)


def _align(typed: str, meant: str, start: int, typed_end: int, meant_end: int, costs: EditCosts) -> float:
    """The cheapest alignment of ``typed[start:typed_end]`` to ``meant[start:meant_end]``, row by row."""
    before_last: list[float] = []
    last = [0.0]
    for j in range(start, meant_end):
        last.append(last[-1] + _gap(meant, j, costs.drop, costs))
    for i in range(start, typed_end):
        added = _gap(typed, i, costs.add, costs)
        row = [last[0] + added]
        for j in range(start, meant_end):
            at = j - start
            best = min(
                last[at] + _replaced(typed[i], meant[j], i == 0 or j == 0, costs),
                last[at + 1] + added,
                row[at] + _gap(meant, j, costs.drop, costs),
            )
            if before_last and at and typed[i] == meant[j - 1] and typed[i - 1] == meant[j] and typed[i] != meant[j]:
                best = min(best, before_last[at - 1] + costs.swap + (costs.first if i == 1 else 0.0))
            row.append(best)
        before_last, last = last, row
    return last[-1]


def _gap(word: str, at: int, otherwise: float, costs: EditCosts) -> float:
    """The cost of a letter that the other word lacks."""
    letter = word[at]
    if at and word[at - 1] == letter:
        return costs.double
    if at + 1 == len(word) and letter == "s":
        return otherwise + costs.end
    cost = costs.vowel if letter in _VOWELS else otherwise
    return cost + costs.first if at == 0 else cost


def _replaced(typed: str, meant: str, first: bool, costs: EditCosts) -> float:
    if typed == meant:
        return 0.0
    if typed in _VOWELS and meant in _VOWELS:
        cost = costs.vowel
    elif (typed, meant) in _ALIKE:
        cost = costs.sound
    elif (typed, meant) in NEIGHBOURS:
        cost = costs.key
    else:
        cost = costs.replace
    return cost + costs.first if first else cost
