"""Synonyms from a file in Solr's format.

One rule a line: ``fridge, refrigerator`` (any of them is also searched as the others) or ``kapde => clothes, laundry``
(what is left of the arrow is also searched as what is right of it). Several words make a phrase. ``#`` begins a
comment, a backslash takes the next character as it is. Words compare by their stems, in lower case and without
accents, so that a rule holds for plurals as well.

Solr replaces the left side of an arrow; here the shopper's own words are always searched as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import Stemmer

from engine.analysis.analyzer import singular
from engine.errors import ConfigError
from engine.fitted import Fitted
from engine.understanding.words import tokens

Phrase = tuple[str, ...]


class SynonymNumbers(Fitted, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``said_share``: how often, for each time that a catalog has what a shipped rule stands for, it may have the
    rule's own phrase for the rule to hold.
    """

    said_share: float


NUMBERS = SynonymNumbers.read(Path(__file__).with_suffix(".toml"))
_SHIPPED = ".synonyms.txt"  # how the names of shipped files end
#: The shipped rules of electronics and things for the home.
ELECTRONICS = Path(__file__).parent / f"electronics{_SHIPPED}"
_stem = lru_cache(maxsize=20_000)(Stemmer.Stemmer("english").stemWord)


@dataclass(frozen=True, slots=True)
class Expansion:
    """``words[start:end]`` of the query also mean each of ``replacements``."""

    start: int
    end: int
    replacements: tuple[Phrase, ...]


class Synonyms:
    """Rules by the stems of the phrase they apply to. Thread-safe."""

    def __init__(self, rules: Iterable[tuple[Phrase, Phrase]] = ()) -> None:
        """``rules`` are (phrase, replacement); those of one phrase add up."""
        rules = tuple(rules)
        self.rules = rules
        self._rules: dict[Phrase, dict[Phrase, None]] = {}
        words: set[str] = set()
        for phrase, replacement in rules:
            key = _stems(phrase)
            if key != _stems(replacement):
                self._rules.setdefault(key, {})[replacement] = None
                words.update(phrase)
        self._longest: dict[str, int] = {}
        for key in self._rules:
            self._longest[key[0]] = max(len(key), self._longest.get(key[0], 0))
        #: every word that some rule applies to; a speller must take them for known
        self.words = frozenset(words | {f"{word}s" for word in words})

    def __len__(self) -> int:
        """How many phrases have a rule."""
        return len(self._rules)

    @staticmethod
    def is_shipped(name: str) -> bool:
        """Whether ``name`` is that of shipped rules, and not of a shop's own file."""
        return (Path(__file__).parent / f"{name}{_SHIPPED}").exists()

    @classmethod
    def named(cls, name: str) -> Synonyms:
        """The shipped rules of that name, or those in the file ``name``. Raises ConfigError."""
        shipped = Path(__file__).parent / f"{name}{_SHIPPED}"
        known = sorted(path.name.removesuffix(_SHIPPED) for path in shipped.parent.glob(f"*{_SHIPPED}"))
        if name in known:
            return cls.read(shipped)
        if not Path(name).exists():
            raise ConfigError(f"synonyms is {name!r}; give a file in Solr's format, or one of {', '.join(known)}")
        return cls.read(name)

    @classmethod
    def read(cls, path: str | Path) -> Synonyms:
        """Reads a file. Raises ConfigError as ``read_rules``."""
        return cls(read_rules(path))

    def unsaid(self, said: Callable[[Phrase], int], numbers: SynonymNumbers = NUMBERS) -> Synonyms:
        """Those rules whose replacement a catalog has, and whose phrase it hardly has; ``said`` is how often it has
        one.

        Where a shop's own products say "laptop", a shopper who does means them; that others are called notebooks is of
        use to one that knows notebooks only.
        """
        return Synonyms(
            (phrase, other)
            for phrase, other in self.rules
            if said(other) and said(phrase) <= numbers.said_share * said(other)
        )

    def expand(self, words: Sequence[str]) -> list[Expansion]:
        """What stretches of ``words`` (lower case, without accents) also mean: the longest at each place."""
        found: list[Expansion] = []
        stems = _stems(words)
        at = 0
        while at < len(words):
            longest = self._longest.get(stems[at], 0)
            for length in range(min(longest, len(words) - at), 0, -1):
                rule = self._rules.get(stems[at : at + length])
                if rule:
                    found.append(Expansion(at, at + length, tuple(rule)))
                    at += length - 1
                    break
            at += 1
        return found


def read_rules(path: str | Path) -> list[tuple[Phrase, Phrase]]:
    """A file's rules as (phrase, replacement), in its order.

    Raises ConfigError naming the file, the line and what is wrong with it.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the synonyms {path}: {error}; give a text file in UTF-8") from error
    rules: list[tuple[Phrase, Phrase]] = []
    for number, line in enumerate(lines, 1):
        try:
            rules += _rules(line)
        except ValueError as error:
            raise ConfigError(f"{path}, line {number}: {line.strip()!r} {error}") from error
    return rules


def _stems(words: Iterable[str]) -> Phrase:
    return tuple(_stem(singular(word) or word) for word in words)


def _rules(line: str) -> list[tuple[Phrase, Phrase]]:
    """The rules of one line. Raises ValueError that completes the sentence "LINE …"."""
    sides = [_phrases(side) for side in _split(line, "=>")] if line.strip() else []
    if not sides or sides == [[()]]:
        return []
    if len(sides) > 2:
        raise ValueError("has more than one =>; write one rule a line, and \\=> for the characters")
    if any(not phrase for side in sides for phrase in side):
        raise ValueError("has an empty entry; take away the comma or =>, or write words beside it")
    if len(sides) == 1 and len(sides[0]) == 1:
        raise ValueError("has one entry only; write its synonyms after commas, or a => and what it means")
    sources, targets = sides[0], sides[-1]
    return [(source, target) for source in sources for target in targets]


def _phrases(side: str) -> list[Phrase]:
    return [tuple(token.text for token in tokens(_unescaped(entry))) for entry in _split(side, ",")]


def _split(text: str, separator: str) -> list[str]:
    """Parts of ``text`` between separators that no backslash stands before; a comment's ``#`` ends it."""
    parts, part, at = [], "", 0
    while at < len(text):
        if text[at] == "\\" and at + 1 < len(text):
            part += text[at : at + 2]
            at += 2
        elif text[at] == "#":
            break
        elif text.startswith(separator, at):
            parts.append(part)
            part = ""
            at += len(separator)
        else:
            part += text[at]
            at += 1
    return [*parts, part]


def _unescaped(text: str) -> str:
    out, at = "", 0
    while at < len(text):
        at += text[at] == "\\" and at + 1 < len(text)
        out += text[at]
        at += 1
    return out
