"""The query rewriter: learnt, aligned and exported on a task of a few seconds; and its beam search."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast
from typer.testing import CliRunner

from engine import EngineConfig, IndexConfig
from engine.builder import build_index
from engine.cli import app
from engine.errors import ConfigError, ModelError
from qpt.beam import beam_search
from qpt.rewriter import DECODER, OnnxRewriter
from tests.conftest import synthetic_products
from training.data.examples import ExamplesError
from training.data.rewrites import Judged, Rewrites, read_rewrites
from training.export.rewriter import export_rewriter
from training.models.rewriter import RewriterModel
from training.run import train
from training.tasks.rewriter import RewriterConfig, RewriterTask, preferences, split, targets

WORDS = ("red", "blue", "green", "shoe", "lamp", "belt", "case", "phone", "cheap", "nice", "please", "now")
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
UNSEEN = ("red qx7", "lamp 0z9", "phone wwq")


def write_base(directory: Path) -> Path:
    """A BERT of two narrow layers over whole words and the letters that spell others."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS, *LETTERS, *(f"##{c}" for c in LETTERS)]
    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    torch.manual_seed(3)
    BertModel(
        BertConfig(
            vocab_size=len(pieces), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
            max_position_embeddings=32,
        )
    ).save_pretrained(directory)  # fmt: skip
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(directory)
    return directory


def asked(draw: random.Random) -> str:
    """A thing, perhaps with a code no vocabulary has, before a word that says nothing."""
    code = "".join(draw.choices(LETTERS, k=3))
    return f"{draw.choice(WORDS[:8])} {draw.choice((code, draw.choice(WORDS[:8])))} {draw.choice(WORDS[8:])}"


def write_rewrites(path: Path, n: int = 400) -> Path:
    """The right rewrite leaves the last word out; leaving the first out is wrong."""
    draw = random.Random(1)
    rows = []
    for _ in range(n):
        words = asked(draw).split()
        right, wrong = Judged(" ".join(words[:2]), 0.5), Judged(" ".join(words[1:]), -0.5)
        rows.append(msgspec.json.encode(Rewrites(" ".join(words), (wrong, right))))
    path.write_bytes(b"\n".join(rows) + b"\n")
    return path


def settings(base: Path, source: Path, **more: Any) -> RewriterConfig:
    tables: dict[str, Any] = {
        "name": "tiny", "seed": 2,
        "model": {"base": str(base), "query_tokens": 10, "rewrite_tokens": 8, "freeze_embeddings": False},
        "source": [{"path": str(source), "license": "made up"}],
        "training": {
            "epochs": 12, "learning_rate": 0.006, "threads": 1, "bf16": "off", "patience": 0, "evaluate_every": 60,
        },
    }  # fmt: skip
    for name, value in more.items():
        tables[name] = tables[name] | value if isinstance(tables.get(name), dict) else value
    return msgspec.convert(tables, RewriterConfig)


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the base, the rewrites, a supervised run and its export."""
    folder = tmp_path_factory.mktemp("rewriter")
    config = settings(write_base(folder / "base"), write_rewrites(folder / "rewrites.jsonl"))
    train(config, folder / "run")
    export_rewriter(folder / "run" / "best", folder / "served")
    return folder


def test_it_learns_to_leave_out_what_says_nothing(learnt: Path) -> None:
    rewriter, draw = OnnxRewriter(learnt / "served"), random.Random(99)
    queries = [asked(draw) for _ in range(30)]
    right = [bool(r := rewriter.rewrite(query)) and r[0].text == " ".join(query.split()[:2]) for query in queries]
    assert np.mean(right) >= 0.9


def test_codes_that_no_vocabulary_has_survive(learnt: Path) -> None:
    rewriter = OnnxRewriter(learnt / "served")
    assert [rewriter.rewrite(f"{text} please")[0].text for text in UNSEEN] == list(UNSEEN)


def test_what_is_served_says_what_torch_says(learnt: Path) -> None:
    served, model = OnnxRewriter(learnt / "served"), RewriterModel.open(learnt / "run" / "best", 10)
    for query in ("red shoe now", "blue 8z1 cheap", "case"):
        torch_said = list(itertools.takewhile(lambda said: said[0] != query, model.rewrites(query, served.card.beams)))  # noqa: B023
        onnx_said = served.rewrite(query)
        assert [one.text for one in onnx_said] == [text for text, _ in torch_said]
        np.testing.assert_allclose([one.score for one in onnx_said], [score for _, score in torch_said], atol=1e-4)


def test_dpo_prefers_what_found_more(learnt: Path, tmp_path: Path) -> None:
    """Where feedback says that the other rewrite is better, the model comes to say that one."""
    draw, rows = random.Random(5), []
    for _ in range(200):
        words = asked(draw).split()
        first, last = Judged(" ".join(words[:2]), -0.2), Judged(" ".join(words[1:]), 0.4)
        rows.append(msgspec.json.encode(Rewrites(" ".join(words), (first, last))))
    (tmp_path / "feedback.jsonl").write_bytes(b"\n".join(rows))
    best = learnt / "run" / "best"
    config = settings(
        best, tmp_path / "feedback.jsonl",
        training={"loss": "dpo", "epochs": 3, "learning_rate": 0.002, "beta": 0.5, "anchor": 0.0, "evaluate_every": 0},
    )  # fmt: skip
    done = train(config, tmp_path / "run")
    assert done.best.evaluation.dev["held-out"]["share of preferences right"] >= 0.9

    def log_probability(directory: Path, text: str) -> float:
        model = RewriterModel.open(directory, 10)
        said = model.sequences([text], 8)
        with torch.no_grad():
            return float(model.log_probabilities(model.sequences(["red shoe now"], 10), said)[0][0])

    after = tmp_path / "run" / "best"
    gained = {text: log_probability(after, text) - log_probability(best, text) for text in ("shoe now", "red shoe")}
    assert gained["shoe now"] > 1 > gained["red shoe"]


def test_a_run_goes_on_with_the_same_steps(learnt: Path, tmp_path: Path) -> None:
    config = settings(learnt / "base", learnt / "rewrites.jsonl", training={"epochs": 1, "evaluate_every": 3})
    first = train(config, tmp_path / "run")
    again = train(config, tmp_path / "run")
    assert (again.steps, again.best) == (first.steps, first.best)


def test_examples_are_better_rewrites_or_the_query_itself() -> None:
    rows = [
        Rewrites("A b", (Judged("b", 0.3), Judged("a", 0.1))),
        Rewrites("C d", (Judged("d", -0.3),)),
        Rewrites("e f", (Judged("f", 0.01),)),
    ]
    training = settings(Path("x"), Path("y"), training={"unchanged": 1.0}).training
    supervised = [(pair.query, pair.better) for pair in targets(rows, training, random.Random(0))]
    assert supervised == [("A b", "b"), ("A b", "a"), ("C d", "c d"), ("e f", "e f")]
    preferred = [(pair.better, pair.worse) for pair in preferences(rows, training, random.Random(0))]
    assert preferred[0][0] == "b"
    assert preferred[0][1] in ("a", "a b")
    assert preferred[1:] == [("c d", "d")]
    train_rows, dev_rows = split(rows * 2, 0.5, 1)
    assert not {row.query for row in train_rows} & {row.query for row in dev_rows}


def test_what_cannot_be_used_says_so(learnt: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"query": "x", "rewrites": [{"text": "y"}]}\n')
    with pytest.raises(ExamplesError, match=r"bad\.jsonl.*1"):
        read_rewrites(tmp_path / "bad.jsonl")
    (tmp_path / "none.jsonl").write_text('{"query": "x", "rewrites": []}\n')
    with pytest.raises(ConfigError, match="lower training"):
        RewriterTask(settings(learnt / "base", tmp_path / "none.jsonl", training={"loss": "dpo"}))
    with pytest.raises(ConfigError, match="rewrite_tokens"):
        RewriterTask(settings(learnt / "run" / "best", learnt / "rewrites.jsonl", model={"rewrite_tokens": 5}))
    with pytest.raises(ModelError, match="aisle train rewriter"):
        export_rewriter(learnt / "base", tmp_path / "out")
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in (learnt / "served").iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    (broken / DECODER).write_bytes(b"no graph")
    with pytest.raises(ModelError, match=DECODER):
        OnnxRewriter(broken)


def test_beam_search_finds_the_best_sequence() -> None:
    """Wide enough, it is exhaustive: the order of all sequences by the mean log-probability of their tokens."""
    rng = np.random.default_rng(4)
    table = np.log(rng.dirichlet(np.ones(5), size=(5, 5)))  # by the last two tokens

    def step(prefixes: np.ndarray) -> np.ndarray:
        before = prefixes[:, -2] if prefixes.shape[1] > 1 else np.zeros(len(prefixes), np.int64)
        return table[before, prefixes[:, -1]].astype(np.float32)

    def score(ids: tuple[int, ...]) -> float:
        whole = [0, 0, *ids, 1]
        return float(np.mean([table[a, b, c] for a, b, c in zip(whole, whole[1:], whole[2:], strict=False)]))

    every = [ids for n in range(4) for ids in itertools.product((2, 3), repeat=n)]
    best = sorted(every, key=lambda ids: -score(ids))
    found = beam_search(step, 0, 1, width=50, longest=3, never=(4,))
    assert [one.ids for one in found] == best
    np.testing.assert_allclose([one.score for one in found], [score(ids) for ids in best], atol=1e-5)
    assert beam_search(lambda prefixes: np.full((len(prefixes), 5), np.nan, np.float32), 0, 1, width=2, longest=3) == []


def test_the_commands(learnt: Path, tmp_path: Path) -> None:
    """Rewrites are judged by an index, by rule and of a model's own, and a run is exported by what its recipe says."""
    index = tmp_path / "index"
    build_index(synthetic_products(), index, EngineConfig(index=IndexConfig(encoder="", reranker="", router="")))
    products = {product.product_id: product for product in synthetic_products()}
    rows = [{"query_id": "1", "query": "cheap case", "label": "E", "product": products["P0099"]}]
    rows += [{"query_id": "2", "query": "lamp now", "label": "I", "product": products["P0000"]}]
    (tmp_path / "examples.jsonl").write_bytes(b"\n".join(map(msgspec.json.encode, rows)))

    def run(*arguments: object) -> Any:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    asked = ("train", "rewrites", index, tmp_path / "examples.jsonl", "--labels", "E=1,I=0")
    done = run(*asked, "--out", tmp_path / "rules.jsonl")
    assert "1 queries, 1 of them with a rewrite that finds more" in done.output
    (row,) = read_rewrites(tmp_path / "rules.jsonl")
    assert row.query == "cheap case"
    assert max(judged.gain for judged in row.rewrites) == row.best.gain > 0
    done = run("export", learnt / "run" / "best", "--out", tmp_path / "served")
    assert f'rewriter = "{tmp_path / "served"}"' in done.output
    assert run(*asked, "--out", tmp_path / "own.jsonl", "--rewriter", tmp_path / "served").exit_code == 0
    own = [judged.text for judged in read_rewrites(tmp_path / "own.jsonl")[0].rewrites]
    assert own == [said.text for said in OnnxRewriter(tmp_path / "served").rewrite("cheap case")]
    failed = run(*asked[:-1], "E=much", "--out", tmp_path / "x.jsonl")
    assert failed.exit_code != 0
    assert "--labels has 'E=much'" in failed.output
