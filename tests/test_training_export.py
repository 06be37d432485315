"""Export of a small, randomly initialised cross-encoder: the same logits come out, and what differs is refused."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
from tokenizers import normalizers
from transformers import BertConfig, BertForSequenceClassification
from typer.testing import CliRunner

from engine.cli import app
from engine.errors import ConfigError, ModelError
from engine.product import from_json
from ranking.cross_encoder import CrossEncoderModel
from tests.word_tokenizer import word_tokenizer
from training.data.examples import ExamplesError
from training.export import reranker as exporting
from training.export.reranker import FP32, INT8, export

QUERY = "samsung fridge"
PRODUCTS = ["double door fridge", "a galaxy phone with a bright camera", "tv " * 60]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two narrow layers over the sample catalog's words, with weights large enough to tell pairs apart."""
    directory = tmp_path_factory.mktemp("model") / "tiny"
    titles = [from_json(line).title for line in (exporting._SAMPLE / "corpus.jsonl").read_bytes().splitlines()]
    tokenizer = word_tokenizer([*titles, *PRODUCTS, QUERY])
    tokenizer.save_pretrained(directory)
    torch.manual_seed(7)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=64, initializer_range=0.2, num_labels=1,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(directory)
    recipe = {"name": "tiny-reranker", "query_tokens": 8, "product_tokens": 32, "scale": 1.5, "offset": -0.5}
    recipe |= {"source": "made up", "license": "MIT", "card": "## Data\n\nNone at all.", "epochs": 3}
    (directory / "training.json").write_text(json.dumps(recipe))
    return directory


@pytest.fixture(scope="module")
def exported(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "tiny"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export(model, out, tolerance=0.1)
    return out


def copied(model: Path, to: Path, **changes: object) -> Path:
    """The model's files, with changes to ``training.json``."""
    to.mkdir()
    for path in model.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    recipe = json.loads((to / "training.json").read_bytes())
    (to / "training.json").write_text(json.dumps(recipe | changes))
    return to


def judged(path: Path, labels: list[float]) -> Path:
    rows = [
        {"query_id": f"q{i % 2}", "query": QUERY, "label": label, "product": {"product_id": f"p{i}", "title": text}}
        for i, (label, text) in enumerate(zip(labels, PRODUCTS * len(labels), strict=False))
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def inputs(directory: Path, products: list[str]) -> dict[str, np.ndarray]:
    served = CrossEncoderModel(directory)
    rows = [served.tokenizer.encode(QUERY, product).ids[:40] for product in products]
    ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
    for row, of_row in enumerate(rows):
        ids[row, : len(of_row)] = of_row
    return {"input_ids": ids, "attention_mask": (ids > 0).astype(np.int64)}


def logits(directory: Path, products: list[str]) -> np.ndarray:
    scores: np.ndarray = CrossEncoderModel(directory).session.run(None, inputs(directory, products))[0]
    return scores


def test_fp32_gives_the_original_logits(model: Path, tmp_path: Path) -> None:
    done = export(model, tmp_path / "out", quantize=False)
    assert list(done.parity.forms) == ["torch", FP32]
    feeds = {name: torch.from_numpy(array) for name, array in inputs(tmp_path / "out", PRODUCTS).items()}
    with torch.inference_mode():
        expected = BertForSequenceClassification.from_pretrained(model)(**feeds).logits[:, 0].numpy()
    np.testing.assert_allclose(logits(tmp_path / "out", PRODUCTS), expected, atol=1e-5)
    assert np.ptp(expected) > 0.01  # or any constant would pass


def test_eight_bits_stay_close_and_the_readme_says_how_close(exported: Path) -> None:
    parity = json.loads((exported / "parity.json").read_bytes())
    assert parity["judged_by"] == "the torch model's own order"
    assert parity["forms"][FP32]["max_difference"] < 1e-5
    assert 1e-5 < parity["forms"][INT8]["mean_difference"] < 0.1
    assert 0.9 < parity["forms"][INT8]["kendall_tau"] < 1
    readme = (exported / "README.md").read_text()
    for part in ("# tiny-reranker", "Licence: MIT", "## Data\n\nNone at all.", "torch model's own order", "| 8 bits |"):
        assert part in readme
    assert str(exported.parent) not in readme
    card = CrossEncoderModel(exported).card
    assert (card.query_tokens, card.product_tokens, card.scale, card.offset) == (8, 32, 1.5, -0.5)
    assert card.sha256["model.onnx"] in readme


def test_a_score_does_not_depend_on_what_else_is_scored(exported: Path) -> None:
    together = logits(exported, PRODUCTS)
    alone = [logits(exported, [product])[0] for product in PRODUCTS]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(logits(exported, PRODUCTS[::-1])[::-1], together, atol=1e-5)


def test_the_same_model_gives_the_same_bytes(model: Path, exported: Path, tmp_path: Path) -> None:
    export(model, tmp_path / "tiny", tolerance=0.1)
    for path in exported.iterdir():
        assert path.read_bytes() == (tmp_path / "tiny" / path.name).read_bytes(), path.name
    assert sorted(path.name for path in exported.iterdir()) == [
        "README.md", "model.onnx", "parity.json", "reranker.json", "tokenizer.json"
    ]  # fmt: skip


def test_judgments_and_calibration_are_taken_from_files(model: Path, tmp_path: Path) -> None:
    file = judged(tmp_path / "judged.jsonl", [1, 0, 0.5, 0, 1, 0])
    done = export(model, tmp_path / "out", judged=file, calibration=file, tolerance=0.5)
    assert (done.parity.n_pairs, done.parity.n_queries, done.parity.judged_by) == (6, 2, "judged.jsonl")
    assert 0 < done.parity.forms["torch"].ndcg <= 1
    with pytest.raises(ExamplesError, match=r"one class only: all 4 rows say 1, as does row 1 \(query 'samsung"):
        export(model, tmp_path / "out", judged=judged(tmp_path / "one.jsonl", [1, 1, 1, 1]))


def test_the_command_prints_the_parity_report(model: Path, tmp_path: Path) -> None:
    file = judged(tmp_path / "judged.jsonl", [1, 0, 0.5, 0, 1, 0])
    options = ["--judged", file, "--calibration", file, "--tolerance", "0.5"]
    done = CliRunner().invoke(app, [str(part) for part in ("export", model, "--out", tmp_path / "out", *options)])
    assert done.exit_code == 0
    for part in ("tiny-reranker", "6 pairs of 2 queries, nDCG@10 by judged.jsonl", "| 8 bits |", "--reranker"):
        assert part in done.stdout
    done = CliRunner().invoke(app, ["export", str(tmp_path / "none"), "--out", str(tmp_path / "more"), "--fp32"])
    assert done.exit_code == 2
    assert "has no *.safetensors" in done.stderr


def test_what_differs_is_refused_and_leaves_nothing(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match=r"does not survive 8 bits.*allowed is 0\.00%.*--fp32"):
        export(model, tmp_path / "out", tolerance=0)
    monkeypatch.setattr(exporting, "_MAX_DEVIATION", -1.0)
    with pytest.raises(ModelError, match="is not the original"):
        export(model, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_tokenizer_that_went_another_way_is_noticed(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = exporting.write_tokenizer

    def without_lower_case(tokenizer: object, work: Path, name: str) -> None:
        written = write(tokenizer, work, name)
        written.normalizer = normalizers.Sequence([])
        written.save(str(work / "tokenizer.json"))

    monkeypatch.setattr(exporting, "write_tokenizer", without_lower_case)
    with pytest.raises(ModelError, match="is not the original"):
        export(model, tmp_path / "out", quantize=False)


@pytest.mark.parametrize("breaking", ["truncated", "pickle", "headless", "two labels", "no tokenizer", "own code"])
def test_a_checkpoint_that_cannot_be_used_is_refused(breaking: str, model: Path, tmp_path: Path) -> None:
    broken = copied(model, tmp_path / "broken")
    weights, config = broken / "model.safetensors", broken / "config.json"
    settings = json.loads(config.read_bytes())
    if breaking == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif breaking == "pickle":
        weights.rename(broken / "pytorch_model.bin")
    elif breaking == "headless":
        BertForSequenceClassification.from_pretrained(model).bert.save_pretrained(broken)
    elif breaking == "two labels":
        torch.manual_seed(1)
        two = BertConfig.from_pretrained(model, num_labels=2)
        BertForSequenceClassification(two).save_pretrained(broken)
    elif breaking == "no tokenizer":
        (broken / "tokenizer.json").unlink()
    else:
        code = {"AutoModelForSequenceClassification": "evil.Model", "AutoConfig": "evil.Config"}
        config.write_text(json.dumps(settings | {"model_type": "evil", "auto_map": code}))
        (broken / "evil.py").write_text("raise SystemExit('it ran')")
    said = {"pickle": r"pytorch_model\.bin is a pickle", "headless": "no fine-tuned", "two labels": "num_labels 2"}
    with pytest.raises(ModelError, match=said.get(breaking, "cannot load the model")):
        export(broken, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"query_tokens": 0}, "query_tokens is 0; it must be at least 1"),
        ({"scale": "big"}, r"training\.json: Expected `float`.*scale"),
        ({"scale": -1.0}, "must be above 0"),
        ({"product_tokens": 60}, "make 71, and the model reads at most 64"),
    ],
)
def test_a_recipe_that_cannot_work_is_explained(
    changes: dict[str, object], said: str, model: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=said):
        export(copied(model, tmp_path / "model", **changes), tmp_path / "out")


def test_a_reranker_is_replaced_and_anything_else_is_not(model: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="no reranker directory"):
        export(model, tmp_path / "notes")
    with pytest.raises(ConfigError, match=r"tolerance is 1\.5"):
        export(model, tmp_path / "out", tolerance=1.5)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "reranker.json").write_text("an old one")
    export(model, tmp_path / "out", quantize=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes", "out"]
    assert CrossEncoderModel(tmp_path / "out").card.name == "tiny-reranker"
