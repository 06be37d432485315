"""Indexes kept between runs, and what building each one cost.

An index is used again only when everything that shaped it is as it was: the catalog's bytes, the IndexConfig, the
encoder, the reranker, the source files that build, the packages they use. Otherwise it is built anew, and why is said.
"""

from __future__ import annotations

import hashlib
import os
import platform
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.sources import checksums_below
from engine.catalog import read_catalog
from engine.config import EngineConfig, IndexConfig
from engine.dense.encoder import ENCODERS
from engine.errors import IndexCorruptError, IndexNotFoundError
from engine.lexical.retriever import BACKENDS
from engine.model_files import ModelKind
from engine.product import Product
from engine.search import SearchEngine
from engine.storage.manifest import FORMAT_VERSION, current_version
from ranking import cross_encoder

Report = Callable[[str, int, int | None], None]

_PACKAGES = ("tantivy", "faiss-cpu", "onnxruntime", "tokenizers", "PyStemmer")


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """What a build cost. ``bytes`` is the index on disk; ``peak_memory_mb`` is the whole process's up to its end."""

    products: int
    seconds: float
    bytes: int | None
    peak_memory_mb: float
    directory: str = ""
    reused: bool = False

    @property
    def products_per_second(self) -> float:
        return self.products / self.seconds if self.seconds else 0.0


class _Kept(msgspec.Struct, frozen=True):
    """The file beside a kept index: what it was made of, which published version that is, and what it cost."""

    made_of: dict[str, str]
    version: str
    build: Build


def default_root() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aisle-bench"


@dataclass
class Workbench:
    """What a system is made from: the catalog, the configuration, and indexes that are kept below ``root``.

    ``adapters`` are files for systems that answer with them, ``lists`` directories of rerankers of lists, by name.
    """

    corpus: Path
    config: EngineConfig = field(default_factory=EngineConfig)
    root: Path = field(default_factory=default_root)
    report: Report = lambda *_: None
    say: Callable[[str], None] = lambda _: None
    adapters: tuple[Path, ...] = ()
    lists: Mapping[str, Path] = field(default_factory=dict)

    def products(self) -> Iterator[Product]:
        """The catalog's products, in its order."""
        return iter(read_catalog(self.corpus))

    def engine(self, config: EngineConfig) -> tuple[SearchEngine, Build]:
        """An engine over this catalog, freshly loaded, so that no cache of another one helps it."""
        directory, build = self.index(config)
        return SearchEngine.load(directory, config.search), build

    def index(self, config: EngineConfig) -> tuple[Path, Build]:
        """The directory of this catalog's index, which is built where none is kept."""
        fingerprint = self._fingerprint
        key = hashlib.sha256(fingerprint["corpus"].encode() + msgspec.json.encode(config.index)).hexdigest()[:16]
        directory = self.root / f"{self.corpus.resolve().parent.name}-{key}"
        parts = fingerprint | made_of(config.index)
        build = self._kept(directory, parts)
        if build is None:
            build = self._build(directory, config, parts)
        return directory, build

    @cached_property
    def _fingerprint(self) -> dict[str, str]:
        with self.corpus.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"corpus": f"{self.corpus.stat().st_size} bytes, sha256 {digest}"}

    def _kept(self, directory: Path, parts: dict[str, str]) -> Build | None:
        try:
            kept = msgspec.json.decode(_beside(directory).read_bytes(), type=_Kept)
            published = current_version(directory).name
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, IndexNotFoundError, IndexCorruptError) as error:
            self.say(f"building the index anew: {error}")
            return None
        names = parts.keys() | kept.made_of.keys()
        changed = sorted(name for name in names if parts.get(name) != kept.made_of.get(name))
        if changed or kept.version != published:
            more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
            self.say(f"building the index anew; changed since: {', '.join(changed[:3]) or 'its version'}{more}")
            return None
        return msgspec.structs.replace(kept.build, reused=True)

    def _build(self, directory: Path, config: EngineConfig, parts: dict[str, str]) -> Build:
        directory.parent.mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        built = SearchEngine.build(self.products(), directory, config, progress=self.report)
        build = Build(
            products=len(built),
            seconds=time.perf_counter() - started,
            bytes=sum(p.stat().st_size for p in built.version.rglob("*") if p.is_file()),
            peak_memory_mb=peak_memory_mb(),
            directory=str(directory),
        )
        write_atomically(_beside(directory), msgspec.json.encode(_Kept(parts, built.version.name, build)))
        return build


def _beside(directory: Path) -> Path:
    return directory.with_name(directory.name + ".json")


def made_of(config: IndexConfig) -> dict[str, str]:
    """Everything but the catalog that decides what an index holds, by name."""
    backend = BACKENDS[config.lexical_backend].split(":")[0]
    parts = checksums_below("engine.builder", "engine.catalog", backend)
    parts |= {"format": str(FORMAT_VERSION), "python": platform.python_version()}
    parts |= {name: installed(name) for name in _PACKAGES}
    if config.encoder:
        parts["encoder"] = _card(ENCODERS, config.encoder)
    if config.encoder and config.router:
        parts |= checksums_below("qpt.router")
    if config.reranker:
        parts |= checksums_below(cross_encoder.__name__) | {"reranker": _card(cross_encoder.RERANKERS, config.reranker)}
    return parts


def _card(kind: ModelKind[Any], name: str) -> str:
    """The checksum of a model's card, which has those of its files."""
    card = kind.find(name) / kind.card_file
    return hashlib.sha256(card.read_bytes()).hexdigest() if card.exists() else "missing"


def installed(package: str) -> str:
    """The version of an installed package, or "not installed"."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def peak_memory_mb() -> float:
    """The most memory this process has held so far."""
    unit = 1 if platform.system() == "Darwin" else 1024  # ru_maxrss is in bytes there, in KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def write_atomically(path: Path, data: bytes) -> None:
    """Readers see the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(data)
    part.replace(path)
