"""The words of ``relations.toml``, and the numbers of ``families.toml``."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

import msgspec

from engine.errors import ConfigError
from engine.fitted import Fitted

Kind = Literal[
    "cheaper", "dearer", "like", "than", "upgrade", "successor", "predecessor", "latest", "new", "previous", "last_year"
]  # fmt: skip


class NameWords(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What in a title ends the product's own name, makes a variant, and counts no generations."""

    ends: frozenset[str]
    variants: frozenset[str]
    ordinal: frozenset[str]
    no_series: frozenset[str]


class RelationWords(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Phrases that stand before, or after, what they speak of; those that are ``weak`` have other meanings too."""

    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    weak: frozenset[str] = frozenset()


class WordList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Words of one meaning."""

    words: frozenset[str]


class Elsewhere(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Another maker's names, what such things are called, and their place by price, from 0 to 1, among those."""

    words: tuple[str, ...]
    of: tuple[str, ...]
    place: float


class FamilyWords(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of ``relations.toml``."""

    names: NameWords
    makers: WordList
    but: WordList
    relation: dict[Kind, RelationWords]
    comparative: dict[str, str]
    elsewhere: dict[str, Elsewhere]


class FamilyNumbers(Fitted, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What makes a series, and what relations count.

    - ``weight``, ``series_weight``: what a whole fit adds to fused scores, of a relation to a model and of a mere
      "latest" or "previous".
    - ``least_generations``, ``least_priced_generations``: how many make a series where releases are known, or only
      prices.
    - ``least_concordance``: the share of its pairs of generations of which the higher number must be the later, or
      where releases are unknown the dearer.
    - ``largest_step``, ``least_gap_days``: the median step from one number to the next is at most the one, and the
      median time between releases at least the other: what is larger, or comes out on the same day, is a tier and no
      generation.
    - ``price_share``: of the likeness of two products, what their prices say; their attributes say the rest.
    - ``nearest_share``: of "cheaper than X", what nearness to X counts.
    - ``beyond_fit``: the fit of what is of the type asked for, and of another series.
    """

    weight: float
    series_weight: float
    least_generations: int
    least_concordance: float
    least_priced_generations: int
    largest_step: int
    least_gap_days: int
    price_share: float
    nearest_share: float
    beyond_fit: float


NUMBERS = FamilyNumbers.read(Path(__file__).with_name("families.toml"))


@cache
def shipped_words() -> FamilyWords:
    """The shipped words. Raises ConfigError naming the file and the entry."""
    path = Path(__file__).with_name("relations.toml")
    try:
        return msgspec.toml.decode(path.read_bytes(), type=FamilyWords)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{path}: {error}") from error
