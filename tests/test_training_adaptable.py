"""Graphs that take LoRA matrices: what is served with an adapter is what torch gives with LoRA merged."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")

import onnx
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer
from transformers import AutoTokenizer, BertForSequenceClassification, BertModel

from engine.adapters import ADAPTABLE, Adapter, AdapterBase, AdapterCard
from engine.dense.encoder import CARD as ENCODER_CARD
from engine.dense.encoder import EncoderCard, OnnxEncoder
from engine.errors import AdapterError, ConfigError
from ranking.card import CARD, RerankerCard
from ranking.cross_encoder import CrossEncoder, CrossEncoderModel
from tests.conftest import synthetic_products
from tests.rerankers import checksums
from tests.training_sets import write_base
from training.export import write_graph, write_tokenizer
from training.export.adaptable import quantise_adaptable, shapes_of, targets_of, write_adaptable
from training.export.quantize import to_8_bits, to_static_8_bits
from training.export.reranker import _Exported, _FirstToken
from training.methods import lora_matrices
from training.methods.saved import fingerprint

QUERIES = ["acme phone with a bright camera", "fridge keeps food fresh", "globex tv"]
ROWS = np.arange(40)
IDS = torch.arange(1, 9).reshape(2, 4)
# The head is left out: peft's own treatment of it is another, and it has a test of its own.
LORA = {
    "all": r".*(query|key|value|dense)",
    "attention": r".*attention.*(query|key|value|dense)",
    "query+value": r".*(query|value)",
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


def reranker_model(base: Path, act: str = "gelu") -> Any:
    """With weights and biases large enough to tell pairs apart."""
    torch.manual_seed(3)
    model = BertForSequenceClassification.from_pretrained(
        base, num_labels=1, hidden_act=act, attn_implementation="eager"
    )  # fmt: skip
    enlarge(model)
    return model.eval()


def enlarge(model: Any) -> None:
    for name, weight in model.named_parameters():
        if weight.ndim == 2 or (name.endswith("bias") and "LayerNorm" not in name):
            torch.nn.init.normal_(weight, std=0.3)


class Pooled(torch.nn.Module):
    """Mean pooling, as the converted encoders have it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weights = attention_mask[:, :, None].float()
        return torch.nn.functional.normalize((hidden * weights).sum(1) / weights.sum(1), dim=-1)


def adapted(model: Any, seed: int, targets: str, size: float = 0.3, **more: Any) -> Any:
    """A LoRA of random matrices over the model, of unlike ranks. With a ``size`` of 0.3 it changes weights by as much
    as they are, with 0.1 by a tenth.
    """
    config = LoraConfig(
        r=4, lora_alpha=6, target_modules=LORA[targets], lora_dropout=0.0, rank_pattern={"layer.0.*query": 3}, **more
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)  # peft asks transformers by an old name
        lora = get_peft_model(copy.deepcopy(model), config).eval()
    torch.manual_seed(seed)
    for name, weight in lora.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=size)
    return lora


def adapter_of(lora: Any, name: str, kind: str, base: str) -> Adapter:
    return Adapter(AdapterCard(name=name, kind=kind, method="lora", base=base), lora_matrices(lora))


def write_reranker(
    base: Path, model: Any, out: Path, targets: Any, eight: bool, known: Sequence[Adapter] = ()
) -> AdapterBase:
    """A reranker directory that takes adapters, as an export writes it."""
    out.mkdir()
    write_tokenizer(AutoTokenizer.from_pretrained(base), out, "tiny")
    exported = _Exported(model)
    write_graph(exported, IDS, "logits", out, "tiny")
    shapes = write_adaptable(exported, targets_of(exported.model, targets), IDS, "logits", out, "tiny")
    adapters = AdapterBase(base=fingerprint(model.state_dict()), targets=shapes)
    if eight:
        feeds = [calibration_batch(out) for _ in range(2)]
        to_static_8_bits(out / "model.onnx", out / "8", feeds)
        (out / "8").replace(out / "model.onnx")
        quantise_adaptable(out, adapters, to_static_8_bits, feeds, known)
    card = RerankerCard(name="tiny", query_tokens=8, product_tokens=24, sha256=checksums(out), adapters=adapters)
    (out / CARD).write_bytes(msgspec.json.encode(card))
    return adapters


def calibration_batch(out: Path) -> dict[str, np.ndarray]:
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    texts = [f"{product.title} {product.description}" for product in synthetic_products(16)]
    pairs = [tokenizer.encode(query, text).ids[:32] for query in QUERIES for text in texts]
    ids = np.zeros((len(pairs), max(map(len, pairs))), np.int64)
    for row, pair in enumerate(pairs):
        ids[row, : len(pair)] = pair
    return {"input_ids": ids, "attention_mask": (ids > 0).astype(np.int64)}


def opened(out: Path, tmp_path: Path) -> CrossEncoder:
    model = CrossEncoderModel(out)
    store = tmp_path / "store"
    if not store.exists():
        store.mkdir()
        model.build(store, synthetic_products())
    return model.open(store, 1)


def served(reranker: CrossEncoder) -> np.ndarray:
    return np.concatenate([reranker.score(query, ROWS, None).scores for query in QUERIES])


def in_torch(model: Any, reranker: CrossEncoder) -> np.ndarray:
    """The probabilities that torch gives for what ``served`` scores."""
    found = []
    for query in QUERIES:
        ids, mask = (torch.from_numpy(array) for array in reranker.inputs(reranker.start(query), ROWS))
        with torch.inference_mode():
            found.append(torch.sigmoid(model(input_ids=ids, attention_mask=mask).logits[:, 0]).numpy())
    return np.concatenate(found)


class TestReranker:
    @pytest.mark.parametrize("targets", ["all", "attention", "query+value"])
    def test_fp32_is_torch_with_lora_merged(self, base: Path, tmp_path: Path, targets: str) -> None:
        model = reranker_model(base)
        adapters = write_reranker(base, model, tmp_path / "out", targets, eight=False)
        reranker = opened(tmp_path / "out", tmp_path)
        plain = served(reranker)
        loras = {name: adapted(model, seed, targets) for seed, name in enumerate(("diwali", "summer"))}
        views = {
            name: reranker.adapted(adapter_of(lora, name, "reranker", adapters.base)) for name, lora in loras.items()
        }
        for name, lora in loras.items():
            merged = in_torch(lora.merge_and_unload(), reranker)
            np.testing.assert_allclose(served(views[name]), merged, atol=1e-4)
            assert np.abs(merged - plain).max() > 0.05
        np.testing.assert_allclose(plain, in_torch(model, reranker), atol=1e-5)
        np.testing.assert_array_equal(served(opened(tmp_path / "out", tmp_path)), plain)
        np.testing.assert_array_equal(served(reranker), plain)

    @pytest.mark.parametrize("act", ["gelu", "relu"])
    @pytest.mark.parametrize("targets", ["all", "query+value"])
    def test_8_bits_stay_as_close_as_the_merged_model_in_8_bits(
        self, base: Path, tmp_path: Path, targets: str, act: str
    ) -> None:
        model = reranker_model(base, act)
        adapters = write_reranker(base, model, tmp_path / "out", targets, eight=True)
        reranker = opened(tmp_path / "out", tmp_path)
        plain = served(reranker)
        lora = adapted(model, 5, targets, size=0.1)
        view = reranker.adapted(adapter_of(lora, "diwali", "reranker", adapters.base))
        merged_model = lora.merge_and_unload()
        merged = in_torch(merged_model, reranker)
        write_reranker(base, merged_model, tmp_path / "merged", targets, eight=True)
        by_merging = np.abs(served(opened(tmp_path / "merged", tmp_path)) - merged).mean()
        by_adapter = np.abs(served(view) - merged).mean()
        assert by_adapter < 2 * by_merging
        assert by_adapter < 0.4 * np.abs(plain - merged).mean()
        np.testing.assert_array_equal(served(reranker), plain)
        np.testing.assert_array_equal(served(opened(tmp_path / "out", tmp_path)), plain)

    def test_scales_take_account_of_adapters_at_hand(self, base: Path, tmp_path: Path) -> None:
        model = reranker_model(base)
        lora = adapted(model, 5, "all")
        adapter = adapter_of(lora, "diwali", "reranker", fingerprint(model.state_dict()))
        merged = in_torch(lora.merge_and_unload(), self.written(base, model, tmp_path / "fp32", False))
        missed = [
            np.abs(served(self.written(base, model, tmp_path / str(len(known)), True, known).adapted(adapter)) - merged)
            for known in ((), (adapter,))
        ]
        assert missed[1].mean() < missed[0].mean() / 2

    def written(self, base: Path, model: Any, out: Path, eight: bool, known: Sequence[Adapter] = ()) -> CrossEncoder:
        write_reranker(base, model, out, "all", eight, known)
        return opened(out, out)

    def test_8_bits_are_the_plain_models_where_matrices_are_zero(self, base: Path, tmp_path: Path) -> None:
        model = reranker_model(base)
        adapters = write_reranker(base, model, tmp_path / "out", "all", eight=True)
        reranker = opened(tmp_path / "out", tmp_path)
        name, (n_in, n_out) = next(iter(adapters.targets.items()))
        card = AdapterCard(name="nothing", kind="reranker", method="lora", base=adapters.base)
        nothing = Adapter(card, {name: (np.ones((n_in, 2), np.float32), np.zeros((2, n_out), np.float32))})
        np.testing.assert_allclose(served(reranker.adapted(nothing)), served(reranker), atol=1e-4)

    def test_the_head_is_a_target(self, base: Path, tmp_path: Path) -> None:
        model = reranker_model(base)
        adapters = write_reranker(base, model, tmp_path / "out", "query+value", eight=False)
        reranker = opened(tmp_path / "out", tmp_path)
        draw = np.random.default_rng(1)
        a, b = draw.standard_normal((32, 3)).astype(np.float32), draw.standard_normal((3, 1)).astype(np.float32)
        card = AdapterCard(name="head", kind="reranker", method="lora", base=adapters.base)
        view = reranker.adapted(Adapter(card, {"classifier": (a, b)}))
        with torch.no_grad():
            model.classifier.weight += torch.from_numpy((a @ b).T)
        np.testing.assert_allclose(served(view), in_torch(model, reranker), atol=1e-4)

    def test_matrices_stay_inputs_and_floats(self, base: Path, tmp_path: Path) -> None:
        adapters = write_reranker(base, reranker_model(base), tmp_path / "out", "all", eight=True)
        graph = onnx.load(str(tmp_path / "out" / ADAPTABLE)).graph
        types = {value.name: value.type.tensor_type.elem_type for value in graph.input}
        matrices = {f"{target}.{matrix}" for target in adapters.targets for matrix in "AB"}
        assert types.keys() == {"input_ids", "attention_mask", *matrices}
        assert {types[name] for name in matrices} == {onnx.TensorProto.FLOAT}
        assert sum(node.op_type == "MatMulIntegerToFloat" for node in graph.node) == 12
        readers = [node for node in graph.node if matrices & set(node.input)]
        assert {node.op_type for node in readers} <= {"MatMul", "Gemm"}
        assert not any("smooth" in name or name.endswith("_8") for node in readers for name in node.input)

    def test_an_adapter_of_another_base(self, base: Path, tmp_path: Path) -> None:
        write_reranker(base, reranker_model(base), tmp_path / "out", "query+value", eight=False)
        model = reranker_model(base)
        with torch.no_grad():
            model.classifier.bias += 1e-3
        other = fingerprint(model.state_dict())
        reranker = opened(tmp_path / "out", tmp_path)
        with pytest.raises(AdapterError, match="trained on the base"):
            reranker.adapted(adapter_of(adapted(model, 1, "query+value"), "diwali", "reranker", other))
        whole = adapted(reranker_model(base), 1, "all")
        own = fingerprint(reranker_model(base).state_dict())
        with pytest.raises(AdapterError, match=r"intermediate\.dense 32 → 64, there none of that name"):
            reranker.adapted(adapter_of(whole, "diwali", "reranker", own))


class TestEncoder:
    @pytest.fixture(params=[False, True], ids=["fp32", "8 bits"])
    def eight(self, request: pytest.FixtureRequest) -> bool:
        return bool(request.param)

    @pytest.mark.parametrize("targets", ["all", "query+value"])
    def test_an_adapter_gives_the_vectors_of_torch_with_lora_merged(
        self, base: Path, tmp_path: Path, targets: Any, eight: bool
    ) -> None:
        model = BertModel.from_pretrained(base, attn_implementation="eager").eval()
        torch.manual_seed(3)
        enlarge(model)
        card = self.write(base, model, tmp_path, targets, eight)
        assert card.adapters is not None
        assert not any("pooler" in target for target in card.adapters.targets)  # the vectors do not read it
        encoder = OnnxEncoder(tmp_path)
        plain, texts = encoder.encode_queries(QUERIES), synthetic_products(4)
        vectors = encoder.encode_products(texts)
        lora = adapted(model, 7, targets)
        matrices = {name: pair for name, pair in lora_matrices(lora).items() if "pooler" not in name}
        told = AdapterCard(name="diwali", kind="encoder", method="lora", base=card.adapters.base)
        view = encoder.adapted(Adapter(told, matrices))
        merged = Pooled(lora.merge_and_unload())
        tokenizer = AutoTokenizer.from_pretrained(base)
        with torch.inference_mode():
            ids = [torch.tensor([tokenizer(query)["input_ids"]]) for query in QUERIES]
            expected = np.concatenate([merged(row, torch.ones_like(row)).numpy() for row in ids])
        found = view.encode_queries(QUERIES)
        assert (plain * expected).sum(axis=1).max() < 0.97
        if eight:
            assert (found * expected).sum(axis=1).min() > 0.99
        else:
            np.testing.assert_allclose(found, expected, atol=1e-4)
        np.testing.assert_array_equal(view.encode_products(texts), vectors)
        np.testing.assert_array_equal(encoder.encode_queries(QUERIES), plain)
        np.testing.assert_array_equal(OnnxEncoder(tmp_path).encode_queries(QUERIES), plain)

    def write(self, base: Path, model: Any, out: Path, targets: Any, eight: bool) -> EncoderCard:
        write_tokenizer(AutoTokenizer.from_pretrained(base), out, "tiny")
        pooled = Pooled(model)
        write_graph(pooled, IDS, "embedding", out, "tiny")
        shapes = write_adaptable(pooled, targets_of(pooled.model, targets), IDS, "embedding", out, "tiny")
        adapters = AdapterBase(base=fingerprint(model.state_dict()), targets=shapes)
        if eight:
            batch = calibration_batch(out)
            feeds = [{name: array[[row]] for name, array in batch.items()} for row in range(20)]
            to_8_bits(out / "model.onnx", out / "8", feeds)
            (out / "8").replace(out / "model.onnx")
            quantise_adaptable(out, adapters, to_8_bits, feeds)
        card = EncoderCard(
            format=1, name="tiny", dim=32, max_tokens=64, sha256=checksums(out), adapters=adapters
        )  # fmt: skip
        (out / ENCODER_CARD).write_bytes(msgspec.json.encode(card))
        return card


def test_targets_have_the_names_that_training_knows(base: Path) -> None:
    model = reranker_model(base)
    exported = _Exported(model)
    assert isinstance(exported.model.bert.encoder.layer[1], _FirstToken)
    for choice in ("all", "attention", "query+value"):
        assert shapes_of(targets_of(exported.model, choice)) == shapes_of(targets_of(model, choice))
    assert len(targets_of(model, "all")) == 14
    assert len(targets_of(model, "attention")) == 10
    assert set(shapes_of(targets_of(model, "query+value")).items()) >= {
        ("bert.encoder.layer.1.attention.self.value", (32, 32)), ("classifier", (32, 1))
    }  # fmt: skip
    with pytest.raises(ConfigError, match="must be one of all, attention, query"):
        targets_of(model, "some")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no linear layers"):
        targets_of(torch.nn.ReLU())
    with pytest.raises(ConfigError, match="the model has no LoRA on any layer"):
        lora_matrices(model)


def test_dora_is_no_pair_of_matrices(base: Path) -> None:
    with pytest.raises(ConfigError, match="fold it into the model instead"):
        lora_matrices(adapted(reranker_model(base), 1, "query+value", use_dora=True))


def test_a_fingerprint_names_the_weights(base: Path) -> None:
    weights = reranker_model(base).state_dict()
    same = {name: weights[name].clone() for name in reversed(list(weights))}
    assert fingerprint(same) == fingerprint(weights)
    assert len(fingerprint(weights)) == 64
    name = next(iter(weights))
    for changed in (
        {**weights, name: weights[name] + 1e-6},
        {**weights, name: weights[name].T},
        {**weights, name: weights[name].double()},
        {**weights, "more": torch.zeros(0)},
        {f"x{key}": value for key, value in weights.items()},
    ):
        assert fingerprint(changed) != fingerprint(weights)
    assert fingerprint({"a": torch.tensor(1.0)}) != fingerprint({"a": torch.tensor(2.0)})
    assert fingerprint({"a": torch.ones(2, dtype=torch.bfloat16)}) != fingerprint({"a": torch.ones(2)})
