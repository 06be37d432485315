"""Search sets: where they lie, what their grades mean, and reading them with checks.

A set is a folder ``DATA/SET`` with ``corpus.jsonl.gz`` (or ``corpus.jsonl``), ``queries.SPLIT.tsv`` (``id<TAB>query``)
and ``qrels.SPLIT.txt`` (TREC: ``query_id 0 product_id grade``). The set ``sample`` is the catalog the package ships.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import engine
from engine.catalog import read_catalog
from engine.errors import AisleError

SAMPLE = "sample"
Qrels = dict[str, dict[str, int]]


class DataError(AisleError):
    """A search set is not there, or one of its files is not what it must be."""


@dataclass(frozen=True, slots=True)
class Grading:
    """What a set's grades mean: those from ``relevant`` up count as relevant.

    ``gains`` is nDCG's gain per grade, None for the grade itself; whole numbers, as ir-measures wants them, which loses
    nothing, for nDCG is a ratio. ``recall_from`` names further grades from which recall is reported as well.
    """

    relevant: int
    gains: Mapping[int, int] | None = None
    recall_from: tuple[int, ...] = ()


#: The one place that says how each set is graded. ESCI's publisher gives exact, substitute, complement and irrelevant
#: the gains 1, 0.1, 0.01 and 0 (Reddy et al. 2022, "Shopping Queries Dataset"); they stand here times 100.
GRADINGS = {
    "icecat": Grading(relevant=2),
    "homedepot": Grading(relevant=4),
    "esci": Grading(relevant=2, gains={3: 100, 2: 10, 1: 1, 0: 0}, recall_from=(3,)),
    SAMPLE: Grading(relevant=2),
}


@dataclass(frozen=True, slots=True)
class SearchSet:
    """Queries with judgments, in natural order of their ids, and the catalog they are asked of.

    ``n_not_judged`` queries have no judgments and ``n_not_asked`` judged ids no query; both are left out.
    """

    name: str
    split: str
    corpus: Path
    queries: dict[str, str]
    qrels: Qrels = field(repr=False)
    grading: Grading
    n_not_judged: int = 0
    n_not_asked: int = 0


def load_set(
    name: str, split: str, data: Path | None = None, *, queries: Path | None = None, qrels: Path | None = None,
    first: int | None = None, relevant: int | None = None,
) -> SearchSet:  # fmt: skip
    """Reads a set.

    ``queries`` and ``qrels`` replace the split's own files. ``first`` keeps that many queries, by natural order of
    their ids, before those without judgments are left out. ``relevant`` overrides the lowest relevant grade, and makes
    a set usable that ``GRADINGS`` lacks. Raises DataError.
    """
    folder = _folder(name, data)
    asked = read_queries(queries or folder / f"queries.{split}.tsv")
    judged = read_qrels(qrels or folder / f"qrels.{split}.txt")
    not_asked = len(judged.keys() - asked.keys())
    ids = list(islice(sorted(asked, key=natural_key), first))
    kept = {query_id: asked[query_id] for query_id in ids if query_id in judged}
    if not kept:
        raise DataError(f"set {name!r}, split {split!r}: none of its {len(ids)} queries has judgments")
    return SearchSet(
        name, split, _corpus(folder), kept, {query_id: judged[query_id] for query_id in kept},
        _grading(name, relevant), len(ids) - len(kept), not_asked,
    )  # fmt: skip


def natural_key(text: str) -> list[str | int]:
    """Sorts ``set-10`` before ``set-30`` before ``set-117``."""
    return [int(part) if place % 2 else part for place, part in enumerate(re.split(r"(\d+)", text))]


def read_queries(path: Path) -> dict[str, str]:
    """Query text by id, in file order. Raises DataError on a line of another form or a repeated id."""
    found: dict[str, str] = {}
    for number, line in _lines(path):
        query_id, tab, query = line.partition("\t")
        if not tab or not query_id.strip() or not query.strip():
            raise DataError(f"{path}, line {number}: {line!r} is not query_id<TAB>query")
        if query_id in found:
            raise DataError(f"{path}, line {number}: query id {query_id!r} was already given")
        found[query_id] = query
    return found


def read_qrels(path: Path) -> Qrels:
    """Grade by product by query. Raises DataError on a line of another form or a repeated pair."""
    found: Qrels = {}
    for number, line in _lines(path):
        columns = line.split()
        if len(columns) != 4 or not re.fullmatch(r"-?\d+", columns[3]):
            raise DataError(f"{path}, line {number}: {line!r} is not 'query_id 0 product_id grade'")
        grades = found.setdefault(columns[0], {})
        if columns[2] in grades:
            raise DataError(f"{path}, line {number}: {columns[2]!r} was already judged for {columns[0]!r}")
        grades[columns[2]] = int(columns[3])
    return found


def read_titles(corpus: Path) -> dict[str, str]:
    """Title by product id, in catalog order."""
    return {product.product_id: product.title for product in read_catalog(corpus)}


def _lines(path: Path) -> list[tuple[int, str]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        beside = sorted(p.name for p in path.parent.glob(path.name.split(".")[0] + ".*"))
        there = f"; in its folder are {', '.join(beside)}" if beside else ""
        raise DataError(f"cannot read {path}: {error}{there}") from error
    return [(number, line.rstrip("\r")) for number, line in enumerate(lines, 1) if line.strip()]


def _folder(name: str, data: Path | None) -> Path:
    if name == SAMPLE:
        return Path(engine.__file__).parent / "sample"
    if data is None:
        raise DataError(f"where is the set {name!r}? Give --data DIR or set AISLE_DATA; only {SAMPLE!r} needs neither")
    if not (data / name).is_dir():
        sets = sorted(p.parent.name for p in data.glob("*/corpus.jsonl*"))
        raise DataError(f"{data} has no set {name!r}; it has {', '.join(sets) or 'none'}")
    return data / name


def _corpus(folder: Path) -> Path:
    for name in ("corpus.jsonl.gz", "corpus.jsonl"):
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"{folder} has neither corpus.jsonl.gz nor corpus.jsonl")


def _grading(name: str, relevant: int | None) -> Grading:
    known = GRADINGS.get(name)
    if relevant is None:
        if known is None:
            raise DataError(f"no grading is known for the set {name!r}; say from which grade on with --relevant N")
        return known
    return Grading(relevant, known.gains, known.recall_from) if known else Grading(relevant)
