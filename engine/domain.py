"""What a catalog is about: how near a product must be to a query, for the query to be about the catalog at all.

Queries that no shop can answer ("medical advice for headache") have nearest products as well, and how near those come
differs from catalog to catalog and from encoder to encoder. So the index keeps how near it comes to some made queries
about anything but shopping; what is not nearer than most of these is taken for one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import msgspec
import numpy as np

from engine.dense.vectors import VectorIndex
from engine.errors import IndexCorruptError
from engine.seams import Encoder

DOMAIN = "domain.json"  # in an index version that has vectors
_QUERIES = Path(__file__).with_name("off_domain.txt")
_LACKING = 0.08  # what more cosine is asked for where no product has one of the query's words
_QUANTILE = 0.9  # of the made queries' cosines, under which a query is taken for one of them


class Domain(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``threshold`` is the cosine that the nearest product of a query about this catalog has at least."""

    threshold: float

    @classmethod
    def learn(cls, index: VectorIndex, encoder: Encoder, queries: Sequence[str] = ()) -> Self:
        """From how near the index comes to ``queries``, those that ship where none are given."""
        texts = list(queries) or [line for line in _QUERIES.read_text().splitlines() if not line.startswith("#")]
        vectors = encoder.encode_queries(texts)
        cosines = [float(index.search(vector, 1, None).scores[0]) for vector in vectors]
        return cls(float(np.quantile(cosines, _QUANTILE)))

    @classmethod
    def open(cls, path: Path) -> Self:
        """Raises IndexCorruptError."""
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except (OSError, msgspec.MsgspecError) as error:
            raise IndexCorruptError(f"{path} cannot be read: {error}") from error

    def save(self, path: Path) -> None:
        path.write_bytes(msgspec.json.encode(self))

    def is_foreign(self, near: float, *, lacking: bool = False) -> bool:
        """Whether a query whose nearest product has this cosine is about something else.

        ``lacking`` is whether no product has one of its words.
        """
        return near < self.threshold + (_LACKING if lacking else 0.0)

    def reason(self, near: float) -> str:
        return f"no product is near what it asks: the nearest has a cosine of {near:.2f}; {self.threshold:.2f} is far"
