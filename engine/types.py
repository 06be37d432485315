"""The records that flow through a search. Arrays until hydration, frozen records after."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.cards import RankedCard, SearchPage
from engine.product import Product

Rows = NDArray[np.int64]
Scores = NDArray[np.float32]
Mask = NDArray[np.bool_]
Features = NDArray[np.float32]  # (n, one column a feature)
StageStatus = Literal["ran", "skipped", "degraded"]
RouteAction = Literal["filter", "boost", "none"]
RuleAction = Literal["pin", "boost", "bury", "hide", "filter"]


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Ranked rows of an index: ``rows`` int64 (n,), ``scores`` float32 (n,).

    Best first, unique, higher is better, equal scores in the order of their rows.
    """

    rows: Rows
    scores: Scores

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def empty(cls) -> Candidates:
        return cls(np.empty(0, np.int64), np.empty(0, np.float32))

    @classmethod
    def ranked(cls, rows: Rows, scores: Scores, k: int | None = None) -> Candidates:
        """Sorts unique rows by score, then row, and keeps the first ``k`` (all when None)."""
        order = np.lexsort((rows, -scores))[:k]
        return cls(np.asarray(rows[order], np.int64), np.asarray(scores[order], np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """What a reranker says of rows: float32 (n,), probabilities of relevance in the order asked for, NaN where it did
    not get to a row in time. ``note`` is for the stage's report; ``degraded`` says that it tells what went wrong.
    """

    scores: Scores
    note: str = ""
    degraded: bool = False


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A query in other words. ``score`` is higher for the better one of two for the same query."""

    text: str
    score: float


@dataclass(frozen=True, slots=True)
class StageReport:
    """What one stage did in one search. ``elapsed_ms`` is wall-clock time."""

    stage: str
    status: StageStatus
    n_in: int
    n_out: int
    elapsed_ms: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class StageTrace:
    """What one stage gave one hit: its rank there (from 1, None where the stage did not rank it) and score.

    ``parts``, of the combine stage and where the search was asked to explain, add up to the log-odds of its score: each
    is a feature of ``engine.features`` and what it adds.
    """

    stage: str
    rank: int | None
    score: float | None
    parts: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class TermMatch:
    """One query term found in one field of one product.

    ``source`` says how the term came about (typed, joined, split, plural, spelling, correction, synonym,
    translation) and ``origin`` what the shopper wrote.
    ``score`` is what the pair adds to the lexical score; the scores of all matches of a product add up to it.
    """

    term: str
    field: str
    source: str
    origin: str
    frequency: int
    document_frequency: int
    score: float


@dataclass(frozen=True, slots=True)
class RuleEffect:
    """What a rule of the shop did to one product: ``detail`` says it in words."""

    rule: str
    action: RuleAction
    detail: str


@dataclass(frozen=True, slots=True)
class Group:
    """What one product of a result stands for: ``count`` products that pass the filters, itself among them.

    ``others`` are ids of the others, those that the query found first, and of many only the first.
    """

    field: str
    count: int
    others: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hit:
    """One product of a result. ``rank`` counts from 1; ``score`` is the last stage's, comparable within the result.

    ``trace`` holds one entry per stage that ranked; ``matches`` is filled when the search was asked to explain.
    ``rules`` are what rules of the shop did to it; ``group`` is None where the search was not asked to group.
    """

    product: Product
    rank: int
    score: float
    trace: tuple[StageTrace, ...] = ()
    matches: tuple[TermMatch, ...] = ()
    rules: tuple[RuleEffect, ...] = ()
    group: Group | None = None


@dataclass(frozen=True, slots=True)
class FacetCount:
    """How many candidates have ``value`` in a field."""

    value: str
    count: int


@dataclass(frozen=True, slots=True)
class TypeProbability:
    """A product type that a query may ask for. ``probability`` is calibrated; that of a parent covers its children."""

    type_id: str
    name: str
    probability: float


@dataclass(frozen=True, slots=True, eq=False)
class Routed:
    """What a router says of a query.

    ``product_types`` are the most probable leaves, best first; ``chosen`` are the types that the action is about, which
    may be parents. ``fit`` is float32 (n_products,): how probable it is that a row is of the type asked for; None with
    action ``none``. ``inside``, bool (n_products,), are the rows of the chosen types; None unless they are filtered to.
    ``reason`` says in words why that action. ``name_of`` gives the name of the type asked for that a row is of, empty
    where it is of none. ``members`` gives the rows, bool (n_products,), that are of a type or of one below it, by the
    type's id; None where there is no telling. ``revise`` gives all of this again in the light of what the search found,
    whose best score is about 1; None where the router says the same whatever is found. ``narrowed`` gives all of this
    again for a query that names a category, by the rows of that, bool (n_products,); None where it knows no better.
    """

    product_types: tuple[TypeProbability, ...]
    action: RouteAction
    chosen: tuple[TypeProbability, ...]
    reason: str
    fit: Scores | None = None
    inside: Mask | None = None
    name_of: Callable[[int], str] = lambda row: ""
    members: Callable[[str], Mask] | None = None
    revise: Callable[[Candidates], Routed] | None = None
    narrowed: Callable[[Mask], Routed] | None = None


@dataclass(frozen=True, slots=True)
class SkuCandidate:
    """A product to go to, and why, in words a shopper could read. ``features`` are the attributes that tell most."""

    product_id: str
    title: str
    price: float | None
    currency: str
    reason: str
    features: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Route:
    """The way from a query to products: what it was taken to ask for, and what was done about it.

    ``corrected`` is the query as it was probably meant. ``notes`` are what understanding read in it, in words.
    ``product_types`` are the most probable leaves, by the query and by the products that were found.
    ``action`` is what the search did with ``chosen``: ``filter`` lets products of other types fall behind,
    ``boost`` raises those of likely types by their probability, ``none`` leaves the order alone; ``reason`` says why.
    ``nearest`` says, where nothing in the catalog is what was asked for, what is missing; the hits are then the nearest
    things there are.
    """

    corrected: str
    notes: tuple[str, ...]
    product_types: tuple[TypeProbability, ...]
    action: RouteAction
    chosen: tuple[TypeProbability, ...]
    reason: str
    skus: tuple[SkuCandidate, ...]
    nearest: str = ""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The answer to a query.

    ``n_candidates`` counts the products the hits were picked from. ``route`` is None where neither understanding nor
    routing is on. ``facets`` maps each requested field to its values, most frequent first, over those candidates.
    ``rules`` are the ids of the shop's rules that were for this search, and ``redirect`` the page that one of them
    names, empty where none does.
    """

    query: str
    hits: tuple[Hit, ...]
    stages: tuple[StageReport, ...]
    n_candidates: int
    route: Route | None = None
    facets: Mapping[str, tuple[FacetCount, ...]] = field(default_factory=dict)
    rules: tuple[str, ...] = ()
    redirect: str = ""

    @property
    def degraded(self) -> bool:
        """Whether any stage failed or ran out of time."""
        return any(stage.status == "degraded" for stage in self.stages)

    @property
    def elapsed_ms(self) -> float:
        return sum(stage.elapsed_ms for stage in self.stages)

    def to_json(self) -> bytes:
        """The result by the JSON Schema that answers share, with title, price and features of every product."""
        route = self.route
        page = SearchPage(
            query=self.query.encode(errors="replace").decode(),
            products=tuple(RankedCard.ranked(hit.product, hit.rank, hit.score) for hit in self.hits),
            n_candidates=self.n_candidates,
            corrected=route.corrected if route else self.query.encode(errors="replace").decode(),
            notes=route.notes if route else (),
            nearest=route.nearest if route else "",
        )
        return msgspec.json.encode(page)
