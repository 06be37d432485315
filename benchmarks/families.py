"""The families of search settings that are chosen among, from simple to complex, and what their values mean."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import msgspec

from benchmarks.nested import Family, Span, Values
from benchmarks.replay import Settings
from benchmarks.systems import UNGUIDED
from engine.config import LEXICAL_FIELDS
from engine.guidance import NUMBERS as GUIDANCE
from engine.understanding.understand import STEPS
from qpt.router import NUMBERS as ROUTER

#: Where all begin: two retrievers, every field worth the same, fused by reciprocal rank. Nothing here was tuned.
SIMPLEST: dict[str, Any] = {
    "retrievers": ("lexical", "dense"), "fusion": "rrf", "field_tie": 0.0, "feedback_weight": 0.0, "code_weight": 0.0,
    "popularity_weight": 0.0, "rerank_depth": 0, "field_weights": dict.fromkeys(LEXICAL_FIELDS, 1.0), **UNGUIDED,
}  # fmt: skip

_WEIGHT = Span(0.05, 3, log=True)
#: The title's weight is the unit of the others: only ratios matter, as fusion normalises.
_FIELDS = tuple(f"field_weights.{name}" for name in LEXICAL_FIELDS if name != "title")

#: A family starts where it does nothing yet, if there is such a place, or else at the numbers of today.
FAMILIES = (
    Family("rrf", {"rrf_k": Span(5, 200, log=True, whole=True)}, {"rrf_k": 60}),
    Family(
        "weighted", {"lexical_weight": Span(0.05, 0.95), "lexical_power": Span(0.4, 3, log=True)},
        {"lexical_weight": 0.5, "lexical_power": 1.0}, {"fusion": "weighted"},
    ),
    Family(
        "fields", {**dict.fromkeys(_FIELDS, _WEIGHT), "field_tie": Span(0, 1)},
        {**dict.fromkeys(_FIELDS, 1.0), "field_tie": 0.0},
    ),
    Family(
        "feedback", {"feedback_products": Span(2, 40, log=True, whole=True), "feedback_weight": Span(0, 0.9)},
        {"feedback_products": 5, "feedback_weight": 0.0},
    ),
    Family(
        "signals", {"code_weight": Span(0, 1), "popularity_weight": Span(0, 0.2)},
        {"code_weight": 0.0, "popularity_weight": 0.0}, needs=("weighted",),
    ),
    Family(
        "understanding", {"constraint_weight": Span(0, 0.2)}, {"constraint_weight": 0.05},
        {"understand": STEPS, "nearest": True},
    ),
    Family("route", {"route_weight": Span(0, 1)}, {"route_weight": 0.0}),
    Family(
        "guidance",
        {
            "guidance.outside_penalty": Span(0, 0.5), "guidance.model_name_gain": Span(0, 0.5),
            "guidance.exclusion_penalty": Span(0, 0.6), "guidance.named_limit_share": Span(0, 1),
            "guidance.wanted_share": Span(0.1, 1),
        },
        {f"guidance.{name}": getattr(GUIDANCE, name) for name in (
            "outside_penalty", "model_name_gain", "exclusion_penalty", "named_limit_share", "wanted_share",
        )},
        needs=("understanding",),
    ),
    Family(
        "router",
        {
            "router.sure": Span(0.8, 1), "router.likely": Span(0.3, 0.9), "router.plausible": Span(0.05, 0.5),
            "router.found_weight": Span(0, 0.9), "router.voters": Span(3, 50, log=True, whole=True),
            "router.sharpness": Span(1, 4),
        },
        {f"router.{name}": value for name, value in msgspec.structs.asdict(ROUTER).items() if name != "provenance"},
        needs=("route",),
    ),
    Family(
        "rerank", {"rerank_depth": Span(10, 50, whole=True), "rerank_weight": Span(0, 1)},
        {"rerank_depth": 30, "rerank_weight": 0.0},
    ),
)  # fmt: skip

#: Numeric settings that no family has. What more depth costs (time) and a lower floor costs (wrong answers where
#: nothing is right), the figures that are chosen by do not see. ``threads`` belongs to the machine, ``merge_share`` to
#: updates. What is far enough behind, what a phrase can mean to exclude, and of what a measure is, few queries tell.
NOT_TUNED = frozenset({
    "field_weights.title", "depth", "log_days", "min_similarity", "rewrite_below", "rewrite_weight", "threads",
    "guidance.other_penalty", "guidance.behind", "guidance.far_behind", "guidance.likely_type",
    "guidance.least_excluded", "guidance.most_excluded", "guidance.denied_gain", "guidance.stating_share",
    "merge_share",
})  # fmt: skip


def settings_of(values: Values, base: Settings) -> Settings:
    """``base`` with ``SIMPLEST`` and then ``values``, whose names may have a dot into a table."""
    flat = {**SIMPLEST, **values}
    tables: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for name, value in flat.items():
        table, dot, key = name.partition(".")
        if dot:
            tables[table][key] = value
        elif not isinstance(value, Mapping):
            tables["search"][name] = value
    weights = {**SIMPLEST["field_weights"], **tables["field_weights"]}
    replace = msgspec.structs.replace
    return Settings(
        search=replace(base.search, field_weights=weights, **tables["search"]),
        guidance=replace(base.guidance, **tables["guidance"]),
        router=replace(base.router, **tables["router"]),
    )
