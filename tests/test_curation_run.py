"""A curation is whole or not there, adds up, invents nothing, and has nothing left to do the second time."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from engine.cli import app
from engine.errors import AisleError, ConfigError
from tests.curation_rows import PRODUCTS, page, write_catalog, write_lines
from training.curation.report import Flow, Report, Tally
from training.curation.rows import Impressions, Rows
from training.curation.run import EXAMPLES, MANIFEST, PAGE, REPORT, CurationConfig, Manifest, curate
from training.curation.run import PRODUCTS as CATALOG
from training.data.examples import ExamplesError, read_judgments

STEPS = [
    "sessions",
    "personal",
    "unsafe",
    "off-domain",
    "duplicate-queries",
    "duplicate-products",
    "clicks",
    "contradictions",
]


def config(folder: Path, steps: list[dict[str, Any]], inputs: list[dict[str, Any]]) -> CurationConfig:
    tables = {
        "name": "made",
        "input": [{k: v if k in ("kind", "on_error") else str(folder / v) for k, v in i.items()} for i in inputs],
    }
    return msgspec.convert(tables | {"step": steps}, CurationConfig)


def made(folder: Path, pages: list[dict[str, Any]], steps: list[str], **log: str) -> CurationConfig:
    write_catalog(folder / "catalog.jsonl")
    write_lines(folder / "log.jsonl", pages)
    source = {"kind": "log", "path": "log.jsonl", "catalog": "catalog.jsonl", **log}
    return config(folder, [{"kind": kind} for kind in steps], [source])


def examples(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.open(folder / EXAMPLES)]


PAGES = [
    page("red shoes", ["shoe", "boot"], ["shoe"], session="a", time=0),
    page("red shoes jo@example.com", ["shoe", "boot"], ["shoe"], session="b", time=0),
    page("Red shoes", ["boot", "gone", "shoe"], ["shoe"], session="c", time=0),
]


def test_what_is_published_is_what_the_trainer_reads(tmp_path: Path) -> None:
    report = curate(made(tmp_path, PAGES, STEPS), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        [EXAMPLES, CATALOG, REPORT, PAGE, MANIFEST]
    )
    judgments = read_judgments(tmp_path / "out" / EXAMPLES)
    assert [(j.query, j.product.product_id) for j in judgments] == [("Red shoes", "shoe"), ("Red shoes", "boot")]
    assert judgments[0].label == 1.0 > judgments[1].label
    log = str(tmp_path / "log.jsonl")
    assert [row["from"] for row in examples(tmp_path / "out")] == [{log: [1, 3]}] * 2
    assert json.loads((tmp_path / "out" / REPORT).read_text()) == msgspec.to_builtins(report)
    assert (report.queries, report.pairs, report.products, sum(report.labels)) == (1, 2, 4, 2)


def test_the_report_names_lines_and_no_personal_data(tmp_path: Path) -> None:
    curate(made(tmp_path, PAGES, STEPS), tmp_path / "out")
    written = (tmp_path / "out" / PAGE).read_text()
    assert f"- dropped, personal data: email: 2 impressions (`{tmp_path}/log.jsonl:2`, …)" in written
    assert "product that the catalog does not have: 1 impressions" in written
    everything = b"".join(
        gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for path in (tmp_path / "out").iterdir()
    )
    assert b"jo@" not in everything


def test_the_manifest_has_the_checksums_and_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    settings = made(tmp_path, PAGES, STEPS)
    curate(settings, tmp_path / "one")
    curate(settings, tmp_path / "two")
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    manifest = msgspec.json.decode((tmp_path / "one" / MANIFEST).read_bytes(), type=Manifest)
    assert manifest.config == settings
    assert set(manifest.inputs) == {str(tmp_path / "log.jsonl"), str(tmp_path / "catalog.jsonl")}
    assert set(manifest.files) == {EXAMPLES, CATALOG, REPORT, PAGE}


def test_a_failure_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = made(tmp_path, PAGES, STEPS)
    curate(settings, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def broken(*_: object) -> str:
        raise OSError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr("training.curation.run.markdown", broken)
        with pytest.raises(OSError, match="no space"):
            curate(settings, tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["catalog.jsonl", "log.jsonl", "out"]
    curate(made(tmp_path, PAGES[:1], STEPS), tmp_path / "out")
    assert examples(tmp_path / "out")[0]["from"] == {str(tmp_path / "log.jsonl"): [1]}


def test_a_folder_that_is_no_curated_set_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is there and no curated set; give another --out"):
        curate(made(tmp_path, PAGES, STEPS), tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


def test_nothing_left_is_an_error_that_says_where_it_went(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no pair is left, and nothing was written.*personal data: email"):
        curate(made(tmp_path, PAGES[1:2], STEPS), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_judged_pairs_of_two_files_are_put_together(tmp_path: Path) -> None:
    write_catalog(tmp_path / "catalog.jsonl")
    (tmp_path / "queries.tsv").write_text("1\tred shoes\n")
    (tmp_path / "qrels.txt").write_text("1 0 shoe 1\n1 0 boot 0\n")
    product = {"product_id": "shoe", "title": "Red running shoes"}
    rows = [{"query": "red shoes", "query_id": "9", "label": label, "product": product} for label in (0.6, 0.8)]
    write_lines(tmp_path / "more.jsonl", [*rows, rows[0] | {"judged": False}])
    judged = {"kind": "judged", "catalog": "catalog.jsonl", "queries": "queries.tsv", "qrels": "qrels.txt"}
    more = {"kind": "examples", "path": "more.jsonl"}
    report = curate(config(tmp_path, [], [judged, more]), tmp_path / "out")
    shoe, boot = examples(tmp_path / "out")
    assert (shoe["label"], boot["label"]) == (pytest.approx(0.8), 0.0)
    assert shoe["from"] == {str(tmp_path / "qrels.txt"): [1], str(tmp_path / "more.jsonl"): [1, 2]}
    read, merge = report.steps
    assert read.flows[0].dropped["pair that nobody judged"].count == 1
    assert merge.flows[0].n_merged == 2


def test_a_bad_row_stops_or_is_counted(tmp_path: Path) -> None:
    bad = [*PAGES, {"query": "red shoes", "product_id": "shoe", "position": -1}]
    with pytest.raises(ExamplesError, match=r"log.jsonl, line 4, field 'position': is -1"):
        curate(made(tmp_path, bad, STEPS), tmp_path / "out")
    report = curate(made(tmp_path, bad, STEPS, on_error="skip"), tmp_path / "out")
    assert report.steps[0].flows[0].dropped["row that cannot be used (position)"].examples == [
        f"{tmp_path}/log.jsonl:4"
    ]


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([], "kind 'log' has no labels; add a .*step.* of kind 'clicks'"),
        ([{"kind": "clicks"}, {"kind": "sessions"}], "'sessions' comes after 'clicks'"),
        ([{"kind": "clicks", "floor": 0}], r"floor is 0.*above 0.*\$.step\[0\]"),
        ([{"kind": "clicks", "propensities": [1.0, 0.0]}], "numbers above 0"),
        ([{"kind": "clicks", "flor": 1}], r"unknown field `flor` - at `\$.step\[0\]`"),
        ([{"kind": "clix"}], "Invalid value 'clix'"),
        ([{"kind": "off-domain", "max_unknown": 1}], "max_unknown is 1"),
        ([{"kind": "duplicate-queries", "jaccard": 0.2}], "jaccard is 0.2"),
        ([{"kind": "contradictions", "spread": 1}], "spread is 1"),
        ([{"kind": "sessions", "max_click_share": 2}], "max_click_share is 2"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(steps: list[dict[str, Any]], said: str, tmp_path: Path) -> None:
    source = {"kind": "log", "path": "log.jsonl", "catalog": "catalog.jsonl"}
    with pytest.raises(msgspec.ValidationError, match=said):
        config(tmp_path, steps, [source])


def test_an_input_that_is_not_there_is_named(tmp_path: Path) -> None:
    settings = made(tmp_path, PAGES, STEPS)
    (tmp_path / "catalog.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"cannot read .*catalog.jsonl: No such file"):
        curate(settings, tmp_path / "out")


def test_a_step_that_loses_rows_without_counting_them_is_found() -> None:
    before = Rows(("f",), Impressions.none(), (), {p.product_id: p for p in PRODUCTS})
    with pytest.raises(RuntimeError, match="step 'leaky' counts its products wrongly"):
        Tally("leaky", ("f",)).report(before, Rows(("f",), Impressions.none(), (), {}))


# The command


def test_the_command_teaches_tells_and_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parent.parent)
    runner = CliRunner()
    said = runner.invoke(app, ["curate", "--help"]).output
    assert all(kind in said for kind in STEPS)
    done = runner.invoke(app, ["curate", "training/recipes/curate.toml", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert 'kind = "examples"' in done.output
    report = msgspec.json.decode((tmp_path / "out" / REPORT).read_bytes(), type=Report)
    rules = {
        rule for step in report.steps for flow in step.flows for rule in (*flow.dropped, *flow.merged, *flow.changed)
    }
    assert {"clicks everything", "off-domain", "duplicate query", "now in a pair"} <= rules
    assert report.propensities
    assert report.propensities.method == "all-pairs"
    assert report.propensities.examination[3] < 0.5
    (tmp_path / "bad.toml").write_text("name = 'x'\n")
    done = runner.invoke(app, ["curate", str(tmp_path / "bad.toml")])
    assert done.exit_code == 2
    assert "missing required field `input`" in done.output


def test_curation_needs_no_torch() -> None:
    code = "import sys, training.curation.run; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# Properties

TEXTS = [
    "red shoes", "Red  shoes", "red shose", "running shoes", "winter boots", "phone case", "jo@example.com", "weather",
    "rain cape 2",
]  # fmt: skip
IDS = [product.product_id for product in PRODUCTS]
texts, grades = st.sampled_from(TEXTS), st.sampled_from([0.0, 0.3, 0.6, 1.0])
pairs = st.lists(st.tuples(texts, st.sampled_from(IDS), grades), min_size=1, max_size=25)
shown = st.lists(st.sampled_from([*IDS, "gone"]), min_size=1, max_size=5, unique=True)
searches = st.tuples(texts, shown, st.integers(0, 31), st.sampled_from("abc"), st.integers(0, 99))
CLEANING = [{"kind": kind} for kind in STEPS if kind not in ("sessions", "clicks")]


def judged(folder: Path, rows: list[tuple[str, str, float]]) -> CurationConfig:
    write_catalog(folder / "catalog.jsonl")
    names = {text: f"q{i}" for i, text in enumerate(dict.fromkeys(query for query, _, _ in rows))}
    (folder / "queries.tsv").write_text("".join(f"{name}\t{text}\n" for text, name in names.items()))
    (folder / "qrels.txt").write_text(
        "".join(f"{names[query]} 0 {product} {label!r}\n" for query, product, label in rows)
    )
    source = {"kind": "judged", "catalog": "catalog.jsonl", "queries": "queries.tsv", "qrels": "qrels.txt"}
    return config(folder, CLEANING, [source])


def curated(settings: CurationConfig, folder: Path) -> tuple[list[tuple[str, str, float]], Report | None]:
    try:
        report = curate(settings, folder)
    except AisleError as error:
        if not any(said in str(error) for said in ("no pair is left", "no row that shows a product")):
            raise
        return [], None
    return [(row["query"], row["product"]["product_id"], row["label"]) for row in examples(folder)], report


@settings(max_examples=25, deadline=None)
@given(pairs)
def test_curation_is_idempotent_and_invents_nothing(rows: list[tuple[str, str, float]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        once, _ = curated(judged(folder, rows), folder / "once")
        if not once:
            return
        assert len(once) <= len(rows)
        assert len({(query, product) for query, product, _ in once}) == len(once)
        given = {(query, product) for query, product, _ in rows}
        for row, (query, product, label) in zip(examples(folder / "once"), once, strict=True):
            lines = row["from"][str(folder / "qrels.txt")]
            of = [rows[line - 1] for line in lines]
            assert query in {text for text, _, _ in rows}
            assert {p for _, p, _ in of} == {product}
            assert min(y for _, _, y in of) - 1e-9 <= label <= max(y for _, _, y in of) + 1e-9
            assert all((text, product) in given for text, _, _ in of)
        twice, again = curated(judged(folder, once), folder / "twice")
        assert twice == once
        assert again is not None
        lost = sum(flow.n_dropped + flow.n_merged for step in again.steps for flow in step.flows)
        assert lost == 0


@settings(max_examples=25, deadline=None)
@given(st.lists(searches, min_size=1, max_size=20))
def test_counts_of_a_log_add_up_to_the_last_row(found: list[tuple[str, list[str], int, str, int]]) -> None:
    pages = [
        page(query, ids, [p for i, p in enumerate(ids) if clicks >> i & 1], session=session, time=time)
        for query, ids, clicks, session, time in found
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows, report = curated(made(folder, pages, STEPS), folder / "out")
        if report is None:
            return
        flows: dict[str, list[Flow]] = {}
        for step in report.steps:
            for flow in step.flows:
                assert flow.is_balanced
                flows.setdefault(flow.unit, []).append(flow)
        for of_unit in flows.values():
            assert all(a.rows_out == b.rows_in for a, b in pairwise(of_unit))
        assert flows["impressions"][0].added == sum(len(p["products"]) for p in pages)
        assert flows["pairs"][-1].rows_out == len(rows) == report.pairs
        origins = sum(len(line) for row in examples(folder / "out") for line in row["from"].values())
        merged = sum(flow.n_merged for flow in flows["impressions"])
        assert origins <= merged
        assert all(0 <= label <= 1 for _, _, label in rows)
