"""Scripts that are written without spaces: where they stand in a text, and the terms that are searched of them."""

from __future__ import annotations

import re
from collections.abc import Iterator

_HAN = r"\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f"
_HIRAGANA = r"\u3041-\u3096\u309d\u309e"
_KATAKANA = r"\u30a1-\u30fa\u30fc-\u30fe"
#: A run of Han characters and kana.
UNSPACED = re.compile(f"[{_HAN}{_HIRAGANA}{_KATAKANA}]+")
#: What only Japanese has.
KANA = re.compile(f"[{_HIRAGANA}{_KATAKANA}]")
_PARTS = re.compile(f"(?P<katakana>[{_KATAKANA}]+)|[{_HAN}{_HIRAGANA}]+")


def unspaced_terms(run: str) -> Iterator[str]:
    """The terms of a run, which is of compatibility-normalised characters: every two neighbours of one kind of script,
    and words of katakana whole as well. No dictionary is needed, and none can lack a product's name.
    """
    for part in _PARTS.finditer(run):
        text = part.group()
        if len(text) <= 2 or part["katakana"]:
            yield text
        if len(text) > 2:
            yield from (text[at : at + 2] for at in range(len(text) - 1))
