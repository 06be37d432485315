"""The bilingual lexicon: terms of other languages and what they are in English, from tab-separated files.

A line is ``language<TAB>term<TAB>English``; ``#`` begins a comment. English may be empty, which says that the term says
nothing; ``<`` before it says that it stands before what the term follows. Later files win over earlier ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import Stemmer

from engine.analysis.analyzer import STOP_WORDS, fold
from engine.errors import ConfigError
from engine.understanding.words import GRAMMAR, tokens

#: Names of product types, made by ``training.data.lexicon``, and words written for the project.
SHIPPED = tuple(Path(__file__).parent / name for name in ("types.tsv", "words.tsv", "regions.tsv"))
#: Languages that are read, and countries whose English has words of its own, with the stemmer of each; without one,
#: terms match as written.
STEMMERS = {"es": "spanish", "ja": "", "en-gb": "english", "en-us": "english", "en-in": "english"}
_BEFORE = "<"


@dataclass(frozen=True, slots=True)
class Entry:
    """``english`` stands, where ``before`` is set, before what the term follows: a postposition's."""

    english: str
    before: bool = False


class Lexicon:
    """Entries of each language by their key: the stems of a term's words, or the term as written. Thread-safe."""

    def __init__(self, rows: Iterable[tuple[str, str, str]]) -> None:
        stemmers = {language: Stemmer.Stemmer(name) for language, name in STEMMERS.items() if name}
        self._stem = {language: lru_cache(maxsize=20_000)(stemmer.stemWord) for language, stemmer in stemmers.items()}
        self.phrases: dict[str, dict[tuple[str, ...], Entry]] = {language: {} for language in self._stem}
        self.written: dict[str, dict[str, Entry]] = {lang: {} for lang in STEMMERS if lang not in self._stem}
        #: Spanish words in all their forms, without accents, each with its entry: what tells Spanish from English.
        #: Stems would not, for "cases" has that of "casa".
        self.spanish: dict[str, Entry] = {}
        english: set[str] = set()
        parts: set[str] = set()  # of phrases
        for language, term, meaning in rows:
            entry = Entry(meaning.removeprefix(_BEFORE), meaning.startswith(_BEFORE))
            english.update(token.text for token in tokens(entry.english))
            if language.startswith("en"):
                english.update(token.text for token in tokens(term))
            if language in self.written:
                self.written[language][fold(term).lower()] = entry
            else:
                words = [token.text for token in tokens(term)]
                self.phrases[language][self.stems(language, words)] = entry
                if language == "es" and len(words) == 1:
                    self.spanish.update(dict.fromkeys(_forms(words[0]), entry))
                elif language == "es":
                    parts.update(words)
        self.spanish = {word: Entry("") for word in parts} | self.spanish
        #: every word of English that some entry uses
        self.english = frozenset(english) | STOP_WORDS | GRAMMAR
        self.longest = {language: max(map(len, keys), default=0) for language, keys in self.phrases.items()}
        self.longest |= {language: max(map(len, keys), default=0) for language, keys in self.written.items()}

    def stems(self, language: str, words: Sequence[str]) -> tuple[str, ...]:
        """Words of a language with stems, lower case without accents, by their stems."""
        stem = self._stem[language]
        return tuple(stem(word) for word in words)


def _forms(word: str) -> set[str]:
    """A Spanish noun or adjective in both genders and numbers, where those are regular."""
    one = word[:-1] if word.endswith("s") and word[-2:-1] in tuple("aeo") else word
    both = {one[:-1] + ending for ending in "oa"} if one.endswith("o") else {one}
    return {word, *both, *(form + ("s" if form[-1] in "aeiou" else "es") for form in both)}


@cache
def lexicon(path: str = "") -> Lexicon:
    """What is shipped, and the entries of a file of one's own. Raises ConfigError."""
    files = (*SHIPPED, Path(path)) if path else SHIPPED
    return Lexicon(row for file in files for row in read_rows(file))


def read_rows(path: Path) -> list[tuple[str, str, str]]:
    """A file's rows, in its order. Raises ConfigError naming the file, the line and what is wrong with it."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the translations {path}: {error}; give a text file in UTF-8") from error
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = line.split("\t")
        if len(cells) != 3 or not tokens(cells[1]):
            raise ConfigError(
                f"{path}, line {number}: {line!r} is not language, term and English with tabs between; write es, a "
                "tab, lavadora, a tab, washing machine"
            )
        cells[0] = cells[0].lower()
        if cells[0] not in STEMMERS:
            raise ConfigError(
                f"{path}, line {number}: language is {cells[0]!r}; it must be one of {', '.join(STEMMERS)}"
            )
        rows.append((cells[0], cells[1], cells[2].strip()))
    return rows
