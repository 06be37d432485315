"""The demo: an index of the sample catalog, kept up to date, and queries that show what search does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from engine.catalog import read_catalog
from engine.config import IndexConfig
from engine.errors import ConfigError, IndexCorruptError, IndexMismatchError, IndexNotFoundError, ModelError
from engine.product import Product
from engine.search import SearchEngine
from engine.storage.manifest import current_version
from engine.storage.products import ProductStore

SAMPLE = Path(__file__).parent / "sample" / "corpus.jsonl"
DEFAULT_INDEX = Path("demo-index")
QUERIES = (
    "S23 Ultra",
    "samsung big fridge double door",
    "AC with inverter and 5 star rating",
    "samzung fridge",
    "best phone for night photography",
    "flagship foldable",
    "TV remote",
    "rt28c3053",
)


def sample_index(directory: Path, build: Callable[[], object]) -> SearchEngine:
    """The sample's index in ``directory``; calls ``build`` to make it where it is missing, damaged or out of date.

    Raises ConfigError rather than replace the index of another catalog.
    """
    sample = list(read_catalog(SAMPLE))
    try:
        engine = SearchEngine.load(directory)
        built = replace(engine.manifest.config, language=IndexConfig().language)  # which a build settles
        if built == IndexConfig() and list(ProductStore(engine.version)) == sample:
            return engine
        _require_ours(directory, sample)
    except IndexNotFoundError:
        pass
    except (IndexMismatchError, IndexCorruptError, ModelError):
        _require_ours(directory, sample)
    build()
    return SearchEngine.load(directory)


def _require_ours(directory: Path, sample: list[Product]) -> None:
    titles = {product.title for product in sample}
    try:
        ours = any(product.title in titles for product in ProductStore(current_version(directory)))
    except IndexCorruptError:
        ours = directory == DEFAULT_INDEX
    if not ours:
        raise ConfigError(f"{directory} holds an index that is not the sample's; name another directory with --index")
