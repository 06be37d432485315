"""What methods put into a transformer, as modules of its own."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers.modeling_outputs import BaseModelOutputWithPooling

from engine.errors import MissingExtraError

# Added to attention scores of padding. The usual -10,000 and less make softmax compute with denormal numbers, which
# takes processors a tenth of the whole model's time; e^-60 is as little against the other weights.
MASKED = -60.0


class Bottleneck(torch.nn.Module):
    """A linear layer and, after it, a narrow detour that at first adds nothing: ``y + up(gelu(down(y)))``.

    Houlsby et al. 2019, "Parameter-Efficient Transfer Learning for NLP", figure 2.
    """

    def __init__(self, inner: torch.nn.Linear, size: int) -> None:
        super().__init__()
        self.inner = inner
        self.down = torch.nn.Linear(inner.out_features, size)
        self.up = torch.nn.Linear(size, inner.out_features)
        torch.nn.init.normal_(self.down.weight, std=0.02)
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            torch.nn.init.zeros_(zero)

    def forward(self, hidden: Tensor) -> Tensor:
        out = self.inner(hidden)
        adapted: Tensor = out + self.up(functional.gelu(self.down(out)))
        return adapted


class Prompted(torch.nn.Module):
    """A transformer behind peft's prefix or prompt tuning that gives states of its text alone.

    ``n_tokens`` virtual tokens stand before the text in what it gives: those of a prompt; a prefix has none there.
    """

    def __init__(self, inner: Any, n_tokens: int) -> None:
        super().__init__()
        self.inner, self.n_tokens = inner, n_tokens

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            inner: Any = super().__getattr__("inner")
            return getattr(inner.get_base_model(), name)

    def forward(self, *args: Any, **inputs: Any) -> BaseModelOutputWithPooling:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft names an argument of transformers by its older name
            out = self.inner(*args, **inputs)
        return out if not self.n_tokens else _text_alone(out.last_hidden_state, self.n_tokens, self.pooler)


class SolidPrefix(torch.nn.Module):
    """A BERT whose layers have these keys and values before their own, as peft's prefix tuning gives them, for export.

    ``keys`` and ``values`` are float32 (layers, heads, tokens, head's size). Positions begin after the prefix.
    """

    def __init__(self, base: Any, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.base, self.n_tokens, self.config = base, keys.shape[2], base.config
        for layer, key, value in zip(base.encoder.layer, keys, values, strict=True):
            layer.attention.self = PrefixedAttention(layer.attention.self, key, value)

    def __getattr__(self, name: str) -> Any:
        return _own_or_base(self, name, super().__getattr__)

    def forward(self, input_ids: Tensor | None = None, attention_mask: Any = None, **inputs: Any) -> Any:
        text = inputs["inputs_embeds"] if input_ids is None else input_ids
        places = torch.arange(self.n_tokens, self.n_tokens + text.shape[1], device=text.device)[None]
        inputs |= {"attention_mask": _extended(attention_mask, self.n_tokens), "position_ids": places}
        return self.base(input_ids=input_ids, **inputs)


class SolidPrompt(torch.nn.Module):
    """A transformer that reads ``prompt``, float32 (tokens, d), before every text, as peft's prompt tuning has it."""

    def __init__(self, base: Any, prompt: Tensor) -> None:
        super().__init__()
        self.base, self.n_tokens, self.config = base, len(prompt), base.config
        self.prompt = torch.nn.Parameter(prompt, requires_grad=False)

    def __getattr__(self, name: str) -> Any:
        return _own_or_base(self, name, super().__getattr__)

    def forward(self, input_ids: Tensor | None = None, attention_mask: Any = None, **inputs: Any) -> Any:
        words = inputs.pop("inputs_embeds", None)
        words = self.base.get_input_embeddings()(input_ids) if words is None else words
        text = torch.cat([self.prompt[None].expand(words.shape[0], -1, -1), words], dim=1)
        out = self.base(inputs_embeds=text, attention_mask=_extended(attention_mask, self.n_tokens), **_known(inputs))
        return _text_alone(out.last_hidden_state, self.n_tokens, self.base.pooler)


class PrefixedAttention(torch.nn.Module):
    """BERT's self-attention with keys and values, float32 (heads, tokens, size), before those of the text."""

    def __init__(self, attention: Any, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.query, self.key, self.value = attention.query, attention.key, attention.value
        self.num_attention_heads, self.attention_head_size = keys.shape[0], keys.shape[2]
        self.all_head_size = attention.all_head_size
        self.prefix = torch.nn.ParameterList([keys, values]).requires_grad_(False)

    def forward(self, hidden: Tensor, *_: Any, attention_mask: Any = None, **__: Any) -> tuple[Tensor, None]:
        return attend(self, hidden, hidden, attention_mask), None


def attend(attention: Any, asking: Tensor, hidden: Tensor, mask: Tensor) -> Tensor:
    """What the tokens ``asking``, float32 (n, tokens, d), gather from ``hidden``; ``mask`` is added to the scores."""

    def heads(values: Tensor) -> Tensor:
        shape = (values.shape[0], -1, attention.num_attention_heads, attention.attention_head_size)
        return values.view(shape).transpose(1, 2)

    query, key, value = heads(attention.query(asking)), heads(attention.key(hidden)), heads(attention.value(hidden))
    if hasattr(attention, "prefix"):
        before = [part[None].expand(hidden.shape[0], -1, -1, -1) for part in attention.prefix]
        key, value = torch.cat([before[0], key], dim=2), torch.cat([before[1], value], dim=2)
    scores = query @ key.transpose(2, 3) * attention.attention_head_size**-0.5 + mask
    return (torch.softmax(scores, dim=-1) @ value).transpose(1, 2).flatten(2)


def in_full(linear: Any) -> torch.nn.Linear:
    """A linear layer in fp32, what 4 bits made of its weights included."""
    if type(linear) is torch.nn.Linear:
        return linear
    weight = bitsandbytes().functional.dequantize_4bit(linear.weight.data, linear.weight.quant_state)
    out = torch.nn.Linear(linear.in_features, linear.out_features, bias=linear.bias is not None)
    out.weight = torch.nn.Parameter(weight.detach().float())
    if linear.bias is not None:
        out.bias = torch.nn.Parameter(linear.bias.detach().float())
    return out


def bitsandbytes() -> Any:
    """The library. Raises MissingExtraError."""
    try:
        return import_module("bitsandbytes")
    except ImportError as error:
        raise MissingExtraError("train", "bitsandbytes") from error


def _text_alone(hidden: Tensor, n_tokens: int, pooler: Any) -> BaseModelOutputWithPooling:
    states = hidden[:, n_tokens:]
    return BaseModelOutputWithPooling(last_hidden_state=states, pooler_output=pooler(states) if pooler else None)


def _extended(mask: Tensor, n_tokens: int) -> Tensor:
    """A mask that is added to scores, (n, 1, 1, tokens), with room for what stands before the text."""
    added = mask if mask.dim() == 4 else (1 - mask[:, None, None, :].float()) * MASKED
    return torch.cat([torch.zeros_like(added[..., :1]).expand(-1, -1, -1, n_tokens), added], dim=3)


def _known(inputs: dict[str, Any]) -> dict[str, Any]:
    """Without the types of tokens, of which those of the prompt are not among them; all are 0."""
    return {name: value for name, value in inputs.items() if name != "token_type_ids"}


def _own_or_base(module: torch.nn.Module, name: str, own: Any) -> Any:
    try:
        return own(name)
    except AttributeError:
        if name == "base":
            raise
        return getattr(own("base"), name)
