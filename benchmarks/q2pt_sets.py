"""What query → product type classifiers are measured on: labelled queries, and judged queries of typed catalogs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.data import GRADINGS, DataError, read_qrels, read_queries
from benchmarks.indexes import default_root
from engine.catalog import read_catalog
from engine.product import Product
from engine.seams import Embeddings, Encoder
from qpt.calibration import Flags
from qpt.evidence import ANALYZER
from qpt.examples import LabelledQuery, from_catalog, from_judgments, read_labelled
from qpt.head_fit import TypedProducts
from qpt.product_types import ProductTypes, derive
from qpt.taxonomy import Taxonomy, from_names, from_product_types, read_bestbuy
from qpt.title_types import read_heads

Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Task:
    """``asked`` is query to its right types; ``n_dropped`` of the asked are left out, for ``note``'s reason."""

    name: str
    split: str
    learnt: list[LabelledQuery] = field(repr=False)
    asked: dict[str, set[str]] = field(repr=False)
    taxonomy: Taxonomy = field(repr=False)
    types: list[str] = field(repr=False)
    products: TypedProducts | None = field(default=None, repr=False)
    n_dropped: int = 0
    note: str = ""

    def with_learnt_asked(self) -> Task:
        """The same task that asks all labelled queries, also those that it learns; those made of products are left."""
        shoppers = [example for example in self.learnt if not example.product_id]
        asked = _by_query([*shoppers, *(LabelledQuery(q, t) for q, types in self.asked.items() for t in sorted(types))])
        return replace(self, asked=asked)


def right_types(task: Task) -> Flags:
    """Bool (asked, types)."""
    columns = {type_id: column for column, type_id in enumerate(task.types)}
    right = np.zeros((len(task.asked), len(task.types)), bool)
    for row, types in enumerate(task.asked.values()):
        right[row, [columns[type_id] for type_id in types]] = True
    return right


def wands_queries(data: Path, test: Path | None, encoder: Encoder) -> Task:
    """Wayfair: a class a query. Names of all classes are known, also of those that only the asked queries have."""
    learnt, asked = _labelled(data / "wands_queries", test, "query_class")
    taxonomy = from_names(sorted({example.type_id for example in (*learnt, *asked)}))
    return Task("wands_queries", _split(test), learnt, _by_query(asked), taxonomy, list(taxonomy.nodes))


def bestbuy_clicks(data: Path, test: Path | None, encoder: Encoder) -> Task:
    """Best Buy: any category that was clicked is right. Categories that the shop's tree lacks are left out."""
    taxonomy = read_bestbuy(data / "bestbuy_categories" / "categories.json")
    learnt, asked = _labelled(data / "bestbuy_clicks", test, "category_id")
    kept = [[example for example in part if example.type_id in taxonomy.nodes] for part in (learnt, asked)]
    types = sorted({example.type_id for part in kept for example in part})
    dropped = len(_by_query(asked)) - len(_by_query(kept[1]))
    note = "left out: queries of which every clicked category is missing from the category tree, so has no name"
    return Task("bestbuy_clicks", _split(test), kept[0], _by_query(kept[1]), taxonomy, types, None, dropped, note)


def esci(data: Path, test: Path | None, encoder: Encoder) -> Task:
    """ESCI: the leaf type of any exact product is right. Learns the catalog and the judged train queries."""
    products = list(read_catalog(data / "esci" / "corpus.jsonl.gz"))
    found = derive(products)
    return _judged("esci", data, test, encoder, products, from_product_types(found), _typing(found), 3, ["train"])


def icecat(data: Path, test: Path | None, encoder: Encoder) -> Task:
    """Icecat: types derived from titles and attributes, the leaf type of any relevant product is right.

    Learns the catalog alone.
    """
    products = list(read_catalog(data / "icecat" / "corpus.jsonl.gz"))
    heads = read_heads(data / "google_taxonomy" / "en-US.txt", ANALYZER)
    found = derive(products, _vectors(encoder, "icecat", products), heads)
    relevant = GRADINGS["icecat"].relevant
    return _judged("icecat", data, test, encoder, products, from_product_types(found), _typing(found), relevant, [])


TASKS: dict[str, Callable[[Path, Path | None, Encoder], Task]] = {
    "wands_queries": wands_queries, "bestbuy_clicks": bestbuy_clicks, "esci": esci, "icecat": icecat,
}  # fmt: skip


def _labelled(folder: Path, test: Path | None, column: str) -> tuple[list[LabelledQuery], list[LabelledQuery]]:
    """What is learnt and what is asked: train and dev, or both train and dev, and the file ``test``."""
    train, dev = (read_labelled(folder / f"{split}.tsv", type_id=column) for split in ("train", "dev"))
    return ([*train, *dev], read_labelled(test, type_id=column)) if test else (train, dev)


def _judged(
    name: str, data: Path, test: Path | None, encoder: Encoder, products: Sequence[Product], taxonomy: Taxonomy,
    type_of: Callable[[str], str | None], relevant: int, splits: list[str],
) -> Task:  # fmt: skip
    """``test`` is a file ``queries.SPLIT.tsv`` with ``qrels.SPLIT.txt`` beside it."""
    folder = data / name
    asked_in = test or folder / "queries.dev.tsv"
    learnt_in = [folder / f"queries.{split}.tsv" for split in [*splits, *(["dev"] if test and splits else [])]]
    learnt = [e for path in learnt_in for e in _examples(path, relevant, type_of)]
    kept = [row for row, product in enumerate(products) if type_of(product.product_id)]
    typed = [type_of(products[row].product_id) or "" for row in kept]
    vectors = _vectors(encoder, name, products)[kept]
    asked = _by_query(_examples(asked_in, relevant, type_of))
    return Task(
        name, _split(test), learnt or from_catalog(products, type_of), asked, taxonomy, sorted(set(typed)),
        TypedProducts([products[row].product_id for row in kept], vectors, typed),
        len(read_queries(asked_in)) - len(asked), "left out: queries without a relevant product that has a type",
    )  # fmt: skip


def _examples(path: Path, relevant: int, type_of: Callable[[str], str | None]) -> list[LabelledQuery]:
    kind, _, rest = path.name.partition(".")
    if kind != "queries" or not rest.endswith(".tsv"):
        raise DataError(f"{path} is not named queries.SPLIT.tsv, beside which qrels.SPLIT.txt is looked for")
    qrels = path.with_name(f"qrels.{rest.removesuffix('.tsv')}.txt")
    return from_judgments(read_queries(path), read_qrels(qrels), relevant, type_of)


def _typing(types: ProductTypes) -> Callable[[str], str | None]:
    def type_of(product_id: str) -> str | None:
        known = types.of(product_id)
        return known.type_id if known else None

    return type_of


def _by_query(examples: Sequence[LabelledQuery]) -> dict[str, set[str]]:
    """Queries that differ in case or spaces are one, written as it came first."""
    texts: dict[str, str] = {}
    right: dict[str, set[str]] = {}
    for example in examples:
        text = texts.setdefault(" ".join(example.query.lower().split()), example.query)
        right.setdefault(text, set()).add(example.type_id)
    return right


def _split(test: Path | None) -> str:
    return test.name if test else "dev"


def _vectors(encoder: Encoder, name: str, products: Sequence[Product]) -> Embeddings:
    """The products', kept beside the benchmark's indexes, as encoding a catalog takes minutes."""
    said = hashlib.sha256(encoder.fingerprint.encode())
    for product in products:
        said.update(repr(product).encode(errors="backslashreplace"))
    path = default_root() / f"q2pt-{name}-{said.hexdigest()[:16]}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, encoder.encode_products(products))
    vectors: Embeddings = np.load(path, allow_pickle=False)
    return vectors
