"""A fine-tuned encoder-decoder that says a query in other words, on onnxruntime: an ``engine.seams.Rewriter``.

Made by ``aisle train rewriter`` and ``aisle export``. On disk it is a directory: ``rewriter.json``, which has the
checksums of the others, ``model.onnx``, which reads a query, ``decoder.onnx``, which says the next token of a rewrite,
and ``tokenizer.json``.

It is beside the router, for it reads queries alone: it knows no index, and the engine judges what comes of its words.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray
from tokenizers import Tokenizer

from engine.errors import ModelError
from engine.model_files import MAX_CHARACTERS, TOKENIZER, ModelFiles, ModelKind, understands
from engine.types import Rewrite
from qpt.beam import beam_search

CARD, DECODER = "rewriter.json", "decoder.onnx"
CONTINUED = "##"  # begins a token that goes on with the word before it
_FEEDS = {
    "memory": "tensor(float)", "source_ids": "tensor(int64)", "attention_mask": "tensor(int64)",
    "prefix_ids": "tensor(int64)",
}  # fmt: skip


class RewriterCard(msgspec.Struct, frozen=True, kw_only=True):
    """What ``rewriter.json`` says. ``sha256`` covers both graphs and ``tokenizer.json``.

    The model reads ``[CLS] query [SEP]``, the query cut to ``query_tokens``, and says at most ``rewrite_tokens``;
    ``beams`` are followed. ``source`` and ``license`` are for people.
    """

    format: int = 1
    name: str
    query_tokens: Annotated[int, Meta(ge=1, le=512)]
    rewrite_tokens: Annotated[int, Meta(ge=1, le=512)]
    beams: Annotated[int, Meta(ge=1, le=64)] = 4
    sha256: dict[str, str]
    source: str = ""
    license: str = ""


REWRITERS = ModelKind(
    "query rewriter", CARD, RewriterCard, Path(__file__).parent / "models",
    "train one with: aisle train rewriter",
)  # fmt: skip


class OnnxRewriter:
    """Read-only and thread-safe; uses one thread. Raises ModelError naming the file on what cannot be used."""

    def __init__(self, directory: str | Path) -> None:
        files = ModelFiles(REWRITERS, Path(directory))
        self.card = files.card
        if DECODER not in self.card.sha256:
            raise ModelError(f"{files.directory / CARD} has no checksum of {DECODER}. Export it again")
        self._encoder = files.session("one output memory, float32 (n, tokens, d)", _is_float_of(3))
        self._decoder = files.graph(
            DECODER, _FEEDS, f"{', '.join(_FEEDS)}", "one output log_probabilities, float32 (n, vocabulary)",
            _is_float_of(2),
        )  # fmt: skip
        self._tokenizer = files.tokenizer()
        self._words = vocabulary_of(self._tokenizer)
        self._first, self._last = special_ids(self._tokenizer, files.directory / TOKENIZER)
        self._never = never_said(self._words)
        self._warm_up(files.directory / DECODER)

    @classmethod
    def named(cls, name: str) -> OnnxRewriter:
        """The shipped rewriter of that name, or the one in the directory ``name``."""
        return cls(REWRITERS.find(name))

    @staticmethod
    def lasting(name: str) -> str:
        """``name``, absolute if it is that of a directory."""
        return REWRITERS.lasting(name)

    def rewrite(self, query: str) -> tuple[Rewrite, ...]:
        """The query in other words, the most probable first; none that is less so than the query as it is, and none at
        all where the model does not know its words.
        """
        encoded = self._tokenizer.encode(query[:MAX_CHARACTERS], add_special_tokens=False)
        if not understands(encoded):
            return ()
        source = np.array([[self._first, *encoded.ids[: self.card.query_tokens], self._last]], np.int64)
        found = beam_search(
            self.step(source), self._first, self._last, width=self.card.beams, longest=self.card.rewrite_tokens,
            never=self._never,
        )  # fmt: skip
        said = (Rewrite(spelt([self._words[i] for i in one.ids]), one.score) for one in found)
        asked = spelt(encoded.tokens[: self.card.query_tokens])
        return tuple(rewrite for rewrite in takewhile(lambda said: said.text != asked, said) if rewrite.text)

    def step(self, source: NDArray[np.int64]) -> Any:
        """The ``qpt.beam.Step`` for a query's ids, int64 (1, tokens), special ones included."""
        mask = np.ones_like(source)
        memory = self._encoder.run(None, {"input_ids": source, "attention_mask": mask})[0]

        def step(prefixes: NDArray[np.int64]) -> NDArray[np.float32]:
            n = len(prefixes)
            feeds = {
                "memory": np.repeat(memory, n, 0), "source_ids": np.repeat(source, n, 0),
                "attention_mask": np.repeat(mask, n, 0), "prefix_ids": prefixes,
            }  # fmt: skip
            out: NDArray[np.float32] = self._decoder.run(None, feeds)[0]
            return out

        return step

    def _warm_up(self, path: Path) -> None:
        """Sets up what the runtime sets up lazily, and sees that the graphs fit each other and the tokenizer."""
        source = np.array([[self._first, self._last]], np.int64)
        longest = np.full((1, self.card.rewrite_tokens + 1), self._first, np.int64)
        try:
            shapes = {self.step(source)(prefix).shape for prefix in (longest[:, :1], longest)}
        except Exception as error:
            raise ModelError(f"{path} cannot say what follows a query of {CARD}'s lengths: {error}") from error
        if shapes != {(1, len(self._words))}:
            raise ModelError(f"{path} gives probabilities of shapes {shapes}; {TOKENIZER} has {len(self._words)} words")


def vocabulary_of(tokenizer: Tokenizer) -> list[str]:
    """Its tokens in the order of their ids; ids that it leaves out are empty."""
    known = tokenizer.get_vocab()
    words = [""] * (1 + max(known.values()))
    for word, number in known.items():
        words[number] = word
    return words


def special_ids(tokenizer: Tokenizer, path: Path) -> tuple[int, int]:
    """Of what stands before a text and after it, between which a rewrite is said too. Raises ModelError."""
    special = tokenizer.encode("").ids
    if len(special) != 2 or special[0] == special[1]:
        raise ModelError(f"{path} puts the tokens {special} around a text; a query rewriter reads [CLS] query [SEP]")
    return special[0], special[1]


def never_said(words: Sequence[str]) -> list[int]:
    """Ids that are no part of a text: [UNK], [PAD] and the like, but for [SEP], which ends one."""
    return [i for i, word in enumerate(words) if not word or (word[0] + word[-1] == "[]" and word != "[SEP]")]


def spelt(tokens: Sequence[str]) -> str:
    """The text that tokens spell."""
    return "".join(
        token.removeprefix(CONTINUED) if token.startswith(CONTINUED) else f" {token}" for token in tokens
    ).strip()


def _is_float_of(dimensions: int) -> Any:
    return lambda output: output.type == "tensor(float)" and len(output.shape) == dimensions
