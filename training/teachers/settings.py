"""The settings that say which teacher is asked, and how: ``[teacher]`` with ``kind = "run"``, ``"transformers"``, …"""

from __future__ import annotations

from pathlib import Path

from engine.endpoints.settings import EndpointSettings
from training.settings import Settings, at_least
from training.teachers import Labeller, Writer


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


AnyTeacher = RunTeacherSettings | TransformersTeacherSettings | EndpointSettings


def open_labeller(settings: AnyTeacher) -> Labeller:
    """The teacher that ``settings`` name. Raises ConfigError, ModelError, EndpointError."""
    match settings:
        case RunTeacherSettings():
            from training.teachers.run import RunTeacher

            return RunTeacher(Path(settings.path))
        case TransformersTeacherSettings():
            from training.teachers.local import open_local

            return open_local(settings)
        case EndpointSettings():
            from training.teachers.endpoint import EndpointTeacher

            return EndpointTeacher(settings)


def open_writer(settings: TransformersTeacherSettings | EndpointSettings) -> Writer:
    """The same, to write. Raises ConfigError where the model cannot, and as ``open_labeller``."""
    match settings:
        case TransformersTeacherSettings():
            from training.teachers.local import LanguageModel

            return LanguageModel(settings)
        case EndpointSettings():
            from training.teachers.endpoint import EndpointTeacher

            return EndpointTeacher(settings)
