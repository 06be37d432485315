"""The command about suggestions: ``aisle suggest``."""

from __future__ import annotations

from typing import Annotated

import typer

from engine.arguments import AsJson, Index, print_json
from engine.explain import printable
from engine.storage.manifest import current_version
from engine.suggestions.completer import open_suggestions
from engine.suggestions.store import SUGGESTIONS


def suggest(
    index: Index,
    typed: Annotated[str, typer.Argument(metavar="PREFIX", help="What a shopper has typed so far.")],
    k: Annotated[int, typer.Option("-k", min=1, help="How many suggestions.")] = 8,
    as_json: AsJson = False,
) -> None:
    """Show what is suggested to a shopper who has typed this much.

    A space at the end says that the last word is finished.

    Example: aisle suggest demo-index "galxy s2"
    """
    found = open_suggestions(current_version(index) / SUGGESTIONS).suggest(typed, k)
    if as_json:
        print_json([{"text": one.text, "kind": one.kind, "score": round(one.score, 3)} for one in found])
        return
    for one in found:
        typer.echo(printable(f"{one.text}  ({one.kind})"))
    if not found:
        typer.echo("nothing to suggest", err=True)
