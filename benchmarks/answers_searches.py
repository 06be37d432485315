"""How many searches are taken for questions, and how many questions for searches."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator
from pathlib import Path

from engine.answers.classifier import QuestionModel
from engine.demo import SAMPLE

#: Files of queries under the folder of sets, and the columns that hold them.
_TABLES = (
    ("icecat/queries.dev.tsv", (1,)), ("esci/queries.train.tsv", (1,)), ("esci/queries.dev.tsv", (1,)),
    ("homedepot/queries.train.tsv", (1,)), ("homedepot/queries.dev.tsv", (1,)), ("wands_queries/train.tsv", (0,)),
    ("wands_queries/dev.tsv", (0,)), ("bestbuy_clicks/train.tsv", (0,)), ("bestbuy_clicks/dev.tsv", (0,)),
    ("typos/train.tsv", (0, 1)), ("typos/dev.tsv", (0, 1)), ("esci_pairs/unlabelled_queries.tsv", (0,)),
)  # fmt: skip


def false_alarms(model: QuestionModel, data: Path | None) -> dict[str, object]:
    """By set the number of queries, and of those taken for questions; and of epqa's dev questions those missed, as they
    are and without their mark. Without ``data`` of the sample alone.
    """
    queries: dict[str, list[str]] = {"sample": list(_column(SAMPLE.parent / "queries.synthetic.tsv", 1))}
    if data is None:
        return {"searches": _counted(model, queries)}
    for name, columns in _TABLES:
        queries.setdefault(name.split("/")[0], []).extend(q for column in columns for q in _column(data / name, column))
    with gzip.open(data / "esci_pairs" / "train.jsonl.gz", "rt", encoding="utf-8") as lines:
        queries["esci_pairs"].extend(dict.fromkeys(json.loads(line)["query"] for line in lines))
    with (data / "epqa" / "dev.tsv").open(encoding="utf-8", newline="") as lines:
        questions = list(dict.fromkeys(row["question"] for row in csv.DictReader(lines, delimiter="\t")))
    return {
        "searches": _counted(model, queries),
        "questions": len(questions),
        "missed": sum(not model.asks(text) for text in questions),
        "missed_without_mark": sum(not model.asks(text.rstrip("? ")) for text in questions),
    }


def _counted(model: QuestionModel, queries: dict[str, list[str]]) -> dict[str, dict[str, int]]:
    every = {**queries, "all": [query for found in queries.values() for query in found]}
    return {
        name: {"queries": len(found), "taken_for_questions": sum(map(model.asks, found))}
        for name, found in every.items()
    }


def _column(path: Path, column: int) -> Iterator[str]:
    for line in path.read_text(encoding="utf-8").splitlines():
        yield line.split("\t")[column]
