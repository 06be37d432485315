"""Who may write to an index, and who reads a version of it: locks of the operating system, which end with a process.

A dead process holds nothing: the kernel lets its locks go, however it died. What the lock file says is for people.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from engine.errors import IndexLockedError

LOCK = "writer.lock"
_POLL_S = 0.02


class Holder(msgspec.Struct, frozen=True):
    """Who holds a writer lock: process, machine, and what for."""

    pid: int
    host: str
    purpose: str


@contextmanager
def writing(index: Path, purpose: str, wait_s: float = 10.0) -> Iterator[None]:
    """Keeps all other writers out of ``index`` for as long as the block runs.

    Raises IndexLockedError, naming who writes, when that does not end within ``wait_s``.
    """
    descriptor = os.open(index / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        give_up = time.monotonic() + wait_s
        while not _locked(descriptor, fcntl.LOCK_EX):
            if time.monotonic() >= give_up:
                raise IndexLockedError(
                    f"{index} is being written by {_holder(descriptor)}; waited {wait_s:g} s. Try again when it is done"
                )
            time.sleep(_POLL_S)
        holder = msgspec.json.encode(Holder(os.getpid(), socket.gethostname(), purpose))
        os.pwrite(descriptor, holder, 0)
        if os.fstat(descriptor).st_size != len(holder):  # every change of a file's size costs a wait for the disk
            os.ftruncate(descriptor, len(holder))
        yield
    finally:
        os.close(descriptor)


def _holder(descriptor: int) -> str:
    try:
        holder = msgspec.json.decode(os.pread(descriptor, 4096, 0), type=Holder)
    except msgspec.MsgspecError:
        return "another process"
    return f"process {holder.pid} on {holder.host} ({holder.purpose})"


class ReaderLock:
    """Says that a version is in use, for as long as it lives. It is inherited by forked processes."""

    def __init__(self, file: Path) -> None:
        """``file`` is any of the version's. Raises OSError when it cannot be opened."""
        self._descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        _locked(self._descriptor, fcntl.LOCK_SH)

    def __del__(self) -> None:
        with suppress(AttributeError, OSError):
            os.close(self._descriptor)


def is_read(file: Path) -> bool:
    """Whether some process, or this one, holds a ``ReaderLock`` on the file."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not _locked(descriptor, fcntl.LOCK_EX)
    finally:
        os.close(descriptor)


def _locked(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def sync_directory(directory: Path) -> None:
    """Makes names that were created, renamed or removed in a directory last."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
