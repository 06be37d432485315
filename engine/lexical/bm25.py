"""BM25 as every backend computes it, and what the backends share.

Formula: Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework", with Lucene's idf, never negative::

    idf(t)     = ln(1 + (N − n + 0.5) / (n + 0.5))
    bm25(t, d) = idf(t) · (k1 + 1) · tf / (tf + k1 · (1 − b + b · dl / avgdl))

``dl`` is the field's length kept in one byte, as Lucene and tantivy keep it.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable

import numpy as np

from engine.types import Candidates, Mask

K1 = 1.2
B = 0.75


def _byte_lengths() -> list[int]:
    """The 256 lengths a byte can stand for: Lucene's SmallFloat.byte4ToInt. Exact to 40, then 3 bits of mantissa."""
    free = 255 - _long_to_int4(2**31 - 1)
    return [i if i < free else free + _int4_to_long(i - free) for i in range(256)]


def _long_to_int4(value: int) -> int:
    bits = value.bit_length()
    if bits < 4:
        return value
    shift = bits - 4
    return ((value >> shift) & 0x07) | ((shift + 1) << 3)


def _int4_to_long(code: int) -> int:
    mantissa, shift = code & 0x07, (code >> 3) - 1
    return mantissa if shift == -1 else (mantissa | 0x08) << shift


#: The lengths that a byte can stand for, ascending.
LENGTHS = _byte_lengths()


def quantised_length(length: int) -> int:
    """The largest length a byte can stand for that is not above ``length``."""
    return LENGTHS[bisect_right(LENGTHS, length) - 1]


def idf(document_frequency: int, n_documents: int) -> float:
    return math.log(1 + (n_documents - document_frequency + 0.5) / (document_frequency + 0.5))


def term_score(frequency: int, length: int, mean_length: float, document_frequency: int, n_documents: int) -> float:
    """What one term adds for one field of one product; ``length`` as counted, not yet quantised."""
    norm = K1 * (1 - B + B * quantised_length(length) / mean_length)
    return idf(document_frequency, n_documents) * (K1 + 1) * frequency / (frequency + norm)


def widen(fetch: Callable[[int], Candidates], k: int, allowed: Mask | None, n: int) -> Candidates:
    """The best ``k`` allowed candidates of an index that cannot filter by itself.

    ``fetch(limit)`` ranks at most ``limit`` of ``n`` rows. The limit starts where ``k`` allowed rows are expected and
    grows until they are there or the index has no more matches, so the answer equals filtering everything.
    """
    if allowed is None:
        return fetch(min(k, n))
    share = np.count_nonzero(allowed) / max(n, 1)
    if share == 0:
        return Candidates.empty()
    limit = min(n, int(1.5 * k / share) + 16)
    while True:
        found = fetch(limit)
        keep = allowed[found.rows]
        if np.count_nonzero(keep) >= k or len(found) < limit or limit >= n:
            return Candidates(found.rows[keep][:k], found.scores[keep][:k])
        limit = min(n, limit * 4)
