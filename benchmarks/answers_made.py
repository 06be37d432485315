"""Questions made from a catalog's attributes, half of which no field answers: what answers are measured with.

No shopper asked them. ``answers/synthetic_phrases.tsv`` has what people call attributes, and things that none is about;
phrases of its splits ``held`` and ``last`` were asked for the first time when the readers were done.
"""

from __future__ import annotations

import csv
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from engine.answers.attributes import name_words
from engine.answers.fields import Passage, passages, value_text
from engine.answers.lexicon import WORDS
from engine.answers.records import Answer
from engine.answers.wording import stem, words_of
from engine.builder import open_encoder
from engine.config import EngineConfig
from engine.product import Product
from engine.search import SearchEngine

PHRASES = Path(__file__).parent / "answers" / "synthetic_phrases.tsv"
_NONE = "none"
_FACT = (
    "What is the {phrase} of {subject}?", "What {phrase} does {subject} have?", "Tell me the {phrase} of {subject}",
    "what's the {phrase} on the {subject}", "Can you tell me the {phrase} of {subject}?",
)  # fmt: skip
_POLAR = (
    "Does {subject} have {phrase}?", "Does the {subject} come with {phrase}?", "does {subject} support {phrase}",
    "Is there {phrase} on the {subject}?",
)  # fmt: skip
_SAYS = (
    "Is the {phrase} of {subject} {value}?", "Does {subject} have a {phrase} of {value}?",
    "Does {subject} have {value} {phrase}?",
)  # fmt: skip
_ASKS_VALUE = 0.4  # of the questions about a number or a text that name one, half of them the product's own
_WHOLE = 0.4  # of the questions that have a whole title; as many speak of "it", the others of a title's beginning


class MadeQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """``value`` is what the field says, as JSON, empty where no field does, or any will do; ``verdict`` yes, no, or
    empty. Of several fields that say it ``attribute`` has all, with bars between; ``product_id`` is empty where any
    product may.
    """

    question: str
    product_id: str
    context: str
    attribute: str
    value: str
    verdict: str


def read_phrases(split: str) -> dict[str, list[str]]:
    """Phrases by attribute; those that no attribute is about under ``none``."""
    out: dict[str, list[str]] = {}
    with PHRASES.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            if row["split"] == split:
                out.setdefault(row["attribute"], []).append(row["phrase"])
    return out


def made_questions(products: Sequence[Product], n: int, *, split: str, seed: int = 14) -> list[MadeQuestion]:
    """``n`` questions, half of them about what the product has no field for; the same for the same seed."""
    rng = random.Random(f"{seed}/{split}")
    phrases = read_phrases(split)
    makers = (_answerable(products, phrases, rng), _unanswerable(products, phrases, rng))
    return [next(makers[place % 2]) for place in range(n)]


def _subject(product: Product, rng: random.Random) -> tuple[str, str]:
    """What the question calls the product, and the product at hand."""
    chance = rng.random()
    if chance < _WHOLE:
        return product.title, ""
    return ("it", product.product_id) if chance < 2 * _WHOLE else ("this product", product.product_id)


def _answerable(
    products: Sequence[Product], phrases: dict[str, list[str]], rng: random.Random
) -> Iterator[MadeQuestion]:
    others = _values(products)
    while True:
        product = rng.choice(products)
        if not product.attributes:
            continue
        name = rng.choice(list(product.attributes))
        phrase = rng.choice([*phrases.get(name, ()), name.replace("_", " ")])
        subject, context = _subject(product, rng)
        question, verdict, said = _asked(product, name, phrase, subject, others[name], rng)
        yield MadeQuestion(
            question=question, product_id=product.product_id, context=context, attribute=name, value=said,
            verdict=verdict,
        )  # fmt: skip


def _values(products: Sequence[Product]) -> dict[str, list[str]]:
    """The texts and numbers of each attribute, in the order first met."""
    found: dict[str, dict[str, None]] = {}
    for product in products:
        for name, value in product.attributes.items():
            found.setdefault(name, {})
            if not isinstance(value, (bool, list)):
                found[name][value_text(value)] = None
    return {name: list(values) for name, values in found.items()}


def _asked(
    product: Product, name: str, phrase: str, subject: str, others: Sequence[str], rng: random.Random
) -> tuple[str, str, str]:  # fmt: skip
    """Question, verdict, and the value that answers it."""
    value = product.attributes[name]
    if isinstance(value, bool):
        return rng.choice(_POLAR).format(phrase=phrase, subject=subject), "yes" if value else "no", value_text(value)
    if isinstance(value, list):
        item = rng.choice(value)
        fits = name.startswith("compatible")
        form = "Is {subject} compatible with {item}?" if fits else "Does {subject} have {item}?"
        return form.format(subject=subject, item=item), "yes", item
    text = value_text(value)
    if rng.random() >= _ASKS_VALUE:
        return rng.choice(_FACT).format(phrase=phrase, subject=subject), "", text
    # A value that has the other in it ("Black", "Titan Black") would be neither right nor wrong.
    unlike = [other for other in others if other.lower() not in text.lower() and text.lower() not in other.lower()]
    says = rng.choice(unlike) if unlike and rng.random() < 0.5 else text
    unit = name.rpartition("_")[2]
    shown = WORDS.shown.get(unit, "") if isinstance(value, (int, float)) else ""
    form = rng.choice(_SAYS)
    asked = form.format(phrase=phrase, subject=subject, value=f"{says} {shown}".strip())
    return asked, "yes" if says == text else "no", text


def _unanswerable(
    products: Sequence[Product], phrases: dict[str, list[str]], rng: random.Random
) -> Iterator[MadeQuestion]:
    names = sorted({name for product in products for name in product.attributes})
    while True:
        product = rng.choice(products)
        if rng.random() < 0.5:
            phrase, flag = rng.choice(phrases[_NONE]), rng.random() < 0.5
        else:
            name = rng.choice(names)
            if name in product.attributes:
                continue
            phrase = rng.choice([*phrases.get(name, ()), name.replace("_", " ")])
            other = next(p for p in products if name in p.attributes)
            flag = isinstance(other.attributes[name], bool)
        if _says(product, phrase):
            continue
        subject, context = _subject(product, rng)
        question = rng.choice(_POLAR if flag else _FACT).format(phrase=phrase, subject=subject)
        yield MadeQuestion(
            question=question, product_id=product.product_id, context=context, attribute="", value="", verdict=""
        )


def _says(product: Product, phrase: str) -> bool:
    """Whether the product's texts or the names of its attributes have most of a phrase's words."""
    said = {word.stem for passage in passages(product) for word in words_of(passage.text)}
    said |= {stem(word) for name in product.attributes for word in name_words(name)}
    wanted = [word.stem for word in words_of(phrase) if len(word.text) > 2]
    return not wanted or sum(word in said for word in wanted) >= 0.5 * len(wanted)


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """A question, its answer, whether that is right, and what it took."""

    question: MadeQuestion
    answer: Answer
    right: bool
    ms: float


def asked(engine: SearchEngine, question: MadeQuestion) -> Outcome:
    """Asks a made question."""
    started = time.perf_counter()
    answer = engine.ask(question.question, product_id=question.context)
    ms = 1e3 * (time.perf_counter() - started)
    return Outcome(question, answer, is_right(question, answer), ms)


def is_right(question: MadeQuestion, answer: Answer) -> bool:
    """Whether the very value of the field is cited, with the right verdict; of the others, whether nothing is said."""
    if not question.attribute:
        return answer.kind == "abstention"
    fields = question.attribute.split("|")
    cited = any(
        question.product_id in ("", one.product_id)
        and one.field.removeprefix("attributes.").split("[")[0] in fields
        and (not question.value or one.text == question.value)
        for one in answer.evidence
    )
    return answer.kind in ("fact", "yes_no") and cited and (answer.verdict or "") == question.verdict


def baselines(
    engine: SearchEngine, products: Sequence[Product], questions: Sequence[MadeQuestion]
) -> dict[str, list[Outcome]]:
    """What citing the passage with the most words, or the nearest, of the right product would be worth; and what saying
    nothing, the commonest right answer there is.
    """
    by_id = {product.product_id: product for product in products}
    embed = open_encoder(EngineConfig())
    assert embed is not None
    out: dict[str, list[Outcome]] = {"words": [], "cosine": [], "majority": []}
    for question in questions:
        found = list(_told(by_id[question.product_id]))
        asked_words = {word.stem for word in words_of(question.question)}
        overlap = [len(asked_words & {word.stem for word in words_of(text)}) for text, _ in found]
        vector = embed.encode_queries([question.question])[0]
        cosines = embed.encode_queries([text for text, _ in found]) @ vector
        polar = bool(question.verdict) or question.question.lower().startswith(("does", "is"))
        for name, scores in (("words", overlap), ("cosine", cosines.tolist())):
            passage = found[max(range(len(found)), key=scores.__getitem__)][1]
            answer = Answer(
                kind="yes_no" if polar else "fact", text=passage.text, code="answered", confidence=1.0, reason=name,
                verdict="yes" if polar else None, evidence=(passage.evidence(),),
            )  # fmt: skip
            out[name].append(Outcome(question, answer, is_right(question, answer), 0.0))
        silent = Answer(kind="abstention", text="", code="not_said", confidence=1.0, reason="majority")
        out["majority"].append(Outcome(question, silent, is_right(question, silent), 0.0))
    return out


def _told(product: Product) -> Iterator[tuple[str, Passage]]:
    """A product's passages as sentences, attributes with their names before them."""
    for passage in passages(product):
        name = passage.field.removeprefix("attributes.").split("[")[0].replace("_", " ")
        yield (f"{name}: {passage.text}" if passage.field.startswith("attributes.") else passage.text), passage
