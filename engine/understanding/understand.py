"""Understanding a query: languages, spelling, negation, constraints, names, synonyms, in that order.

Each can be left out.

Nothing here takes the shopper's words away: ``Understood.query`` is what was typed, and is to be searched whatever else
is. Every step says in words what it did.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from engine.errors import ConfigError
from engine.languages.detect import language_of
from engine.languages.translate import Translated, Translator
from engine.understanding.constraints import Constraint, parse
from engine.understanding.facts import CatalogFacts
from engine.understanding.names import ModelName, find_names
from engine.understanding.negation import Excluded, find_excluded
from engine.understanding.spelling import Change, SpellingModel
from engine.understanding.synonyms import Expansion, Synonyms
from engine.understanding.words import tokens

Step = Literal["languages", "spelling", "negation", "constraints", "names", "synonyms"]
STEPS: tuple[Step, ...] = get_args(Step)


@dataclass(frozen=True, slots=True)
class Note:
    """What one step did, in words for people: ``samzung → samsung (spelling)``."""

    step: Step
    text: str


@dataclass(frozen=True, slots=True)
class Understood:
    """What a query says.

    ``query`` is what was typed and ``corrected`` how it was probably meant, in the catalog's language, into which
    ``translated`` was read first. The spans of ``changes`` are places in that, or in ``query`` where it is None, those
    of ``constraints``, ``excluded`` and ``names`` places in ``corrected``. ``words`` are the words of ``corrected``,
    lower case, and ``synonyms`` speak of places in them.
    """

    query: str
    corrected: str
    words: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    excluded: tuple[Excluded, ...] = ()
    names: tuple[ModelName, ...] = ()
    synonyms: tuple[Expansion, ...] = ()
    notes: tuple[Note, ...] = ()
    translated: Translated | None = None


class QueryUnderstanding:
    """Reads queries against one catalog. Thread-safe. ``None`` for a part leaves its step out."""

    def __init__(
        self, facts: CatalogFacts | None = None, spelling: SpellingModel | None = None,
        synonyms: Synonyms | None = None, steps: Iterable[str] = STEPS, translator: Translator | None = None,
        known: frozenset[str] = frozenset(),
    ) -> None:  # fmt: skip
        """``known`` are words that are no slips, whatever the catalog has. Raises ConfigError on an unknown step."""
        steps = tuple(steps)
        unknown = [step for step in steps if step not in STEPS]
        if unknown:
            raise ConfigError(f"steps names {', '.join(map(repr, unknown))}; the steps are {', '.join(STEPS)}")
        self.steps = frozenset(steps)
        self._facts = facts if facts is not None and "constraints" in self.steps else None
        self._spelling = spelling if "spelling" in self.steps else None
        self._synonyms = synonyms if "synonyms" in self.steps else None
        self._translator = translator if "languages" in self.steps else None
        self._keep = known | (synonyms.words if synonyms else frozenset())

    def understand(self, query: str, locale: str = "") -> Understood:
        """What ``query`` says, to a shopper of ``locale``, such as ``es-MX``. Never raises, whatever the text."""
        translated = self._translator.read(query, locale) if self._translator else None
        text = translated.text if translated else query
        correction = self._spelling.correct(text, keep=self._keep) if self._spelling else None
        text, changes = (correction.text, correction.changes) if correction else (text, ())
        excluded = find_excluded(text) if "negation" in self.steps else ()
        taken = [(e.start, e.end) for e in excluded]
        constraints = parse(text, self._facts, taken) if self._facts else ()
        found = tokens(text)
        words = tuple(token.text for token in found)
        # What is excluded must not come back as what is asked for; no name and no rule has an empty word.
        asked = [
            replace(token, text="") if any(start <= token.start < end for start, end in taken) else token
            for token in found
        ]
        names = find_names(text, asked) if "names" in self.steps else ()
        synonyms = tuple(self._synonyms.expand([token.text for token in asked])) if self._synonyms else ()
        told = tuple(_translation_notes(translated, locale))
        notes = (*told, *_notes(changes, constraints, excluded, names, synonyms, words))
        return Understood(query, text, words, changes, constraints, excluded, names, synonyms, notes, translated)


def in_its_words(understood: Understood, spelling: SpellingModel | None) -> str:
    """The corrected query in the catalog's words, for models, which know words by their company: a word that no product
    has is read as what the catalog calls it. Not where something is excluded, whose places would be others then.
    """
    text = understood.corrected
    if understood.excluded or spelling is None:
        return text
    places = tokens(text)
    for found in reversed(understood.synonyms):
        if found.end == found.start + 1 and not spelling.said(understood.words[found.start : found.end]):
            place = places[found.start]
            text = f"{text[: place.start]}{' '.join(found.replacements[0])}{text[place.end :]}"
    return text


def _translation_notes(translated: Translated | None, locale: str) -> Iterable[Note]:
    if locale and not language_of(locale):
        yield Note("languages", f"the locale {locale[:20]!r} is not known; the language is the one the words are of")
    if translated:
        for found in translated.translations:
            yield Note("languages", f"{found.term} → {found.english} ({translated.language})")


def _notes(
    changes: Sequence[Change], constraints: Sequence[Constraint], excluded: Sequence[Excluded],
    names: Sequence[ModelName], synonyms: Sequence[Expansion], words: Sequence[str],
) -> Iterable[Note]:  # fmt: skip
    for change in changes:
        yield Note("spelling", f"{change.original} → {change.replacement} ({change.reason})")
    for phrase in excluded:
        yield Note("negation", f"{phrase.text} → not {' '.join(phrase.words)}")
    for constraint in constraints:
        yield Note("constraints", f"{constraint.text} → {constraint.reason}{'' if constraint.sure else ' (perhaps)'}")
    for name in names:
        yield Note("names", f"{name.text} → a model's name")
    for expansion in synonyms:
        also = ", ".join(" ".join(phrase) for phrase in expansion.replacements)
        yield Note("synonyms", f"{' '.join(words[expansion.start : expansion.end])} → also {also}")
