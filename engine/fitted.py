"""Numbers that were fitted on judged queries and that no shop sets: each kind in a TOML file beside the code it is for.

``benchmarks/selection.py`` fits them anew and writes such files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import msgspec

from engine.config import toml_value
from engine.errors import ConfigError


class Fitted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``provenance`` says how, and on what, the numbers were chosen."""

    provenance: str

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises ConfigError naming the file and the number."""
        try:
            return msgspec.toml.decode(path.read_bytes(), type=cls)
        except OSError as error:
            raise ConfigError(f"cannot read the fitted numbers {path}: {error.strerror}") from error
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: {error}") from error

    def write(self, path: Path) -> None:
        """Writes TOML that ``read`` gives back equal."""
        lines = (f"{name} = {toml_value(value)}\n" for name, value in msgspec.to_builtins(self).items())
        path.write_text("".join(lines), encoding="utf-8")
