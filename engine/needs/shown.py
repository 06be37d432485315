"""What the lexicon would do on an index, type by type, for people to read: ``aisle needs``."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from operator import itemgetter

import msgspec
import numpy as np

from engine.columns import PATH_SEPARATOR, Columns
from engine.needs.kind_names import KindNames
from engine.needs.uses import told
from engine.needs.wants import Needs
from engine.types import Mask

_DEPTH = 2  # of the categories that are shown
_LEAST = 3  # products that a category must have
_SHARES = (10, 50, 90)


class ShownNeed(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one entry asks of the products of one category.

    ``asks`` are its attributes and directions, ``percentiles`` the 10th, 50th and 90th of the first that has numbers,
    ``learnt`` what the catalog itself adds, from ``saying`` products that name a use, ``best`` the row that meets it
    best.
    """

    kind: str
    name: str
    category: str
    asks: tuple[str, ...]
    best: int
    percentiles: tuple[str, ...] = ()
    learnt: tuple[str, ...] = ()
    saying: int = 0


def shown(needs: Needs, columns: Columns) -> Iterator[ShownNeed]:
    """Every entry in every category that answers it, by category; of a catalog without any, in its largest kinds."""
    kinds = needs.categories.largest() if isinstance(needs.categories, KindNames) else ()
    paths = columns.postings("category") if "category" in columns.fields and not kinds else kinds
    for path, rows in sorted(paths, key=itemgetter(0)):
        if path.count(PATH_SEPARATOR) < _DEPTH and len(rows) >= _LEAST:
            mask = np.zeros(len(columns), np.bool_)
            mask[rows] = True
            yield from _gradables(needs, path, mask)
            yield from _uses(needs, path, mask)


def _gradables(needs: Needs, path: str, rows: Mask) -> Iterator[ShownNeed]:
    for name, entry in needs.lexicon.gradable.items():
        field, most = needs.meant(entry, (), rows)
        numbers = needs.measures.numbers(field) if field else None
        if numbers is not None:
            fit = needs.measures.places(field, rows, most=most)
            asks = (f"{'most' if most else 'least'} {field.removeprefix('attributes.')}",)
            percentiles = tuple(_number(field, value) for value in np.nanpercentile(numbers[rows], _SHARES))
            yield ShownNeed("gradable", name, path, asks, int(np.nanargmax(fit)), percentiles)


def _uses(needs: Needs, path: str, rows: Mask) -> Iterator[ShownNeed]:
    names = (path.rsplit(PATH_SEPARATOR, 1)[-1],)
    for name in needs.lexicon.use:
        met = needs.uses.met(name, rows, names)
        if met is not None and met.parts:
            learnt = needs.uses.learnt(name, rows)
            own = tuple(told(want) for want, _, _ in met.parts if want not in learnt.wants)
            best = int(np.nanargmax(met.fit))
            yield ShownNeed("use", name, path, own, best, (), tuple(map(told, learnt.wants)), learnt.saying)


def _number(field: str, value: float) -> str:
    return str(date.fromordinal(int(value))) if field == "released" else f"{value:,.6g}"
