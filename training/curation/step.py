"""What steps have in common: their settings, what they are given, and taking queries out of rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from training.curation.report import Tally
from training.curation.rows import Pair, Rows
from training.data.sources import Catalogs
from training.settings import Progress, Settings


@dataclass(frozen=True, slots=True)
class Context:
    """What a step is given beside rows: where it counts what it does, catalogs, the seed of chance, a progress bar."""

    tally: Tally
    catalogs: Catalogs
    seed: int
    progress: Progress


class Step(Settings, frozen=True, kw_only=True, tag_field="kind"):
    """A step's settings. What it does by them is its ``apply``: see ``training.curation.steps``."""


def drop_queries(rows: Rows, rule_of: Callable[[str], str], tally: Tally) -> Rows:
    """Without the impressions and pairs of queries that break a rule; ``rule_of`` names it, or is empty."""
    rules = {query: rule for query in rows.queries() if (rule := rule_of(query))}
    if not rules:
        return rows
    impressions, pairs = rows.impressions, rows.pairs
    for rule in dict.fromkeys(rules.values()):
        bad = np.array([rules.get(query) == rule for query in impressions.queries], np.bool_)
        if bad.any():
            impressions = tally.without(impressions, bad[impressions.query], rule)
        tally.drop_pairs([pair for pair in pairs if rules.get(pair.query) == rule], rule)
    return replace(rows, impressions=impressions, pairs=tuple(pair for pair in pairs if pair.query not in rules))


def rename_queries(rows: Rows, names: Mapping[str, str], rule: str, tally: Tally) -> Rows:
    """With each query of ``names`` as its value says; the rows count as changed by ``rule``."""
    if not names:
        return rows
    impressions = rows.impressions
    renamed = np.array([query in names for query in impressions.queries], np.bool_)
    if renamed.any():
        affected = renamed[impressions.query]
        tally.change("impressions", rule, int(affected.sum()), impressions.origins(affected))
        impressions = impressions.asking([names.get(query, query) for query in impressions.queries])
    changed = [pair for pair in rows.pairs if pair.query in names]
    tally.change("pairs", rule, len(changed), (pair.place for pair in changed))
    pairs = tuple(replace(pair, query=names.get(pair.query, pair.query)) for pair in rows.pairs)
    return replace(rows, impressions=impressions, pairs=pairs)


def merge_pairs(rows: Rows, tally: Tally) -> Rows:
    """With each query and product once, in order; pairs that go into an earlier one count as merged.

    A label is the mean of those given; origins are all that there were. What somebody typed is not made.
    """
    groups: dict[tuple[str, str], list[Pair]] = {}
    for pair in rows.pairs:
        groups.setdefault((pair.query, pair.product_id), []).append(pair)
    later = [pair for same in groups.values() for pair in same[1:]]
    rule = "pair that is there already; its label counts in the mean"
    tally.merge("pairs", rule, len(later), (pair.place for pair in later))
    return replace(rows, pairs=tuple(same[0] if len(same) == 1 else _mean(same) for same in groups.values()))


def _mean(same: list[Pair]) -> Pair:
    given = [pair.label for pair in same if pair.label is not None]
    # Rounding must not leave [0, 1].
    label = min(max(sum(given) / len(given), 0.0), 1.0) if given else None
    origins = tuple(origin for pair in same for origin in pair.origins)
    return replace(same[0], label=label, origins=origins, made=None if origins else same[0].made)
