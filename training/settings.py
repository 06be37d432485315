"""What the settings of all runs have in common: frozen values that round-trip through TOML."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

import msgspec

from engine.errors import ConfigError

if TYPE_CHECKING:
    from training.tasks import Task

#: Linear layers: all; those of attention; or, of attention, only queries' and values'. A head is always among them.
Targets = Literal["all", "attention", "query+value"]
Method = Literal["full", "lora", "qlora", "prefix", "prompt", "bottleneck", "bitfit", "lora+prefix"]

_VARIABLE = re.compile(r"\$\{(\w+)\}")


class Progress(Protocol):
    """Told what is going on, how far it is, and of how much."""

    def __call__(self, task: str, done: int, total: int, detail: str = "") -> None: ...


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of settings, or of such tables."""

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Reads TOML; ``${NAME}`` stands for an environment variable. Raises ConfigError naming file and setting."""
        try:
            tables = msgspec.toml.decode(Path(path).read_bytes())
            return msgspec.convert(_expanded(tables, "$"), cls)
        except OSError as error:
            raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from error
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
            raise ConfigError(f"{path}: {error}") from error


def at_least(settings: Settings, least: int, *names: str) -> None:
    """Raises ValueError where a setting is below ``least``."""
    for name in names:
        if not getattr(settings, name) >= least:  # NaN fails too
            raise ValueError(f"{name} is {getattr(settings, name)}; it must be {least} or more")


class ModelSettings(Settings, frozen=True, kw_only=True):
    """Which transformer is trained, and which of its weights move.

    ``base`` is the name of a packaged model, a directory or a hub's name. ``layers`` are the indices of the layers to
    keep, from 0; empty keeps all. A query is cut to ``query_tokens``.

    ``method`` is one of ``training.methods``: ``full`` moves every weight; the others leave the transformer's own
    weights as they are, or but for biases, and train little beside them: ``rank`` is of LoRA's matrices and ``targets``
    the layers that have them, ``virtual_tokens`` how many of them prefix and prompt tuning put before a text,
    ``bottleneck`` the width of bottleneck adapters. A model's head is trained by every method. ``freeze_embeddings`` is
    of ``full``.
    """

    base: str = "all-MiniLM-L6-v2"
    layers: tuple[int, ...] = ()
    query_tokens: int = 24
    method: Method = "full"
    rank: int = 8
    targets: Targets = "all"
    virtual_tokens: int = 16
    bottleneck: int = 32
    freeze_embeddings: bool = True

    def __post_init__(self) -> None:
        at_least(self, 1, "query_tokens", "rank", "virtual_tokens", "bottleneck")
        if list(self.layers) != sorted(set(self.layers)) or any(layer < 0 for layer in self.layers):
            raise ValueError(f"layers is {list(self.layers)}; it must rise, from 0")

    @property
    def n_before(self) -> int:
        """Positions that virtual tokens take before a text."""
        return self.virtual_tokens if self.method in ("prefix", "prompt", "lora+prefix") else 0

    def as_saved(self) -> ModelSettings:
        """What of these is needed to put an adapter back into a model that was saved beside it."""
        names = ("method", "rank", "targets", "virtual_tokens", "bottleneck")
        return ModelSettings(base="", **{name: getattr(self, name) for name in names})


class LoopSettings(Settings, frozen=True, kw_only=True):
    """How long and how fast is trained.

    An evaluation comes every ``evaluate_every`` steps (0: after every epoch); ``patience`` of them without a better one
    end the run (0: never). ``max_steps`` and ``max_minutes`` end it too, and the learning rate falls in step (0: no
    limit). ``threads`` of 0 are all cores.
    """

    epochs: int = 3
    learning_rate: float = 4e-5
    warmup: float = 0.1
    weight_decay: float = 0.01
    evaluate_every: int = 0
    patience: int = 3
    checkpoint_minutes: float = 5.0
    max_steps: int = 0
    max_minutes: float = 0.0
    threads: int = 0
    bf16: Literal["auto", "on", "off"] = "auto"

    def __post_init__(self) -> None:
        at_least(self, 1, "epochs")
        at_least(self, 0, "weight_decay", "evaluate_every", "patience", "checkpoint_minutes")
        at_least(self, 0, "max_steps", "max_minutes", "threads")
        if not 0 <= self.warmup < 1 or not 0 < self.learning_rate < 1:
            raise ValueError(
                f"warmup is {self.warmup} and learning_rate {self.learning_rate}; both must be under 1, and the rate "
                "above 0"
            )


class RunConfig(Settings, frozen=True, kw_only=True):
    """All settings of a run, whatever its task. ``license`` is the weights', ``notes`` go into the model card."""

    name: str
    seed: int = 0
    license: str = ""
    notes: str = ""
    model: ModelSettings = ModelSettings()
    training: LoopSettings = LoopSettings()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.-]+", self.name):
            raise ValueError(f"name is {self.name!r}; it must be of letters, digits, dots, - and _")

    def task(self, run: Path, data: Path, test: bool, progress: Progress) -> Task[Any]:
        """What ``training.run`` trains by these settings; ``data`` is where prepared data is, or goes."""
        raise ConfigError(f"{type(self).__name__} names no task; use that of one of training.tasks")

    def write(self, path: Path) -> None:
        """Writes TOML that ``read`` gives back equal."""
        path.write_text("\n".join(_toml("", msgspec.to_builtins(self))) + "\n", encoding="utf-8")

    def differences(self, other: RunConfig) -> list[str]:
        """The settings, ``table.name``, that are not the same in both."""
        left, right = (dict(_flat("", msgspec.to_builtins(config))) for config in (self, other))
        return [name for name in left | right if left.get(name) != right.get(name)]


def _expanded(value: Any, place: str) -> Any:
    """Strings with their environment variables filled in. Raises ValueError naming variable and setting."""
    if isinstance(value, dict):
        return {name: _expanded(inner, f"{place}.{name}") for name, inner in value.items()}
    if isinstance(value, list):
        return [_expanded(inner, f"{place}[{number}]") for number, inner in enumerate(value)]
    if not isinstance(value, str):
        return value
    for name in _VARIABLE.findall(value):
        if name not in os.environ:
            raise ValueError(f"the environment variable {name} is not set; export {name}=… - at `{place}`")
    return _VARIABLE.sub(lambda found: os.environ[found[1]], value)


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(f"{prefix}.{name}" if prefix else name, inner)
    else:
        yield prefix, value


def _toml(prefix: str, table: dict[str, Any]) -> Iterator[str]:
    """Lines of a table: its values first, then the tables in it."""
    deeper = {name: value for name, value in table.items() if isinstance(value, dict) and not prefix}
    lists = {name: value for name, value in table.items() if name == "source" and not prefix}
    for name, value in table.items():
        if name not in deeper and name not in lists and value is not None:
            yield f"{name} = {_inline(value)}"
    for name, value in deeper.items():
        yield from ("", f"[{name}]", *_toml(name, value))
    for name, values in lists.items():
        for value in values:
            yield from ("", f"[[{name}]]", *_toml(name, value))


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        pairs = (f"{_inline(key)} = {_inline(inner)}" for key, inner in value.items() if inner is not None)
        return f"{{ {', '.join(pairs)} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_inline, value))}]"
    return msgspec.json.encode(value).decode()  # TOML's strings, numbers and booleans are JSON's
