"""How an index differs from its build, told from its log alone: for who has not loaded it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from engine.columns import Columns
from engine.storage.change_log import ChangeLog
from engine.updates.live import effective


class Summary(msgspec.Struct, frozen=True):
    """``products`` there are now. ``put`` were added or analysed anew since the build, ``patched`` have other prices or
    the like, ``dead`` of the build are gone or replaced; ``log_bytes`` is what ``commits`` take on disk.
    """

    products: int
    commits: int
    log_bytes: int
    put: int
    patched: int
    dead: int

    def __str__(self) -> str:
        if not self.commits:
            return "none since the build"
        done = f"{self.put:,} put, {self.patched:,} patched, {self.dead:,} of the build dead"
        return f"{self.commits:,} commits since the build: {done}; {self.log_bytes:,} bytes of log"


def summary(version: Path, columns: Columns) -> Summary:
    """Of a version, whose ``columns`` are those of its build. Raises IndexCorruptError."""
    log = ChangeLog(version.parent.parent, version.name)
    batches, _ = effective(log)
    there: dict[str, bool] = {}  # of ids that were put or deleted
    patched: set[str] = set()
    dead: set[str] = set()
    put = 0
    for batch in batches:
        patched |= {product.product_id for product in batch.patches}
        for product_id in (*batch.deletes, *(product.product_id for product in batch.puts)):
            patched.discard(product_id)
            if columns.row(product_id) is not None:
                dead.add(product_id)
            there[product_id] = False
        there |= {product.product_id: True for product in batch.puts}
        put += len(batch.puts)
    products = len(columns) - len(dead) + sum(there.values())
    commits = max((batch.number for batch in batches), default=0)
    return Summary(products, commits, log.size(), put, len(patched), len(dead))
