"""What is scored in a profile: a catalog's queries, and its products cut or joined to a length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from tokenizers import Encoding, Tokenizer

from benchmarks.graphs import Lengths
from engine.model_files import MAX_CHARACTERS
from engine.types import Rows
from ranking.cross_encoder import CrossEncoderModel

REAL = "real"


@dataclass(frozen=True, slots=True)
class Products:
    """Texts by row, and how many tokens each has. All systems get the same."""

    length: str
    texts: list[str]
    tokens: Lengths


@dataclass(frozen=True, slots=True)
class Ask:
    """One call: a query, the rows to score, and the tokens of each pair."""

    query: str
    rows: Rows
    lengths: Lengths


def products_of(length: str, texts: Sequence[str], model: CrossEncoderModel) -> Products:
    """Products of exactly ``length`` tokens, or for ``REAL`` of their own, but no more than the model keeps.

    One that is too short is continued with those after it.
    """
    if length == REAL:
        cut = [_cut(model.tokenizer, text, model.card.product_tokens) for text in texts]
    else:
        cut = [_filled(model.tokenizer, texts, row, int(length)) for row in range(len(texts))]
    return Products(length, [text for text, _ in cut], np.array([n for _, n in cut], np.int64))


def asks(
    queries: Sequence[str], products: Products, candidates: int, model: CrossEncoderModel, seed: int
) -> Iterator[Ask]:
    """One for every query, each with other rows, drawn by the seed."""
    draw = np.random.default_rng(seed)
    for query in queries:
        rows = draw.choice(len(products.texts), candidates, replace=False)
        yield Ask(query, rows, products.tokens[rows] + len(query_ids(query, model)) + len(model.special))


def query_ids(query: str, model: CrossEncoderModel) -> list[int]:
    """Its tokens, as far as the model reads them: what a cache tells queries apart by."""
    return _encode(model.tokenizer, query).ids[: model.card.query_tokens]


def _filled(tokenizer: Tokenizer, texts: Sequence[str], row: int, length: int) -> tuple[str, int]:
    text = texts[row]
    for following in count(row + 1):
        cut, n = _cut(tokenizer, text, length)
        if n == length:
            return cut, n
        text = f"{text} {texts[following % len(texts)]}"
    raise AssertionError


def _cut(tokenizer: Tokenizer, text: str, length: int) -> tuple[str, int]:
    """The text up to the end of its token number ``length``, and how many it has."""
    encoding = _encode(tokenizer, text)
    if len(encoding.ids) <= length:
        return text[:MAX_CHARACTERS], len(encoding.ids)
    return text[: encoding.offsets[length - 1][1]], length


def _encode(tokenizer: Tokenizer, text: str) -> Encoding:
    return tokenizer.encode(text[:MAX_CHARACTERS], add_special_tokens=False)
