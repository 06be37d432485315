"""Query groups as token ids, and the batches an epoch is made of."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from engine.text import encoded_text
from training.data.sources import Group
from training.metrics import Scores, ndcg
from training.models import Ids, Kind

LONGEST_GROUP = 12  # products of a query that are in one batch together
_WINDOW = 256  # groups; within it those of like length come together, so that little is padded

Labels = NDArray[np.float32]
#: Ids of texts, of one kind, cut to a length.
Encode = Callable[[list[str], int, Kind], list[Ids]]
#: A query group's number, and which of its products.
Part = tuple[int, NDArray[np.int64]]
Batch = list[Part]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Groups by number: ids of the query, rows of its products in ``products``, labels, gains, repeats.

    A pair that nobody judged has label 0.
    """

    query_ids: list[str]
    queries: list[Ids]
    products: list[Ids]
    rows: list[NDArray[np.int64]]
    labels: list[Labels]
    gains: list[NDArray[np.float64]]
    repeat: list[int]

    @classmethod
    def of(cls, groups: Sequence[Group], encode: Encode, query_tokens: int, product_tokens: int) -> Pairs:
        """Tokenises every text once. ``encode`` gives ids of texts, cut to a length, without special tokens."""
        places: dict[str, int] = {}
        rows = [
            np.array([places.setdefault(encoded_text(product), len(places)) for product in group.products], np.int64)
            for group in groups
        ]
        return cls(
            [group.query_id for group in groups],
            encode([group.query for group in groups], query_tokens, "query"),
            encode(list(places), product_tokens, "document"),
            rows,
            [np.array([label or 0.0 for label in group.labels], np.float32) for group in groups],
            [np.array(group.gains, np.float64) for group in groups],
            [group.repeat for group in groups],
        )

    def __len__(self) -> int:
        return len(self.queries)

    def without(self, dropped: NDArray[np.bool_]) -> Pairs:
        """These but for the pairs, in the order of ``everything``, that are dropped."""
        kept = [~part for part in np.split(dropped, np.cumsum([len(rows) for rows in self.rows])[:-1])]
        return replace(
            self,
            rows=[rows[keep] for rows, keep in zip(self.rows, kept, strict=True)],
            labels=[labels[keep] for labels, keep in zip(self.labels, kept, strict=True)],
            gains=[gains[keep] for gains, keep in zip(self.gains, kept, strict=True)],
        )

    @property
    def n_pairs(self) -> int:
        return sum(map(len, self.rows))

    @property
    def all_labels(self) -> Labels:
        """In the order of ``everything``."""
        return np.concatenate(self.labels)

    def everything(self) -> Batch:
        """All products of all groups."""
        return [(group, np.arange(len(rows))) for group, rows in enumerate(self.rows)]

    def texts(self, batch: Batch) -> list[tuple[Ids, Ids]]:
        """Query and product ids of the batch's pairs, in its order."""
        return [(self.queries[group], self.products[row]) for group, part in batch for row in self.rows[group][part]]

    def batches(self, n_pairs: int, seed: str, most: int = 0) -> list[Batch]:
        """An epoch: every group once (``repeat`` times), about ``n_pairs`` to a batch, shuffled.

        Groups of more than ``LONGEST_GROUP`` products are dealt out anew each time. With ``most`` above 0 a group is
        there with that many of its products instead of all, drawn anew each time, half of them the best labelled.
        """
        draw = random.Random(seed)
        deal = partial(self._drawn, most=most) if most else self._parts
        parts = [part for group in range(len(self)) for part in deal(group, draw)]
        draw.shuffle(parts)
        out: list[Batch] = []
        for begin in range(0, len(parts), _WINDOW):
            window = sorted(parts[begin : begin + _WINDOW], key=self._length)
            batches = list(_filled(window, n_pairs))
            draw.shuffle(batches)
            out += batches
        return out

    def _parts(self, group: int, draw: random.Random) -> Iterator[Part]:
        n = len(self.rows[group])
        for _ in range(self.repeat[group]):
            order = list(range(n))
            draw.shuffle(order)
            yield from ((group, part) for part in np.array_split(np.array(order), -(-n // LONGEST_GROUP)))

    def _drawn(self, group: int, draw: random.Random, most: int) -> Iterator[Part]:
        """A few products of a group, of which half, rounded up, have the highest label there."""
        labels = self.labels[group]
        for _ in range(self.repeat[group]):
            order = draw.sample(range(len(labels)), len(labels))
            best = [place for place in order if labels[place] == labels.max()][: -(-most // 2)]
            others = [place for place in order if place not in best]
            yield group, np.array([*best, *others][:most], np.int64)

    def _length(self, part: Part) -> int:
        group, places = part
        return len(self.queries[group]) + max(len(self.products[row]) for row in self.rows[group][places])


def ndcg_by_query(pairs: Pairs, scores: Scores) -> dict[str, float]:
    """nDCG@10 by query id, for scores in the order of ``everything``. Of equal scores the worse product is first."""
    out, begin = {}, 0
    for query_id, gains in zip(pairs.query_ids, pairs.gains, strict=True):
        order = np.lexsort((gains, -scores[begin : begin + len(gains)]))
        out[query_id] = ndcg(gains[order])
        begin += len(gains)
    return out


def _filled(parts: Sequence[Part], n_pairs: int) -> Iterator[Batch]:
    batch: Batch = []
    for part in parts:
        batch.append(part)
        if sum(len(places) for _, places in batch) >= n_pairs:
            yield batch
            batch = []
    if batch:
        yield batch
