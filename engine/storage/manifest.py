"""An index directory: immutable versions, a manifest with checksums, and one pointer that is switched atomically.

::

    INDEX/CURRENT                     the name of the published version
    INDEX/versions/NAME/manifest.json written last; without it a version does not exist
    INDEX/versions/NAME/…             the version's files

Readers of an old version keep their open files; publishing deletes all versions but the new one, the one before it, and
those that a live process has open.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from engine.config import IndexConfig
from engine.errors import IndexCorruptError, IndexMismatchError, IndexNotFoundError
from engine.storage.change_log import ChangeLog
from engine.storage.locks import ReaderLock, is_read, sync_directory, writing

FORMAT_VERSION = 3
_READABLE = (1, 2, FORMAT_VERSION)  # older ones are without what 2 added, rerankers, and 3, spelling and routers
_CURRENT = "CURRENT"
VERSIONS = "versions"
MANIFEST = "manifest.json"
_OWN = "manifest.sha256"
_BUILDING = ".building-"
_TRIES = 3  # at opening a version, which may be deleted at that moment where another is published


class FileEntry(msgspec.Struct, frozen=True):
    """A file's size in bytes and its SHA-256."""

    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What an index version is and what it was made with.

    ``analyzer``, ``fields``, ``encoder``, ``reranker`` and ``router`` are fingerprints; ``notes`` are for people:
    choices made and why. ``number`` orders versions, whatever the clock says.
    """

    format_version: int
    created: str
    n_products: int
    analyzer: str
    fields: str
    encoder: str
    dense_kind: str
    reranker: str = ""
    router: str = ""
    config: IndexConfig
    notes: dict[str, str]
    files: dict[str, FileEntry]
    number: int = 0


def checksum(path: Path) -> FileEntry:
    with path.open("rb") as file:
        return FileEntry(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


def _files(version: Path) -> Iterator[Path]:
    return (
        p for p in sorted(version.rglob("*")) if p.is_file() and p.name not in (MANIFEST, _OWN) and p.suffix != ".lock"
    )


@contextmanager
def publishing(
    index: Path, describe: Callable[[], Manifest], settle: Callable[[str], None] = lambda name: None
) -> Iterator[Path]:
    """Gives an empty directory to fill; on a clean exit publishes it, on any error leaves no trace.

    ``describe`` is called when the files are there; its ``files`` and ``number`` are filled in here. ``settle`` is
    called with the version's name before the switch, while nobody else writes. The index that was published
    before stays in place until the moment of the switch.
    """
    is_new = not index.exists()
    index.mkdir(parents=True, exist_ok=True)
    for stale in index.glob(_BUILDING + "*"):
        if not _is_alive(stale):
            shutil.rmtree(stale, ignore_errors=True)
    building = index / f"{_BUILDING}{os.getpid()}-{uuid.uuid4().hex[:8]}"
    building.mkdir()
    try:
        yield building
        files = {str(p.relative_to(building)): checksum(p) for p in _files(building)}
        manifest = msgspec.structs.replace(describe(), files=files, number=_next_number(index))
        data = msgspec.json.format(msgspec.json.encode(manifest))
        _write_durably(building / _OWN, hashlib.sha256(data).hexdigest().encode())
        _write_durably(building / MANIFEST, data)
        name = f"{manifest.created.replace(':', '').replace('-', '')[:15]}-{uuid.uuid4().hex[:8]}"
        (index / VERSIONS).mkdir(exist_ok=True)
        building.rename(index / VERSIONS / name)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        if is_new:
            shutil.rmtree(index, ignore_errors=True)
        raise
    before = current_name(index)
    with writing(index, "publishing a version"):
        settle(name)
        point_to(index, name)
    for version in (index / VERSIONS).iterdir():
        if version.name not in (name, before):
            remove_version(version)


def point_to(index: Path, name: str) -> None:
    """Publishes a version that is there. The caller holds the writer lock."""
    for stale in index.glob(f"{_CURRENT}.*"):
        stale.unlink()
    pointer = index / f"{_CURRENT}.{uuid.uuid4().hex[:8]}"
    _write_durably(pointer, name.encode())
    pointer.replace(index / _CURRENT)
    sync_directory(index)


def remove_version(version: Path) -> bool:
    """Deletes a version and its changes, unless a live process has it open; whether it did."""
    if is_read(version / MANIFEST):
        return False
    # The manifest goes first: what is left when this is cut off is no version.
    (version / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(version, ignore_errors=True)
    ChangeLog(version.parent.parent, version.name).path.unlink(missing_ok=True)
    return True


def _next_number(index: Path) -> int:
    numbers = [0]
    for path in (index / VERSIONS).glob(f"*/{MANIFEST}"):
        with suppress(IndexCorruptError, IndexMismatchError):
            numbers.append(read_manifest(path.parent).number)
    return max(numbers) + 1


def _is_alive(building: Path) -> bool:
    pid = building.name.removeprefix(_BUILDING).split("-")[0]
    return pid.isdigit() and Path(f"/proc/{pid}").exists()


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def current_name(index: Path) -> str | None:
    """The name of the published version; None where there is none."""
    try:
        return (index / _CURRENT).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None


def current_version(index: Path) -> Path:
    """The directory of the published version. Raises IndexNotFoundError when there is none."""
    name = current_name(index)
    if not name:
        state = "holds no published index" if index.is_dir() else "does not exist"
        raise IndexNotFoundError(f"{index} {state}. Build one with: aisle build CATALOG --out {index}")
    version = index / VERSIONS / name
    if Path(name).name != name or not version.is_dir():
        raise IndexCorruptError(
            f"{index / _CURRENT} names the version {name!r}, which is not there. Build the index again."
        )
    return version


def open_version(index: Path) -> tuple[Path, ReaderLock | None]:
    """The directory of the published version, and what keeps it from being deleted, as long as that lives.

    No lock where the file system has none. Raises as ``current_version`` does.
    """
    for _ in range(_TRIES):
        version = current_version(index)
        try:
            lock = ReaderLock(version / MANIFEST)
        except OSError:
            lock = None
        if (version / MANIFEST).exists():
            return version, lock
    return current_version(index), None


def read_manifest(version: Path) -> Manifest:
    """Raises IndexCorruptError when it cannot be read, IndexMismatchError when another format wrote it."""
    path = version / MANIFEST
    try:
        data = path.read_bytes()
        found = msgspec.json.decode(data, type=dict).get("format_version")
        if found not in _READABLE:
            readable = " and ".join(map(str, _READABLE))
            raise IndexMismatchError(
                f"{version} has index format {found}; this version of aisle reads formats {readable}. "
                "Build the index again with: aisle build CATALOG --out INDEX"
            )
        own = path.with_name(_OWN)  # versions built before there was one have none
        if own.exists() and own.read_bytes() != hashlib.sha256(data).hexdigest().encode():
            raise IndexCorruptError(f"{path} does not match the checksum in {_OWN}. Build the index again.")
        return msgspec.json.decode(data, type=Manifest)
    except OSError as error:
        raise IndexCorruptError(f"{path} cannot be read ({error.strerror}). Build the index again.") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise IndexCorruptError(f"{path} is damaged ({error}). Build the index again.") from error


def problems(version: Path, manifest: Manifest) -> list[str]:
    """What is wrong with the version's files, one line each; empty when every checksum matches."""
    found = []
    for name, expected in manifest.files.items():
        path = version / name
        if not path.is_file():
            found.append(f"{name}: missing")
        elif path.stat().st_size != expected.size:
            found.append(f"{name}: {path.stat().st_size} bytes, not {expected.size}")
        elif checksum(path) != expected:
            found.append(f"{name}: checksum differs")
    return found


def require_intact(version: Path, manifest: Manifest) -> None:
    """Raises IndexCorruptError naming the first damaged files."""
    found = problems(version, manifest)
    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise IndexCorruptError(f"the index {version} is damaged: {'; '.join(found[:3])}{more}. Build it again.")


class _Model(Protocol):
    @property
    def fingerprint(self) -> str: ...


M = TypeVar("M", bound=_Model)


def matching(part: str, index: str, model: M | None) -> M:
    """``model``, if its fingerprint is the index's. Raises IndexMismatchError naming both."""
    if model is None or model.fingerprint != index:
        raise mismatch(part, index or "none", model.fingerprint if model else "none")
    return model


def mismatch(part: str, index: str, here: str) -> IndexMismatchError:
    """What is raised where the index was built with another ``part``."""
    return IndexMismatchError(
        f"the index was built with {part} {index!r}, this engine has {here!r}. "
        "Build the index again with: aisle build CATALOG --out INDEX"
    )
