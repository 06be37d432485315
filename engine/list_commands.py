"""The commands that make rerankers of lists: ``aisle train one-pass``, ``listwise`` and ``decoder``, and their exports.

They load ``training`` when they are run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from engine.errors import ConfigError
from engine.model_commands import JudgedOnTest, PreparedData, RunFolder, TrainingConfig, train_ranking, trainer
from engine.terminal import megabytes, program


def one_pass(
    config: TrainingConfig, out: RunFolder = None, data: PreparedData = None, test: JudgedOnTest = False
) -> None:
    """Fine-tune a one-pass encoder, which reads a query and a whole list of products at once, on judged sets or logs.

    A run that was stopped goes on where its folder says. It needs: pip install 'aisle[train]'

    Example: aisle train one-pass my-one-pass.toml --out run
    """
    folder = train_ranking("one-pass", config, out, data, test)
    typer.echo(f'\nServe it: {program()} export {folder / "best"} --out DIR, and listwise = "DIR" under [search]')


def listwise(
    config: TrainingConfig, out: RunFolder = None, data: PreparedData = None, test: JudgedOnTest = False
) -> None:
    """Fine-tune a decoder that reads a query and a window of products and gives their order.

    A run that was stopped goes on where its folder says. It needs: pip install 'aisle[train]'

    Example: aisle train listwise my-listwise.toml --out run
    """
    folder = train_ranking("listwise", config, out, data, test)
    typer.echo(f"\nServe it: name {folder / 'best'} as decoder.path of a listwise.toml, → docs/listwise.md")


def decoder(
    catalogs: Annotated[list[Path], typer.Argument(metavar="CATALOG...")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Its folder.")],
    vocabulary: Annotated[int, typer.Option(min=500, help="Tokens.")] = 8_000,
    width: Annotated[int, typer.Option(help="Numbers a token, a multiple of 64.")] = 384,
    layers: Annotated[int, typer.Option(help="Layers.")] = 8,
) -> None:
    """Make a small decoder to begin from: a tokenizer learnt from catalogs, and a configuration without weights.

    Example: aisle train decoder products.jsonl --out models/small-decoder
    """
    n = trainer("training.models.fresh_decoder").make_decoder(
        catalogs, out, vocabulary=vocabulary, width=width, layers=layers
    )
    typer.echo(f'{out}: {n / 1e6:.1f} million weights, none of them trained; begin by model.base = "{out}"')


def export_decoder(model: Path, out: Path, bits: int) -> None:
    if bits not in (4, 8, 32):
        raise ConfigError(f"--bits is {bits}; it must be 4 or 8")
    done = trainer("training.export.decoder").export_decoder(model, out, bits=bits)
    typer.echo(f"{out}: {done.card.name}, {megabytes(done.model_bytes)} ({megabytes(done.fp32_bytes)} as fp32)")
    typer.echo(f"A logit deviates from torch's by {done.deviation:.2g}, in fp32 by {done.fp32_deviation:.0e}")
    typer.echo(f"\nUse it: listwise = {str(out)!r} under [search] of an engine's configuration")


def export_one_pass(model: Path, out: Path, **options: Any) -> None:
    done = trainer("training.export.one_pass").export_one_pass(model, out, **options)
    typer.echo(f"{out}: {done.card.name}, {megabytes(done.model_bytes)} ({megabytes(done.fp32_bytes)} as fp32)")
    typer.echo("\n".join(done.parity.table()))
    typer.echo(f"\nUse it: listwise = {str(out)!r} under [search] of an engine's configuration")
