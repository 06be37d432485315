"""Words for product types in other languages, from a taxonomy that several languages share.

``python -m training.data.lexicon TAXONOMIES OUT`` reads ``en-US.txt``, ``es-ES.txt`` and ``ja-JP.txt`` of the Google
product taxonomy (lines ``ID - ROOT > … > NAME``), whose nodes have the same ids in every language, and writes OUT, the
file ``engine/languages/types.tsv``. Kept is the last name of a node where it is one term on both sides: no "and", comma
or brackets, at most ``_MOST_WORDS`` words, or characters of Japanese. A term with two meanings keeps the one nearest to
the root, where names are the plain ones.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from engine.analysis.analyzer import fold

_ENGLISH = "en-US"
_OTHERS = {"es": "es-ES", "ja": "ja-JP"}
_SEVERAL = re.compile(r"[&,/()・、（）+]| [yeo] | and | or ")
_MOST_WORDS = {"en": 2, "es": 3}
_MOST_CHARACTERS = {"ja": 7}
#: Departments with names that mean too much elsewhere: foods, art, and what is for sale to grown-ups only.
_LEFT_OUT = ("Food, Beverages & Tobacco", "Media", "Mature", "Religious & Ceremonial", "Animals & Pet Supplies")
#: Names of nodes that gather what belongs to a thing: a query names the thing.
_GATHERED = ("accessories", "parts", "supplies", "components", "kits", "care", "storage", "services")
_HEADER = """\
# Names of product types in Spanish and Japanese, and in English. Single terms by the rule in training/data/lexicon.py,
# from the Google product taxonomy (2015-02-19; public), whose nodes have the same ids in en-US, es-ES and ja-JP.
# Made by `python -m training.data.lexicon`; words of one's own go into words.tsv. Columns: language, term, English.
"""


def paths(file: Path) -> dict[str, list[str]]:
    """Each node's names from the root on, by its id. Raises OSError, and ValueError on a line of another form."""
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return {number: path.split(" > ") for number, path in (line.split(" - ", 1) for line in lines)}


def singular(name: str) -> str:
    """A name of lower-case English words with its last one in the singular, where that is regular."""
    for plural, one in (("ies", "y"), ("sses", "ss"), ("shes", "sh"), ("ches", "ch"), ("xes", "x")):
        if name.endswith(plural) and len(name) > len(plural) + 2:
            return name.removesuffix(plural) + one
    return name[:-1] if name.endswith("s") and not name.endswith(("ss", "us", "is")) else name


def is_one_term(language: str, name: str) -> bool:
    """Whether a name is one term, and a short one."""
    if _SEVERAL.search(name):
        return False
    if language in _MOST_CHARACTERS:
        return 2 <= len(name) <= _MOST_CHARACTERS[language]
    return len(name.split()) <= _MOST_WORDS[language]


def terms(taxonomies: Path) -> Iterator[tuple[str, str, str]]:
    """(language, term, English) by the rule, those of a language in its order."""
    english = paths(taxonomies / f"{_ENGLISH}.txt")
    for language, locale in _OTHERS.items():
        found: dict[str, tuple[int, str]] = {}
        for number, path in paths(taxonomies / f"{locale}.txt").items():
            names = english.get(number)
            if names is None or names[0] in _LEFT_OUT or not is_one_term("en", names[-1]):
                continue
            term, meaning = fold(path[-1]).lower(), singular(fold(names[-1]).lower())
            if names[-1].lower().endswith(_GATHERED):
                continue
            if is_one_term(language, path[-1]) and singular(term) != meaning:
                found[term] = min(found.get(term, (99, "")), (len(names), meaning))
        yield from ((language, term, meaning) for term, (_, meaning) in sorted(found.items()))


def main(taxonomies: str, out: str) -> None:
    """Writes the file."""
    lines = ["\t".join(row) for row in terms(Path(taxonomies))]
    Path(out).write_text(_HEADER + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
