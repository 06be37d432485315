"""The settings that say what a ranking task learns from and is judged by: sources, negatives, dev sets, a teacher."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from training.settings import LoopSettings, ModelSettings, RunConfig, Settings, at_least


class Source(Settings, frozen=True, kw_only=True, tag_field="kind"):
    """Where training queries come from.

    An epoch goes through the source ``repeat`` times. ``license`` is for the model card.
    """

    repeat: int = 1
    license: str = ""

    def __post_init__(self) -> None:
        at_least(self, 1, "repeat")


class JudgedSource(Source, frozen=True, kw_only=True, tag="judged"):
    """A search set: a catalog, ``query_id<TAB>query`` and TREC qrels.

    ``labels`` maps a grade to its label, 0 to 1; empty means that grades are labels.
    """

    catalog: str
    queries: str
    qrels: str
    labels: dict[str, float] = msgspec.field(default_factory=dict)


class ExamplesSource(Source, frozen=True, kw_only=True, tag="examples"):
    """JSON lines of query, label and product, as ``training.data.examples`` describes.

    ``labels`` maps a label that is no number, ``where`` keeps rows whose field has one of the values.
    """

    path: str
    labels: dict[str, float] = msgspec.field(default_factory=dict)
    where: dict[str, list[str | bool | int]] = msgspec.field(default_factory=dict)


class ClicksSource(Source, frozen=True, kw_only=True, tag="clicks"):
    """A log: .tsv with a head, or JSON lines, of query, product_id, and label or clicks, and perhaps impressions."""

    catalog: str
    path: str


class GeneratedSource(Source, frozen=True, kw_only=True, tag="generated"):
    """Queries made up from catalogs, ``queries`` of them; ``taxonomy`` is a file of product type names, or empty."""

    catalogs: tuple[str, ...]
    queries: int
    taxonomy: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 1, "queries")


class QueriesSource(Source, frozen=True, kw_only=True, tag="queries"):
    """Queries without judgments, as ``training.data.examples`` describes.

    Their products are found by the hybrid search in ``catalogs``: the ``best``, ``middle`` of those down to a fifth of
    ``depth``, ``deep`` of those below, and ``random`` ones. ``where`` keeps rows whose field has one of the values.
    Where ``labels`` is ``teacher`` the teacher gives them; where it is ``search`` they are the search's own scores, 1
    for the best product and 0 for those not found: a model learns to rank as the search does before it learns better.
    """

    path: str
    catalogs: tuple[str, ...]
    where: dict[str, list[str | bool | int]] = msgspec.field(default_factory=dict)
    best: int = 5
    middle: int = 4
    deep: int = 3
    random: int = 0
    depth: int = 200
    labels: Literal["teacher", "search"] = "teacher"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 1, "best", "depth")
        at_least(self, 0, "middle", "deep", "random")
        if not self.catalogs:
            raise ValueError("catalogs is empty; name at least one to find the queries' products in")


class NegativeSettings(Settings, frozen=True, kw_only=True):
    """Products added to every judged query, which the teacher labels, or 0 where there is none.

    ``hard`` are drawn from the best ``depth`` that are found by ``retriever``: the hybrid search, BM25, or the model
    that is trained, as it is before training (where it is an encoder). ``random`` ones are of all products: those of
    ``catalogs``, or the source's own where it is empty. ``mine`` turns it on.
    """

    mine: bool = False
    retriever: Literal["hybrid", "bm25", "model"] = "hybrid"
    catalogs: tuple[str, ...] = ()
    depth: int = 60
    hard: int = 3
    random: int = 1

    def __post_init__(self) -> None:
        at_least(self, 1, "depth")
        at_least(self, 0, "hard", "random")


class DevSet(Settings, frozen=True, kw_only=True):
    """A judged set to stop and compare by.

    ``gains`` maps a grade to its gain in nDCG; empty takes the labels. ``rating`` is the scale, lowest and highest,
    that a set's labels stand for; with it the root mean square error on that scale is reported.
    """

    name: str
    catalog: str
    queries: str
    qrels: str
    labels: dict[str, float] = msgspec.field(default_factory=dict)
    gains: dict[str, float] = msgspec.field(default_factory=dict)
    rating: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w-]+", self.name):
            raise ValueError(f"name is {self.name!r}; it must be of letters, digits, - and _")


class DevSettings(Settings, frozen=True, kw_only=True):
    """What a run is judged by: ``sets``, or where there is none a ``share`` of the training queries.

    ``test_share`` of the training queries is kept for one look at the end. Queries of the same stems stay together.
    """

    sets: tuple[DevSet, ...] = ()
    share: float = 0.1
    test_share: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.share < 1 and 0 <= self.test_share < 1 and self.share + self.test_share < 1):
            raise ValueError(
                f"share is {self.share} and test_share {self.test_share}; share must be above 0, and both under 1"
            )
        names = [dev_set.name for dev_set in self.sets]
        if len(set(names)) < len(names):
            raise ValueError(f"two of the sets have the same name: {', '.join(names)}")


class TeacherSettings(Settings, frozen=True, kw_only=True):
    """Who labels beside the data: a cross-encoder of ours, ``path`` (the ``best`` directory of a run), or ``encoders``.

    ``encoders`` are bases, or saved encoders: the mean of their standardised cosines, made a probability by the judged
    pairs. At most one of the two is given; none is no teacher.

    A label becomes ``weight`` times the teacher's probability, at ``temperature``, and the rest of its own; where
    people judged (or clicked), the share is ``judged_weight``, which is ``weight`` where it is left out. A pair that
    has no label gets the teacher's alone. With ``false_negatives`` above 0, a product that nobody judged is left out
    where the teacher finds it at least that share as probable as the query's most probable judged product (Moreira et
    al. 2024, "NV-Retriever", section 4.2, have 0.95).
    """

    path: str = ""
    encoders: tuple[str, ...] = ()
    weight: float = 0.5
    judged_weight: float | None = None
    temperature: float = 1.0
    false_negatives: float = 0.0

    def __post_init__(self) -> None:
        at_least(self, 0, "false_negatives")
        if not 0 <= self.weight <= 1 or not 0 <= (self.judged_weight or 0) <= 1 or not self.temperature > 0:
            raise ValueError(
                f"weight is {self.weight}, judged_weight {self.judged_weight} and temperature {self.temperature}; "
                "weights are from 0 to 1, the temperature above 0"
            )
        if self.path and self.encoders:
            raise ValueError(f"path is {self.path!r} and encoders are {list(self.encoders)}; name one or the other")

    @property
    def given(self) -> bool:
        return bool(self.path or self.encoders)


class RankingModel(ModelSettings, frozen=True, kw_only=True):
    """What is trained. A product is cut to ``product_tokens``."""

    product_tokens: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 1, "product_tokens")


class RankingTraining(LoopSettings, frozen=True, kw_only=True):
    """How it is trained: batches have about ``pairs_per_batch`` pairs.

    ``products_per_query`` is how many of a query's products an epoch has, drawn anew each time; 0 is all.
    """

    pairs_per_batch: int = 64
    products_per_query: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 1, "pairs_per_batch")
        at_least(self, 0, "products_per_query")


class RankingConfig(RunConfig, frozen=True, kw_only=True):
    """A run of a task that learns from queries with products: which, and whose labels."""

    source: list[JudgedSource | ExamplesSource | ClicksSource | GeneratedSource | QueriesSource]
    model: RankingModel = RankingModel()
    training: RankingTraining = RankingTraining()
    negatives: NegativeSettings = NegativeSettings()
    dev: DevSettings = DevSettings()
    teacher: TeacherSettings = TeacherSettings()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.source:
            raise ValueError("source is empty; name at least one [[source]]")
        unjudged = [source for source in self.source if isinstance(source, QueriesSource)]
        untaught = [source.path for source in unjudged if source.labels == "teacher"]
        if untaught and not self.teacher.given:
            raise ValueError(
                f"source of kind 'queries', {untaught[0]}, has no labels but a teacher's, and there is none; "
                'name the best directory of a run in teacher.path, or set its labels = "search"'
            )
        if len(unjudged) == len(self.source) and not self.dev.sets:
            raise ValueError("source is of kind 'queries' alone, of which none can be held out; give [[dev.sets]]")
