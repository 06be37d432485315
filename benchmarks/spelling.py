"""Measures spelling correction on pairs of misspelt queries and their corrections::

python benchmarks/spelling.py --data DATA --split dev --out results/spelling.json

``corrected`` is the share of queries that become their correction, ``left_alone`` the share of corrections that stay as
they are; both compare in lower case, with spaces squeezed. Words come from the catalog alone.
"""

from __future__ import annotations

import re
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

if not __package__:  # run as a file: the repository is what is imported from, not this folder
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
import typer
from rich.console import Console

from benchmarks import options
from benchmarks.data import DataError
from benchmarks.machine import machine
from benchmarks.report import table
from benchmarks.results import write_result
from benchmarks.significance import bootstrap_interval
from engine.catalog import read_catalog
from engine.errors import MissingExtraError
from engine.product import Product
from engine.understanding.language import LanguageModel
from engine.understanding.spelling import SpellingModel

Correct = Callable[[str], str]
Pairs = list[tuple[str, str]]
_WORD = re.compile(r"[^\W\d_]+")

_Set = Annotated[str, typer.Option("--set", help="The folder of --data with the pairs, SPLIT.tsv.")]
_Split = Annotated[str, typer.Option(help="Which pairs: train or dev.")]
_Test = Annotated[Path | None, typer.Option("--test", help="Pairs (query<TAB>correction) in place of the split's own.")]
_Corpus = Annotated[str, typer.Option(help="The set of --data whose catalog gives the words.")]
_Baselines = Annotated[bool, typer.Option(help="Measure symspellpy on the same words, and doing nothing.")]
_Out = Annotated[Path, typer.Option(help="The result (JSON).")]


def read_pairs(path: Path) -> Pairs:
    """(query, correction) of a file with a header line. Raises DataError on a line of another form."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the pairs {path}: {error}") from error
    pairs = []
    for number, line in enumerate(lines, 1):
        query, tab, correction = line.partition("\t")
        if not tab or not query.strip() or not correction.strip() or "\t" in correction:
            raise DataError(f"{path}, line {number}: {line!r} is not query<TAB>correction")
        pairs.append((query, correction))
    pairs = pairs[1:] if pairs and pairs[0] == ("query", "correction") else pairs
    if not pairs:
        raise DataError(f"{path} has no pairs")
    return pairs


def measure(correct: Correct, pairs: Pairs, seed: int) -> dict[str, Any]:
    """Quality with 95% bootstrap intervals, and milliseconds a query, each asked for the first time."""
    fixed, times = _run(correct, [query for query, _ in pairs])
    kept, times_kept = _run(correct, [correction for _, correction in pairs])
    wanted = [_squeezed(correction) for _, correction in pairs]
    corrected = np.array([_squeezed(a) == b for a, b in zip(fixed, wanted, strict=True)], np.float64)
    left_alone = np.array([_squeezed(a) == b for a, b in zip(kept, wanted, strict=True)], np.float64)
    return {
        "corrected": float(corrected.mean()),
        "left_alone": float(left_alone.mean()),
        "corrected_interval": bootstrap_interval(corrected, seed),
        "left_alone_interval": bootstrap_interval(left_alone, seed),
        "ms_p50": float(np.percentile(times, 50)),
        "ms_p99": float(np.percentile(times, 99)),
        "ms_p50_correct_queries": float(np.percentile(times_kept, 50)),
    }


def _run(correct: Correct, queries: Sequence[str]) -> tuple[list[str], list[float]]:
    found, times = [], []
    for query in queries:
        started = time.perf_counter()
        found.append(correct(query))
        times.append((time.perf_counter() - started) * 1e3)
    return found, times


def _squeezed(text: str) -> str:
    return " ".join(text.lower().split())


def _speed(model: SpellingModel, language: LanguageModel, pairs: Pairs) -> dict[str, float]:
    """Milliseconds by what is in a query: all words known, or one word unknown. Nothing is cached yet."""
    groups: dict[int, list[str]] = {0: [], 1: []}
    for query, correction in pairs:
        for text in (query, correction):
            unknown = sum(word not in language for word in _WORD.findall(text.lower()))
            groups.setdefault(unknown, []).append(text)
    plausible = [text for text in groups[0] if model.is_plausible(text)]
    return {
        "ms_p50_plausible": _median(model, plausible),
        "ms_p50_one_unknown": _median(model, groups[1]),
        "n_plausible": len(plausible),
        "n_one_unknown": len(groups[1]),
    }


def _median(model: SpellingModel, queries: Sequence[str]) -> float:
    return float(np.percentile(_run(lambda query: model.correct(query).text, queries)[1], 50)) if queries else 0.0


def _symspell(language: LanguageModel) -> dict[str, Correct]:
    """symspellpy over the same words: each word alone, and with its own splitting and joining."""
    try:
        from symspellpy import SymSpell, Verbosity
    except ImportError as error:
        raise MissingExtraError("bench", "symspellpy") from error
    speller = SymSpell(max_dictionary_edit_distance=2)
    for word in language.words:
        if language.frequency(word):
            speller.create_dictionary_entry(word, language.frequency(word))

    def one(match: re.Match[str]) -> str:
        return str(speller.lookup(match[0], Verbosity.TOP, 2, include_unknown=True)[0].term)

    def words(query: str) -> str:
        return _WORD.sub(one, query.lower())

    def compound(query: str) -> str:
        return str(speller.lookup_compound(query.lower(), 2, ignore_non_words=True)[0].term)

    return {"symspellpy_words": words, "symspellpy_compound": compound}


def _build(products: list[Product]) -> tuple[LanguageModel, dict[str, float]]:
    """The catalog's words, and what building, keeping and loading them costs."""
    started = time.perf_counter()
    language = LanguageModel.count(products)
    seconds = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spelling.npz"
        language.save(path)
        started = time.perf_counter()
        SpellingModel.load(path)
        loading = time.perf_counter() - started
        size = path.stat().st_size
    return language, {
        "n_products": len(products),
        "products_per_second": len(products) / seconds,
        "file_mb": size / 1e6,
        "load_ms": loading * 1e3,
    }


def run(pairs: Pairs, corpus: Path, seed: int, *, baselines: bool = True) -> dict[str, Any]:
    """``metrics`` of Aisle, ``baselines`` by name, and ``missing``, which says what was not measured and why."""
    language, build = _build(list(read_catalog(corpus)))
    model = SpellingModel(language)
    metrics = measure(lambda query: model.correct(query).text, pairs, seed)
    metrics |= _speed(SpellingModel(language), language, pairs)
    others: dict[str, Correct] = {"nothing": lambda query: query}
    missing = ""
    if baselines:
        try:
            others |= _symspell(language)
        except MissingExtraError as error:
            missing = str(error)
    measured = {name: measure(correct, pairs, seed) for name, correct in others.items()} if baselines else {}
    return {"metrics": metrics, "baselines": measured, "build": build, "missing": missing}


def _corpus_path(data: Path, name: str) -> Path:
    path = data / name / "corpus.jsonl.gz"
    if not path.is_file():
        raise DataError(f"there is no {path}; name a set that has a catalog with --corpus")
    return path


def main(
    set_name: _Set = "typos",
    split: _Split = "dev",
    test: _Test = None,
    data: options.Data = None,
    corpus: _Corpus = "homedepot",
    baselines: _Baselines = True,
    out: _Out = Path("results/spelling.json"),
    seed: options.Seed = 1,
    as_json: options.Json = False,
) -> None:
    """Measure spelling correction: how many misspelt queries are put right, how many right ones stay, how fast."""
    console = Console(stderr=True)
    with options.errors_to(console):
        if data is None:
            raise DataError("where is the data? Give --data DIR or set AISLE_DATA")
        pairs = read_pairs(test or data / set_name / f"{split}.tsv")
        result: dict[str, Any] = {
            "set": set_name,
            "split": str(test) if test else split,
            "n_pairs": len(pairs),
            **run(pairs, _corpus_path(data, corpus), seed, baselines=baselines),
            "command": shlex.join(["python", *sys.argv]),
            "machine": machine(),
        }
    write_result(out, result)
    _show(result, out, as_json=as_json)


def _show(result: dict[str, Any], out: Path, *, as_json: bool) -> None:
    if as_json:
        print(out.read_text(encoding="utf-8"))
        return
    rows = {"aisle": result["metrics"], **result["baselines"]}
    columns = ("corrected", "left_alone", "ms_p50", "ms_p99")
    cells = [["system", *columns], *([name, *(f"{row[c]:.3f}" for c in columns)] for name, row in rows.items())]
    console = Console()
    console.print(table(f"{result['set']} {result['split']}, {result['n_pairs']} pairs", cells))
    if result["missing"]:
        console.print(result["missing"], highlight=False)
    console.print(f"written: {out}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
