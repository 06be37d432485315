"""Which attribute the words of a question mean, of those that its products have."""

from __future__ import annotations

import re
from collections.abc import Sequence

from engine.analysis.units import UNITS
from engine.answers.attributes import AttributeIndex, Match
from engine.answers.fields import value_passages
from engine.answers.lexicon import WORDS
from engine.answers.numbers import AnswerNumbers
from engine.answers.reading import Question
from engine.answers.subject import SubjectWords, calls
from engine.answers.wording import Word, words_of
from engine.product import Product

_PRICE = re.compile(r"\bhow much (?:is|are|for|does|do|will|would)\b", re.IGNORECASE)
_COUNTED = re.compile(r"\bhow many\s+", re.IGNORECASE)
#: What an answer does not hang on: what a feature is wanted for.
_PURPOSE = re.compile(r"\b(?:for|so|because|when|while|if)\b", re.IGNORECASE)
_OR = re.compile(r"\bor\b(?! (?:not|is|does|do|are|can)\b)", re.IGNORECASE)


class AttributeFinder:
    """Finds the attribute that is meant. Thread-safe."""

    def __init__(self, attributes: AttributeIndex, numbers: AnswerNumbers) -> None:
        self._attributes, self._numbers = attributes, numbers
        self.subject = SubjectWords(attributes, numbers.least_cosine_thing)

    def asked(
        self, question: Question, products: Sequence[Product], *, values: bool = False
    ) -> tuple[Word, ...]:  # fmt: skip
        """What is asked, without what the products are called ("the fridge"), unless that is all, or an attribute; with
        ``values`` nor what may be a value of the product's ("is the panel OLED" of an "OLED TV").
        """
        product = products[0]
        own = self._attributes.of(products[:1]) if values else []
        kept = [
            word for word in question.asked
            if self._says_something(word) or not calls(word, product) or any(of.has(word) for of in own)
        ]  # fmt: skip
        return tuple(kept) or question.asked

    def narrowed(self, question: Question, products: tuple[Product, ...]) -> tuple[Product, ...]:
        """Those of one name whose titles have what is said beside it ("990 PRO with heatsink"), where only some do and
        no attribute says it; all where none is told apart so.
        """
        own = self._attributes.of(products)
        for word in question.asked if len(products) > 1 else ():
            if self._says_something(word) or any(of.has(word) for of in own):
                continue
            having = tuple(one for one in products if word.stem in {own.stem for own in words_of(one.title)})
            products = having or products
        return products

    def find(self, question: Question, products: Sequence[Product]) -> Match | None:
        """The attribute that a question means, by the first of its readings that means one."""
        readings = self.readings(question, products)
        for asked in readings:
            match = self.meant(asked, products, polar=question.polar, carriers=question.carriers)
            if match is not None and not _counts_else(question.text, match):
                return match
        if not question.polar and (match := self._said_further(readings[-1], products)):
            return match
        if not question.polar or not (cut := _PURPOSE.search(question.text)):
            return None
        for asked in readings:
            kept = tuple(word for word in asked if word.start < cut.start())
            match = self.meant(kept, products, polar=True, carriers=question.carriers) if kept else None
            if match is not None and not match.rest:
                return match
        return None

    def _said_further(self, asked: Sequence[Word], products: Sequence[Product]) -> Match | None:
        """The attribute of which a question has the beginning of a value: "which Windows version", of Windows 11."""
        wanted = {word.stem for word in asked if word.text not in WORDS.question.modifier}
        if not wanted or len(wanted) == len(asked):
            return None
        for match in (self._attributes.match(asked, one) for one in self._attributes.of(products)):
            own = (words_of(passage.text) for passage in value_passages(products[0], match.attribute.field))
            if not match.rest and any(wanted < {word.stem for word in words} for words in own):
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
        for words in (before, after) if before and after else ():
            match = self.meant(words, products, polar=True, carriers=question.carriers)
            if match is not None and (match.values or match.flagged):
                return match
        return None

    def readings(self, question: Question, products: Sequence[Product]) -> list[tuple[Word, ...]]:
        """What may be asked: all words, then those without what products are called, and without what points at this
        one ("how heavy is the laptop").
        """
        own = {word.start for word in self.subject.pointed(question.text, products[0])}
        found = [self.asked(question, products, values=True)] if question.polar else []
        found.append(self.asked(question, products))
        if own:
            found.append(tuple(word for word in question.asked if word.start not in own))
        if not found[-1]:
            # "How much is it", "what is it made of": what is asked is in words that are otherwise grammar.
            named = [word for word in question.carriers if self._attributes.names(word)][:1]
            asks_price = _PRICE.search(question.text) and words_of("price")
            found[-1] = tuple(asks_price or (() if question.polar else named))
        return list(dict.fromkeys(asked for asked in found if asked)) or [()]

    def _says_something(self, word: Word) -> bool:
        """Whether a word names an attribute, or is a unit, a number or a code."""
        return self._attributes.names(word) or word.text in UNITS or not word.text.isalpha()

    def meant(
        self, asked: Sequence[Word], products: Sequence[Product], *, polar: bool, carriers: Sequence[Word] = ()
    ) -> Match | None:  # fmt: skip
        """The attribute that the words mean, of those that one of the products has; None where none is, or where
        another is meant that they lack.
        """
        own = self._attributes.of(products)
        matches = [self._attributes.match(asked, attribute, carriers) for attribute in own]
        # What none of the words call is compared as a whole, which takes the encoder, where nothing else is meant.
        named = [match for match in matches if match.named or match.measured or not match.rest]
        accepted = [match for match in named if self._accepts(match, matches, polar)]
        others = [match for match in matches if match not in named]
        accepted = accepted or [match for match in others if self._accepts(match, matches, polar)]
        accepted = accepted or [match for match in matches if not polar and self._counts(match, matches)]
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
            alike = [one for one in alike if one.in_unit] or alike
            if not polar and len({one.attribute.unit for one in alike}) == 1:
                return not match.values  # "how fast" is a drive: the nearest of its speeds
            numbered = polar and all(word.number is not None for word in match.values)
            return alike == [match] and (not match.values or numbered)
        # The words of makers' and models' names are those of anything.
        return polar and self._is_value(match) and attribute.field not in ("brand", "model")

    def _counts(self, match: Match, matches: Sequence[Match]) -> bool:
        """Whether an attribute is the only one in a unit that is asked for ("how many litres of water"), and the other
        words are of no attribute, or of the names of the product's others ("Hz of the screen").
        """
        alike = [one for one in matches if one.in_unit and one.attribute.is_number]
        unnamed = not any(
            self._attributes.names(word)
            or any(one.attribute.has(word) for one in matches)  # "USB ports" are not HDMI's
            for word in match.rest
        )
        return alike == [match] and not match.values and (unnamed or _are_of_others(match.rest, matches))

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
        return len(alike) == 1 and bool(match.values) and _are_of_others(match.rest, matches)

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
        return match.attribute.values.having(frozenset(word.stem for word in match.values))

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


def _counts_else(text: str, match: Match) -> bool:
    """Whether what a question counts ("how many cores") is nothing that the attribute is called by."""
    counted = _COUNTED.search(text)
    return counted is not None and any(word.start == counted.end() for word in (*match.rest, *match.values))


def _are_of_others(words: Sequence[Word], matches: Sequence[Match]) -> bool:
    """Whether words are of the names of a product's attributes."""
    stems = {stem for one in matches for stem in one.attribute.stems}
    groups = {group for one in matches for of in one.attribute.groups for group in of}
    return all(word.stem in stems or groups & WORDS.groups.get(word.text, frozenset()) for word in words)
