"""The command that answers: ``aisle ask``."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from engine.answers.records import Answer
from engine.arguments import AsJson, ConfigFile, Index, print_json, search_config
from engine.explain import printable
from engine.search import SearchEngine
from engine.terminal import new_console


def ask(
    index: Index,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What a shopper would ask.")],
    product: Annotated[
        str, typer.Option("--product", metavar="ID", help='The product at hand, which "it" means.')
    ] = "",
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Answer a question about the catalog's products, with the words that the answer rests on.

    What no field says is not made up: then the answer says so. A text that is no question is answered with what a
    search finds. `policy` under [search] names the file of what may be asked about.

    Example: aisle ask demo-index "Does the Galaxy S24 Ultra have an S Pen?"
    """
    answer = SearchEngine.load(index, search_config(config)).ask(question, product_id=product)
    if as_json:
        print_json(msgspec.to_builtins(answer))
    else:
        print_answer(answer)


def print_answer(answer: Answer) -> None:
    """Prints the answer, a comparison's table, what it rests on, and how sure it is."""
    out = new_console()
    out.print(Text(printable(answer.text), style="bold"))
    if answer.table:
        table = Table(box=None, pad_edge=False)
        for heading in ("", *(card.title for card in answer.products[: len(answer.table[0].values)])):
            table.add_column(Text(printable(heading)), overflow="fold")
        for row in answer.table:
            cells = (row.attribute, *(value or "not said" for value in row.values))
            table.add_row(*(Text(printable(cell), style="" if row.differs else "dim") for cell in cells))
        out.print(table)
    for evidence in () if answer.table else answer.evidence:
        place = evidence.document or f"{evidence.product_id} {evidence.field}"
        out.print(Text(printable(f"  “{evidence.text}”  {place} [{evidence.start}:{evidence.end}]")))
    if not answer.evidence:
        for card in answer.products:
            out.print(Text(printable(f"  {card.product_id}  {card.title}")))
    out.print(Text(printable(f"{answer.kind}, {answer.confidence:.0%} sure: {answer.reason}"), style="dim"))
