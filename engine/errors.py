"""Every error a caller can meet. Each says what was given, what is allowed and what to do next."""

from __future__ import annotations


class AisleError(Exception):
    """Base of all errors raised by Aisle on purpose."""


class ConfigError(AisleError):
    """A setting has a value that cannot work."""


class CatalogError(AisleError):
    """A catalog row or file cannot be used. Carries ``path``, ``line`` (from 1, or None), ``field`` and ``reason``."""

    def __init__(self, path: str, line: int | None, field: str | None, reason: str) -> None:
        self.path, self.line, self.field, self.reason = path, line, field, reason
        place = path if line is None else f"{path}, line {line}"
        super().__init__(f"{place}{f', field {field!r}' if field else ''}: {reason}")


class InvalidQueryError(AisleError, ValueError):
    """A search argument (query, k, offset, deadline) is out of range or of the wrong type."""


class InvalidFilterError(AisleError, ValueError):
    """A filter names a field the catalog lacks, or a value its field cannot have."""


class IndexNotFoundError(AisleError, FileNotFoundError):
    """There is no published index in the directory."""


class IndexCorruptError(AisleError):
    """A file of the index is missing, cut short or does not match its checksum."""


class IndexMismatchError(AisleError):
    """The index was made by another format, analyzer, encoder or reranker than the one that would read it."""


class ModelError(AisleError):
    """A model directory lacks a file, or its ONNX file cannot be loaded or has another signature."""


class MissingExtraError(AisleError, ImportError):
    """A feature needs an optional dependency. Carries ``extra``."""

    def __init__(self, extra: str, package: str) -> None:
        self.extra, self.package = extra, package
        super().__init__(f"{package} is not installed. Install it with: pip install 'aisle[{extra}]'")


class AdapterError(AisleError):
    """An adapter's file cannot be used, does not fit the model it is for, or there is none of the name."""


class UpdateError(AisleError):
    """A change cannot be made to an index: what it says is wrong, or the index cannot take it. Nothing was changed."""


class IndexLockedError(AisleError):
    """Another process writes to the index."""


class EndpointError(AisleError):
    """A model behind an endpoint cannot be asked, or gives no answers that can be used."""


class BudgetError(EndpointError):
    """Asking an endpoint on would cost more than allowed. What was answered before is kept."""


class RulesError(AisleError):
    """A file of rules cannot be used. Carries ``path``, ``rule`` (its id, or ""), ``field`` (or "") and ``reason``."""

    def __init__(self, path: str, rule: str, field: str, reason: str) -> None:
        self.path, self.rule, self.field, self.reason = path, rule, field, reason
        of_rule = f", rule {rule!r}" if rule else ""
        super().__init__(f"{path}{of_rule}{f', field {field!r}' if field else ''}: {reason}")
