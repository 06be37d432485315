"""A result for people: a table in the terminal, and a Markdown page with the evidence beside it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.metrics import NDCG, Ranking

_EXAMPLES = 10
_TOP = 3
_TITLE_WIDTH = 100
_PAGE_WIDTH = 160  # characters, where output goes to no terminal
Result = Mapping[str, Any]


def quality(result: Result) -> list[list[str]]:
    """Cells, the head first and then one row per system: what was found."""
    metrics = next(iter(result["systems"].values()))["metrics"]
    return [
        ["system", *metrics],
        *(
            [name, *(f"{value:.4f}" for value in system["metrics"].values())]
            for name, system in result["systems"].items()
        ),
    ]


def cost(result: Result) -> list[list[str]]:
    """Cells, the head first and then one row per system: what it took."""
    out = [["system", "p50 ms", "p95 ms", "p99 ms", "products/s", "index MB", "peak MB"]]
    for name, system in result["systems"].items():
        latency, build = system["latency_ms"], system["build"]
        size = "–" if build["bytes"] is None else f"{build['bytes'] / 1e6:.1f}"
        speed = f"{build['products_per_second']:.0f}"
        ms = (f"{latency[p]:.2f}" for p in ("p50", "p95", "p99"))
        out.append([name, *ms, speed, size, f"{system['peak_memory_mb']:.0f}"])
    return out


def comparisons(result: Result) -> list[list[str]]:
    """Cells, the head first and then one row per comparison; none where there is nothing to compare."""
    if not result["comparisons"]:
        return []
    return [
        ["b − a", "metric", "mean", "95 % interval", "p", "p (Holm)", "+/−/="],
        *(
            [
                f"{c['b']} − {c['a']}", c["metric"], f"{c['difference']:+.4f}",
                f"{c['interval'][0]:+.4f}…{c['interval'][1]:+.4f}", f"{c['p']:.4f}", f"{c['p_holm']:.4f}",
                f"{c['wins']}/{c['losses']}/{c['ties']}",
            ]
            for c in result["comparisons"]
        ),
    ]  # fmt: skip


def tables(result: Result) -> list[Table]:
    """For the terminal: quality, cost, and comparisons where there are any."""
    titled = ((title(result), quality(result)), ("", cost(result)), ("", comparisons(result)))
    return [table(heading, cells) for heading, cells in titled if cells]


def show(result: Result, tables: Sequence[Table], out: Path, more: str = "", *, as_json: bool) -> None:
    """Prints the result, and unless that is as JSON, where its files are: beside ``out``, and ``more``."""
    if as_json:
        print(msgspec.json.encode(result).decode())
        return
    console = Console(width=None if sys.stdout.isatty() else _PAGE_WIDTH)
    for drawn in tables:
        console.print(drawn, "")
    page, picture = out.with_suffix(".md").name, out.with_suffix(".png").name
    console.print(f"written: {out}, {page}, {picture}{more}", highlight=False, soft_wrap=True)


def table(heading: str, cells: Sequence[Sequence[str]]) -> Table:
    """For the terminal: cells, the head first."""
    drawn = Table(title=heading or None, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    whole = ("b − a", "95 % interval", "+/−/=")
    for place, name in enumerate(cells[0]):
        drawn.add_column(name, justify="right" if place else "left", no_wrap=name in whole)
    for line in cells[1:]:
        drawn.add_row(*line)
    return drawn


def title(result: Result) -> str:
    """The set, the split and how much was asked, in a line."""
    pool = ", judged products only" if result.get("pool") else ""
    return f"{result['set']} {result['split']}: {result['n_queries']} queries, k={result.get('k')}{pool}"


def markdown(
    result: Result, queries: Mapping[str, str], rankings: Mapping[str, Mapping[str, Ranking]],
    titles: Mapping[str, str], plot: str,
) -> str:  # fmt: skip
    """The whole page. ``rankings`` is system to query to ranking; ``plot`` is the picture's file name."""
    parts = [
        f"# {title(result)}", "", f"`{result['command']}`", "",
        *markdown_table(quality(result)), "", _intervals(result), "", *markdown_table(cost(result)), "",
        f"![figures]({plot})", "",
        *_significance(result), *_conditions(result), *_examples(result, queries, rankings, titles),
    ]  # fmt: skip
    return "\n".join(parts) + "\n"


def markdown_table(cells: Sequence[Sequence[str]]) -> list[str]:
    """Markdown, a line each: cells, the head first."""
    lines = [cells[0], ["---"] * len(cells[0]), *cells[1:]]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def _intervals(result: Result) -> str:
    shown = [
        f"{name} {system['intervals'][NDCG][0]:.4f} … {system['intervals'][NDCG][1]:.4f}"
        for name, system in result["systems"].items()
    ]
    return f"95 % bootstrap intervals of {NDCG}: {'; '.join(shown)}."


def _significance(result: Result) -> list[str]:
    if not result["comparisons"]:
        return []
    return [
        "## Significance", "",
        "Two-sided paired permutation tests, 10,000 permutations; Holm's correction over the pairs of a metric; "
        "means of b − a over queries with 95 % bootstrap intervals; +/−/= counts queries where b is better, worse, "
        "the same.", "",
        *markdown_table(comparisons(result)), "",
    ]  # fmt: skip


def _conditions(result: Result) -> list[str]:
    lines = [
        "## Conditions", "",
        f"- {result['n_judgments']} judgments, relevant from grade {result['relevant_from']}, "
        f"gains {result['gains'] or 'as the grades'}; averages hold every judged query, one without results as 0.",
        f"- Left out: {result['n_queries_not_judged']} queries without judgments, {result['n_judged_not_asked']} "
        f"judged ids without a query. {result['n_judged_not_in_catalog']} judged products are not in the catalog.",
        "- Latency: whole calls, one at a time, each text timed when first met, after a warm-up with other texts.",
        "- Memory: the most the process had held when the system was done; systems run in the order of the table.",
        *where(result),
    ]  # fmt: skip
    for name, system in result["systems"].items():
        stages = ", ".join(f"{stage} {ms:.2f}" for stage, ms in system["stages_ms"].items())
        build = system["build"]
        state = "kept from an earlier run" if build["reused"] else "built now"
        lines.append(
            f"- {name}: index {state} in {build['seconds']:.1f} s; {system['n_empty']} queries without results, "
            f"{len(system['degraded'])} degraded stages{f'; median ms: {stages}' if stages else ''}."
        )
    return [*lines, ""]


def where(result: Result) -> list[str]:
    """Markdown, a line each: the machine and the packages on it."""
    machine = result["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    return [
        f"- {machine['cpu']}, {machine['cores']} cores, {machine['memory_mb']} MB, Python {machine['python']}, "
        f"commit {machine['commit'] or 'unknown'}. Load when the run began: {machine['load']:.1f}; above "
        f"{machine['cores'] - 1} other work shared the cores, and latencies are too high.",
        f"- {packages}.",
    ]


def _examples(
    result: Result, queries: Mapping[str, str], rankings: Mapping[str, Mapping[str, Ranking]], titles: Mapping[str, str]
) -> list[str]:
    names = list(rankings)
    if len(names) < 2:
        return []
    first, last = names[0], names[-1]
    of_first, of_last = (result["systems"][name]["per_query"] for name in (first, last))
    gains = {query_id: of_last[query_id][NDCG] - of_first[query_id][NDCG] for query_id in queries}
    widest = sorted((q for q in gains if gains[q]), key=lambda q: -abs(gains[q]))[:_EXAMPLES]
    lines = [f"## Largest differences in {NDCG} from {first} to {last}", ""]
    for query_id in sorted(widest, key=lambda q: -gains[q]):
        lines += [f"### {queries[query_id]} ({query_id}): {gains[query_id]:+.3f}", ""]
        for name in (first, last):
            top = [shorten(titles.get(i, i), _TITLE_WIDTH, placeholder="…") for i, _ in rankings[name][query_id][:_TOP]]
            lines.append(f"- {name}: {'; '.join(f'{rank}. {text}' for rank, text in enumerate(top, 1)) or 'nothing'}")
        lines.append("")
    return lines
