"""The command: every subcommand on a tiny catalog, what machines read of it, and how it fails."""

import json
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from engine import EngineConfig, IndexConfig, SearchEngine, cli, demo
from engine.cli import app

ROWS: list[dict[str, Any]] = [
    {"product_id": "F1", "title": "Double door fridge 300 L", "brand": "Polar", "price": 300, "currency": "EUR"},
    {"product_id": "F2", "title": "Single door fridge [red]", "brand": "Nord", "price": 150.5, "currency": "EUR"},
    {"product_id": "T1", "title": "Television 55 inch", "brand": "Polar", "attributes": {"color": "black"}},
]


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    path = tmp_path / "shop.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.fixture
def index(tmp_path: Path) -> str:
    SearchEngine.build(ROWS, tmp_path / "index", EngineConfig(index=IndexConfig(encoder="")))
    return str(tmp_path / "index")


def run(*arguments: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


def fails(*arguments: str | Path) -> str:
    """The one line that a failing command says."""
    result = run(*arguments, code=2)
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: ")
    assert result.stdout == ""
    return result.stderr


def test_build_sums_up_and_what_it_built_can_be_searched(catalog: Path, tmp_path: Path) -> None:
    out = tmp_path / "built"
    said = run("build", catalog, "--out", out, "--encoder", "none", "--threads", "1").stdout
    assert f"{out}: 3 products in " in said
    assert "dense      off" in said
    assert f"search {out} " in said
    assert "Double door fridge" in run("search", out, "fridge").stdout


def test_a_reranker_shows_in_what_the_commands_say(catalog: Path, tmp_path: Path, reranker_directory: Path) -> None:
    out = tmp_path / "built"
    said = run("build", catalog, "--out", out, "--encoder", "none", "--reranker", reranker_directory).stdout
    assert "rerank     words (" in said
    assert "rerank     words (" in run("info", out).stdout
    made = json.loads(run("info", out, "--json").stdout)
    assert made["config"]["reranker"] == str(reranker_directory)
    assert made["bytes"]["rerank"] > 0
    assert " · rerank " in run("search", out, "fridge").stdout
    assert "─ rerank    rank " in run("explain", out, "fridge", "F2").stdout
    assert "rerank     off" in run("build", catalog, "--out", out, "--encoder", "none", "--reranker", "none").stdout


def test_build_takes_settings_from_a_file_and_options_over_them(catalog: Path, tmp_path: Path) -> None:
    settings = tmp_path / "aisle.toml"
    EngineConfig(index=IndexConfig(encoder="no-such-encoder", language="german")).write(settings)
    run("build", catalog, "--out", tmp_path / "built", "--config", settings, "--encoder", "none")
    made = json.loads(run("info", tmp_path / "built", "--json").stdout)
    assert (made["config"]["language"], made["config"]["encoder"]) == ("german", "")


def test_build_skips_bad_rows_and_says_where_they_are(catalog: Path, tmp_path: Path) -> None:
    with catalog.open("a") as file:
        file.write('{"product_id": "X", "title": 7}\n')
    assert "line 4, field 'title'" in fails("build", catalog, "--out", tmp_path / "built", "--encoder", "none")
    assert not (tmp_path / "built" / "CURRENT").exists()
    said = run("build", catalog, "--out", tmp_path / "built", "--encoder", "none", "--on-error", "skip").stdout
    rejects = tmp_path / "built.rejects.jsonl"
    assert f"skipped    1 rows, with reasons in {rejects}" in said
    assert json.loads(rejects.read_text())["line"] == 4


def test_an_interrupted_build_leaves_the_index_as_it_was(
    catalog: Path, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = json.loads(run("info", index, "--json").stdout)

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("engine.builder._build_dense", interrupt)
    assert "nothing was published" in run("build", catalog, "--out", index, "--encoder", "none", code=130).stderr
    assert json.loads(run("info", index, "--json").stdout) == before
    assert not list(Path(index).glob(".building*"))


def test_version_is_that_of_the_package() -> None:
    try:
        expected = metadata.version("aisle")
    except metadata.PackageNotFoundError:
        pytest.skip("run from the sources, without an installation")
    assert run("--version").stdout.strip() == expected


def test_search_prints_hits_why_and_timings(index: str) -> None:
    read, *said = run("search", index, "doubel door fridge", "-k", "2", "--facet", "brand").stdout.splitlines()
    assert read == "read as: double door fridge"
    assert said[0].split() == ["#", "score", "title", "price", "why"]
    assert said[1].split()[0] == "1"
    assert "Double door fridge 300 L" in said[1]
    assert "EUR 300" in said[1]
    assert "doubl ← doubel (title)" in said[1]
    assert "[red]" in said[2]
    assert "EUR 150.50" in said[2]
    assert said[3] == "brand: Nord 1, Polar 1"
    assert said[4].startswith("understand ")
    assert "total" in said[4]


def test_search_filters_pages_and_explains(index: str) -> None:
    found = json.loads(
        run("search", index, "fridge", "--filter", "price<=200", "--filter", "brand=nord", "--json").stdout
    )
    assert [hit["product"]["product_id"] for hit in found["hits"]] == ["F2"]
    page = json.loads(run("search", index, "fridge", "--offset", "1", "-k", "1", "--json", "--explain").stdout)
    assert page["hits"][0]["rank"] == 2
    assert page["hits"][0]["matches"]
    assert "└─ matched terms, adding up to" in run("search", index, "fridge", "--explain").stdout


def test_search_without_hits_says_so(index: str, tmp_path: Path) -> None:
    nearest, *said = run("search", index, "zzzzzz").stdout.splitlines()
    assert nearest.startswith("nearest things: no product has 'zzzzzz'; no word of the query was found or understood")
    assert len(said) == len(ROWS) + 2
    assert "nothing to search for" in run("search", index, "?!").stdout
    settings = tmp_path / "aisle.toml"
    settings.write_text("[search]\nnearest = false\n")
    assert run("search", index, "zzzzzz", "--config", settings).stdout.startswith("no hits: zzzzzz")


def test_search_reads_settings(index: str, tmp_path: Path) -> None:
    settings = tmp_path / "aisle.toml"
    settings.write_text('[search]\nretrievers = ["dense"]\n')
    assert "cannot be searched" in fails("search", index, "fridge", "--config", settings)


def test_explain_also_explains_what_was_not_found(index: str) -> None:
    assert run("explain", index, "fridge", "F2").stdout.startswith("F2  Single door fridge [red]\nrank ")
    data = json.loads(run("explain", index, "fridge", "T1", "--json").stdout)
    assert (data["query"], data["rank"], data["matches"]) == ("fridge", 0, [])
    assert data["stages"][0]["state"] == "not_ranked"


def test_info_names_choices_fields_and_sizes(index: str) -> None:
    data = json.loads(run("info", index, "--json").stdout)
    assert data["n_products"] == 3
    assert {"brand", "price", "attributes.color"} <= set(data["fields"])
    assert set(data["bytes"]) == {"products", "columns", "lexical", "rerank", "families"}
    assert data["notes"]["dense"].startswith("off")
    said = run("info", index).stdout
    assert "3 products" in said
    assert "color" in said


def test_verify_finds_damage(index: str) -> None:
    intact = json.loads(run("verify", index, "--json").stdout)
    assert intact["ok"]
    assert "is intact" in run("verify", index).stdout
    victim = next(Path(index).glob("versions/*/products.jsonl"))
    victim.write_bytes(victim.read_bytes().replace(b"fridge", b"fridgy"))
    damaged = json.loads(run("verify", index, "--json", code=1).stdout)
    assert damaged["problems"] == ["products.jsonl: checksum differs"]
    assert "products.jsonl: checksum differs" in run("verify", index, code=1).stdout
    next(Path(index).glob("versions/*/manifest.json")).write_text("{")
    assert not json.loads(run("verify", index, "--json", code=1).stdout)["ok"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("search", "{tmp}/none", "fridge"), "Build one with: aisle build"),
        (("search", "{index}", "fridge", "--filter", "prize<=3"), "Did you mean: price"),
        (("search", "{index}", "fridge", "--filter", "price~3"), "cannot read the filter"),
        (("search", "{index}", "fridge", "--facet", "price"), "facets count text"),
        (("search", "{index}", "fridge", "--config", "{tmp}/none.toml"), "cannot read the configuration"),
        (("explain", "{index}", "fridge", "nope"), "no product 'nope'"),
        (("info", "{tmp}/none"), "does not exist"),
        (("verify", "{tmp}/none"), "does not exist"),
        (("build", "{tmp}/none.csv", "--out", "{tmp}/out"), "there is no such file"),
        (("build", "{tmp}/shop.jsonl", "--out", "{tmp}/out", "--encoder", "nope"), "no encoder in nope"),
        (("build", "{tmp}/shop.jsonl", "--out", "{tmp}/out", "--reranker", "nope"), "no reranker in nope"),
        (("build", "{tmp}/shop.jsonl", "--out", "{tmp}/shop.jsonl", "--encoder", "none"), "shop.jsonl"),
    ],
)
def test_errors_are_one_line(arguments: tuple[str, ...], said: str, index: str, catalog: Path, tmp_path: Path) -> None:
    assert said in fails(*(argument.format(index=index, tmp=tmp_path) for argument in arguments))


@pytest.mark.parametrize(
    ("command", "module"), [("convert", "training.export.encoder"), ("export", "training.export.reranker")]
)
def test_training_commands_name_the_extra_they_need(
    command: str, module: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert "pip install 'aisle[train]'" in fails(command, "some-model", "--out", tmp_path / "out")


@pytest.fixture
def without_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    config = EngineConfig(index=IndexConfig(encoder=""))
    monkeypatch.setattr(demo, "IndexConfig", lambda: config.index)
    monkeypatch.setattr(cli, "EngineConfig", lambda: config)


@pytest.mark.usefixtures("without_vectors")
def test_demo_builds_once_and_anew_when_out_of_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = tmp_path / "demo"
    first = run("demo", "--index", where).stdout
    assert first.startswith("Building")
    assert all(f"\n{query}\n" in first for query in demo.QUERIES)
    assert first.rstrip().endswith(f'search {where} "tv for cricket"')
    assert not run("demo", "--index", where).stdout.startswith("Building")
    other = tmp_path / "other.jsonl"
    other.write_text("".join(demo.SAMPLE.read_text().splitlines(keepends=True)[:50]))
    monkeypatch.setattr(demo, "SAMPLE", other)
    monkeypatch.setattr(cli, "SAMPLE", other)
    assert "50 products" in run("demo", "--index", where).stdout


@pytest.mark.usefixtures("without_vectors")
def test_demo_does_not_replace_the_index_of_another_catalog(index: str) -> None:
    assert "not the sample's" in fails("demo", "--index", index)
    assert json.loads(run("info", index, "--json").stdout)["n_products"] == 3


def test_help_has_an_example_for_every_command() -> None:
    assert "Try it: aisle demo" in CliRunner().invoke(app, []).output
    for name in ("build", "search", "explain", "route", "types", "info", "verify", "demo", "convert", "export"):
        assert f"Example: aisle {name}" in run(name, "--help").stdout
