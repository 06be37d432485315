"""The selection of search settings as a command, on two small made-up shops; and what it is made of."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

pytest.importorskip("ir_measures")
pytest.importorskip("matplotlib")
pytest.importorskip("bm25s")

from typer import Typer
from typer.testing import CliRunner, Result

from benchmarks import data as sets
from benchmarks.catalogs import Catalog, Catalogs, Plan, Source, is_sparse, objective, parse_sources, plan, read_source
from benchmarks.families import FAMILIES, NOT_TUNED, settings_of
from benchmarks.indexes import Workbench
from benchmarks.metrics import JUDGED, JUDGED_ONLY, NDCG, RECALL
from benchmarks.replay import Settings
from benchmarks.selection import main
from benchmarks.stock import StockRrf
from engine.catalog import read_catalog
from engine.config import LEXICAL_FIELDS, EngineConfig, IndexConfig, SearchConfig
from engine.errors import ConfigError
from tests.encoders import write_encoder
from tests.rerankers import write_model

NOUNS = ("phone", "tablet", "washer", "fridge", "monitor")
COLOURS = ("red", "blue", "green", "black")
SHOPS = {"synthetic_first": "Acme", "synthetic_second": "Globex"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shops of twenty products; of each query the colour and noun are wanted, the noun alone is nearly right."""
    root = tmp_path_factory.mktemp("selection")
    for name, brand in SHOPS.items():
        shop = root / "data" / name
        shop.mkdir(parents=True)
        pairs = [(colour, noun) for noun in NOUNS for colour in COLOURS]
        with gzip.open(shop / "corpus.jsonl.gz", "wt") as file:
            for place, (colour, noun) in enumerate(pairs):
                title, text = f"{brand} {colour} {noun}", f"A {noun} in {colour}."
                row = {"product_id": f"{colour}-{noun}", "title": title, "category": ["Home", noun]}
                file.write(json.dumps({**row, "popularity": place, "description": text}) + "\n")
        for split, asked in (("train", pairs[::2]), ("dev", pairs[1::4])):
            queries = [(f"{split}-{i}", colour, noun) for i, (colour, noun) in enumerate(asked)]
            (shop / f"queries.{split}.tsv").write_text("".join(f"{i}\t{c} {n}\n" for i, c, n in queries))
            lines = [
                f"{i} 0 {c}-{noun} {3 if c == colour else 1}\n" for i, colour, noun in queries for c in COLOURS[:3]
            ]
            (shop / f"qrels.{split}.txt").write_text("".join(lines))
    return root


@pytest.fixture(scope="module")
def config(folder: Path) -> EngineConfig:
    """With models in miniature."""
    products = list(read_catalog(folder / "data" / "synthetic_first" / "corpus.jsonl.gz"))
    encoder = write_encoder(folder / "encoder", products)
    reranker = write_model(folder / "reranker", products)
    index = IndexConfig(encoder=str(encoder), reranker=str(reranker))
    made = EngineConfig(index=index, search=SearchConfig(threads=1, rerank_depth=5))
    made.write(folder / "config.toml")
    return made


@pytest.fixture(autouse=True)
def gradings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SHOPS:
        monkeypatch.setitem(sets.GRADINGS, name, sets.Grading(relevant=2))


def choose(folder: Path, name: str, *more: object) -> Result:
    app = Typer()
    app.command()(main)
    arguments = [
        "--sets", ",".join(f"{shop}:train+dev@12" for shop in SHOPS), "--data", folder / "data", "--trials", 2,
        "--index", folder / "index", "--config", folder / "config.toml", "--serial", "--out", folder / f"{name}.toml",
        *more,
    ]  # fmt: skip
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def journal(folder: Path, config: EngineConfig) -> dict[str, Any]:
    """Of one run of the command, whose files stay in ``folder``."""
    with pytest.MonkeyPatch.context() as patch:
        for name in SHOPS:
            patch.setitem(sets.GRADINGS, name, sets.Grading(relevant=2))
        done = choose(folder, "chosen")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads((folder / "chosen.json").read_text())
    return found


def test_the_command_writes_what_it_chose_and_how_sure_it_is(
    folder: Path, config: EngineConfig, journal: dict[str, Any]
) -> None:
    steps = journal["result"]
    assert [step["family"].split(" + ")[-1] for step in steps] == [family.name for family in FAMILIES]
    for step in steps:
        assert step["left_out_by_catalog"].keys() == step["values_by_left_out"].keys() == SHOPS.keys()
        assert step["interval"][0] <= step["left_out"] <= step["interval"][1]
        assert step["left_out"] == pytest.approx(np.mean(list(step["left_out_by_catalog"].values())))
        assert (step["verdict"] == "kept") == (step is steps[0] or step["difference"] > step["standard_error"])
    last = [step for step in steps if step["verdict"] == "kept"][-1]
    written = EngineConfig.read(folder / "chosen.toml")
    assert written.index == config.index
    assert written.search == settings_of(last["values"], Settings(search=config.search)).search
    page = (folder / "chosen.md").read_text()
    assert all(name in page for name in ("stock-rrf", "chosen, left out", "in sample", "| rrf |", *SHOPS))
    assert (folder / "chosen.png").read_bytes().startswith(b"\x89PNG")


def test_it_goes_on_where_it_was_stopped_and_only_there(
    folder: Path, journal: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = []
    plain = Catalog.measure
    monkeypatch.setattr(Catalog, "measure", lambda self, settings: searched.append(1) or plain(self, settings))
    assert choose(folder, "chosen", "--resume").exit_code == 0
    assert json.loads((folder / "chosen.json").read_text()) == journal
    # Of each family the rankings left out and in sample, the simplest, and the three systems compared: no trial.
    assert len(searched) == len(SHOPS) * (2 * len(FAMILIES) + 1 + 3)
    refused = choose(folder, "chosen", "--resume", "--seed", 2)
    assert refused.exit_code == 1
    assert "seed changed since" in " ".join(refused.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--out", "x.json"), "name a .toml file"),
        (("--sets", "synthetic_first:train"), "2 or more sets"),
        (("--sets", "a:x,b:"), "write SET:SPLIT"),
    ],
)
def test_wrong_arguments_are_explained(
    folder: Path, config: EngineConfig, arguments: tuple[str, str], said: str
) -> None:
    done = choose(folder, "wrong", *arguments)
    assert done.exit_code == 1
    assert said in " ".join(done.stderr.split())


def test_processes_give_the_figures_of_one(folder: Path, config: EngineConfig, tmp_path: Path) -> None:
    plans: dict[str, Plan] = {}
    for name in SHOPS:
        found = read_source(Source(name, ("dev",)), folder / "data", 1)
        (tmp_path / name).mkdir()
        plans[name] = plan(found, Workbench(found.corpus, config, folder / "index"), tmp_path / name)
    settings = settings_of({"rerank_depth": 5, "rerank_weight": 0.5}, Settings(search=config.search))
    asked = [(name, settings) for name in reversed(list(SHOPS))]
    with Catalogs(plans, processes=False) as here:
        expected, stages = here.measure(asked), here.stages(settings)
    with Catalogs(plans, processes=True) as beside:
        found, others = beside.measure(asked), beside.stages(settings)
    for a, b in zip([*expected, *stages.values()], [*found, *others.values()], strict=True):
        assert a.keys() == b.keys()
        for metric in a:
            np.testing.assert_array_equal(a[metric], b[metric])
    assert {"lexical", "dense", "fusion", "rerank", "final"} <= stages["synthetic_first"].keys()
    assert expected[0][NDCG].mean() > 0.9
    assert stages["synthetic_first"]["lexical"].mean() > 0.9


def test_sparse_judgments_give_those_judged_half_a_say() -> None:
    figures = {NDCG: np.array([0.2]), JUDGED_ONLY: np.array([0.8]), RECALL: np.array([1.0]), JUDGED: np.array([0.3])}
    assert is_sparse(figures)
    assert not is_sparse({**figures, JUDGED: np.array([0.8])})
    assert objective(figures, sparse=False) == pytest.approx([0.7])
    assert objective(figures, sparse=True) == pytest.approx([1.0])


def test_splits_of_a_set_are_one_and_a_draw_of_them_is_seeded(folder: Path) -> None:
    def ids(n: int | None, seed: int) -> list[str]:
        found = read_source(Source("synthetic_first", ("train", "dev"), n), folder / "data", seed)
        assert list(found.qrels) == list(found.queries)
        return list(found.queries)

    assert ids(None, 1) == [*(f"train-{i}" for i in range(10)), *(f"dev-{i}" for i in range(5))]
    assert ids(6, 1) == ids(6, 1) != ids(6, 2)
    assert {i.partition("-")[0] for i in ids(12, 1)} == {"train", "dev"}
    assert ids(99, 1) == ids(None, 1)


def test_sources_are_parsed() -> None:
    assert parse_sources("a:train+dev, b:dev@60") == [Source("a", ("train", "dev")), Source("b", ("dev",), 60)]
    assert parse_sources("a:dev") == [Source("a", ("dev",))]
    for wrong in ("a,b:dev", "a:dev@x,b:dev", "a:dev,a:train", "a:dev", ""):
        with pytest.raises(ConfigError, match="--sets"):
            parse_sources(wrong, least=2)


def test_every_numeric_setting_is_in_one_family_or_set_aside() -> None:
    ranges = [name for family in FAMILIES for name in family.ranges]
    assert len(set(ranges)) == len(ranges)
    settings = msgspec.to_builtins(Settings())
    numeric = {f"field_weights.{name}" for name in LEXICAL_FIELDS}
    for table, values in settings.items():
        prefix = "" if table == "search" else f"{table}."
        numeric |= {prefix + k for k, v in values.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    assert numeric == set(ranges) | NOT_TUNED
    assert not set(ranges) & NOT_TUNED


def test_families_hold_valid_settings_from_end_to_end() -> None:
    for unit in (0.0, 0.5, 1.0):
        values = {name: span.value(unit) for family in FAMILIES for name, span in family.ranges.items()}
        switches = {name: value for family in FAMILIES for name, value in family.switches.items()}
        found = settings_of({**switches, **values}, Settings())
        assert found.search.fusion == "weighted"
        assert found.search.field_weights["brand"] == values["field_weights.brand"]
        assert found.search.field_weights["title"] == 1.0
        assert found.router.voters == values["router.voters"]
        assert found.guidance.wanted_share == values["guidance.wanted_share"]
    for family in FAMILIES:
        assert family.ranges.keys() == family.start.keys()
        assert all(span.low <= family.start[name] <= span.high for name, span in family.ranges.items())


def test_stock_parts_find_what_they_should(folder: Path, config: EngineConfig) -> None:
    corpus = folder / "data" / "synthetic_first" / "corpus.jsonl.gz"
    system = StockRrf(Workbench(corpus, config, folder / "index"))
    for colour in COLOURS:
        for noun in NOUNS:
            found = system.rank(f"{colour} {noun}s", 5)
            assert found[0] == (f"{colour}-{noun}", pytest.approx(2 / 61)), "first by words and by meaning"
    assert len(system.rank("red phone", 3)) == 3
    allowed = ["blue-phone", "green-fridge"]
    assert [product_id for product_id, _ in system.rank("red phone", 5, allowed)] == allowed
