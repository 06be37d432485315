"""Measures suggestions: how soon what a shopper means is among them, and how fast they are::

python benchmarks/suggestions.py --data DATA --set esci --split dev --out results/suggestions.json

Judged queries are typed up to 30, 50 and 70 % of their letters, as they are and with two letters swapped. ``whole`` is
the mean reciprocal rank of the whole query among ten suggestions, ``next`` that of the first one that goes on to the
end of the word that is being typed. The peer has the same phrases with the same weights, and gives those that begin
with what is typed, the most popular first. No query is in any log: phrases are the catalog's alone.
"""

from __future__ import annotations

import shlex
import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

if not __package__:  # run as a file: the repository is what is imported from, not this folder
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
import typer
from rich.console import Console

from benchmarks import options
from benchmarks.data import SAMPLE, load_set
from benchmarks.machine import machine
from benchmarks.report import table
from benchmarks.results import write_result
from benchmarks.significance import bootstrap_interval
from engine.catalog import read_catalog
from engine.suggestions.completer import Completer
from engine.suggestions.phrases import Phrase, PhraseBuilder, key
from engine.suggestions.store import Arranged

Suggest = Callable[[str, int], Sequence[str]]
_K = 10
_SHARES = (0.3, 0.5, 0.7)


class PlainPrefix:
    """The peer: phrases that begin with what is typed, by weight."""

    def __init__(self, phrases: Sequence[Phrase]) -> None:
        """``phrases`` come the likeliest first."""
        ordered = sorted((phrase.text, number) for number, phrase in enumerate(phrases))
        self._texts = [text for text, _ in ordered]
        self._numbers = np.array([number for _, number in ordered], np.int64)
        self._phrases = phrases

    def suggest(self, typed: str, k: int) -> list[str]:
        """The ``k`` likeliest."""
        begin = key(typed) + (" " if typed[-1:].isspace() else "")
        start, end = bisect_left(self._texts, begin), bisect_left(self._texts, begin + "\uffff")
        return [self._phrases[number].text for number in np.sort(self._numbers[start:end])[:k].tolist()]


def typed(query: str, share: float) -> str:
    """The beginning of ``query`` with this share of its letters and digits, at least one."""
    left = max(1, round(share * sum(not c.isspace() for c in query)))
    for place, character in enumerate(query, 1):
        left -= not character.isspace()
        if not left:
            return query[:place]
    return query


def slipped(text: str, rng: np.random.Generator) -> str:
    """``text`` with two neighbouring letters of one word swapped; as it is where no word has four letters."""
    places = [
        at for at in range(1, len(text) - 1) if text[at : at + 2].isalpha() and text[at - 1].isalpha()
        and text[at] != text[at + 1]
    ]  # fmt: skip
    if not places:
        return text
    at = int(rng.choice(places))
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]


def to_come(query: str, beginning: str) -> str:
    """``query`` up to the end of the word that is being typed, or of the next where one has just ended."""
    words, n = query.split(" "), len(beginning.split())
    n += " ".join(words[:n]) == beginning and n < len(words)
    return " ".join(words[:n])


def measure(
    suggest: Suggest, queries: Sequence[str], share: float, seed: int, *, slips: bool = False
) -> dict[str, Any]:
    """Both ranks, their 95 % intervals, and milliseconds that the thread was at work."""
    rng = np.random.default_rng(seed)
    whole, following, times = np.zeros(len(queries)), np.zeros(len(queries)), np.zeros(len(queries))
    for place, query in enumerate(queries):
        beginning = typed(query, share)
        asked = slipped(beginning, rng) if slips else beginning
        started = time.thread_time()
        found = list(suggest(asked, _K))
        times[place] = (time.thread_time() - started) * 1e3
        wanted = to_come(query, beginning)
        goes_on = (rank for rank, text in enumerate(found, 1) if text == wanted or text.startswith(wanted + " "))
        whole[place] = 1 / (found.index(query) + 1) if query in found else 0
        following[place] = 1 / next(goes_on, np.inf)
    return {
        "whole": float(whole.mean()), "whole_interval": bootstrap_interval(whole, seed),
        "next": float(following.mean()), "next_interval": bootstrap_interval(following, seed),
        "ms_p50": float(np.median(times)), "ms_p99": float(np.percentile(times, 99)),
    }  # fmt: skip


def run(phrases: Sequence[Phrase], queries: Sequence[str], seed: int) -> list[dict[str, Any]]:
    """A row for each system, share and way of typing."""
    completer, plain = Completer(Arranged.of(phrases)), PlainPrefix(phrases)
    systems: dict[str, Suggest] = {
        "aisle": lambda text, k: [one.text for one in completer.suggest(text, k)],
        "plain prefix": plain.suggest,
    }
    for suggest in systems.values():
        for query in queries[:50]:
            suggest(typed(query, 0.5), _K)  # what is set up lazily
    return [
        {"system": name, "share": share, "slips": slips, **measure(suggest, queries, share, seed, slips=slips)}
        for slips in (False, True)
        for share in _SHARES
        for name, suggest in systems.items()
    ]


def main(
    set_name: options.Set = SAMPLE,
    split: options.Split = None,
    data: options.Data = None,
    first: Annotated[int | None, typer.Option(min=1, help="Only the first N queries, by id.")] = None,
    out: Annotated[Path, typer.Option(help="The result (JSON).")] = Path("results/suggestions.json"),
    seed: options.Seed = 1,
    as_json: options.Json = False,
) -> None:
    """Measure suggestions of a catalog's phrases by its judged queries."""
    console = Console(stderr=True)
    with options.errors_to(console):
        search_set = load_set(
            set_name, split or ("synthetic" if set_name == SAMPLE else "dev"), data, first=first, relevant=1
        )
        queries = [text for text in map(key, search_set.queries.values()) if text]
        started, builder = time.perf_counter(), PhraseBuilder()
        for product in read_catalog(search_set.corpus):
            builder.add(product)
        phrases = builder.phrases()
        seconds = time.perf_counter() - started
    rows = run(phrases, queries, seed)
    known = {phrase.text for phrase in phrases}
    n_known = sum(query in known for query in queries)
    result = {
        "set": set_name, "split": search_set.split, "n_queries": len(queries), "n_phrases": len(phrases),
        "queries_that_are_phrases": n_known, "build_s": seconds, "rows": rows,
        "command": shlex.join(["python", *sys.argv]), "machine": machine(),
    }  # fmt: skip
    write_result(out, result)
    if as_json:
        print(out.read_text(encoding="utf-8"))
        return
    head = ["system", "typed", "whole", "95 %", "next", "95 %", "ms p50", "p99"]
    cells = [
        [
            row["system"], f"{row['share']:.0%}{', slipped' if row['slips'] else ''}", f"{row['whole']:.3f}",
            "{:.3f}–{:.3f}".format(*row["whole_interval"]), f"{row['next']:.3f}",
            "{:.3f}–{:.3f}".format(*row["next_interval"]), f"{row['ms_p50']:.3f}", f"{row['ms_p99']:.2f}",
        ]
        for row in rows
    ]  # fmt: skip
    share = n_known / len(queries)
    title = f"{set_name} {search_set.split}: {len(queries)} queries, {share:.0%} of them among {len(phrases):,} phrases"
    Console().print(table(title, [head, *cells]))


if __name__ == "__main__":
    typer.run(main)
