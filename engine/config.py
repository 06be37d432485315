"""All settings, as one frozen value that round-trips through a file.

``IndexConfig`` decides what is built and is sealed into the index; ``SearchConfig`` may change at every load.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import msgspec

from engine.diversity import AtMost
from engine.errors import ConfigError

#: Fields a product's text is analysed into, in the order a reader of an explanation meets them.
LEXICAL_FIELDS = ("title", "brand", "model", "category", "attributes", "summary", "body")


_FIELD_WEIGHTS = {
    "title": 2.0,
    "brand": 1.0,
    "model": 1.35,
    "category": 1.5,
    "attributes": 1.55,
    "summary": 1.7,
    "body": 0.3,
}


_SHARES = (
    "field_tie", "lexical_weight", "code_weight", "popularity_weight", "feedback_weight", "rerank_weight",
    "route_weight", "constraint_weight", "rewrite_below", "rewrite_weight", "merge_share",
)  # fmt: skip
_LEAST = {"depth": 1, "rrf_k": 0, "feedback_products": 0, "rerank_depth": 0, "log_days": 0, "threads": 0}


class IndexConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an index is made of.

    ``lexical_backend`` is tantivy, lucene or rank-bm25. ``encoder`` is the name of a shipped encoder, the path of an
    encoder directory, or empty for an index without dense retrieval. ``reranker`` is the same for reranking.
    ``router`` is ``catalog`` for one that learns product types from the catalog, which needs an encoder; the path of a
    file of product types that people corrected, or of a trained router's directory; or empty.
    ``dense_index`` is auto, exact, sq8, hnsw or ivf.
    ``max_tokens`` is what of a product's text is encoded. ``memory_mb`` bounds what the vectors may take in memory
    when ``auto`` chooses; 0 means half of this machine's memory. ``language`` is the stemmer's, or ``auto`` for
    that of the products' locales, or where they have none of their words. ``queries`` is a log of queries to suggest
    to others, or empty for none.
    """

    lexical_backend: Literal["tantivy", "lucene", "rank-bm25"] = "tantivy"
    encoder: str = "all-MiniLM-L6-v2"
    reranker: str = "aisle-reranker"
    router: str = "catalog"
    dense_index: Literal["auto", "exact", "sq8", "hnsw", "ivf"] = "auto"
    max_tokens: int = 96
    memory_mb: int = 0
    language: str = "auto"
    queries: str = ""


class SearchConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an index is searched.

    - ``retrievers``: which run, ``lexical``, ``dense`` or both.
    - ``field_weights``, ``field_tie``: what a term found in a field is worth; the best field counts whole, the others
      by the tie.
    - ``fusion``: ``weighted`` adds normalised scores, ``lexical_weight`` times the lexical one (bent by
      ``lexical_power``) and the rest for the dense one; ``rrf`` adds reciprocal ranks, with constant ``rrf_k``.
    - ``code_weight``, ``popularity_weight``: what weighted fusion adds for a model code found, and for the place among
      all products by ``popularity`` (``rating_count`` where no product has that); both from 0 to 1.
    - ``feedback_products``: how many of the best fused products move the query's vector, by ``feedback_weight``,
      towards theirs; 0 turns that off.
    - ``depth``: candidates from each retriever.
    - ``min_similarity``: the cosine that the nearest product must reach for dense retrieval to have an answer.
    - ``rerank_depth``: how many of the best fused products are reranked, where the index has a reranker; 0 turns that
      off. ``rerank_weight``: what the reranker's probability counts in the score; the fused score counts the rest.
    - ``listwise``: the directory of a reranker that compares candidates, a language model or a one-pass encoder, in the
      place of the index's own, which it falls back to; empty for none.
    - ``combiner``: the path of a fitted combiner, which weighs all that is known of a candidate in place of
      ``rerank_weight``; empty for none.
    - ``understand``: what is read out of a query before it is searched: ``languages``, ``spelling``, ``negation``,
      ``constraints``, ``names`` and ``synonyms``; the shopper's own words are searched in any case.
      ``translations`` is a file of terms in other languages, which adds to the shipped ones. ``synonyms`` is in Solr's
      format, or ``electronics``, the shipped rules, of which those hold whose words the catalog hardly has, or empty.
      ``constraint_weight``: what a product gains that fits a limit the query states, such as a price.
    - ``route_weight``: what a product gains, times the probability that it is of the type asked for, where the index
      has a router; 0 turns routing off.
    - ``needs``: what words such as "big", "cheapest" and "for gaming" ask of products: ``shipped``, or the path of a
      file that changes entries of what is shipped, or empty to read no needs.
    - ``rewriter``: the directory of a query rewriter, or empty for none. Where the index has a reranker, and the best
      of the first results is less probable than ``rewrite_below``, the query is asked in other words too, whose
      products count ``rewrite_weight`` of its own; 0 turns that off.
    - ``rules``: a file of the shop's rules, read again when it changes, or empty for none.
    - ``out_of_stock``: whether what cannot be bought comes ``behind`` what can, or is ``hidden``; empty leaves it where
      it is. ``unavailable`` has the values of ``availability`` that mean so, whatever their case and signs.
    - ``at_most``: how many products of a field's value may be among the first results, as a list of tables:
      ``at_most = [{ field = "brand", n = 2, first = 10 }]``. A search may name its own.
    - ``merge_share``: of the products of the build, from how many that were added, replaced or deleted an engine that
      commits merges the index in the background; 0 leaves that to ``aisle merge``.
    - ``log``: the directory in which ``engine.log`` writes what was shown and clicked, or empty for none; ``log_days``:
      after how many days without a change its files are deleted, 0 keeps them.
    - ``nearest``: whether a query that finds nothing gets the nearest products there are, marked as such.
    - ``policy``: what answers to questions may be about: ``shipped``, or the path of a file.
    - ``threads``: cores used in batches, builds and by all reranking together; 0 means all that this process may use.
    """

    retrievers: tuple[Literal["lexical", "dense"], ...] = ("lexical", "dense")
    field_weights: dict[str, float] = msgspec.field(default_factory=lambda: dict(_FIELD_WEIGHTS))
    field_tie: float = 0.0
    fusion: Literal["weighted", "rrf"] = "weighted"
    lexical_weight: float = 0.465
    lexical_power: float = 1.75
    code_weight: float = 0.8
    popularity_weight: float = 0.025
    rrf_k: int = 60
    feedback_products: int = 3
    feedback_weight: float = 0.52
    depth: int = 200
    min_similarity: float = 0.3
    rerank_depth: int = 30
    rerank_weight: float = 0.3
    listwise: str = ""
    combiner: str = ""
    understand: tuple[Literal["languages", "spelling", "negation", "constraints", "names", "synonyms"], ...] = (
        "languages", "spelling", "negation", "constraints", "names", "synonyms",
    )  # fmt: skip
    translations: str = ""
    synonyms: str = "electronics"
    constraint_weight: float = 0.05
    route_weight: float = 0.5
    needs: str = "shipped"
    rewriter: str = ""
    rewrite_below: float = 0.5
    rewrite_weight: float = 0.5
    rules: str = ""
    out_of_stock: Literal["", "behind", "hidden"] = ""
    unavailable: tuple[str, ...] = ("out of stock", "sold out", "discontinued", "unavailable", "not available")
    at_most: tuple[AtMost, ...] = ()
    merge_share: float = 0.0
    log: str = ""
    log_days: int = 0
    nearest: bool = True
    policy: str = "shipped"
    threads: int = 0

    def __post_init__(self) -> None:
        unknown = set(self.field_weights) - set(LEXICAL_FIELDS)
        if unknown:
            raise ConfigError(f"field_weights names {sorted(unknown)}; the fields are {', '.join(LEXICAL_FIELDS)}")
        if not any(w > 0 for w in self.field_weights.values()) or any(w < 0 for w in self.field_weights.values()):
            raise ConfigError("field_weights must be 0 or more, and at least one above 0")
        if not self.retrievers:
            raise ConfigError("retrievers is empty; name lexical, dense or both")
        for name in _SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be from 0 to 1")
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be {least} or more")

    @property
    def n_threads(self) -> int:
        return self.threads or available_cores()


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Both halves, as read from a TOML file with the tables ``[index]`` and ``[search]``."""

    index: IndexConfig = IndexConfig()
    search: SearchConfig = SearchConfig()

    @classmethod
    def read(cls, path: str | Path) -> EngineConfig:
        """Reads a TOML file. Raises ConfigError naming the file and the setting."""
        try:
            return msgspec.toml.decode(Path(path).read_bytes(), type=cls)
        except OSError as error:
            raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from error
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: {error}") from error

    def write(self, path: str | Path) -> None:
        """Writes TOML that ``read`` gives back equal."""
        tables = msgspec.to_builtins(self)
        lines: list[str] = []
        for table, settings in tables.items():
            lines.append(f"[{table}]")
            lines += [f"{key} = {toml_value(value)}" for key, value in settings.items()]
            lines.append("")
        Path(path).write_text("\n".join(lines), encoding="utf-8")


def toml_value(value: object) -> str:
    """A string, number, boolean, list or table as TOML writes it, on one line."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {toml_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml_value(v) for v in value) + "]"
    return msgspec.json.encode(value).decode()  # TOML's strings, numbers and booleans are JSON's


def available_cores() -> int:
    """Cores this process may run on, which in a container can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
