"""``listwise.toml``: which model orders candidates, how its answer is read, and how far it is trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from engine.endpoints.settings import EndpointSettings
from engine.errors import ConfigError
from ranking.listwise.defence import Defence
from ranking.listwise.prompts import LETTERS

LISTWISE = "listwise.toml"
Reading = Literal["permutation", "first-token", "yes-no"]


class OnnxSettings(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="onnx"
):  # fmt: skip
    """A decoder that ``aisle export`` wrote, on onnxruntime. ``path`` is beside ``listwise.toml``."""

    path: str = "."


class TransformersSettings(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="transformers"
):  # fmt: skip
    """Any causal language model in a directory that transformers saved; it needs ``aisle[train]``."""

    path: str


Decoders = OnnxSettings | TransformersSettings | EndpointSettings


class ListwiseSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings of a listwise reranker.

    - ``reading``: ``permutation`` has the model write the order; ``first-token`` looks at what it gives each label as
      the first of its answer, one forward pass a window (Reddy et al. 2024, "FIRST", arXiv 2406.15657); ``yes-no``
      asks about each product alone.
    - ``depth``: how many of the best candidates are ordered; in windows of ``window`` that move by ``stride``.
    - ``labels``: letters, of which there are 26, or numbers.
    - ``token_ceiling``: how many tokens of prompts and answers a search may cost; windows beyond are left.
    - ``prompts``: a file in the place of the shipped ``prompts.toml``.
    """

    name: str
    decoder: Decoders
    reading: Reading = "first-token"
    depth: int = 20
    window: int = 20
    stride: int = 10
    labels: Literal["letters", "numbers"] = "letters"
    token_ceiling: int = 8_000
    prompts: str = ""
    defence: Defence = Defence()

    def __post_init__(self) -> None:
        for name in ("depth", "stride", "token_ceiling"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if self.window < 2 or not self.stride < self.window:
            raise ValueError(f"window is {self.window} and stride {self.stride}; a window has 2 or more, a stride less")
        if self.labels == "letters" and self.window > len(LETTERS):
            raise ValueError(f"window is {self.window}; there are {len(LETTERS)} letters, so take labels = numbers")
        if self.reading == "first-token" and self.labels != "letters":
            raise ValueError("labels is numbers; reading first-token needs letters, each of which is one token")
        if self.reading != "permutation" and isinstance(self.decoder, EndpointSettings):
            raise ValueError(f"reading is {self.reading}; an endpoint gives text alone, so take reading = permutation")

    @classmethod
    def read(cls, directory: Path) -> ListwiseSettings:
        """What a directory has. Raises ConfigError naming file and setting."""
        path = directory / LISTWISE
        try:
            return msgspec.toml.decode(path.read_bytes(), type=cls)
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}; name a directory that has one") from error
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: {error}") from error
