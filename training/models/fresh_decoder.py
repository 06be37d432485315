"""A small decoder to begin from where there is none: a tokenizer learnt from catalogs, and a configuration.

Training begins with random weights of it. The configuration is Llama's, so that whatever serves a full-size model
serves this one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import LlamaConfig, PreTrainedTokenizerFast

from engine.catalog import read_catalog
from engine.errors import ConfigError
from engine.text import encoded_text
from ranking.listwise.prompts import LETTERS, Prompts

_END = "<|end|>"
_HEAD = 64  # numbers of an attention head, as Llama's smaller models have


def make_decoder(
    catalogs: Sequence[Path], out: Path, *, vocabulary: int = 8_000, width: int = 384, layers: int = 8
) -> int:  # fmt: skip
    """Writes ``tokenizer.json`` and ``config.json`` into ``out``; returns how many weights a model of it has.

    Raises ConfigError where ``out`` is there, or the width is no multiple of 64; CatalogError on a bad catalog.
    """
    if out.exists():
        raise ConfigError(f"--out {out} exists; name a folder that does not")
    if width < _HEAD or width % _HEAD or layers < 1:
        raise ConfigError(f"--width is {width} and --layers {layers}; a multiple of {_HEAD}, and 1 or more")
    texts = (encoded_text(product) for catalog in catalogs for product in read_catalog(catalog))
    tokenizer = _tokenizer(texts, vocabulary)
    tokenizer.save_pretrained(out)
    heads = width // _HEAD
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=heads // 3 if heads % 3 == 0 else heads, intermediate_size=_rounded(width * 8 // 3),
        max_position_embeddings=2048, tie_word_embeddings=True, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, architectures=["LlamaForCausalLM"],
    )  # fmt: skip
    config.save_pretrained(out)
    attention = 2 * width * width + 2 * width * _HEAD * config.num_key_value_heads
    return len(tokenizer) * width + layers * int(attention + 3 * width * config.intermediate_size)


def _tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE, of which no text has an unknown token; digits, letters alone and marks are tokens."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False),
    ])  # fmt: skip
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[_END], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(_with_prompts(texts), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=_END, pad_token=_END)


def _with_prompts(texts: Iterable[str]) -> Iterator[str]:
    """The prompts' words are worth tokens too: every search has them."""
    prompts = Prompts.read()
    for number, text in enumerate(texts):
        yield text
        if number % 100 == 0:
            yield prompts.of_window(text[:40], [f"<<<{text[:80]}>>>"] * 3, LETTERS[:3])


def _rounded(n: int) -> int:
    """To a multiple of 64, whose products are fast."""
    return -(-n // 64) * 64
