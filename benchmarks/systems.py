"""What can be measured, by name.

A system is any object with ``rank``; a factory makes one from a ``Workbench``. A name stands for an entry of
``SYSTEMS``; ``module:attribute`` for any factory that can be imported, so that a system can be measured without being
listed here::

    class ByLength:
        def __init__(self, bench: Workbench) -> None:
            self._ids = [p.product_id for p in sorted(bench.products(), key=lambda p: len(p.title))]

        def rank(self, query: str, k: int, allowed_ids: Collection[str] | None = None) -> list[tuple[str, float]]:
            ids = [i for i in self._ids if allowed_ids is None or i in allowed_ids]
            return [(i, -float(place)) for place, i in enumerate(ids[:k])]
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Protocol, cast

import msgspec

from benchmarks.indexes import Build, Workbench
from engine.config import EngineConfig
from engine.errors import ConfigError
from engine.filters import In
from engine.search import SearchEngine
from engine.types import SearchResult

#: Pairs (product id, score), best first.
Ranked = list[tuple[str, float]]


class System(Protocol):
    """Ranks products for a query.

    At most ``k`` pairs (product id, score), best first, no id twice, only ids of ``allowed_ids`` unless it is None.
    A system may carry ``build`` (what its index cost; otherwise the time of its factory is taken) and ``last`` (the
    SearchResult behind the latest ranking; its stages are then reported).
    """

    def rank(self, query: str, k: int, allowed_ids: Collection[str] | None = None) -> Ranked: ...


Factory = Callable[[Workbench], System]


class EngineSystem:
    """A SearchEngine as a system."""

    def __init__(self, engine: SearchEngine, build: Build | None = None, adapter: str | None = None) -> None:
        self.engine, self.build, self._adapter = engine, build, adapter
        self.last: SearchResult | None = None

    def rank(self, query: str, k: int, allowed_ids: Collection[str] | None = None) -> Ranked:
        filters = () if allowed_ids is None else (In("product_id", sorted(allowed_ids)),)
        self.last = self.engine.search(query, k, filters=filters, adapter=self._adapter)
        return [(hit.product.product_id, hit.score) for hit in self.last.hits]


@dataclass(frozen=True, slots=True)
class Variant:
    """A factory: the workbench's configuration with these settings replaced."""

    search: dict[str, Any] = field(default_factory=dict)
    index: dict[str, Any] = field(default_factory=dict)

    def __call__(self, bench: Workbench) -> EngineSystem:
        config = EngineConfig(
            index=msgspec.structs.replace(bench.config.index, **self.index),
            search=msgspec.structs.replace(bench.config.search, **self.search),
        )
        return EngineSystem(*bench.engine(config))


#: Behind a system's name: the same, answering with the adapters that ``--adapter`` names.
ADAPTED = "+adapter"
_ADAPTER = "measured"
#: What ``hybrid`` is without: reading and routing the query, and an answer where there is none.
UNGUIDED: dict[str, Any] = {"understand": (), "route_weight": 0.0, "nearest": False}


def _lexical(**index: Any) -> Variant:
    return Variant(
        search={"retrievers": ("lexical",), "rerank_depth": 0, **UNGUIDED},
        index={"encoder": "", "reranker": "", "router": "", **index},
    )


def _first_stage(*retrievers: str, **search: Any) -> Variant:
    return Variant(search={"retrievers": retrievers, "rerank_depth": 0, **UNGUIDED, **search})


def _require_reranker(bench: Workbench) -> None:
    if not bench.config.index.reranker:
        raise ConfigError(
            "a system with +rerank has no reranker, so it would be one without; name one in the file that "
            '--config gives, under [index]: reranker = "DIR"'
        )


def _reranked(bench: Workbench) -> EngineSystem:
    _require_reranker(bench)
    return Variant(search={"retrievers": ("lexical", "dense"), **UNGUIDED})(bench)


def _whole(bench: Workbench) -> EngineSystem:
    _require_reranker(bench)
    return Variant(search={"retrievers": ("lexical", "dense")})(bench)


def _lists(name: str, option: str) -> Callable[[Workbench], EngineSystem]:
    """``hybrid+rerank`` with a reranker of lists before it, which the workbench has by ``name``."""

    def made(bench: Workbench) -> EngineSystem:
        _require_reranker(bench)
        if name not in bench.lists:
            raise ConfigError(f"hybrid+{name} is measured with a directory; name it with {option} DIR")
        search = {"retrievers": ("lexical", "dense"), "listwise": str(bench.lists[name]), **UNGUIDED}
        return Variant(search=search)(bench)

    return made


#: Name to factory, or to the "module:attribute" of one. Lexical systems have an index without vectors and tokens, so
#: that its size and the time it takes to build are their own. Only systems with ``+rerank`` rerank, as deep as
#: configured, and only those with ``+route`` read and route queries.
SYSTEMS: dict[str, Factory | str] = {
    "bm25": _lexical(lexical_backend="tantivy"),
    "dense": _first_stage("dense"),
    "hybrid": _first_stage("lexical", "dense"),
    "hybrid-rrf": _first_stage("lexical", "dense", fusion="rrf"),
    "hybrid+rerank": _reranked,
    "hybrid+onepass": _lists("onepass", "--onepass"),
    "hybrid+listwise": _lists("listwise", "--listwise"),
    "hybrid+route": Variant(search={"retrievers": ("lexical", "dense"), "rerank_depth": 0}),
    "hybrid+route+rerank": _whole,
    "lucene": _lexical(lexical_backend="lucene"),
    "rank-bm25": _lexical(lexical_backend="rank-bm25"),
    "bm25s": "benchmarks.bm25s_peer:Bm25s",
    "stock-rrf": "benchmarks.stock:StockRrf",
}


def _adapted(inner: Factory) -> Factory:
    """The system with the workbench's adapters, all of which stand for one name."""

    def made(bench: Workbench) -> EngineSystem:
        system = inner(bench)
        if not isinstance(system, EngineSystem) or not bench.adapters:
            raise ConfigError(
                f"a system with {ADAPTED} is a search engine that answers with adapters; give them with --adapter FILE"
            )
        for path in bench.adapters:
            system.engine.add_adapter(path, name=_ADAPTER)
        return EngineSystem(system.engine, system.build, _ADAPTER)

    return made


def factory(name: str) -> Factory:
    """The factory a name or "module:attribute" stands for. Raises ConfigError."""
    if name.endswith(ADAPTED):
        return _adapted(factory(name.removesuffix(ADAPTED)))
    target = SYSTEMS.get(name, name)
    if not isinstance(target, str):
        return target
    module, colon, attribute = target.partition(":")
    if not colon:
        raise ConfigError(f"there is no system {name!r}; there are {', '.join(SYSTEMS)}, or give module:attribute")
    try:
        found = getattr(import_module(module), attribute)
    except (ModuleNotFoundError, AttributeError) as error:
        raise ConfigError(f"the system {name!r} cannot be imported: {error}") from error
    if not callable(found):
        raise ConfigError(f"the system {name!r} is {type(found).__name__}; it must be callable with a Workbench")
    return cast(Factory, found)
