"""The settings of a training run, as one frozen value that round-trips through TOML."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from engine.errors import ConfigError
from training.losses import loss_named

_VARIABLE = re.compile(r"\$\{(\w+)\}")


def _at_least(settings: msgspec.Struct, least: int, *names: str) -> None:
    for name in names:
        if not getattr(settings, name) >= least:  # NaN fails too
            raise ValueError(f"{name} is {getattr(settings, name)}; it must be {least} or more")


class _Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class ModelSettings(_Settings, frozen=True, kw_only=True):
    """What is trained.

    ``base`` is the name of a packaged model, a directory or a hub's name. ``layers`` are the indices of the layers to
    keep, from 0; empty keeps all. A query is cut to ``query_tokens``, a product to ``product_tokens``. ``method`` full
    moves every weight, lora (Hu et al. 2021) matrices of ``rank`` that are merged into the weights when they are saved.
    """

    base: str = "all-MiniLM-L6-v2"
    layers: tuple[int, ...] = ()
    query_tokens: int = 24
    product_tokens: int = 64
    method: Literal["full", "lora"] = "full"
    rank: int = 16
    freeze_embeddings: bool = True

    def __post_init__(self) -> None:
        _at_least(self, 1, "query_tokens", "product_tokens", "rank")
        if list(self.layers) != sorted(set(self.layers)) or any(layer < 0 for layer in self.layers):
            raise ValueError(f"layers is {list(self.layers)}; it must rise, from 0")


class Source(_Settings, frozen=True, kw_only=True, tag_field="kind"):
    """Where training queries come from.

    An epoch goes through the source ``repeat`` times. ``license`` is for the model card.
    """

    repeat: int = 1
    license: str = ""

    def __post_init__(self) -> None:
        _at_least(self, 1, "repeat")


class JudgedSource(Source, frozen=True, kw_only=True, tag="judged"):
    """A search set: a catalog, ``query_id<TAB>query`` and TREC qrels.

    ``labels`` maps a grade to its label, 0 to 1; empty means that grades are labels.
    """

    catalog: str
    queries: str
    qrels: str
    labels: dict[str, float] = {}


class ExamplesSource(Source, frozen=True, kw_only=True, tag="examples"):
    """JSON lines of query, label and product, as ``training.examples`` describes.

    ``labels`` maps a label that is no number, ``where`` keeps rows whose field has one of the values.
    """

    path: str
    labels: dict[str, float] = {}
    where: dict[str, list[str | bool | int]] = {}


class ClicksSource(Source, frozen=True, kw_only=True, tag="clicks"):
    """A log: .tsv with a head, or JSON lines, of query, product_id, and label or clicks, and perhaps impressions."""

    catalog: str
    path: str


class GeneratedSource(Source, frozen=True, kw_only=True, tag="generated"):
    """Queries made up from catalogs, ``queries`` of them; ``taxonomy`` is a file of product type names, or empty."""

    catalogs: tuple[str, ...]
    queries: int
    taxonomy: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least(self, 1, "queries")


class QueriesSource(Source, frozen=True, kw_only=True, tag="queries"):
    """Queries without judgments, as ``training.query_files`` describes.

    Their products are found by the hybrid search in ``catalogs``: the ``best``, ``middle`` of those down to a fifth of
    ``depth``, ``deep`` of those below, and ``random`` ones. ``where`` keeps rows whose field has one of the values.
    Where ``labels`` is ``teacher`` the teacher gives them; where it is ``search`` they are the search's own scores, 1
    for the best product and 0 for those not found: a model learns to rank as the search does before it learns better.
    """

    path: str
    catalogs: tuple[str, ...]
    where: dict[str, list[str | bool | int]] = {}
    best: int = 5
    middle: int = 4
    deep: int = 3
    random: int = 0
    depth: int = 200
    labels: Literal["teacher", "search"] = "teacher"

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least(self, 1, "best", "depth")
        _at_least(self, 0, "middle", "deep", "random")
        if not self.catalogs:
            raise ValueError("catalogs is empty; name at least one to find the queries' products in")


class NegativeSettings(_Settings, frozen=True, kw_only=True):
    """Products added to every judged query, which the teacher labels, or 0 where there is none.

    ``hard`` are drawn from the best ``depth`` of the hybrid search, ``random`` from all products: those of
    ``catalogs``, or the source's own where it is empty. ``mine`` turns it on.
    """

    mine: bool = False
    catalogs: tuple[str, ...] = ()
    depth: int = 60
    hard: int = 3
    random: int = 1

    def __post_init__(self) -> None:
        _at_least(self, 1, "depth")
        _at_least(self, 0, "hard", "random")


class DevSet(_Settings, frozen=True, kw_only=True):
    """A judged set to stop and compare by.

    ``gains`` maps a grade to its gain in nDCG; empty takes the labels. ``rating`` is the scale, lowest and highest,
    that a set's labels stand for; with it the root mean square error on that scale is reported.
    """

    name: str
    catalog: str
    queries: str
    qrels: str
    labels: dict[str, float] = {}
    gains: dict[str, float] = {}
    rating: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w-]+", self.name):
            raise ValueError(f"name is {self.name!r}; it must be of letters, digits, - and _")


class DevSettings(_Settings, frozen=True, kw_only=True):
    """What a run is judged by: ``sets``, or where there is none a ``share`` of the training queries.

    ``test_share`` of the training queries is kept for one look at the end. Queries of the same stems stay together.
    """

    sets: tuple[DevSet, ...] = ()
    share: float = 0.1
    test_share: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.share < 1 and 0 <= self.test_share < 1 and self.share + self.test_share < 1):
            raise ValueError(
                f"share is {self.share} and test_share {self.test_share}; share must be above 0, and both under 1"
            )
        names = [dev_set.name for dev_set in self.sets]
        if len(set(names)) < len(names):
            raise ValueError(f"two of the sets have the same name: {', '.join(names)}")


class TrainingSettings(_Settings, frozen=True, kw_only=True):
    """How it is trained.

    ``loss`` is one of ``training.losses``, or several joined by +. An evaluation comes every ``evaluate_every`` steps
    (0: after every epoch); ``patience`` of them without a better one end the run (0: never). ``max_minutes`` ends it
    too, and the learning rate falls in step (0: no limit). ``threads`` of 0 are all cores.
    """

    loss: str = "bce"
    epochs: int = 3
    pairs_per_batch: int = 64
    learning_rate: float = 4e-5
    warmup: float = 0.1
    weight_decay: float = 0.01
    evaluate_every: int = 0
    patience: int = 3
    checkpoint_minutes: float = 5.0
    max_minutes: float = 0.0
    threads: int = 0
    bf16: Literal["auto", "on", "off"] = "auto"

    def __post_init__(self) -> None:
        loss_named(self.loss)
        _at_least(self, 1, "epochs", "pairs_per_batch")
        _at_least(self, 0, "weight_decay", "evaluate_every", "patience", "checkpoint_minutes", "max_minutes", "threads")
        if not 0 <= self.warmup < 1 or not 0 < self.learning_rate < 1:
            raise ValueError(
                f"warmup is {self.warmup} and learning_rate {self.learning_rate}; both must be under 1, and the rate "
                "above 0"
            )


class TeacherSettings(_Settings, frozen=True, kw_only=True):
    """A cross-encoder of ours to learn from: the ``best`` directory of a run; none where ``path`` is empty.

    A judged pair's label becomes ``weight`` times the teacher's probability, at ``temperature``, and the rest of its
    own; any other's is the teacher's alone.
    """

    path: str = ""
    weight: float = 0.5
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1 or not self.temperature > 0:
            raise ValueError(
                f"weight is {self.weight} and temperature {self.temperature}; the weight is from 0 to 1, the "
                "temperature above 0"
            )


class RerankerConfig(_Settings, frozen=True, kw_only=True):
    """All settings of ``aisle train reranker``. ``license`` is the weights', ``notes`` go into the model card."""

    name: str
    source: list[JudgedSource | ExamplesSource | ClicksSource | GeneratedSource | QueriesSource]
    seed: int = 0
    license: str = ""
    notes: str = ""
    model: ModelSettings = ModelSettings()
    negatives: NegativeSettings = NegativeSettings()
    dev: DevSettings = DevSettings()
    training: TrainingSettings = TrainingSettings()
    teacher: TeacherSettings = TeacherSettings()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.-]+", self.name):
            raise ValueError(f"name is {self.name!r}; it must be of letters, digits, dots, - and _")
        if not self.source:
            raise ValueError("source is empty; name at least one [[source]]")
        unjudged = [source for source in self.source if isinstance(source, QueriesSource)]
        untaught = [source.path for source in unjudged if source.labels == "teacher"]
        if untaught and not self.teacher.path:
            raise ValueError(
                f"source of kind 'queries', {untaught[0]}, has no labels but a teacher's, and teacher.path is empty; "
                'name the best directory of a run there, or set its labels = "search"'
            )
        if len(unjudged) == len(self.source) and not self.dev.sets:
            raise ValueError("source is of kind 'queries' alone, of which none can be held out; give [[dev.sets]]")

    @classmethod
    def read(cls, path: str | Path) -> RerankerConfig:
        """Reads TOML; ``${NAME}`` stands for an environment variable. Raises ConfigError naming file and setting."""
        try:
            tables = msgspec.toml.decode(Path(path).read_bytes())
            return msgspec.convert(_expanded(tables, "$"), cls)
        except OSError as error:
            raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from error
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
            raise ConfigError(f"{path}: {error}") from error

    def write(self, path: Path) -> None:
        """Writes TOML that ``read`` gives back equal."""
        path.write_text("\n".join(_toml("", msgspec.to_builtins(self))) + "\n", encoding="utf-8")

    def with_loss(self, loss: str) -> RerankerConfig:
        """The same with another loss. Raises ConfigError naming the choices."""
        try:
            return msgspec.structs.replace(self, training=msgspec.structs.replace(self.training, loss=loss))
        except ValueError as error:
            raise ConfigError(str(error)) from error

    def differences(self, other: RerankerConfig) -> list[str]:
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
