"""Queries that should not be learnt from: with personal data, unsafe, or about what the shop does not sell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from engine.analysis.analyzer import STOP_WORDS, Analyzer
from engine.analysis.vocabulary import Vocabulary
from engine.errors import ConfigError
from engine.product import Product
from engine.text import lexical_fields
from training.curation.personal import find_personal, mask_personal, plain_code
from training.curation.rows import Rows
from training.curation.step import Context, Step, drop_queries, rename_queries

#: The list that ships, to be read and replaced.
UNSAFE_WORDS = Path(__file__).parent / "unsafe.txt"


class PersonalStep(Step, frozen=True, kw_only=True, tag="personal"):
    """Queries with an e-mail address, a phone, card or bank account number: dropped, or those masked: ``<phone>``.

    A query of which nothing is left but masks is dropped. Numbers that are a product's id, model or EAN are none.
    """

    action: Literal["drop", "mask"] = "drop"

    def apply(self, rows: Rows, context: Context) -> Rows:
        codes = _codes(rows.products.values())

        def rule_of(query: str) -> str:
            kinds = dict.fromkeys(kind for kind, _, _ in find_personal(query, codes))
            is_lost = self.action == "drop" or not _without_masks(mask_personal(query, codes), kinds).strip()
            return f"personal data: {' and '.join(kinds)}" if kinds and is_lost else ""

        rows = drop_queries(rows, rule_of, context.tally)
        masked = {query: mask_personal(query, codes) for query in rows.queries() if find_personal(query, codes)}
        return rename_queries(rows, masked, "personal data masked", context.tally)


def _codes(products: Iterable[Product]) -> set[str]:
    return {plain_code(code) for product in products for code in (product.product_id, product.model, *product.ean)}


def _without_masks(text: str, kinds: Iterable[str]) -> str:
    for kind in kinds:
        text = text.replace(f"<{kind}>", "")
    return text


class UnsafeStep(Step, frozen=True, kw_only=True, tag="unsafe"):
    """Drops queries that have a word or a phrase of the list ``words``, a line each; the list that ships where empty.

    Words are compared whole, in lower case and without accents. Lines that begin with ``#`` are comments.
    """

    words: str = ""

    def apply(self, rows: Rows, context: Context) -> Rows:
        analyzer = Analyzer()
        phrases = _read_phrases(Path(self.words) if self.words else UNSAFE_WORDS, analyzer)

        def rule_of(query: str) -> str:
            said = f" {' '.join(analyzer.words(query))} "
            return "unsafe words" if any(phrase in said for phrase in phrases) else ""

        return drop_queries(rows, rule_of, context.tally)


def _read_phrases(path: Path, analyzer: Analyzer) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise ConfigError(f"cannot read {path}, the words of the step 'unsafe': {reason}") from error
    words = [" ".join(analyzer.words(line)) for line in lines if not line.startswith("#")]
    phrases = [f" {phrase} " for phrase in words if phrase]
    if not phrases:
        raise ConfigError(f"{path}, the words of the step 'unsafe', has none; give one a line, or leave the step out")
    return phrases


class OffDomainStep(Step, frozen=True, kw_only=True, tag="off-domain"):
    """Drops queries of which more than ``max_unknown`` of the words are unknown to every product.

    A word counts once and by its stem; stop words do not count, and words one edit from a known one are misspelt, and
    known. Products are those of ``catalogs``, or of all inputs where it is empty.
    """

    max_unknown: float = 0.5
    catalogs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.max_unknown < 1:
            raise ValueError(f"max_unknown is {self.max_unknown}; it must be from 0 and below 1, a share of words")

    def apply(self, rows: Rows, context: Context) -> Rows:
        products = [product for path in self.catalogs for product in context.catalogs[path].values()]
        analyzer = Analyzer()
        known = _vocabulary(products or rows.products.values(), analyzer)

        def rule_of(query: str) -> str:
            words = {term.text for term in analyzer.analyze(query) if term.kind != "joined"}
            words = words - STOP_WORDS or words
            unknown = sum(word not in known and not _is_near(word, known) for word in words)
            return "off-domain" if unknown > self.max_unknown * len(words) or not words else ""

        return drop_queries(rows, rule_of, context.tally)


def _is_near(word: str, known: Vocabulary) -> bool:
    """Two edits, which spelling in search allows, make battery of lottery."""
    return any(distance == 1 for _, distance in known.nearest(word))


def _vocabulary(products: Iterable[Product], analyzer: Analyzer) -> Vocabulary:
    counts: Counter[str] = Counter()
    for product in products:
        counts.update({term for text in lexical_fields(product).values() for term in analyzer.terms(text)})
    return Vocabulary(counts)
