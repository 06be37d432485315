"""Rerankers that compare candidates, by what their directory holds."""

from __future__ import annotations

from pathlib import Path

from engine.errors import ConfigError
from engine.seams import ListModel
from ranking.listwise.reranker import ListwiseModel
from ranking.listwise.settings import LISTWISE
from ranking.onepass import CARD as ONE_PASS
from ranking.onepass import OnePassModel


def named(name: str) -> ListModel:
    """The one in the directory ``name``. Raises ConfigError, ModelError."""
    directory = Path(name)
    if (directory / ONE_PASS).is_file():
        return OnePassModel(directory)
    if (directory / LISTWISE).is_file():
        return ListwiseModel(directory)
    raise ConfigError(f"listwise is {name!r}; name a directory that has {LISTWISE} or {ONE_PASS}, or leave it empty")
