"""Any model behind an endpoint with OpenAI's chat protocol as a teacher: it labels, and it writes.

Every answer is kept as soon as it is there, so that what was paid for is never asked again.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from engine.endpoints.cache import AnswerCache, cache_key
from engine.endpoints.chat import Chat
from engine.endpoints.settings import EndpointSettings
from engine.errors import EndpointError
from training.metrics import Scores
from training.teachers import Done, Pair
from training.teachers.prompts import Verdict, how_probable, read_answer

T = TypeVar("T")

_ATTEMPTS = 3  # at an answer that fits
_log = logging.getLogger(__name__)


class EndpointTeacher:
    """Asks the endpoint what ``cache`` does not know. ``unusable`` counts answers that did not fit."""

    def __init__(self, settings: EndpointSettings, *, sleep: Callable[[float], None] = time.sleep) -> None:
        """Raises EndpointError where the cache cannot be written or the environment has no key."""
        self._settings = settings
        self.unusable = 0
        self._cache = AnswerCache(Path(settings.cache))
        self._chat = Chat(settings, self._cache.spent, on_cost=self._cache.spend, sleep=sleep)
        said = (settings.url, settings.model, str(settings.temperature), str(settings.answer_tokens))
        self.fingerprint = hashlib.sha256(repr(said).encode()).hexdigest()

    @property
    def spent(self) -> float:
        """What all answers cost so far, those of earlier runs with the same cache too."""
        return self._chat.spent

    def close(self) -> None:
        """Closes the cache; nothing can be asked after."""
        self._cache.close()

    def label(self, pairs: Sequence[Pair], progress: Done = lambda *_: None) -> Scores:
        """As ``Labeller``."""
        found = self.ask([how_probable(pair) for pair in pairs], Verdict, progress)
        return np.array([np.nan if verdict is None else verdict.probability for verdict in found], np.float32)

    def ask(self, prompts: Sequence[str], answer: type[T], progress: Done = lambda *_: None) -> list[T | None]:
        """As ``Writer``. Equal prompts are asked once."""
        wanted = list(dict.fromkeys(prompts))
        known: dict[str, T | None] = {
            prompt: kept for prompt in wanted if (kept := self._kept(prompt, answer)) is not None
        }
        missing = [prompt for prompt in wanted if prompt not in known]
        progress(len(known), len(wanted))
        for prompt, found in self._asked(missing, answer):
            known[prompt] = found
            progress(len(known), len(wanted))
        return [known[prompt] for prompt in prompts]

    def _asked(self, prompts: Sequence[str], answer: type[T]) -> Iterator[tuple[str, T | None]]:
        """Answers as they come, several asked for at once; after a failure those under way are still waited for."""
        waiting, failure = iter(prompts), None
        under_way: dict[Future[tuple[T | None, int]], str] = {}
        with ThreadPoolExecutor(self._settings.concurrency) as pool:
            while True:
                if failure is None:
                    for prompt in islice(waiting, self._settings.concurrency - len(under_way)):
                        under_way[pool.submit(self._answered, prompt, answer)] = prompt
                if not under_way:
                    break
                for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                    prompt = under_way.pop(future)
                    try:
                        found, unusable = future.result()
                    except EndpointError as error:
                        failure = failure or error
                        continue
                    self.unusable += unusable
                    yield prompt, found
        if failure is not None:
            raise failure

    def _kept(self, prompt: str, answer: type[T]) -> T | None:
        text = self._cache.get(self._key(prompt))
        return None if text is None else read_answer(text, answer)

    def _answered(self, prompt: str, answer: type[T]) -> tuple[T | None, int]:
        """An answer that fits, if any, and how many did not."""
        for attempt in range(_ATTEMPTS):
            text = self._chat.complete(prompt)
            found = read_answer(text, answer)
            if found is not None:
                self._cache.put(self._key(prompt), text)
                return found, attempt
        _log.info("%s gave no answer that fits in %d attempts", self._settings.model, _ATTEMPTS)
        return None, _ATTEMPTS

    def _key(self, prompt: str) -> str:
        return cache_key((self.fingerprint, prompt))
