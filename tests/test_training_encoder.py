"""Conversion of a small, randomly initialised model: the same vectors come out, and what differs is refused."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("sentence_transformers")

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from tokenizers import Tokenizer, normalizers
from transformers import BertConfig, BertModel

from engine.dense.encoder import OnnxEncoder
from engine.errors import ConfigError, ModelError
from engine.product import from_json
from tests.word_tokenizer import word_tokenizer
from training.export import encoder as training
from training.export.encoder import Figures, convert

TEXTS = ["samsung fridge", "a galaxy phone with a bright camera", "", "tv " * 60]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two narrow layers, which also takes token types, over the words of the sample catalog."""
    directory = tmp_path_factory.mktemp("model")
    titles = [from_json(line).title for line in training._SAMPLE.read_bytes().splitlines()]
    tokenizer = word_tokenizer([*titles, *TEXTS])
    torch.manual_seed(7)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(directory / "base")
    tokenizer.save_pretrained(directory / "base")
    layers = Transformer(str(directory / "base"), max_seq_length=48)
    SentenceTransformer(modules=[layers, Pooling(32), Normalize()], device="cpu").save(str(directory / "tiny"))
    card = directory / "tiny" / "README.md"
    card.write_text("---\nlanguage: en\nlicense: mit\n---\n# tiny\n")
    return directory / "tiny"


@pytest.fixture(scope="module")
def converted(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "tiny"
    convert(model, out, quantize=False)
    return out


def test_the_converted_model_gives_the_original_vectors(model: Path, converted: Path) -> None:
    original = SentenceTransformer(str(model), device="cpu").encode(TEXTS, batch_size=1)
    served = OnnxEncoder(converted, max_tokens=48)
    vectors = served.encode_queries(TEXTS)
    np.testing.assert_allclose(vectors, original, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert (served.dim, served.card.name, served.card.max_tokens) == (32, "tiny", 48)
    assert vectors[0] @ vectors[1] < 0.999  # or any constant would pass


def test_eight_bits_stay_close_and_the_card_says_how_close(model: Path, tmp_path: Path) -> None:
    figures = Figures("nDCG@10 of made-up queries.", {"made up": {"queries": 3, "fp32": 0.5, "8 bits": 0.49}})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        done = convert(model, tmp_path / "tiny", max_tokens=16, query_prefix="query: ", figures=figures)
    assert done.mean_cosine is not None
    assert 0.98 < done.mean_cosine < 1
    assert done.model_bytes < done.fp32_bytes
    card = (tmp_path / "tiny" / "README.md").read_text()
    for part in (
        "Licence: mit",
        "cut at 16 tokens",
        "prefix 'query: '",
        f"{done.mean_cosine:.4f}",
        "| made up | 3 | 0.5 | 0.49 |",
    ):
        assert part in card
    assert str(tmp_path) not in card
    assert str(model.parent) not in card


def test_the_same_model_gives_the_same_bytes(model: Path, converted: Path, tmp_path: Path) -> None:
    convert(model, tmp_path / "tiny", quantize=False)
    for path in converted.iterdir():
        assert path.read_bytes() == (tmp_path / "tiny" / path.name).read_bytes(), path.name


def test_the_models_own_prompts_become_prefixes(model: Path, tmp_path: Path) -> None:
    prompted = SentenceTransformer(str(model), device="cpu", prompts={"query": "find: ", "document": "item: "})
    prompted.save(str(tmp_path / "prompted"))
    card = convert(tmp_path / "prompted", tmp_path / "out", quantize=False, product_prefix="").card
    assert (card.query_prefix, card.product_prefix) == ("find: ", "")


@pytest.mark.parametrize(
    ("limit", "said"), [("_MAX_DEVIATION", "is not the original"), ("_MIN_MEAN_COSINE", "does not survive 8 bits")]
)
def test_a_model_that_differs_is_refused_and_leaves_nothing(
    limit: str, said: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, limit, {"_MAX_DEVIATION": -1.0, "_MIN_MEAN_COSINE": 1.1}[limit])
    with pytest.raises(ModelError, match=said):
        convert(model, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_tokenizer_that_went_another_way_is_noticed(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison covers tokenisation too, not the graph alone."""
    lower_cased = training._export

    def export(original: SentenceTransformer, work: Path, name: str, adapters: None) -> None:
        lower_cased(original, work, name, adapters)
        tokenizer = Tokenizer.from_file(str(work / "tokenizer.json"))
        tokenizer.normalizer = normalizers.Sequence([])
        tokenizer.save(str(work / "tokenizer.json"))

    monkeypatch.setattr(training, "_export", export)
    with pytest.raises(ModelError, match="is not the original"):
        convert(model, tmp_path / "out", quantize=False)


def test_an_encoder_is_replaced_and_anything_else_is_not(model: Path, converted: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="no encoder directory"):
        convert(model, tmp_path / "notes")
    convert(model, tmp_path / "out", quantize=False, max_tokens=16)
    convert(model, tmp_path / "out", quantize=False)
    assert (tmp_path / "out" / "encoder.json").read_bytes() == (converted / "encoder.json").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes", "out"]


def test_wrong_arguments_are_explained(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="from 8 to 48"):
        convert(model, tmp_path / "out", max_tokens=49)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="cannot load the model 'empty'"):
        convert(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(ConfigError, match="cannot read the figures"):
        Figures.read(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text('{"caption": 3}')
    with pytest.raises(ConfigError, match=r"bad\.json"):
        Figures.read(tmp_path / "bad.json")
