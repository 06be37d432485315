"""Answers questions to one index: reads the question, finds its products, asks the readers in turn, checks the answer.

``policy → question → products → structured → sentences → documents → checks``. Where nothing says it, it says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec
import numpy as np

from engine.answers.attributes import AttributeIndex
from engine.answers.checks import checked
from engine.answers.cited import DocumentReader
from engine.answers.classifier import QuestionModel, shipped_model
from engine.answers.comparison import Compared, Side, alike, compare
from engine.answers.evidence import EvidenceModel
from engine.answers.fields import value_passages
from engine.answers.finding import Finding, title_of
from engine.answers.lexicon import WORDS
from engine.answers.mentions import Mention, NameFinder
from engine.answers.numbers import NUMBERS, AnswerNumbers
from engine.answers.reading import Question, is_polite, read_question, wish_of
from engine.answers.recommend import recommend
from engine.answers.records import Answer, Code, Kind, TableRow
from engine.answers.shop import Shop
from engine.answers.structured import StructuredReader
from engine.answers.texts import TextReader
from engine.answers.written import Writer, rewritten
from engine.cards import ProductCard
from engine.errors import InvalidQueryError
from engine.languages.translate import Translated
from engine.product import Product
from engine.types import Rows, SearchResult

Search = Callable[[str, int], SearchResult]
_OFFERED = 3  # products that are offered where none was named, or what was is not here
_MOST_READ = 24  # products of one name that are read
_MOST_SIDES = 3
_UNANSWERED = ("not_said", "which_product", "no_such_product", "search")
_COMPARING = WORDS.intent.compare | WORDS.intent.comparing | WORDS.intent.best | {"between"}
_ASKS = re.compile(r"\W*(?:how|what|where|why|who|when)\b", re.IGNORECASE)
_POINTS = re.compile(r"\b(?:the|this|these|my|please|pls)\b", re.IGNORECASE)
_LONGEST_NAME = 60  # characters of a name that the catalog lacks


class Answerer:
    """Answers questions to one index. Thread-safe."""

    def __init__(self, shop: Shop, numbers: AnswerNumbers = NUMBERS, model: QuestionModel | None = None) -> None:
        self._shop, self._policy, self._numbers = shop, shop.policy, numbers
        self._model = model or shipped_model()
        self._attributes = AttributeIndex(shop.columns, shop.embed, shop.policy.usable)
        self._names = NameFinder(shop.families, self._attributes, shop.products, len(shop.columns), shop.brand_words)
        self._structured = StructuredReader(self._attributes, numbers)
        self._texts = TextReader(numbers, shop.policy.usable)
        self._documents = None
        if shop.documents and shop.embed:
            model_of_evidence = EvidenceModel.shipped(shop.embed)
            self._documents = DocumentReader(shop.documents, model_of_evidence, numbers, shop.policy.usable)

    def ask(self, text: str, search: Search, product_id: str = "", writer: Writer | None = None) -> Answer:
        """The answer to a question, about the product ``product_id`` where it names none.

        ``search`` is the engine's own. A text that is no question is answered with what it finds. ``writer`` may put
        the answer into other words. Raises InvalidQueryError where the index has no such product.
        """
        answer = self._asked(text, search, product_id)
        if writer is None:
            return answer
        return rewritten(answer, self._policy.without_instructions(text), writer, self._policy)

    def _asked(self, text: str, search: Search, product_id: str) -> Answer:
        told = self._policy.without_instructions(text)
        if self._shop.translator and (read := self._shop.translator.read(told)):
            return self._translated(told, read, search, product_id)
        if not any(c.isalnum() for c in told):
            if told != text:
                return self._refusal("instructions")
            return _plain("abstention", "What would you like to know?", "nothing_asked")
        context = self._context(product_id)
        question = self._read_question(told, context)
        is_question = self._model.asks(told) or bool(question.sides) or (bool(context) and _is_of_it(told))
        asks = is_question or _ASKS.match(told) is not None
        if asks and not question.mentions and (topic := self._policy.topic_of(told)):
            return self._refusal("refused_topic", topic)
        if not is_question and not (context or question.mentions):
            return self._found(told, search, "this reads as a search")
        answer = self._checked(self._answer(question, context, search, is_question))
        return self._respelt(answer, told, context, search) or answer

    def _translated(self, told: str, read: Translated, search: Search, product_id: str) -> Answer:
        """The answer to a question in another language, read in English; what is searched for is searched as typed."""
        whole = (read.text, wish_of(read.text))

        def as_typed(text: str, k: int) -> SearchResult:
            return search(told if text in whole else text, k)

        answer = self._asked(read.text, as_typed, product_id)
        known = ", ".join(dict.fromkeys(one.english for one in read.translations))
        return msgspec.structs.replace(answer, reason=f"{answer.reason}; read in English by the words {known}")

    def _read_question(self, text: str, context: tuple[Product, ...]) -> Question:
        if not context:
            return read_question(text, self._names)
        pointed = bool(self._structured.finder.subject.pointed(text, context[0]))
        at_hand = self._shop.columns.row(context[0].product_id)
        return read_question(text, self._names, pointed=pointed, at_hand=at_hand)

    def _respelt(
        self, answer: Answer, told: str, context: tuple[Product, ...], search: Search
    ) -> Answer | None:  # fmt: skip
        """The answer to the question as the catalog spells its words, where as typed it has none; None where that has
        none either.
        """
        if answer.code not in _UNANSWERED or (meant := self._shop.correct(told)) == told:
            return None
        again = self._checked(self._answer(self._read_question(meant, context), context, search, True))
        if again.code in _UNANSWERED or again.kind == "refusal":
            return None
        return msgspec.structs.replace(again, reason=f"{again.reason}; some words were read as the catalog spells them")

    # -------------------------------------------------------------------------------------------------- by the intent

    def _answer(self, question: Question, context: tuple[Product, ...], search: Search, is_question: bool) -> Answer:
        if question.intent == "comparison":
            return self._comparison(question, context, search)
        if question.intent == "recommendation" or not (question.mentions or context):
            return self._about_none(question, search)
        products = self._structured.finder.narrowed(question, self._subjects(question, context))
        if not products:
            return self._no_such(self._sayable(question, question.mentions[0].text), search)
        foreign = [mention for mention in question.mentions if not mention.known]
        if question.intent == "compatibility" or foreign:
            # Who asks about a thing and another maker's asks whether they go together, whatever the words are.
            names = foreign or list(question.mentions[0 if context else 1 :])
            fits = self._structured.fits(names[0].text, products) if names else None
            if fits is not None or foreign:
                return self._said(fits) if fits else self._silent(question, products)
        found = self._read(question, products)
        if found is not None:
            return self._said(found)
        if not is_question:
            return self._found(question.text, search, "this reads as a search")
        if question.intent == "opinion" and (found := self._opinion(products)):
            return self._said(found)
        return self._silent(question, products)

    def _read(self, question: Question, products: tuple[Product, ...]) -> Finding | None:
        """What a reader finds; a sentence comes before a list that leaves the question open."""
        found = self._structured.read(question, products)
        if found is not None and found.code != "not_said":
            return found
        readings = self._structured.finder.readings(question, products)
        told = (self._texts.read(question, asked, products) for asked in readings)
        return next(filter(None, told), None) or self._cited(question, products) or found

    def _cited(self, question: Question, products: Sequence[Product]) -> Finding | None:
        return self._documents.read(question, products) if self._documents else None

    def _comparison(self, question: Question, context: tuple[Product, ...], search: Search) -> Answer:
        sides = [self._side(question, side) for side in question.sides[:_MOST_SIDES]]
        if len(sides) < 2 and context:
            sides = [Side(title_of(context[0]), context), *sides]
        known = [side for side in sides if side.products]
        missing = tuple(side.name for side in sides if not side.products)
        if not known:
            return self._no_such(missing[0], search) if missing else self._offer(search(question.text, _OFFERED))
        if not missing and len(known) > 1:
            compared = self._compared(question, alike(known))
            return self._said(compared.finding, compared.table)
        if not missing:
            return self._offer(search(question.text, _OFFERED))
        [first, *_] = known
        nearest = self._nearest(missing[0], search, first.products[0])
        offered = (first.products[0], *nearest)
        beside = [Side(title_of(product), (product,)) for product in offered[:2]]
        compared = self._compared(question, beside)
        text = f"The shop does not have {missing[0]}."
        if nearest:
            text = f"{text} The nearest it has is {title_of(nearest[0])}. {compared.finding.text}"
        finding = Finding(
            "comparison", text, "no_such_product", compared.finding.confidence, "one of the two is not in the catalog",
            None, offered, compared.finding.evidence, compared.finding.fields,
        )  # fmt: skip
        return self._said(finding, compared.table, missing)

    def _compared(self, question: Question, sides: Sequence[Side]) -> Compared:
        """The sides side by side, what the question asks about first."""
        asked = [word for word in question.asked if word.text not in _COMPARING]
        meant = (
            self._structured.finder.meant(asked, [side.products[0] for side in sides], polar=False) if asked else None
        )
        fields = (meant.attribute.field,) if meant else ()
        return compare(sides, self._attributes, self._numbers.table_confidence, fields)

    def _side(self, question: Question, side: Mention | str) -> Side:
        name = self._sayable(question, side if isinstance(side, str) else side.text)
        return Side(name, () if isinstance(side, str) else self._trusted(side.rows))

    def _sayable(self, question: Question, name: str) -> str:
        """A name that the catalog lacks, as an answer may repeat it."""
        return name[:_LONGEST_NAME] if self._policy.usable(question.text) else "the other"

    def _opinion(self, products: tuple[Product, ...]) -> Finding | None:
        """What customers' ratings say, for the catalog has no opinion."""
        product = products[0]
        rating = value_passages(product, "rating")
        if not rating:
            return None
        count = value_passages(product, "rating_count")
        by = f" ({count[0].text} ratings)" if count else ""
        text = f"The catalog has no opinion. Customers rate {title_of(product)} {rating[0].text} out of 5{by}."
        evidence = tuple(passage.evidence() for passage in (*rating, *count))
        return Finding(
            "fact", text, "opinion", self._numbers.text_confidence, "customers' ratings", None, (product,), evidence
        )

    # ------------------------------------------------------------------------------------------- which products it is

    def _subjects(self, question: Question, context: tuple[Product, ...]) -> tuple[Product, ...]:
        """The products it is about: the one at hand where it speaks of "it", else those with the longest name."""
        if context and (question.about_it or not question.mentions):
            return context
        if question.intent == "compatibility":
            return self._trusted(question.mentions[0].rows)
        known = [mention for mention in question.mentions if mention.known]
        exact = [mention for mention in known if mention.exact]
        if not known:
            return ()
        return self._trusted(max(exact or known, key=lambda mention: mention.end - mention.start).rows)

    def _context(self, product_id: str) -> tuple[Product, ...]:
        if not product_id:
            return ()
        row = self._shop.columns.row(product_id)
        if row is None:
            raise InvalidQueryError(f"the index has no product {product_id!r}; give the product_id of one that it has")
        return self._trusted(np.array([row]))

    def _trusted(self, rows: Rows) -> tuple[Product, ...]:
        return tuple(self._policy.trusted_product(product) for product in self._shop.products(rows[:_MOST_READ]))

    # ------------------------------------------------------------------------------------------------ without a reader

    def _about_none(self, question: Question, search: Search) -> Answer:
        """A question that names no product: a wish is answered with products, of others the nearest are offered."""
        if question.intent == "support":
            if found := self._cited(question, ()):
                return self._said(found)
            return _plain("abstention", "The shop's catalog does not say. Please ask its service.", "no_document")
        wishes = question.intent == "recommendation"
        result = search(wish_of(question.text) if wishes else question.text, self._policy.answers.max_products)
        lacking = result.route is None or bool(result.route.nearest)
        if lacking and self._policy.off_domain.refuse and self._shop.is_foreign(question.text):
            return self._refusal("off_domain")
        if wishes:
            recommended = recommend(result, self._attributes, self._policy, self._numbers.text_confidence)
            if recommended is not None:
                return self._said(recommended)
        return self._offer(result)

    def _offer(self, result: SearchResult) -> Answer:
        cards = tuple(ProductCard.of(self._policy.trusted_product(hit.product)) for hit in result.hits[:_OFFERED])
        text = "Which product do you mean?" if cards else "I found no product that this is about."
        return Answer(
            kind="abstention", text=text, code="which_product", confidence=self._numbers.silent_confidence,
            reason="the question names no product of the catalog", products=cards,
        )  # fmt: skip

    def _no_such(self, name: str, search: Search) -> Answer:
        """The catalog lacks what is named: the nearest there is, and no word about the other."""
        nearest = self._nearest(name, search)
        text = f"The shop does not have {name}."
        if nearest:
            text += f" The nearest it has is {title_of(nearest[0])}."
        cards = tuple(map(ProductCard.of, nearest))
        return Answer(
            kind="abstention", text=text, code="no_such_product", confidence=self._numbers.silent_confidence,
            reason="no product of the catalog has that name", products=cards, missing=(name,),
        )  # fmt: skip

    def _nearest(self, name: str, search: Search, beside: Product | None = None) -> tuple[Product, ...]:
        """The nearest products to a name; with ``beside``, other ones of its kind."""
        hits = [hit.product for hit in search(name, 4 * _OFFERED).hits]
        if beside is not None:
            alike = [p for p in hits if p.category[:1] == beside.category[:1] and p.product_id != beside.product_id]
            hits = [p for p in alike if p.model != beside.model or not p.model] or alike
        return tuple(self._policy.trusted_product(product) for product in hits[:_OFFERED])

    def _silent(self, question: Question, products: Sequence[Product]) -> Answer:
        """An abstention: the products are known, and say nothing of what is asked."""
        support = question.intent == "support"
        about = title_of(products[0])
        text = (
            "The shop's catalog does not say. Please ask its service."
            if support
            else f"The catalog does not say that of {about}."
        )
        if question.intent == "opinion":
            text = f"The catalog has no opinion of {about}."
        code: Code = "no_document" if support else "not_said"
        return Answer(
            kind="abstention", text=text, code=code, confidence=self._numbers.silent_confidence,
            reason="no field of the product says it", products=tuple(map(ProductCard.of, products[:_OFFERED])),
        )  # fmt: skip

    def _found(self, text: str, search: Search, reason: str) -> Answer:
        """What a search finds, as an answer."""
        result = search(text, self._policy.answers.max_products)
        found = recommend(result, self._attributes, self._policy, self._numbers.text_confidence)
        if found is None:
            return _plain("abstention", "I found no product for that.", "search")
        return self._checked(self._said(replace(found, code="search", reason=reason)))

    # --------------------------------------------------------------------------------------------------------- records

    def _refusal(self, code: Code, topic: str = "") -> Answer:
        policy = self._policy
        reply = {"off_domain": policy.off_domain.reply, "instructions": policy.instructions.reply}.get(code)
        text = policy.topic[topic].reply if topic else reply or policy.off_domain.reply
        reasons = {
            "off_domain": "nothing in the catalog is near the question",
            "instructions": "the text gives instructions and asks nothing",
            "refused_topic": f"the shop's policy refuses questions of the topic {topic}",
        }
        return Answer(
            kind="refusal",
            text=text,
            code=code,
            confidence=self._numbers.silent_confidence,
            reason=reasons[code],
            topic=topic,
        )

    def _said(self, found: Finding, table: tuple[TableRow, ...] = (), missing: tuple[str, ...] = ()) -> Answer:
        return Answer(
            kind=found.kind, text=found.text, code=found.code, confidence=found.confidence, reason=found.reason,
            verdict=found.verdict, products=tuple(ProductCard.of(product, found.fields) for product in found.products),
            evidence=found.evidence, table=table, missing=missing,
        )  # fmt: skip

    def _checked(self, answer: Answer) -> Answer:
        """The answer as far as it holds, against the products as they are stored."""
        ids = {card.product_id for card in answer.products} | {one.product_id for one in answer.evidence}
        rows = [row for row in map(self._shop.columns.row, ids) if row is not None]
        products = {product.product_id: product for product in self._shop.products(np.array(rows, np.int64))}
        return checked(answer, products, self._policy, self._documents.text if self._documents else lambda _: None)


def _is_of_it(text: str) -> bool:
    """Whether a text beside a product asks about it, as no search does: with a question mark, politely, or of "the"."""
    return text.rstrip().endswith("?") or is_polite(text) or _POINTS.search(text) is not None


def _plain(kind: Kind, text: str, code: Code) -> Answer:
    return Answer(kind=kind, text=text, code=code, confidence=1.0, reason=text)
