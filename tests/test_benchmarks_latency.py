"""The latency profile on a tiny model: the same scores by every path, the files it writes, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sentence_transformers")
pytest.importorskip("matplotlib")
pytest.importorskip("ir_measures")

import torch
from transformers import BertConfig, BertForSequenceClassification
from typer import Typer
from typer.testing import CliRunner, Result

from benchmarks.graphs import Graph, Shape
from benchmarks.latency import main
from benchmarks.pairs import REAL, Products, asks, products_of
from benchmarks.peaks import peaks
from benchmarks.peer_models import PeerModel, peer_model
from benchmarks.rounds import Effort, Timed, in_turn
from benchmarks.scorers import Aisle, Score, all_scorers
from engine.config import EngineConfig, IndexConfig, SearchConfig
from engine.product import to_json
from engine.text import encoded_text
from ranking.cross_encoder import CrossEncoderModel
from tests.conftest import synthetic_products
from tests.word_tokenizer import word_tokenizer
from training.export.reranker import export

REPOSITORY = Path(__file__).resolve().parent.parent
TEXTS = [encoded_text(product) for product in synthetic_products(40)]
SHAPE = Shape(vocabulary=0, hidden=32, intermediate=64, layers=2, heads=4)
CALLS = 3


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("checkpoint")
    tokenizer = word_tokenizer([*TEXTS, *(product.title for product in synthetic_products(40))])
    tokenizer.save_pretrained(directory)
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=SHAPE.hidden, num_hidden_layers=SHAPE.layers, num_labels=1,
        num_attention_heads=SHAPE.heads, intermediate_size=SHAPE.intermediate, initializer_range=0.3,
    )  # fmt: skip
    model = BertForSequenceClassification(config)
    with torch.no_grad():  # token types, which only CrossEncoder feeds, make no difference: so all give the same scores
        types = model.bert.embeddings.token_type_embeddings.weight
        types[1] = types[0]
    model.save_pretrained(directory)
    (directory / "training.json").write_text('{"name": "tiny", "query_tokens": 6, "product_tokens": 12}')
    return directory


@pytest.fixture(scope="module")
def reranker(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("reranker") / "tiny"
    pairs = out.with_suffix(".jsonl")
    rows = (
        {"query_id": "q", "query": TEXTS[number - 1], "label": 0, "product": {"product_id": "p", "title": text}}
        for number, text in enumerate(TEXTS)
    )
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    export(checkpoint, out, tolerance=0.5, calibration=pairs)
    return out


@pytest.fixture(scope="module")
def model(reranker: Path) -> CrossEncoderModel:
    return CrossEncoderModel(reranker)


@pytest.fixture(scope="module")
def peer(
    checkpoint: Path, reranker: Path, model: CrossEncoderModel, tmp_path_factory: pytest.TempPathFactory
) -> PeerModel:
    return peer_model(checkpoint, model, Graph(reranker / "model.onnx"), tmp_path_factory.mktemp("peer"))


def multiply_adds(tokens: int, layers: int, *, first_only: bool) -> int:
    """BERT's, by the book: Q, K, V and output, scores and context, and the two of the feed-forward part."""
    d, f = SHAPE.hidden, SHAPE.intermediate
    whole = tokens * (4 * d * d + 2 * d * f) + 2 * tokens * tokens * d
    last = 2 * tokens * d * d + 2 * d * d + 2 * tokens * d + 2 * d * f if first_only else whole
    return (layers - 1) * whole + last + d * d + d  # the pooler and the head


@pytest.mark.parametrize("tokens", [5, 21])
def test_multiply_adds_are_those_of_a_bert(peer: PeerModel, reranker: Path, tokens: int) -> None:
    lengths = np.array([tokens, tokens])
    for path, first_only in ((peer.plain, False), (peer.fp32 / "model.onnx", True), (reranker / "model.onnx", True)):
        expected = 2 * multiply_adds(tokens, SHAPE.layers, first_only=first_only)
        assert Graph(path).multiply_adds(lengths) == pytest.approx(expected)


def test_a_checkpoint_of_the_same_shape_is_made_where_there_is_none(
    reranker: Path, model: CrossEncoderModel, tmp_path: Path
) -> None:
    made = peer_model(None, model, Graph(reranker / "model.onnx"), tmp_path)
    of_reranker, of_made = Graph(reranker / "model.onnx").shape(), Graph(made.fp32 / "model.onnx").shape()
    assert of_reranker == of_made
    assert (of_made.hidden, of_made.intermediate, of_made.layers, of_made.heads) == (32, 64, 2, 4)
    assert "random weights" in made.origin
    assert CrossEncoderModel(made.fp32).card.product_tokens == model.card.product_tokens == 12


def test_products_have_the_length_that_was_asked_for(model: CrossEncoderModel) -> None:
    for length in (3, 12):
        products = products_of(str(length), TEXTS, model)
        found = [len(model.tokenizer.encode(text, add_special_tokens=False).ids) for text in products.texts]
        assert set(found) == set(products.tokens.tolist()) == {length}
    real = products_of(REAL, TEXTS, model)
    assert all(text.startswith(cut) for text, cut in zip(TEXTS, real.texts, strict=True))
    assert real.tokens.max() == 12


@pytest.mark.parametrize("threads", [1, 2])
def test_every_system_scores_the_same_pairs(
    reranker: Path, peer: PeerModel, model: CrossEncoderModel, threads: int
) -> None:
    products = products_of(REAL, TEXTS, model)
    whole = replace(peer, plain_int8=peer.plain)  # dynamic scales would hide what goes wrong
    systems = all_scorers(reranker, whole, peer.fp32.parent)
    assert [system.numbers for system in systems] == ["fp32", "bf16", "int8", "fp32", "int8"]
    ask = next(asks(["Acme Phone 104"], products, 20, model, seed=0))
    found = {system.name: system.over(products, threads)(ask.query, ask.rows) for system in systems}
    found["onnxruntime int8"] = 1 / (1 + np.exp(-found["onnxruntime int8"]))
    expected = found["CrossEncoder fp32"]
    assert np.ptp(expected) > 0.1  # or any constant would pass
    tolerances = {"onnxruntime int8": 1e-5, "Aisle fp32": 1e-5, "CrossEncoder bf16": 0.1, "Aisle int8": 0.1}
    for name, tolerance in tolerances.items():
        np.testing.assert_allclose(found[name], expected, atol=tolerance, err_msg=name)
    aisle = systems[-1]
    assert isinstance(aisle, Aisle)
    split, scores = aisle.splitting(products)(ask.query, ask.rows)
    np.testing.assert_array_equal(scores, found["Aisle int8"])
    assert min(split.tokenise, split.copy, split.infer) > 0


class Recorded:
    """A system that notes when it is called."""

    numbers = "fp32"

    def __init__(self, name: str, graph: Graph, calls: list[tuple[str, str]]) -> None:
        self.name, self.graph, self._calls = name, graph, calls

    def over(self, products: Products, threads: int) -> Score:
        def score(query: str, rows: np.ndarray) -> np.ndarray:
            self._calls.append((self.name, query))
            return np.zeros(len(rows), np.float32)

        return score


def test_systems_take_turns_over_the_same_queries(peer: PeerModel, model: CrossEncoderModel) -> None:
    calls: list[tuple[str, str]] = []
    products, graph = products_of(REAL, TEXTS, model), Graph(peer.plain)
    queries = [f"query {number}" for number in range(20)]
    asked = asks(queries, products, 5, model, seed=0)
    timed = in_turn([Recorded(name, graph, calls) for name in "ab"], products, 1, asked, Effort(CALLS, 0.0))
    assert calls == [(name, queries[0]) for name in "ab"] + [
        (name, queries[1 + number]) for number in range(CALLS) for name in ("ab" if number % 2 == 0 else "ba")
    ]
    assert [len(of_system.seconds) for of_system in timed] == [CALLS, CALLS]


def test_figures_follow_from_the_calls(peer: PeerModel) -> None:
    system = Recorded("a", Graph(peer.plain), [])
    slow, fast = (Timed(system, 10, [seconds] * 4, [5e8] * 4) for seconds in (0.4, 0.1))
    figures = fast.figures({"fp32": 100.0})
    assert figures["latency_ms"] == pytest.approx({"p50": 100.0, "p95": 100.0, "p99": 100.0})
    assert (figures["pairs_per_second"], figures["gops"]) == pytest.approx((100.0, 10.0))
    assert figures["share_of_peak"] == pytest.approx(0.1)
    assert fast.speedup(slow, seed=0) == {"speedup": pytest.approx(4.0), "interval": pytest.approx([4.0, 4.0])}


def test_a_peak_is_measured_for_every_kind_of_number() -> None:
    assert {kind: gops > 0 for kind, gops in peaks(1).items()} == dict.fromkeys(("fp32", "bf16", "int8"), True)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "shop"
    folder.mkdir(parents=True)
    (folder / "corpus.jsonl").write_bytes(b"\n".join(map(to_json, synthetic_products(40))))
    (folder / "queries.dev.tsv").write_text("".join(f"q{n}\tphone {100 + n} acme\n" for n in range(40)))
    (folder / "qrels.dev.txt").write_text("".join(f"q{n} 0 P0000 1\n" for n in range(40)))
    return folder.parent


def profiled(data: Path, reranker: Path, *more: object) -> Result:
    app = Typer()
    app.command()(main)
    config = EngineConfig(index=IndexConfig(encoder=""), search=SearchConfig(retrievers=("lexical",)))
    config.write(data / "c.toml")
    fixed = ("--data", data, "--set", "shop", "--reranker", reranker, "--config", data / "c.toml")
    where = ("--index", data / "index", "--out", data / "out" / "latency.json")
    small = ("--candidates", "3,7", "--threads", "1", "--lengths", "4,real", "--rounds", 2, "--seconds", 0)
    return CliRunner().invoke(app, [str(argument) for argument in (*fixed, *where, *small, *more)])


def test_end_to_end(data: Path, reranker: Path, checkpoint: Path) -> None:
    done = profiled(data, reranker, "--peer-model", checkpoint, "--deadlines", "30")
    assert done.exit_code == 0, done.output
    out = data / "out" / "latency"
    result = json.loads(out.with_suffix(".json").read_text())
    combinations = [(cell["length"], cell["candidates"], cell["system"]) for cell in result["cells"]]
    aisle = ["Aisle fp32", "Aisle int8"]
    peers = ["CrossEncoder fp32", "CrossEncoder bf16", "onnxruntime int8"]
    assert combinations == [("4", n, name) for n in (3, 7) for name in aisle] + [
        ("real", n, name) for n in (3, 7) for name in (*peers, *aisle)
    ]
    for cell in result["cells"]:
        assert cell["rounds"] == 2
        assert cell["latency_ms"]["p50"] <= cell["latency_ms"]["p95"] <= cell["latency_ms"]["p99"]
        assert ("speedup" in cell) == (cell["length"] == "real")
    assert result["mean_tokens"]["4"] == 4
    assert len(result["splits"]) == 8
    [deadline] = result["deadlines"]
    assert (deadline["deadline_ms"], deadline["searches"]) == (30, 60)  # 40 queries and 40 titles, less 20 to warm up
    assert 0 <= deadline["scored"] <= 1
    page = out.with_suffix(".md").read_text()
    for part in ("× CrossEncoder fp32", "## Other lengths", "## Where the time goes", "## Deadlines", str(checkpoint)):
        assert part in page
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--candidates", "ten"), "whole numbers"),
        (("--candidates", "41"), "40 products"),
        (("--candidates", ""), "at least"),
        (("--threads", "900"), "cores"),
        (("--lengths", "long"), "--lengths"),
        (("--lengths", "13"), "at most 12 tokens"),
        (("--reranker", ""), "aisle export"),
    ],
)
def test_wrong_arguments_are_explained(data: Path, reranker: Path, arguments: tuple[str, str], said: str) -> None:
    done = profiled(data, reranker, *arguments)
    assert done.exit_code == 1
    assert said in " ".join(done.stderr.split())


def test_a_reranker_that_is_not_in_8_bits_is_refused(data: Path, reranker_directory: Path) -> None:
    done = profiled(data, reranker_directory)
    assert done.exit_code == 1
    assert "8 bits" in " ".join(done.stderr.split())


def test_the_script_teaches_without_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; sys.argv = ['latency.py', '--help']; import runpy; "
    code += "runpy.run_path('benchmarks/latency.py', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert "--peer-model" in done.stdout
