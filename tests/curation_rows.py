"""Rows, logs and configurations in miniature for the tests of curation. Nothing in them is anybody's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import BudgetError
from engine.product import Product
from tests.conftest import synthetic_products
from training.curation.logs import LogReader
from training.curation.report import Flow, Tally
from training.curation.rows import Impressions, Origin, Pair, Rows
from training.curation.step import Context
from training.curation.steps import AnyStep
from training.data.sources import Catalogs
from training.teachers import Done
from training.teachers import Pair as Asked

LOG = "log.jsonl"
PRODUCTS = [
    Product(product_id="shoe", title="Red running shoes", brand="Acme", attributes={"color": "red"}),
    Product(product_id="boot", title="Winter boots", brand="Acme", ean=("9876543210",)),
    Product(product_id="case", title="Phone case for Acme phone 12", brand="Acme"),
    Product(product_id="cape", title="Rain cape", brand="Globex"),
]


TEACHER = {"kind": "run", "path": "runs/teacher/best"}  # a setting; tests put one of theirs in its place


class TitleTeacher:
    """Gives the share of the query's words that the title has, and for boots no answer.

    It has money for so many pairs, and gives what it answered again for nothing.
    """

    fingerprint = "titles"

    def __init__(self, left: int = 10**9) -> None:
        self.left = left
        self.known: dict[tuple[str, str], float] = {}

    def label(self, pairs: Sequence[Asked], progress: Done = lambda *_: None) -> np.ndarray:
        for pair in pairs:
            key = pair.query, pair.product.product_id
            if key in self.known:
                continue
            if not self.left:
                raise BudgetError("no money left")
            self.left -= 1
            title = pair.product.title.lower()
            share = np.mean([word in title for word in pair.query.split()])
            self.known[key] = np.nan if "boots" in title else float(share)
        return np.array([self.known[pair.query, pair.product.product_id] for pair in pairs], np.float32)


def write_shop(folder: Path) -> str:
    names = ("product_id", "title", "brand", "category")
    shop = [{name: getattr(product, name) for name in names} for product in synthetic_products()]
    return str(write_lines(folder / "shop.jsonl", shop))


def silent(task: str, done: int, total: int, detail: str = "") -> None:
    """A progress bar that nobody sees."""


def page(query: str, products: Sequence[str], clicked: Sequence[str] = (), **more: object) -> dict[str, Any]:
    return {"query": query, "products": list(products), "clicked": list(clicked), **more}


def write_catalog(path: Path, products: Sequence[Product] = PRODUCTS) -> Path:
    path.write_text("".join(json.dumps({"product_id": p.product_id, "title": p.title}) + "\n" for p in products))
    return path


def write_lines(path: Path, rows: Sequence[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def log_of(pages: Sequence[dict[str, Any]], folder: Path) -> Impressions:
    reader = LogReader()
    known = {product.product_id for product in PRODUCTS}
    reader.read(str(write_lines(folder / LOG, pages)), 0, {}, known, "the catalog", None)
    return reader.impressions()


def rows_of(
    *pairs: tuple[str, str, float], impressions: Impressions | None = None, products: Sequence[Product] = PRODUCTS
) -> Rows:
    """Pairs of lines 1, 2, … of a file, and a log's impressions."""
    numbered = tuple(Pair(*pair, (Origin(0, line),)) for line, pair in enumerate(pairs, 1))
    return Rows((LOG,), impressions or Impressions.none(), numbered, {p.product_id: p for p in products})


def taken(step: AnyStep, rows: Rows) -> tuple[Rows, dict[str, Flow], Tally]:
    """The rows after a step, what it did to each unit, and its tally."""
    tally = Tally("step", rows.files)
    after = step.apply(rows, Context(tally, Catalogs(), 0, silent))
    return after, {flow.unit: flow for flow in tally.report(rows, after).flows}, tally


def labels(rows: Rows) -> list[tuple[str, str, float]]:
    return [(pair.query, pair.product_id, pair.label) for pair in rows.pairs]


def queries(rows: Rows) -> list[str]:
    return [pair.query for pair in rows.pairs]


def renamed(pair: Pair, query: str) -> Pair:
    return replace(pair, query=query)
