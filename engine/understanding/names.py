"""Names of models: a short code and the word beside it, which only together say which one it is ("S23 Ultra").

Of two products whose texts have both words, the one is meant whose title has them together: the text of an S23+ may
well say that it is smaller than the Ultra.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from engine.understanding.words import GRAMMAR, Token

_CODE = re.compile(r"([a-z]{1,6})(\d{1,3})([a-z]{0,2})")  # what begins with a number is a measure or a property
_MAX_NAMES = 4  # of one query
_BETWEEN = 2  # words of a title that may stand between the two, as in "Galaxy Tab A9+ 11 inch Wi-Fi"


@dataclass(frozen=True, slots=True)
class ModelName:
    """``query[start:end]`` names a model by ``first`` and ``second``, lower case, one of which is a code."""

    first: str
    second: str
    start: int
    end: int

    @property
    def text(self) -> str:
        return f"{self.first} {self.second}"

    def found_in(self, title: str) -> bool:
        """Whether a title has both, a few words apart at most, in whichever order."""
        return _pattern(self.first, self.second).search(title) is not None


def find_names(found: Sequence[Token]) -> tuple[ModelName, ...]:
    """The names in a query of these words, in its order."""
    names = [
        ModelName(first.text, second.text, first.start, second.end)
        for first, second in pairwise(found)
        if (_is_code(first) and _is_word(second)) or (_is_word(first) and _is_code(second))
    ]
    return tuple(names[:_MAX_NAMES])


def _is_code(token: Token) -> bool:
    return _CODE.fullmatch(token.text) is not None


def _is_word(token: Token) -> bool:
    return len(token.text) > 1 and token.text.isalpha() and token.text not in GRAMMAR


@lru_cache(maxsize=1_000)
def _pattern(first: str, second: str) -> re.Pattern[str]:
    one, other = (rf"(?<![^\W_]){_written(word)}(?![^\W_])" for word in (first, second))
    gap = rf"\W+(?:\w+\W+){{0,{_BETWEEN}}}"
    return re.compile(f"{one}{gap}{other}|{other}{gap}{one}", re.IGNORECASE)


def _written(word: str) -> str:
    """A pattern for how titles write it: ``s23`` is also ``s 23`` and ``s-23``, a word may have its plural."""
    code = _CODE.fullmatch(word)
    return r"[\s-]?".join(filter(None, code.groups())) if code else f"{re.escape(word)}s?"
