"""Training a decoder to order lists: tiny models of random weights, of the architectures that full-size ones have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, PreTrainedTokenizerFast, Qwen3Config
from typer.testing import CliRunner

import training
from engine.cli import app
from engine.errors import ConfigError
from ranking.lists import named
from ranking.listwise.onnx import OnnxDecoder
from ranking.listwise.prompts import PROMPTS, Prompts
from ranking.listwise.reranker import ListwiseModel
from ranking.listwise.settings import LISTWISE
from tests.conftest import synthetic_products
from tests.training_sets import settings, write_set
from training.export.decoder import export_decoder
from training.export.decoder_bits import in_columns
from training.models.decoder import TrainedDecoder, TransformersDecoder
from training.report import Quality
from training.run import Outcome, train
from training.settings import ModelSettings
from training.tasks import config_of as config_of_task
from training.tasks.listwise import ListwiseConfig

PRODUCTS = synthetic_products()
SIZES: dict[str, Any] = {
    "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12,
    "intermediate_size": 96, "max_position_embeddings": 1024, "tie_word_embeddings": True,
}  # fmt: skip
CONFIGS = {"llama": LlamaConfig, "qwen3": Qwen3Config}


def write_decoder(directory: Path, kind: str = "llama") -> Path:
    """A configuration and a tokenizer without weights: training begins with random ones."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=["<end>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator((f"{p.title} {p.description} [A] > [B] <<< >>> yes no" for p in PRODUCTS), trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>").save_pretrained(directory)
    CONFIGS[kind](
        vocab_size=tokenizer.get_vocab_size(), bos_token_id=None, eos_token_id=0, pad_token_id=0, **SIZES
    ).save_pretrained(directory)
    return directory


def config_of(base: Path, data: Path, training: dict[str, Any] | None = None, **model: Any) -> ListwiseConfig:
    tables = msgspec.to_builtins(settings(base, data))
    for other in ("heads", "neurons", "activation"):
        del tables["model"][other]
    tables["model"] |= {"list_size": 4, "product_characters": 24, **model}
    del tables["training"]["loss"]
    tables["training"] |= {"epochs": 1, "learning_rate": 3e-3, "dev_queries": 2, **(training or {})}
    return msgspec.convert(json.loads(json.dumps(tables)), ListwiseConfig)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("set"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_decoder(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def done(base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return train(config_of(base, data, {"epochs": 4}), tmp_path_factory.mktemp("run"))


def losses(outcome: Outcome) -> list[float]:
    rows = (outcome.directory / "metrics.jsonl").read_text().splitlines()
    return [json.loads(row)["loss"] for row in rows]


def test_both_losses_fall(done: Outcome) -> None:
    found = losses(done)
    assert found[-1] < 0.95 * found[0]
    assert set(done.best.evaluation.dev["held-out"]) == {"nDCG@10", "tau of two orders"}


def test_what_was_trained_is_served(done: Outcome, tmp_path: Path) -> None:
    (tmp_path / LISTWISE).write_text(
        f'name = "trained"\nwindow = 4\nstride = 2\n[decoder]\nkind = "transformers"\npath = "{done.directory}/best"\n'
    )
    served = ListwiseModel(tmp_path).open(lambda rows: [PRODUCTS[row] for row in rows], None, 1)
    scored = served.score("acme phone 108", np.arange(8), None)
    assert np.isfinite(scored.scores).all()
    assert not scored.degraded


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_every_method_and_architecture_learns_and_is_saved(kind: str, method: str, data: Path, tmp_path: Path) -> None:
    if method == "qlora":
        pytest.importorskip("bitsandbytes")
    torch.manual_seed(3)
    config = config_of(write_decoder(tmp_path / "base", kind), data, method=method)
    task = config.task(tmp_path, tmp_path / "data", False, lambda *_, **__: None)
    batch = task.batches(0)[0][:2]
    moving = [parameter for parameter in task.module.parameters() if parameter.requires_grad]
    optimizer, before = torch.optim.AdamW(moving, 5e-3), task.loss(batch)[0].item()
    for _ in range(4):
        task.loss(batch)[0].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert task.loss(batch)[0].item() < 0.98 * before
    task.save(tmp_path / "saved", task.recipe(Quality({}, 0.0, {})))
    asked = (["Which of these is a phone?"], "[", ["A", "B", "C"])
    found = TransformersDecoder(tmp_path / "saved").first(*asked)
    np.testing.assert_allclose(found, task._decoder.first(*asked), atol=0.05 if method == "qlora" else 1e-4)


def test_dpo_goes_on_from_a_trained_model(done: Outcome, data: Path, tmp_path: Path) -> None:
    best = done.directory / "best"
    more = {"loss": "dpo", "max_steps": 8, "evaluate_every": 4, "learning_rate": 1e-3, "anchor": 0.0}
    outcome = train(config_of(best, data, more), tmp_path / "run")
    found = losses(outcome)
    assert found[0] == pytest.approx(np.log(2), abs=0.3)  # at first no order is preferred to what it was
    assert found[-1] < found[0]


def test_a_decoder_is_made_of_catalogs(data: Path, tmp_path: Path) -> None:
    arguments = ["train", "decoder", str(data / "corpus.jsonl"), "--width", "64", "--layers", "2", "--out"]
    found = CliRunner().invoke(app, [*arguments, str(tmp_path / "made"), "--vocabulary", "600"])
    assert found.exit_code == 0, found.output
    decoder = TrainedDecoder.load(ModelSettings(base=str(tmp_path / "made")))
    n = sum(parameter.numel() for parameter in decoder.model.parameters())
    assert f"{n / 1e6:.1f} million weights" in found.output
    assert decoder.first(["[A] <<<Acme phone 1>>>"], "[", ["A", "B"]).shape == (1, 2)
    assert "exists" in CliRunner().invoke(app, [*arguments, str(tmp_path / "made")]).output


def test_some_layers_are_kept(base: Path) -> None:
    decoder = TrainedDecoder.load(ModelSettings(base=str(base), layers=(1,)))
    assert decoder.model.config.num_hidden_layers == len(decoder.model.model.layers) == 1
    assert decoder.first(["Which?"], "[", ["A", "B"]).shape == (1, 2)


def test_a_window_of_more_than_letters_is_refused(base: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises((ConfigError, msgspec.ValidationError), match="list_size is 30"):
        config_of(base, data, list_size=30)


@pytest.mark.parametrize("kind", CONFIGS)
def test_what_is_exported_reads_as_torch_does(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    decoder = TrainedDecoder.load(ModelSettings(base=str(write_decoder(tmp_path / "base", kind))))
    decoder.save(tmp_path / "saved")
    asked = (["[A] <<<red fridge>>> [B] <<<phone>>>"], "[", ["A", "B", "C"])
    exact = OnnxDecoder(export_decoder(tmp_path / "saved", tmp_path / "fp32", bits=32).directory, 1)
    np.testing.assert_allclose(exact.first(*asked), decoder.first(*asked), atol=1e-4)
    assert exact.complete(asked[0][0], "[", 12) == decoder.complete(asked[0][0], "[", 12)
    assert exact.n_tokens(asked[0][0]) == decoder.n_tokens(asked[0][0])
    small = export_decoder(tmp_path / "saved", tmp_path / "small", bits=8)
    assert small.model_bytes < small.fp32_bytes
    assert small.deviation < 0.1
    served = named(str(tmp_path / "small")).open(lambda rows: [PRODUCTS[row] for row in rows], None, 1)
    assert np.isfinite(served.score("acme phone 108", np.arange(8), None).scores).all()


@pytest.mark.parametrize("bits", [8, 32])
def test_what_prompts_share_is_read_once_and_changes_nothing(bits: Any, tmp_path: Path) -> None:
    torch.manual_seed(2)
    TrainedDecoder.load(ModelSettings(base=str(write_decoder(tmp_path / "base")))).save(tmp_path / "saved")
    out = export_decoder(tmp_path / "saved", tmp_path / "out", bits=bits).directory
    prompts = ["Rank these: [A] red fridge [B] phone", "Rank these: [A] red case [B] tv", "Rank these: [A] red case"]
    decoder, read = OnnxDecoder(out, 1), []
    plain = decoder.read
    decoder.read = lambda ids, state=None: (read.append(len(ids)), plain(ids, state))[1]  # type: ignore[method-assign]
    together = decoder.first([*prompts, prompts[-1]], "[", ["A", "B"])
    alone = [OnnxDecoder(out, 1).first([prompt], "[", ["A", "B"])[0] for prompt in prompts]
    np.testing.assert_allclose(together, [*alone, alone[-1]], atol=1e-4)
    assert max(read[1:]) < read[0]
    assert read[-1] == 1


def test_whole_numbers_in_columns_stand_for_the_matrix() -> None:
    matrix = np.random.default_rng(0).normal(size=(64, 6)).astype(np.float32) * np.logspace(-3, 3, 6, dtype=np.float32)
    matrix[:, 2] = 0
    numbers, scales = in_columns(matrix)
    error = np.abs(numbers * scales - matrix).max(axis=0)
    assert (error <= np.abs(matrix).max(axis=0) / 254 * 1.001).all()


def prompts_in(folder: Path) -> Path:
    (folder / PROMPTS).write_text(
        'window = "For {query}\\n{products}\\nFor {query}:"\nyes_no = "{products}"\nproduct = "{text} [{label}]"\n'
    )
    return folder / PROMPTS


def test_a_run_with_prompts_and_points_learns_and_takes_its_prompts_along(
    base: Path, data: Path, tmp_path: Path
) -> None:
    points = {"point_weight": 1.0, "rank_weight": 0.01, "language_weight": 0.0, "epochs": 4}
    outcome = train(config_of(base, data, points, prompts=str(prompts_in(tmp_path))), tmp_path / "run")
    found = losses(outcome)
    assert found[-1] < 0.9 * found[0]
    out = export_decoder(outcome.directory / "best", tmp_path / "out", bits=8).directory
    served = ListwiseModel(out)
    assert (served.settings.prompts, served.settings.defence.characters) == (PROMPTS, 24)
    assert (out / PROMPTS).read_text() == (tmp_path / PROMPTS).read_text()


@pytest.mark.parametrize("line", ["{text} [{label}]", "[{label}] {text}"])
def test_places_are_where_both_product_and_label_were_read(line: str, base: Path) -> None:
    decoder, prompts = (
        TrainedDecoder.load(ModelSettings(base=str(base))),
        Prompts(window="{products}\n{query}", yes_no=""),
    )
    prompts = msgspec.structs.replace(prompts, product=line)
    names, texts = ["A", "B"], ["<<<Acme phone>>>", "<<<Acme phone>>>"]
    prompt = prompts.of_window("tv", texts, names)
    places = decoder.places(prompt, "[", [prompts.line(*one) for one in zip(names, texts, strict=True)])
    ids = decoder.ids(prompt, "[")
    read = [decoder.tokenizer.decode(ids[: place + 1]) for place in places]
    last = [prompts.line(*one).rstrip("]") for one in zip(names, texts, strict=True)]
    assert [text.endswith(end) for text, end in zip(read, last, strict=True)] == [True, True]
    assert places[0] < places[1]


def test_texts_read_together_say_what_they_say_alone(base: Path) -> None:
    torch.manual_seed(4)
    decoder = TrainedDecoder.load(ModelSettings(base=str(base)), bf16="off")
    texts = [decoder.ids(text, "[") for text in ("a phone", "a much longer text about a fridge and a tv")]
    places = [[1, len(text) - 1] for text in texts]
    with torch.inference_mode():
        together = decoder.logits(decoder.model, texts, places)
        alone = [
            decoder.model(input_ids=torch.tensor([text])).logits[0, of_text]
            for text, of_text in zip(texts, places, strict=True)
        ]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_the_command_exports_a_decoder(done: Outcome, tmp_path: Path) -> None:
    arguments = ["export", str(done.directory / "best"), "--out", str(tmp_path / "out"), "--bits"]
    assert "must be 4 or 8" in CliRunner().invoke(app, [*arguments, "5"]).output
    found = CliRunner().invoke(app, [*arguments, "4"])
    assert found.exit_code == 0, found.output
    assert "listwise = " in found.output
    assert "window = 4" in (tmp_path / "out" / LISTWISE).read_text()


@pytest.mark.parametrize("recipe", ["listwise", "listwise-dpo", "one-pass"])
def test_recipes_can_be_read(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AISLE_DATA", "data")
    path = Path(training.__file__).parent / "recipes" / f"{recipe}.toml"
    assert config_of_task(recipe.removesuffix("-dpo")).read(path).name == f"aisle-{recipe}"
