"""A one-pass listwise encoder in torch: it reads a query and a whole list of products together, one score for each.

What it reads is what ``ranking.onepass`` serves: ``[CLS] query [SEP] product [SEP] product [SEP] …``, all of token type
0. A product's logit is read at the separator after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForTokenClassification

from ranking.onepass import ListIds, list_ids
from training.methods import Adapted, adapt, reopened
from training.methods.modules import MASKED
from training.metrics import Scores
from training.models import (
    BaseModel,
    Ids,
    Reader,
    find_base,
    keep_layers,
    load_transformer,
    local_base,
    quietly,
)
from training.settings import ModelSettings

_MULTIPLE = 16
_LISTS_AT_ONCE = 8

#: Ids of the query and of its products.
IdList = tuple[Ids, Sequence[Ids]]


class OnePass(Reader):
    """Lists in, logits out. ``adapted`` is the module with what its method made of it."""

    def __init__(self, base: BaseModel, adapted: Adapted, tokenizer: Any, list_size: int, bf16: str = "auto") -> None:
        super().__init__(base, adapted.model, tokenizer, bf16)
        self.adapted, self.list_size = adapted, list_size
        self.special = tokenizer.cls_token_id, tokenizer.sep_token_id

    @classmethod
    def load(cls, settings: ModelSettings, list_size: int, bf16: str = "auto") -> OnePass:
        """The base model with a fresh head, or the one it has. Raises ModelError."""
        base = find_base(settings.base)
        model, tokenizer = load_transformer(base, AutoModelForTokenClassification, num_labels=1)
        keep_layers(model, settings.layers, base.name)
        return cls(base, adapt(model, settings, base.name), tokenizer, list_size, bf16)

    @classmethod
    def open(cls, directory: Path, list_size: int, bf16: str = "auto") -> OnePass:
        """One that ``save`` wrote. Raises ModelError."""
        base = local_base(directory)
        model, tokenizer = load_transformer(base, AutoModelForTokenClassification, num_labels=1)
        return cls(base, reopened(model, directory), tokenizer, list_size, bf16)

    def save(self, directory: Path) -> None:
        """Writes model and tokenizer as transformers does; what has no place there is for the adapter beside it."""
        with quietly():
            self.adapted.plain().save_pretrained(directory)
        self.tokenizer.save_pretrained(directory)

    def logits(self, lists: Sequence[IdList]) -> torch.Tensor:
        """Float32 (n,): all lists' products one after another."""
        made = [list_ids(query, products, self.special) for query, products in lists]
        ids, parts, positions = (inputs.to(self.device) for inputs in _batch(made))
        with self.autocast():
            hidden: torch.Tensor = read(self.module, ids, parts, positions)
        rows = np.repeat(np.arange(len(made)), [len(one.places) for one in made])
        places = np.concatenate([one.places for one in made])
        return hidden[torch.from_numpy(rows), torch.from_numpy(places)].float()

    @torch.inference_mode()
    def score(self, lists: Sequence[IdList], progress: Callable[[int, int], None] = lambda *_: None) -> Scores:
        """Logits as ``logits`` orders them. Lists of like length are scored together."""
        order = np.argsort([sum(map(len, products)) for _, products in lists], kind="stable")
        out: list[Scores] = [np.empty(0, np.float32)] * len(lists)
        for begin in range(0, len(order), _LISTS_AT_ONCE):
            places = order[begin : begin + _LISTS_AT_ONCE]
            found = self.logits([lists[place] for place in places]).cpu().numpy()
            ends = np.cumsum([len(lists[place][1]) for place in places])[:-1]
            for place, scores in zip(places, np.split(found, ends), strict=True):
                out[place] = scores
            progress(min(begin + _LISTS_AT_ONCE, len(order)), len(order))
        return np.concatenate(out) if out else np.empty(0, np.float32)


def read(module: Any, ids: torch.Tensor, parts: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Logits of all tokens, (n, length), of inputs int64 (n, length); what fills up is of part -1.

    A token attends to its own part, one of a product to the query too, and the query to everything.
    """
    mine, others = parts[:, :, None], parts[:, None, :]
    seen = (mine == others) | ((mine > 0) & (others == 0)) | ((mine == 0) & (others > 0))
    mask = (1 - seen[:, None].float()) * MASKED
    logits: torch.Tensor = module(input_ids=ids, attention_mask=mask, position_ids=positions).logits
    return logits[:, :, 0]


def _batch(made: Sequence[ListIds]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, parts and positions, int64 (n, length), the length rounded up: oneDNN keeps a kernel for each there is."""
    shape = len(made), -(-max(len(one.ids) for one in made) // _MULTIPLE) * _MULTIPLE
    ids, parts, positions = np.zeros(shape, np.int64), np.full(shape, -1, np.int64), np.zeros(shape, np.int64)
    for row, one in enumerate(made):
        ids[row, : len(one.ids)], parts[row, : len(one.ids)] = one.ids, one.parts
        positions[row, : len(one.ids)] = one.positions
    return torch.from_numpy(ids), torch.from_numpy(parts), torch.from_numpy(positions)
