"""The whole benchmark on a small made-up set: files, shapes, reuse of indexes, and what a failure leaves behind."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import pytest

pytest.importorskip("ir_measures")
pytest.importorskip("matplotlib")

from rich.console import Console
from typer import Typer
from typer.testing import CliRunner, Result

from benchmarks.data import SAMPLE, DataError, load_set, natural_key, read_qrels, read_queries
from benchmarks.indexes import Workbench
from benchmarks.progress import Bars
from benchmarks.run import main
from benchmarks.sources import checksums_below
from benchmarks.systems import SYSTEMS, Variant, factory
from engine.config import EngineConfig, IndexConfig, SearchConfig

REPOSITORY = Path(__file__).resolve().parent.parent
SET = "synthetic_shop"
NOUNS = ("phone", "tablet", "washer", "fridge", "monitor")
COLOURS = ("red", "blue", "green", "black")


class Reversed:
    """A toy system: the whole catalog, backwards, whatever is asked."""

    def __init__(self, bench: Workbench) -> None:
        self._ids = [product.product_id for product in bench.products()][::-1]

    def rank(self, query: str, k: int, allowed_ids: Collection[str] | None = None) -> list[tuple[str, float]]:
        ids = [i for i in self._ids if allowed_ids is None or i in allowed_ids]
        return [(product_id, 1.0) for product_id in ids[:k]]


class Broken:
    def __init__(self, bench: Workbench) -> None:
        self._id = next(bench.products()).product_id

    def rank(self, query: str, k: int, allowed_ids: Collection[str] | None = None) -> list[tuple[str, float]]:
        return [(self._id, 1.0)] * 2


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twenty products, one for each colour and noun; a query names both, the noun alone is a grade of 1."""
    folder = tmp_path / "data" / SET
    folder.mkdir(parents=True)
    pairs = [(colour, noun) for noun in NOUNS for colour in COLOURS]
    rows = [{"product_id": f"{colour}-{noun}", "title": f"Synthetic {colour} {noun}"} for colour, noun in pairs]
    with gzip.open(folder / "corpus.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    queries = [(f"s-{number}", f"{colour} {noun}") for number, (colour, noun) in enumerate(pairs[::2], 2)]
    queries += [("s-100", "zzzzqqqq"), ("s-101", "not judged")]
    (folder / "queries.dev.tsv").write_text("".join(f"{i}\t{text}\n" for i, text in queries))
    judged = [
        f"{query_id} 0 {colour}-{noun} {3 if text == f'{colour} {noun}' else 1}\n"
        for query_id, text in queries[:-2]
        for colour, noun in pairs
        if noun in text
    ]
    (folder / "qrels.dev.txt").write_text("".join([*judged, "s-100 0 red-phone 3\n"]))
    return tmp_path / "data"


def invoke(command: object, *arguments: object) -> Result:
    app = Typer()
    app.command()(command)  # type: ignore[type-var]
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def bench_run(data: Path, *more: object, systems: str = "bm25", out: str = "out/r.json") -> Result:
    where = data.parent
    return invoke(
        main, "--data", data, "--set", SET, "--split", "dev", "--relevant", 2, "--systems", systems,
        "--out", where / out, "--index", where / "index", *more,
    )  # fmt: skip


def test_end_to_end(data: Path) -> None:
    toy = f"{__name__}:Reversed"
    done = bench_run(data, systems=f"{toy},bm25")
    assert done.exit_code == 0, done.output
    out = data.parent / "out"
    result = json.loads((out / "r.json").read_text())
    assert (result["set"], result["split"], result["complete"]) == (SET, "dev", True)
    assert list(result["systems"]) == [toy, "bm25"]
    bm25 = result["systems"]["bm25"]
    assert bm25["latency_ms"].keys() == {"p50", "p95", "p99"}
    assert len(bm25["per_query"]) == result["n_queries"] == 11
    assert bm25["per_query"]["s-100"]["nDCG@10"] == 0
    assert bm25["metrics"]["nDCG@10"] == pytest.approx(10 / 11)  # all but the query that finds nothing
    assert bm25["n_empty"] == 1
    assert result["n_queries_not_judged"] == 1
    assert bm25["build"]["products"] == 20
    [ndcg, recall] = result["comparisons"]
    assert ndcg.keys() == {"a", "b", "metric", "difference", "interval", "p", "p_holm", "wins", "losses", "ties"}
    assert (ndcg["a"], ndcg["b"], ndcg["metric"], recall["metric"]) == (toy, "bm25", "nDCG@10", "R@100")
    assert ndcg["wins"] == 10
    assert ndcg["p"] < 0.01
    page = (out / "r.md").read_text()
    assert "Synthetic red phone" in page
    assert "Significance" in page
    assert (out / "r.png").read_bytes().startswith(b"\x89PNG")


def test_run_files_give_the_same_figures(data: Path) -> None:
    import ir_measures

    bench_run(data, "--runs", data.parent / "runs", systems=f"bm25,{__name__}:Reversed")
    result = json.loads((data.parent / "out/r.json").read_text())
    qrels = read_qrels(data / SET / "qrels.dev.txt")
    names = {path.stem.split("-")[-1]: path for path in (data.parent / "runs").iterdir()}
    assert names.keys() == {"bm25", "Reversed"}
    for system, of_system in result["systems"].items():
        lines = names[system.split(":")[-1]].read_text().splitlines()
        assert lines[0].split()[3] == "1"
        assert {len(line.split()) for line in lines} == {6}
        found = ir_measures.calc_aggregate([ir_measures.nDCG @ 10], qrels, ir_measures.read_trec_run("\n".join(lines)))
        assert next(iter(found.values())) == pytest.approx(of_system["metrics"]["nDCG@10"])


def test_pool_ranks_judged_products_only(data: Path) -> None:
    assert bench_run(data, "--pool", systems=f"{__name__}:Reversed,bm25").exit_code == 0
    result = json.loads((data.parent / "out/r.json").read_text())
    for system in result["systems"].values():
        assert all(values["Judged@10"] in (0.0, 1.0) for values in system["per_query"].values())
    assert result["systems"][f"{__name__}:Reversed"]["metrics"]["R@100"] == 1.0


def test_an_index_is_kept_until_something_changes(data: Path) -> None:
    def reused(*more: object) -> bool:
        done = bench_run(data, "--json", *more)
        assert done.exit_code == 0, done.output
        return bool(json.loads(done.stdout)["systems"]["bm25"]["build"]["reused"])

    assert not reused()
    assert reused()
    config = data.parent / "config.toml"
    EngineConfig(index=IndexConfig(language="german")).write(config)
    assert not reused("--config", config)
    assert reused("--config", config)
    with gzip.open(data / SET / "corpus.jsonl.gz", "at") as file:
        file.write('{"product_id": "new", "title": "Synthetic newcomer"}\n')
    assert not reused()
    [kept, *_] = sorted((data.parent / "index").glob("*.json"))
    kept.write_text("damaged")
    assert (reused(), reused("--config", config)).count(False) >= 1


def test_what_an_index_is_made_of_follows_imports() -> None:
    found = checksums_below("engine.builder", "engine.lexical.tantivy")
    assert {"engine.text", "engine.analysis.analyzer", "engine.lexical.bm25", "engine.dense.encoder"} <= found.keys()
    assert not {"engine.search", "engine.fusion", "engine.lexical.lucene"} & found.keys()


def test_first_takes_queries_in_natural_order(data: Path) -> None:
    assert list(load_set(SET, "dev", data, first=10, relevant=2).queries)[-1] == "s-11"
    assert sorted(["a-117", "a-30", "a-10"], key=natural_key) == ["a-10", "a-30", "a-117"]


def test_the_shipped_catalog_needs_no_data_folder() -> None:
    found = load_set(SAMPLE, "synthetic")
    assert found.corpus.is_file()
    assert len(found.queries) > 100
    with pytest.raises(DataError, match="AISLE_DATA"):
        load_set("icecat", "dev")


def test_queries_and_qrels_can_be_replaced(data: Path, tmp_path: Path) -> None:
    (tmp_path / "q.tsv").write_text("mine\tred phone\n")
    (tmp_path / "j.txt").write_text("mine 0 red-phone 3\nother 0 red-phone 3\n")
    done = bench_run(data, "--queries", tmp_path / "q.tsv", "--qrels", tmp_path / "j.txt", "--json")
    result = json.loads(done.stdout)
    assert result["systems"]["bm25"]["per_query"]["mine"]["nDCG@10"] == 1.0
    assert (result["n_queries"], result["n_judged_not_asked"]) == (1, 1)


def test_a_failing_system_stops_the_run_and_keeps_what_is_done(data: Path) -> None:
    done = bench_run(data, systems=f"bm25,{__name__}:Broken,dense")
    assert done.exit_code == 1
    message = " ".join(done.stderr.split())
    assert "Broken" in message
    assert "a product twice" in message
    result = json.loads((data.parent / "out/r.json").read_text())
    assert list(result["systems"]) == ["bm25"]
    assert not result["complete"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--systems", "bm52"), "there is no system 'bm52'"),
        (("--systems", "bm25,bm25"), "each once"),
        (("--systems", "nowhere:System"), "cannot be imported"),
        (("--split", "night"), "queries.dev.tsv"),
        (("--set", "moon"), SET),
    ],
)
def test_wrong_arguments_are_explained(data: Path, arguments: tuple[str, str], said: str) -> None:
    done = bench_run(data, *arguments)
    assert done.exit_code == 1
    assert said in " ".join(done.stderr.split())


@pytest.mark.parametrize("text", ["q1 no tab\n", "q1\t\n", "q1\ta\nq1\tb\n"])
def test_bad_query_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "q.tsv").write_text(text)
    with pytest.raises(DataError, match="line"):
        read_queries(tmp_path / "q.tsv")


@pytest.mark.parametrize("text", ["q1 0 p\n", "q1 0 p 1.5\n", "q1 0 p 1\nq1 0 p 2\n"])
def test_bad_qrels_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "j.txt").write_text(text)
    with pytest.raises(DataError, match="line"):
        read_qrels(tmp_path / "j.txt")


def test_every_named_system_exists() -> None:
    for name in SYSTEMS:
        assert callable(factory(name))


@pytest.mark.parametrize("script", ["run", "selection"])
def test_scripts_teach_from_the_repository_root(script: str) -> None:
    command = [sys.executable, f"benchmarks/{script}.py", "--help"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert "--seed" in done.stdout


def test_bm25s_as_a_peer_in_a_script(data: Path) -> None:
    pytest.importorskip("bm25s")
    pytest.importorskip("numba")
    command = [
        sys.executable, "benchmarks/run.py", "--data", str(data), "--set", SET, "--relevant", "2", "--systems", "bm25s",
        "--pool", "--json", "--out", str(data.parent / "peer.json"),
    ]  # fmt: skip
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}  # compiling takes longer than the whole test
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True, env=environment)
    [system] = json.loads(done.stdout)["systems"].values()
    assert system["metrics"]["nDCG@10"] == pytest.approx(10 / 11)
    assert system["build"]["products"] == 20
    assert system["build"]["bytes"] is None


def test_a_variant_replaces_settings_only_where_it_says(data: Path, tmp_path: Path) -> None:
    config = EngineConfig(search=SearchConfig(field_tie=0.7))
    bench = Workbench(data / SET / "corpus.jsonl.gz", config, tmp_path / "index", say=Bars(Console()).say)
    system = Variant(search={"retrievers": ("lexical",)}, index={"encoder": ""})(bench)
    assert system.engine.config.field_tie == 0.7
    assert system.engine.config.retrievers == ("lexical",)
    assert [product_id for product_id, _ in system.rank("red phone", 1)] == ["red-phone"]
