"""How far a model is trusted that reads text which anybody may have written into a catalog."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np


class Defence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What keeps a product's text from ordering the list it is in.

    ``escape`` takes marks, brackets and control characters out of a product's text, which is cut to ``characters`` and
    stands between marks that it cannot hold. ``shuffled`` reads each window a second time, in reverse, and takes the
    mean of both. ``prior`` is what the place before counts beside the model's, from 0 to 1. ``max_rise`` is how many
    places a product may rise above its place before; 0 is no limit.
    """

    escape: bool = True
    characters: int = 120
    shuffled: bool = False
    prior: float = 0.3
    max_rise: int = 10

    def __post_init__(self) -> None:
        if not 0 <= self.prior <= 1:
            raise ValueError(f"prior is {self.prior}; it must be from 0 to 1")
        if self.characters < 1 or self.max_rise < 0:
            raise ValueError(f"characters is {self.characters} and max_rise {self.max_rise}; at least 1, and 0")


NO_DEFENCE = Defence(escape=False, characters=1_200, shuffled=False, prior=0.0, max_rise=0)


def held(order: Sequence[int], defence: Defence) -> list[int]:
    """``order``, places before by place now, with the place before counting ``prior`` and no rise over ``max_rise``."""
    places = np.empty(len(order))
    places[list(order)] = np.arange(len(order))
    mixed = (1 - defence.prior) * places + defence.prior * np.arange(len(order))
    wanted = np.lexsort((places, mixed)).tolist()
    return bounded(wanted, defence.max_rise) if defence.max_rise else wanted


def bounded(order: Sequence[int], max_rise: int) -> list[int]:
    """The order nearest to ``order`` in which nothing stands more than ``max_rise`` above where it stood before.

    Place by place: of those that may stand there, the one that ``order`` has first.
    """
    waiting, out = list(order), []
    for place in range(len(order)):
        chosen = next(before for before in waiting if before - place <= max_rise)
        waiting.remove(chosen)
        out.append(chosen)
    return out
