"""Explanations, from data to text: a hit as a printed tree, and hits and results as plain data for JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal, NotRequired, TypedDict

import msgspec

from engine.types import Group, Hit, SearchResult, StageReport, TermMatch

StageState = Literal["ranked", "not_ranked", "skipped", "degraded"]
_VISIBLE = 0.0005  # what a tree's three decimals would show as 0.000
_MAX_WHY = 3  # terms
_STAGE_WIDTH = 9  # columns at least
_SOURCES = {
    "typed": "typed",
    "joined": "joined from {!r}",
    "split": "split from {!r}",
    "plural": "the other number of {!r}",
    "spelling": "spelling of {!r}",
    "prefix": "begins with {!r}",
    "correction": "correction of {!r}",
    "synonym": "synonym of {!r}",
}


class StageData(TypedDict):
    """One stage of one hit. ``rank`` and ``score`` are null unless it ranked the hit.

    ``parts``, of the combine stage, are what each feature adds to the log-odds of the score.
    """

    stage: str
    state: StageState
    rank: int | None
    score: float | None
    note: NotRequired[str]
    parts: NotRequired[dict[str, float]]


class MatchData(TypedDict):
    term: str
    field: str
    source: str
    origin: str
    score: float
    frequency: int
    document_frequency: int


class HitData(TypedDict):
    """``rank`` 0 says that the product is not among the candidates. ``product`` has the fields that have a value.

    ``rules`` and ``group`` are there where a rule did something to the product, or the search groups.
    """

    rank: int
    score: float
    product: dict[str, Any]
    stages: list[StageData]
    matches: list[MatchData]
    rules: NotRequired[list[dict[str, str]]]
    group: NotRequired[dict[str, Any]]


class ResultData(TypedDict):
    """``stages`` are those of the search, with times in milliseconds; every hit has its own view of them."""

    query: str
    n_candidates: int
    degraded: bool
    elapsed_ms: float
    hits: list[HitData]
    stages: list[dict[str, Any]]
    facets: dict[str, list[dict[str, Any]]]
    route: Any
    rules: list[str]
    redirect: str


def render(hit: Hit, reports: Sequence[StageReport] = ()) -> str:
    """The hit as a tree of lines: what each stage gave it, and which terms matched in which field.

    ``reports`` are those of the search; with them stages that were skipped or degraded are shown too.
    """
    place = f"rank {hit.rank}, score {hit.score:.3f}" if hit.rank else "not among the candidates"
    found = _stages(hit, reports)
    width = max([_STAGE_WIDTH, *(len(stage["stage"]) for stage in found)])
    stages = [_stage_line(stage, width) for stage in found]
    groups: list[tuple[str, list[str]]] = [("stages", stages or ["none ranked anything"])]
    if hit.matches:
        total = sum(match.score for match in hit.matches)
        groups.append((f"matched terms, adding up to {total:.3f}", list(_fields(hit.matches))))
    else:
        groups.append(("matched terms", ["none"]))
    if hit.rules:
        groups.append(("rules", [printable(f"{of.rule}  {of.action} {of.detail}") for of in hit.rules]))
    if hit.group:
        groups.append(("group", [printable(grouped(hit.group))]))
    lines = [printable(f"{hit.product.product_id}  {hit.product.title}"), place]
    for number, (name, inner) in enumerate(groups, 1):
        last = number == len(groups)
        lines.append(f"{'└─' if last else '├─'} {name}")
        lines += [f"{'   ' if last else '│  '}{line}" for line in _branches(inner)]
    return "\n".join(lines)


def as_dict(hit: Hit, reports: Sequence[StageReport] = ()) -> HitData:
    """The hit as data that JSON can hold. ``reports`` as for ``render``."""
    data = HitData(
        rank=hit.rank,
        score=hit.score,
        product=msgspec.to_builtins(hit.product),
        stages=_stages(hit, reports),
        matches=[
            MatchData(
                term=match.term, field=match.field, source=match.source, origin=match.origin, score=match.score,
                frequency=match.frequency, document_frequency=match.document_frequency,
            )
            for match in hit.matches
        ],
    )  # fmt: skip
    if hit.rules:
        data["rules"] = [asdict(effect) for effect in hit.rules]
    if hit.group:
        data["group"] = asdict(hit.group)
    return data


def result_as_dict(result: SearchResult) -> ResultData:
    """The result as data that JSON can hold."""
    return ResultData(
        query=result.query,
        n_candidates=result.n_candidates,
        degraded=result.degraded,
        elapsed_ms=result.elapsed_ms,
        hits=[as_dict(hit, result.stages) for hit in result.hits],
        stages=[asdict(report) for report in result.stages],
        facets={field: [asdict(count) for count in counts] for field, counts in result.facets.items()},
        route=msgspec.to_builtins(result.route),
        rules=list(result.rules),
        redirect=result.redirect,
    )


def printable(text: str) -> str:
    """Text that a terminal only shows: a catalog's control characters could make it do other things."""
    return "".join(c if c.isprintable() else " " for c in text)


def understanding(result: SearchResult) -> str:
    """What else than the typed words was searched, and what the hits lack, in one line; empty where nothing is."""
    route = result.route
    if route is None:
        return ""
    read = [f"read as: {route.corrected}"] if result.hits and route.corrected != result.query else []
    return " · ".join([*read, *([f"nearest things: {route.nearest}"] if route.nearest else [])])


def grouped(group: Group) -> str:
    """How many products a hit stands for, and the first of them by id."""
    shown = ", ".join(group.others[:_MAX_WHY])
    more = " …" if group.count - 1 > _MAX_WHY else ""
    return f"1 of {group.count} by {group.field}" + (f", beside {shown}{more}" if shown else "")


def why(hit: Hit) -> str:
    """The strongest matched terms, each with what was typed where that differs, and its best field, in one line."""
    best = {match.term: match for match in sorted(hit.matches, key=lambda match: match.score) if match.score > 0}
    terms = sorted(best.values(), key=lambda match: -match.score)[:_MAX_WHY]
    said = [f"{m.term}{'' if m.source == 'typed' else f' ← {m.origin}'} ({m.field})" for m in terms]
    return ", ".join(said) or "close in meaning"


def timings(result: SearchResult) -> str:
    """What each stage took, or why it did not run, in one line."""
    parts = [
        f"{stage.stage} {stage.elapsed_ms:.1f} ms" if stage.status == "ran"
        else f"{stage.stage} {stage.status} ({stage.note})"
        for stage in result.stages
    ]  # fmt: skip
    return " · ".join([*parts, f"total {result.elapsed_ms:.1f} ms"])


def _stages(hit: Hit, reports: Sequence[StageReport]) -> list[StageData]:
    """The stages that ranked, then those of the search that were skipped or degraded and so left no trace."""
    stages: list[StageData] = []
    for trace in hit.trace:
        state: StageState = "not_ranked" if trace.rank is None else "ranked"
        stages.append(StageData(stage=trace.stage, state=state, rank=trace.rank, score=trace.score))
        if trace.parts:
            stages[-1]["parts"] = dict(trace.parts)
    traced = {trace.stage for trace in hit.trace}
    return stages + [
        StageData(stage=report.stage, state=report.status, rank=None, score=None, note=report.note)
        for report in reports
        if report.status != "ran" and report.stage not in traced
    ]


def _stage_line(stage: StageData, width: int) -> str:
    name = f"{stage['stage']:<{width}}"
    if stage["state"] == "ranked":
        return "\n".join([f"{name} rank {stage['rank']}, score {stage['score']:.3f}", *_parts(stage.get("parts", {}))])
    if stage["state"] == "not_ranked":
        return f"{name} not among its candidates"
    return f"{name} {stage['state']}: {stage.get('note') or 'no reason given'}"


def _parts(parts: Mapping[str, float]) -> Iterator[str]:
    """What features add, as lines of a tree; those too small to show share one."""
    if not parts:
        return
    shown = [f"{value:+8.3f}  {name}" for name, value in parts.items() if abs(value) >= _VISIBLE]
    hidden = len(parts) - len(shown)
    more = [f"and {hidden} that add next to nothing"] if hidden else []
    yield from _branches([f"{sum(parts.values()):+8.3f}  log-odds of the score, made of", *shown, *more])


def _fields(matches: Sequence[TermMatch]) -> Iterator[str]:
    """A block per field, the best first: its sum, and a line for each term. Fields that add nothing share one line."""
    by_field: dict[str, list[TermMatch]] = {}
    for match in matches:
        by_field.setdefault(match.field, []).append(match)
    sums = {field: sum(match.score for match in found) for field, found in by_field.items()}
    width = max(len(match.term) for match in matches)
    for field in sorted(by_field, key=lambda field: -sums[field]):
        if sums[field] >= _VISIBLE:
            yield "\n".join([f"{field}  {sums[field]:.3f}", *_branches([_term(m, width) for m in by_field[field]])])
    if idle := [field for field in by_field if sums[field] < _VISIBLE]:
        yield f"also in {', '.join(idle)}, adding nothing"


def _term(match: TermMatch, width: int) -> str:
    source = _SOURCES.get(match.source, match.source + " {!r}").format(match.origin)
    counts = f"tf {match.frequency}, df {match.document_frequency}"
    return f"{match.term:<{width}} {match.score:8.3f}  {counts}  {source}"


def _branches(blocks: Sequence[str]) -> Iterator[str]:
    """The lines of each block, hung on a branch; lines after a block's first continue below it."""
    for number, block in enumerate(blocks, 1):
        last = number == len(blocks)
        first, *rest = block.split("\n")
        yield f"{'└─' if last else '├─'} {first}"
        yield from (f"{'   ' if last else '│  '}{line}" for line in rest)
