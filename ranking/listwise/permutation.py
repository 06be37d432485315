"""What a model's text says of an order. The text is hostile: whatever it is, a permutation comes out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_MAX_ANSWER = 10_000  # characters that are read
_BRACKETED = re.compile(r"\[\s*([A-Z]|\d{1,3})\s*\]?")
_BARE = re.compile(r"(?<![A-Za-z\d])([A-Z]|\d{1,3})(?![A-Za-z\d])")


@dataclass(frozen=True, slots=True)
class Permutation:
    """``order`` has the places of a window, each once, the best first. ``problem`` is empty where the text said it all
    once, and tells otherwise what was made up for.
    """

    order: tuple[int, ...]
    problem: str = ""


def read_permutation(text: str, labels: Sequence[str]) -> Permutation:
    """The order that ``text`` gives ``labels``, as in ``[B] > [A]``.

    Labels in brackets count, or where there is none those that stand alone. Labels that were named before or are none
    are dropped, and those that are missing come last, in their old order.
    """
    cut = text[:_MAX_ANSWER]
    named = _BRACKETED.findall(cut) or _BARE.findall(cut)
    places = {label: place for place, label in enumerate(labels)}
    known = [places[label] for label in named if label in places]
    order = list(dict.fromkeys(known))
    missing = [place for place in range(len(labels)) if place not in set(order)]
    problems = {
        "unknown": len(named) - len(known), "repeated": len(known) - len(order), "missing": len(missing),
    }  # fmt: skip
    said = ", ".join(f"{n} {what}" for what, n in problems.items() if n)
    return Permutation((*order, *missing), f"the answer had {said}" if said else "")
