"""The reader of documents: passages found by words and by meaning, judged by the evidence model, and quoted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from engine.answers.evidence import Candidate, EvidenceModel, Source
from engine.answers.fields import Passage
from engine.answers.finding import Finding, title_of
from engine.answers.numbers import AnswerNumbers
from engine.answers.reading import Question
from engine.answers.records import Kind
from engine.answers.wording import Word, words_of
from engine.documents import DocumentKind, DocumentPassage, DocumentStore
from engine.product import Product

_FOUND = 20  # passages by words, and as many by meaning, that are judged
_SOURCES: dict[DocumentKind, Source] = {
    "manual": "description", "faq": "answer", "review": "review", "policy": "description",
}  # fmt: skip


class DocumentReader:
    """Reads the documents of one index. Thread-safe. ``usable`` says whether a passage may be evidence."""

    def __init__(
        self, store: DocumentStore, model: EvidenceModel, numbers: AnswerNumbers, usable: Callable[[str], bool]
    ) -> None:  # fmt: skip
        self._store, self._model, self._numbers, self._usable = store, model, numbers, usable
        self._having: dict[str, list[int]] = defaultdict(list)
        for row, passage in enumerate(store.passages):
            text = f"{passage.title} {passage.question} {passage.text}"
            for stem in {word.stem for word in words_of(text)}:
                self._having[stem].append(row)

    def text(self, document: str) -> str | None:
        """The text of a passage, None where there is none of the id."""
        passage = self._store.by_id.get(document)
        return passage.text if passage else None

    def read(self, question: Question, products: Sequence[Product]) -> Finding | None:
        """What the passages about the products say; for a question about the shop's service those about none as well.

        None where none is probable enough.
        """
        about = {product.product_id for product in products}
        support = question.intent == "support"
        rows = [
            row for row in self._found(question)
            if self._store.passages[row].product_id in about or (support and not self._store.passages[row].product_id)
        ]  # fmt: skip
        usable = [row for row in rows if self._usable(self._store.passages[row].text)]
        if not usable:
            return None
        candidates = [_candidate(self._store.passages[row]) for row in usable]
        chances = self._model.probabilities(question.text, candidates)
        best = int(np.argmax(chances))
        share, chance = self._share(question.asked, candidates[best]), float(chances[best])
        if support and share >= self._numbers.least_support_share and chance >= self._numbers.least_support:
            # The shop's own words on what is asked by name: the model, which learnt from reviews, thinks less of them.
            return self._finding(question, products, candidates[best], usable[best], self._numbers.text_confidence)
        if chance < self._model.threshold or not share:
            return None
        return self._finding(question, products, candidates[best], usable[best], chance)

    def _found(self, question: Question) -> list[int]:
        """Rows by words and by meaning, each the best first."""
        counts: dict[int, float] = defaultdict(float)
        for stem in {word.stem for word in question.asked}:
            having = self._having.get(stem, ())
            for row in having:
                counts[row] += 1 / len(having)
        by_words = sorted(counts, key=lambda row: (-counts[row], row))[:_FOUND]
        by_meaning: list[int] = []
        if self._store.vectors is not None:
            by_meaning = np.argsort(-(self._store.vectors @ self._model.vector(question.text)))[:_FOUND].tolist()
        return list(dict.fromkeys((*by_words, *by_meaning)))

    @staticmethod
    def _share(asked: Sequence[Word], candidate: Candidate) -> float:
        """The share of the asked words that a passage has: what is only like them may be of another thing."""
        said = {word.stem for word in words_of(candidate.whole)}
        return sum(word.stem in said for word in asked) / len(asked) if asked else 1.0

    def _finding(
        self, question: Question, products: Sequence[Product], candidate: Candidate, row: int, chance: float
    ) -> Finding:  # fmt: skip
        passage = self._store.passages[row]
        evidence = (candidate.passage.evidence(),)
        shown = tuple(p for p in products if p.product_id == passage.product_id) or tuple(products[:1])
        quoted = f"“{passage.text}”"
        about = f" ({title_of(shown[0])})" if shown and passage.product_id else ""
        reason = f"the {passage.kind} {passage.id} says it"
        if question.intent == "support":
            return Finding("support", f"{quoted}{about}", "answered", chance, reason, None, shown, evidence)
        verdict = self._model.verdict(question.text, candidate) if question.polar else None
        lead = "A customer says: " if passage.kind == "review" else f"{verdict.capitalize()}: " if verdict else ""
        kind: Kind = "yes_no" if verdict else "fact"
        return Finding(kind, f"{lead}{quoted}{about}", "answered", chance, reason, verdict, shown, evidence)


def _candidate(passage: DocumentPassage) -> Candidate:
    place = Passage(passage.product_id, "text", passage.text, 0, passage.id)
    return Candidate(place, _SOURCES[passage.kind], passage.question or passage.title)
