"""Teachers: models that label pairs of a query and a product, or write text that a prompt asks for.

A teacher is a run of ours, another local model or an endpoint (``settings.py`` says which); ``opened`` gives it. Those
that read cost money or hours, so whoever asks gets what was answered even where the rest could not be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from engine.product import Product
from training.metrics import Scores

T = TypeVar("T")
#: Told how many are done, and of how many.
Done = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Pair:
    """What is labelled: whether ``product`` is what somebody wants who types ``query``."""

    query: str
    product: Product


class Labeller(Protocol):
    """Labels pairs. ``fingerprint`` is another where it might label differently."""

    @property
    def fingerprint(self) -> str: ...

    def label(self, pairs: Sequence[Pair], progress: Done = ...) -> Scores:
        """Probabilities from 0 to 1 that the product is wanted, float32 (n,); NaN where there was no usable answer.

        Raises EndpointError.
        """
        ...


class Writer(Protocol):
    """Answers prompts with text that fits a schema."""

    @property
    def fingerprint(self) -> str: ...

    def ask(self, prompts: Sequence[str], answer: type[T], progress: Done = ...) -> list[T | None]:
        """For each prompt JSON that ``answer``, a msgspec type, accepts; None where no attempt gave that.

        Raises EndpointError.
        """
        ...
