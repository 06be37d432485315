"""Made queries, by kind: each writer takes a product's row and gives a query with what it asks for, or None."""

from __future__ import annotations

import random
from collections.abc import Sequence

from training.data.judging import Want
from training.data.shelf import Shelf
from training.data.writers.desk import Desk, Write
from training.data.writers.everyday import write_everyday, write_typo
from training.data.writers.needs import write_gift, write_parent, write_use
from training.data.writers.plain import (
    write_attribute,
    write_brand,
    write_measure,
    write_negation,
    write_several,
    write_type,
    write_words,
)
from training.data.writers.things import (
    write_code,
    write_code_part,
    write_device,
    write_for,
    write_line,
    write_short,
    write_substitute,
    write_title,
)

_WRITERS: dict[str, tuple[int, Write]] = {
    "type": (8, write_type), "brand": (8, write_brand), "attribute": (7, write_attribute), "words": (8, write_words),
    "measure": (5, write_measure), "several": (8, write_several), "negation": (4, write_negation),
    "for": (5, write_for), "device": (3, write_device), "code": (4, write_code), "code_part": (3, write_code_part),
    "title": (6, write_title), "short": (8, write_short), "everyday": (6, write_everyday),
    "parent": (2, write_parent), "use": (3, write_use), "gift": (1, write_gift), "line": (3, write_line),
    "substitute": (3, write_substitute), "typo": (5, write_typo),
}  # fmt: skip
#: Of a hundred queries. Where a catalog has nothing for a kind, the others get its share.
KINDS = {kind: share for kind, (share, _) in _WRITERS.items()}
_TRIES = 40  # products looked at for one query of a kind
_LENGTHS = range(3, 71)  # characters of a query


class Writer:
    """Makes up queries, no two the same while there is something else to ask."""

    def __init__(self, shelf: Shelf, rng: random.Random) -> None:
        self._desk = Desk(shelf, rng)
        self._asked: set[str] = set()
        self._rows: dict[str, Sequence[int]] = {
            "for": [row for row, facts in enumerate(shelf.facts) if facts.made_for_names],
            "code_part": [row for row, facts in enumerate(shelf.facts) if facts.codes],
        }

    def want(self) -> Want | None:
        """One query of a kind drawn by its share, about a product that has what the kind needs."""
        (kind,) = self._desk.rng.choices(list(KINDS), list(KINDS.values()))
        _, write = _WRITERS[kind]
        made: Want | None = None
        for _ in range(_TRIES):
            found = write(self._desk, self._desk.row(self._rows.get(kind, ())))
            if found and len(found.query) in _LENGTHS:
                made = found
                if found.query not in self._asked:
                    break
        if made:
            self._asked.add(made.query)
        return made
