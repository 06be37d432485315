"""A picture of a result: every system's figures with their intervals, and what changed query by query."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.metrics import NDCG, RECALL
from engine.errors import MissingExtraError


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Writes a PNG. Raises MissingExtraError without matplotlib."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError as error:
        raise MissingExtraError("bench", "matplotlib") from error
    names = list(result["systems"])
    figure, panels = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    _metrics(panels[0], result["systems"])
    panels[0].set_title(f"{result['set']} {result['split']}, 95 % intervals")
    if len(names) > 1:
        _differences(panels[1], result["systems"][names[0]], result["systems"][names[-1]])
        panels[1].set_title(f"{NDCG} per query: {names[-1]} − {names[0]}")
    else:
        panels[1].set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


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
