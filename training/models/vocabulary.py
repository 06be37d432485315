"""A tokenizer cut to the words of some texts, whose tokens spell a text exactly.

A model that says words has an output for each token; of a general vocabulary most would never be said. Every single
character stays, so that whatever word there is can still be read and said, in pieces.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from engine.errors import ModelError
from qpt.rewriter import CONTINUED


def pruned(tokenizer: Any, texts: Iterable[str], size: int, name: str) -> tuple[Any, NDArray[np.int64]]:
    """A tokenizer of at most ``size`` tokens, but of all that are special or one character, and their old ids.

    Words are what stands between spaces; marks are pieces of them, so that joining pieces gives the text again, in
    lower case where the tokenizer reads so. Raises ModelError on one that is neither WordPiece nor of whole words.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    data = json.loads(backend.to_str()) if backend is not None else {}
    if data.get("model", {}).get("type") not in ("WordPiece", "WordLevel"):
        raise ModelError(f"{name} has a tokenizer of another kind than WordPiece; take a model of BERT's family")
    data["pre_tokenizer"] = {"type": "WhitespaceSplit"}
    data["truncation"] = data["padding"] = None
    whole = Tokenizer.from_str(json.dumps(data))
    old = whole.get_vocab()
    counts: Counter[int] = Counter()
    for text in texts:
        counts.update(whole.encode(text, add_special_tokens=False).ids)
    special = set(tokenizer.all_special_ids)
    kept = special | {i for word, i in old.items() if len(word.removeprefix(CONTINUED)) == 1}
    kept |= {i for i, _ in counts.most_common(max(size - len(kept), 0))}
    ids = np.array(sorted(kept), np.int64)
    new = {int(i): place for place, i in enumerate(ids)}
    data["model"]["vocab"] = {word: new[i] for word, i in sorted(old.items(), key=lambda item: item[1]) if i in new}
    data["added_tokens"] = [{**token, "id": new[token["id"]]} for token in data["added_tokens"] if token["id"] in new]
    _renumber(data["post_processor"], new)
    cut = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(data)),
        **{key: value for key, value in tokenizer.special_tokens_map.items() if isinstance(value, str)},
    )
    return cut, ids


def _renumber(processor: Any, new: dict[int, int]) -> None:
    """Gives a post-processor's special tokens their new ids, in BERT's form or as a template."""
    for key in ("sep", "cls"):
        if key in processor:
            processor[key][1] = new[processor[key][1]]
    for token in processor.get("special_tokens", {}).values():
        token["ids"] = [new[i] for i in token["ids"]]
