"""A language model in miniature: it finds a product the better, the more words it has of the query."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

import numpy as np

from engine.errors import AisleError

_LINE = re.compile(r"^\[(\w+)\] (.*)$", re.MULTILINE)


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


class WordsDecoder:
    """Reads prompts as the shipped ones are. It takes ``seconds``, says ``answer`` where there is one, and counts."""

    def __init__(self, seconds: float = 0.0, answer: str | None = None, broken: bool = False) -> None:
        self.seconds, self.answer, self.broken = seconds, answer, broken
        self.prompts: list[str] = []

    def n_tokens(self, prompt: str) -> int:
        return len(prompt) // 4

    def complete(self, prompt: str, begin: str, max_tokens: int) -> str:
        scores = self._scores(prompt)
        if self.answer is not None:
            return self.answer
        order = sorted(scores, key=lambda label: -scores[label])
        return " > ".join(f"[{label}]" for label in order).removeprefix(begin)

    def first(self, prompts: Sequence[str], begin: str, labels: Sequence[str]) -> np.ndarray:
        if labels == ("yes", "no"):
            return np.array([[self._yes(prompt), 0.0] for prompt in prompts], np.float32)
        found = [self._scores(prompt) for prompt in prompts]
        return np.array([[scores[label] for label in labels] for scores in found], np.float32)

    def _scores(self, prompt: str) -> dict[str, int]:
        self._ask(prompt)
        wanted = words(prompt.split("Search: <<<")[1].split(">>>")[0])
        return {label: len(wanted & words(text)) for label, text in _LINE.findall(prompt)}

    def _yes(self, prompt: str) -> float:
        self._ask(prompt)
        query, product = re.findall(r"<<<(.*?)>>>", prompt)[:2]
        return float(len(words(query) & words(product)))

    def _ask(self, prompt: str) -> None:
        if self.broken:
            raise AisleError("the model is gone")
        self.prompts.append(prompt)
        time.sleep(self.seconds)
