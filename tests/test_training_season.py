"""A season from end to end: a base is trained and exported, an adapter is trained on it, served, chosen and removed."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")

from engine.adapters import Adapter
from engine.config import EngineConfig, IndexConfig
from engine.dense.encoder import OnnxEncoder
from engine.errors import AdapterError
from engine.product import Product
from engine.search import SearchEngine
from engine.text import encoded_text
from ranking.cross_encoder import CrossEncoderModel
from tests.conftest import synthetic_products
from tests.test_training_methods import config_of
from tests.training_sets import settings, write_base, write_set
from training.export.encoder import convert
from training.export.reranker import export
from training.models.bi_encoder import BiEncoder
from training.models.cross_encoder import CrossEncoder
from training.run import train
from training.tasks.encoder import EncoderConfig

LORA = {"method": "lora", "rank": 4, "targets": "query+value"}
QUERIES = ["acme phone", "globex phone 140", "case"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("set"))


@pytest.fixture(scope="module")
def season(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same queries in a time when all the world wants cases."""
    folder = tmp_path_factory.mktemp("season")
    for name in ("corpus.jsonl", "queries.tsv"):
        (folder / name).write_bytes((data / name).read_bytes())
    swapped = {"3": "1", "1": "3", "0": "0"}
    rows = [line.split() for line in (data / "qrels.txt").read_text().splitlines()]
    (folder / "qrels.txt").write_text("".join(f"{q} 0 {p} {swapped[grade]}\n" for q, _, p, grade in rows))
    return folder


@pytest.mark.parametrize("pruned", [{}, {"heads": 1, "neurons": 20, "activation": "relu"}])
def test_a_rerankers_season_is_served_as_it_was_trained(
    pruned: dict[str, object], base: Path, data: Path, season: Path, tmp_path: Path
) -> None:
    """Of a pruned base too, whose silent heads and neurons are taken out when it is exported."""
    train(settings(base, data, model=pruned), tmp_path / "base")
    best = tmp_path / "base" / "best"
    export(best, tmp_path / "served", quantize=False, adapters="query+value")
    done = train(settings(best, season, model=LORA, training={"learning_rate": 0.02, "epochs": 8}), tmp_path / "season")
    assert done.best.evaluation.score > 0.8  # the base has these the wrong way round
    path = tmp_path / "season" / "best" / "adapter.safetensors"
    adapter = Adapter.read(path).named("cases")

    model, products = CrossEncoderModel(tmp_path / "served"), synthetic_products()[:60]
    (tmp_path / "rerank").mkdir()
    model.build(tmp_path / "rerank", products)
    reranker = model.open(tmp_path / "rerank", 1)
    rows = np.arange(len(products))
    plain = [reranker.score(query, rows, None).scores for query in QUERIES]
    adapted = reranker.adapted(adapter)
    merged = CrossEncoder.open(tmp_path / "season" / "best", "off")
    recipe = json.loads((tmp_path / "season" / "best" / "training.json").read_bytes())
    for query, before in zip(QUERIES, plain, strict=True):
        found = adapted.score(query, rows, None).scores.astype(np.float64)
        logits = (np.log(found / (1 - found)) - recipe["offset"]) / recipe["scale"]
        np.testing.assert_allclose(logits, _logits(merged, query, products), atol=1e-4)
        assert np.abs(found - before).max() > 0.05
        np.testing.assert_array_equal(reranker.score(query, rows, None).scores, before)


def _logits(model: CrossEncoder, query: str, products: list[Product]) -> np.ndarray:
    ids, texts = model.encode([query], 8)[0], model.encode([encoded_text(product) for product in products], 24)
    return model.score([(ids, text) for text in texts]).astype(np.float64)


def test_an_encoders_season_moves_queries_and_goes_without_a_trace(
    base: Path, data: Path, season: Path, tmp_path: Path
) -> None:
    config = config_of("encoder", "full", base, data)
    train(config, tmp_path / "base")
    best = tmp_path / "base" / "best"
    convert(best, tmp_path / "served", quantize=False, adapters="query+value")
    like = msgspec.to_builtins(config_of("encoder", "lora", best, season))
    like["model"] |= LORA | {"trains": "queries"}
    like["training"] |= {"learning_rate": 0.02, "epochs": 8, "loss": "mnr+listnet"}
    done = train(msgspec.convert(json.loads(json.dumps(like)), EncoderConfig), tmp_path / "season")
    assert done.best.evaluation.score > 0.75
    path = tmp_path / "season" / "best" / "adapter.safetensors"
    assert path.stat().st_size < 2_000_000

    engine = SearchEngine.build(
        synthetic_products(), tmp_path / "index", EngineConfig(index=IndexConfig(reranker="", router="")),
        encoder=OnnxEncoder(tmp_path / "served"),
    )  # fmt: skip
    before = [[(h.product.product_id, h.score) for h in engine.search(query, 10).hits] for query in QUERIES]
    engine.add_adapter(path, name="cases")
    with_cases = [
        [(h.product.product_id, h.score) for h in engine.search(q, 10, adapter="cases").hits] for q in QUERIES
    ]
    again = [[(h.product.product_id, h.score) for h in engine.search(query, 10).hits] for query in QUERIES]
    assert before == again
    assert before != with_cases
    trained = BiEncoder.open(tmp_path / "season" / "best", "off")
    wanted = trained.embed(trained.encode(QUERIES, 24, "query"))
    served = OnnxEncoder(tmp_path / "served").adapted(Adapter.read(path))
    np.testing.assert_allclose(served.encode_queries(QUERIES), wanted, atol=1e-4)
    engine.remove_adapter("cases")
    with pytest.raises(AdapterError, match="there is no adapter 'cases'"):
        engine.search("phone", adapter="cases")


def test_what_moves_products_too_or_has_another_base_is_no_adapter(base: Path, data: Path, tmp_path: Path) -> None:
    train(config_of("encoder", "lora", base, data), tmp_path / "both")
    with pytest.raises(AdapterError, match="move queries alone"):
        Adapter.read(tmp_path / "both" / "best" / "adapter.safetensors")
    train(config_of("reranker", "prefix", base, data), tmp_path / "prefix")
    with pytest.raises(AdapterError, match="made by 'prefix'"):
        Adapter.read(tmp_path / "prefix" / "best" / "adapter.safetensors")
    export(tmp_path / "prefix" / "best", tmp_path / "served", quantize=False)
    train(config_of("reranker", "lora", base, data), tmp_path / "lora")
    found = Adapter.read(tmp_path / "lora" / "best" / "adapter.safetensors")
    with pytest.raises(AdapterError, match="takes no adapters"):
        CrossEncoderModel(tmp_path / "served").adaptable.graph(found)
