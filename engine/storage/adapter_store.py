"""The adapters of an index: ``INDEX/adapters/NAME.KIND.safetensors``, beside its versions, which they outlive."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from engine.adapters import KINDS, Adapter, AdapterKind, require_name
from engine.errors import AdapterError

_DIRECTORY = "adapters"
_SUFFIX = ".safetensors"


class AdapterStore:
    """The adapters' files of the index directory ``index``. Every change is one rename or removal of a whole file."""

    def __init__(self, index: Path) -> None:
        self.directory = index / _DIRECTORY

    def __iter__(self) -> Iterator[tuple[str, AdapterKind, Path]]:
        """Name, kind and file of each, in the order of the names; other files are passed over."""
        for path in sorted(self.directory.glob(f"*{_SUFFIX}")):
            name, _, kind = path.name.removesuffix(_SUFFIX).rpartition(".")
            for known in KINDS:
                if kind == known and name and not name.startswith("."):
                    yield name, known, path

    def read(self, name: str, kind: AdapterKind, path: Path) -> Adapter:
        """Raises AdapterError, also where the file was renamed by hand."""
        adapter = Adapter.read(path)
        if (adapter.card.name, adapter.card.kind) != (name, kind):
            raise AdapterError(
                f"{path} holds the adapter {adapter.card.name} for the {adapter.card.kind}: it was renamed. Remove it, "
                "and add it with: aisle adapter add INDEX FILE --name NAME"
            )
        return adapter

    def put(self, adapter: Adapter) -> bool:
        """Writes the adapter's file at once; returns whether it has replaced one."""
        require_name(adapter.card.name)
        path = self.directory / f"{adapter.card.name}.{adapter.card.kind}{_SUFFIX}"
        self.directory.mkdir(exist_ok=True)
        work = self.directory / f".{path.name}.{uuid.uuid4().hex[:8]}"
        try:
            with work.open("wb") as file:
                file.write(adapter.to_bytes())
                file.flush()
                os.fsync(file.fileno())
            replaces = path.exists()
            work.replace(path)
        finally:
            work.unlink(missing_ok=True)
        return replaces

    def copy(self, other: AdapterStore) -> None:
        """Puts all files into ``other``, as they are."""
        for _, _, path in self:
            other.directory.mkdir(exist_ok=True)
            if other.directory.resolve() != self.directory.resolve():
                shutil.copy2(path, other.directory / path.name)

    def remove(self, name: str) -> list[AdapterKind]:
        """Removes the files of that name; returns their kinds. Raises AdapterError when there are none."""
        found = [(kind, path) for of_name, kind, path in self if of_name == name]
        if not found:
            raise unknown(name, {of_name for of_name, _, _ in self})
        for _, path in found:
            path.unlink(missing_ok=True)
        return [kind for kind, _ in found]


def unknown(name: str, known: set[str]) -> AdapterError:
    """The error that says which adapters there are."""
    there = f"there are: {', '.join(sorted(known))}" if known else "there are none; add one with: aisle adapter add"
    return AdapterError(f"there is no adapter {repr(name)[:80]}; {there}")
