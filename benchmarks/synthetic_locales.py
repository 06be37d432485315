"""Made queries in five English and Spanish locales, where a word may ask for one type here and for another there.

Nothing in it is a shopper's: words are of this file and of a taxonomy's own names, sizes and skews are chosen. Types
are Google's ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.data import DataError
from qpt.examples import LabelledQuery
from qpt.taxonomy import Taxonomy
from qpt.title_types import name_parts

# Locale to number of training queries: one large market, and four that a shop has just entered.
SIZES = {"en-US": 1_000, "en-GB": 250, "es-ES": 200, "en-IN": 80, "en-AU": 40}
N_TEST = 250  # of each locale

_ENGLISH = ("en-US", "en-GB", "en-IN", "en-AU")
# What a word asks for, in the order of _ENGLISH; empty where nobody there says it.
_WORDS: Mapping[str, tuple[str, str, str, str]] = {
    "pants": ("204", "2562", "204", "204"),
    "trousers": ("204", "204", "204", "204"),
    "torch": ("5927", "338", "338", "338"),
    "jumper": ("2271", "212", "212", "212"),
    "biscuits": ("424", "2229", "2229", "2229"),
    "football": ("1094", "1112", "1112", "1094"),
    "vest": ("1831", "2745", "2745", "1831"),
    "suspenders": ("179", "2160", "179", "2160"),
    "braces": ("523", "179", "523", "523"),
    "cot": ("3089", "6394", "3089", "6394"),
    "rubber": ("944", "938", "938", "938"),
    "jelly": ("2188", "5743", "5743", "5743"),
    "purse": ("3032", "2668", "2668", "2668"),
    "mobile": ("1242", "267", "267", "267"),
    "comforter": ("505287", "566", "505287", "505287"),
    "chips": ("2392", "6586", "2392", "6586"),
    "dummy": ("3803", "566", "3803", "566"),
    "thongs": ("2562", "2562", "187", "187"),
    "cooler": ("1017", "1017", "6727", "1017"),
    "cooker": ("660", "685", "660", "685"),
    "pan": ("662", "662", "662", "662"),
    "flashlight": ("338", "", "", ""),
    "sweater": ("212", "", "212", ""),
    "pacifier": ("566", "", "", ""),
    "hoover": ("", "619", "", ""),
    "sweets": ("", "4748", "4748", ""),
    "candy": ("4748", "", "", ""),
    "geyser": ("", "", "621", ""),
    "almirah": ("", "", "4063", ""),
    "curd": ("", "", "1954", ""),
    "doona": ("", "", "", "505287"),
    "esky": ("", "", "", "1017"),
}
_SPANISH = {"pan": "424", "linterna": "338", "jersey": "212", "galletas": "2229", "balón": "1112", "móvil": "267"}
#: Types that words ask for.
WORD_TYPES = tuple(dict.fromkeys([*(t for of_word in _WORDS.values() for t in of_word if t), *_SPANISH.values()]))
_BEFORE = {"en": ("red", "black", "cheap", "best", "small", "large", "new", "kids", "mens", "womens", "soft"), "es": ()}
_AFTER = {
    "en": ("for men", "for women", "for kids", "on sale", "online", "set", "2 pack", "under 20", "for travel"),
    "es": ("rojo", "negro", "barato", "pequeño", "grande", "nuevo", "para niños", "para mujer", "oferta", "online"),
}
_MORE_TYPES = 40
_LONGEST_NAME = 3  # words, of a type that is drawn
_FROM_WORDS = 0.4  # of queries are made of the words above, the others of types' names
_SKEW = 0.7  # the n-th type of a locale is asked for n^-0.7 times as often as the first
_PLAIN = 0.25  # of queries have no word beside


@dataclass(frozen=True, slots=True)
class Market:
    """One locale's queries; none is on both sides. ``shared`` tells, for those to test on, whether the words mean
    something else in another locale."""

    locale: str
    train: list[LabelledQuery]
    test: list[LabelledQuery]
    shared: list[bool]


def synthetic_markets(
    taxonomy: Taxonomy, seed: int, sizes: Mapping[str, int] = SIZES, n_test: int = N_TEST
) -> tuple[list[str], list[Market]]:  # fmt: skip
    """Ids of the types, and a market for each locale in ``sizes``; the same seed gives the same.

    ``taxonomy`` is Google's with names in en-US and es-ES. Raises DataError where it lacks a type that is used here.
    """
    rng = np.random.default_rng(seed)
    names = {type_id: taxonomy.name(type_id, "en-US") for type_id in taxonomy.leaves if type_id not in WORD_TYPES}
    short = [type_id for type_id, name in names.items() if len(name.split()) <= _LONGEST_NAME]
    drawn = rng.choice(len(short), min(_MORE_TYPES, len(short)), replace=False)
    types = [*WORD_TYPES, *(short[int(place)] for place in sorted(drawn))]
    if unknown := sorted(set(types) - taxonomy.nodes.keys()):
        raise DataError(f"the taxonomy lacks the type {unknown[0]}; give Google's, with its ids, in en-US and es-ES")
    return types, [_market(taxonomy, types, locale, n, n_test, rng) for locale, n in sizes.items()]


def _market(
    taxonomy: Taxonomy, types: Sequence[str], locale: str, n_train: int, n_test: int, rng: np.random.Generator
) -> Market:
    words = _words_of(locale)
    names = [(part, t) for t in rng.permutation(types).tolist() for part in _said(taxonomy, t, locale)]
    likely = np.arange(1, len(names) + 1) ** -_SKEW
    made: dict[str, tuple[str, bool]] = {}
    while len(made) < n_train + n_test:
        if rng.random() < _FROM_WORDS:
            word, type_id = words[int(rng.integers(len(words)))]
        else:
            word, type_id = names[int(rng.choice(len(names), p=likely / likely.sum()))]
        made.setdefault(_query(word, locale, rng), (type_id, _means_more(word)))
    rows = [(LabelledQuery(query, type_id, 1.0, locale), shared) for query, (type_id, shared) in made.items()]
    rows = [rows[int(i)] for i in rng.permutation(len(rows))]
    train, test = rows[:n_train], rows[n_train:]
    return Market(locale, [row for row, _ in train], [row for row, _ in test], [shared for _, shared in test])


def _words_of(locale: str) -> list[tuple[str, str]]:
    if locale not in _ENGLISH:
        return list(_SPANISH.items())
    return [(word, t) for word, of_word in _WORDS.items() if (t := of_word[_ENGLISH.index(locale)])]


def _said(taxonomy: Taxonomy, type_id: str, locale: str) -> Iterator[str]:
    """The names in a type's name, but for those that are words above."""
    for part in name_parts(taxonomy.name(type_id, locale)):
        if part not in _WORDS and part not in _SPANISH:
            yield part


def _means_more(word: str) -> bool:
    return len({t for t in (*_WORDS.get(word, ()), _SPANISH.get(word, "")) if t}) > 1


def _query(word: str, locale: str, rng: np.random.Generator) -> str:
    before, after = _BEFORE[locale[:2]], _AFTER[locale[:2]]
    drawn = rng.random()
    if drawn < _PLAIN:
        return word
    if before and drawn < (1 + _PLAIN) / 2:
        return f"{before[int(rng.integers(len(before)))]} {word}"
    return f"{word} {after[int(rng.integers(len(after)))]}"
