"""The reader of attributes: finds the one that a question means, and says what the products have there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from engine.answers.attributes import ATTRIBUTE, Attribute, AttributeIndex, Match, shown_value, told_value
from engine.answers.conflicts import conflicting
from engine.answers.fields import Passage, text_passages, value_passages
from engine.answers.finding import Finding, Verdict, capital, title_of
from engine.answers.meaning import AttributeFinder
from engine.answers.measured import Measure, bound_before, in_range, measures, same_measure, within
from engine.answers.numbers import AnswerNumbers
from engine.answers.reading import Question
from engine.answers.wording import Word, words_of
from engine.families.words import shipped_words
from engine.product import Product

_NO = frozenset({"false", "no", "none", "not available", "n/a", "na", "0", "0.0", "not supported"})
_YES = frozenset({"true", "yes", "supported", "available", "included"})
_OFFERED = re.compile(r"\b(?:comes? in|available in|offered in|sold in|get (?:it|this|one) in)\b", re.IGNORECASE)
_MOST_PRODUCTS = 5  # that one answer cites


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """What one product says: its values, and of a question of yes or no the verdict, None where it leaves it open."""

    product: Product
    values: tuple[Passage, ...]
    verdict: Verdict | None = None
    cited: tuple[Passage, ...] = ()


class StructuredReader:
    """Reads attributes, and the fields that every product has. Thread-safe."""

    def __init__(self, attributes: AttributeIndex, numbers: AnswerNumbers) -> None:
        self._attributes, self._numbers = attributes, numbers
        self.finder = AttributeFinder(attributes, numbers)

    def read(self, question: Question, products: Sequence[Product]) -> Finding | None:
        """The finding about products of one name, None where no attribute of theirs is meant."""
        chosen = self.finder.choice(question, products)
        match = chosen or self.finder.find(question, products)
        if match is None:
            return None
        attribute = match.attribute
        said = [Said(product, tuple(value_passages(product, attribute.field))) for product in products]
        said = [one for one in said if one.values]
        if not said:
            return None
        if conflict := next(filter(None, (self._conflict(one, attribute) for one in said)), None):
            return conflict
        if question.polar and chosen is None:
            return self._polar(question, match, said, products)
        return self._fact(match, said, products)

    # ------------------------------------------------------------------------------------------------- what it says

    def _fact(self, match: Match, said: Sequence[Said], products: Sequence[Product]) -> Finding:
        attribute = match.attribute
        by_value: dict[tuple[str, ...], list[Said]] = {}
        for one in said:
            by_value.setdefault(tuple(passage.text for passage in one.values), []).append(one)
        if len(by_value) == 1:
            [(values, ones)] = by_value.items()
            about = title_of(ones[0].product) if len(products) == 1 else _all(said, products)
            text = f"{capital(attribute.shown)} of {about}: {told_value(attribute, values)}."
        else:
            parts = [
                f"{told_value(attribute, values)} ({title_of(ones[0].product)})" for values, ones in by_value.items()
            ]
            text = f"{capital(attribute.shown)} depends on the variant: {'; '.join(parts[:_MOST_PRODUCTS])}."
        first = [ones[0] for ones in by_value.values()][:_MOST_PRODUCTS]
        evidence = tuple(passage.evidence() for one in first for passage in one.values)
        return Finding(
            "fact", text, "answered", self._confidence(match), f"the attribute {_name(attribute)} says it", None,
            tuple(one.product for one in first), evidence, (_name(attribute),),
        )  # fmt: skip

    def _polar(
        self, question: Question, match: Match, said: Sequence[Said], products: Sequence[Product]
    ) -> Finding | None:  # fmt: skip
        judged = [_judged(question, match, one) for one in said]
        known = [one for one in judged if one.verdict is not None]
        attribute = match.attribute
        if not known:
            return _left_open(match, judged, self._confidence(match))
        verdicts = {one.verdict for one in known}
        first = list({one.verdict: one for one in reversed(known)}.values())[:_MOST_PRODUCTS]
        values = [f"{attribute.shown} {told_value(attribute, _texts(one.cited))}" for one in first]
        if len(verdicts) == 1:
            [verdict] = verdicts
            about = title_of(first[0].product) if len(products) == 1 else _all(known, products)
            text = f"{capital(str(verdict))}: {values[0]} ({about})."
        else:
            verdict = None
            parts = [
                f"{one.verdict} for {title_of(one.product)} ({value})" for one, value in zip(first, values, strict=True)
            ]
            text = f"It depends on the variant: {'; '.join(parts)}."
        evidence = tuple(passage.evidence() for one in first for passage in one.cited)
        return Finding(
            "yes_no", text, "answered", self._confidence(match), f"the attribute {_name(attribute)} says it", verdict,
            tuple(one.product for one in first), evidence, (_name(attribute),),
        )  # fmt: skip

    def fits(self, name: str, products: Sequence[Product]) -> Finding | None:
        """Whether a field of a product names what it goes with; None where none does.

        The name of another variant is no mention: "Galaxy S23 Ultra" is no Galaxy S23.
        """
        wanted = [word.text for word in words_of(name)]
        variants = shipped_words().names.variants
        for product in products:
            for passage in (*self._compatible(product), *text_passages(product)):
                words = words_of(passage.text)
                texts = [word.text for word in words]
                for at in range(len(texts) - len(wanted) + 1):
                    after = texts[at + len(wanted)] if at + len(wanted) < len(texts) else ""
                    if texts[at : at + len(wanted)] == wanted and after not in variants:
                        where = passage.evidence(words[at].start, words[at + len(wanted) - 1].end)
                        text = f"Yes: {title_of(product)} names {where.text}."
                        return Finding(
                            "yes_no", text, "answered", self._numbers.text_confidence, f"its {passage.field} names it",
                            "yes", (product,), (where,),
                        )  # fmt: skip
        if listed := [passage for product in products[:1] for passage in self._compatible(product)]:
            text = f"{title_of(products[0])} does not name it. It names: {', '.join(_texts(listed))}."
            return Finding(
                "abstention", text, "not_said", self._numbers.silent_confidence, "it names others", None,
                tuple(products[:1]), tuple(passage.evidence() for passage in listed),
            )  # fmt: skip
        return None

    def _compatible(self, product: Product) -> list[Passage]:
        """What the product's fields of compatibility say."""
        fields = [f"{ATTRIBUTE}{name}" for name in product.attributes]
        of = [self._attributes.attributes[field] for field in fields if field in self._attributes.attributes]
        return [
            p for one in of if any("compatible" in g for g in one.groups) for p in value_passages(product, one.field)
        ]

    def _conflict(self, said: Said, attribute: Attribute) -> Finding | None:
        other = conflicting(said.product, attribute, said.values, self._attributes)
        if other is None:
            return None
        own = said.values[0].evidence()
        where = "title" if other.field == "title" else "text"
        text = (
            f"The catalog contradicts itself about the {attribute.shown} of {title_of(said.product)}: the {where} says "
            f"{other.text}, the attribute {shown_value(attribute, own.text)}."
        )
        return Finding(
            "abstention", text, "conflict", self._numbers.conflict_confidence, f"the {where} and the attribute differ",
            None, (said.product,), (other, own), (_name(attribute),),
        )  # fmt: skip

    def _confidence(self, match: Match) -> float:
        return self._numbers.confidence(match.named, match.cosine, bool(match.values), len(match.rest))


def _judged(question: Question, match: Match, said: Said) -> Said:
    """With the product's verdict and what it rests on."""
    attribute, values = match.attribute, said.values
    texts = [passage.text.casefold().strip() for passage in values]
    if attribute.is_flag:
        verdict: Verdict | None = None if match.values else ("yes" if texts[0] in _YES else "no")
        return Said(said.product, values, verdict, values)
    if attribute.is_number:
        return Said(said.product, values, _by_number(question, match, texts[0]), values)
    wanted = {word.stem for word in match.values}
    if not wanted:
        verdict = "no" if all(text in _NO for text in texts) else "yes"
        return Said(said.product, values, verdict, values)
    numbers = [word.number for word in match.values if word.number is not None]
    if len(numbers) == len(wanted) == 1 and (inside := in_range(values[0].text, numbers[0])) is not None:
        return Said(said.product, values, "yes" if inside else "no", values)
    having = tuple(p for p in values if wanted <= {word.stem for word in words_of(p.text)})
    if having:
        return Said(said.product, values, "yes", having)
    if _OFFERED.search(question.text):
        return Said(said.product, values, None, values)  # "does it come in red" is of other variants too
    # Of several things that a field lists, what is not listed is not denied.
    listed = len(values) > 1 or "[" in values[0].field or any(sign in values[0].text for sign in ",;/")
    return Said(said.product, values, None if listed else "no", values)


def _by_number(question: Question, match: Match, text: str) -> Verdict | None:
    value, unit, asked = float(text), match.attribute.unit, question.asked
    said = [m for m in measures(words_of(question.text)) if any(word.start == m.start for word in asked)]
    if not said:
        return "no" if value == 0 else "yes"
    if len(said) > 1 or not _counts(
        question.text, said[0], [word for word in asked if word.stem in match.attribute.stems]
    ):
        return None
    bound = bound_before(question.text, said[0].start)
    holds = within(value, unit, said[0], bound) if bound else same_measure(value, unit, said[0])
    return None if holds is None else "yes" if holds else "no"


def _counts(question: str, measure: Measure, naming: Sequence[Word]) -> bool:
    """Whether a number is an amount: with a unit, before the name ("4 HDMI ports", not "HDMI 2.1"), after an "of", or
    where the question begins with "is" ("is the tonnage 1.5", but not "is it HDMI 2.1").
    """
    named = [word.start for word in naming]
    before = question[: measure.start].lower().split()
    said = bool(measure.unit) or (bool(named) and measure.start < min(named))
    return said or before[-1:] == ["of"] or (before[:1] in (["is"], ["are"], ["was"]) and before[1:2] != ["it"])


def _left_open(match: Match, said: Sequence[Said], confidence: float) -> Finding | None:
    """An abstention that says what is listed, where a list is; None where nothing bears on it."""
    if match.attribute.is_number or match.attribute.is_flag:
        return None
    one = said[0]
    texts = _texts(one.values)
    text = (
        f"{title_of(one.product)} does not say. Its {match.attribute.shown} lists: "
        f"{told_value(match.attribute, texts)}."
    )
    return Finding(
        "abstention", text, "not_said", confidence, f"the attribute {_name(match.attribute)} does not list it", None,
        (one.product,), tuple(passage.evidence() for passage in one.values), (_name(match.attribute),),
    )  # fmt: skip


def _name(attribute: Attribute) -> str:
    return attribute.field.removeprefix(ATTRIBUTE)


def _all(said: Sequence[Said], products: Sequence[Product]) -> str:
    return "every variant" if len(said) == len(products) else "every variant that says it"


def _texts(passages: Sequence[Passage]) -> tuple[str, ...]:
    return tuple(passage.text for passage in passages)
