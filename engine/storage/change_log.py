"""The changes made to an index version since it was built: an append-only file beside it.

``INDEX/changes/NAME.log`` holds records, one per commit: 4 bytes ``AISL``, the payload's length (uint32), its CRC-32,
and the CRC-32 of these twelve bytes, all little-endian; then the payload, a ``Batch`` as MessagePack. A commit is
acknowledged once its record is whole on the disk. What is cut short at the end was never acknowledged, and is dropped
by the next writer; what is whole and does not match its checksum is damage.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from engine.errors import IndexCorruptError
from engine.product import Product
from engine.storage.locks import sync_directory

CHANGES = "changes"
_MAGIC = b"AISL"
_HEADER = struct.Struct("<4sIII")


class Batch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One commit. ``number`` counts from 1 without gaps.

    ``puts`` are products to be found from now on, new ones or in place of those of their ids; ``vectors`` are theirs,
    float32 (n, dim) in C order, empty where the index has no encoder, and ``terms`` what analysis made of each one's
    fields, so that who loads the index need not; empty in logs of older versions. ``patches`` are whole products of
    which nothing changed that is analysed or encoded. ``deletes`` are ids. ``undo`` is the number of the commit that
    all is set back to, None for one that changes products.
    """

    number: int
    puts: tuple[Product, ...] = ()
    vectors: bytes = b""
    terms: tuple[dict[str, tuple[str, ...]], ...] = ()
    patches: tuple[Product, ...] = ()
    deletes: tuple[str, ...] = ()
    undo: int | None = None


class ChangeLog:
    """The log of one version. Only who holds the writer lock appends; reading needs no lock."""

    def __init__(self, index: Path, version: str) -> None:
        self.path = index / CHANGES / f"{version}.log"

    def size(self) -> int:
        """In bytes; 0 where there is none."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def read(self, start: int = 0) -> Iterator[tuple[Batch, int]]:
        """The commits from the byte ``start`` on, each with where it ends. Raises IndexCorruptError."""
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                data = file.read()
        except FileNotFoundError:
            return
        except OSError as error:
            raise IndexCorruptError(f"{self.path} cannot be read: {error.strerror}") from error
        at = 0
        while payload := self._payload(data, at, start):
            at += _HEADER.size + len(payload)
            try:
                batch = msgspec.msgpack.decode(payload, type=Batch)
            except (msgspec.MsgspecError, ValueError) as error:
                raise self._damage(start + at, str(error)) from error
            yield batch, start + at

    def _payload(self, data: bytes, at: int, start: int) -> bytes:
        """The record at ``at``; empty at the end, and where a writer was cut off."""
        header = data[at : at + _HEADER.size]
        # A machine that loses power may leave a file that was made longer and not yet filled.
        if len(header) < _HEADER.size or not any(data[at:]):
            return b""
        magic, length, checksum, own = _HEADER.unpack(header)
        if magic != _MAGIC or zlib.crc32(header[:-4]) != own:
            raise self._damage(start + at, "a record's head does not match its checksum")
        payload = data[at + _HEADER.size : at + _HEADER.size + length]
        if len(payload) < length:
            return b""
        if zlib.crc32(payload) != checksum:
            raise self._damage(start + at, "a record does not match its checksum")
        return payload

    def _damage(self, at: int, reason: str) -> IndexCorruptError:
        return IndexCorruptError(
            f"{self.path} is damaged at byte {at}: {reason}. Restore it from a backup, or go back to another version "
            "with: aisle rollback INDEX VERSION"
        )

    def copy_to(self, other: ChangeLog, last: int) -> None:
        """Writes the commits up to the one of that number into another log, which is empty. Raises OSError."""
        end = 0
        for batch, _ in self.read():
            if batch.number <= last:
                end = other.append(batch, end)

    def append(self, batch: Batch, end: int) -> int:
        """Writes a commit after the byte ``end``, where the last one ends, and returns where it ends itself.

        It is on the disk when this returns. On an error the log is as it was. Raises OSError.
        """
        payload = msgspec.msgpack.encode(batch)
        head = struct.pack("<4sII", _MAGIC, len(payload), zlib.crc32(payload))
        record = head + struct.pack("<I", zlib.crc32(head)) + payload
        is_new = not self.path.exists()
        self.path.parent.mkdir(exist_ok=True)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            if os.fstat(descriptor).st_size != end:  # what a writer left that was cut off
                os.ftruncate(descriptor, end)
            try:
                written = 0
                while written < len(record):
                    written += os.pwrite(descriptor, record[written:], end + written)
                os.fsync(descriptor)
                if is_new:
                    sync_directory(self.path.parent)
                    sync_directory(self.path.parent.parent)
            except BaseException:
                os.ftruncate(descriptor, end)
                raise
        finally:
            os.close(descriptor)
        return end + len(record)
