"""Fits what weighs everything that is known of a candidate into one score (``ranking.combiner``).

It is no task of ``training.tasks``: it learns from a few numbers a candidate, in seconds, and from no text. The numbers
are those that searching itself gives: every query is asked of its source's index, once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from engine.config import SearchConfig
from engine.errors import ConfigError, ModelError
from engine.features import FEATURES
from engine.fusion import reranked
from engine.search import SearchEngine
from engine.types import Candidates, Features, Scores
from ranking.combiner import CombinerFile, FittedCombiner
from training.combiner_fit import Asked, FitSettings, fit
from training.data.settings import ClicksSource, ExamplesSource, JudgedSource
from training.data.sources import Catalogs, read_source
from training.metrics import platt
from training.settings import Progress, Settings

COMBINED, BLEND, BEFORE = "combiner", "blend", "before reranking"  # orders, as figures name them
_FOLDS = 5
_LEAST_QUERIES = 20
_DISCOUNTS = 1 / np.log2(np.arange(2, 12))


class IndexedJudged(JudgedSource, frozen=True, kw_only=True, tag="judged"):
    """A judged set, and the ``index`` of its catalog. ``name`` is what figures call the source."""

    name: str
    index: str


class IndexedClicks(ClicksSource, frozen=True, kw_only=True, tag="clicks"):
    """A click log, and the ``index`` of its catalog."""

    name: str
    index: str


class IndexedExamples(ExamplesSource, frozen=True, kw_only=True, tag="examples"):
    """A file of examples, such as one of generated queries, and the ``index`` that has their products."""

    name: str
    index: str


class CombinerConfig(Settings, frozen=True, kw_only=True):
    """What a combiner is fitted on, and how. ``license`` is the file's, and ``notes`` go into it."""

    name: str
    source: tuple[IndexedJudged | IndexedClicks | IndexedExamples, ...]
    license: str = ""
    notes: str = ""
    fit: FitSettings = FitSettings()

    def __post_init__(self) -> None:
        names = [source.name for source in self.source]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"source is {names}; give one [[source]] or more, each with a name of its own")


class _Recorder:
    """A combiner that leaves the order as it is, and keeps the features it was asked to weigh."""

    def __init__(self) -> None:
        self.values: Features = np.empty((0, len(FEATURES)), np.float32)

    def misfit(self, encoder: str, reranker: str) -> str:
        return ""

    def scores(self, values: Features) -> Scores:
        self.values = values
        return np.linspace(1, 0.5, len(values), dtype=np.float32)

    def parts(self, values: NDArray[np.float32]) -> tuple[tuple[str, float], ...]:
        return ()


def ask(
    engine: SearchEngine, queries: Iterable[tuple[str, Mapping[str, float | None]]], source: str,
    tick: Callable[[], None] = lambda: None,
) -> Iterator[Asked]:  # fmt: skip
    """What the engine finds for each query, its text and labels by product, and knows of what it found.

    A query whose candidates are not reranked has none.
    """
    recorder = _Recorder()
    recording = engine.configured(engine.config, combiner=recorder)
    for text, labels in queries:
        recorder.values = recorder.values[:0]
        hits = recording.search(text, engine.config.rerank_depth).hits[: len(recorder.values)]
        ids = tuple(hit.product.product_id for hit in hits)
        known = {product_id: label for product_id, label in labels.items() if label is not None}
        ideal = np.sort(list(known.values()))[::-1][:10]
        yield Asked(
            source, text, ids, recorder.values, np.array([known.get(i, np.nan) for i in ids]),
            float(ideal @ _DISCOUNTS[: len(ideal)]),
        )  # fmt: skip
        tick()


def blended(values: Features, weight: float) -> NDArray[np.int64]:
    """The places of candidates in the order that ``rerank_weight`` gives without a combiner, int64 (n,)."""
    if not len(values):
        return np.empty(0, np.int64)
    fused, probability = (values[:, list(FEATURES).index(name)] for name in ("fused", "probability"))
    return reranked(Candidates(np.arange(len(fused)), fused), probability, weight).rows


@dataclass(frozen=True, slots=True)
class Fitted:
    """A combiner, and of how many queries it was fitted."""

    combiner: FittedCombiner
    n_queries: int


def train(config: CombinerConfig, search: SearchConfig, out: Path, progress: Progress = lambda *_: None) -> Fitted:
    """Asks, fits, measures, and writes ``out``.

    Raises ConfigError on sources of which nothing can be learnt, ExamplesError on files that cannot be read, and what
    loading an index raises.
    """
    asked: list[Asked] = []
    made: set[tuple[str, str]] = set()
    for source in config.source:
        engine = SearchEngine.load(source.index, replace(search, combiner=""))
        made.add((engine.manifest.encoder, engine.manifest.reranker))
        groups = read_source(source, Catalogs(), out.parent, config.fit.seed, progress).groups
        queries = [
            (group.query, dict(zip((p.product_id for p in group.products), group.labels, strict=True)))
            for group in groups
        ]
        asked += ask(engine, queries, source.name, _ticking(source.name, len(queries), progress))
    if len(made) > 1:
        raise ConfigError(
            f"the sources' indexes were built with {len(made)} different pairs of encoder and reranker, whose features "
            "do not compare; build them with the same"
        )
    encoder, reranker = made.pop()
    raw = CombinerFile(
        name=config.name, features=list(config.fit.features), model=fit(asked, config.fit), scale=1.0, offset=0.0,
        encoder=encoder, reranker=reranker, license=config.license, notes=config.notes,
    )  # fmt: skip
    combiner = measured(raw, asked, config.fit, search.rerank_weight)
    combiner.write(out)
    return Fitted(combiner, len(asked))


def measured(file: CombinerFile, asked: Sequence[Asked], settings: FitSettings, weight: float) -> FittedCombiner:
    """``file`` calibrated, and with figures: nDCG@10 by source, of queries held out, in its order and in others.

    Held out is each source in turn, or, where there is one, a fifth of its queries: what orders them was fitted on the
    rest, and so are scale and offset. ``weight`` is the blend's. Raises ModelError where that is no better than chance.
    """
    odds = held_out(file, asked, settings)
    labels = [one.known(settings) for one in asked]
    known = [~np.isnan(of_query) for of_query in labels]
    by_source: dict[str, list[int]] = defaultdict(list)
    for place, one in enumerate(asked):
        by_source[one.source].append(place)

    def together(values: Sequence[NDArray[np.float64]]) -> list[NDArray[np.float32]]:
        return [np.concatenate([values[p][known[p]] for p in of]).astype(np.float32) for of in by_source.values()]

    scale, offset = platt(together(odds), together(labels))
    if scale <= 0:
        raise ModelError("on queries held out the combiner is no better than chance; give more judgments")
    orders: dict[str, Callable[[int], NDArray[np.int64]]] = {
        COMBINED: lambda place: np.argsort(-odds[place], kind="stable"),
        BLEND: lambda place: blended(asked[place].values, weight),
        BEFORE: lambda place: np.arange(len(asked[place].ids)),
    }
    figures = {
        source: {
            name: round(float(np.mean([_ndcg(labels[place][order(place)], asked[place].ideal) for place in places])), 4)
            for name, order in orders.items()
        }
        for source, places in by_source.items()
    }
    learnt_from = {source: len(places) for source, places in by_source.items()}
    return FittedCombiner(replace(file, scale=scale, offset=offset, learnt_from=learnt_from, figures=figures))


def held_out(file: CombinerFile, asked: Sequence[Asked], settings: FitSettings) -> list[NDArray[np.float64]]:
    """Log-odds of every query's candidates, float64 (n,) each, by a model that was fitted on the other ``folds``."""
    odds: list[NDArray[np.float64]] = [np.empty(0)] * len(asked)
    for held in folds(asked, settings.seed):
        rest = [one for place, one in enumerate(asked) if place not in held]
        model = FittedCombiner(replace(file, model=fit(rest, settings)))
        for place in held:
            odds[place] = model.log_odds(asked[place].values)
    return odds


def folds(asked: Sequence[Asked], seed: int) -> list[frozenset[int]]:
    """Places of queries to hold out together: a source's, or a fifth of those of the only source.

    Raises ConfigError where there are too few.
    """
    if len(asked) < _LEAST_QUERIES or not any(one.ids for one in asked):
        raise ConfigError(
            f"there are {len(asked)} queries, {sum(bool(one.ids) for one in asked)} whose candidates were reranked; "
            f"give at least {_LEAST_QUERIES}, and indexes with a reranker"
        )
    sources = np.array([one.source for one in asked])
    names = np.unique(sources)
    if len(names) > 1:
        return [frozenset(np.flatnonzero(sources == name).tolist()) for name in names]
    order = np.random.default_rng(seed).permutation(len(asked))
    return [frozenset(order[fold::_FOLDS].tolist()) for fold in range(_FOLDS)]


def _ndcg(labels: NDArray[np.float64], ideal: float) -> float:
    """nDCG@10 of candidates in the order of their labels, which are left out where they are NaN."""
    top = labels[~np.isnan(labels)][:10]
    return float(top @ _DISCOUNTS[: len(top)]) / ideal if ideal else 0.0


def _ticking(source: str, total: int, progress: Progress) -> Callable[[], None]:
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        progress(source, done, total)

    return tick
