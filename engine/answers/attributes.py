"""What a catalog's products can be asked for: the names of its attributes, and which one a question means.

A question's words are compared with a name's by stem, by meaning (``words.toml``), by what the name's unit measures,
and as a whole by the encoder's cosine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from engine.analysis.units import UNITS
from engine.answers.lexicon import WORDS
from engine.answers.measured import measures_alike
from engine.answers.values import ValueTexts
from engine.answers.wording import Word, stem
from engine.columns import Columns
from engine.product import Product
from engine.seams import Embeddings

ATTRIBUTE = "attributes."
_NAMING = frozenset({stem(word) for word in ("compatible", "compatibility", "series", "model")})
_FLAGS = frozenset({"true", "false", "yes", "no"})
Embed = Callable[[Sequence[str]], Embeddings]


@dataclass(frozen=True, eq=False)
class Attribute:
    """``stems`` and ``groups`` are of its name's words without the unit; ``units`` are the unit's and its measures'
    words. ``texts`` are those of all products, none of a flag; ``usable`` says whether one may count. ``shown`` is its
    name for people.
    """

    field: str
    shown: str
    phrase: str
    stems: tuple[str, ...]
    groups: tuple[frozenset[str], ...]
    unit: str
    units: frozenset[str]
    texts: Collection[str]
    usable: Callable[[str], bool]
    is_flag: bool
    is_number: bool

    @cached_property
    def values(self) -> ValueTexts:
        """Its texts, which are read when a word is asked for."""
        return ValueTexts(self.texts, self.usable)

    def has(self, word: Word) -> bool:
        """Whether a word is of one of its texts."""
        return bool(self.texts) and self.values.having(frozenset({word.stem}))


@dataclass(frozen=True, eq=False)
class Match:
    """How well the words of a question name an attribute.

    ``named`` is the share of its name that is said, ``n_said`` how many words of it; ``measured`` whether a word of its
    unit, or of what that measures, is, ``in_unit`` whether it is the unit itself. ``values`` are words that speak of
    its values, ``rest`` those that nothing of it covers. ``likeness`` gives the encoder's cosine of the question's
    words and the name.
    """

    attribute: Attribute
    named: float
    n_said: int
    measured: bool
    in_unit: bool
    values: tuple[Word, ...]
    rest: tuple[Word, ...]
    likeness: Callable[[], float]

    @cached_property
    def cosine(self) -> float:
        """From -1 to 1; 0 where there is no encoder. It is computed where it decides."""
        return self.likeness()

    @property
    def whole(self) -> bool:
        """Whether the words say the whole name and nothing else."""
        return self.named == 1 and not self.rest and not self.values

    @property
    def flagged(self) -> bool:
        """Whether it is a flag whose whole name is said."""
        return self.attribute.is_flag and self.named == 1

    @property
    def key(self) -> tuple[int, float, int, int, float]:
        """Orders matches, the greater the better."""
        return (-len(self.rest), self.named, self.n_said, int(self.measured), self.cosine)


class AttributeIndex:
    """The attributes of one index. Thread-safe. ``embed`` gives vectors of unit length; None where there are none.
    ``usable`` says whether a text may be one of an attribute's values.
    """

    def __init__(self, columns: Columns, embed: Embed | None, usable: Callable[[str], bool]) -> None:
        self.embed, self._usable = embed, usable
        names = [name for name in columns.fields if name.startswith(ATTRIBUTE)]
        self.attributes = {name: _attribute(columns, name, usable) for name in names}
        for name, asking in WORDS.core.items():
            if name in columns.fields:
                self.attributes[name] = _core(columns, name, asking, usable)
        self._named_by: dict[str, list[str]] = {}
        for name, attribute in self.attributes.items():
            also = [stem(word) for word in attribute.units] if name in WORDS.core else []
            groups = [f"group {group}" for of in attribute.groups for group in of]
            for key in {*attribute.stems, *also, *groups}:
                self._named_by.setdefault(key, []).append(name)
        self._cosine = lru_cache(maxsize=20_000)(self._cosine_of)
        self._name_vector = lru_cache(maxsize=8_000)(self._vector_of)

    def of(self, products: Sequence[Product]) -> list[Attribute]:
        """Those that one of the products has, and the fields of every product."""
        fields = dict.fromkeys(f"{ATTRIBUTE}{name}" for product in products for name in product.attributes)
        return [self.attributes[field] for field in (*fields, *WORDS.core) if field in self.attributes]

    def values_have(self, word: Word, product: Product) -> bool:
        """Whether a word is of a value of one of the product's attributes, be it another product's."""
        return any(one.has(word) for one in self.of([product]) if one.field.startswith(ATTRIBUTE))

    def names(self, word: Word) -> bool:
        """Whether a word is of some attribute's name, or of its meaning."""
        return bool(self._naming(word))

    def rivals(self, asked: Sequence[Word]) -> list[Attribute]:
        """All attributes whose name has one of the words, and that are called by all of them."""
        named = dict.fromkeys(name for word in asked for name in self._naming(word))
        found = (self.attributes[name] for name in named)
        return [one for one in found if all(_says(word, one) for word in asked if not _modifies(word, asked))]

    def has_value(self, word: str, most: int) -> bool:
        """Whether a word, or its stem, is of a text of at most so many words, of an attribute that is no number and
        says nothing of what goes with what.
        """
        texts = self._told
        return any(texts.having(frozenset({one}), most) for one in {word, stem(word)})

    @cached_property
    def _told(self) -> ValueTexts:
        told = (one for one in self.attributes.values() if not one.is_number and not _NAMING.intersection(one.stems))
        return ValueTexts(dict.fromkeys(text for one in told for text in one.texts), self._usable)

    def _naming(self, word: Word) -> list[str]:
        whole = WORDS.whole.get(word.text, ())[:1]
        keys = (word.stem, *map(stem, whole), *(f"group {group}" for group in WORDS.groups.get(word.text, ())))
        return [name for key in keys for name in self._named_by.get(key, ())]

    def match(self, asked: Sequence[Word], attribute: Attribute, carriers: Sequence[Word] = ()) -> Match:
        """How well the asked words name the attribute. ``carriers`` ("support") count where its name has them."""
        said = [False] * len(attribute.stems)
        measured = in_unit = False
        values: list[Word] = []
        rest: list[Word] = []
        for word in asked:
            if covered := _covers(word, attribute):
                for place in covered:
                    said[place] = True
            elif _measures(word, attribute):
                measured = True
                in_unit |= word.text == attribute.unit or UNITS.get(word.text, "") == UNITS.get(attribute.unit, "?")
            elif _modifies(word, asked):
                continue
            elif attribute.has(word) or word.number is not None:
                values.append(word)
            else:
                rest.append(word)
        if any(said):
            for place in (place for word in carriers for place in _covers(word, attribute)):
                said[place] = True
        named = sum(said) / len(said) if said else 0.0
        # How near the words are to the name does not depend on the value that they ask about.
        naming = [word.text for word in asked if word not in values] if any(said) else [word.text for word in asked]
        phrase = " ".join(naming)
        return Match(
            attribute,
            named,
            sum(said),
            measured,
            in_unit,
            tuple(values),
            tuple(rest),
            partial(self._cosine, phrase, attribute.field),
        )

    def _cosine_of(self, phrase: str, field: str) -> float:
        if self.embed is None:
            return 0.0
        return float(np.dot(self.embed([phrase])[0], self._name_vector(field)))

    def _vector_of(self, field: str) -> NDArray[np.float32]:
        assert self.embed is not None  # asked for only then
        return np.asarray(self.embed([self.attributes[field].phrase])[0])


def _covers(word: Word, attribute: Attribute) -> list[int]:
    """The places of the name's words that a word says."""
    if not attribute.field.startswith(ATTRIBUTE):
        return [0] if word.text in attribute.units or word.stem in attribute.stems else []
    groups = WORDS.groups.get(word.text, frozenset())
    whole = [stem(part) for part in WORDS.whole.get(word.text, ())]
    if whole and not set(whole) <= set(attribute.stems):
        whole = []
    return [
        place
        for place, (of, meanings) in enumerate(zip(attribute.stems, attribute.groups, strict=True))
        if of == word.stem or of in whole or groups & meanings
    ]


def _measures(word: Word, attribute: Attribute) -> bool:
    """Whether a word is of an attribute's unit, or of what that measures."""
    unit = attribute.unit
    return word.text in attribute.units or word.text == unit or measures_alike(UNITS.get(word.text, ""), unit)


def _modifies(word: Word, asked: Sequence[Word]) -> bool:
    return word.text in WORDS.question.modifier and len(asked) > 1


def _says(word: Word, attribute: Attribute) -> bool:
    """Whether a word is of an attribute's name, meaning or unit."""
    return bool(_covers(word, attribute)) or _measures(word, attribute)


def shown_value(attribute: Attribute, text: str) -> str:
    """A value as people write it: a number with its unit."""
    unit = WORDS.shown.get(attribute.unit, attribute.unit) if attribute.is_number else ""
    text = text.removesuffix(".0") if attribute.is_number else text
    return f"{text} {unit}" if unit and attribute.field != "rating" else text


def told_value(attribute: Attribute, texts: Sequence[str]) -> str:
    """A product's values as people write them, a flag as yes or no."""
    if attribute.is_flag:
        return {"true": "yes", "false": "no"}.get(texts[0], texts[0])
    return ", ".join(shown_value(attribute, " ".join(text.split())) for text in texts)


def name_words(field: str) -> list[str]:
    """The words of a field's name, lower case."""
    return [word for word in re.split(r"[^a-z0-9]+", field.removeprefix(ATTRIBUTE).lower()) if word]


def _attribute(columns: Columns, name: str, usable: Callable[[str], bool]) -> Attribute:
    words = name_words(name)
    # Units of whole words ("hours", "stars") are kept in the table of what they measure under that name.
    unit = words[-1] if len(words) > 1 and (words[-1] in WORDS.unit or words[-1] in UNITS) else ""
    own = words[:-1] if unit else words
    unit = unit if unit in WORDS.unit else UNITS.get(unit, unit)
    if not unit and words and words[-1] in WORDS.unit:
        unit = words[-1]
    texts, is_number = _held(columns, name)
    is_flag = bool(texts) and not is_number and all(text.lower() in _FLAGS for text in texts)
    phrase = " ".join(dict.fromkeys((*own, *WORDS.measured.get(unit, "").split())))
    return Attribute(
        name, " ".join(own), phrase, tuple(stem(word) for word in own),
        tuple(WORDS.groups.get(word, frozenset()) for word in own), unit,
        WORDS.unit.get(unit, frozenset()) if is_number else frozenset(), () if is_flag else texts, usable, is_flag,
        is_number,
    )  # fmt: skip


def _core(columns: Columns, name: str, asking: Iterable[str], usable: Callable[[str], bool]) -> Attribute:
    """A field that is no attribute; any one word that asks for it says its whole name."""
    texts, is_number = _held(columns, name)
    group = frozenset({f"core {name}"})
    return Attribute(
        name, name, name, (stem(name),), (group,), "", frozenset(asking), () if is_number else texts, usable, False,
        is_number,
    )  # fmt: skip


def _held(columns: Columns, name: str) -> tuple[Collection[str], bool]:
    """A field's texts, and whether it has numbers."""
    column = columns.column(name)
    return (column.spans, len(column.numbers) > 0) if column else ((), False)
