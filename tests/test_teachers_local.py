"""Local models as teachers: a run of ours, others' classifiers, language models by their next word and by writing."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, LlamaConfig, LlamaForCausalLM

from engine.errors import ConfigError
from engine.product import Product
from engine.text import encoded_text
from tests.conftest import synthetic_products
from tests.word_tokenizer import word_tokenizer
from training.models.cross_encoder import CrossEncoder
from training.report import Recipe
from training.teachers import Pair
from training.teachers.local import Classifier, LanguageModel
from training.teachers.prompts import Verdict, yes_or_no
from training.teachers.settings import RunTeacherSettings, TransformersTeacherSettings, open_labeller, open_writer

PAIRS = [
    Pair(query, product)
    for query in ("acme phone 104", "case")
    for product in synthetic_products()[:7]
    for _ in range(1 + (query == "case"))
]


def write_classifier(directory: Path, n_outputs: int) -> Path:
    tokenizer = word_tokenizer(encoded_text(product) for product in synthetic_products())
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=40, num_labels=n_outputs, initializer_range=0.5,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def write_language_model(directory: Path, words: str = "yes no") -> Path:
    texts = [*(yes_or_no(pair) for pair in PAIRS), words, '{"probability": 0.5}']
    tokenizer = word_tokenizer(texts)
    torch.manual_seed(4)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=256, pad_token_id=0, bos_token_id=2, eos_token_id=3,
        initializer_range=0.5,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def settings(path: Path, **more: object) -> TransformersTeacherSettings:
    return msgspec.convert({"kind": "transformers", "path": str(path)} | more, TransformersTeacherSettings)


def test_a_run_labels_with_its_calibrated_probability_and_says_who_it_is(tmp_path: Path) -> None:
    write_classifier(tmp_path, 1)
    recipe = Recipe(query_tokens=8, product_tokens=24, scale=2.0, offset=-0.5)
    (tmp_path / "training.json").write_bytes(msgspec.json.encode(recipe))
    steps: list[tuple[int, int]] = []
    teacher = open_labeller(RunTeacherSettings(path=str(tmp_path)))
    given = teacher.label(PAIRS, lambda *step: steps.append(step))
    model = CrossEncoder.open(tmp_path)
    queries = model.encode([pair.query for pair in PAIRS], 8, "query")
    products = model.encode([encoded_text(pair.product) for pair in PAIRS], 24)
    logits = model.score(list(zip(queries, products, strict=True)))
    np.testing.assert_allclose(given, 1 / (1 + np.exp(-(2 * logits - 0.5))), atol=1e-5)
    assert np.ptp(given) > 0.01
    assert steps[-1] == (len(PAIRS), len(PAIRS))
    (tmp_path / "training.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(recipe, scale=3.0)))
    assert open_labeller(RunTeacherSettings(path=str(tmp_path))).fingerprint != teacher.fingerprint
    with pytest.raises(ConfigError, match="best directory of a run"):
        open_labeller(RunTeacherSettings(path=str(tmp_path / "nowhere")))


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_a_classifier_labels_each_pair_whatever_it_is_read_beside(n_outputs: int, tmp_path: Path) -> None:
    write_classifier(tmp_path, n_outputs)
    given = open_labeller(settings(tmp_path, batch_size=4)).label(PAIRS)
    alone = open_labeller(settings(tmp_path, batch_size=1)).label(PAIRS)
    np.testing.assert_allclose(given, alone, atol=1e-5)
    model = BertForSequenceClassification.from_pretrained(tmp_path).eval()
    tokenizer = word_tokenizer(encoded_text(product) for product in synthetic_products())
    pair = PAIRS[3]
    inputs = tokenizer(
        pair.query, encoded_text(pair.product), truncation="longest_first", max_length=40, return_tensors="pt"
    )
    with torch.inference_mode():
        logits = model(**inputs).logits[0]
    expected = logits.sigmoid() if n_outputs == 1 else logits.softmax(dim=0)[1:]
    assert given[3] == pytest.approx(expected.item(), abs=1e-5)
    assert np.ptp(given) > 0.01


def test_a_language_model_labels_by_yes_beside_no(tmp_path: Path) -> None:
    write_language_model(tmp_path)
    teacher = LanguageModel(settings(tmp_path, batch_size=5))
    given = teacher.label(PAIRS)
    np.testing.assert_allclose(given, LanguageModel(settings(tmp_path, batch_size=1)).label(PAIRS), atol=1e-4)
    model = LlamaForCausalLM.from_pretrained(tmp_path).eval()
    tokenizer = teacher._tokenizer
    with torch.inference_mode():
        last = model(tokenizer(yes_or_no(PAIRS[2]), return_tensors="pt")["input_ids"]).logits[0, -1]
    yes, no = (last[tokenizer.convert_tokens_to_ids(word)] for word in ("yes", "no"))
    assert given[2] == pytest.approx((yes - no).sigmoid().item(), abs=1e-4)
    assert np.ptp(given) > 0.01


def test_a_language_model_writes_the_same_for_the_same_seed_and_misfits_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_language_model(tmp_path)
    writer = open_writer(settings(tmp_path, answer_tokens=6))
    assert writer.ask(["first", "second"], Verdict) == [None, None]
    assert isinstance(writer, LanguageModel)
    drawn = [writer._written("first phone", attempt) for attempt in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert LanguageModel(settings(tmp_path, answer_tokens=6, seed=1))._written("first phone", 0) != drawn[0]
    answers = {("a", 0): "no JSON", ("a", 1): '{"probability": 0.5}', ("b", 0): '{"probability": 0}'}
    monkeypatch.setattr(writer, "_written", lambda prompt, attempt: answers[prompt, attempt])
    steps: list[tuple[int, int]] = []
    assert writer.ask(["a", "b"], Verdict, lambda *step: steps.append(step)) == [Verdict(0.5), Verdict(0.0)]
    assert steps == [(1, 2), (2, 2)]


def test_what_cannot_label_or_write_is_told(tmp_path: Path) -> None:
    for name in ("one", "three", "words"):
        (tmp_path / name).mkdir()
    write_classifier(tmp_path / "three", 3)
    with pytest.raises(ConfigError, match="3 outputs"):
        open_labeller(settings(tmp_path / "three"))
    with pytest.raises(ConfigError, match="name a causal language model"):
        open_writer(settings(tmp_path / "three"))
    write_language_model(tmp_path / "words", words="oui non")
    with pytest.raises(ConfigError, match="no token for 'no'"):
        open_labeller(settings(tmp_path / "words"))
    with pytest.raises(ConfigError, match="name a model for sequence classification"):
        Classifier(settings(tmp_path / "words"))
    with pytest.raises(ConfigError, match="is no directory"):
        open_labeller(settings(tmp_path / "nowhere"))
    (tmp_path / "one" / "config.json").write_text(json.dumps({"model_type": "no such thing"}))
    with pytest.raises(ConfigError, match="no model that can be read"):
        open_labeller(settings(tmp_path / "one"))


def test_a_prompt_that_is_too_long_for_the_model_is_told(tmp_path: Path) -> None:
    write_language_model(tmp_path)
    long = Pair("phone", Product(product_id="1", title="x " * 500))
    with pytest.raises(ConfigError, match="more than the 256"):
        LanguageModel(settings(tmp_path)).label([long])
