"""Text to index terms, made for product titles, model codes and measures.

One scan splits text into atoms: maximal runs of letters or of digits, each with its place. What the terms are then
depends on how atoms touch:

- a number and a unit, touching or a space or hyphen apart, are one measure (``55in``) beside the bare number; so is
  ``3 in 1``, without one;
- letters and digits that touch are a code part (``d206l``), and parts joined by ``-``, ``/``, ``.`` or ``_`` are also
  one code (``mltd206l``);
- a short word or code beside a number or code is also the two joined (``s 23`` → ``s23``): spaces do not matter;
- ``SmartRemote`` is the word, and its two halves;
- of scripts without spaces (Han, kana) every two neighbours are a term, and words of katakana are one as well;
- every other run of letters is a word, stemmed.

The same function serves products and queries: whatever it does to one, it does to the other.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import Stemmer

from engine.analysis.units import UNITS, canonical_number
from engine.errors import ConfigError
from engine.languages.scripts import UNSPACED, unspaced_terms

# fmt: off
STOP_WORDS = frozenset({
    "a", "an", "and", "are", "as", "at", "be", "by", "for", "from", "has", "have", "i", "in", "is", "it", "its",
    "my", "of", "on", "or", "our", "that", "the", "their", "these", "this", "to", "was", "we", "were", "which",
    "will", "with", "you", "your",
})
# fmt: on

# Lower-case words that stand before or after a number, or a code ("4k tv"), without belonging to it.
_NEVER_JOINED = (STOP_WORDS - {"a", "i"}) | {
    "x",
    "4k",
    "8k",
    "tv",
    "pc",
    "ac",
    "hd",
    "no",
    "up",
    "per",
    "pro",
    "plus",
    "max",
    "mini",
    "new",
    "set",
    "all",
    "non",
}
_ATOM = re.compile(r"[^\W\d_]+|\d+(?:[.,/]\d+)*")
_CAMEL = re.compile(r"[A-Z]?[a-z]{2,}(?=[A-Z][a-z]{2})|[A-Z][a-z]{2,}")
_QUOTES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u2032": "'", "\u201c": '"', "\u201d": '"', "\u2033": '"'})
_VOWELS = frozenset("aeiouy")
_CODE_LENGTH = 4  # "s23" and "4x8" say what a thing is like; longer codes say which one it is
_LINKS = "-/._"
_VOICED = "\u3099\u309a"  # marks that make other letters of kana, as in ハ and バ; they are no accents
#: Languages that no stemmer is for, and the one whose stems the Latin words in their texts get.
_UNSTEMMED = {"japanese": "english"}
#: What a catalog's language can be.
LANGUAGES = (*Stemmer.algorithms(), *_UNSTEMMED)
_MAX_TERM = 64  # characters; a longer "word" is noise or an attack and is cut


@dataclass(frozen=True, slots=True)
class Term:
    """One index term. ``kind`` is word, number, measure, code, part or joined."""

    text: str
    kind: str

    @property
    def is_code(self) -> bool:
        """Whether it can only be a model code: letters and digits together, and no measure."""
        return (
            self.kind in ("code", "part", "joined")
            and len(self.text) >= _CODE_LENGTH
            and any(c.isdigit() for c in self.text)
            and any(c.isalpha() for c in self.text)
        )


class _Atom(NamedTuple):
    raw: str
    start: int
    end: int
    number: bool


def fold(text: str) -> str:
    """Compatibility-normalised text without accents, case kept; half-width kana become full."""
    text = text.translate(_QUOTES)
    if text.isascii():
        return text
    decomposed = unicodedata.normalize("NFKD", text)
    plain = "".join(c for c in decomposed if not unicodedata.combining(c) or c in _VOICED)
    return unicodedata.normalize("NFC", plain).translate(_QUOTES)


def singular(word: str) -> str:
    """``word``, lower case, without the s of a plural that no stemmer takes off: of two letters, or of letters without
    a vowel (``tvs``, ``ssds``). Empty for any other word.
    """
    short = word[:-1]
    plural = word.endswith("s") and word.isalpha() and 2 <= len(short) <= 4 and short[-1] not in "aeiousy"
    return short if plural and (len(short) == 2 or not _VOWELS.intersection(short)) else ""


class Analyzer:
    """Turns text into terms. Stateless apart from a stem cache; safe to share between threads.

    ``language`` is one of ``LANGUAGES``, which names a Snowball algorithm (Porter 2 for ``english``), or English's for
    the Latin words of a language without stems.
    """

    def __init__(self, language: str = "english") -> None:
        if language not in LANGUAGES:
            raise ConfigError(f"language is {language!r}; it must be one of {', '.join(LANGUAGES)}")
        self.language = language
        # A Snowball stemmer keeps state while it runs; the GIL makes each call whole, the cache makes them rare.
        stemmer = Stemmer.Stemmer(_UNSTEMMED.get(language, language))
        self._stem = lru_cache(maxsize=200_000)(stemmer.stemWord)
        self._known_word = lru_cache(maxsize=50_000)(self._word_terms)

    def terms(self, text: str) -> list[str]:
        """Terms of ``text`` in order, repeats kept."""
        return [term.text for term in self.analyze(text)]

    def words(self, text: str) -> list[str]:
        """The plain words of ``text``, lower case, unstemmed, in order."""
        return [m.group().lower() for m in _ATOM.finditer(fold(text)) if not m.group()[0].isdigit()]

    def analyze(self, text: str) -> list[Term]:
        """Terms with their kinds, in order, repeats kept."""
        text = fold(text)
        if text.isascii():
            return self._spaced(text)
        out: list[Term] = []
        end = 0
        for run in UNSPACED.finditer(text):
            out += self._spaced(text[end : run.start()])
            out += [Term(term[:_MAX_TERM], "word") for term in unspaced_terms(run.group())]
            end = run.end()
        return out + self._spaced(text[end:])

    def _spaced(self, text: str) -> list[Term]:
        atoms = [_Atom(m.group(), m.start(), m.end(), m.group()[0].isdigit()) for m in _ATOM.finditer(text)]
        out: list[Term] = []
        previous: list[_Atom] = []
        position = 0
        while position < len(atoms):
            if not atoms[position].number and not _linked(text, atoms, position):
                run = [atoms[position]]  # a word by itself, as most are
                self._single(run[0], out)
                if previous and any(atom.number for atom in previous):
                    self._join(previous, run, text, out)
                previous = run
                position += 1
                continue
            measure_end = self._measure(text, atoms, position, out)
            if measure_end:
                previous = []
                position = measure_end
                continue
            run_end = _run_end(text, atoms, position)
            run = atoms[position:run_end]
            self._run(text, run, out)
            self._join(previous, run, text, out)
            previous = run
            position = run_end
        return out

    def _measure(self, text: str, atoms: list[_Atom], at: int, out: list[Term]) -> int:
        """Emits a measure that starts at atom ``at``; returns the atom after it, or 0 if there is none."""
        atom = atoms[at]
        if not atom.number or (at and atoms[at - 1].end == atom.start):
            return 0
        number = canonical_number(atom.raw)
        if text[atom.end : atom.end + 1] in ('"', "'") and not text[atom.end + 1 : atom.end + 2].isalnum():
            out += [Term(number + UNITS[text[atom.end]], "measure"), Term(number, "number")]
            return at + 1
        if at + 1 >= len(atoms):
            return 0
        unit = atoms[at + 1]
        gap = text[atom.end : unit.start]
        name = UNITS.get(unit.raw.lower())
        after = atoms[at + 2] if at + 2 < len(atoms) else None
        if unit.raw.lower() == "in" and after and after.number and text[unit.end : after.start] == gap in (" ", "-"):
            out.append(Term(f"{number}in{canonical_number(after.raw)}"[:_MAX_TERM], "measure"))
            return at + 3  # "3-in-1" is no length
        if name is None or gap not in ("", " ", "-") or (after and after.start == unit.end):
            return 0
        if gap == " " and unit.raw.lower() == "a":
            return 0
        out += [Term(number + name, "measure"), Term(number, "number")]
        return at + 2

    def _run(self, text: str, run: list[_Atom], out: list[Term]) -> None:
        """Emits the terms of atoms that touch or are linked by a single separator."""
        parts = _parts(text, run)
        for part in parts:
            if len(part) == 1:
                self._single(part[0], out)
                continue
            out.append(Term(_glue(part), "code"))
            lead = next((i for i, atom in enumerate(part) if i and not atom.number and len(atom.raw) >= 3), None)
            if lead and lead > 1:
                out.append(Term(_glue(part[:lead]), "part"))
            out += [Term(self._word(a.raw), "part") for a in part if not a.number and len(a.raw) >= 3]
            if any(a.raw.lower() == "x" for a in part[1:-1]):  # 4x8 is two numbers, as in "4 x 8"
                out += [Term(canonical_number(a.raw), "number") for a in part if a.number]
        if len(parts) > 1:
            whole = _glue(run)
            mixed = any(a.number for a in run) and any(not a.number for a in run)
            if mixed:
                out.append(Term(whole, "code"))
            elif not run[0].number and len(parts) == 2:
                out.append(Term(self._word(whole), "joined"))

    def _single(self, atom: _Atom, out: list[Term]) -> None:
        if atom.number:
            out.append(Term(canonical_number(atom.raw)[:_MAX_TERM], "number"))
            return
        if atom.raw == "s" and out:
            return  # a possessive's tail
        out += (self._known_word if len(atom.raw) <= _MAX_TERM else self._word_terms)(atom.raw)

    def _word_terms(self, raw: str) -> tuple[Term, ...]:
        """A word, and the halves of one in camel case."""
        halves = _CAMEL.findall(raw) if not raw.islower() else []
        parts = halves if len(halves) > 1 and sum(map(len, halves)) == len(raw) else []
        return Term(self._word(raw), "word"), *(Term(self._word(half), "part") for half in parts)

    def _join(self, left: list[_Atom], right: list[_Atom], text: str, out: list[Term]) -> None:
        """Emits the join of two neighbours a space apart, where the two may be one code."""
        if not left or text[left[-1].end : right[0].start] != " ":
            return
        a, b = _glue(left), _glue(right)
        if a in _NEVER_JOINED or b in _NEVER_JOINED or len(a) + len(b) > 24:
            return
        a_digit, b_digit = any(x.number for x in left), any(x.number for x in right)
        a_alpha, b_alpha = any(not x.number for x in left), any(not x.number for x in right)
        if not (a_digit or b_digit) or not (a_alpha or b_alpha):
            return
        short = (a_digit or len(a) <= 4) and (b_digit or len(b) <= 2)
        if short:
            out.append(Term(a + b, "joined"))

    def _word(self, raw: str) -> str:
        word = raw.lower()[:_MAX_TERM]
        return self._stem(word) if len(word) > 2 else word


def _run_end(text: str, atoms: list[_Atom], start: int) -> int:
    end = start + 1
    while _linked(text, atoms, end - 1):
        end += 1
    return end


def _linked(text: str, atoms: list[_Atom], at: int) -> bool:
    """Whether an atom and the one after it touch or are a single separator apart."""
    if at + 1 == len(atoms):
        return False
    gap = text[atoms[at].end : atoms[at + 1].start]
    return not gap or (len(gap) == 1 and gap in _LINKS)


def _parts(text: str, run: list[_Atom]) -> list[list[_Atom]]:
    """A run cut at its separators; atoms of one part touch."""
    parts = [[run[0]]]
    for before, atom in pairwise(run):
        if before.end == atom.start:
            parts[-1].append(atom)
        else:
            parts.append([atom])
    return parts


def _glue(atoms: list[_Atom]) -> str:
    return "".join(a.raw for a in atoms).lower()[:_MAX_TERM]
