"""Runs from end to end: what is learnt, what is left in the folder, and that a kill changes nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")

import torch
from safetensors.numpy import load_file
from typer.testing import CliRunner

from engine.cli import app
from engine.errors import ConfigError, ModelError
from ranking.cross_encoder import CrossEncoderModel
from tests.conftest import synthetic_products
from tests.training_sets import settings, write_base, write_set
from training.data.pairs import Pairs
from training.data.ranking import taught
from training.data.sources import Group
from training.export.reranker import export
from training.losses import LOSSES
from training.models import find_base
from training.models.bi_encoder import BiEncoder
from training.models.cross_encoder import CrossEncoder
from training.report import read_evaluations
from training.run import Outcome, train
from training.tasks.reranker import RerankerConfig, compare_losses

FILES = {"catalog": "corpus.jsonl", "queries": "queries.tsv", "qrels": "qrels.txt"}
GENERATED = {"kind": "generated", "catalogs": ["c"], "queries": 5}
SAME = {"3": 0.5, "1": 0.5, "0": 0.49}


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("set"))


@pytest.fixture(scope="module")
def done(base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return train(
        settings(base, data, dev={"share": 0.25, "test_share": 0.2}), tmp_path_factory.mktemp("run"), test=True
    )


def test_it_learns_what_a_random_ranking_does_not_know(done: Outcome) -> None:
    first, best = read_evaluations(done.directory)[0], done.best.evaluation
    assert best.score > 0.95  # a random order of these pools has 0.6
    assert done.result is not None
    assert done.result > 0.95
    assert first.loss > best.loss
    assert best.score == pytest.approx(np.mean(list(done.best.quality.per_query["held-out"].values())))


def test_the_run_folder_tells_the_whole_story(done: Outcome, base: Path, data: Path) -> None:
    run = done.directory
    assert {path.name for path in run.iterdir()} == {
        "config.toml", "data", "metrics.jsonl", "curves.png", "checkpoint.safetensors", "best", "best.json",
        "test.json",
    }  # fmt: skip
    assert RerankerConfig.read(run / "config.toml").source[0].license == "made up"
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    made_of = msgspec.json.decode((run / "data" / "data.json").read_bytes())
    assert {Path(path).name for path in made_of["sha256"]} == {"corpus.jsonl", "queries.tsv", "qrels.txt"}
    queries = [made_of["splits"][name][0] for name in ("train", "dev.held-out", "test")]
    assert queries == [13, 6, 5]
    recipe = (run / "best" / "training.json").read_text()
    for part in ("made up", "Loss bce", "| held-out | 6 | 60 |", made_of["sha256"][str(data / "qrels.txt")]):
        assert part in recipe
    for path in [*run.glob("best/*.json"), run / "data" / "data.json"][:-1]:
        assert str(base.parent) not in path.read_text(), path.name


def test_the_best_model_can_be_exported_and_served(done: Outcome, tmp_path: Path) -> None:
    judged = done.directory / "data" / "dev.held-out.jsonl.gz"
    exported = export(done.directory / "best", tmp_path / "served", quantize=False, judged=judged)
    assert exported.parity.forms["fp32"].ndcg == pytest.approx(exported.parity.forms["torch"].ndcg)
    card = CrossEncoderModel(tmp_path / "served").card
    assert (card.name, card.query_tokens, card.product_tokens) == ("tiny", 8, 24)
    assert card.scale > 0


def test_a_model_that_was_trained_further_says_what_it_began_from(done: Outcome, base: Path) -> None:
    origin = find_base(str(done.directory / "best")).origin
    assert origin == f"the local model {base.name}, by way of the run {done.directory.name}"
    assert find_base(str(base)).origin == f"the local model {base.name}"


def test_a_killed_run_goes_on_to_the_same_weights(base: Path, data: Path, tmp_path: Path) -> None:
    config = settings(base, data)
    whole = train(config, tmp_path / "whole")

    def kill(task: str, done: int, total: int, detail: str = "") -> None:
        if task == "training" and done == 11:  # between two evaluations, in the middle of an epoch
            raise Killed

    with pytest.raises(Killed):
        train(config, tmp_path / "killed", progress=kill)
    steps: list[int] = []
    resumed = train(
        config, tmp_path / "killed", progress=lambda task, done, *_: steps.append(done * (task == "training"))
    )
    assert next(filter(None, steps)) == 11
    assert resumed.steps == whole.steps
    for name in ("checkpoint.safetensors", "best/model.safetensors"):
        left, right = (load_file(tmp_path / run / name) for run in ("whole", "killed"))
        assert left.keys() == right.keys()
        for tensor in left:
            np.testing.assert_array_equal(left[tensor], right[tensor], err_msg=f"{name}: {tensor}")
    figures = [
        [(e.step, e.loss, e.dev, e.learning_rate) for e in read_evaluations(tmp_path / run)]
        for run in ("whole", "killed")
    ]
    assert figures[0] == figures[1]
    again = train(config, tmp_path / "killed", progress=kill)  # which would be killed, did it train
    assert again.best == resumed.best


def test_a_run_that_went_otherwise_is_not_continued(base: Path, data: Path, tmp_path: Path, done: Outcome) -> None:
    config = settings(base, data, dev={"share": 0.25, "test_share": 0.2}, training={"loss": "ranknet"})
    with pytest.raises(ConfigError, match=r"another training\.loss, training\.epochs|another training\.loss"):
        train(config, done.directory)
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="is no run folder"):
        train(config, tmp_path)
    with pytest.raises(ConfigError, match=r"set dev\.test_share above 0"):
        train(settings(base, data), tmp_path / "run", test=True)


def test_input_that_changed_under_a_run_is_noticed(base: Path, tmp_path: Path) -> None:
    data = write_set(tmp_path / "set")
    config = settings(base, data, training={"epochs": 1})
    train(config, tmp_path / "run")
    with (data / "qrels.txt").open("a") as file:
        file.write("q0 0 P0119 0\n")
    with pytest.raises(ConfigError, match=r"qrels\.txt changed since this run began"):
        train(config, tmp_path / "run")


def test_a_broken_checkpoint_is_named(base: Path, data: Path, tmp_path: Path) -> None:
    config = settings(base, data, training={"epochs": 1})
    train(config, tmp_path / "run")
    path = tmp_path / "run" / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"checkpoint\.safetensors cannot be read"):
        train(config, tmp_path / "run")


def test_early_stopping_and_a_time_limit_end_a_run(base: Path, data: Path, tmp_path: Path) -> None:
    stopped = train(settings(base, data, training={"epochs": 50, "patience": 2}), tmp_path / "patience")
    assert stopped.steps == stopped.best.evaluation.step + 2 * 6  # an epoch, and an evaluation, every six
    assert stopped.steps < 50 * 6
    limited = train(settings(base, data, training={"epochs": 50, "max_minutes": 1e-9}), tmp_path / "minutes")
    assert limited.steps == 1


def test_lora_trains_few_weights_and_saves_a_plain_model(base: Path, data: Path, tmp_path: Path) -> None:
    config = settings(
        base, data, model={"method": "lora", "rank": 4, "layers": [1]}, training={"learning_rate": 0.02, "epochs": 8}
    )
    outcome = train(config, tmp_path / "run")
    assert outcome.best.evaluation.score > 0.9
    names = load_file(tmp_path / "run" / "best" / "model.safetensors").keys()
    assert not any("lora" in name or "layer.1" in name for name in names)
    for path in (tmp_path / "run" / "best").glob("*.json"):
        assert str(base.parent) not in path.read_text(), path.name
    saved = CrossEncoder.open(tmp_path / "run" / "best")
    assert saved.module.config.num_hidden_layers == 1
    weights = load_file(tmp_path / "run" / "checkpoint.safetensors")
    assert all(re.search(r"lora_|classifier", name) for name in weights if name.startswith("weights/"))


def test_a_student_learns_from_a_teacher_whose_answers_are_kept(
    base: Path, data: Path, done: Outcome, tmp_path: Path
) -> None:
    """The labels say next to nothing, and the dev set has queries of its own."""
    phones = write_set(tmp_path / "dev", first=1000)
    files = {name: str(phones / file) for name, file in FILES.items()}
    config = settings(
        base, data,
        source=[{"kind": "judged", **{name: str(data / file) for name, file in FILES.items()}, "labels": SAME}],
        dev={"sets": [{"name": "phones", **files, "labels": {"3": 1.0, "1": 0.3, "0": 0.0}, "rating": [1.0, 3.0]}]},
        teacher={"path": str(done.directory / "best"), "weight": 1.0},
        training={"loss": "margin-mse"},
    )  # fmt: skip
    outcome = train(config, tmp_path / "run")
    best = outcome.best.evaluation
    assert best.score > 0.95
    assert 0 < best.dev["phones"]["RMSE"] < 2
    (kept,) = (tmp_path / "run" / "data").glob("teacher-*.safetensors")
    assert len(load_file(kept)["logits"]) == 10 * 24
    assert "1 of a teacher's probability" in (tmp_path / "run" / "best" / "training.json").read_text()
    with pytest.raises(ConfigError, match=r"teacher\.path .* has no usable training\.json"):
        train(settings(base, data, teacher={"path": str(data)}), tmp_path / "other")


def test_unjudged_pairs_get_the_teachers_labels_alone_and_a_kill_loses_few_of_them(
    base: Path, data: Path, done: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    products = tuple(synthetic_products()[:30])
    groups = [Group(f"0:{n}", f"acme phone {n}", products, (1.0, 0.0, None) * 10, (0.0,) * 30) for n in range(10)]
    teacher = CrossEncoder.open(done.directory / "best")
    pairs = Pairs.of(groups, teacher.encode, 8, 24)
    wanted = settings(base, data, teacher={"path": str(done.directory / "best"), "weight": 0.25})
    (tmp_path / "data.json").write_text("{}")
    monkeypatch.setattr("training.teachers.run._ASKED_AT_ONCE", 100)

    def kill(task: str, done: int, total: int, detail: str = "") -> None:
        assert total == 300
        if done > 200:
            raise Killed

    with pytest.raises(Killed):
        taught(pairs, groups, wanted, tmp_path, kill)
    asked: list[int] = []
    labels = taught(pairs, groups, wanted, tmp_path, lambda task, done, *_: asked.append(done)).all_labels
    assert asked == [264, 300]
    (kept,) = tmp_path.glob("teacher-*")
    logits, recipe = load_file(kept)["logits"], json.loads((done.directory / "best" / "training.json").read_text())
    np.testing.assert_allclose(logits, teacher.score(pairs.texts(pairs.everything())), atol=1e-5)
    given = 1 / (1 + np.exp(-(recipe["scale"] * logits + recipe["offset"])))
    expected = [[0.25 * of[0] + 0.75, 0.25 * of[1], of[2]] for of in given.reshape(-1, 3)]
    np.testing.assert_allclose(labels, np.ravel(expected), atol=1e-6)
    np.testing.assert_array_equal(taught(pairs, groups, wanted, tmp_path, kill).all_labels, labels)


def test_encoders_label_what_rules_and_search_did_and_leave_people_their_say(
    base: Path, data: Path, tmp_path: Path
) -> None:
    products = tuple(synthetic_products()[:12])
    judged, made = {"kind": "judged", "catalog": "c", "queries": "q", "qrels": "r"}, GENERATED
    own = [float(product.category[-1] == "Phones") for product in products]
    groups = [Group(f"{n % 2}:{n}", "phone", products, (*own[:-1], None), (0.0,) * 12) for n in range(8)]
    teacher = {"encoders": [str(base), str(base)], "weight": 1.0, "judged_weight": 0.0}
    config = settings(base, data, source=[judged, made], teacher=teacher)
    (tmp_path / "data.json").write_text("{}")
    encoder = BiEncoder.load(config.model, config.model.product_tokens)
    pairs = Pairs.of(groups, encoder.encode, config.model.query_tokens, config.model.product_tokens)
    labels = taught(pairs, groups, config, tmp_path, lambda *_: None).all_labels.reshape(8, 12)
    np.testing.assert_array_equal(labels[::2, :-1], np.tile(own[:-1], (4, 1)))  # as people judged
    given = labels[1]
    np.testing.assert_allclose(labels[::2, -1], given[-1], rtol=1e-6)  # what nobody judged is the teachers'
    assert ((given > 0) & (given < 1)).all()
    cosines = encoder.embed(pairs.products) @ encoder.embed(pairs.queries)[1]
    np.testing.assert_array_equal(np.argsort(given), np.argsort(cosines[pairs.rows[1]]))


def test_encoders_need_judged_pairs_to_mean_anything(base: Path, data: Path, tmp_path: Path) -> None:
    groups = [Group("0:a", "phone", tuple(synthetic_products()[:3]), (1.0, 0.0, 0.0), (0.0,) * 3)]
    config = settings(base, data, source=[GENERATED], teacher={"encoders": [str(base)]})
    (tmp_path / "data.json").write_text("{}")
    encoder = BiEncoder.load(config.model, config.model.product_tokens)
    pairs = Pairs.of(groups, encoder.encode, 8, 24)
    with pytest.raises(ConfigError, match=r"by the 0 pairs that people judged .* add a \[\[source\]\] of judgments"):
        taught(pairs, groups, config, tmp_path, lambda *_: None)


def test_a_student_learns_from_queries_alone(base: Path, data: Path, done: Outcome, tmp_path: Path) -> None:
    rows = [f"{maker} phone {n}\tus\n" for maker in ("Acme", "Globex") for n in range(12)]
    (tmp_path / "queries.tsv").write_text("".join(rows))
    phones = {name: str(write_set(tmp_path / "dev", first=1000) / file) for name, file in FILES.items()}
    source = {"kind": "queries", "path": str(tmp_path / "queries.tsv"), "catalogs": [str(data / "corpus.jsonl")]}
    config = settings(
        base, data, source=[{**source, "depth": 100}], teacher={"path": str(done.directory / "best")},
        dev={"sets": [{"name": "phones", **phones, "labels": {"3": 1.0, "1": 0.3, "0": 0.0}}]},
    )  # fmt: skip
    assert train(config, tmp_path / "run").best.evaluation.score > 0.9
    card = (tmp_path / "run" / "best" / "training.json").read_text()
    assert "of queries.tsv, its judgments unread, the best 5 of the hybrid search" in card


def test_a_model_worse_than_chance_is_refused_but_kept(base: Path, data: Path, tmp_path: Path) -> None:
    """A dev set whose labels are the wrong way round."""
    phones = {name: str(write_set(tmp_path / "dev", first=1000) / file) for name, file in FILES.items()}
    dev = {"sets": [{"name": "phones", **phones, "labels": {"3": 0.0, "1": 0.7, "0": 1.0}}]}
    for _ in range(2):
        with pytest.raises(ModelError, match=r"of step 8, is no better than chance: .* \(Platt's scale is -"):
            train(settings(base, data, dev=dev, training={"epochs": 1}), tmp_path / "run")
    assert {"best", "best.json", "checkpoint.safetensors", "metrics.jsonl"} <= {
        path.name for path in (tmp_path / "run").iterdir()
    }


def test_dev_queries_are_not_trained_on(base: Path, data: Path, tmp_path: Path) -> None:
    files = {name: str(data / file) for name, file in FILES.items()}
    dev = {"sets": [{"name": "same", **files, "labels": {"3": 1.0, "1": 0.3, "0": 0.0}}]}
    with pytest.raises(ConfigError, match="no query is left to train on"):
        train(settings(base, data, dev=dev), tmp_path / "run")


def test_losses_are_compared_on_the_same_data(base: Path, data: Path, tmp_path: Path) -> None:
    config = settings(base, data, training={"epochs": 3})
    found = compare_losses(config, ["bce", "listnet"], tmp_path / "out")
    best, other = found.contenders
    assert {best.loss, other.loss} == {"bce", "listnet"}
    assert best.mean >= other.mean
    assert other.difference == pytest.approx(other.mean - best.mean)
    assert 0 < other.p <= 1
    assert (tmp_path / "out" / "comparison.md").read_text().startswith("| loss | held-out | mean |")
    with pytest.raises(ConfigError, match="loss is 'hinge'"):
        compare_losses(config, ["hinge"], tmp_path / "out")


def test_the_command_trains_goes_on_and_explains(base: Path, data: Path, tmp_path: Path) -> None:
    settings(base, data, training={"epochs": 1}).write(tmp_path / "tiny.toml")
    arguments = ["train", "reranker", str(tmp_path / "tiny.toml"), "--out", str(tmp_path / "run")]
    for _ in range(2):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        assert "6 steps in" in result.stdout
        assert "on dev, held-out: nDCG@10 " in result.stdout
        assert f"export {tmp_path / 'run' / 'best'} --out" in result.stdout
    assert "going on at step 6" in result.stderr
    result = CliRunner().invoke(app, [*arguments, "--test"])
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith("error: no queries are held out")
    result = CliRunner().invoke(
        app, ["train", "compare", str(tmp_path / "tiny.toml"), "--losses", "bce,mse", "--out", str(tmp_path / "two")]
    )
    assert result.stdout.startswith("| loss | held-out | mean |"), result.output


def test_a_run_that_diverges_is_stopped(
    base: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LOSSES, "bce", lambda logits, labels, mask: logits.sum() * torch.nan)
    with pytest.raises(ConfigError, match=r"the loss is nan at step 1; lower training\.learning_rate, which is 0\.005"):
        train(settings(base, data), tmp_path / "run")
