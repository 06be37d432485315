"""The catalog's own words, and what a query's words become with them.

A query term the catalog holds is searched as it is. What the vocabulary adds, each marked with where it came from:

- two neighbouring words the catalog writes as one (``dish washer`` → ``dishwasher``);
- one unknown word the catalog writes as two (``doubledoor`` → ``double door``);
- known codes that an unknown code begins (``rt28c3053`` → ``rt28c3053s8``);
- the singular of a plural too short for a stemmer, or its plural (``tvs`` → ``tv``);
- the nearest known words of an unknown word (``samzung`` → ``samsung``), weighted down by their distance.

Nothing is ever taken away: the shopper's own words are always searched.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from rapidfuzz import process
from rapidfuzz.distance import OSA

from engine.analysis.analyzer import STOP_WORDS, Analyzer, Term, singular

_MIN_PART = 3  # letters; shorter halves of a compound are chance hits
_SPELL_WEIGHTS = {1: 0.8, 2: 0.6}
_SPELL_MAX = 3  # nearest words tried for one unknown word
_RESPELT_MAX = 8  # unknown words of one query; each costs a pass over the vocabulary
_SPELLED_KINDS = frozenset({"word", "part", "joined"})  # a number or a code is never "corrected"
_PREFIX_WEIGHT = 0.8
_PREFIX_LENGTH = 4  # characters of a code that are enough to complete it
_PREFIX_MAX = 8
_MAX_QUERY_TERMS = 64


class _Add(Protocol):
    def __call__(self, text: str, weight: float, source: str, origin: str, is_code: bool = False) -> None: ...


@dataclass(frozen=True, slots=True)
class QueryTerm:
    """A term to search. ``source`` is typed, joined, split, prefix, plural or spelling; ``origin`` is what
    was typed.

    ``is_code`` marks terms that can only be a model code.
    """

    text: str
    weight: float
    source: str
    origin: str
    is_code: bool = False


class Vocabulary:
    """Document frequency per term over all fields: ``frequencies[term]`` products hold it somewhere."""

    def __init__(self, frequencies: Mapping[str, int]) -> None:
        self.frequencies = dict(frequencies)
        self._buckets: dict[str, list[str]] = {}
        for term in self.frequencies:
            if len(term) >= _MIN_PART and term.isalpha():
                self._buckets.setdefault(term[0], []).append(term)
        self._codes = sorted(term for term in self.frequencies if any(c.isdigit() for c in term))
        self.nearest = lru_cache(maxsize=10_000)(self._nearest)

    def __contains__(self, term: str) -> bool:
        return term in self.frequencies

    def __len__(self) -> int:
        return len(self.frequencies)

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Reads what ``save`` wrote. Raises ValueError on a line of another form."""
        lines = path.read_text(encoding="utf-8").splitlines()
        return cls({term: int(count) for term, count in (line.split("\t") for line in lines)})

    def save(self, path: Path) -> None:
        """One line per term: the term, a tab, its document frequency."""
        path.write_text("".join(f"{t}\t{n}\n" for t, n in self.frequencies.items()), encoding="utf-8")

    def _nearest(self, word: str) -> tuple[tuple[str, int], ...]:
        """Known words within 1 edit (from 4 letters) or 2 edits (from 6), nearest and most frequent first.

        Edits are those of optimal string alignment (Damerau 1964): insert, delete, replace, swap neighbours. The first
        letter is taken as right unless no word that shares it is near.
        """
        reach = 2 if len(word) >= 6 else 1 if len(word) >= 4 else 0
        if not reach or not word.isalpha():
            return ()
        for words in (self._buckets.get(word[0], ()), self._other_words(word[0])):
            found = process.extract(word, words, scorer=OSA.distance, score_cutoff=reach, limit=50)  # type: ignore[arg-type]
            if found:
                best = min(distance for _, distance, _ in found)
                ranked = sorted((int(d), -self.frequencies[w], w) for w, d, _ in found if d == best)
                return tuple((w, d) for d, _, w in ranked[:_SPELL_MAX])
        return ()

    def _other_words(self, letter: str) -> Iterable[str]:
        return (w for first, words in self._buckets.items() if first != letter for w in words)

    def completions(self, code: str) -> list[str]:
        """Known codes that begin with ``code``, the most frequent first, at most 8."""
        start = bisect_left(self._codes, code)
        found = []
        for known in self._codes[start : start + 1000]:
            if not known.startswith(code):
                break
            found.append(known)
        return sorted(found, key=lambda known: (-self.frequencies[known], known))[:_PREFIX_MAX]

    def _halves(self, analyzer: Analyzer, word: str) -> tuple[str, str] | None:
        """The split of an unknown word into two known ones whose rarer half is most frequent."""
        best: tuple[int, tuple[str, str]] | None = None
        for cut in range(_MIN_PART, len(word) - _MIN_PART + 1):
            left, right = (analyzer.terms(half)[:1] for half in (word[:cut], word[cut:]))
            if not left or not right or left[0] not in self or right[0] not in self:
                continue
            strength = min(self.frequencies[left[0]], self.frequencies[right[0]])
            if best is None or strength > best[0]:
                best = (strength, (left[0], right[0]))
        return best[1] if best else None

    def expand(self, analyzer: Analyzer, query: str) -> list[QueryTerm]:
        """The terms to search for ``query``, each once, in the query's order.

        Stop words are left out unless the query has nothing else. At most 64 typed terms are used, and the first 8
        unknown ones expanded.
        """
        typed = list(dict.fromkeys(analyzer.analyze(query)))
        content = [t for t in typed if t.text not in STOP_WORDS] or typed
        out: dict[str, QueryTerm] = {}

        def add(text: str, weight: float, source: str, origin: str, is_code: bool = False) -> None:
            if text not in out:
                out[text] = QueryTerm(text, weight, source, origin, is_code)

        content = content[:_MAX_QUERY_TERMS]
        unknown = [term for term in content if term.text not in self][:_RESPELT_MAX]
        for term in content:
            add(term.text, 1.0, "typed", term.text, term.is_code)
            if term in unknown:
                self._expand_unknown(analyzer, term, add)
        words = analyzer.words(query)[:_MAX_QUERY_TERMS]
        for left, right in pairwise(words):
            if left in STOP_WORDS or right in STOP_WORDS or min(len(left), len(right)) < _MIN_PART - 1:
                continue
            joined = analyzer.terms(left + right)[:1]
            if joined and joined[0] in self:
                add(joined[0], 1.0, "joined", f"{left} {right}")
        return list(out.values())

    def _expand_unknown(self, analyzer: Analyzer, term: Term, add: _Add) -> None:
        if term.kind not in _SPELLED_KINDS:
            if len(term.text) >= _PREFIX_LENGTH and term.kind != "measure":
                for code in self.completions(term.text):
                    add(code, _PREFIX_WEIGHT, "prefix", term.text, term.is_code)
            return
        number = singular(term.text) or (f"{term.text}s" if singular(f"{term.text}s") else "")
        if number in self:
            add(number, 1.0, "plural", term.text)
            return
        halves = self._halves(analyzer, term.text)
        if halves:
            for half in halves:
                add(half, 1.0, "split", term.text)
            return
        for word, distance in self.nearest(term.text):
            add(word, _SPELL_WEIGHTS[distance], "spelling", term.text)
