"""A causal language model in torch: it orders candidates, from a directory that transformers saved."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from engine.errors import ConfigError, ModelError
from training.methods import Adapted, adapt, reopened
from training.models import BaseModel, find_base, has_bf16, keep_layers, load_transformer, local_base, quietly
from training.settings import ModelSettings


class TransformersDecoder:
    """Implements ``ranking.listwise.decoders.Decoder``; for a model that lies in a file, or one that is trained."""

    def __init__(self, directory: Path, threads: int = 0) -> None:
        """Raises ConfigError where it is no directory, ModelError where it cannot be read."""
        if not directory.is_dir():
            raise ConfigError(f"decoder.path {directory} is no directory; name one that transformers saved")
        if threads:
            torch.set_num_threads(threads)
        model, tokenizer = load_transformer(local_base(directory), AutoModelForCausalLM)
        self._take(reopened(model, directory).model, tokenizer)

    def _take(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        self._lock = Lock()
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token

    def n_tokens(self, prompt: str) -> int:
        return len(self.tokenizer(prompt, add_special_tokens=False)["input_ids"])

    @torch.inference_mode()
    def complete(self, prompt: str, begin: str, max_tokens: int) -> str:
        ids = torch.tensor([self.ids(prompt, begin)], device=self.model.device)
        with self._lock:
            found = self.model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=max_tokens,
                pad_token_id=self.tokenizer.pad_token_id,
            )  # fmt: skip
        text: str = self.tokenizer.decode(found[0, ids.shape[1] :], skip_special_tokens=True)
        return text

    @torch.inference_mode()
    def first(self, prompts: Sequence[str], begin: str, words: Sequence[str]) -> NDArray[np.float32]:
        wanted = [self.word(word) for word in words]
        out = np.empty((len(prompts), len(words)), np.float32)
        for row, prompt in enumerate(prompts):
            ids = torch.tensor([self.ids(prompt, begin)], device=self.model.device)
            with self._lock:
                out[row] = self.model(input_ids=ids, logits_to_keep=1).logits[0, -1, wanted].float().cpu().numpy()
        return out

    def ids(self, prompt: str, begin: str) -> list[int]:
        """Of a turn with the beginning of its answer. Raises ConfigError where it is longer than the model reads."""
        text = turn(self.tokenizer, prompt) + begin
        ids: list[int] = self.tokenizer(text, add_special_tokens=not self.tokenizer.chat_template)["input_ids"]
        longest = getattr(self.model.config, "max_position_embeddings", len(ids))
        if len(ids) > longest:
            raise ConfigError(f"a prompt has {len(ids)} tokens, and the model reads {longest}; make window smaller")
        return ids

    def word(self, word: str) -> int:
        """The token that says ``word`` after the beginning. Raises ModelError where there is none of its own."""
        for text in (word, f" {word}"):
            ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            if len(ids) == 1 and ids[0] != self.tokenizer.unk_token_id:
                return int(ids[0])
        raise ModelError(f"the tokenizer has no token {word!r} of its own; take reading = permutation")


class TrainedDecoder(TransformersDecoder):
    """One that is trained: ``adapted`` is the model with what its method made of it."""

    def __init__(self, base: BaseModel, adapted: Adapted, tokenizer: Any, bf16: str) -> None:
        self.base, self.adapted = base, adapted
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._bf16 = has_bf16(self.device) if bf16 == "auto" else bf16 == "on"
        self._take(adapted.model.to(self.device), tokenizer)

    @classmethod
    def load(cls, settings: ModelSettings, bf16: str = "auto") -> TrainedDecoder:
        """The base model, or where its folder has no weights, random ones. Raises ModelError."""
        base = find_base(settings.base)
        folder = Path(base.location)
        if (folder / "config.json").exists() and not list(folder.glob("*.safetensors")):
            model, tokenizer = _fresh(folder)
        else:
            model, tokenizer = load_transformer(base, AutoModelForCausalLM)
        keep_layers(model, settings.layers, base.name)
        return cls(base, adapt(model, settings, base.name), tokenizer, bf16)

    def save(self, directory: Path) -> None:
        """Writes model and tokenizer as transformers does; what has no place there is for the adapter beside it."""
        with quietly():
            self.adapted.plain().save_pretrained(directory)
        self.tokenizer.save_pretrained(directory)

    def logits(
        self, module: Any, texts: Sequence[Sequence[int]], places: Sequence[Sequence[int]]
    ) -> list[torch.Tensor]:
        """What follows these places of each text, float32 (places, vocabulary); all texts in one pass of ``module``.

        Shorter texts are filled up behind their end, where nothing that counts can look.
        """
        longest = max(map(len, texts))
        ids = torch.full((len(texts), longest), self.tokenizer.pad_token_id, device=self.device)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = torch.tensor(text)
        with self.autocast():
            hidden = module.base_model(input_ids=ids, use_cache=False).last_hidden_state
            wanted = torch.cat([hidden[row, list(of_text)] for row, of_text in enumerate(places)])
            found = module.get_output_embeddings()(wanted).float()
        return list(found.split([len(of_text) for of_text in places]))

    def places(self, prompt: str, begin: str, lines: Sequence[str]) -> list[int]:
        """Where in ``ids(prompt, begin)`` each of these lines ends, but for a closing bracket."""
        text = turn(self.tokenizer, prompt) + begin
        coded = self.tokenizer(text, add_special_tokens=not self.tokenizer.chat_template, return_offsets_mapping=True)
        ends = [end for _, end in coded["offset_mapping"]]
        found, at = [], 0
        for line in lines:
            at = text.index(line, at) + len(line.rstrip("]"))
            found.append(bisect_left(ends, at))
        return found

    def answer(self, labels: Sequence[str]) -> list[int]:
        """The tokens of an order, after its beginning; then the model stops."""
        text = " > ".join(f"[{label}]" for label in labels).removeprefix("[")
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return [*ids, self.tokenizer.eos_token_id]

    def autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._bf16)


def _fresh(folder: Path) -> tuple[Any, Any]:
    """A model of a configuration alone, and the tokenizer beside it. Raises ModelError."""
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32), tokenizer
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{folder} has no configuration of a causal language model: {error}") from error


def turn(tokenizer: Any, prompt: str) -> str:
    """A prompt as the model's own chat template has it, up to where the answer begins; alone where there is none."""
    if not tokenizer.chat_template:
        return prompt + "\n"
    text: str = tokenizer.apply_chat_template(
        [{"role": "system", "content": "You rank products."}, {"role": "user", "content": prompt}], tokenize=False,
        add_generation_prompt=True,
    )  # fmt: skip
    return text
