"""A made click log of real judgments: what a shop would log if its shoppers did as the position-based model says.

Nobody clicked any of it. Queries, products and grades are a set's; the ranking they are shown in, the looks and the
clicks are drawn here, so that the truth is known. The protocol is the field's: a production ranker learnt from a few
queries (Joachims et al. 2017, section 6.1), looks at position k of probability k^-eta, and likings of
noise + (1 - noise) × gain (Ai et al. 2018, "Unbiased Learning to Rank with Unbiased Propensity Estimation").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_START = 1_735_689_600  # 2025-01-01, in seconds
_SAID = (
    "{} please write to jo@example.com", "call me on (555) 010-9999", "{} 4111 1111 1111 1111", "{}!", "{} ",
    "weather forecast tomorrow", "lottery numbers yesterday", "porn", "football standings",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """A query with its candidates: ids, true labels from 0 to 1, shape (n,), and features, shape (n, d)."""

    query: str
    product_ids: tuple[str, ...]
    labels: Floats
    features: Floats


@dataclass(frozen=True, slots=True)
class Shoppers:
    """How the log comes about.

    Each query is searched ``pages`` times, ``depth`` products are shown. ``jitter`` is the standard deviation of what
    is added to production's scores, whose own is 1, each time: it makes products move. 0 shows one order for ever.
    """

    pages: int = 100
    depth: int = 10
    eta: float = 1.0
    noise: float = 0.1
    jitter: float = 0.5

    def propensities(self) -> Floats:
        """Shape (depth,)."""
        return np.arange(1, self.depth + 1, dtype=np.float64) ** -self.eta


def synthetic_log(asked: Sequence[Asked], production: Floats, shoppers: Shoppers, seed: int) -> Iterator[bytes]:
    """Lines of a log as ``training.curation.logs`` reads them, a page each. ``production`` weighs features: (d,)."""
    rng = np.random.default_rng(seed)
    encode = msgspec.json.Encoder().encode
    looked = shoppers.propensities()
    for query in asked:
        scores = query.features @ production
        scores = (scores - scores.mean()) / max(float(scores.std()), 1e-9)
        liking = shoppers.noise + (1 - shoppers.noise) * query.labels
        for _ in range(shoppers.pages):
            order = np.argsort(-(scores + shoppers.jitter * rng.standard_normal(len(scores))))[: shoppers.depth]
            clicks = rng.random(len(order)) < looked[: len(order)] * liking[order]
            shown = [query.product_ids[place] for place in order]
            clicked = [shown[place] for place in np.flatnonzero(clicks)]
            yield encode({"query": query.query, "products": shown, "clicked": clicked}) + b"\n"


def synthetic_shop_log(asked: Sequence[Asked], production: Floats, shoppers: Shoppers, seed: int) -> list[bytes]:
    """As ``synthetic_log``, with sessions, times, and what a log has that nobody should learn from.

    A program that clicks everything and one that is too fast, personal data (none of it anybody's), queries misspelt,
    unsafe or about no product, and products that are gone.
    """
    rng = np.random.default_rng(seed)
    pages = [msgspec.json.decode(line) for line in synthetic_log(asked, production, shoppers, seed)]
    rng.shuffle(pages)
    for number, page in enumerate(pages):
        page |= {"session": f"s{number // 3}", "time": _START + 40 * number}
    some = [page | {"session": f"once-{number}"} for number, page in enumerate(pages[: len(_SAID) + 30])]
    for page, query in zip(some, _SAID, strict=False):
        page["query"] = query.format(page["query"])
    for page in some[-30:-15]:
        page |= {"session": "program-1", "clicked": page["products"]}
    for number, page in enumerate(some[-15:]):
        page |= {"session": "program-2", "time": _START + 0.1 * number}
    some[0]["products"] = [*some[0]["products"], "SKU-GONE"]
    return [msgspec.json.encode(page) + b"\n" for page in (*pages, *some)]
