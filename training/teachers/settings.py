"""The settings that say which teacher is asked, and how: ``[teacher]`` with ``kind = "run"``, ``"transformers"``, …"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from training.settings import Settings, at_least
from training.teachers import Labeller, Writer

_LOCAL = {"localhost", "127.0.0.1", "::1"}


class Teacher(Settings, frozen=True, kw_only=True, tag_field="kind"):
    """Which model is asked."""


class RunTeacherSettings(Teacher, frozen=True, kw_only=True, tag="run"):
    """A cross-encoder of ours: ``path`` is the ``best`` directory of a run. It labels."""

    path: str


class TransformersTeacherSettings(Teacher, frozen=True, kw_only=True, tag="transformers"):
    """A model in the directory ``path``, as transformers saves one: nothing is fetched.

    A model for sequence classification, with one output or two, labels. A causal language model labels by what it
    gives ``yes`` and ``no``, and writes: up to ``answer_tokens``, drawn at ``temperature`` (0: the most probable), in
    up to ``attempts``. A classifier's pair is cut to ``max_tokens``.
    """

    path: str
    max_tokens: int = 512
    batch_size: int = 16
    answer_tokens: int = 256
    temperature: float = 0.7
    attempts: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(self, 1, "max_tokens", "batch_size", "answer_tokens", "attempts")
        at_least(self, 0, "temperature")


class EndpointTeacherSettings(Teacher, frozen=True, kw_only=True, tag="endpoint"):
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
        at_least(
            self, 0, "requests_per_minute", "retries", "temperature", "cost_ceiling", "input_price", "output_price"
        )
        at_least(self, 1, "concurrency", "answer_tokens")
        if not self.timeout_seconds > 0:
            raise ValueError(f"timeout_seconds is {self.timeout_seconds}; it must be above 0")


AnyTeacher = RunTeacherSettings | TransformersTeacherSettings | EndpointTeacherSettings


def open_labeller(settings: AnyTeacher) -> Labeller:
    """The teacher that ``settings`` name. Raises ConfigError, ModelError, TeacherError."""
    match settings:
        case RunTeacherSettings():
            from training.teachers.run import RunTeacher

            return RunTeacher(Path(settings.path))
        case TransformersTeacherSettings():
            from training.teachers.local import open_local

            return open_local(settings)
        case EndpointTeacherSettings():
            from training.teachers.endpoint import EndpointTeacher

            return EndpointTeacher(settings)


def open_writer(settings: TransformersTeacherSettings | EndpointTeacherSettings) -> Writer:
    """The same, to write. Raises ConfigError where the model cannot, and as ``open_labeller``."""
    match settings:
        case TransformersTeacherSettings():
            from training.teachers.local import LanguageModel

            return LanguageModel(settings)
        case EndpointTeacherSettings():
            from training.teachers.endpoint import EndpointTeacher

            return EndpointTeacher(settings)
