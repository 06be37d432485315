"""Rewrites of queries with what the engine makes of them: what a query rewriter learns from.

A file has a JSON object a line::

    {"query": "couch for pets", "rewrites": [{"text": "couch for pets sofa cover", "gain": 0.31}, …]}

``gain`` is nDCG@50 of the rewrite's results less that of the query's own, judged by the products that the query is
known to want (after Peng et al. 2024, "Large Language Model based Long-tail Query Rewriting in Taobao Search", whose
offline feedback is alike). The query itself has gain 0 and is not in the list.
"""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from engine.analysis.analyzer import STOP_WORDS, Analyzer
from engine.config import SearchConfig
from engine.product import Product
from engine.seams import Rewriter
from engine.search import SearchEngine
from engine.text import plain
from training.data.examples import ExamplesError, Judgment, numbered_lines, read_judgments

_DEPTH = 50  # results that are judged
_RELEVANT = 0.9  # of labels, from 0 to 1
_DROPPED, _ADDED = 5, 5  # words of a query that are dropped, and of its products that are added, each alone
_LETTERS = 3  # of a word worth adding


class Judged(msgspec.Struct, frozen=True):
    """A rewrite and its gain over the query itself."""

    text: str
    gain: float


class Rewrites(msgspec.Struct, frozen=True):
    """A line of the file."""

    query: str
    rewrites: tuple[Judged, ...]

    @property
    def best(self) -> Judged:
        """The query itself where none is better."""
        return max((Judged(self.query, 0.0), *self.rewrites), key=lambda judged: judged.gain)


def read_rewrites(path: str | Path) -> list[Rewrites]:
    """All lines of a file. Raises ExamplesError naming the line on one of another form, and on an empty file."""
    found = []
    for number, line in numbered_lines(Path(path)):
        try:
            row = msgspec.json.decode(line, type=Rewrites)
        except msgspec.MsgspecError as error:
            raise ExamplesError(str(path), number, None, str(error)) from error
        if not row.query.strip() or not all(judged.text.strip() for judged in row.rewrites):
            raise ExamplesError(str(path), number, None, "the query or one of its rewrites is empty")
        found.append(row)
    if not found:
        raise ExamplesError(str(path), None, None, "it has no rewrites; make some with: aisle train rewrites")
    return found


def make_rewrites(
    index: Path,
    examples: Path,
    out: Path,
    *,
    labels: Mapping[str, float] | None = None,
    rewriter: Rewriter | None = None,
    limit: int | None = None,
    progress: Callable[[str, int, int, str], None] = lambda task, done, total, detail: None,
) -> tuple[int, int]:
    """Judges rewrites of the examples' queries by what they find in ``index``, and writes them to ``out``.

    Without ``rewriter`` they are made by rule, knowing the products that are wanted; with one, they are its own, which
    it is then to learn to tell apart. Queries whose wanted products the index lacks are left out; at most ``limit`` are
    taken. Returns how many queries were written and how many of them have a rewrite that is better than they are.
    Raises AisleErrors.
    """
    engine = SearchEngine.load(index, SearchConfig(rerank_depth=0, threads=1))
    asked = _asked(read_judgments(examples, dict(labels or {})))[:limit]
    by_rule = ByRule(Analyzer(engine.manifest.config.language))
    n = better = 0
    with Path(out).open("wb") as raw, (
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if str(out).endswith(".gz") else raw
    ) as file:  # fmt: skip
        for done, (query, wanted, products) in enumerate(asked, 1):
            texts = [one.text for one in rewriter.rewrite(query)] if rewriter else by_rule(query, products)
            row = judged(engine, query, wanted, texts)
            if row is not None:
                file.write(msgspec.json.encode(row) + b"\n")
                n, better = n + 1, better + (row.best.gain > 0)
            progress("rewrites", done, len(asked), f"{better} of {n} queries have a better one")
    return n, better


def judged(engine: SearchEngine, query: str, wanted: Mapping[str, float], texts: Iterable[str]) -> Rewrites | None:
    """``texts`` with their gains; None where the index finds nothing that is wanted, whatever is asked.

    ``wanted`` has gains in nDCG by product id.
    """
    texts = list(dict.fromkeys(text for text in texts if text != query))
    own, *others = (_ndcg(_found(engine, text), wanted) for text in (query, *texts))
    if own == 0 and not any(others):
        return None
    return Rewrites(query, tuple(Judged(t, round(n - own, 4)) for t, n in zip(texts, others, strict=True)))


def _found(engine: SearchEngine, query: str) -> list[str]:
    return [hit.product.product_id for hit in engine.search(query, _DEPTH).hits]


def _ndcg(found: Sequence[str], wanted: Mapping[str, float]) -> float:
    """nDCG with linear gains (Järvelin and Kekäläinen 2002) over the results that there are."""
    discounts = 1 / np.log2(np.arange(2, _DEPTH + 2))
    gains = np.array([wanted.get(product_id, 0.0) for product_id in found])
    best = np.sort(np.array(list(wanted.values())))[::-1][:_DEPTH]
    return float(gains @ discounts[: len(gains)]) / float(best @ discounts[: len(best)])


def _asked(judgments: Iterable[Judgment]) -> list[tuple[str, dict[str, float], list[Product]]]:
    """Queries with the gains of what they want, and the products they want most. Others are left out."""
    wanted: dict[str, dict[str, float]] = {}
    products: dict[str, list[Product]] = {}
    for row in judgments:
        label = row.label or 0.0
        wanted.setdefault(row.query, {})[row.product.product_id] = label
        if label >= _RELEVANT:
            products.setdefault(row.query, []).append(row.product)
    return [(query, wanted[query], found) for query, found in products.items()]


class ByRule:
    """Rewrites by someone who knows what is wanted: words dropped, and words of the products added."""

    def __init__(self, analyzer: Analyzer) -> None:
        self._analyzer = analyzer

    def __call__(self, query: str, products: Sequence[Product]) -> list[str]:
        words = query.lower().split()
        made = list(self._dropped(words))
        asked = " ".join(words)
        lacking = self._lacking(asked, products)
        made += [f"{asked} {word}" for word in lacking[:_ADDED]]
        if len(lacking) > 1:
            made.append(f"{asked} {' '.join(lacking[:2])}")
        for names in ((p.category[-1] for p in products if p.category), (p.brand for p in products if p.brand)):
            name = next((plain(n).lower() for n in names if not self._stems(n) <= self._stems(asked)), "")
            made += [f"{asked} {name}"] if name else []
        shared = [word for word in words if all(self._stems(word) <= self._stems(p.title) for p in products)]
        if shared and shared != words:
            made.append(" ".join([*shared, *lacking[:1]]))
        return made

    def _dropped(self, words: Sequence[str]) -> Iterator[str]:
        said = [place for place, word in enumerate(words) if word not in STOP_WORDS]
        if len(said) > 1:
            for place in said[:_DROPPED]:
                yield " ".join([*words[:place], *words[place + 1 :]])

    def _lacking(self, query: str, products: Sequence[Product]) -> list[str]:
        """Words of titles that the query lacks, those of most products first, then as titles order them."""
        known = self._stems(query)
        counts: Counter[str] = Counter()
        for product in products:
            words = dict.fromkeys(self._analyzer.words(plain(product.title).lower()))
            counts.update(
                word for word in words
                if len(word) >= _LETTERS and word.isalpha() and word not in STOP_WORDS and not self._stems(word) & known
            )  # fmt: skip
        return [word for word, _ in counts.most_common()]

    def _stems(self, text: str) -> set[str]:
        return set(self._analyzer.terms(text))
