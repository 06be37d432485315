"""Prepares a run's data: reads every source, finds candidates, splits by query, and writes what came out.

The directory then has ``train.jsonl.gz``, ``dev.NAME.jsonl.gz`` per dev set and ``test.jsonl.gz`` in the form that
``training.data.examples`` reads, and ``data.json``, which says what they were made of. It is made once: while settings
and input files stay the same, it is used again.
"""

from __future__ import annotations

import gzip
import hashlib
import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import msgspec

from engine.errors import ConfigError
from engine.product import Product
from training.data.examples import ExamplesError
from training.data.negatives import Pools
from training.data.settings import ClicksSource, GeneratedSource, JudgedSource, QueriesSource, RankingConfig
from training.data.sources import Catalogs, Drawn, Group, Loaded, Source, read_judged, read_source
from training.data.stems import Stems
from training.settings import Progress

HELD_OUT = "held-out"  # the name of the dev set that is made of training queries
TEST = "test"
_DATA = "data.json"
_log = logging.getLogger(__name__)

_Draw = Callable[[Group, str], Drawn]  # a group and a seed


class SourceData(msgspec.Struct, frozen=True):
    """What one source gave: pairs include the ``mined``, unjudged ones. ``dropped`` queries are in a dev set too."""

    name: str
    license: str
    repeat: int
    queries: int
    pairs: int
    mined: int
    dropped: int


class Data(msgspec.Struct, frozen=True):
    """``data.json``: which settings decided, the input files' SHA-256, what they gave, queries and pairs by split."""

    settings: str
    sha256: dict[str, str]
    sources: list[SourceData]
    splits: dict[str, tuple[int, int]]

    @property
    def dev_sets(self) -> list[str]:
        return [name.removeprefix("dev.") for name in self.splits if name.startswith("dev.")]


class _Row(msgspec.Struct, omit_defaults=True):
    query_id: str
    query: str
    label: float
    gain: float
    product: Product
    repeat: int = 1
    judged: bool = True


def prepare(config: RankingConfig, directory: Path, progress: Progress, *, fixed: bool = False) -> Data:
    """Fills ``directory``, or uses it again.

    ``fixed`` says that a run depends on it: ConfigError then, naming the files, where it would change. Raises
    ExamplesError on input that cannot be used.
    """
    settings = _fingerprint(config)
    sha256 = {path: _sha256(Path(path)) for path in input_files(config)}
    there = _read(directory)
    if there and there.settings == settings and there.sha256 == sha256:
        return there
    if fixed:
        before = there.sha256 if there else {}
        changed = [path for path in sha256 if sha256[path] != before.get(path)]
        raise ConfigError(
            f"{directory} was made of other input: {', '.join(changed) or 'its settings'} changed since this run "
            "began. Start a new one with another --out"
        )
    directory.mkdir(parents=True, exist_ok=True)
    splits, sources = _splits(config, directory, progress)
    for name, groups in splits.items():
        _write(directory / f"{name}.jsonl.gz", groups)
    counts = {name: (len(groups), sum(len(group.labels) for group in groups)) for name, groups in splits.items()}
    data = Data(settings, sha256, sources, counts)
    (directory / _DATA).write_bytes(msgspec.json.format(msgspec.json.encode(data)))  # last: it says that all is there
    return data


def read_groups(directory: Path, split: str) -> list[Group]:
    """A split as it was written: ``train``, ``dev.NAME`` or ``test``."""
    decode = msgspec.json.Decoder(_Row).decode
    with gzip.open(directory / f"{split}.jsonl.gz") as file:
        rows = list(map(decode, file))
    groups = []
    for query_id, found in groupby(rows, lambda row: row.query_id):
        of_query = list(found)
        labels = tuple(row.label if row.judged else None for row in of_query)
        groups.append(
            Group(
                query_id, of_query[0].query, tuple(row.product for row in of_query), labels,
                tuple(row.gain for row in of_query), of_query[0].repeat,
            )
        )  # fmt: skip
    return groups


def input_files(config: RankingConfig) -> list[str]:
    """Every file that the data comes from."""
    files: list[str] = []
    for source in (*config.source, *config.dev.sets):
        if isinstance(source, GeneratedSource):
            files += (*source.catalogs, *filter(None, [source.taxonomy]))
        elif isinstance(source, QueriesSource):
            files += (*source.catalogs, source.path)
        elif isinstance(source, ClicksSource):
            files += (source.catalog, source.path)
        else:
            files += (
                getattr(source, name) for name in ("catalog", "queries", "qrels", "path") if hasattr(source, name)
            )
    files += config.negatives.catalogs if config.negatives.mine else ()
    return list(dict.fromkeys(files))


# Splits


def _splits(
    config: RankingConfig, directory: Path, progress: Progress
) -> tuple[dict[str, list[Group]], list[SourceData]]:
    catalogs = Catalogs()
    pools = Pools(catalogs, config.negatives.retriever, config.model.base, progress)
    dev = {f"dev.{dev_set.name}": read_judged(dev_set, catalogs).groups for dev_set in config.dev.sets}
    stems = Stems()
    seen = {stems(group.query) for groups in dev.values() for group in groups}
    train: list[Group] = []
    sources: list[SourceData] = []
    for number, source in enumerate(config.source):
        loaded = read_source(source, catalogs, directory / f"generated-{number}.jsonl.gz", config.seed, progress)
        fresh = [group for group in loaded.groups if stems(group.query) not in seen]
        draw = _drawing(config, source, loaded, pools)
        groups = _with_candidates(fresh, draw, f"{config.seed}:{number}", progress) if draw else fresh
        if not isinstance(source, QueriesSource):
            _require_both_classes(loaded.files[-1], groups)
        sources.append(_summary(source, loaded, fresh, groups))
        train += [replace(group, query_id=f"{number}:{group.query_id}") for group in groups]
    shares = (0.0 if config.dev.sets else config.dev.share, config.dev.test_share)
    held_out, test, train = _by_query(train, stems, shares, config.seed)
    if not train:
        raise ConfigError("no query is left to train on; give more, or hold out less: dev.share, dev.test_share")
    dev |= {f"dev.{HELD_OUT}": held_out} if held_out else {}
    return {"train": train, **dev, **({TEST: test} if test else {})}, sources


def _drawing(config: RankingConfig, source: Source, loaded: Loaded, pools: Pools) -> _Draw | None:
    """What draws products for the source's queries that nobody judged; None where it gets none."""
    if isinstance(source, QueriesSource):
        pool = pools.of(source.catalogs)
        return lambda group, seed: pool.spread(group.query, source, seed)
    settings = config.negatives
    if isinstance(source, GeneratedSource) or not settings.mine:
        return None
    own = (source.catalog,) if isinstance(source, JudgedSource | ClicksSource) else ()
    pool = pools.mined(settings.catalogs or own, loaded.products)
    return lambda group, seed: pool.negatives(group.query, group.products, settings, seed)


def _with_candidates(groups: list[Group], draw: _Draw, seed: str, progress: Progress) -> list[Group]:
    """The groups with what is drawn for them, but for those that then have no product."""
    out = []
    for number, group in enumerate(groups, 1):
        out.append(group.with_unjudged(draw(group, f"{seed}:{group.query_id}")))
        progress("finding candidates", number, len(groups))
    return [group for group in out if group.products]


def _require_both_classes(path: str, groups: Sequence[Group]) -> None:
    labels = {label or 0.0 for group in groups for label in group.labels}
    if len(labels) == 1:
        first = groups[0]
        raise ExamplesError(
            path, None, "label",
            f"one class only: every label is {labels.pop():g}, as in the first row (query {first.query!r}, product "
            f"{first.products[0].product_id!r}); add rows with another label, or set negatives.mine = true",
        )  # fmt: skip


def _summary(source: Source, loaded: Loaded, fresh: Sequence[Group], groups: Sequence[Group]) -> SourceData:
    before, n_pairs = (sum(len(group.labels) for group in some) for some in (fresh, groups))
    summary = SourceData(
        _name(source), source.license, source.repeat, len(groups), n_pairs, n_pairs - before,
        len(loaded.groups) - len(fresh),
    )  # fmt: skip
    _log.info(
        "%s: %d queries, %d pairs, %d of them mined; %d queries left out, for they are in a dev set",
        summary.name, summary.queries, summary.pairs, summary.mined, summary.dropped,
    )  # fmt: skip
    return summary


def _name(source: Source) -> str:
    """For the model card, where paths of this machine have no place: the last folder and the file."""
    if isinstance(source, GeneratedSource):
        return f"{source.queries:,} queries generated from {', '.join(Path(c).parent.name for c in source.catalogs)}"
    path = Path(source.qrels if isinstance(source, JudgedSource) else source.path)
    return f"{path.parent.name}/{path.name}"


def _by_query(
    groups: Sequence[Group], stems: Callable[[str], str], shares: tuple[float, float], seed: int
) -> tuple[list[Group], list[Group], list[Group]]:
    """Two shares of the judged queries, at least one query where a share is above 0, and the rest.

    By the hash of a query's stems, so that a query keeps its place when others come. Queries without any judgment that
    have the stems of a query in a share are left out.
    """
    keys = {stems(group.query) for group in groups if group.judged}
    ranked = sorted(keys, key=lambda key: hashlib.sha256(f"{seed}:{key}".encode()).digest())
    first, second = (math.ceil(share * len(ranked)) for share in shares)
    place = {key: 0 if rank < first else 1 if rank < first + second else 2 for rank, key in enumerate(ranked)}
    out: tuple[list[Group], list[Group], list[Group]] = ([], [], [])
    for group in groups:
        at = place.get(stems(group.query), 2)
        if at == 2 or group.judged:
            out[at].append(group)
    return out


# Files


def _fingerprint(config: RankingConfig) -> str:
    """Of the settings that decide what the data is."""
    base = config.model.base if config.negatives.retriever == "model" else None
    decisive = (config.seed, config.source, config.negatives, config.dev, base)
    return hashlib.sha256(msgspec.json.encode(decisive)).hexdigest()


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; the configuration names it") from error


def _read(directory: Path) -> Data | None:
    try:
        return msgspec.json.decode((directory / _DATA).read_bytes(), type=Data)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{directory / _DATA} cannot be read: {error}. Delete {directory}") from error


def _write(path: Path, groups: Iterable[Group]) -> None:
    encode = msgspec.json.Encoder().encode
    with gzip.open(path, "wb", compresslevel=1) as file:
        for group in groups:
            for product, label, gain in zip(group.products, group.labels, group.gains, strict=True):
                judged = label is not None
                row = _Row(group.query_id, group.query, label or 0.0, gain, product, group.repeat, judged)
                file.write(encode(row) + b"\n")
