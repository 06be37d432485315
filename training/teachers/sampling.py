"""Rejection sampling of made queries: many are proposed, by rule or by a writer, and those kept that pass every check.

The checks are made in the order of their cost:

- ``schema``: the text is a query: of a fitting length, on one line, with a letter or digit;
- ``product``: what it is to be about is in the catalog;
- ``repeated``: nobody proposed the same before;
- ``found``: the search has a product that answers it among its first ``find_in``;
- ``agreed``: the teacher, where there is one, finds that product at least as probable as ``agree``.

What is rejected counts under the first check that it failed. What is kept is marked as synthetic for ever.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Literal, get_args

import msgspec
import numpy as np

from engine.endpoints.settings import EndpointSettings
from engine.errors import BudgetError
from engine.product import Product
from engine.search import SearchEngine
from qpt.product_types import ProductTypes
from training.data.generate import RELEVANT, GeneratedQuery, generate
from training.metrics import Scores
from training.settings import Progress, Settings, at_least
from training.teachers import Labeller, Pair, Writer
from training.teachers.prompts import Searches, searches_for
from training.teachers.settings import AnyTeacher, TransformersTeacherSettings

Check = Literal["schema", "product", "repeated", "found", "agreed"]
CHECKS: tuple[Check, ...] = get_args(Check)
WRITTEN = "written"  # the kind of a query that a writer proposed
_LENGTHS = range(2, 81)  # characters of a query
_AT_ONCE = 64  # candidates checked, or products written about, together
_LABELLED = 6  # products beside its own that a written query is kept with


class GenerateSettings(Settings, frozen=True, kw_only=True, tag_field="kind", tag="generate"):
    """Makes queries: ``queries`` by rule, and ``per_product`` by ``writer`` for each of ``products``.

    ``teacher`` judges all of them; without one nobody does, and none can be written. ``find_in`` and ``agree`` are of
    the checks.
    """

    teacher: AnyTeacher | None = None
    writer: TransformersTeacherSettings | EndpointSettings | None = None
    queries: int = 0
    products: int = 0
    per_product: int = 4
    find_in: int = 10
    agree: float = 0.5

    def __post_init__(self) -> None:
        at_least(self, 0, "queries", "products")
        at_least(self, 1, "per_product", "find_in")
        if not 0 <= self.agree <= 1:
            raise ValueError(f"agree is {self.agree}; it must be from 0 to 1")
        if not self.queries and not self.products:
            raise ValueError("queries and products are both 0; say how many are to be made by rule, or written about")
        if bool(self.products) != (self.writer is not None):
            raise ValueError("products and writer go together; give both to have queries written, or neither")
        if self.writer is not None and self.teacher is None:
            raise ValueError("teacher is missing; what a writer proposes has no label but a teacher's")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A proposed query. Any of ``answers``, ids of products, answers it; ``made`` has it with the labels of rules."""

    query: str
    kind: str
    answers: tuple[str, ...]
    made: GeneratedQuery | None = None


class Tally(msgspec.Struct):
    """Of one kind: how many were proposed, kept, and rejected by which check."""

    proposed: int = 0
    kept: int = 0
    rejected: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(CHECKS, 0))

    @property
    def unjudged(self) -> int:
        """Those that nobody could be asked about any more."""
        return self.proposed - self.kept - sum(self.rejected.values())


class SamplingReport(msgspec.Struct):
    """Tallies by kind, and ``misfits``: prompts to which a writer gave nothing that fits its schema.

    ``stopped`` says why not all was asked that was to be; it is empty where all was.
    """

    kinds: dict[str, Tally] = msgspec.field(default_factory=dict)
    misfits: int = 0
    stopped: str = ""

    def of(self, kind: str) -> Tally:
        return self.kinds.setdefault(kind, Tally())


@dataclass(frozen=True, slots=True)
class Sampled:
    """The queries kept, with labelled products, and what was counted."""

    queries: tuple[GeneratedQuery, ...]
    report: SamplingReport


def sample_queries(
    settings: GenerateSettings,
    products: Sequence[Product],
    engine: SearchEngine,
    types: ProductTypes,
    teacher: Labeller | None = None,
    writer: Writer | None = None,
    *,
    seed: int = 0,
    progress: Progress = lambda task, done, total, detail="": None,
) -> Sampled:
    """Queries about ``products``, which ``engine`` has indexed, as many as pass of those that ``settings`` propose.

    ``teacher`` and ``writer`` are those that the settings name, opened. Of a query made by rule the labels are the
    rules', of a written one the teacher's. Where money runs out, what was kept by then is given and the report says so.
    ``training.data.generate.write_queries`` writes them. Raises ConfigError where rules make no queries of the
    products, EndpointError where a teacher cannot be asked.
    """
    report = SamplingReport()
    checker = Checker(products, engine, teacher, settings.find_in, settings.agree, report)
    proposed = chain(
        _by_rule(settings, products, engine, types, seed, progress),
        _written(settings, products, writer, random.Random(seed), report, progress) if writer else (),
    )
    kept: list[GeneratedQuery] = []
    total = settings.queries + settings.products * settings.per_product
    try:
        for number, some in enumerate(_batches(proposed)):
            kept.extend(checker.passed(some))  # one by one: those before a failure stay
            progress("checking queries", min((number + 1) * _AT_ONCE, total), total, f"{len(kept)} kept")
    except BudgetError as error:
        report.stopped = str(error)
    return Sampled(tuple(kept), report)


class Checker:
    """Makes the checks, and counts in ``report``. ``engine`` has indexed ``products``."""

    def __init__(
        self, products: Sequence[Product], engine: SearchEngine, teacher: Labeller | None, find_in: int, agree: float,
        report: SamplingReport,
    ) -> None:  # fmt: skip
        self._products = {product.product_id: product for product in products}
        self._engine = engine.configured(msgspec.structs.replace(engine.config, rerank_depth=0))
        self._teacher, self._find_in, self._agree, self._report = teacher, find_in, agree, report
        self._seen: set[str] = set()

    def passed(self, candidates: Sequence[Candidate]) -> Iterator[GeneratedQuery]:
        """Those that pass every check, in their order. Raises EndpointError."""
        fit = [candidate for candidate in candidates if self._fits(candidate)]
        results = self._engine.search_batch([candidate.query for candidate in fit], self._find_in)
        found = [
            hits
            for candidate, result in zip(fit, results, strict=True)
            if (hits := self._found(candidate, [hit.product.product_id for hit in result.hits]))
        ]
        given = self._label([self._pair(hits.candidate, hits.answer) for hits in found])
        for hits, probability in zip(found, given, strict=True):
            if not probability >= self._agree:  # NaN, which is no answer, fails too
                self._rejected(hits.candidate, "agreed")
                continue
            made = hits.candidate.made or self._labelled(hits, float(probability))
            self._report.of(hits.candidate.kind).kept += 1
            yield made

    def _fits(self, candidate: Candidate) -> bool:
        self._report.of(candidate.kind).proposed += 1
        query = " ".join(candidate.query.lower().split())
        if len(query) not in _LENGTHS or "\n" in candidate.query or not any(map(str.isalnum, query)):
            return self._rejected(candidate, "schema")
        if not any(product_id in self._products for product_id in candidate.answers):
            return self._rejected(candidate, "product")
        if query in self._seen:
            return self._rejected(candidate, "repeated")
        self._seen.add(query)
        return True

    def _found(self, candidate: Candidate, ids: list[str]) -> _Found | None:
        answer = next((product_id for product_id in ids if product_id in candidate.answers), None)
        if answer is None:
            self._rejected(candidate, "found")
            return None
        return _Found(candidate, answer, ids)

    def _labelled(self, hits: _Found, probability: float) -> GeneratedQuery:
        """The query with its product and what else the search finds, with the teacher's labels."""
        others = [product_id for product_id in hits.ids if product_id != hits.answer][:_LABELLED]
        given = self._label([self._pair(hits.candidate, product_id) for product_id in others])
        labels = [(product_id, float(p)) for product_id, p in zip(others, given, strict=True) if p >= 0]
        candidates = ((hits.answer, probability), *labels)
        place = hits.ids.index(hits.answer) + 1
        return GeneratedQuery(hits.candidate.query, hits.candidate.kind, hits.answer, place, candidates)

    def _label(self, pairs: Sequence[Pair]) -> Scores:
        """The teacher's probabilities; 1 where there is no teacher, who then rejects nothing."""
        return np.ones(len(pairs), np.float32) if self._teacher is None else self._teacher.label(pairs)

    def _pair(self, candidate: Candidate, product_id: str) -> Pair:
        return Pair(candidate.query, self._products[product_id])

    def _rejected(self, candidate: Candidate, check: Check) -> bool:
        self._report.of(candidate.kind).rejected[check] += 1
        return False


@dataclass(frozen=True, slots=True)
class _Found:
    """A candidate, the best product that answers it, and the ids of all that were found, best first."""

    candidate: Candidate
    answer: str
    ids: list[str]


def _by_rule(
    settings: GenerateSettings, products: Sequence[Product], engine: SearchEngine, types: ProductTypes, seed: int,
    progress: Progress,
) -> Iterator[Candidate]:  # fmt: skip
    if not settings.queries:
        return
    for made in generate(
        products, engine, types, settings.queries, seed=seed,
        progress=lambda done, total: progress("making queries", done, total),
    ):  # fmt: skip
        answers = tuple(product_id for product_id, label in made.candidates if label >= RELEVANT)
        yield Candidate(made.query, made.kind, answers, made)


def _written(
    settings: GenerateSettings, products: Sequence[Product], writer: Writer, rng: random.Random,
    report: SamplingReport, progress: Progress,
) -> Iterator[Candidate]:  # fmt: skip
    about = rng.sample(products, min(settings.products, len(products)))
    for begin in range(0, len(about), _AT_ONCE):
        some = about[begin : begin + _AT_ONCE]
        prompts = [searches_for(product, settings.per_product) for product in some]
        try:
            answers = writer.ask(prompts, Searches)
        except BudgetError as error:
            report.stopped = str(error)
            return
        for product, found in zip(some, answers, strict=True):
            report.misfits += found is None
            for query in found.queries[: settings.per_product] if found else ():
                yield Candidate(query, WRITTEN, (product.product_id,))
        progress("asking for queries", begin + len(some), len(about))


def _batches(candidates: Iterable[Candidate]) -> Iterator[list[Candidate]]:
    waiting = iter(candidates)
    while some := list(islice(waiting, _AT_ONCE)):
        yield some
