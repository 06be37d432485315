"""A latency profile for people: tables in the terminal, and a Markdown page with all of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from benchmarks.report import markdown_table, table, where

Result = Mapping[str, Any]
Cells = list[list[str]]
_LISTS = "Rerankers of lists, on one thread"


def compared(result: Result) -> list[Any]:
    """The figures at the length at which the peers were measured as well."""
    return [cell for cell in result["cells"] if cell["length"] == result["peers_at"]]


def tables(result: Result) -> list[Table]:
    """For the terminal: what is compared, the machine's peak, and deadlines where they were measured."""
    titled = (
        (title(result), _systems(compared(result))),
        ("The machine's matrix products, GOP/s", _peaks(result)),
        (_deadline_title(result), _deadlines(result)),
        (_LISTS, _lists(result)),
    )
    return [table(heading, cells) for heading, cells in titled if len(cells) > 1]


def title(result: Result) -> str:
    return f"Reranking {result['set']} with {result['reranker']['name']}, products of length {result['peers_at']}"


def markdown(result: Result, plot: str) -> str:
    """The whole page; ``plot`` is the picture's file name."""
    others = [cell for cell in result["cells"] if cell["length"] != result["peers_at"]]
    sections = (
        ("Other lengths", _lengths(others)),
        ("Where the time goes, on one thread", _splits(result)),
        ("The machine's matrix products, GOP/s", _peaks(result)),
        (_deadline_title(result), _deadlines(result)),
        (_LISTS, _lists(result)),
    )
    parts = [
        f"# {title(result)}", "", f"`{result['command']}`", "", *markdown_table(_systems(compared(result))), "",
        "× CrossEncoder fp32 is the geometric mean of the rounds' ratios, with its 95 % bootstrap interval.", "",
        f"![p50 against candidates]({plot})", "",
    ]  # fmt: skip
    for heading, cells in sections:
        if len(cells) > 1:
            parts += [f"## {heading}", "", *markdown_table(cells), ""]
    return "\n".join([*parts, *_conditions(result)]) + "\n"


def _systems(cells: Sequence[Result]) -> Cells:
    head = ["system", "threads", "candidates", "rounds", "p50 ms", "p95 ms", "p99 ms", "pairs/s", "of peak"]
    return [
        [*head, "× CrossEncoder fp32"],
        *(
            [
                cell["system"], str(cell["threads"]), str(cell["candidates"]), str(cell["rounds"]), *_ms(cell),
                f"{cell['speedup']:.2f} ({cell['interval'][0]:.2f} … {cell['interval'][1]:.2f})",
            ]
            for cell in cells
        ),
    ]  # fmt: skip


def _lists(result: Result) -> Cells:
    head = ["system", "candidates", "rounds", "p50 ms", "95 % interval", "× cross-encoder", "of it computing, ms"]
    cells = result.get("lists", [])
    base = {cell["candidates"]: cell["ms_p50"] for cell in cells if cell["system"] == "cross-encoder"}
    return [
        head,
        *(
            [
                cell["system"], str(cell["candidates"]), str(cell["rounds"]), f"{cell['ms_p50']:.1f}",
                f"{cell['interval'][0]:.1f} … {cell['interval'][1]:.1f}",
                f"{cell['ms_p50'] / base[cell['candidates']]:.2f}", f"{cell['cpu_ms_p50']:.1f}",
            ]
            for cell in cells
        ),
    ]  # fmt: skip


def _lengths(cells: Sequence[Result]) -> Cells:
    return [
        ["system", "tokens", "threads", "candidates", "rounds", "p50 ms", "p95 ms", "p99 ms", "pairs/s", "of peak"],
        *(
            [
                cell["system"], cell["length"], str(cell["threads"]), str(cell["candidates"]), str(cell["rounds"]),
                *_ms(cell),
            ]
            for cell in cells
        ),
    ]  # fmt: skip


def _splits(result: Result) -> Cells:
    return [
        ["system", "tokens", "candidates", "tokenise ms", "copy ms", "infer ms"],
        *(
            [row["system"], row["length"], str(row["candidates"]), *(f"{ms:.2f}" for ms in row["split_ms"].values())]
            for row in result["splits"]
        ),
    ]


def _ms(cell: Result) -> list[str]:
    """p50, p95, p99, pairs a second and the share of the peak."""
    latency = (f"{ms:.1f}" for ms in cell["latency_ms"].values())
    return [*latency, f"{cell['pairs_per_second']:.0f}", f"{cell['share_of_peak']:.0%}"]


def _peaks(result: Result) -> Cells:
    kinds = list(next(iter(result["peaks"].values())))
    rows = ([threads, *(f"{of[kind]:.0f}" for kind in kinds)] for threads, of in result["peaks"].items())
    return [["threads", *kinds], *rows]


def _deadline_title(result: Result) -> str:
    threads = result["deadlines"][0]["threads"] if result["deadlines"] else 0
    return f"Deadlines, {threads} threads searching at once"


def _deadlines(result: Result) -> Cells:
    return [
        ["deadline ms", "searches", "late p50 ms", "late p99 ms", "late max ms", "within 10 ms", "scored"],
        *(
            [
                f"{row['deadline_ms']:g}", str(row["searches"]), *(f"{ms:+.1f}" for ms in row["late_ms"].values()),
                f"{row['kept_within_10_ms']:.1%}", f"{row['scored']:.0%}",
            ]
            for row in result["deadlines"]
        ),
    ]  # fmt: skip


def _conditions(result: Result) -> list[str]:
    work = "; ".join(f"{name} {millions:.0f}" for name, millions in result["multiply_adds_millions"].items())
    tokens = ", ".join(f"{length} {mean:.1f}" for length, mean in result["mean_tokens"].items())
    return [
        "## Conditions", "",
        f"- Peers' model: {result['peer_model']}. The reranker is {result['reranker']['directory']}.",
        f"- Millions of multiply-adds of a pair of {result['pair_tokens']} tokens: {work}. Only matrix products count, "
        "of a pair's own tokens: what a system computes for padding lowers its share of the peak.",
        f"- Products: {result['n_products']} texts, mean tokens by length: {tokens}. Queries: {result['n_queries']}, "
        "each asked once of every system and combination, so that no cache answers.",
        "- Systems take turns, one call each, begun by another one every round, after one call to warm up.",
        *where(result), "",
    ]  # fmt: skip
