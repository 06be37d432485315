"""What a selection found, as plain values and as a Markdown page: left-out figures beside in-sample ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.catalogs import Figures, objective
from benchmarks.families import settings_of
from benchmarks.machine import machine
from benchmarks.metrics import JUDGED_ONLY, NDCG, RECALL
from benchmarks.nested import PerCatalog, Step, chosen, interval, mean, paired
from benchmarks.replay import Settings
from benchmarks.report import where
from benchmarks.significance import bootstrap_interval, permutation_p

#: The systems compared: stock parts, the configuration as given, and what was chosen.
STOCK, CONFIGURED, LEFT_OUT, IN_SAMPLE = "stock-rrf", "configured", "chosen, left out", "chosen, in sample"


@dataclass(frozen=True)
class Outcome:
    """``sparse`` says of which catalogs judgments are sparse. ``systems`` have figures by catalog; ``stages`` have, by
    catalog, nDCG@10 of the judged products alone in the order of each stage. ``base`` is the configuration as given.
    """

    steps: list[Step]
    sparse: dict[str, bool]
    systems: dict[str, dict[str, Figures]]
    stages: dict[str, Figures]
    base: Settings
    seed: int

    @property
    def catalogs(self) -> list[str]:
        return list(self.sparse)

    def objectives(self, system: str) -> PerCatalog:
        return {name: objective(self.systems[system][name], sparse) for name, sparse in self.sparse.items()}

    def plain(self) -> list[dict[str, Any]]:
        """A step each, as JSON has it."""
        return [
            {
                "family": step.family.name,
                "with": [family.name for family in step.fit.families[:-1]],
                "verdict": step.verdict,
                "left_out": mean(step.fit.left_out),
                "interval": interval(step.fit.left_out, self.seed),
                "in_sample": mean(step.fit.in_sample),
                "difference": step.difference,
                "standard_error": step.error,
                "left_out_by_catalog": {name: float(v.mean()) for name, v in step.fit.left_out.items()},
                "in_sample_by_catalog": {name: float(v.mean()) for name, v in step.fit.in_sample.items()},
                "values": step.fit.values,
                "values_by_left_out": step.fit.of_fold,
            }
            for step in self.steps
        ]


def summary(step: Step) -> str:
    """A line for people who wait."""
    return (
        f"{step.family.name}: {mean(step.fit.left_out):.4f} left out, {mean(step.fit.in_sample):.4f} in sample; "
        f"{step.difference:+.4f} ± {step.error:.4f}, {step.verdict}"
    )


def page(outcome: Outcome, command: str, picture: str) -> str:
    """Markdown."""
    n = {name: len(next(iter(figures.values()))) for name, figures in outcome.systems[CONFIGURED].items()}
    sets = ", ".join(f"{name} {n[name]}{' (sparse)' if outcome.sparse[name] else ''}" for name in outcome.catalogs)
    lines = [
        "# Search settings, chosen with a catalog left out", "", f"![families]({picture})", "",
        "The objective is nDCG@10 + 0.5 · R@100; on sparsely judged catalogs nDCG@10 of the judged products alone",
        "counts half of the first part. A family is kept where its left-out mean beats the best simpler one's by more",
        f"than the standard error of the difference. Queries: {sets}.", "",
        *_table(_families(outcome)), *_table(_numbers(outcome)), *_table(_compared(outcome)), *_versus(outcome),
        "nDCG@10 of the judged products alone, in the order of each stage of the configuration by itself, and in the",
        "final one, with 95 % intervals:", "",
        *_table(_stages(outcome)), f"- `{command}`", *where({"machine": machine()}), "",
    ]  # fmt: skip
    return "\n".join(lines)


def _table(cells: Sequence[Sequence[str]]) -> list[str]:
    head, *rows = cells
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)] + [""]


def _families(outcome: Outcome) -> list[list[str]]:
    cells = [["family", "left out", "in sample", "against simpler", "", *outcome.catalogs]]
    for step in outcome.steps:
        fit = step.fit
        low, high = interval(fit.left_out, outcome.seed)
        both = (f"{fit.left_out[name].mean():.4f} ({fit.in_sample[name].mean():.4f})" for name in outcome.catalogs)
        against = f"{step.difference:+.4f} ± {step.error:.4f}" if step is not outcome.steps[0] else ""
        cells.append(
            [
                step.family.name, f"{mean(fit.left_out):.4f} [{low:.4f}, {high:.4f}]", f"{mean(fit.in_sample):.4f}",
                against, step.verdict, *both,
            ]
        )  # fmt: skip
    return cells


def _numbers(outcome: Outcome) -> list[list[str]]:
    """The settings of the families kept: as configured, as chosen, and as chosen without each catalog."""
    best, base = chosen(outcome.steps), outcome.base
    names = [name for family in best.families for name in family.ranges]
    columns = [base, settings_of(best.values, base), *(settings_of(best.of_fold[c], base) for c in outcome.catalogs)]
    head = ["setting", "configured", "chosen", *(f"without {name}" for name in outcome.catalogs)]
    return [head, *([name, *(f"{_value(column, name):g}" for column in columns)] for name in names)]


def _value(settings: Settings, name: str) -> float:
    table, dot, key = name.partition(".")
    if not dot:
        return float(getattr(settings.search, name))
    if table == "field_weights":  # only ratios matter, so the title's is the unit
        return settings.search.field_weights[key] / settings.search.field_weights["title"]
    return float(getattr(getattr(settings, table), key))


def _compared(outcome: Outcome) -> list[list[str]]:
    """Each system's figures, and the differences from stock parts with p-values of a paired randomisation test."""
    cells = [["catalog", "metric", *outcome.systems, f"{CONFIGURED} − {STOCK}", f"{LEFT_OUT} − {STOCK}"]]
    for name in outcome.catalogs:
        for metric in (NDCG, JUDGED_ONLY, RECALL):
            found = {system: figures[name][metric] for system, figures in outcome.systems.items()}
            differences = (found[system] - found[STOCK] for system in (CONFIGURED, LEFT_OUT))
            cells.append(
                [
                    name, metric, *(f"{values.mean():.4f}" for values in found.values()),
                    *(f"{d.mean():+.4f}, p {permutation_p(d, outcome.seed):.4f}" for d in differences),
                ]
            )  # fmt: skip
    return cells


def _versus(outcome: Outcome) -> list[str]:
    """The chosen numbers against the configuration's, which may have been chosen on these very queries."""
    configured = outcome.objectives(CONFIGURED)
    lines = []
    for system in (LEFT_OUT, IN_SAMPLE):
        difference, error = paired(configured, outcome.objectives(system))
        lines.append(f"Objective, {system} − {CONFIGURED}: {difference:+.4f} ± {error:.4f} (standard error).")
    return [*lines, ""]


def _stages(outcome: Outcome) -> list[list[str]]:
    stages = list(dict.fromkeys(stage for figures in outcome.stages.values() for stage in figures))
    cells = [["catalog", *stages]]
    for name, figures in outcome.stages.items():
        row = [name]
        for stage in stages:
            values = figures.get(stage, np.zeros(0))
            if not len(values):
                row.append("")
                continue
            low, high = bootstrap_interval(values, outcome.seed)
            row.append(f"{values.mean():.3f} [{low:.3f}, {high:.3f}]")
        cells.append(row)
    return cells
