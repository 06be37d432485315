"""Three ways to read an order out of a language model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from engine.errors import AisleError
from ranking.listwise.decoders import Decoder
from ranking.listwise.permutation import Permutation, read_permutation
from ranking.listwise.prompts import Prompts, labels_of
from ranking.listwise.settings import ListwiseSettings, Reading

_TOKENS_A_LABEL = 4  # of an answer: "] > [B" is three or four
#: From a query and texts to their order.
Order = Callable[[str, Sequence[str]], Permutation]


class Reader:
    """Orders one window by one decoder."""

    def __init__(self, decoder: Decoder, settings: ListwiseSettings, prompts: Prompts) -> None:
        self._decoder, self._settings, self._prompts = decoder, settings, prompts
        readings: dict[Reading, Order] = {
            "permutation": self._permutation, "first-token": self._first_token, "yes-no": self._yes_no,
        }  # fmt: skip
        self._read = readings[settings.reading]

    def order(self, query: str, texts: Sequence[str]) -> Permutation:
        """The places of ``texts``, the best first. With a shuffled defence they are read in reverse too."""
        found = self._read(query, texts)
        if not self._settings.defence.shuffled or self._settings.reading == "yes-no":
            return found
        reverse = self._read(query, texts[::-1])
        again = [len(texts) - 1 - place for place in reverse.order]
        return Permutation(_mean(found.order, again), found.problem or reverse.problem)

    def cost(self, query: str, texts: Sequence[str]) -> int:
        """About how many tokens it costs to order these."""
        if self._settings.reading == "yes-no":
            return sum(self._decoder.n_tokens(self._prompts.of_one(query, text)) for text in texts)
        labels = labels_of(self._settings.labels, len(texts))
        once = self._decoder.n_tokens(self._prompts.of_window(query, texts, labels))
        once += _TOKENS_A_LABEL * len(texts) if self._settings.reading == "permutation" else 0
        return once * (2 if self._settings.defence.shuffled else 1)

    def _permutation(self, query: str, texts: Sequence[str]) -> Permutation:
        labels, begin = labels_of(self._settings.labels, len(texts)), self._prompts.begin
        prompt = self._prompts.of_window(query, texts, labels)
        answer = self._decoder.complete(prompt, begin, _TOKENS_A_LABEL * len(texts))
        return read_permutation(begin + answer, labels)

    def _first_token(self, query: str, texts: Sequence[str]) -> Permutation:
        labels = labels_of(self._settings.labels, len(texts))
        prompt = self._prompts.of_window(query, texts, labels)
        return _by_score(self._decoder.first([prompt], self._prompts.begin, labels)[0])

    def _yes_no(self, query: str, texts: Sequence[str]) -> Permutation:
        prompts = [self._prompts.of_one(query, text) for text in texts]
        logits = self._decoder.first(prompts, "", ("yes", "no"))
        return _by_score(logits[:, 0] - logits[:, 1])


def _by_score(scores: np.ndarray[tuple[int], np.dtype[np.float32]]) -> Permutation:
    if not np.isfinite(scores).all():
        raise AisleError("the language model gave no numbers")
    return Permutation(tuple(np.argsort(-scores, kind="stable").tolist()))


def _mean(one: Sequence[int], other: Sequence[int]) -> tuple[int, ...]:
    """By the mean of the places in two orders; of equals the one that the first has before."""
    places = np.empty((2, len(one)))
    for row, order in enumerate((one, other)):
        places[row, list(order)] = np.arange(len(order))
    return tuple(np.lexsort((places[0], places.sum(axis=0))).tolist())
