"""What an installed Aisle has: every file that the packages read, and every package."""

from __future__ import annotations

import tomllib
from pathlib import Path, PurePath

import pytest

ROOT = Path(__file__).parent.parent
DATA: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]


@pytest.mark.parametrize("package", ["engine", "ranking", "qpt", "training"])
def test_every_file_is_packaged(package: str) -> None:
    files = [path for path in (ROOT / package).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert {path.parent for path in files if path.suffix == ".py"} == {path.parent for path in files if is_init(path)}
    within = [path.relative_to(ROOT / package) for path in files if path.suffix != ".py"]
    lacking = [str(path) for path in within if not any(is_matched(path, pattern) for pattern in DATA.get(package, []))]
    assert lacking == []


def is_init(path: Path) -> bool:
    return path.name == "__init__.py"


def is_matched(path: PurePath, pattern: str) -> bool:
    return path.match(pattern) and len(path.parts) == len(PurePath(pattern).parts)
