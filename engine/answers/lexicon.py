"""The words of ``words.toml``: what questions are made of."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import msgspec

from engine.errors import ConfigError


class QuestionWords(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Words by their part in a question, lower case."""

    wh: frozenset[str]
    auxiliary: frozenset[str]
    subject: frozenset[str]
    person: frozenset[str]
    request: frozenset[str]
    carrier: frozenset[str]
    modifier: frozenset[str]


class IntentWords(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Words that tell what a question asks for."""

    compare: frozenset[str]
    comparing: frozenset[str]
    best: frozenset[str]
    compatible: frozenset[str]
    policy: frozenset[str]
    opinion: frozenset[str]


class AnswerWords(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """All of the file. ``same`` are groups of one meaning, ``unit`` words of what a unit measures,
    ``measured`` the one for it, ``core`` what asks for
    a field that is no attribute. ``whole`` are words that say several of a name, ``joined`` words that may be written
    as two. ``shown`` is how units are written to people.
    """

    question: QuestionWords
    same: dict[str, frozenset[str]]
    unit: dict[str, frozenset[str]]
    core: dict[str, frozenset[str]]
    measured: dict[str, str]
    whole: dict[str, tuple[str, ...]]
    joined: dict[str, tuple[tuple[str, str], ...]]
    intent: IntentWords
    shown: dict[str, str]

    @cached_property
    def dimensions(self) -> frozenset[str]:
        """The words of what any unit measures."""
        return frozenset().union(*self.unit.values())

    @cached_property
    def joins(self) -> dict[tuple[str, ...], str]:
        """What two words are as one."""
        return {pair: name for name, pairs in self.joined.items() for pair in pairs}

    @cached_property
    def groups(self) -> dict[str, frozenset[str]]:
        """The groups of meaning that each word is in."""
        out: dict[str, set[str]] = {}
        for name, words in self.same.items():
            for word in words:
                out.setdefault(word, set()).add(name)
        return {word: frozenset(names) for word, names in out.items()}


def _read(path: Path) -> AnswerWords:
    try:
        return msgspec.toml.decode(path.read_bytes(), type=AnswerWords)
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(f"{path}: {error}") from error


WORDS = _read(Path(__file__).with_name("words.toml"))
