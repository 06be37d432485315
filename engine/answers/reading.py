"""What a question is about and what it asks: names of products, what is left of its words, and the kind of answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from engine.analysis.analyzer import STOP_WORDS
from engine.answers.lexicon import WORDS
from engine.answers.measured import bound_spans
from engine.answers.mentions import Mention, NameFinder
from engine.answers.wording import Word, words_of

Intent = Literal["attribute", "comparison", "recommendation", "compatibility", "support", "opinion"]

_VERSUS = re.compile(r"(?<![\w-])(?:vs\.?|versus|v/s)(?![\w-])", re.IGNORECASE)
_BETWEEN = re.compile(r"(?<![\w-])(?:and|or|with|to|than|from)(?![\w-])|,", re.IGNORECASE)
_FITS = re.compile(
    r"\b(?:compatible (?:with|for|to)|fits?(?: on| in| into| with)?|works? (?:with|on|for)|connects? (?:to|with)|"
    r"pairs? with|suitable for|made for|usable with|for use with|good for)\b",
    re.IGNORECASE,
)
#: What stands before a question that is asked politely.
_POLITE = re.compile(
    r"\W*(?:(?:hi|hello|hey)\W+)?(?:please\W+)?(?:(?:can|could|would|will) (?:you|u|someone|anyone)(?: please)? "
    r"(?:tell|let|inform|show|give|say|confirm)(?: me)?(?: know)?|do you (?:happen to )?know|(?:tell|let) me(?: know)?|"
    r"confirm|(?:can|could|may) i (?:please )?(?:get|have|know)|i(?: would|'d)? (?:want|like|need) to know|"
    r"i(?: am|'m| was) (?:just )?wondering)\b",
    re.IGNORECASE,
)
#: What a life or a run is counted by, which is no other thing that is asked for.
_PER_CHARGE = re.compile(
    r"\b(?:(?:on|with|per|from|after|between) (?:a |one |each |every )?(?:single |full )?charges?|fully charged)\b",
    re.IGNORECASE,
)
_OFFERS = re.compile(
    r"\W*(?:(?:is|are) there (?:a|an|any|some)\b|do you (?:guys )?(?:have|sell|stock|carry)\b|have you got\b|"
    r"(?:can|could) you (?:recommend|suggest)\b)",
    re.IGNORECASE,
)
_THERE = re.compile(r"\W*(?:is|are) there\b", re.IGNORECASE)
#: Where a question begins that stands after what is told ("We are five. How many …").
_SENTENCES = re.compile(r"(?<=[.!?])\s+(?=[A-Za-z])")
_IT = frozenset({"it", "its", "it's", "this", "these", "they", "that", "them", "their"})
_DEGREE = frozenset(
    {"long", "big", "large", "heavy", "fast", "wide", "tall", "high", "bright", "loud", "quick", "quickly"}
)
_SUPERLATIVE = re.compile(r"[a-z]{3,}est")


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """``text`` as typed. ``asked`` are its words without the names, in order, and without those that ask; ``polar``
    says that yes or no answers it. ``sides`` are what a comparison compares: names, or texts that name nothing here.
    ``about_it`` says that it speaks of a product at hand.
    """

    text: str
    intent: Intent
    polar: bool
    mentions: tuple[Mention, ...]
    asked: tuple[Word, ...]
    carriers: tuple[Word, ...] = ()
    sides: tuple[Mention | str, ...] = ()
    about_it: bool = False


def read_question(text: str, names: NameFinder, *, pointed: bool = False, at_hand: int | None = None) -> Question:
    """Reads a question against one index. Never raises.

    ``pointed`` says that its words point at a product at hand ("the fridge"), ``at_hand`` is the row of that.
    """
    words = words_of(text)
    plain = [word.text for word in words]
    asking = _asking(text)
    polar = _is_polar(text[asking:])
    about_it = pointed or bool(_IT.intersection(plain))
    # Who speaks of "it" names another thing by its code, if at all: other words are what it is asked for. Beside a
    # product at hand, a name is one that is written as such.
    mentions = tuple(
        mention for mention in names.find(text)
        if mention.exact or not (about_it or (at_hand is not None and _is_common(mention, at_hand)))
    )  # fmt: skip
    asked, carriers = _asked(text, [word for word in words if word.start >= asking], mentions)
    sides = _sides(text, mentions, about_it=about_it)
    if sides:
        return Question(text, "comparison", polar, mentions, asked, carriers, sides, about_it)
    intent = _intent(text, plain, mentions, asked, polar, about_it, at_hand is not None)
    if polar and intent == "attribute":
        # "Does it have a CPU of the Snapdragon 7c Gen 2": beside what it is about, what is named is what is asked for.
        # With nothing at hand it is the named: "S24, does it have NFC".
        known = [mention for mention in mentions if mention.known]
        known = [mention for mention in known if mention.exact] or known
        is_named = not about_it or (at_hand is None and not pointed)
        subject = max(known, key=lambda mention: mention.end - mention.start) if known and is_named else None
        mentions = tuple(mention for mention in mentions if mention is subject or not mention.known)
        asked, carriers = _asked(text, [word for word in words if word.start >= asking], mentions)
    return Question(text, intent, polar, mentions, asked, carriers, (), about_it)


def _intent(
    text: str, plain: Sequence[str], mentions: Sequence[Mention], asked: Sequence[Word], polar: bool, about_it: bool,
    at_hand: bool,
) -> Intent:  # fmt: skip
    said = set(plain)
    first = plain[0] if plain else ""
    if said & WORDS.intent.policy and not (mentions and _only_attribute(asked)):
        return "support"
    if first == "how" and ({"to", "do", "can", "should"} & set(plain[1:2])):
        return "support"
    if not about_it and not any(mention.exact for mention in mentions) and _wishes(text, plain, at_hand):
        return "recommendation"
    if (polar or first == "which") and (fits := _FITS.search(text)):
        before = [mention for mention in mentions if mention.start < fits.start()]
        after = [mention for mention in mentions if mention.start > fits.start()]
        if after and (before or about_it):
            return "compatibility"
        if after and any(word.start < fits.start() for word in asked):
            return "recommendation"  # "will a silicone case fit my S24": of what is called so, none is named
    if said & WORDS.intent.opinion and all(word.text in WORDS.intent.opinion for word in asked):
        return "opinion"
    return "attribute"


def _wishes(text: str, plain: Sequence[str], at_hand: bool) -> bool:
    """Whether a text asks for some product or other: "which … is best", "do you have a …". Beside a product at hand "is
    there a …" and "the biggest …" are about that.
    """
    if at_hand:
        return not _THERE.match(text) and _OFFERS.match(text) is not None
    if _OFFERS.match(text) or plain[:1] in (["recommend"], ["suggest"], ["which"]):
        return True
    return bool(WORDS.intent.best.intersection(plain)) or any(_SUPERLATIVE.fullmatch(word) for word in plain)


def wish_of(text: str) -> str:
    """A question for products as a shopper would search for them: without the words that ask."""
    q = WORDS.question
    asking = q.wh | q.auxiliary | q.request | q.person | {"buy", "get", "there", "any"}
    kept = [part for part in text.split() if not asking.issuperset(word.text for word in words_of(part))]
    return " ".join(kept).rstrip("?! ") or text


def _only_attribute(asked: Sequence[Word]) -> bool:
    """Whether none of the words is about the shop's own service."""
    return not any(word.text in WORDS.intent.policy for word in asked)


def _is_common(mention: Mention, at_hand: int) -> bool:
    """Whether words are no name, beside a product at hand: they are written small, or are of its own name."""
    return (mention.start > 0 and mention.text.islower()) or at_hand in mention.rows


def is_polite(text: str) -> bool:
    """Whether a text begins as who asks politely does."""
    return _POLITE.match(text) is not None


def _asking(text: str) -> int:
    """Where the last sentence of a text begins, if it asks; else 0."""
    starts = [match.end() for match in _SENTENCES.finditer(text)]
    first = words_of(text[starts[-1] :])[:1] if starts else []
    return starts[-1] if first and first[0].text in WORDS.question.wh | WORDS.question.auxiliary else 0


def _is_polar(text: str) -> bool:
    """Whether the first clause that asks begins with a verb ("does it …", not "what does it …")."""
    if polite := _POLITE.match(text):
        said = words_of(text[polite.end() :])[:1]
        if not said or said[0].text not in ("if", "whether"):
            return bool(said) and said[0].text in WORDS.question.auxiliary
        return True
    for word, after in pairwise(words_of(text)):  # "processor it has" and "the display is how big" are of no yes or no
        if word.text in WORDS.question.wh:
            return False
        if word.text in WORDS.question.auxiliary:
            return after.text not in WORDS.question.wh
    return False


def _asked(
    text: str, words: Sequence[Word], mentions: Sequence[Mention]
) -> tuple[tuple[Word, ...], tuple[Word, ...]]:  # fmt: skip
    """The words that say what is asked: outside names, no grammar, no bounds ("more than"); and the carriers."""
    q = WORDS.question
    function = q.wh | q.subject | q.person | q.auxiliary | q.carrier | STOP_WORDS
    polite = _POLITE.match(text)
    spans = [(m.start, m.end) for m in mentions] + bound_spans(text) + ([polite.span()] if polite else [])
    spans += [match.span() for match in _PER_CHARGE.finditer(text)]
    outside = [word for word in words if not any(start <= word.start < end for start, end in spans)]
    kept = tuple(word for word in outside if word.text not in function or word.text in _DEGREE)
    return kept, tuple(word for word in outside if word.text in q.carrier and word not in kept)


def _sides(text: str, mentions: Sequence[Mention], *, about_it: bool) -> tuple[Mention | str, ...]:
    """What is compared: both sides of a "vs", or the names after a word that compares; none where nothing is. One alone
    is compared with the product at hand.
    """
    parts = _VERSUS.split(text)
    if len(parts) > 1:
        return tuple(_side(part, text, mentions) for part in parts if _content(part))
    folded = text.lower()
    compares = bool(WORDS.intent.comparing.intersection(w.text for w in words_of(text)))
    if about_it and len(mentions) == 1 and (compares or " than " in folded):
        return tuple(mentions)
    if len(mentions) > 1 and (compares or re.search(r"\b(?:better|or|than)\b", folded)):
        return tuple(mentions)
    if len(mentions) != 1 or not compares:
        return ()
    [only] = mentions
    others = [part for part in _BETWEEN.split(text[: only.start]) + _BETWEEN.split(text[only.end :]) if _content(part)]
    return (only, *others[:1]) if others else ()


def _side(part: str, text: str, mentions: Sequence[Mention]) -> Mention | str:
    start = text.find(part)
    inside = [m for m in mentions if start <= m.start < start + len(part)]
    return inside[0] if inside else _content(part)


def _content(part: str) -> str:
    """A part of a question without the words that compare or ask."""
    q = WORDS.question
    drop = (
        q.wh
        | q.auxiliary
        | q.subject
        | q.person
        | q.request
        | WORDS.intent.comparing
        | {"better", "between", "and", "or"}
    )
    return " ".join(part[word.start : word.end] for word in words_of(part) if word.text not in drop)
