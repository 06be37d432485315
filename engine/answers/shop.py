"""What answers are made from: the parts of one index, opened for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.answers.attributes import Embed
from engine.answers.policy import Policy
from engine.columns import Columns
from engine.config import SearchConfig
from engine.dense.retriever import DenseRetriever
from engine.documents import DOCUMENTS, DocumentStore
from engine.domain import DOMAIN, Domain
from engine.errors import IndexMismatchError
from engine.families.store import ProductFamilies
from engine.product import Product
from engine.storage.products import ProductStore
from engine.types import Rows
from engine.understanding.spelling import SpellingModel
from engine.understanding.words import tokens

_LEAST_LETTERS = 5  # of a word that is read as another


@dataclass(frozen=True, slots=True, eq=False)
class Shop:
    """``products`` gives those of rows; ``embed`` vectors of unit length, None where there are none. ``is_foreign``
    tells whether a question is about nothing in the catalog, ``correct`` how its words are spelt there.
    """

    columns: Columns
    families: ProductFamilies
    products: Callable[[Rows], Sequence[Product]]
    embed: Embed | None
    is_foreign: Callable[[str], bool]
    correct: Callable[[str], str]
    policy: Policy
    documents: DocumentStore | None = None

    @property
    def brand_words(self) -> frozenset[str]:
        """The words of brands' names."""
        brands = self.columns.values("brand") if "brand" in self.columns.fields else ()
        return frozenset(token.text for brand in brands for token in tokens(brand.value))


def open_shop(
    version: Path,
    config: SearchConfig,
    columns: Columns,
    families: ProductFamilies | None,
    dense: DenseRetriever | None,
    spelling: SpellingModel | None,
) -> Shop:
    """The parts of an index version. Raises ConfigError on a policy that cannot be read, and IndexMismatchError on an
    index without families.
    """
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
            if len(change.original) >= _LEAST_LETTERS and not change.original.isupper():
                question = question[: change.start] + change.replacement + question[change.end :]
        return question

    # A store of its own: what an engine closes over must not keep it, for a temporary index goes with its last engine.
    products = ProductStore(version).get
    embed = dense.encoder.encode_queries if dense else None
    documents = DocumentStore.open(version / DOCUMENTS) if (version / DOCUMENTS).exists() else None
    return Shop(columns, families, products, embed, is_foreign, correct, Policy.read(config.policy), documents)
