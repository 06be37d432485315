"""Names of models: a short code, which with the word beside it or its plus says which one it is ("S23 Ultra", "s23+").

Of two products whose texts have both words, the one is meant whose title has them together: the text of an S23+ may
well say that it is smaller than the Ultra. And an S23+ is no S23.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

from engine.analysis.units import UNITS
from engine.understanding.words import GRAMMAR, Token

# What begins with a number is a measure or a property.
_CODE = re.compile(r"([a-z]{1,6})(\d{1,3})([a-z]{0,2})(\+?)")
_PLUS = "plus"
_MAX_NAMES = 4  # of one query
_BETWEEN = 2  # words of a title that may stand between the two, as in "Galaxy Tab A9 11 inch Wi-Fi"
_END = r"(?![^\W_])"


@dataclass(frozen=True, slots=True)
class ModelName:
    """``query[start:end]`` names a model by ``words``, lower case: a code, alone or with the word before or after it.

    A code ends with ``+`` where one is said.
    """

    words: tuple[str, ...]
    start: int
    end: int

    @property
    def text(self) -> str:
        return " ".join(self.words)

    @property
    def code(self) -> str:
        """The word of it that is a code."""
        return next(word for word in self.words if _CODE.fullmatch(word))

    def found_in(self, title: str) -> bool:
        """Whether a title has all of it, a few words apart at most, in whichever order."""
        return _pattern(self.words).search(title) is not None


def find_names(query: str, found: Sequence[Token]) -> tuple[ModelName, ...]:
    """The names in ``query``, in its order. ``found`` are its words, empty where one is not asked for."""
    words = list(_with_plus(query, _glued(query, found)))
    names: list[ModelName] = []
    for place, word in enumerate(words):
        if not _is_code(word):
            continue
        beside = [other for other in words[max(place - 1, 0) : place + 2] if _is_word(other)]
        pairs = [sorted((word, other), key=lambda part: part.start) for other in beside] or [[word]]
        names += [ModelName(tuple(part.text for part in parts), parts[0].start, parts[-1].end) for parts in pairs]
    return tuple(names[:_MAX_NAMES])


def _glued(query: str, found: Sequence[Token]) -> list[Token]:
    """The words, a letter and a number a space apart as one: "s 23 ultra". Not of a measure, nor where "a" is none of a
    name, as in "a 14 inch laptop".
    """
    out: list[Token] = []
    for at, token in enumerate(found):
        before = out[-1] if out else None
        after = found[at + 1].text if at + 1 < len(found) else ""
        if (
            before is not None and len(before.text) == 1 and before.text.isalpha() and after not in UNITS
            and 2 <= len(token.text) <= 3 and token.text.isdigit() and query[before.end : token.start] == " "
            and (before.text != "a" or (len(out) > 1 and _is_word(out[-2])))
        ):  # fmt: skip
            out[-1] = Token(before.text + token.text, before.start, token.end)
        else:
            out.append(token)
    return out


def _with_plus(query: str, found: Sequence[Token]) -> Iterator[Token]:
    """The words, a code and the plus after it as one, whichever way it is written."""
    taken = False
    for token, after in pairwise((*found, Token("", len(query), len(query)))):
        if taken:
            taken = False
        elif not _is_code(token):
            yield token
        elif query[token.end : token.end + 1] == "+":
            yield replace(token, text=f"{token.text}+", end=token.end + 1)
        elif after.text == _PLUS:
            taken = True
            yield replace(token, text=f"{token.text}+", end=after.end)
        else:
            yield token


def _is_code(token: Token) -> bool:
    return _CODE.fullmatch(token.text) is not None


def _is_word(token: Token) -> bool:
    return len(token.text) > 1 and token.text.isalpha() and token.text not in GRAMMAR


@lru_cache(maxsize=1_000)
def _pattern(words: tuple[str, ...]) -> re.Pattern[str]:
    written = [rf"(?<![^\W_]){_written(word)}" for word in words]
    if len(written) == 1:
        return re.compile(written[0], re.IGNORECASE)
    one, other = written
    gap = rf"\W+(?:\w+\W+){{0,{_BETWEEN}}}"
    return re.compile(f"{one}{gap}{other}|{other}{gap}{one}", re.IGNORECASE)


def _written(word: str) -> str:
    """A pattern for how titles write it: ``s23`` is also ``s 23`` and ``s-23``, a word may have its plural."""
    code = _CODE.fullmatch(word)
    if not code:
        return rf"{re.escape(word)}s?{_END}"
    *parts, plus = code.groups()
    joined = r"[\s-]?".join(filter(None, parts))
    return rf"{joined}{_END}\s?(?:\+|{_PLUS}{_END})" if plus else rf"{joined}{_END}(?!\s?\+|\s{_PLUS}{_END})"
