"""Local transformers models as teachers: cross-encoders of any make, and causal language models.

A model is read from a directory, with safetensors, running no code of its own; nothing is fetched.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from engine.errors import ConfigError
from engine.text import encoded_text
from training.export import first_line
from training.metrics import Scores
from training.models import load_transformer, local_base
from training.teachers import Done, Labeller, Pair
from training.teachers.prompts import read_answer, yes_or_no
from training.teachers.settings import TransformersTeacherSettings

T = TypeVar("T")

_YES, _NO = ("yes", "Yes", " yes", " Yes"), ("no", "No", " no", " No")
_SEQUENCE, _CAUSAL = "ForSequenceClassification", ("ForCausalLM", "LMHeadModel")
_MAX_SEED = 2**31


def open_local(settings: TransformersTeacherSettings) -> Labeller:
    """A classifier or a language model, as the directory's configuration says. Raises ConfigError, ModelError."""
    built = _built(settings)
    return Classifier(settings) if built.endswith(_SEQUENCE) else LanguageModel(settings)


class Classifier:
    """A cross-encoder: query and product go in as a pair, the probability comes of its one output, or of two."""

    def __init__(self, settings: TransformersTeacherSettings) -> None:
        """Raises ConfigError where the model has no head for that, ModelError where it cannot be read."""
        built = _built(settings)
        if not built.endswith(_SEQUENCE):
            raise ConfigError(f"teacher.path {settings.path} has a {built}; name a model for sequence classification")
        self._settings, self.fingerprint = settings, _fingerprint(settings)
        self._model, self._tokenizer, self._device = _load(settings, AutoModelForSequenceClassification)
        n = self._model.config.num_labels
        if n not in (1, 2):
            raise ConfigError(f"teacher.path {settings.path} has a model with {n} outputs; 1 or 2 say how relevant")
        room = min(settings.max_tokens, getattr(self._model.config, "max_position_embeddings", settings.max_tokens))
        self._max_tokens = room

    @torch.inference_mode()
    def label(self, pairs: Sequence[Pair], progress: Done = lambda *_: None) -> Scores:
        """As ``Labeller``. Pairs of like length are read together."""
        texts = [encoded_text(pair.product) for pair in pairs]
        order = np.argsort([len(text) for text in texts], kind="stable")
        out = np.empty(len(pairs), np.float32)
        for begin in range(0, len(order), self._settings.batch_size):
            places = order[begin : begin + self._settings.batch_size]
            inputs = self._tokenizer(
                [pairs[place].query for place in places], [texts[place] for place in places],
                truncation="longest_first", max_length=self._max_tokens, padding=True, return_tensors="pt",
            )  # fmt: skip
            logits = self._model(**inputs.to(self._device)).logits.float()
            found = logits[:, 0].sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1)[:, 1]
            out[places] = found.cpu().numpy()
            progress(begin + len(places), len(order))
        return out


class LanguageModel:
    """A causal language model: it labels by how probable ``yes`` is as its next word beside ``no``, and it writes."""

    def __init__(self, settings: TransformersTeacherSettings) -> None:
        """Raises ConfigError where the model is none or knows no such words, ModelError where it cannot be read."""
        built = _built(settings)
        if not built.endswith(_CAUSAL):
            raise ConfigError(f"teacher.path {settings.path} has a {built}; name a causal language model")
        self._settings, self.fingerprint = settings, _fingerprint(settings)
        self._model, self._tokenizer, self._device = _load(settings, AutoModelForCausalLM)
        self._tokenizer.padding_side = "left"
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._yes, self._no = self._words(_YES), self._words(_NO)

    @torch.inference_mode()
    def label(self, pairs: Sequence[Pair], progress: Done = lambda *_: None) -> Scores:
        """As ``Labeller``."""
        prompts = [self._turn(yes_or_no(pair)) for pair in pairs]
        out = np.empty(len(pairs), np.float32)
        for begin in range(0, len(prompts), self._settings.batch_size):
            inputs = self._read(prompts[begin : begin + self._settings.batch_size])
            # Without places of their own, texts would read differently beside longer ones.
            places = (inputs["attention_mask"].cumsum(dim=1) - 1).clamp(min=0)
            last = self._model(**inputs, position_ids=places, logits_to_keep=1).logits[:, -1].float()
            yes, no = (last[:, words].logsumexp(dim=1) for words in (self._yes, self._no))
            end = begin + len(last)
            out[begin:end] = (yes - no).sigmoid().cpu().numpy()
            progress(end, len(prompts))
        return out

    def ask(self, prompts: Sequence[str], answer: type[T], progress: Done = lambda *_: None) -> list[T | None]:
        """As ``Writer``. A prompt's answer depends on it, the attempt and the seed alone, not on its neighbours."""
        out: list[T | None] = []
        for prompt in prompts:
            found = None
            for attempt in range(self._settings.attempts):
                found = read_answer(self._written(prompt, attempt), answer)
                if found is not None:
                    break
            out.append(found)
            progress(len(out), len(prompts))
        return out

    @torch.inference_mode()
    def _written(self, prompt: str, attempt: int) -> str:
        inputs = self._read([self._turn(prompt)])
        said = f"{self._settings.seed}:{attempt}:{prompt}".encode(errors="backslashreplace")
        drawn: dict[str, Any] = {"do_sample": False}
        if self._settings.temperature > 0:
            drawn = {"do_sample": True, "temperature": self._settings.temperature}
        with torch.random.fork_rng(devices=[self._device] if self._device.type == "cuda" else []):
            torch.manual_seed(int.from_bytes(hashlib.sha256(said).digest()[:8], "big") % _MAX_SEED)
            ids = self._model.generate(
                **inputs, **drawn, max_new_tokens=self._settings.answer_tokens,
                pad_token_id=self._tokenizer.pad_token_id,
            )  # fmt: skip
        text: str = self._tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return text

    def _turn(self, prompt: str) -> str:
        if not getattr(self._tokenizer, "chat_template", None):
            return prompt
        said = [{"role": "user", "content": prompt}]
        text: str = self._tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
        return text

    def _read(self, prompts: Sequence[str]) -> Any:
        inputs = self._tokenizer(
            list(prompts), padding=True, return_tensors="pt", return_token_type_ids=False,
            add_special_tokens=not getattr(self._tokenizer, "chat_template", None),
        )  # fmt: skip
        n = inputs["input_ids"].shape[1]
        room = getattr(self._model.config, "max_position_embeddings", n)
        if n > room:
            raise ConfigError(f"a prompt has {n} tokens, more than the {room} that {self._settings.path} reads")
        return inputs.to(self._device)

    def _words(self, words: Sequence[str]) -> list[int]:
        """The ids of those of ``words`` that are one token. Raises ConfigError where none is."""
        ids = (self._tokenizer(word, add_special_tokens=False)["input_ids"] for word in words)
        unknown = self._tokenizer.unk_token_id
        found = sorted({one[0] for one in ids if len(one) == 1 and one[0] != unknown})
        if not found:
            raise ConfigError(f"teacher.path {self._settings.path} has no token for {words[0]!r}; name another model")
        return found


def _built(settings: TransformersTeacherSettings) -> str:
    """The name of the class that the model was saved from."""
    if not Path(settings.path).is_dir():
        raise ConfigError(f"teacher.path {settings.path} is no directory; name one that has a transformers model")
    try:
        config = AutoConfig.from_pretrained(settings.path, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"teacher.path {settings.path} has no model that can be read ({first_line(error)})"
        ) from error
    return str((config.architectures or ["model without a head"])[0])


def _load(settings: TransformersTeacherSettings, kind: Any) -> tuple[Any, Any, torch.device]:
    model, tokenizer = load_transformer(local_base(Path(settings.path)), kind)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return model.eval().to(device), tokenizer, device


def _fingerprint(settings: TransformersTeacherSettings) -> str:
    """Of the settings and of every file of weights, tokens and configuration, read in pieces."""
    digest = hashlib.sha256(repr(settings).encode())
    for path in sorted(Path(settings.path).glob("*")):
        if path.suffix in (".safetensors", ".json", ".txt", ".jinja", ".model"):
            digest.update(path.name.encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
