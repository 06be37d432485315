"""What a shop asks of results beyond relevance: rules, what is out of stock, one product a group.

Between reading a query and ranking: it changes which query is read, which rows are allowed, and hands the ranking an
``Arrangement``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engine.analysis.analyzer import Analyzer
from engine.arrangement import Arrangement
from engine.columns import Columns
from engine.config import SearchConfig
from engine.diversity import Limits
from engine.errors import IndexMismatchError, InvalidQueryError
from engine.families.variants import VARIANTS, open_variants
from engine.grouping import Groups
from engine.product import Product
from engine.rules.live import LiveRules
from engine.rules.matching import WordReader
from engine.rules.ruling import Ruling
from engine.types import Group, Mask, Rows, RuleEffect
from engine.understanding.understand import Understood

if TYPE_CHECKING:
    from engine.ranker import Request

FAMILY = "family"  # what groups variants of one product, as against a field of the catalog
_OTHERS = 20  # products of a group that a hit names beside itself
RULES = "rules"  # the stage, as reports name it


class Controls:
    """A shop's controls of one index. Thread-safe."""

    def __init__(
        self, config: SearchConfig, columns: Columns, analyzer: Analyzer, families: Path, n_built: int,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        """``families`` is the folder of the index's families, which are of the ``n_built`` products of its build;
        ``clock`` that by which rules hold. Raises RulesError where the configured rules cannot be used.
        """
        self._config, self._clock = config, clock
        self._columns, self._n_built = columns, n_built
        self._rules = LiveRules(config.rules, WordReader(analyzer)) if config.rules else None
        self._gone = _gone(config, columns)
        self._hides = config.out_of_stock == "hidden"
        self._families = families
        self._groups = lru_cache(maxsize=8)(self._grouped)

    def over(self, columns: Columns, changed: set[str] | None) -> Controls:
        """The same controls, and rules, of an index that has changed in these columns, None where any may have."""
        other = copy(self)
        other._columns = columns
        other._groups = lru_cache(maxsize=8)(other._grouped)
        if changed is None or "availability" in changed:
            other._gone = _gone(self._config, columns)
        return other

    def read(self, request: Request, understand: Callable[[Request], Understood | None]) -> Understood | None:
        """Reads the query, or what a rule puts in its place, and adds what rules search beside it."""
        if self._rules is None:
            return understand(request)
        started = time.perf_counter()
        index = self._rules.current()
        asked = index.asked(request.query, request.locale, request.context, self._clock())
        ruling = Ruling(index, self._columns, asked)
        request.ruling = ruling
        request.query = ruling.replacement or request.query
        spent = time.perf_counter() - started
        understood = understand(request)
        started = time.perf_counter()
        if understood is not None and not ruling.replacement:
            ruling.corrected(understood.corrected)
            if ruling.replacement:
                request.query = ruling.replacement
                request.reports.pop()
                understood = understand(request)
        request.expansions += ruling.expansions
        request.ruling_ms = (spent + time.perf_counter() - started) * 1e3
        return understood

    def arrange(self, request: Request, allowed: Mask | None) -> Mask | None:
        """The rows that filters, rules and stock leave; gives the request its arrangement, where it needs one."""
        ruling = request.ruling
        if ruling is not None and self._rules is not None:
            started = time.perf_counter() - request.ruling_ms / 1e3
            ruling.routed(request.guidance.routed)
            request.expansions += tuple(new for new in ruling.expansions if new not in request.expansions)
            allowed = ruling.allowed(allowed)
            notes = [self._rules.problem, ruling.note]
            request.report(
                RULES, started, ruling.n_rules, len(ruling.rules), "; ".join(filter(None, notes)),
                "degraded" if self._rules.problem else "ran",
            )  # fmt: skip
        if self._hides and self._gone is not None:
            allowed = ~self._gone if allowed is None else allowed & ~self._gone
        groups = self._groups(request.group) if request.group else None
        behind = None if self._hides else self._gone
        pins = ruling.pins(allowed) if ruling else {}
        lift = ruling.lift if ruling and ruling.moves else None
        at_most = self._config.at_most if request.at_most is None else request.at_most
        limits = Limits(at_most, self._groups) if at_most else None
        request.arrangement = Arrangement(lift, behind, groups, pins, allowed, limits)
        return allowed

    def told(
        self, request: Request, rows: Rows, products: Callable[[Rows], Sequence[Product]]
    ) -> Iterator[tuple[tuple[RuleEffect, ...], Group | None]]:
        """For each row that is shown what rules did to it, and what it stands for; ``products`` gives those of rows."""
        effects = request.ruling.effects(rows) if request.ruling else [()] * len(rows)
        for row, ruled in zip(rows.tolist(), effects, strict=True):
            found = request.arrangement.group(row, _OTHERS)
            if found is None:
                yield ruled, None
                continue
            field, count, others = found
            yield ruled, Group(field, count, tuple(product.product_id for product in products(others)))

    def _grouped(self, field: str) -> Groups:
        """Raises InvalidFilterError on no field, IndexMismatchError where an older build derived no families."""
        if field != FAMILY:
            return Groups.by_field(field, self._columns)
        if not (self._families / VARIANTS).exists():
            raise IndexMismatchError(
                "the index was built by an aisle that derived no variants. Build it again with: "
                "aisle build CATALOG --out INDEX, or group by a field that the catalog has"
            )
        of = np.arange(len(self._columns))  # a product that was added since the build is a family of its own
        of[: self._n_built] = open_variants(self._families, self._n_built)
        return Groups(FAMILY, of, self._columns.rows)


def _gone(config: SearchConfig, columns: Columns) -> Mask | None:
    """The rows that cannot be bought, bool (n,); None where nobody asked, or all can."""
    if not config.out_of_stock:
        return None
    gone = np.zeros(len(columns), np.bool_)
    wanted = set(map(_plain, config.unavailable))
    for value, rows in columns.postings("availability"):
        if _plain(value.rpartition("/")[2]) in wanted:
            gone[rows] = True
    return gone if gone.any() else None


def _plain(value: str) -> str:
    """Letters alone: ``out_of_stock`` is ``OutOfStock``."""
    return "".join(filter(str.isalnum, value.casefold()))


def checked_context(context: Mapping[str, str]) -> Mapping[str, str]:
    """``context`` itself. Raises InvalidQueryError on anything but texts by name."""
    if not isinstance(context, Mapping) or not all(
        isinstance(key, str) and isinstance(value, str) for key, value in context.items()
    ):
        raise InvalidQueryError(f"context is {context!r}; it must be texts by name, such as {{'channel': 'app'}}")
    return context
