"""The versions of an index: which there are, going back to one, deleting old ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from engine.errors import IndexCorruptError, IndexMismatchError, UpdateError
from engine.storage.change_log import Batch, ChangeLog
from engine.storage.locks import is_read, writing
from engine.storage.manifest import (
    MANIFEST,
    VERSIONS,
    current_name,
    current_version,
    point_to,
    read_manifest,
    remove_version,
)


class Version(msgspec.Struct, frozen=True):
    """One version. ``commits`` were made to it since it was built; ``bytes`` are those of its files and its log.

    ``problem`` says why it cannot be used, empty where it can.
    """

    name: str
    number: int
    created: str
    n_products: int
    commits: int
    bytes: int
    is_current: bool
    is_open: bool
    problem: str = ""


def versions(index: Path) -> list[Version]:
    """All versions, the newest first, by their numbers: clocks may go backwards. Raises IndexNotFoundError."""
    current_version(index)
    return sorted(_versions(index), key=lambda version: (-version.number, version.name))


def _versions(index: Path) -> Iterator[Version]:
    current = current_name(index)
    for path in (index / VERSIONS).iterdir():
        log = ChangeLog(index, path.name)
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) + log.size()
        there = path.name == current, is_read(path / MANIFEST)
        try:
            manifest = read_manifest(path)
            commits = max((batch.number for batch, _ in log.read()), default=0)
            yield Version(path.name, manifest.number, manifest.created, manifest.n_products, commits, size, *there)
        except (IndexCorruptError, IndexMismatchError) as error:
            yield Version(path.name, 0, "", 0, 0, size, *there, str(error))


def rollback(index: Path, target: str | None = None, *, wait_s: float = 10.0) -> str:
    """Publishes an older version, with the changes made to it, or sets the current one back to one of its commits.

    ``target`` is a version's name, ``@3`` for the third commit of the current version (``@0`` for none), or both,
    ``NAME@3``; by default the version before the current one. Nothing is deleted: a later rollback may go
    forward again.
    Returns what is published now. Raises UpdateError, IndexLockedError.
    """
    with writing(index, "rolling back", wait_s):
        known = {version.name: version for version in versions(index)}
        current = current_name(index) or ""
        name, at, commit = (target or _before(known, current)).partition("@")
        name = name or current
        if name not in known:
            raise UpdateError(f"there is no version {name!r}; there are: {', '.join(known)}")
        if known[name].problem:
            raise UpdateError(f"the version {name} cannot be used: {known[name].problem}")
        if at:
            _undo(index, name, commit)
        if name != current:
            point_to(index, name)
        return f"{name}{at}{commit}"


def _before(known: dict[str, Version], current: str) -> str:
    number = known[current].number if current in known else 0
    older = [v for v in known.values() if v.name != current and not v.problem and v.number < number]
    if not older:
        raise UpdateError("there is no version before the current one to go back to; see: aisle versions INDEX")
    return max(older, key=lambda version: version.number).name


def _undo(index: Path, name: str, commit: str) -> None:
    log = ChangeLog(index, name)
    commits = list(log.read())
    last, end = (commits[-1][0].number, commits[-1][1]) if commits else (0, 0)
    if not commit.isdigit() or int(commit) > last:
        raise UpdateError(f"{name} has no commit {commit!r}; it has those from 0, which is none, to {last}")
    if int(commit) < last:
        log.append(Batch(number=last + 1, undo=int(commit)), end)


def prune(index: Path, keep: int, *, wait_s: float = 10.0) -> tuple[list[str], list[str]]:
    """Deletes all but the newest ``keep`` versions, the current one, and those that a live process has open.

    Returns the names of those deleted, and of those that are kept because they are open. Raises UpdateError.
    """
    if keep < 1:
        raise UpdateError(f"keep is {keep}; it must be 1 or more")
    with writing(index, "pruning versions", wait_s):
        old = [version for version in versions(index)[keep:] if not version.is_current]
        deleted = [
            version.name for version in old if not version.is_open and remove_version(index / VERSIONS / version.name)
        ]
        return deleted, [version.name for version in old if version.name not in deleted]
