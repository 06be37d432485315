"""Aisle: product search as a library."""

from engine.adapters import AdapterInfo
from engine.config import EngineConfig, IndexConfig, SearchConfig
from engine.diversity import AtMost
from engine.errors import (
    AdapterError,
    AisleError,
    CatalogError,
    ConfigError,
    IndexCorruptError,
    IndexMismatchError,
    IndexNotFoundError,
    InvalidFilterError,
    InvalidQueryError,
    MissingExtraError,
    ModelError,
    RulesError,
)
from engine.feedback_log import FeedbackLog
from engine.filters import Equal, Exists, In, Range
from engine.product import Product
from engine.search import SearchEngine
from engine.suggestions.completer import Suggestion
from engine.types import (
    Candidates,
    FacetCount,
    Group,
    Hit,
    RuleEffect,
    SearchResult,
    StageReport,
    StageTrace,
    TermMatch,
)

__all__ = [
    "AdapterError",
    "AdapterInfo",
    "AisleError",
    "AtMost",
    "Candidates",
    "CatalogError",
    "ConfigError",
    "EngineConfig",
    "Equal",
    "Exists",
    "FacetCount",
    "FeedbackLog",
    "Group",
    "Hit",
    "In",
    "IndexConfig",
    "IndexCorruptError",
    "IndexMismatchError",
    "IndexNotFoundError",
    "InvalidFilterError",
    "InvalidQueryError",
    "MissingExtraError",
    "ModelError",
    "Product",
    "Range",
    "RuleEffect",
    "RulesError",
    "SearchConfig",
    "SearchEngine",
    "SearchResult",
    "StageReport",
    "StageTrace",
    "Suggestion",
    "TermMatch",
]
