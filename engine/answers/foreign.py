"""Questions in other languages, read in English word by word for a catalog in English.

What the lexicon lacks stays as it is, and no attribute is called so: such a question is answered with silence.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

from engine.languages.lexicon import SHIPPED, Lexicon, read_rows
from engine.languages.translate import Translated, Translator

_FILE = Path(__file__).with_name("questions.tsv")
_ASKS = re.compile(r"[?？]|(?:です|ます|でしょう|ません)か[。\s]*$")


class QuestionTranslator:
    """Reads questions to one catalog in English. Thread-safe. ``known`` tells of a word whether the catalog has it."""

    def __init__(self, translations: str, known: Callable[[str], bool]) -> None:
        """``translations`` is a file of a shop's own, or empty. Raises ConfigError where it cannot be read."""
        self._translator = Translator(_lexicon(translations), known)

    def read(self, question: str) -> Translated | None:
        """The question in English, None where it is in English or nothing of it is known. It keeps its mark."""
        found = self._translator.read(question)
        if found is None or found.language == "en":
            return None
        text = " ".join(part for part in found.text.split() if part.strip("¿¡?？。、"))
        return Translated(f"{text}?" if _ASKS.search(question) else text, found.language, found.translations)


@cache
def _lexicon(translations: str) -> Lexicon:
    own = (Path(translations),) if translations else ()
    return Lexicon(row for path in (*SHIPPED, _FILE, *own) for row in read_rows(path))
