"""Which language a query or a catalog is in: by script, then by words that only one language has."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from engine.analysis.analyzer import STOP_WORDS
from engine.languages.lexicon import Lexicon, lexicon
from engine.languages.scripts import KANA, UNSPACED
from engine.product import Product
from engine.understanding.everyday import COMMON
from engine.understanding.words import GRAMMAR, tokens

#: Languages by the part of a locale before the hyphen, and the analyzer's name for each.
ANALYZED = {"en": "english", "es": "spanish", "ja": "japanese"}
_ONLY_SPANISH = frozenset("ñ¿¡")
LANGUAGE_PRODUCTS = 500  # the first ones, which tell a catalog's language
_SHARE = 0.5  # of them, or of the words that tell, that must agree


def language_of(locale: str) -> str:
    """``es`` of ``es-MX`` or ``es_MX``; empty where it is none that is known."""
    language = locale.replace("_", "-").split("-")[0].lower()
    return language if language in ANALYZED else ""


def detect(text: str, words: Lexicon, known: Callable[[str], bool]) -> str:
    """``ja``, ``es`` or ``en``. ``known`` tells of a word, lower case without accents, whether the catalog has it.

    Spanish must be said by more words than English has stop words there: words that only Spanish has count two if the
    catalog lacks them or they have their accent, and those of phrases and between words one.
    """
    if not text.isascii() and UNSPACED.search(text):
        return "ja"
    spanish = 2 * any(c in _ONLY_SPANISH for c in text.lower())
    english = 0
    for token in tokens(text):
        word = token.text
        entry = words.spanish.get(word)
        accented = not text[token.start : token.end].isascii()
        english += word in STOP_WORDS
        if not accented and (not words.english.isdisjoint((word, word.removesuffix("s"))) or word in COMMON):
            continue
        if entry is not None and (accented or not known(word)):
            spanish += 1 if entry.english in GRAMMAR or not entry.english else 2
    return "es" if spanish >= 2 and spanish > english else "en"


def catalog_language(read: Sequence[Product]) -> str:
    """The analyzer's name for the language of a catalog: by its products' locales, else by their titles."""
    locales = [language_of(product.locale) for product in read if product.locale]
    if locales:
        most = max(set(locales), key=locales.count)
        return ANALYZED.get(most, ANALYZED["en"])
    titles = [f"{product.title} {product.description[:300]}" for product in read]
    if sum(KANA.search(title) is not None for title in titles) > _SHARE * len(titles):
        return ANALYZED["ja"]
    words = [token.text for title in titles for token in tokens(title)]
    between = {key[0] for key, entry in lexicon().phrases["es"].items() if len(key) == 1 and not entry.english}
    spanish = sum(word in between and word not in STOP_WORDS for word in words)
    return ANALYZED["es"] if spanish > sum(word in STOP_WORDS for word in words) / _SHARE else ANALYZED["en"]
