"""A one-pass listwise encoder on onnxruntime: query and candidates in one pass, one logit a candidate.

Candidates see each other, and one pass of up to 512 tokens takes the place of thirty short ones. What of a product is
read depends on how many there are: the room is shared among them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int32]


def room(query_tokens: int, n_products: int, max_tokens: int) -> int:
    """Tokens that each of ``n_products`` may have, in a pass of ``max_tokens`` with a query of ``query_tokens``."""
    return (max_tokens - query_tokens - 2) // max(n_products, 1) - 1


def list_ids(
    query: Ids, products: Sequence[Ids], special: tuple[int, int], max_tokens: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """``[CLS] query [SEP] product [SEP] product [SEP] …``, int64 (length,), and where each product's separator is,
    int64 (n,). Products are cut to the room there is for each; ``special`` is [CLS] and [SEP].
    """
    first, separator = special
    longest = room(len(query), len(products), max_tokens)
    cut = [product[:longest] for product in products]
    ids = np.full(2 + len(query) + sum(map(len, cut)) + len(cut), separator, np.int64)
    ids[0] = first
    ids[1 : 1 + len(query)] = query
    places = np.empty(len(cut), np.int64)
    at = len(query) + 2
    for number, product in enumerate(cut):
        ids[at : at + len(product)] = product
        at += len(product)
        places[number] = at
        at += 1
    return ids, places
