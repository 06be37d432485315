"""Query → product types: what every classifier does, and what is made of its probabilities for the caller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError, IndexMismatchError
from engine.seams import Embeddings, Encoder
from qpt.conformal import in_set, threshold
from qpt.hierarchy import Hierarchy
from qpt.softmax import Matrix
from qpt.taxonomy import Taxonomy


class TypeClassifier(Protocol):
    """Says how probable each type is. Thread-safe."""

    @property
    def taxonomy(self) -> Taxonomy: ...

    @property
    def types(self) -> tuple[str, ...]:
        """Ids of the types that have a column, in order."""
        ...

    @property
    def encoder_fingerprint(self) -> str:
        """Names the encoder whose vectors it takes."""
        ...

    @property
    def conformal_scores(self) -> NDArray[np.float32]:
        """What ``qpt.conformal.nonconformity`` gave on examples that the classifier had not learnt from."""
        ...

    def probabilities(self, queries: Sequence[str], vectors: Embeddings, locales: Sequence[str]) -> Matrix:
        """Float32 (n, types); every row adds up to 1. ``vectors`` are of the queries; a locale may be unknown."""
        ...


class RankedType(NamedTuple):
    type_id: str
    name: str
    probability: float


@dataclass(frozen=True, slots=True)
class TypeDistribution:
    """What a query asks for.

    ``ranked`` has the most probable types, best first. ``chosen`` is the deepest type or parent that is probable
    enough, None where the classifier abstains; ``reason`` then says why and is otherwise empty. ``conformal_set`` holds
    a right type with probability ``coverage``, over queries like those it was calibrated on; best first.
    """

    query: str
    locale: str
    ranked: tuple[RankedType, ...]
    chosen: RankedType | None
    reason: str
    conformal_set: tuple[str, ...]
    coverage: float

    @property
    def abstained(self) -> bool:
        return self.chosen is None


class QueryTypes:
    """Answers with a classifier and the encoder of its vectors.

    ``least`` is the probability that a type or parent needs to be chosen. Raises ConfigError on settings out of range,
    IndexMismatchError where the encoder is not the classifier's.
    """

    def __init__(
        self, classifier: TypeClassifier, encoder: Encoder, *, least: float = 0.5, coverage: float = 0.9, k: int = 10
    ) -> None:
        if not 0 < least <= 1:
            raise ConfigError(f"least is {least}; it must be a probability above 0, such as 0.5")
        if k < 1:
            raise ConfigError(f"k is {k}; it must be 1 or more")
        if encoder.fingerprint != classifier.encoder_fingerprint:
            raise IndexMismatchError(
                f"the classifier takes vectors of {classifier.encoder_fingerprint}, the encoder is "
                f"{encoder.fingerprint}; give its own encoder or fit it anew"
            )
        self._classifier, self._encoder, self._k = classifier, encoder, k
        self._least, self._coverage = least, coverage
        self._inside = threshold(classifier.conformal_scores, coverage)
        self._hierarchy = Hierarchy(classifier.taxonomy, classifier.types)

    def ask(self, query: str, locale: str = "", vector: Embeddings | None = None) -> TypeDistribution:
        """The types of a query; ``vector``, float32 (dim,), saves encoding it again."""
        if not query.strip() or not self._encoder.understands(query):
            return TypeDistribution(query, locale, (), None, _NOT_UNDERSTOOD, (), self._coverage)
        vectors = self._encoder.encode_queries([query]) if vector is None else vector[None]
        likely = self._classifier.probabilities([query], vectors, [locale])
        order = np.argsort(-likely[0], kind="stable")
        best_first = order[: self._k].tolist()
        ranked = tuple(self._ranked(self._classifier.types[i], likely[0, i], locale) for i in best_first)
        best = self._hierarchy.choose(self._hierarchy.roll_up(likely)[0], self._least)
        reason = "" if best else (
            f"no type or parent is as probable as {self._least:g}; the best is {ranked[0].name!r} with "
            f"{ranked[0].probability:.2f}"
        )  # fmt: skip
        inside = in_set(likely, self._inside)[0]
        members = tuple(self._classifier.types[i] for i in order[inside[order]].tolist())
        chosen = self._ranked(*best, locale) if best else None
        return TypeDistribution(query, locale, ranked, chosen, reason, members, self._coverage)

    def _ranked(self, type_id: str, probability: float, locale: str) -> RankedType:
        return RankedType(type_id, self._classifier.taxonomy.name(type_id, locale), float(probability))


_NOT_UNDERSTOOD = "the query has no words that the encoder knows"
