"""What a shopper does not want: "belt without buckle", "sugar free", "headphones, not wireless".

What is excluded is a phrase of the query. Whether a product has it is decided by the product's text, which may itself
say that it has not: "Belt without buckle", "No buckle", "Buckle-free", "buckle not included".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

import Stemmer

from engine.analysis.analyzer import STOP_WORDS
from engine.understanding.words import Token, tokens

_MAX_NEGATIONS = 8  # of one query; a text with more is none
_MAX_PHRASE = 3  # words; what comes after is rarely still excluded
_ENDINGS = r"(?:s|es|ed|ing|e|y|ies|er|ers|'s)?"
#: Words that end an excluded phrase, beside stop words, punctuation and another negation.
_BOUNDARIES = STOP_WORDS | {
    "but", "only", "just", "under", "below", "over", "above", "between", "around", "less", "more", "than", "plus",
    "per", "size", "pack", "series", "style", "please", "like", "within", "near", "where", "when", "while", "so", "if",
}  # fmt: skip
#: Words before which "not" and "no" exclude nothing: comparisons, and sayings.
_NO_PHRASE = frozenset({"more", "less", "only", "just", "too", "so", "very", "expensive", "over", "above", "sure"})
_SPEAKING = frozenset({"do", "is", "are", "was", "were", "will", "should", "could", "would", "must", "can", "am"})
#: "X free" in which X is not what is absent, or whose absence is the product's very kind.
_FREE_SAYINGS = frozenset(
    {"hands", "hand", "duty", "toll", "worry", "care", "maintenance", "cruelty", "get", "one", "for", "buy", "royalty"}
)
_TRIGGER = re.compile(
    r"(?<![\w-])(?:(?P<with>without|w/o|with\s*out(?=\s)|sans|minus|excluding|except(?:ing)?(?:\s+for)?|other\s+than|free\s+(?:of|from)"
    r"|(?:does|do)(?:\s+not|n['’]?t)\s+(?:have|need|use|include|contain|come\s+with)(?:\s+an?)?)"
    r"|(?P<no>no)|(?:but\s+)?(?P<not>not))(?=[\s(])",
    re.IGNORECASE,
)
_FREE = re.compile(
    r"(?<![\w-])(?P<what>[^\W\d_]{3,})(?:-|\s)free(?![\w-]|\s+(?:for|with|to|shipping|delivery|stand|standing|gift|size|returns?)\b)",
    re.IGNORECASE,
)
_HINT = re.compile(r"with\s*out|w/o|\bno[t ]|except|\bfree\b|exclud|sans|minus|other\s+than|n['’]t", re.IGNORECASE)
_stem = Stemmer.Stemmer("english").stemWord


@dataclass(frozen=True, slots=True)
class Excluded:
    """``query[start:end]``, the negation and its phrase, says that ``words`` (lower case, as typed) are not wanted."""

    words: tuple[str, ...]
    start: int
    end: int
    text: str

    def found_in(self, text: str) -> bool:
        """Whether a product of this text has what is excluded, and nowhere says that it has not.

        ``text`` is any of a product's texts one after the other; about a microsecond where the word is not in it.
        """
        text = text.lower()
        # Most products lack the word, and a plain search for its stem is many times quicker than a pattern.
        if not all(_stem_of(word) in text for word in self.words):
            return False
        has, has_not = _patterns(self.words)
        return has.search(text) is not None and has_not.search(text) is None


def has_excluded(text: str, excluded: tuple[Excluded, ...]) -> bool:
    """Whether a product of this text has any of what is excluded."""
    return any(phrase.found_in(text) for phrase in excluded)


def find_excluded(query: str) -> tuple[Excluded, ...]:
    """What ``query`` excludes, in its order. Never raises.

    A phrase is what follows the negation, up to three words, to the next stop word, punctuation or negation; of "no",
    at the beginning of a query, one word. "or" and "and" go on with another phrase. A phrase that the query also asks
    for ("silverware box without silverware") excludes nothing, for the right products have it in their names.
    """
    if not _HINT.search(query):
        return ()
    words = tokens(query)
    found: list[Excluded] = []
    for match in islice(_TRIGGER.finditer(query), _MAX_NEGATIONS):
        phrases = _phrases(query, words, match)
        found += [
            _excluded(query, match.start() if i == 0 else p[0].start, p[-1].end, p) for i, p in enumerate(phrases)
        ]
    for match in islice(_FREE.finditer(query), _MAX_NEGATIONS):
        what = [token for token in words if token.start == match.start("what")]
        if what and what[0].text not in _FREE_SAYINGS | _BOUNDARIES:
            found.append(_excluded(query, match.start(), match.end(), what))
    return tuple(sorted((e for e in found if not _wanted(e, words, found)), key=lambda e: e.start))


def _phrases(query: str, words: list[Token], match: re.Match[str]) -> list[list[Token]]:
    """The phrases that one negation excludes, as tokens."""
    after = [token for token in words if token.start >= match.end()]
    before = [token for token in words if token.end <= match.start()]
    if not after or (not match["with"] and not _negates(after[0], before)):
        return []
    phrases: list[list[Token]] = [[]]
    end = match.end()
    for place, token in enumerate(after):
        gap = query[end : token.start]
        skip = token.text in ("a", "an", "any", "the", "for") and not phrases[-1]
        if re.search(r"[^\s\-'’(]", gap) or _TRIGGER.match(query, token.start):
            break
        end = token.end
        if skip:
            continue
        if token.text in ("or", "and", "nor") and phrases[-1] and place + 1 < len(after):
            phrases.append([])
            continue
        follows = [after[place + 1].text] if place + 1 < len(after) else []
        if phrases[-1] and (_repeats(token, phrases[-1], follows) or _is_letter(token, follows)):
            phrases[-1].append(token)
            continue
        if token.text in _BOUNDARIES or token.text.isdigit() or len(phrases[-1]) == _MAX_PHRASE:
            break
        phrases[-1].append(token)
        if match["no"] and not before:
            break
    found = [phrase for phrase in phrases if phrase]
    if match["not"] and not before and len(found) == 1 and len(found[0]) > 1 and found[0][-1] is after[-1]:
        return [found[0][:-1]]  # "not a foldable phone" is a phone
    return found


def _repeats(token: Token, phrase: list[Token], follows: list[str]) -> bool:
    """Whether this is the "by" of "side by side"."""
    return token.text == "by" and follows == [phrase[-1].text]


def _is_letter(token: Token, follows: list[str]) -> bool:
    """Whether "a" is a letter of a name and no article: "Galaxy A", "Galaxy A series"."""
    return token.text == "a" and follows in ([], ["series"])


def _negates(after: Token, before: list[Token]) -> bool:
    """Whether "no" or "not" here excludes what follows: not in "no 8", "no more than", "do not disturb"."""
    if after.text[-1].isdigit() or after.text in _NO_PHRASE:
        return False
    return not before or before[-1].text not in _SPEAKING


def _wanted(excluded: Excluded, words: list[Token], found: list[Excluded]) -> bool:
    """Whether the query asks, outside all negations, for every word that is excluded."""
    asked = {_stem(t.text) for t in words if not any(e.start <= t.start < e.end for e in found)}
    return all(_stem(word) in asked for word in excluded.words)


def _excluded(query: str, start: int, end: int, phrase: list[Token]) -> Excluded:
    return Excluded(tuple(token.text for token in phrase), start, end, query[start:end])


@lru_cache(maxsize=1000)
def _patterns(words: tuple[str, ...]) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What a text that has the phrase matches, and what one that says it has not does."""
    forms = [_forms(word) for word in words]
    together = r"[\s-]+(?:\w+[\s-]+)?".join(forms)
    head = forms[-1]
    has_not = (
        rf"\b(?:without|w/o|no|not|non|zero|0|excluding|excludes|never|free (?:of|from))"
        rf"[\s-]+(?:[\w']+[\s-]+){{0,2}}?{head}"
        rf"|{head}[\s-]*(?:free|less)\b|{head}\s*\(?\s*(?:is |are )?(?:not included|sold separately|removed)"
    )
    return re.compile(together), re.compile(has_not)


def _forms(word: str) -> str:
    """A pattern for a word and its inflections, by its stem."""
    stem = _stem_of(word)
    return rf"\b{re.escape(stem)}{'[iy]' if stem != _stem(word) else ''}{_ENDINGS}\b"


@lru_cache(maxsize=1000)
def _stem_of(word: str) -> str:
    """What all inflections of ``word`` begin with: its stem, without the i that stands for a y."""
    stem: str = _stem(word)
    return stem[:-1] if len(stem) > 3 and stem.endswith("i") else stem
