"""Exports a decoder to the directory that ``ranking.listwise.onnx`` serves, in 4 or 8 bits, or in fp32.

The graph reads some tokens after what it has read before, whose keys and values come in and go out, and gives the
logits of what follows the last one. It is the transformer written anew in operations that trace, for Llama and what is
built like it; it is compared with the original and refused when it differs.
"""

from __future__ import annotations

import copy
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM

from engine.errors import ConfigError, ModelError
from engine.model_files import MODEL
from ranking.listwise.onnx import CARD, INPUTS, OUTPUTS, DecoderCard, OnnxDecoder
from ranking.listwise.prompts import PROMPTS
from ranking.listwise.settings import LISTWISE
from training.export import README, checksums, files_table, publishing, tools, trace, write_json, write_tokenizer
from training.export.decoder_bits import Bits, to_whole_numbers
from training.methods import folded, reopened
from training.methods.saved import read_recipe
from training.models import licence, load_transformer, local_base
from training.models.decoder import turn
from training.report import Recipe

_BUILT_LIKE_LLAMA = {"llama", "qwen2", "qwen3"}
_MAX_DEVIATION = 1e-2  # of a logit: fp32 ONNX against the original
_PROBE = "Rank 3 products: [A] <<<red fridge>>> [B] <<<phone>>> [C] <<<case for a phone>>>"
_HERE = "\x00"  # where a turn has its prompt


@dataclass(frozen=True, slots=True)
class DecoderExport:
    """What an export gave: how far logits are from torch's, in fp32 and as served; bytes."""

    directory: Path
    card: DecoderCard
    fp32_deviation: float
    deviation: float
    fp32_bytes: int
    model_bytes: int


def is_decoder(directory: Path) -> bool:
    """Whether transformers saved a causal language model there."""
    try:
        config = AutoConfig.from_pretrained(directory, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError):
        return False
    return str((config.architectures or [""])[0]).endswith("ForCausalLM")


def export_decoder(directory: Path, out: Path, *, bits: Bits = 8) -> DecoderExport:
    """Writes the decoder in ``directory`` as ``out``, with a ``listwise.toml``; replaces one there.

    Raises ModelError where it cannot be loaded or converted, or fp32 deviates; then ``out`` is as it was.
    """
    recipe = read_recipe(directory) or Recipe(name=directory.absolute().name, license=licence(str(directory)))
    model, tokenizer = load_transformer(local_base(directory), AutoModelForCausalLM)
    model = folded(copy.deepcopy(reopened(model, directory).model)).eval()
    if model.config.model_type not in _BUILT_LIKE_LLAMA:
        raise ConfigError(
            f"{directory} has a {model.config.model_type}; {', '.join(sorted(_BUILT_LIKE_LLAMA))} are exported. Serve "
            'another with kind = "transformers"'
        )
    before, after = turn(tokenizer, _HERE).split(_HERE)
    with publishing(out, CARD, "decoder") as work:
        write_tokenizer(tokenizer, work, recipe.name)
        card = _write_fp32(model, work, recipe, before, after, tokenizer)
        fp32_bytes = (work / MODEL).stat().st_size
        deviation = fp32 = _deviation(model, tokenizer, work)
        if not fp32 <= _MAX_DEVIATION:
            raise ModelError(f"the exported {recipe.name} is not the original: a logit deviates by {fp32:.1e}")
        if bits != 32:
            to_whole_numbers(work / MODEL, bits)
            card = _seal(work, card)
            deviation = _deviation(model, tokenizer, work)
        done = DecoderExport(out, card, fp32, deviation, fp32_bytes, (work / MODEL).stat().st_size)
        if (directory / PROMPTS).exists():
            shutil.copyfile(directory / PROMPTS, work / PROMPTS)
        (work / LISTWISE).write_text(_listwise(recipe, (work / PROMPTS).exists()), encoding="utf-8")
        (work / README).write_text("\n".join(_readme(done, recipe, bits, work)), encoding="utf-8")
    return done


class _Exported(torch.nn.Module):
    """Ids (1, n), keys and values (layers, heads, past, size) in; logits (vocabulary,) and both, longer, out."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        inner = self.model.model
        hidden = inner.embed_tokens(input_ids)
        past, n = keys.shape[2], input_ids.shape[1]
        places = torch.arange(past, past + n)[None]
        cos, sin = inner.rotary_emb(hidden, places)
        seen = torch.arange(past + n)[None, :] <= places[0][:, None]
        mask = (1 - seen.float()) * torch.finfo(torch.float32).min
        new_keys, new_values = [], []
        for number, layer in enumerate(inner.layers):
            # Of the last layer nothing is read but what the last token becomes, and keys and values.
            kept = slice(-1 if number + 1 == len(inner.layers) else 0, None)
            part, key, value = self._attend(
                layer.self_attn, layer.input_layernorm(hidden), keys[number], values[number], cos, sin, mask, kept
            )
            hidden = hidden[:, kept] + part
            hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
            new_keys.append(key)
            new_values.append(value)
        logits = self.model.lm_head(inner.norm(hidden[:, -1]))
        return logits[0], torch.stack(new_keys), torch.stack(new_values)

    def _attend(
        self, attention: Any, hidden: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, cos: torch.Tensor,
        sin: torch.Tensor, mask: torch.Tensor, kept: slice,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
        """Of the tokens that are ``kept``; keys and values are of all."""
        size = attention.head_dim
        query = attention.q_proj(hidden[:, kept])[0].unflatten(1, (-1, size))
        key, value = (getattr(attention, f"{name}_proj")(hidden)[0].unflatten(1, (-1, size)) for name in ("k", "v"))
        if hasattr(attention, "q_norm"):  # Qwen3
            query, key = attention.q_norm(query), attention.k_norm(key)
        query, key, value = (one.transpose(0, 1) for one in (query, key, value))
        query, key = _turned(query, cos[:, kept], sin[:, kept]), _turned(key, cos, sin)
        key, value = torch.cat([keys, key], dim=1), torch.cat([values, value], dim=1)
        together = (query * attention.scaling).unflatten(0, (key.shape[0], -1))  # the queries that share keys
        scores = together @ key[:, None].transpose(2, 3) + mask[kept]
        context = (functional.softmax(scores, dim=-1) @ value[:, None]).flatten(0, 1)
        return attention.o_proj(context.transpose(0, 1).flatten(1))[None], key, value


def _turned(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions (Su et al. 2021), with numbers paired half a head apart."""
    first, second = states.chunk(2, dim=-1)
    return states * cos + torch.cat([-second, first], dim=-1) * sin


def _write_fp32(model: Any, work: Path, recipe: Recipe, before: str, after: str, tokenizer: Any) -> DecoderCard:
    config = model.config
    heads = config.num_key_value_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    empty = torch.zeros(config.num_hidden_layers, heads, 2, size)
    axes = {
        "input_ids": {1: "n"}, "keys": {2: "past"}, "values": {2: "past"}, "new_keys": {2: "all"},
        "new_values": {2: "all"},
    }  # fmt: skip
    ids = torch.tensor([[1, 2, 3]])
    trace(_Exported(model), (ids, empty, empty), work / MODEL, INPUTS, OUTPUTS, axes, recipe.name)
    card = DecoderCard(
        name=recipe.name, layers=config.num_hidden_layers, heads=heads, head_size=size,
        max_tokens=config.max_position_embeddings, before=before, after=after, end=int(tokenizer.eos_token_id),
        sha256={}, source=recipe.source, license=recipe.license,
    )  # fmt: skip
    return _seal(work, card)


def _seal(work: Path, card: DecoderCard) -> DecoderCard:
    sealed = msgspec.structs.replace(card, sha256=checksums(work))
    write_json(work / CARD, sealed)
    return sealed


def _deviation(model: Any, tokenizer: Any, work: Path) -> float:
    """The largest of a logit over a probe, read in two parts."""
    served = OnnxDecoder(work, 1)
    ids = tokenizer(_PROBE, add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        wanted = model(input_ids=torch.tensor([ids])).logits[0, -1].numpy()
    _, state = served.read(ids[:-3])
    found, _ = served.read(ids[-3:], state)
    return float(np.abs(wanted - found).max())


def _listwise(recipe: Recipe, has_prompts: bool) -> str:
    """Windows, texts and prompts as they were in training."""
    lines = [f'name = "{recipe.name}"', *([f'prompts = "{PROMPTS}"'] if has_prompts else [])]
    if recipe.task == "listwise":
        lines += [f"window = {recipe.list_size}", f"stride = {max(recipe.list_size // 2, 1)}"]
        lines += ["", "[defence]", f"characters = {recipe.product_tokens}"]
    return "\n".join([*lines, "", "[decoder]", 'kind = "onnx"', ""])


def _readme(done: DecoderExport, recipe: Recipe, bits: Bits, work: Path) -> list[str]:
    card = done.card
    return [
        f"# {card.name}, a decoder that orders products", "",
        f"- Source: {card.source or 'not stated'}", f"- Licence: {card.license or 'not stated'}", "",
        recipe.card.strip(), "",
        "## Export", "",
        f"- Weights in {'fp32' if bits == 32 else f'{bits} bits'}; a logit deviates from torch's by at most "
        f"{done.deviation:.2g} ({done.fp32_deviation:.0e} in fp32) over a probe.",
        tools(), "",
        *files_table(card.sha256, work), "",
    ]  # fmt: skip
