"""What the catalog says of a use: the products that name it, and what these share against others of their type.

"Gaming" stands in the texts of some monitors; where these refresh faster than other monitors, fast refresh is what
gaming asks of a monitor. A few products say little, so what they share is pulled towards nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from engine.columns import Columns
from engine.needs.lexicon import Want
from engine.needs.measures import Measures
from engine.types import Mask, Rows

_LEAST_SAYING = 3  # products of a type that must name a use, and at most this share of them:
_MOST_SAYING = 0.6
_LEAST_EFFECT = 0.25  # of 1, which would be that all who name the use come before all who do not
_KEPT = 3  # wants learnt for a use and a type, those with the largest effect


@dataclass(frozen=True, slots=True)
class Learnt:
    """``wants`` have fields' whole names; ``saying`` are how many products of the ``total`` name the use."""

    wants: tuple[Want, ...]
    saying: int
    total: int


def learn(saying: Rows, rows: Mask, measures: Measures, columns: Columns, prior: float) -> Learnt:
    """What the products of ``rows`` that are among ``saying`` share; ``prior`` is how many more would share nothing."""
    inside = np.zeros(len(columns), np.bool_)
    inside[saying] = True
    inside &= rows
    n, total = int(inside.sum()), int(rows.sum())
    if n < _LEAST_SAYING or n > _MOST_SAYING * total:
        return Learnt((), n, total)
    trust = n / (n + prior)
    fields = [name for name in columns.fields if name.startswith("attributes.")] + ["price"]
    found = [*_numeric(fields, inside, rows, measures, trust), *_named(fields, inside, rows, columns, trust)]
    found.sort(key=lambda want: (-want.weight, want.most or want.least or want.has))
    return Learnt(tuple(found[:_KEPT]), n, total)


def _numeric(fields: Sequence[str], inside: Mask, rows: Mask, measures: Measures, trust: float) -> Iterator[Want]:
    for field in measures.telling(fields, rows):
        places = measures.places(field, rows, most=True)
        known = places[inside & ~np.isnan(places)]
        effect = trust * 2 * (float(known.mean()) - 0.5) if len(known) >= _LEAST_SAYING else 0.0
        if abs(effect) >= _LEAST_EFFECT:
            weight = round(min(abs(effect), 1.0), 3)
            yield Want(most=field, weight=weight) if effect > 0 else Want(least=field, weight=weight)


def _named(fields: Sequence[str], inside: Mask, rows: Mask, columns: Columns, trust: float) -> Iterator[Want]:
    n, total = inside.sum(), rows.sum()
    for field in fields:
        column = columns.column(field)
        if column is None or not column.spans:
            continue
        shares = column.counts(rows) / total
        effects = trust * (column.counts(inside) / n - shares)
        texts = list(column.spans)
        for place in np.flatnonzero((effects >= _LEAST_EFFECT) & (shares < _MOST_SAYING)).tolist():
            text, effect = texts[place], float(effects[place])
            if text != "false":
                values = () if text == "true" else (text.casefold(),)
                yield Want(has=field, values=values, weight=round(min(2 * effect, 1.0), 3))
