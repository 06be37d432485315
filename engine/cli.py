"""The ``aisle`` command: build an index, search it, explain results, route queries, check indexes, make models."""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import typer
from typer.core import TyperGroup

from engine import (
    adapter_commands,
    answer_commands,
    family_commands,
    list_commands,
    log_commands,
    model_commands,
    need_commands,
    route_commands,
    rule_commands,
    suggest_commands,
    update_commands,
)
from engine import explain as explaining
from engine.adapter_commands import AdapterName
from engine.arguments import AsJson, Catalog, ConfigFile, Index, Query, print_json, search_config
from engine.builder import build_index
from engine.catalog import read_catalog
from engine.columns import Columns
from engine.config import EngineConfig
from engine.demo import DEFAULT_INDEX, QUERIES, SAMPLE, sample_index
from engine.diversity import AtMost
from engine.errors import AisleError, IndexCorruptError
from engine.filters import parse_filter
from engine.rule_commands import Context, RulesFile, parsed_context, ruled
from engine.search import SearchEngine
from engine.storage.change_log import ChangeLog
from engine.storage.manifest import Manifest, current_version, problems, read_manifest
from engine.terminal import megabytes, print_result, program, progress_bars
from engine.updates.summary import summary

_MAX_FIELDS = 200  # names that info prints


class _Group(TyperGroup):
    """Turns an expected error into one line and exit code 2, for every command."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise
        except AisleError as error:
            message = str(error)
        except OSError as error:
            message = f"{error.filename or 'input or output'}: {error.strerror or error}"
        typer.secho("error: ", fg="red", err=True, nl=False)
        typer.echo(explaining.printable(" ".join(message.split())), err=True)
        raise typer.Exit(2)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(metadata.version("aisle"))
        raise typer.Exit


app = typer.Typer(
    cls=_Group, no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
)  # fmt: skip


app.command()(route_commands.route)
app.command()(route_commands.types)
app.command()(answer_commands.ask)
app.command()(need_commands.needs)
app.command()(family_commands.families)
app.command()(family_commands.synonyms)
app.command()(suggest_commands.suggest)
app.command()(update_commands.update)
app.command()(update_commands.merge)
app.command()(update_commands.versions)
app.command()(update_commands.rollback)
app.command()(update_commands.prune)
app.command()(model_commands.convert)
app.command()(model_commands.export)
app.command()(model_commands.curate)
model_commands.train.command("one-pass")(list_commands.one_pass)
model_commands.train.command()(list_commands.listwise)
model_commands.train.command()(list_commands.decoder)
app.add_typer(model_commands.train, name="train")
app.add_typer(adapter_commands.adapter, name="adapter")
app.add_typer(rule_commands.rules, name="rules")
app.add_typer(log_commands.log, name="log")


@app.callback()
def _aisle(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Product search: build an index of a catalog, search it, and see why a product is where it is.

    Try it: aisle demo
    """


OnError = Literal["stop", "skip"]


def main() -> None:
    app()


# ----------------------------------------------------------------------------------------------------------- building


@app.command()
def build(
    catalog: Catalog,
    out: Annotated[Path, typer.Option("--out", metavar="INDEX", help="The index's directory.")],
    config: ConfigFile = None,
    on_error: Annotated[OnError, typer.Option("--on-error", help="At a bad row: stop, or skip and list it.")] = "stop",
    rejects: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where skipped rows go. [default: INDEX.rejects.jsonl]")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=0, help="Cores to use; 0 is all.")] = None,
    encoder: Annotated[str | None, typer.Option(metavar="NAME|DIR|none", help="What makes vectors.")] = None,
    reranker: Annotated[str | None, typer.Option(metavar="NAME|DIR|none", help="What reranks the best.")] = None,
    router: Annotated[
        str | None, typer.Option(metavar="catalog|TYPES.tsv|DIR|none", help="What finds types asked for.")
    ] = None,
    queries: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A log of queries, to suggest them: QUERY<TAB>COUNT lines.")
    ] = None,
    documents: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Manuals, FAQs, reviews, rules (.jsonl, .md) for `aisle ask`.")
    ] = None,
    lexical_backend: Annotated[
        Literal["tantivy", "lucene", "rank-bm25"] | None, typer.Option(help="What holds the words.")
    ] = None,
) -> None:
    """Build an index of a catalog.

    An index that is already there is replaced at the end, at once; until then it can be searched.

    Example: aisle build products.csv --out shop-index --on-error skip
    """
    settings = EngineConfig.read(config) if config else EngineConfig()
    changes = {"lexical_backend": lexical_backend, "encoder": encoder, "reranker": reranker, "router": router}
    changes["queries"] = str(queries) if queries else None
    changes = {name: "" if value == "none" else value for name, value in changes.items() if value is not None}
    index = msgspec.structs.replace(settings.index, **changes)
    search = settings.search if threads is None else msgspec.structs.replace(settings.search, threads=threads)
    if on_error == "skip" and rejects is None:
        rejects = out.with_name(f"{out.name}.rejects.jsonl")
    n_rejected = _build(catalog, out, EngineConfig(index=index, search=search), on_error, rejects, documents)
    if n_rejected:
        typer.echo(f"skipped    {n_rejected:,} rows, with reasons in {rejects}")
    typer.echo(f'\nSearch it: {program()} search {out} "your query"')


def _build(
    catalog: Path, out: Path, config: EngineConfig, on_error: OnError = "stop", rejects: Path | None = None,
    documents: Path | None = None,
) -> int:  # fmt: skip
    """Builds, shows how far it is, and sums up. Returns how many rows were skipped."""
    started = time.perf_counter()
    try:
        with progress_bars() as (read, built):
            reader = read_catalog(catalog, on_error=on_error, rejects=rejects, progress=read)
            build_index(reader, out, config, documents=documents, progress=built)
    except KeyboardInterrupt:
        typer.echo(f"\nstopped: nothing was published, {out} is as it was", err=True)
        raise typer.Exit(130) from None
    took = time.perf_counter() - started
    manifest = read_manifest(current_version(out))
    n, size = manifest.n_products, sum(_sizes(manifest).values())
    typer.echo(f"{out}: {n:,} products in {took:.1f} s ({n / took:,.0f} a second), {megabytes(size)} on disk")
    _print_choices(manifest.notes)
    return reader.n_rejected


def _print_choices(notes: Mapping[str, str]) -> None:
    for choice, reason in notes.items():
        typer.echo(f"{choice:<10} {reason}")


# ---------------------------------------------------------------------------------------------------------- searching


@app.command()
def search(
    index: Index,
    query: Query,
    k: Annotated[int, typer.Option("-k", min=0, help="How many hits.")] = 10,
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter", metavar="FILTER", help="'brand=Samsung', 'color=red|blue', 'price<=60000', has:color."
        ),
    ] = None,
    facets: Annotated[
        list[str] | None, typer.Option("--facet", metavar="FIELD", help="Count a field's values.")
    ] = None,
    offset: Annotated[int, typer.Option(min=0, help="Hits to leave out at the start.")] = 0,
    deadline_ms: Annotated[
        float | None, typer.Option(min=0, help="Leave out optional stages that take longer.")
    ] = None,
    adapter: AdapterName = None,
    locale: Annotated[str, typer.Option(help="The shopper's, such as es-MX, where the words leave it open.")] = "",
    rules: RulesFile = None,
    context: Context = None,
    group: Annotated[
        str,
        typer.Option(
            metavar="FIELD",
            help="Show one product for each value of a field; family is one for all colours and storages.",
        ),
    ] = "",
    at_most: Annotated[
        list[str] | None,
        typer.Option(
            "--at-most", metavar="FIELD=N", help="At most N of a field's value in the first ten; brand=2/20: in 20."
        ),
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show for every hit how it got there.")] = False,
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Search an index.

    Options given several times add up: every filter must hold.

    Example: aisle search shop-index "double door fridge" --filter 'price<=60000' --facet brand
    """
    wanted = [parse_filter(text) for text in filters or ()]
    engine = SearchEngine.load(index, ruled(search_config(config), rules))
    result = engine.search(
        query, k, filters=wanted, facets=facets or (), offset=offset, deadline_ms=deadline_ms,
        explain=explain or not as_json, adapter=adapter, locale=locale, context=parsed_context(context), group=group,
        at_most=[AtMost.parsed(text) for text in at_most] if at_most else None,
    )  # fmt: skip
    if as_json:
        print_json(explaining.result_as_dict(result))
    elif explain:
        for hit in result.hits:
            typer.echo(explaining.render(hit, result.stages) + "\n")
        typer.echo(explaining.timings(result))
    else:
        print_result(result)


@app.command()
def explain(
    index: Index,
    query: Query,
    product_id: Annotated[str, typer.Argument(metavar="PRODUCT_ID", help="The product to explain.")],
    adapter: AdapterName = None,
    rules: RulesFile = None,
    context: Context = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Show why a product is where it is for a query.

    Also for one that was not found: then it says which stages passed it over.

    Example: aisle explain demo-index "samzung fridge" SKU-0278
    """
    engine = SearchEngine.load(index, ruled(search_config(config), rules))
    hit = engine.explain(query, product_id, adapter=adapter, context=parsed_context(context))
    if as_json:
        print_json({"query": query, **explaining.as_dict(hit)})
    else:
        typer.echo(explaining.render(hit))


# -------------------------------------------------------------------------------------------------------- looking after


@app.command()
def info(index: Index, as_json: AsJson = False) -> None:
    """Show an index: its choices and why, its fields, its sizes, and what has changed since it was built.

    Example: aisle info demo-index
    """
    version = current_version(index)
    manifest = read_manifest(version)
    columns = Columns.open(version)
    fields, sizes, now = columns.fields, _sizes(manifest), summary(version, columns)
    if as_json:
        data = msgspec.to_builtins(manifest)
        del data["files"]
        print_json(
            {"directory": str(index), "version": version.name, **data, "fields": fields, "bytes": sizes, "now": now}
        )
        return
    typer.echo(f"{index}: {now.products:,} products, version {version.name}, built {manifest.created}")
    names = ", ".join(field.removeprefix("attributes.") for field in fields[:_MAX_FIELDS])
    more = f" and {len(fields) - _MAX_FIELDS} more, see --json" if len(fields) > _MAX_FIELDS else ""
    shares = ", ".join(f"{part} {megabytes(size)}" for part, size in sizes.items())
    made = {
        "lexical": manifest.config.lexical_backend,
        "analyzer": manifest.analyzer,
        "encoder": manifest.encoder or "none",
        "reranker": manifest.reranker or "none",
        "router": manifest.router or "none",
    }
    ends = {
        "changes": str(now),
        "filters": names + more,
        "on disk": f"{megabytes(sum(sizes.values()))} ({shares})",
    }
    _print_choices({**made, **manifest.notes, **ends})


def _sizes(manifest: Manifest) -> dict[str, int]:
    """Bytes per part, the largest first. Retrievers have directories of their own, beside them lie the columns."""
    sizes: dict[str, int] = {}
    for name, entry in manifest.files.items():
        top, *inner = Path(name).parts
        part = top if inner else "products" if top.startswith("products.") else "columns"
        sizes[part] = sizes.get(part, 0) + entry.size
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


@app.command()
def verify(index: Index, as_json: AsJson = False) -> None:
    """Read an index whole and compare checksums.

    Exit code 1 says that it is damaged, and the output where.

    Example: aisle verify shop-index
    """
    n_files, found = 0, list[str]()
    try:
        version = current_version(index)
        manifest = read_manifest(version)
        n_files, found = len(manifest.files), problems(version, manifest)
        for _ in ChangeLog(index, version.name).read():
            pass  # reading compares its checksums
    except IndexCorruptError as error:
        found = [*found, str(error)]
    if as_json:
        print_json({"directory": str(index), "ok": not found, "n_files": n_files, "problems": found})
    elif found:
        typer.echo("\n".join([f"{index} is damaged:", *found, "Build it again."]))
    else:
        typer.echo(f"{index} is intact: {n_files} files match their checksums")
    if found:
        raise typer.Exit(1)


# ------------------------------------------------------------------------------------------------- demo and conversion


@app.command()
def demo(
    index: Annotated[
        Path, typer.Option("--index", metavar="DIR", help="Where the sample's index is kept.")
    ] = DEFAULT_INDEX,
) -> None:
    """Search the sample catalog with a few queries.

    Its index is built where it is missing or out of date.

    Example: aisle demo
    """

    def make() -> None:
        typer.echo("Building the index of the sample catalog …")
        _build(SAMPLE, index, EngineConfig())

    engine = sample_index(index, make)
    for query in QUERIES:
        typer.secho(f"\n{query}", bold=True)
        print_result(engine.search(query, 3, explain=True))
    typer.echo(f'\nTry your own: {program()} search {index} "tv for cricket"')


if __name__ == "__main__":
    main()
