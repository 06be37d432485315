"""One conversation with an endpoint that has OpenAI's chat protocol: requests, retries, the pace, and the price."""

from __future__ import annotations

import email.utils
import os
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from typing import Any

import msgspec

from engine.endpoints.settings import EndpointSettings
from engine.errors import BudgetError, EndpointError

_MAX_RESPONSE = 2_000_000  # bytes read of an answer
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 60.0  # seconds; of the n-th retry at most _FIRST_WAIT * 2 ** n
_BYTES_PER_TOKEN = 2.0  # of a prompt; fewer than tokenizers have, so that no price is guessed too low
_BUSY = frozenset({408, 409, 425, 429, 500, 502, 503, 504})


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Response(msgspec.Struct):
    choices: list[_Choice]
    usage: _Usage | None = None


class _PassingError(Exception):
    """A failure that may pass. ``wait`` is what the endpoint asks for, in seconds; ``charged`` whether it may cost."""

    def __init__(self, reason: str, *, wait: float | None = None, charged: bool = False) -> None:
        super().__init__(reason)
        self.wait, self.charged = wait, charged


class Chat:
    """Sends prompts, one at a time or from several threads. ``spent`` begins with what was spent before."""

    def __init__(
        self, settings: EndpointSettings, spent: float = 0.0, *,
        on_cost: Callable[[float], None] = lambda cost: None, sleep: Callable[[float], None] = time.sleep,
    ) -> None:  # fmt: skip
        """Raises EndpointError where the environment has no key."""
        self._settings, self._on_cost, self._sleep = settings, on_cost, sleep
        self._key = os.environ.get(settings.key_variable, "") if settings.key_variable else ""
        if settings.key_variable and not self._key:
            raise EndpointError(
                f"the environment variable {settings.key_variable} is empty; put the endpoint's key there"
            )
        self._opener = urllib.request.build_opener(_NoRedirects)
        self._lock = threading.Lock()
        self._chance = random.Random()
        self._next = 0.0  # when the next request may go, on time.monotonic
        self._spent, self._reserved = spent, 0.0

    @property
    def spent(self) -> float:
        return self._spent

    def complete(self, prompt: str) -> str:
        """The model's answer.

        Raises BudgetError before it would cost too much, EndpointError where the endpoint refuses or fails for good.
        """
        body = msgspec.json.encode(self._request(prompt))
        for attempt in range(self._settings.retries + 1):
            try:
                return self._once(body)
            except _PassingError as failure:
                if attempt == self._settings.retries:
                    raise EndpointError(
                        f"{self._settings.url} failed {attempt + 1} times, the last time with: {failure}; try again "
                        "later, or with fewer requests_per_minute"
                    ) from failure
                longest = min(_FIRST_WAIT * 2.0**attempt, _LONGEST_WAIT)
                # Of those who were refused together, not all are to come again together.
                wait = self._chance.uniform(longest / 2, longest) if failure.wait is None else failure.wait
                self._sleep(min(wait, _LONGEST_WAIT))
        raise AssertionError("unreachable")

    def _request(self, prompt: str) -> dict[str, Any]:
        request: dict[str, Any] = {
            "model": self._settings.model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": self._settings.answer_tokens,
            "temperature": self._settings.temperature,
        }
        if self._settings.json_mode:
            request["response_format"] = {"type": "json_object"}
        return request

    def _once(self, body: bytes) -> str:
        dearest = self._price(len(body) / _BYTES_PER_TOKEN, self._settings.answer_tokens)
        self._reserve(dearest)
        cost = 0.0
        try:
            self._keep_pace()
            response = self._send(body)
            usage = response.usage
            # An endpoint that does not tell what was used is taken to have used all that it could.
            cost = dearest if usage is None else self._price(usage.prompt_tokens, usage.completion_tokens)
            content = response.choices[0].message.content if response.choices else None
            if content is None:
                raise _PassingError("an answer without content")
            return content
        except _PassingError as failure:
            cost = dearest if failure.charged else cost
            raise
        finally:
            self._settle(dearest, max(cost, 0.0))

    def _send(self, body: bytes) -> _Response:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        url = f"{self._settings.url.rstrip('/')}/chat/completions"
        request = urllib.request.Request(url, body, headers, method="POST")
        try:
            with self._opener.open(request, timeout=self._settings.timeout_seconds) as reply:
                text = reply.read(_MAX_RESPONSE + 1)
        except urllib.error.HTTPError as error:
            with error:
                if error.code in _BUSY:
                    raise _PassingError(
                        f"status {error.code}", wait=_retry_after(error.headers.get("Retry-After"))
                    ) from None
                # Neither the answer nor the request is told: either may repeat the key.
                raise EndpointError(
                    f"{self._settings.url} refused with status {error.code}; check url, model and the key in "
                    f"{self._settings.key_variable or 'key_variable'}"
                ) from None
        except urllib.error.URLError as error:  # it was not sent
            raise _PassingError(f"{type(error.reason).__name__}") from None
        except (OSError, HTTPException) as error:
            raise _PassingError(type(error).__name__, charged=True) from None
        if len(text) > _MAX_RESPONSE:
            raise _PassingError(f"more than {_MAX_RESPONSE} bytes", charged=True)
        try:
            return msgspec.json.decode(text, type=_Response)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise _PassingError("an answer that is not of the protocol", charged=True) from None

    def _price(self, n_input: float, n_output: float) -> float:
        return (n_input * self._settings.input_price + n_output * self._settings.output_price) / 1_000

    def _reserve(self, cost: float) -> None:
        """Sets aside what a request may cost, so that those under way together cannot cost too much."""
        with self._lock:
            if self._spent + self._reserved + cost > self._settings.cost_ceiling:
                raise BudgetError(
                    f"{self._spent:.4f} was spent on {self._settings.model}, and the next request may pass the "
                    f"cost_ceiling of {self._settings.cost_ceiling:g}; raise it to go on from the answers kept"
                )
            self._reserved += cost

    def _settle(self, reserved: float, cost: float) -> None:
        with self._lock:
            self._reserved -= reserved
            self._spent += cost
        if cost:
            self._on_cost(cost)

    def _keep_pace(self) -> None:
        if not self._settings.requests_per_minute:
            return
        with self._lock:
            now = time.monotonic()
            at = max(self._next, now)
            self._next = at + 60.0 / self._settings.requests_per_minute
        if at > now:
            self._sleep(at - now)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would take the key to another address."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _retry_after(value: str | None) -> float | None:
    """Seconds to wait, of a header that has seconds or a date; None where it has neither."""
    if value is None:
        return None
    try:
        return max(float(value), 0.0) if value.strip().isdigit() else max(
            email.utils.parsedate_to_datetime(value).timestamp() - time.time(), 0.0
        )  # fmt: skip
    except (ValueError, OverflowError):
        return None
