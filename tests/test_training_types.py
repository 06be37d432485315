"""Runs of a query classifier from end to end, on words whose type depends on the locale."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")

from safetensors.numpy import load_file
from typer.testing import CliRunner

from engine.cli import app
from engine.errors import ConfigError, ModelError
from engine.product import to_json
from qpt.classifier import QueryTypes
from qpt.examples import LabelledQuery
from qpt.transformer_head import TransformerHead
from tests.conftest import synthetic_products
from tests.training_sets import write_base, write_set
from training.data.types import LabelledQueries, split
from training.export.reranker import FP32, INT8
from training.models.classifier import TypeModel
from training.report import read_evaluations
from training.run import Outcome, train
from training.tasks.types import TypesConfig, type_quality

WORDS = {"Phones": "phone mobile", "Fridges": "fridge cooler", "Lamps": "lamp light", "Burners": "burner flame"}
TORCH = {"en-US": "Burners", "en-GB": "Lamps"}  # what a torch is
MODIFIERS = ["red", "blue", "small", "large", "cheap", "acme", "globex", "new"]


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = [*WORDS, *WORDS.values(), *MODIFIERS, "torch jumpers"]
    return write_base(tmp_path_factory.mktemp("base"), texts)


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every word with every modifier, in two locales."""
    rows = ["query\ttype_id\tlocale"]
    for locale, torch_type in TORCH.items():
        for modifier in MODIFIERS:
            rows += [f"{modifier} {word}\t{name}\t{locale}" for name, said in WORDS.items() for word in said.split()]
            rows.append(f"{modifier} torch\t{torch_type}\t{locale}")
    path = tmp_path_factory.mktemp("labels") / "labels.tsv"
    path.write_text("\n".join(rows) + "\n")
    return path


def settings(base: Path, labels: Path, **more: Any) -> TypesConfig:
    """A configuration that learns the labels in a second or two; ``more`` are tables that are merged into it."""
    tables: dict[str, Any] = {
        "name": "tiny-types",
        "seed": 5,
        "taxonomy": {"kind": "names"},
        "source": [{"kind": "labels", "path": str(labels), "locale": "locale", "license": "made up"}],
        "model": {"base": str(base), "query_tokens": 6, "freeze_embeddings": False},
        "dev": {"share": 0.25},
        "training": {
            "epochs": 8, "queries_per_batch": 16, "learning_rate": 0.003, "threads": 1, "bf16": "off", "patience": 0,
            "distance": 1.0,
        },
    }  # fmt: skip
    for name, value in more.items():
        tables[name] = tables[name] | value if isinstance(tables.get(name), dict) else value
    return msgspec.convert(json.loads(json.dumps(tables)), TypesConfig)


@pytest.fixture(scope="module")
def done(base: Path, labels: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return train(settings(base, labels), tmp_path_factory.mktemp("run"))


def test_it_learns_queries_it_has_not_seen_and_what_a_locale_changes(done: Outcome) -> None:
    evaluations = read_evaluations(done.directory)
    assert done.best.quality.dev["dev"]["accuracy@1"] > 0.9  # chance has 0.25
    assert evaluations[0].loss > evaluations[-1].loss
    assert done.best.quality.score == max(evaluation.dev["dev"]["MRR"] for evaluation in evaluations)
    head = TransformerHead(done.result.directory)
    for locale, wanted in TORCH.items():
        likely = head.probabilities(["torch"], np.zeros((1, 0), np.float32), [locale])[0]
        assert head.types[likely.argmax()] == wanted
    likely = head.probabilities(["fridge"] * 2, np.zeros((2, 0), np.float32), ["", "xx-YY"])
    assert {head.types[row.argmax()] for row in likely} == {"Fridges"}
    np.testing.assert_array_equal(likely[0], likely[1])  # a locale that nobody knows is none


def test_the_run_folder_tells_the_whole_story(done: Outcome, base: Path, labels: Path) -> None:
    run = done.directory
    assert {path.name for path in run.iterdir()} == {
        "config.toml", "data.json", "metrics.jsonl", "curves.png", "checkpoint.safetensors", "best", "best.json",
        "classifier",
    }  # fmt: skip
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert TypesConfig.read(run / "config.toml") == settings(base, labels)
    data = msgspec.json.decode((run / "data.json").read_bytes())
    assert data["queries"] + data["dev_queries"] == 8 * 9 * 2
    card = (run / "classifier" / "README.md").read_text()
    for part in ("made up", data["sha256"][str(labels)], "same best type", "conformal scores", "| accuracy@1 |"):
        assert part in card
    assert str(base.parent) not in card


def test_the_export_is_the_trained_model_and_calibrated(done: Outcome) -> None:
    parity, card = done.result.parity, TransformerHead(done.result.directory).card
    assert parity.forms[FP32].max_difference < 1e-3
    assert parity.forms[FP32].same_best == 1.0
    assert parity.kept == (INT8 if parity.loss(INT8) <= 0.01 else FP32)
    assert len(card.conformal_scores) == parity.n_queries
    assert card.temperature == done.result.calibration.temperature
    answer = QueryTypes(head := TransformerHead(done.result.directory), head.reader).ask("cheap mobile", "en-US")
    assert answer.chosen is not None
    assert answer.chosen.name == "Phones"
    assert "Phones" in answer.conformal_set


def test_a_tolerance_that_8_bits_miss_keeps_full_precision(
    done: Outcome, base: Path, labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ruin(model: Path, out: Path, calibration: Any) -> None:
        import onnx
        from onnx import numpy_helper

        graph = onnx.load(str(model))
        for tensor in graph.graph.initializer:
            if tensor.dims and tensor.data_type == onnx.TensorProto.FLOAT:
                tensor.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(tensor), tensor.name))
        onnx.save(graph, str(out))

    monkeypatch.setattr("training.export.types.to_static_8_bits", ruin)
    again = train(settings(base, labels, training={"epochs": 1}), tmp_path / "run")
    assert again.result.parity.kept == FP32
    assert again.result.model_bytes == again.result.fp32_bytes
    TransformerHead(again.result.directory)
    monkeypatch.setattr("training.export.types._MAX_DEVIATION", -1.0)
    with pytest.raises(ModelError, match="is not the original"):
        train(settings(base, labels, training={"epochs": 1}), tmp_path / "run")
    TransformerHead(again.result.directory)  # which is as it was


def test_a_killed_run_goes_on_to_the_same_weights(base: Path, labels: Path, tmp_path: Path) -> None:
    config = settings(base, labels, training={"epochs": 2, "checkpoint_minutes": 0.0})
    train(config, tmp_path / "whole")

    def kill(task: str, done: int, total: int, detail: str = "") -> None:
        if task == "training" and done == 11:  # in the middle of an epoch
            raise Killed

    with pytest.raises(Killed):
        train(config, tmp_path / "killed", progress=kill)
    train(config, tmp_path / "killed")
    left, right = (load_file(tmp_path / run / "checkpoint.safetensors") for run in ("whole", "killed"))
    for tensor in left:
        np.testing.assert_array_equal(left[tensor], right[tensor], err_msg=tensor)
    with pytest.raises(ConfigError, match=r"another .*training\.smoothing"):
        train(settings(base, labels, training={"smoothing": 0.2}), tmp_path / "killed")


def test_what_is_kept_lies_on_the_way_from_the_base_model(base: Path, labels: Path, tmp_path: Path) -> None:
    config = settings(base, labels, training={"epochs": 1, "distance": 0.25})
    train(config, tmp_path / "run")
    began = load_file(base / "model.safetensors")
    ended = load_file(tmp_path / "run" / "checkpoint.safetensors")
    kept = load_file(tmp_path / "run" / "best" / "model.safetensors")
    name = "encoder.layer.0.attention.self.query.weight"
    wanted = 0.75 * began[name] + 0.25 * ended[f"weights/encoder.{name}"]
    np.testing.assert_allclose(kept[name], wanted, atol=1e-6)
    assert np.abs(kept[name] - began[name]).max() > 1e-5


def test_input_that_changed_under_a_run_is_noticed(base: Path, labels: Path, tmp_path: Path) -> None:
    copy = tmp_path / "labels.tsv"
    copy.write_text(labels.read_text())
    train(settings(base, copy, training={"epochs": 1}), tmp_path / "run")
    copy.write_text(labels.read_text() + "green phone\tPhones\ten-US\n")
    with pytest.raises(ConfigError, match=r"labels\.tsv changed since this run began"):
        train(settings(base, copy, training={"epochs": 1}), tmp_path / "run")


def test_lora_trains_few_weights_and_is_merged_when_saved(base: Path, labels: Path, tmp_path: Path) -> None:
    lora = {"method": "lora", "rank": 4, "layers": [1], "freeze_embeddings": True}
    done = train(settings(base, labels, model=lora, training={"learning_rate": 0.02, "epochs": 5}), tmp_path / "run")
    assert done.best.quality.dev["dev"]["accuracy@1"] > 0.6
    kept = load_file(tmp_path / "run" / "best" / "model.safetensors")
    assert not any("lora" in name or "layer.1" in name for name in kept)
    trained = load_file(tmp_path / "run" / "checkpoint.safetensors")
    assert all(re.search(r"lora_|output|prior|locales", name) for name in trained if name.startswith("weights/"))


def test_outputs_begin_as_names_so_that_types_without_examples_can_be_answered(base: Path, labels: Path) -> None:
    names = [["Phones", "Phones mobile"], ["Jumpers"], []]
    for output, wanted in (("names", 1.0), ("random", 0.0)):
        chosen = settings(base, labels, model={"output": output}).model
        model = TypeModel.load(chosen, names, np.full(3, 1 / 3, np.float32), ["en-US"], output=output)
        best = model.score(model.sequences(["phones", "jumpers"], ["", ""])).argmax(axis=1)
        assert (best.tolist() == [0, 1]) == (wanted == 1.0)


def test_judged_sets_and_catalogs_are_sources(base: Path, tmp_path: Path) -> None:
    data = write_set(tmp_path / "set")
    (tmp_path / "products.jsonl").write_bytes(b"\n".join(map(to_json, synthetic_products())))
    catalog = str(data / "corpus.jsonl")
    judged = {
        "kind": "judged", "catalog": catalog, "queries": str(data / "queries.tsv"), "qrels": str(data / "qrels.txt"),
        "labels": {"3": 1.0, "1": 0.3, "0": 0.0},
    }  # fmt: skip
    config = settings(
        base, tmp_path, taxonomy={"kind": "catalog", "catalog": catalog}, dev={"source": [judged]},
        source=[{"kind": "catalog", "catalog": catalog, "most": 60}, judged], training={"epochs": 1},
    )  # fmt: skip
    done = train(config, tmp_path / "run")
    report = msgspec.json.decode((tmp_path / "run" / "data.json").read_bytes())
    assert report["dropped"] > 0
    assert TypesConfig.read(tmp_path / "run" / "config.toml") == config
    assert "Mobiles > Phones" in TransformerHead(done.result.directory).types


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"source": []}, "source is empty"),
        ({"dev": {"share": 1.0}}, "share is 1.0"),
        ({"training": {"smoothing": 1.5}}, "smoothing is 1.5"),
        ({"training": {"distance": 0.0}}, "distance is 0.0"),
        ({"model": {"layers": [1, 0]}}, "it must rise"),
        ({"tolerance": 2.0}, "tolerance is 2.0"),
        ({"taxonomy": {"kind": "trees"}}, "trees"),
    ],
)
def test_settings_that_cannot_work_are_refused(base: Path, labels: Path, change: Any, complaint: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=complaint):
        settings(base, labels, **change)


def test_examples_that_do_not_fit_are_named(base: Path, labels: Path, tmp_path: Path) -> None:
    tree = tmp_path / "google.txt"
    tree.write_text("1 - Phones\n2 - Fridges\n")
    with pytest.raises(ConfigError, match=r"4 types of 144 examples are not in the taxonomy, such as 'Burners'"):
        train(
            settings(base, labels, taxonomy={"kind": "google", "files": {"en-US": str(tree)}}), tmp_path / "run"
        )  # fmt: skip
    few = tmp_path / "few.tsv"
    few.write_text("query\ttype_id\tlocale\nphone\tPhones\t\nlamp\tLamps\t\n")
    with pytest.raises(ConfigError, match="held out"):
        train(settings(base, few), tmp_path / "other")
    with pytest.raises(ConfigError, match=r"model\.query_tokens 80"):
        train(settings(base, labels, model={"query_tokens": 80}), tmp_path / "long")


def test_a_query_with_several_types_is_one_with_soft_targets() -> None:
    examples = [
        LabelledQuery("Red phone", "a", 3.0), LabelledQuery("red  PHONE", "b", 1.0), LabelledQuery("case", "b", 0.25),
    ]  # fmt: skip
    queries = LabelledQueries.of(examples, ["a", "b"])
    assert queries.queries == ["Red phone", "case"]
    np.testing.assert_allclose(queries.shares, [[0.75, 0.25], [0.0, 1.0]])
    np.testing.assert_allclose(queries.importance, [1.0, 0.25])
    quality = type_quality(np.array([[0.0, 2.0], [1.0, 0.0]], np.float32), queries)
    assert (quality["accuracy@1"], quality["recall@3"], quality["MRR"]) == (0.5, 1.0, 0.75)
    for example in (LabelledQuery(" ", "a"), LabelledQuery("x", "c"), LabelledQuery("x", "a", 0.0)):
        with pytest.raises(ConfigError, match="it must have words, one of the 2 types"):
            LabelledQueries.of([example], ["a", "b"])


def test_queries_of_the_same_stems_stay_together() -> None:
    queries = LabelledQueries.of(
        [LabelledQuery(f"{n} {word}", "a") for n in range(9) for word in ("lamp", "lamps")], ["a"]
    )
    folds = split(queries, 3, 0)
    assert (folds[::2] == folds[1::2]).all()
    assert np.bincount(folds).tolist() == [6, 6, 6]


def test_the_command_says_what_came_out(base: Path, labels: Path, tmp_path: Path) -> None:
    settings(base, labels, training={"epochs": 1}).write(tmp_path / "tiny.toml")
    result = CliRunner().invoke(app, ["train", "types", str(tmp_path / "tiny.toml"), "--out", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    for part in ("accuracy@1", "| torch |", "4 types"):
        assert part in result.stdout
