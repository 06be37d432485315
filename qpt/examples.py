"""What a query → type classifier learns from: labels, clicks, judged products' types, or the catalog itself."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from engine.analysis.analyzer import STOP_WORDS, Analyzer
from engine.errors import CatalogError
from engine.product import Product
from engine.text import plain

T = TypeVar("T")

_TITLE_WORDS = 12  # what comes later in a title is seldom asked for
_MADE_WORDS = (1, 4)  # of a made query, inclusive: the lengths most shoppers' queries have


@dataclass(frozen=True, slots=True)
class LabelledQuery:
    """A query and one type it asks for; a query with several types is several of these.

    ``weight`` is how often or how surely. ``locale`` may be empty. ``product_id`` is that of the product the query was
    made from, empty for what a shopper wrote.
    """

    query: str
    type_id: str
    weight: float = 1.0
    locale: str = ""
    product_id: str = ""


def read_labelled(
    path: str | Path, *, query: str = "query", type_id: str = "type_id", locale: str | None = None
) -> list[LabelledQuery]:
    """Labels or clicks in a tab-separated file with a head; the arguments name its columns.

    Equal rows are counted into one, and rows without a query or a type left out. Raises CatalogError naming the line.
    """
    counts: Counter[tuple[str, str, str]] = Counter()
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t")
            wanted = [query, type_id, *([locale] if locale else [])]
            missing = [name for name in wanted if name not in (reader.fieldnames or ())]
            if missing:
                raise CatalogError(
                    str(path), 1, missing[0], f"there is no such column; there are {', '.join(reader.fieldnames or ())}"
                )
            for row in reader:
                values = [row[name] for name in wanted]
                if any(value is None for value in values):
                    raise CatalogError(str(path), reader.line_num, None, "the row has fewer columns than the head")
                said, kind, where = (*(value.strip() for value in values), "")[:3]
                if said and kind:
                    counts[said, kind, where] += 1
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CatalogError(str(path), None, None, f"the labelled queries cannot be read: {error}") from error
    return [LabelledQuery(said, kind, float(n), where) for (said, kind, where), n in counts.items()]


def from_judgments(
    queries: Mapping[str, str], judged: Mapping[str, Mapping[str, int]], relevant: int,
    type_of: Callable[[str], str | None],
) -> list[LabelledQuery]:  # fmt: skip
    """Types of the products judged ``relevant`` or better, weighted by their share of a query's typed ones.

    ``judged`` is query id to product id to grade; ``type_of`` gives a product id's type.
    """
    out = []
    for query_id, query in queries.items():
        graded = judged.get(query_id, {}).items()
        counts = Counter(filter(None, (type_of(product) for product, grade in graded if grade >= relevant)))
        out += [LabelledQuery(query, type_id, n / counts.total()) for type_id, n in counts.items()]
    return out


def from_catalog(
    products: Sequence[Product], type_of: Callable[[str], str | None], *, most: int = 1_500, seed: int = 0
) -> list[LabelledQuery]:
    """Queries made from titles, for a shop without logs: one to four of a product's first twelve words, in order.

    A word is drawn in proportion to how many products of the type have it in their titles, for shoppers ask in words
    that say what a thing is more than in those that only one product has. At most ``most`` products are used, each
    once, drawn evenly over types, so that large types do not drown small ones.
    """
    analyzer, rng = Analyzer(), np.random.default_rng(seed)
    by_type: dict[str, list[tuple[Product, list[str]]]] = {}
    for product in products:
        type_id = type_of(product.product_id)
        words = [w for w in analyzer.words(plain(product.title))[:_TITLE_WORDS] if w not in STOP_WORDS]
        if type_id is not None and words:
            by_type.setdefault(type_id, []).append((product, words))
    common = {type_id: Counter(w for _, said in found for w in set(said)) for type_id, found in by_type.items()}
    out = []
    for type_id, (product, words) in _in_turns(by_type, most, rng):
        n = min(int(rng.integers(_MADE_WORDS[0], _MADE_WORDS[1] + 1)), len(words))
        likely = np.array([common[type_id][word] for word in words], float)
        picked = sorted(rng.choice(len(words), n, replace=False, p=likely / likely.sum()).tolist())
        said = " ".join(words[place] for place in picked)
        out.append(LabelledQuery(said, type_id, locale=product.locale, product_id=product.product_id))
    return out


def _in_turns(by_type: Mapping[str, Sequence[T]], most: int, rng: np.random.Generator) -> Iterator[tuple[str, T]]:
    """Up to ``most``: one of each type, then another one of each type that has more, and so on."""
    left = {type_id: [found[int(i)] for i in rng.permutation(len(found))] for type_id, found in sorted(by_type.items())}
    turns = ((type_id, left[type_id][turn]) for turn in range(most) for type_id in left if turn < len(left[type_id]))
    return islice(turns, min(most, sum(map(len, left.values()))))
