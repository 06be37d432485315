"""Serving a query classifier: what it answers, and what it refuses to load."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from engine.errors import ConfigError, IndexMismatchError, ModelError
from qpt.classifier import QueryTypes, TypeClassifier
from qpt.conformal import in_set, threshold
from qpt.taxonomy import TypeNode
from qpt.transformer_head import CARD, TransformerCard, TransformerHead
from tests.conftest import HashedWordsEncoder

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
#: What a word or a locale says for each type.
SAYS = {
    "phone": (4, 0, 0), "fridge": (0, 4, 0), "lamp": (0, 0, 4), "torch": (1, 0, 1), "en-US": (2, 0, 0),
    "en-GB": (0, 0, 2),
}  # fmt: skip
TYPES = ["Phones", "Fridges", "Lamps"]
NO_VECTOR = np.zeros((1, 0), np.float32)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_head(tmp_path / "head")


def write_head(directory: Path, says: Mapping[str, tuple[int, ...]] = SAYS, **card: Any) -> Path:
    """A classifier whose logits are the sum of what its tokens say."""
    directory.mkdir()
    words = [word for word in says if "-" not in word]
    nothing = (0,) * len(next(iter(says.values())))
    tokenizer = Tokenizer(
        models.WordLevel({word: place for place, word in enumerate([*SPECIAL, *words])}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(directory / "tokenizer.json"))
    onnx.save(model(np.array([*[nothing] * len(SPECIAL), *says.values()], np.float32)), str(directory / "model.onnx"))
    seal(directory, **card)
    return directory


def model(table: np.ndarray, output: str = "logits") -> onnx.ModelProto:
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["said"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Mul", ["said", "column"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "along"], [output], keepdims=0),
    ]
    constants = {"table": table, "last": np.array([2]), "along": np.array([1])}
    made = helper.make_model(
        helper.make_graph(
            nodes, "types",
            [helper.make_tensor_value_info(n, TensorProto.INT64, ["n", "l"]) for n in ("input_ids", "attention_mask")],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", "types"])],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
    )  # fmt: skip
    made.ir_version = 8
    return made


def seal(directory: Path, **card: Any) -> None:
    """Writes the card of the files that are there; ``card`` overrides what it says."""
    sums = {
        name: hashlib.sha256((directory / name).read_bytes()).hexdigest() for name in ("model.onnx", "tokenizer.json")
    }
    nodes = [TypeNode("all", {"": "All"}), *(TypeNode(name, {"": name}, "all") for name in TYPES)]
    said = {
        "name": "sums", "query_tokens": 3, "locales": {"en-US": 8, "en-GB": 9}, "types": TYPES, "nodes": nodes,
        "version": "1", "temperature": 0.5, "conformal_scores": [i / 50 for i in range(40)], "sha256": sums, **card,
    }  # fmt: skip
    (directory / CARD).write_bytes(msgspec.json.encode(TransformerCard(**said)))


def ask(head: TypeClassifier, query: str, locale: str = "") -> np.ndarray:
    return head.probabilities([query], NO_VECTOR, [locale])[0]


def test_probabilities_are_the_models_at_the_temperature(directory: Path) -> None:
    head = TransformerHead(directory)
    logits = np.array([4, 0, 0]) / 0.5
    np.testing.assert_allclose(ask(head, "phone"), np.exp(logits) / np.exp(logits).sum(), rtol=1e-5)
    assert head.types == tuple(TYPES)
    np.testing.assert_allclose(head.logits(["phone", "torch"], ["", "en-GB"]), [[4, 0, 0], [1, 0, 3]])
    assert head.probabilities([], np.zeros((0, 0), np.float32), []).shape == (0, 3)


def test_what_is_saved_answers_the_same(directory: Path, tmp_path: Path) -> None:
    TransformerHead(directory).save(tmp_path / "kept" / "head")
    for path in directory.iterdir():
        path.unlink()
    kept = TransformerHead(tmp_path / "kept" / "head")
    np.testing.assert_allclose(kept.logits(["phone"], [""]), [[4, 0, 0]])


def test_a_locale_is_read_and_an_unknown_one_is_not(directory: Path) -> None:
    head = TransformerHead(directory)
    best = {locale: TYPES[ask(head, "torch", locale).argmax()] for locale in ("en-US", "en-GB")}
    assert best == {"en-US": "Phones", "en-GB": "Lamps"}
    np.testing.assert_array_equal(ask(head, "torch", "ja-JP"), ask(head, "torch"))
    np.testing.assert_array_equal(ask(head, "en-GB torch"), ask(head, "torch"))  # no query can name a locale


def test_no_answer_depends_on_other_queries_or_on_vectors(directory: Path) -> None:
    head = TransformerHead(directory)
    queries = ["phone lamp", "", "fridge " * 5_000, "字", "lamp"]
    together = head.probabilities(queries, np.ones((5, 7), np.float32), ["en-US"] * 5)
    for row, query in enumerate(queries):
        np.testing.assert_array_equal(together[row], ask(head, query, "en-US"))
    np.testing.assert_allclose(together.sum(axis=1), 1, rtol=1e-6)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: head.probabilities(queries, NO_VECTOR, ["en-US"] * 5), range(20)):
            np.testing.assert_array_equal(found, together)
    with pytest.raises(ConfigError, match="2 queries and 1 locales"):
        head.probabilities(["a", "b"], NO_VECTOR, [""])


def test_query_types_answers_with_it_and_encodes_nothing(directory: Path) -> None:
    head = TransformerHead(directory)
    asking = QueryTypes(head, head.reader)
    answer = asking.ask("fridge", "en-GB")
    assert answer.chosen is not None
    assert (answer.chosen.type_id, answer.ranked[0].type_id) == ("Fridges", "Fridges")
    inside = in_set(head.probabilities(["fridge"], NO_VECTOR, ["en-GB"]), threshold(head.conformal_scores, 0.9))
    assert len(answer.conformal_set) == inside.sum()
    assert asking.ask("字").abstained  # nothing that the tokenizer knows
    with pytest.raises(IndexMismatchError, match="hashed-words-64"):
        QueryTypes(head, HashedWordsEncoder())


def cut_short(directory: Path) -> None:
    (directory / "model.onnx").write_bytes((directory / "model.onnx").read_bytes()[:-20])


def other_tokenizer(directory: Path) -> None:
    with (directory / "tokenizer.json").open("a") as file:
        file.write(" ")


def no_model(directory: Path) -> None:
    (directory / "model.onnx").unlink()


def no_card(directory: Path) -> None:
    (directory / CARD).unlink()


def not_onnx(directory: Path) -> None:
    (directory / "model.onnx").write_bytes(b"\x80\x04pickle")
    seal(directory)


def other_output(directory: Path) -> None:
    onnx.save(model(np.zeros((10, 3), np.float32), "vectors"), str(directory / "model.onnx"))
    seal(directory)


def fewer_types(directory: Path) -> None:
    onnx.save(model(np.zeros((10, 2), np.float32)), str(directory / "model.onnx"))
    seal(directory)


def three_specials(directory: Path) -> None:
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP] [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.save(str(directory / "tokenizer.json"))
    seal(directory)


def says(**card: Any) -> Callable[[Path], None]:
    return lambda directory: seal(directory, **card)


def raw(**card: Any) -> Callable[[Path], None]:
    def change(directory: Path) -> None:
        said = json.loads((directory / CARD).read_bytes()) | card
        (directory / CARD).write_text(json.dumps(said))

    return change


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (cut_short, r"model\.onnx does not match its checksum"),
        (other_tokenizer, r"tokenizer\.json does not match its checksum"),
        (no_model, r"model\.onnx cannot be read"),
        (no_card, r"query_types\.json cannot be read .* train one with: aisle train types"),
        (not_onnx, "is not a model onnxruntime can run"),
        (other_output, r"gives one output logits, float32 \(n, 3\)"),
        (fewer_types, r"gives logits of shapes .* a query; query_types\.json names 3 types"),
        (three_specials, "puts 3 special tokens around a query"),
        (says(locales={"en-US": 99}), "cannot read a query"),
        (says(types=["Phones", "Phones", "Lamps"]), "types come twice"),
        (says(types=["Phones", "Fridges", "Cars"]), "not in the taxonomy"),
        (says(nodes=[TypeNode("a", {}, "b")]), "the taxonomy cannot be used: the parent 'b'"),
        (says(conformal_scores=[0.5, 0.1]), "do not ascend"),
        (raw(temperature=0), r"temperature"),
        (raw(types=[]), r"types"),
        (raw(format=2), "format 2"),
        (raw(conformal_scores=[1.5]), "conformal_scores"),
        (raw(sha256={}), "checksums of"),
    ],
)
def test_what_cannot_be_trusted_is_refused(
    directory: Path, change: Callable[[Path], None], complaint: str
) -> None:  # fmt: skip
    change(directory)
    with pytest.raises(ModelError, match=complaint):
        TransformerHead(directory)


def test_serving_loads_no_torch() -> None:
    code = "import sys, qpt.transformer_head; print({'torch', 'transformers', 'training'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
