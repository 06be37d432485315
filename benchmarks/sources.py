"""Source files of what searches, `engine`, `ranking` and `qpt`: their checksums, and which decide what an index holds.

All are read once, while this module is imported: a file that is edited while a run goes on must not pass for the code
that runs.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

import engine

_ROOT = Path(engine.__file__).parent.parent
_PARTS = ("engine", "ranking", "qpt")


def _module(path: Path) -> str:
    return ".".join(path.relative_to(_ROOT).with_suffix("").parts).removesuffix(".__init__")


_FILES = {_module(path): path.read_bytes() for part in _PARTS for path in sorted((_ROOT / part).rglob("*.py"))}
_CHECKSUMS = {name: hashlib.sha256(data).hexdigest() for name, data in _FILES.items()}


def engine_sources() -> str:
    """One checksum over all of them: what a commit does not say of an edited checkout."""
    return hashlib.sha256(msgspec.json.encode(_CHECKSUMS)).hexdigest()


def checksums_below(*modules: str) -> dict[str, str]:
    """Checksum by name of such modules and of all such modules they import, at the top or inside a function."""
    found: dict[str, str] = {}
    left = list(modules)
    while left:
        name = left.pop()
        if name in _FILES and name not in found:
            found[name] = _CHECKSUMS[name]
            left += _imports(name)
    return found


def _imports(name: str) -> Iterator[str]:
    """Names of the modules that a module imports, and some that are no modules."""
    for node in ast.walk(ast.parse(_FILES[name])):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
