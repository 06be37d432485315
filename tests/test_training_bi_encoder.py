"""The encoder's task: losses of vectors, mined negatives, a teacher, vectors that can be cut, and the command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("sentence_transformers")

import torch
from typer.testing import CliRunner

from engine.cli import app
from engine.config import EngineConfig, IndexConfig
from engine.dense.encoder import OnnxEncoder
from engine.errors import ConfigError, IndexMismatchError
from engine.search import SearchEngine
from tests.conftest import synthetic_products
from tests.test_training_methods import config_of
from tests.training_sets import settings, write_base, write_set
from training.data.pairs import Pairs
from training.data.prepare import read_groups
from training.data.ranking import taught
from training.data.settings import TeacherSettings
from training.data.sources import Group
from training.data.whole import WholeCatalog
from training.export.encoder import convert
from training.losses import ENCODER_LOSSES, InBatch, encoder_loss
from training.metrics import ndcg
from training.models.cross_encoder import CrossEncoder
from training.run import Outcome, train
from training.tasks.encoder import EncoderConfig, EncoderTask


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("set"))


@pytest.fixture(scope="module")
def teacher(base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return train(settings(base, data), tmp_path_factory.mktemp("teacher"))


def changed(config: EncoderConfig, **tables: dict[str, object]) -> EncoderConfig:
    made = msgspec.to_builtins(config)
    for name, more in tables.items():
        made[name] |= more
    return msgspec.convert(made, EncoderConfig)


def batch(queries: torch.Tensor, products: torch.Tensor, labels: list[list[float]], judged: list[list[int]]) -> InBatch:
    unit = torch.nn.functional.normalize
    wanted = torch.tensor(labels).float()
    return InBatch(unit(queries, dim=1), unit(products, dim=1), wanted, torch.tensor(judged).bool(), taught=3 * wanted)


@pytest.mark.parametrize("name", [*ENCODER_LOSSES, "mnr+listnet"])
def test_a_loss_is_less_for_the_better_of_two_orders(name: str) -> None:
    products = torch.eye(4)
    right = torch.tensor([[1.0, 0.5, 0.1, 0.0], [0.1, 0.0, 1.0, 0.5]])
    labels, judged = [[1.0, 0.4, 0.0, 0.0], [0.0, 0.0, 1.0, 0.4]], [[1, 1, 1, 0], [0, 1, 1, 1]]
    loss = encoder_loss(name)
    good, bad = (float(loss(batch(q, products, labels, judged), 10.0, 0.5)) for q in (right, right.flip(1)))
    assert np.isfinite([good, bad]).all()
    assert good < bad


def test_multiple_negatives_are_a_cross_entropy_in_which_other_right_products_have_no_part() -> None:
    queries, products = torch.randn(2, 8, generator=torch.Generator().manual_seed(1)), torch.randn(5, 8)
    made = batch(queries, products, [[1, 1, 0, 0, 0], [0, 0, 0, 1, 0]], [[1, 1, 1, 0, 0], [0, 0, 0, 1, 1]])
    cosines = 20 * made.queries @ made.products.T
    rows = [(0, 0, [0, 2, 3, 4]), (0, 1, [1, 2, 3, 4]), (1, 3, [3, 0, 1, 2, 4])]
    wanted = [-torch.log_softmax(cosines[q, [p, *(o for o in others if o != p)]], dim=0)[0] for q, p, others in rows]
    assert float(encoder_loss("mnr")(made, 20.0, 0.5)) == pytest.approx(float(torch.stack(wanted).mean()), rel=1e-5)


def test_doubtful_products_are_no_negatives() -> None:
    queries, products = torch.randn(1, 8, generator=torch.Generator().manual_seed(1)), torch.randn(3, 8)
    whole = batch(queries, products, [[1, 0, 0]], [[1, 0, 0]])
    alone = batch(queries, products[:2], [[1, 0]], [[1, 0]])
    guided = replace(whole, doubtful=torch.tensor([[False, False, True]]))
    loss = encoder_loss("mnr")
    assert float(loss(guided, 20.0, 0.5)) == pytest.approx(float(loss(alone, 20.0, 0.5)))
    assert float(loss(whole, 20.0, 0.5)) > float(loss(guided, 20.0, 0.5))


def test_the_guide_doubts_what_it_finds_as_near_as_a_querys_best(base: Path, data: Path, tmp_path: Path) -> None:
    config = changed(
        config_of("encoder", "full", base, data), training={"guided": True, "products_per_query": 2, "epochs": 1}
    )
    task = EncoderTask(config, tmp_path, tmp_path / "data", False, lambda *_: None)
    made = task.batches(0)[0]
    queries, products = task._guide
    rows = np.unique(np.concatenate([task._data.train.rows[group][part] for group, part in made]))
    labels, judged = task._labels(made, rows)
    doubtful = task._doubtful(task._guide, made, rows, labels, judged)
    assert doubtful.any()
    assert not (doubtful & judged).any()
    for place, (group, _) in enumerate(made):
        cosines = (products[rows] @ queries[group]).numpy()
        own = judged[place].numpy()
        best = cosines[own][labels[place].numpy()[own].argmax()]
        assert (doubtful[place].numpy() == ((cosines >= best) & ~own)).all()


def test_distillation_is_least_where_cosines_are_the_teachers() -> None:
    products = torch.eye(3)
    asked = torch.tensor([[3.0, 1.0, 0.2]])
    made = replace(batch(asked, products, [[0, 0, 1]], [[0, 0, 1]]), taught=torch.tensor([[2.0, 1.0, 0.0]]))
    loss, sharpness = encoder_loss("distil"), 5.0
    as_taught = (
        2.5 * made.taught / sharpness
    )  # cosines whose differences are those of the teachers, whatever labels say
    found = [
        float(loss(replace(made, queries=q), sharpness, 0.5)) for q in (as_taught, as_taught.flip(1), made.queries)
    ]
    wanted = torch.softmax(2.5 * made.taught, dim=1)
    assert found[0] == pytest.approx(float(-(wanted * wanted.log()).sum()), rel=1e-5)
    assert found[0] < min(found[1:])


def test_teachers_say_how_far_above_a_querys_mean_a_product_is(base: Path, data: Path, tmp_path: Path) -> None:
    training = {"loss": "distil", "teachers": [str(base), str(base)], "products_per_query": 2, "epochs": 1}
    config = changed(config_of("encoder", "full", base, data), training=training)
    task = EncoderTask(config, tmp_path, tmp_path / "data", False, lambda *_: None)
    made, pairs = task.batches(0)[0], task._data.train
    rows = np.unique(np.concatenate([pairs.rows[group][part] for group, part in made]))
    queries, products = (task._base().embed(texts) for texts in (pairs.queries, pairs.products))
    cosines = queries[[group for group, _ in made]] @ products.T
    wanted = (cosines - cosines.mean(axis=1, keepdims=True)) / cosines.std(axis=1, ddof=1, keepdims=True)
    scores = task._teachers.scores(made, rows).numpy()
    np.testing.assert_allclose(scores, wanted[:, rows], atol=0.05)  # vectors are kept in 16 bits
    kept = list((tmp_path / "data").glob("taught-*"))
    assert len(kept) == 1
    before = kept[0].stat().st_mtime_ns
    again = EncoderTask(config, tmp_path, tmp_path / "data", False, lambda *_: None)
    assert kept[0].stat().st_mtime_ns == before
    np.testing.assert_array_equal(again._teachers.scores(made, rows).numpy(), scores)


def test_teachers_and_their_loss_come_together(base: Path, data: Path) -> None:
    config = config_of("encoder", "full", base, data)
    for training in ({"loss": "distil"}, {"loss": "mnr", "teachers": [str(base)]}):
        with pytest.raises(msgspec.ValidationError, match="name both or neither"):
            changed(config, training=training)


def test_an_epoch_has_a_few_products_of_every_query_half_of_them_its_best(base: Path, data: Path) -> None:
    groups = [
        Group(f"q{n}", "phone", products, [1.0, *[0.0] * (len(products) - 1)], [0.0] * len(products), repeat=1 + n)
        for n, products in enumerate((synthetic_products()[:9], synthetic_products()[9:14]))
    ]
    pairs = Pairs.of(groups, lambda texts, *_: [np.zeros(2, np.int32)] * len(texts), 4, 4)
    parts = [part for made in pairs.batches(6, "0", 4) for part in made]
    assert sorted(group for group, _ in parts) == [0, 1, 1]
    assert all(len(places) == len(set(places)) == 4 and 0 in places for _, places in parts)
    again = [part for made in pairs.batches(6, "1", 4) for part in made]
    assert {tuple(places) for _, places in again} != {tuple(places) for _, places in parts}


def test_a_whole_catalog_counts_what_nobody_judged_as_wrong() -> None:
    whole = WholeCatalog([np.zeros(1, np.int32)] * 30, {"q": {0: 1.0, 25: 0.5}, "none": {3: 0.0}})
    products = np.eye(30, dtype=np.float32)
    query = np.zeros(30, np.float32)
    query[[7, 0]] = 0.9, 0.5  # somebody's unjudged product first, then the right one; the other is not among the ten
    found = whole.ndcg_by_query({"q": query, "none": query}, products)
    best = 1 + 0.5 / np.log2(3)
    assert found == {"q": pytest.approx((1 / np.log2(3)) / best), "none": 0.0}


def test_the_best_model_finds_what_was_judged_in_the_whole_catalog(base: Path, data: Path, tmp_path: Path) -> None:
    catalog = str(data / "corpus.jsonl")
    dev = {
        "name": "shop", "catalog": catalog, "queries": str(data / "queries.tsv"), "qrels": str(data / "qrels.txt"),
        "labels": {"3": 1.0, "1": 0.3, "0": 0.0},
    }  # fmt: skip
    made = {"kind": "generated", "catalogs": [catalog], "queries": 40}
    tables = msgspec.to_builtins(config_of("encoder", "full", base, data))
    config = msgspec.convert(tables | {"dev": {"sets": [dev]}, "source": [made]}, EncoderConfig)
    config = changed(config, training={"whole_catalogs": True, "epochs": 1})
    done = train(config, tmp_path / "run")
    found = done.best.evaluation.dev["shop"]
    pool, whole = found["nDCG@10"], found["nDCG@10, whole catalog"]
    assert 0 < whole < pool
    assert done.best.evaluation.score == pytest.approx((pool + whole) / 2)
    with pytest.raises(msgspec.ValidationError, match=r"whole_catalogs is true, which needs \[\[dev.sets\]\]"):
        changed(config, dev={"sets": []})


def test_pointwise_losses_are_no_losses_of_cosines(base: Path, data: Path) -> None:
    with pytest.raises(
        msgspec.ValidationError, match=r"loss is 'bce'; it must be of mnr, cosent, angle, distil, margin-mse"
    ):
        changed(config_of("encoder", "full", base, data), training={"loss": "bce"})
    with pytest.raises(msgspec.ValidationError, match="would make a second model"):
        changed(config_of("encoder", "full", base, data), model={"trains": "queries"})
    with pytest.raises(msgspec.ValidationError, match="dimensions is"):
        changed(config_of("encoder", "full", base, data), model={"dimensions": [0]})


@pytest.mark.parametrize("retriever", ["bm25", "model"])
def test_negatives_are_what_the_retriever_finds(retriever: str, base: Path, data: Path, tmp_path: Path) -> None:
    config = changed(
        config_of("encoder", "full", base, data), training={"epochs": 1},
        negatives={"mine": True, "retriever": retriever, "hard": 4, "random": 0, "depth": 40},
    )  # fmt: skip
    train(config, tmp_path / "run")
    groups = read_groups(tmp_path / "run" / "data", "train")
    drawn = [p for g in groups for p, label in zip(g.products, g.labels, strict=True) if label is None]
    assert 3 * len(groups) < len(drawn) <= 4 * len(groups)
    said = {"bm25": "BM25", "model": "the base model"}[retriever]
    assert f"from the best 40 of {said}" in (tmp_path / "run" / "best" / "training.json").read_text()
    if retriever == "bm25":  # phones of the maker are found by words; a random draw has one in sixteen
        makers = [p.brand in g.query for g in groups for p in g.products[-4:]]
        assert np.mean(makers) > 0.5


def test_mined_products_that_the_teacher_thinks_right_are_left_out(
    teacher: Outcome, data: Path, base: Path, tmp_path: Path
) -> None:
    config = settings(base, data, negatives={"mine": True, "hard": 6, "random": 2}, training={"epochs": 1})
    train(config, tmp_path / "run")
    groups = read_groups(tmp_path / "run" / "data", "train")
    reads = CrossEncoder.open(teacher.directory / "best")
    pairs = Pairs.of(groups, reads.encode, 8, 24)
    folder, path = tmp_path / "run" / "data", str(teacher.directory / "best")
    strict = TeacherSettings(path=path, false_negatives=0.9)
    whole, kept = (
        taught(pairs, groups, msgspec.structs.replace(config, teacher=teacher), folder, lambda *_: None)
        for teacher in (TeacherSettings(path=path), strict)
    )
    assert whole.n_pairs == pairs.n_pairs > kept.n_pairs
    before, after = [], []
    for group, rows, left in zip(groups, whole.rows, kept.rows, strict=True):
        mined = [label is None for label in group.labels]
        phones = [product.category[-1] == "Phones" for product in group.products]
        assert set(rows[~np.array(mined)]) <= set(left)  # of judged ones none goes
        before += [row for row, new, phone in zip(rows, mined, phones, strict=True) if new and phone]
        after += [row for row, new, phone in zip(rows, mined, phones, strict=True) if new and phone and row in left]
    assert len(after) < 0.3 * len(before)


def test_vectors_can_be_cut_where_they_were_trained_to_be(base: Path, data: Path, tmp_path: Path) -> None:
    config = changed(config_of("encoder", "full", base, data), model={"dimensions": [8]})
    done = train(config, tmp_path / "run")
    metrics = done.best.evaluation.dev["held-out"]
    assert metrics["nDCG@10, 8 dimensions"] > 0.8  # a random order has 0.6
    made = convert(tmp_path / "run" / "best", tmp_path / "served", quantize=False, dimensions=8)
    assert made.card.dim == 8
    assert "MNR" not in made.card.name
    encoder, whole = OnnxEncoder(tmp_path / "served"), tmp_path / "whole"
    convert(tmp_path / "run" / "best", whole, quantize=False)
    cut = OnnxEncoder(whole).encode_queries(["acme phone"])[:, :8]
    np.testing.assert_allclose(
        encoder.encode_queries(["acme phone"]), cut / np.linalg.norm(cut, axis=1, keepdims=True), atol=1e-5
    )
    assert "| made up |" in (tmp_path / "served" / "README.md").read_text()
    with pytest.raises(ConfigError, match="dimensions is 33; tiny gives vectors of 32"):
        convert(tmp_path / "run" / "best", tmp_path / "other", dimensions=33)


def test_the_trained_encoder_finds_what_the_base_does_not_and_only_in_its_own_index(
    base: Path, data: Path, tmp_path: Path
) -> None:
    train(config_of("encoder", "full", base, data), tmp_path / "run")
    convert(tmp_path / "run" / "best", tmp_path / "trained", quantize=False)
    convert(base, tmp_path / "stock", quantize=False)
    found = {}
    for name in ("stock", "trained"):
        config = EngineConfig(index=IndexConfig(encoder=str(tmp_path / name), reranker="", router=""))
        config = msgspec.structs.replace(config, search=msgspec.structs.replace(config.search, retrievers=("dense",)))
        engine = SearchEngine.build(synthetic_products(), tmp_path / f"{name}-index", config)
        hits = engine.search("Acme phone 501", 10).hits
        found[name] = ndcg([float(hit.product.category[-1] == "Phones") for hit in hits] + [1.0] * 10)
    assert found["trained"] > 0.9
    assert found["trained"] > found["stock"]
    with pytest.raises(IndexMismatchError, match="encoder"):
        SearchEngine.load(tmp_path / "stock-index", encoder=OnnxEncoder(tmp_path / "trained"))


def test_the_command_trains_and_says_how_to_serve(base: Path, data: Path, tmp_path: Path) -> None:
    config = changed(config_of("encoder", "lora", base, data), training={"epochs": 1}, dev={"test_share": 0.2})
    config.write(tmp_path / "tiny.toml")
    result = CliRunner().invoke(
        app, ["train", "encoder", str(tmp_path / "tiny.toml"), "--out", str(tmp_path / "run"), "--test"]
    )
    assert result.exit_code == 0, result.output
    for part in (
        "on dev, held-out: nDCG@10 ",
        "nDCG@10 on test: ",
        f"convert {tmp_path / 'run' / 'best'}",
        "adapter add",
    ):
        assert part in result.stdout
