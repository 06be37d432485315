"""Which attribute the words of a question mean, of those that its products have."""

from __future__ import annotations

import re
from collections.abc import Sequence

from engine.analysis.units import UNITS
from engine.answers.attributes import ATTRIBUTE, Attribute, AttributeIndex, Match
from engine.answers.fields import value_passages
from engine.answers.lexicon import WORDS
from engine.answers.measured import measures_alike
from engine.answers.numbers import AnswerNumbers
from engine.answers.reading import Question
from engine.answers.subject import SubjectWords, calls
from engine.answers.wording import Word, words_of
from engine.product import Product

_CORE = ("price", "brand", "model", "rating", "released", "availability")
_PRICE = re.compile(r"\bhow much (?:is|are|for|does|do|will|would)\b", re.IGNORECASE)
_COUNTED = re.compile(r"\bhow (?:many|much)\s+(?=(\w+))", re.IGNORECASE)
#: What an answer does not hang on: what a feature is wanted for.
_PURPOSE = re.compile(r"\b(?:for|so|because|when|while|if)\b", re.IGNORECASE)
_OR = re.compile(r"\bor\b", re.IGNORECASE)


class AttributeFinder:
    """Finds the attribute that is meant. Thread-safe."""

    def __init__(self, attributes: AttributeIndex, numbers: AnswerNumbers) -> None:
        self._attributes, self._numbers = attributes, numbers
        self.subject = SubjectWords(attributes.embed, attributes.names, numbers.least_cosine_thing)

    def asked(self, question: Question, products: Sequence[Product]) -> tuple[Word, ...]:
        """What is asked, without what the products are called ("the fridge"), unless that is all, or an attribute."""
        kept = [
            word for word in question.asked
            if self._says_something(word) or not any(calls(word, product) for product in products[:1])
        ]  # fmt: skip
        return tuple(kept) or question.asked

    def find(self, question: Question, products: Sequence[Product]) -> Match | None:
        """The attribute that a question means, by the first of its readings that means one."""
        for asked in self.readings(question, products):
            counted = _counted(question.text, asked)
            match = self.meant(asked, products, polar=question.polar, carriers=question.carriers, counted=counted)
            if match is not None:
                return match
        if question.polar and (cut := _PURPOSE.search(question.text)):
            asked = tuple(word for word in self.asked(question, products) if word.start < cut.start())
            match = self.meant(asked, products, polar=True, carriers=question.carriers) if asked else None
            if match is not None and not match.rest:
                return match
        return None

    def choice(self, question: Question, products: Sequence[Product]) -> Match | None:
        """The attribute of which a question names values to choose from ("HD or 4K", "front or top load")."""
        if not (between := _OR.search(question.text)):
            return None
        own = {word.start for word in self.subject.pointed(question.text, products[0])}
        asked = [word for word in question.asked if word.start not in own]
        before = [word for word in asked if word.start < between.start()]
        after = [word for word in asked if word.start > between.start()]
        for words in (before, after):
            match = self.meant(words, products, polar=True, carriers=question.carriers) if words else None
            if match is not None and match.values and not match.attribute.is_flag:
                return match
        return None

    def readings(self, question: Question, products: Sequence[Product]) -> list[tuple[Word, ...]]:
        """What may be asked: all words, then those without what points at the product ("how heavy is the laptop")."""
        whole = self.asked(question, products)
        product = products[0]
        own = {word.start for word in self.subject.pointed(question.text, product)}
        found = [whole]
        if own:
            found.append(tuple(word for word in question.asked if word.start not in own))
        if not found[-1]:
            # "How much is it", "what is it made of": what is asked is in words that are otherwise grammar.
            named = [word for word in question.carriers if self._attributes.names(word)][:1]
            asks_price = _PRICE.search(question.text) and words_of("price")
            found[-1] = tuple(asks_price or (() if question.polar else named))
        return [asked for asked in found if asked] or [()]

    def _says_something(self, word: Word) -> bool:
        """Whether a word names an attribute, or is a unit, a number or a code."""
        return self._attributes.names(word) or word.text in UNITS or not word.text.isalpha()

    def meant(
        self, asked: Sequence[Word], products: Sequence[Product], *, polar: bool, carriers: Sequence[Word] = (),
        counted: str = "",
    ) -> Match | None:  # fmt: skip
        """The attribute that the words mean, of those that one of the products has; None where none is, or where
        another is meant that they lack. ``counted`` is the unit that "how many" asks for.
        """
        fields = dict.fromkeys(f"{ATTRIBUTE}{name}" for product in products for name in product.attributes)
        own = [
            self._attributes.attributes[field] for field in (*fields, *_CORE) if field in self._attributes.attributes
        ]
        matches = [self._attributes.match(asked, attribute, carriers) for attribute in own]
        accepted = [match for match in matches if self._accepts(match, matches, polar)]
        accepted = accepted or [match for match in matches if counted and self._counts(match, matches, counted)]
        if not accepted:
            return None
        best = max(accepted, key=lambda match: (match.whole, self._says(match, products), match.flagged, match.key))
        rivals = [self._attributes.match(asked, one) for one in self._attributes.rivals(asked) if one not in own]
        says = bool(self._says(best, products))
        if any(self._beats(rival, best, says) for rival in rivals):
            return None
        return best

    def _accepts(self, match: Match, matches: Sequence[Match], polar: bool) -> bool:
        numbers, attribute = self._numbers, match.attribute
        if not polar and (attribute.is_flag or any(word.number is not None for word in match.values)):
            return attribute.is_flag and match.named == 1 and not match.rest
        if match.rest:
            measured = polar and match.measured and match.attribute.is_number
            if any(word.text in UNITS or any(c.isdigit() for c in word.text) for word in match.rest):
                return False
            if match.values and not measured and not (polar and match.named == 1 and self._may_be_value(match)):
                return False
            if not (measured and match.values) and any(word.text in WORDS.dimensions for word in match.rest):
                return False  # "charging time" is not told in watts
            if polar and match.measured and self._is_theirs(match, matches):
                return True
            if self._is_qualified(match, matches):
                return True
            return match.cosine >= self._least_cosine(match)
        if match.named:
            said = match.named >= numbers.least_named or self._is_value(match)
            return said or match.cosine >= numbers.least_cosine_part
        if match.measured:  # "how many litres": of the only one that is measured in them
            alike = [one for one in matches if one.measured and not one.rest]
            if not polar and len({one.attribute.unit for one in alike}) == 1:
                return not match.values  # "how fast" is a drive: the nearest of its speeds
            return len(alike) == 1 and (not match.values or (polar and all(w.number is not None for w in match.values)))
        # The words of makers' and models' names are those of anything.
        return polar and self._is_value(match) and attribute.field not in ("brand", "model")

    def _counts(self, match: Match, matches: Sequence[Match], unit: str) -> bool:
        """Whether an attribute is the only one in the unit that "how many" asks for, and no other is named."""
        alike = [one for one in matches if one.attribute.is_number and _in_unit(one.attribute, unit)]
        return [match] == alike and not any(self._attributes.names(word) for word in match.rest)

    def _least_cosine(self, match: Match) -> float:
        """How near the words must be to a name, where some of them are not of it.

        A word of another attribute makes it another thing ("wireless charging"), unless the name is a flag's, or of
        several words, and said whole ("screen refresh rate").
        """
        numbers = self._numbers
        if match.named < 1:
            return numbers.least_cosine_part if match.named else numbers.least_cosine_none
        if match.n_said > 1:
            return numbers.least_cosine_several
        if match.flagged:
            return numbers.least_cosine_flag
        alien = any(self._attributes.names(word) for word in match.rest)
        return numbers.least_cosine_alien if alien and not match.measured else numbers.least_cosine_whole

    @staticmethod
    def _is_theirs(match: Match, matches: Sequence[Match]) -> bool:
        """Whether a measure can only be of the attribute ("a 120 Hz display"): the one in its unit, and the other words
        are of the names of the product's others.
        """
        alike = [one for one in matches if one.measured and one.attribute.is_number]
        others = {stem for one in matches for stem in one.attribute.stems}
        groups = {group for one in matches for of in one.attribute.groups for group in of}
        theirs = all(w.stem in others or groups & WORDS.groups.get(w.text, frozenset()) for w in match.rest)
        return len(alike) == 1 and bool(match.values) and theirs

    def _is_qualified(self, match: Match, matches: Sequence[Match]) -> bool:
        """Whether an attribute's name and what its unit measures are said, with words that no attribute is called by
        ("BEE star rating"), and no other is measured so.
        """
        alike = [one for one in matches if one.measured and one.attribute.is_number]
        named = match.named >= self._numbers.least_named
        return alike == [match] and named and not any(self._attributes.names(word) for word in match.rest)

    def _may_be_value(self, match: Match) -> bool:
        return match.attribute.is_number or self._is_value(match)

    @staticmethod
    def _is_value(match: Match) -> bool:
        """Whether the words are of one value that some product has, and not each of another's."""
        stems = {word.stem for word in match.values}
        return bool(stems) and any(stems <= value for value in match.attribute.values)

    def _says(self, match: Match, products: Sequence[Product]) -> int:
        """1 where the words are of what a product has there, and not only of what others have."""
        if not match.values or match.rest:
            return 0
        stems = {word.stem for word in match.values}
        for product in products:
            texts = [passage.text for passage in value_passages(product, match.attribute.field)]
            if any(stems <= {word.stem for word in words_of(text)} for text in texts):
                return 1
        return 0

    @staticmethod
    def _beats(rival: Match, best: Match, says: bool) -> bool:
        """Whether an attribute that the products lack is meant more clearly; ``says`` that they have the words as
        values of the best.
        """
        if rival.rest or rival.values or says:
            return False
        if not best.named and not best.rest:
            return rival.named == 1
        return rival.named > best.named or (bool(best.rest) and rival.named == best.named)


def _counted(text: str, asked: Sequence[Word]) -> str:
    """The word after "how many", where it is one of those asked."""
    found = _COUNTED.search(text)
    return next((word.text for word in asked if found and word.start == found.end()), "")


def _in_unit(attribute: Attribute, word: str) -> bool:
    """Whether a word is the unit of an attribute ("litres")."""
    return word == attribute.unit or measures_alike(UNITS.get(word, ""), attribute.unit)
