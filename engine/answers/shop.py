"""What answers are made from: the parts of one index, opened for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.answers.attributes import Embed
from engine.answers.foreign import QuestionTranslator
from engine.answers.lexicon import WORDS
from engine.answers.policy import Policy
from engine.columns import Columns
from engine.config import SearchConfig
from engine.documents import DocumentStore
from engine.domain import DOMAIN, Domain
from engine.errors import IndexMismatchError
from engine.families.store import ProductFamilies
from engine.product import Product
from engine.types import Rows
from engine.understanding.words import tokens
from engine.updates.state import Parts

_LEAST_LETTERS = 5  # of a word that is read as another


@dataclass(frozen=True, slots=True, eq=False)
class Shop:
    """``products`` gives those of rows; ``embed`` vectors of unit length, None where there are none. ``is_foreign``
    tells whether a question is about nothing in the catalog, ``correct`` how its words are spelt there; ``translator``
    reads questions in other languages, where the catalog is in English.
    """

    columns: Columns
    families: ProductFamilies
    products: Callable[[Rows], Sequence[Product]]
    embed: Embed | None
    is_foreign: Callable[[str], bool]
    correct: Callable[[str], str]
    policy: Policy
    translator: QuestionTranslator | None = None
    documents: DocumentStore | None = None

    @property
    def brand_words(self) -> frozenset[str]:
        """The words of brands' names."""
        brands = self.columns.values("brand") if "brand" in self.columns.fields else ()
        return frozenset(token.text for brand in brands for token in tokens(brand.value))


def open_shop(
    version: Path, config: SearchConfig, parts: Parts, documents: DocumentStore | None, language: str
) -> Shop:  # fmt: skip
    """``parts`` of an index version, the documents about its products, and the catalog's language.

    Raises ConfigError on a policy that cannot be read, and IndexMismatchError on an index without families.
    """
    columns, families, dense, spelling = parts.columns, parts.families, parts.dense, parts.spelling
    if families is None:
        raise IndexMismatchError(f"{version} keeps no names of products, by which questions name them; build it again")
    domain = Domain.open(version / DOMAIN, dense.encoder.dim) if dense and (version / DOMAIN).exists() else None

    def is_foreign(question: str) -> bool:
        if dense is None or domain is None or not dense.encoder.understands(question):
            return False
        vector = dense.vector(question)
        return bool(domain.refusal(question, vector, float(dense.index.search(vector, 1, None).scores[0])))

    def correct(question: str) -> str:
        """Long words alone: a short one that the catalog lacks ("SAR") is as likely something that it has not."""
        changes = spelling.correct(question).changes if spelling else ()
        for change in reversed(changes):
            known = change.original.lower() in WORDS.groups
            if len(change.original) >= _LEAST_LETTERS and not change.original.isupper() and not known:
                question = question[: change.start] + change.replacement + question[change.end :]
        return question

    embed = dense.encoder.encode_queries if dense else None
    policy = Policy.read(config.policy)
    translator = None
    if language == "english":
        translator = QuestionTranslator(config.translations, lambda word: bool(spelling and spelling.said((word,))))
    return Shop(columns, families, parts.products.get, embed, is_foreign, correct, policy, translator, documents)
