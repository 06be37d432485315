"""What is curated: impressions of a log, labelled pairs, and products. Each row knows the file and line it is from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.product import Product

NO_SESSION = -1
NO_POSITION = 0

Mask = NDArray[np.bool_]


class Origin(NamedTuple):
    """Where a row is from: a place in ``Rows.files``, and a line from 1."""

    file: int
    line: int


@dataclass(frozen=True, slots=True, eq=False)
class Impressions:
    """Products that were shown, by column; each array has shape (n,).

    ``query`` and ``product`` are places in ``queries`` and ``product_ids``. ``session`` is a number for the session or
    user, or ``NO_SESSION``. ``position`` is from 1, or ``NO_POSITION``. ``time`` is in seconds, NaN where unknown.
    """

    queries: tuple[str, ...]
    product_ids: tuple[str, ...]
    query: NDArray[np.int32]
    product: NDArray[np.int32]
    session: NDArray[np.int64]
    position: NDArray[np.int32]
    clicked: Mask
    purchased: Mask
    time: NDArray[np.float64]
    file: NDArray[np.int32]
    line: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.query)

    @classmethod
    def none(cls) -> Impressions:
        ints, flags = np.zeros(0, np.int32), np.zeros(0, np.bool_)
        long = np.zeros(0, np.int64)
        return cls((), (), ints, ints, long, ints, flags, flags, np.zeros(0), ints, long)

    def keep(self, mask: Mask) -> Impressions:
        """The rows where ``mask`` is true, in their order."""
        columns = (field.name for field in fields(self) if field.name not in ("queries", "product_ids"))
        return replace(self, **{name: getattr(self, name)[mask] for name in columns})

    def asking(self, texts: Sequence[str]) -> Impressions:
        """With ``texts[i]`` in place of ``queries[i]``; equal texts become one query."""
        codes, places = _coded(texts)
        return replace(self, queries=codes, query=places[self.query])

    def showing(self, product_ids: Sequence[str]) -> Impressions:
        """With ``product_ids[i]`` in place of ``self.product_ids[i]``; equal ids become one product."""
        codes, places = _coded(product_ids)
        return replace(self, product_ids=codes, product=places[self.product])

    def origins(self, mask: Mask) -> Iterator[Origin]:
        """Of the rows where ``mask`` is true, each once where a line has several rows."""
        before = None
        for row in np.flatnonzero(mask):
            origin = Origin(int(self.file[row]), int(self.line[row]))
            if origin != before:
                yield origin
            before = origin


def _coded(texts: Sequence[str]) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    codes: dict[str, int] = {}
    places = np.array([codes.setdefault(text, len(codes)) for text in texts], np.int32)
    return tuple(codes), places


@dataclass(frozen=True, slots=True)
class Made:
    """How a query came about that nobody typed: its kind, and the id of the product that it was made of."""

    kind: str
    product_id: str


@dataclass(frozen=True, slots=True)
class Pair:
    """A query, a product's id, and how relevant it is: 0 not at all, 1 fully; None where nobody has said yet.

    A pair of a ``made`` query has no origins.
    """

    query: str
    product_id: str
    label: float | None
    origins: tuple[Origin, ...]
    made: Made | None = None

    @property
    def place(self) -> Origin | str:
        """Where it is from, in a report."""
        return self.origins[0] if self.origins or self.made is None else f"product {self.made.product_id}"


@dataclass(frozen=True, slots=True)
class Rows:
    """All that is in hand between two steps. ``products`` has those of every impression and pair.

    ``files`` are the paths of the inputs, as the configuration has them.
    """

    files: tuple[str, ...]
    impressions: Impressions
    pairs: tuple[Pair, ...]
    products: Mapping[str, Product]

    def queries(self) -> list[str]:
        """Each query of an impression or a pair once, in order."""
        asked = np.zeros(len(self.impressions.queries), np.bool_)
        asked[self.impressions.query] = True
        of_log = (query for query, is_asked in zip(self.impressions.queries, asked, strict=True) if is_asked)
        return list(dict.fromkeys([*of_log, *(pair.query for pair in self.pairs)]))
