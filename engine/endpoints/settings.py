"""The settings that say which endpoint is asked, how fast, and for how much: a table with ``kind = "endpoint"``."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import msgspec

_LOCAL = {"localhost", "127.0.0.1", "::1"}
_LEAST = {
    "requests_per_minute": 0, "retries": 0, "temperature": 0, "cost_ceiling": 0, "input_price": 0, "output_price": 0,
    "concurrency": 1, "answer_tokens": 1,
}  # fmt: skip


class EndpointSettings(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="endpoint"
):
    """A chat model behind an endpoint with OpenAI's protocol: ``url`` is what comes before ``/chat/completions``.

    The key is the value of the environment variable ``key_variable``; empty where the endpoint wants none. It is sent
    over HTTPS alone, or to this machine.

    ``requests_per_minute`` and ``concurrency`` bound how fast is asked (0 requests: as fast as it goes), ``retries``
    how often again where the endpoint is busy or fails. Tokens cost ``input_price`` and
    ``output_price`` a thousand; asking stops before it costs more than ``cost_ceiling``, in the same currency, together
    with what ``cache`` says was spent before. ``cache`` is a file that keeps every answer. ``json_mode`` asks for JSON
    by name, which not every endpoint knows.
    """

    url: str
    model: str
    cache: str
    cost_ceiling: float
    input_price: float
    output_price: float
    key_variable: str = ""
    requests_per_minute: int = 60
    concurrency: int = 4
    timeout_seconds: float = 60.0
    retries: int = 5
    answer_tokens: int = 256
    temperature: float = 0.7
    json_mode: bool = True

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
            raise ValueError(f"url is {self.url!r}; give an http(s) address without a user, such as https://host/v1")
        if self.key_variable and parts.scheme == "http" and parts.hostname not in _LOCAL:
            raise ValueError(f"url is {self.url!r}; a key is sent over https alone, or to this machine")
        if self.key_variable and not re.fullmatch(r"[A-Za-z_]\w*", self.key_variable):
            raise ValueError("key_variable is no name of an environment variable; name the variable, not the key")
        if not self.model or not self.cache:
            raise ValueError("model or cache is empty; name the model, and a file for its answers")
        for name, least in _LEAST.items():
            if not getattr(self, name) >= least:  # NaN fails too
                raise ValueError(f"{name} is {getattr(self, name)}; it must be {least} or more")
        if not self.timeout_seconds > 0:
            raise ValueError(f"timeout_seconds is {self.timeout_seconds}; it must be above 0")
