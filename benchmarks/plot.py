"""Pictures of results: of quality, every system's figures and what changed query by query; of latency, its growth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.metrics import NDCG, RECALL
from engine.errors import MissingExtraError


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Writes a PNG of quality. Raises MissingExtraError without matplotlib."""
    pyplot = _pyplot()
    names = list(result["systems"])
    figure, panels = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    _metrics(panels[0], result["systems"])
    panels[0].set_title(f"{result['set']} {result['split']}, 95 % intervals")
    if len(names) > 1:
        _differences(panels[1], result["systems"][names[0]], result["systems"][names[-1]])
        panels[1].set_title(f"{NDCG} per query: {names[-1]} − {names[0]}")
    else:
        panels[1].set_axis_off()
    _save(figure, path)


def draw_latency(cells: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Writes a PNG: a panel per number of threads, in it a line per system, p50 against candidates."""
    threads = sorted({cell["threads"] for cell in cells})
    figure, panels = _pyplot().subplots(
        1, len(threads), figsize=(4.5 * len(threads) + 2, 4), layout="constrained", sharey=True, squeeze=False
    )
    for panel, n in zip(panels[0], threads, strict=True):
        of_panel = [cell for cell in cells if cell["threads"] == n]
        for system in dict.fromkeys(cell["system"] for cell in of_panel):
            points = sorted(
                (cell["candidates"], cell["latency_ms"]["p50"]) for cell in of_panel if cell["system"] == system
            )
            panel.plot(*zip(*points, strict=True), marker="o", label=system)
        panel.set(xscale="log", yscale="log", xlabel="candidates", title=f"{n} thread{'s' if n > 1 else ''}")
        candidates = sorted({cell["candidates"] for cell in of_panel})
        panel.set_xticks(candidates, list(map(str, candidates)))
        panel.minorticks_off()
        panel.yaxis.set_major_formatter("{x:g}")
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("p50, ms")
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside right upper")
    _save(figure, path)


def draw_scale(sizes: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Writes a PNG: p50 of each mode, and of each kind of vector index, against the number of products."""
    figure, panels = _pyplot().subplots(1, 2, figsize=(11, 4), layout="constrained")
    for panel, part, title in zip(panels, ("search", "vectors"), ("searches", "vector indexes"), strict=True):
        for name in dict.fromkeys(name for size in sizes for name in size[part]):
            points = [
                (size["products"], size[part][name]["latency"]["cpu_p50"]) for size in sizes if name in size[part]
            ]
            panel.plot(*zip(*points, strict=True), marker="o", label=name)
        panel.set(xscale="log", yscale="log", xlabel="products", ylabel="p50, ms of processor time", title=title)
        panel.yaxis.set_major_formatter("{x:g}")
        panel.grid(alpha=0.3)
        panel.legend()
    _save(figure, path)


def _pyplot() -> Any:
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError as error:
        raise MissingExtraError("bench", "matplotlib") from error
    return pyplot


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    _pyplot().close(figure)


def _metrics(panel: Any, systems: Mapping[str, Any]) -> None:
    for place, metric in enumerate((NDCG, RECALL)):
        means = [system["metrics"][metric] for system in systems.values()]
        bounds = [system["intervals"][metric] for system in systems.values()]
        errors = [
            [max(mean - low, 0) for mean, (low, _) in zip(means, bounds, strict=True)],
            [max(high - mean, 0) for mean, (_, high) in zip(means, bounds, strict=True)],
        ]
        where = [row + (place - 0.5) * 0.38 for row in range(len(means))]
        panel.bar(where, means, 0.36, yerr=errors, capsize=3, label=metric)
    panel.set_xticks(range(len(systems)), list(systems), rotation=20 if len(systems) > 4 else 0)
    panel.set_ylim(0, 1)
    panel.legend()


def _differences(panel: Any, first: Mapping[str, Any], last: Mapping[str, Any]) -> None:
    of_first = first["per_query"]
    values = sorted((of_last[NDCG] - of_first[q][NDCG] for q, of_last in last["per_query"].items()), reverse=True)
    panel.bar(range(len(values)), values, 1.0, color=["tab:green" if value > 0 else "tab:red" for value in values])
    panel.axhline(0, color="black", linewidth=0.8)
    panel.set_xlabel("queries, by difference")


def draw_methods(tasks: Mapping[str, Any], path: Path) -> None:
    """Writes a PNG: a panel per task and training set, each method's quality against the weights it trains.

    Bars are 95 % intervals; a number beside a point is the change on the set that was not trained on.
    """
    panels = [(task, name, found) for task, sets in tasks.items() for name, found in sets.items()]
    figure, axes = _pyplot().subplots(
        1, len(panels), figsize=(4.2 * len(panels), 4), layout="constrained", squeeze=False
    )
    for panel, (task, name, found) in zip(axes[0], panels, strict=True):
        for method, row in found.items():
            low, high = row["interval"]
            error = [[max(row["quality"] - low, 0)], [max(high - row["quality"], 0)]]
            panel.errorbar(row["trained"], row["quality"], yerr=error, marker="o", capsize=2, linewidth=0.8)
            said = f"{method} {row['forgotten']:+.3f}" if "forgotten" in row else method
            panel.annotate(
                said, (row["trained"], row["quality"]), xytext=(4, 4), textcoords="offset points", fontsize=7
            )
        if any("before" in row for row in found.values()):
            panel.axhline(next(row["before"] for row in found.values()), color="tab:gray", linewidth=0.8, linestyle=":")
        panel.set(xscale="log", xlabel="weights trained", title=f"{task}, trained on {name}")
        panel.grid(alpha=0.3)
    axes[0][0].set_ylabel("quality on dev (dotted: before)")
    _save(figure, path)


def draw_families(steps: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Writes a PNG: of each family the mean of the left-out catalogs with its interval, beside the in-sample mean."""
    pyplot = _pyplot()
    figure, panel = pyplot.subplots(figsize=(9, 4), layout="constrained")
    places = range(len(steps))
    means = [step["left_out"] for step in steps]
    bounds = [step["interval"] for step in steps]
    errors = [
        [max(mean - low, 0) for mean, (low, _) in zip(means, bounds, strict=True)],
        [max(high - mean, 0) for mean, (_, high) in zip(means, bounds, strict=True)],
    ]
    panel.errorbar(places, means, yerr=errors, fmt="o", capsize=3, label="left out, 95 % interval")
    panel.plot(places, [step["in_sample"] for step in steps], "x", color="tab:red", label="in sample")
    panel.set_xticks(places, [f"{step['family']}\n{step['verdict']}" for step in steps], rotation=20)
    panel.set_ylabel("objective, mean over catalogs")
    panel.grid(alpha=0.3)
    panel.legend()
    _save(figure, path)
