"""What curation did, counted: per step and unit the rows that came in and went out, and by which rule one was lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from training.curation.rows import Impressions, Mask, Origin, Pair, Rows
from training.teachers.sampling import CHECKS, SamplingReport

Unit = Literal["impressions", "pairs", "products"]

_EXAMPLES = 5  # lines named per rule


class Affected(msgspec.Struct):
    """How many rows a rule affected, and where the first are: ``file:line``, or a product's id. Never what they say."""

    count: int = 0
    examples: list[str] = []


class Flow(msgspec.Struct, kw_only=True):
    """One unit through one step: rows_in + added − merged − dropped = rows_out.

    ``merged`` rows live on in others, ``changed`` ones stay and are counted in ``rows_out``.
    """

    unit: Unit
    rows_in: int
    rows_out: int
    added: int = 0
    dropped: dict[str, Affected] = {}
    merged: dict[str, Affected] = {}
    changed: dict[str, Affected] = {}

    @property
    def n_dropped(self) -> int:
        return sum(rule.count for rule in self.dropped.values())

    @property
    def n_merged(self) -> int:
        return sum(rule.count for rule in self.merged.values())

    @property
    def is_balanced(self) -> bool:
        return self.rows_in + self.added - self.n_merged - self.n_dropped == self.rows_out


class StepReport(msgspec.Struct):
    """What one step did; ``notes`` are for people. ``made`` counts the queries that it made, by kind and check."""

    step: str
    flows: list[Flow]
    notes: list[str]
    made: SamplingReport | None = None


class Propensities(msgspec.Struct, frozen=True):
    """How probable it is that a position is looked at, relative to the first, and what that was estimated from.

    ``examination[i]`` is of position i + 1, and the last of all deeper ones too; ``moved`` is the share of impressions
    that are of a query and product shown at more than one position, without which nothing can be told.
    """

    method: str
    examination: list[float]
    impressions: list[int]
    clicks: list[float]
    moved: float


class Report(msgspec.Struct, kw_only=True):
    """``report.json``. ``labels`` counts the pairs by label, in tenths: the last has those from 0.9 to 1."""

    name: str
    steps: list[StepReport]
    propensities: Propensities | None
    queries: int
    pairs: int
    products: int
    labels: list[int]

    def table(self) -> list[str]:
        """Lines for a terminal: a row for each step and unit."""
        head = f"{'step':<20} {'of':<12} {'in':>10} {'added':>10} {'merged':>10} {'dropped':>10} {'out':>10}"
        rows = (
            f"{step.step:<20} {flow.unit:<12} {flow.rows_in:>10,} {flow.added:>10,} {flow.n_merged:>10,} "
            f"{flow.n_dropped:>10,} {flow.rows_out:>10,}"
            for step in self.steps
            for flow in step.flows
        )
        return [head, *rows]


class Tally:
    """Counts what a step does to rows. One is made for each step."""

    def __init__(self, step: str, files: Sequence[str]) -> None:
        self._step, self._files = step, files
        self._rules: dict[tuple[Unit, str], dict[str, Affected]] = {}
        self._added: dict[Unit, int] = {}
        self._notes: list[str] = []
        self.propensities: Propensities | None = None
        self.made: SamplingReport | None = None

    def drop(self, unit: Unit, rule: str, count: int, examples: Iterable[Origin | str]) -> None:
        """``count`` rows are gone; ``examples`` are the first of them."""
        self._count(unit, "dropped", rule, count, examples)

    def merge(self, unit: Unit, rule: str, count: int, examples: Iterable[Origin | str]) -> None:
        """``count`` rows are gone and live on in others."""
        self._count(unit, "merged", rule, count, examples)

    def change(self, unit: Unit, rule: str, count: int, examples: Iterable[Origin | str]) -> None:
        """``count`` rows stay, and are not what they were."""
        self._count(unit, "changed", rule, count, examples)

    def add(self, unit: Unit, count: int) -> None:
        self._added[unit] = self._added.get(unit, 0) + count

    def note(self, text: str) -> None:
        self._notes.append(text)

    def without(self, impressions: Impressions, bad: Mask, rule: str) -> Impressions:
        """The impressions that are not ``bad``; those that are count as dropped by ``rule``."""
        self.drop("impressions", rule, int(bad.sum()), impressions.origins(bad))
        return impressions.keep(~bad) if bad.any() else impressions

    def drop_pairs(self, pairs: Sequence[Pair], rule: str) -> None:
        self.drop("pairs", rule, len(pairs), (pair.place for pair in pairs))

    def report(self, before: Rows, after: Rows) -> StepReport:
        """Raises RuntimeError where rows came or went uncounted: a mistake in the step."""
        flows = []
        sizes: list[tuple[Unit, int, int]] = [
            ("impressions", len(before.impressions), len(after.impressions)),
            ("pairs", len(before.pairs), len(after.pairs)),
            ("products", len(before.products), len(after.products)),
        ]
        for unit, n_in, n_out in sizes:
            kinds = {kind: self._rules.get((unit, kind), {}) for kind in ("dropped", "merged", "changed")}
            flow = Flow(unit=unit, rows_in=n_in, rows_out=n_out, added=self._added.get(unit, 0), **kinds)
            if not flow.is_balanced:
                raise RuntimeError(f"step {self._step!r} counts its {unit} wrongly: {flow}")
            if n_in != n_out or (n_in and unit != "products"):
                flows.append(flow)
        return StepReport(self._step, flows, self._notes, self.made)

    def _count(self, unit: Unit, kind: str, rule: str, count: int, examples: Iterable[Origin | str]) -> None:
        if not count:
            return
        affected = self._rules.setdefault((unit, kind), {}).setdefault(rule, Affected(0, []))
        affected.count += count
        for origin in examples:
            if len(affected.examples) == _EXAMPLES:
                break
            place = origin if isinstance(origin, str) else f"{self._files[origin.file]}:{origin.line}"
            if place not in affected.examples:
                affected.examples.append(place)


def markdown(report: Report, inputs: Mapping[str, str]) -> str:
    """``report.md``; ``inputs`` has the SHA-256 of each input file."""
    lines = [
        f"# Curated: {report.name}", "",
        f"{report.pairs:,} pairs of {report.queries:,} queries; {report.products:,} products.", "",
        "| label | pairs |", "|---|---|",
        *(f"| {place / 10:.1f}–{(place + 1) / 10:.1f} | {count:,} |" for place, count in enumerate(report.labels)), "",
        "## Steps", "",
        "rows in + added − merged − dropped = rows out. Rows are named by file and line, and not shown.", "",
    ]  # fmt: skip
    for number, step in enumerate(report.steps):
        lines += _step(number, step)
    if report.propensities:
        lines += _propensities(report.propensities)
    lines += ["## Inputs", "", *(f"- `{path}`, SHA-256 {digest}" for path, digest in inputs.items())]
    return "\n".join(lines) + "\n"


def _step(number: int, step: StepReport) -> list[str]:
    lines = [f"### {number}. {step.step}", ""]
    lines += ["| | in | added | merged | dropped | out |", "|---|---|---|---|---|---|"]
    for flow in step.flows:
        cells = (flow.rows_in, flow.added, flow.n_merged, flow.n_dropped, flow.rows_out)
        lines.append(f"| {flow.unit} | {' | '.join(f'{cell:,}' for cell in cells)} |")
    lines.append("")
    for flow in step.flows:
        for kind in ("dropped", "merged", "changed"):
            for rule, affected in getattr(flow, kind).items():
                shown = ", ".join(f"`{place}`" for place in affected.examples)
                more = ", …" if affected.count > len(affected.examples) else ""
                lines.append(f"- {kind}, {rule}: {affected.count:,} {flow.unit} ({shown}{more})")
    lines += [*(f"- {note}" for note in step.notes), ""]
    return [*lines, *_made(step.made), ""] if step.made else lines


def _made(report: SamplingReport) -> list[str]:
    """Queries by kind: what became of those proposed. ``not asked`` are those left when asking stopped."""
    lines = [f"| kind of query | proposed | kept | {' | '.join(CHECKS)} | not asked |"]
    lines.append("|---" * (len(CHECKS) + 4) + "|")
    for kind, of in sorted(report.kinds.items()):
        cells = (of.proposed, of.kept, *(of.rejected[check] for check in CHECKS), of.unjudged)
        lines.append(f"| {kind} | {' | '.join(f'{cell:,}' for cell in cells)} |")
    return lines


def _propensities(found: Propensities) -> list[str]:
    return [
        "## Position bias", "",
        f"How probable it is that a position is looked at, relative to the first; by {found.method}. "
        f"{found.moved:.1%} of impressions are of a query and product shown at more than one position.", "",
        "| position | looked at | impressions | clicks |", "|---|---|---|---|",
        *(
            f"| {place}{'+' if place == len(found.examination) else ''} | {p:.3f} | {shown:,} | {clicks:,.0f} |"
            for place, (p, shown, clicks) in enumerate(
                zip(found.examination, found.impressions, found.clicks, strict=True), 1
            )
        ), "",
    ]  # fmt: skip
