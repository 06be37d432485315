"""The commands about a shop's rules: ``aisle rules check``, and what ``search`` takes of rules."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from engine.arguments import AsJson, ConfigFile, Index, print_json, search_config
from engine.config import SearchConfig
from engine.errors import CatalogError, ConfigError
from engine.explain import printable
from engine.rules.preview import Change, Preview, preview
from engine.rules.schema import read_rules
from engine.search import SearchEngine
from engine.terminal import training_progress

RulesFile = Annotated[Path | None, typer.Option("--rules", metavar="FILE", help="The shop's rules, see aisle rules.")]
Context = Annotated[
    list[str] | None, typer.Option("--context", metavar="KEY=VALUE", help="What rules may ask of a search.")
]

rules = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="""A shop's rules: which searches they are for, and what they pin, boost, bury, hide, filter or redirect.

    A search takes them from the file that the settings name, or --rules; one that is running reads them again when the
    file changes.
    """,
)


@rules.callback()
def _rules() -> None:
    """Keeps ``check`` a command of its own, though it is alone."""


@rules.command()
def check(
    index: Index,
    file: Annotated[Path, typer.Argument(metavar="RULES.toml", help="The rules.")],
    queries: Annotated[
        Path | None, typer.Option("--queries", metavar="FILE", help="Queries, one a line, or ID<TAB>QUERY.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many hits to compare.")] = 10,
    at: Annotated[
        str, typer.Option("--at", metavar="MOMENT", help="When, such as 2026-10-21T09:00. [default: now]")
    ] = "",
    locale: Annotated[str, typer.Option(help="The shopper's, such as en-IN.")] = "",
    context: Context = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Check a file of rules against an index, and show what it changes.

    Warns of what does nothing here: products and values that the catalog does not have, rules that are over, that are
    for none of the queries, or that another comes before.

    Example: aisle rules check shop-index rules.toml --queries top-queries.txt
    """
    found = read_rules(file)
    now = _moment(at) if at else time.time()
    engine = SearchEngine.load(index, search_config(config))
    asked = _queries(queries) if queries else []
    with training_progress() as bar:
        result = preview(
            engine, found, str(file), asked, now, k=k, locale=locale, context=parsed_context(context),
            progress=lambda done, total: bar("queries", done, total, ""),
        )  # fmt: skip
    if as_json:
        print_json(
            {
                "rules": [
                    {
                        "id": rule.id,
                        "note": rule.note,
                        "queries": result.fired[rule.id],
                        "moved": result.touched[rule.id],
                    }
                    for rule in found
                ],
                "changes": msgspec.to_builtins(result.changes),
                "warnings": msgspec.to_builtins(result.warnings),
            }
        )
        return
    for line in _lines(result, len(found), len(asked)):
        typer.echo(printable(line))


def ruled(config: SearchConfig | None, file: Path | None) -> SearchConfig | None:
    """The settings with this file of rules, where one is given."""
    return msgspec.structs.replace(config or SearchConfig(), rules=str(file)) if file else config


def parsed_context(pairs: Sequence[str] | None) -> Mapping[str, str]:
    """``KEY=VALUE`` texts as a mapping. Raises ConfigError on another form."""
    for pair in pairs or ():
        if not pair.partition("=")[0].strip() or "=" not in pair:
            raise ConfigError(f"--context {pair!r} is no KEY=VALUE; write channel=app")
    return {key.strip(): value.strip() for key, _, value in (pair.partition("=") for pair in pairs or ())}


def _moment(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise ConfigError(f"--at {text!r} is no moment; write 2026-10-21 or 2026-10-21T09:00+05:30") from None


def _queries(path: Path) -> list[str]:
    """The queries of a file, each once. Raises CatalogError where there are none."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise CatalogError(str(path), None, None, f"is no UTF-8 text: {error.reason}") from error
    found = list(dict.fromkeys(line.rpartition("\t")[2].strip() for line in lines if line.strip()))
    if not found:
        raise CatalogError(str(path), None, None, "has no query; write one a line")
    return found


def _lines(result: Preview, n_rules: int, n_queries: int) -> list[str]:
    lines = [line for change in result.changes if change.rules for line in _change_lines(change)]
    lines += [
        f"rule {rule!r}: {count} queries, {result.touched[rule]} places of products"
        for rule, count in result.fired.items()
    ]
    lines += [f"warning: rule {found.rule!r} {found.reason}" for found in result.warnings]
    changed = sum(change.changes for change in result.changes)
    told = f", {changed} of {n_queries} queries change" if n_queries else ""
    return [*lines, f"{n_rules} rules, {len(result.warnings)} warnings{told}"]


def _change_lines(change: Change) -> list[str]:
    lines = [f"{change.query}  ({', '.join(change.rules)})"]
    if change.redirect:
        lines.append(f"    redirects to {change.redirect}")
    if change.replaced:
        lines.append(f"    is searched as {change.replaced}")
    for moved in change.moved:
        why = "; ".join(f"{effect.rule}: {effect.action} {effect.detail}" for effect in moved.why)
        place = f"{moved.before or '+':>5} → {moved.after or '-':<3}"
        lines.append(f"    {place} {moved.product_id}  {why}".rstrip())
    return lines if len(lines) > 1 else [*lines, "    changes nothing"]
