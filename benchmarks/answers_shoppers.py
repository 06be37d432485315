"""Questions as shoppers word them, written by hand for the sample catalog: ``answers/synthetic_shoppers.tsv``.

No shopper asked them. Those of the splits ``…_dev`` were looked at while the readers were made, those of ``…_held`` and
``shoppers_last`` asked once before their kinds were mended; ``docs/answers.md`` has the figures of both.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from benchmarks.answers_made import MadeQuestion
from engine.answers.fields import value_passages
from engine.product import Product

SHOPPERS = Path(__file__).parent / "answers" / "synthetic_shoppers.tsv"


def shoppers_questions(split: str, products: Sequence[Product]) -> list[MadeQuestion]:
    """The questions of a split, in the file's order; none where it has no such split. Where one names its product, any
    variant of it may say the value.
    """
    by_id = {product.product_id: product for product in products}
    with SHOPPERS.open(encoding="utf-8", newline="") as lines:
        rows = [row for row in csv.DictReader(lines, delimiter="\t") if row.pop("split") == split]
    return [_question(row, by_id[row["product_id"]]) for row in rows]


def _question(row: dict[str, str], product: Product) -> MadeQuestion:
    if row["context"] or not row["attribute"]:
        return MadeQuestion(**row, value="")
    values = value_passages(product, f"attributes.{row['attribute']}")
    return MadeQuestion(**{**row, "product_id": ""}, value=values[0].text if len(values) == 1 else "")
