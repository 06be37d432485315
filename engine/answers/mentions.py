"""Which products a question is about: names of models in it, whether the catalog has them or not.

A name is a run of words that some product's own name has all of, and that has a model's code ("S24", "Fold5") or a word
that is of no attribute and not of everyday English ("Odyssey"). Who says "Ultra" means no other variant; who says no
variant means the plain one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile

import numpy as np

from engine.analysis.units import UNITS
from engine.answers.attributes import AttributeIndex
from engine.answers.lexicon import WORDS
from engine.answers.wording import words_of
from engine.families.store import ProductFamilies
from engine.families.words import shipped_words
from engine.product import Product
from engine.types import Rows
from engine.understanding.everyday import COMMON
from engine.understanding.words import GRAMMAR, Token, tokens

_MEASURE = re.compile(r"\d+(?:[.,]\d+)*([a-z]+)")
_FEW = 60  # products, or
_RARE = 0.08  # share of the catalog, that a name without a code may stand for
_READ = 16  # words of a title
_PLUS = "plus"
_TITLES = 200  # of the products that a run of words may mean, which are compared with the question
_LEAST_TITLE = 2  # words of a title that stands in a question whole
_SHORT = 3  # words of a value
_PROSE = 25  # products in whose texts a word is looked for


@dataclass(frozen=True, slots=True, eq=False)
class Mention:
    """``question[start:end]`` names products: ``rows``, ascending, none where the catalog lacks them.

    ``exact`` says that a model's code or a whole title is said, not only a series.
    """

    text: str
    start: int
    end: int
    rows: Rows
    exact: bool

    @property
    def known(self) -> bool:
        return len(self.rows) > 0


class NameFinder:
    """Finds names in questions to one index. Thread-safe."""

    def __init__(
        self, families: ProductFamilies, attributes: AttributeIndex, products: Callable[[Rows], Sequence[Product]],
        n_products: int, brands: frozenset[str],
    ) -> None:  # fmt: skip
        self._families, self._attributes, self._products = families, attributes, products
        self._most = max(_FEW, _RARE * n_products)
        self._brands = brands
        words = shipped_words()
        self._variants = words.names.variants
        self._makers = words.makers.words
        self._elsewhere = {text for entry in words.elsewhere.values() for text in entry.words}
        self._is_proper = lru_cache(maxsize=10_000)(self._proper)

    def find(self, question: str) -> list[Mention]:
        """The names in a question, in order."""
        found = tokens(question)
        mentions: list[Mention] = []
        at = 0
        while at < len(found):
            mention, after = self._at(question, found, at)
            if mention is not None:
                mentions.append(mention)
            at = after
        return mentions

    def _at(self, question: str, found: Sequence[Token], at: int) -> tuple[Mention | None, int]:
        """The name that begins at a word, if one does, and where to read on."""
        end = self._foreign_end(found, at)
        if self._starts_elsewhere(found, at) and not (end == at + 1 and self._is_property(found[at].text)):
            return self._mention(question, found, at, end, np.empty(0, np.int64), exact=True), end
        text = found[at].text
        if text in GRAMMAR or text in WORDS.question.carrier or text in WORDS.intent.compatible or len(text) < 2:
            return None, at + 1
        rows, end = self._run(found, at)
        if not len(rows):
            if self._is_foreign_code(found[at]):
                end = self._foreign_end(found, at)
                return self._mention(question, found, at, end, rows, exact=True), end
            return None, at + 1
        if whole := self._titled(found, at, rows):
            return self._mention(question, found, at, at + whole[1], whole[0], exact=True), at + whole[1]
        end = self._trimmed(found, at, end)
        run = found[at:end]
        coded = [place for place in range(at, end) if self._is_code(found, place, end)]
        if not coded and not any(self._is_proper(token.text) for token in run):
            return None, at + 1
        rows = self._rows(run)
        lacking = end < len(found) and self._is_another(question, found, end)
        if lacking and not coded and len(self._families.rows(found[end].text)):
            return None, at + 1  # "travel adapter EP-T4510": the code is another thing's, which the words describe
        if lacking:
            end = self._foreign_end(found, end)
            return self._mention(question, found, at, end, np.empty(0, np.int64), exact=True), end
        if coded:
            kept = self._of_variant(question, found, end, coded[-1], rows)
            return self._mention(question, found, at, end, kept, exact=True), end
        if len(rows) > self._most:
            return None, end
        return self._mention(question, found, at, end, self._of_one_kind(rows), exact=False), end

    def _mention(
        self, question: str, found: Sequence[Token], at: int, end: int, rows: Rows, *, exact: bool
    ) -> Mention:  # fmt: skip
        start, stop = found[at].start, found[end - 1].end
        stop += question[stop : stop + 1] == "+"
        return Mention(question[start:stop], start, stop, rows, exact)

    # -------------------------------------------------------------------------------------------- runs of known words

    def _run(self, found: Sequence[Token], at: int) -> tuple[Rows, int]:
        """The longest run of words from ``at`` on that some product's own name has, and that product's rows."""
        rows, end = np.empty(0, np.int64), at
        while end < len(found):
            both, step = self._next(found, end, rows if end > at else None)
            if not len(both):
                break
            rows, end = both, end + step
        return rows, end

    def _next(self, found: Sequence[Token], at: int, rows: Rows | None) -> tuple[Rows, int]:
        """The rows that have the next word too, or it and the number after it as one; and how many words that is."""
        joined = found[at].text + found[at + 1].text if at + 1 < len(found) and found[at + 1].text.isdigit() else ""
        for word, step in ((joined, 2), (found[at].text, 1)):
            if word and (step == 1 or (word in self._families and len(found[at + 1].text) <= 3)):
                having = self._families.rows(word)
                both = having if rows is None else np.intersect1d(rows, having, assume_unique=True)
                if len(both):
                    return both, step
        return np.empty(0, np.int64), 1

    def _titled(self, found: Sequence[Token], at: int, rows: Rows) -> tuple[Rows, int] | None:
        """The rows whose whole title stands at a word, the longest such, and of how many words it is."""
        said = [token.text for token in found[at:]]
        best: list[int] = []
        most = _LEAST_TITLE - 1
        for row, product in zip(rows.tolist(), self._products(rows[:_TITLES]), strict=False):
            title = [token.text for token in tokens(product.title)]
            if title == said[: len(title)] and len(title) >= most:
                best = [*(best if len(title) == most else []), row]
                most = len(title)
        return (np.array(best, np.int64), most) if best else None

    def _rows(self, run: Sequence[Token]) -> Rows:
        return self._run(run, 0)[0]

    def _trimmed(self, found: Sequence[Token], at: int, end: int) -> int:
        """Where the run ends without the names of attributes at its end: in "S24 storage" they are what is asked."""
        while end > at + 1:
            last, before = found[end - 1], found[end - 2]
            word = next(iter(words_of(last.text)), None)
            if last.text in GRAMMAR or last.text in WORDS.question.carrier:
                end -= 1
                continue
            measured = _MEASURE.fullmatch(before.text) or before.text.isdigit() or before.text in UNITS
            if word is None or measured or not self._attributes.names(word) or self._is_code(found, end - 1, end):
                break
            if last.text in self._variants:
                break
            end -= 1
        return end

    # ------------------------------------------------------------------------------------------------ what words are

    def _is_code(self, found: Sequence[Token], at: int, end: int) -> bool:
        """Whether a word is a model's code, or with the number after it one: no measure, no value of an attribute."""
        text = found[at].text
        if text.isalpha() and at + 1 < end and found[at + 1].text.isdigit():
            own = text not in self._brands and text not in UNITS and not self._is_value(text)  # "USB 3", "Windows 11"
            numbered = own and not self._measures(found, at + 1)
            return numbered and text + found[at + 1].text in self._families
        if text.isdigit() and at + 1 < end and found[at + 1].text in self._variants:  # "990 PRO"
            return len(text) > 1 and not self._measures(found, at)
        if text.isalpha() or text.isdigit() or self._is_value(text):
            return False
        measure = _MEASURE.fullmatch(text)
        return not (measure and measure[1] in UNITS)

    def _is_value(self, text: str) -> bool:
        """Whether a word is of some attribute's values, such as colours and networks; of long ones ("Snapdragon 8 Elite
        for Galaxy") a word may well be a name.
        """
        return self._attributes.has_value(text, _SHORT)

    def _is_property(self, text: str) -> bool:
        """Whether a word that may name another maker's thing says what things have ("pixel")."""
        return text in WORDS.groups or any(map(self._attributes.names, words_of(text)))

    def _is_foreign_code(self, token: Token) -> bool:
        """Whether a word looks like a model's code that no product has: letters, then digits."""
        text = token.text
        if self._is_value(text) or text in UNITS or not re.fullmatch(r"[a-z]{1,6}\d{1,5}[a-z0-9]*", text):
            return False
        word = next(iter(words_of(text)), None)
        return word is not None and not self._attributes.names(word)

    def _proper(self, text: str) -> bool:
        """Whether a word is a proper name: never written small in the texts of the products that are named by it."""
        if text in COMMON or text in GRAMMAR or text in self._brands or text in self._variants or len(text) < 4:
            return False
        word = next(iter(words_of(text)), None)
        if word is None or not text.isalpha() or self._attributes.names(word) or text in WORDS.question.modifier:
            return False
        if self._is_value(text):
            return False
        small = re.compile(rf"\b{re.escape(text)}(?:s|es)?\b")
        shouted = re.compile(rf"\b{re.escape(text.upper())}\b")
        products = self._products(self._families.rows(text)[:_PROSE])
        texts = ["\n".join((product.title, product.description, *product.bullets)) for product in products]
        return not any(small.search(prose) for prose in texts) and not all(shouted.search(prose) for prose in texts)

    def _starts_elsewhere(self, found: Sequence[Token], at: int) -> bool:
        """Whether another maker's thing is named, which no product has in its own name."""
        pair = " ".join(token.text for token in found[at : at + 2])
        for text in (pair, found[at].text):
            known = all(word in self._families for word in text.split())
            if text in self._elsewhere and not known:
                return True
        text = found[at].text
        maker = text in self._makers and text not in self._brands and text not in self._families
        return maker and at + 1 < len(found) and self._starts_elsewhere(found, at + 1)

    def _foreign_end(self, found: Sequence[Token], at: int) -> int:
        """Where the name of what is not here ends: after the numbers, codes and variants that follow."""
        end = at + 1
        while end < len(found):
            text = found[end].text
            beside = found[end].start - found[end - 1].end <= 1
            numbered = text.isdigit() or (any(c.isdigit() for c in text) and not self._is_value(text))
            known = text in self._variants or text in self._elsewhere
            if not beside or not (known or (numbered and not self._measures(found, end))):
                break
            end += 1
        return end

    def _measures(self, found: Sequence[Token], at: int) -> bool:
        """Whether a number is a measure's."""
        match = _MEASURE.fullmatch(found[at].text)
        after = found[at + 1].text if at + 1 < len(found) else ""
        return bool(match and match[1] in UNITS) or (found[at].text.isdigit() and after in UNITS)

    def _is_another(self, question: str, found: Sequence[Token], at: int) -> bool:
        """Whether the word after a run makes it the name of another model: a variant, a code or a number."""
        token, before = found[at], found[at - 1]
        if question[before.end : token.start].strip(" -"):
            return False
        if token.text in self._variants and token.text not in COMMON:
            return True
        if token.text.isdigit():
            return len(token.text) <= 2 and not self._measures(found, at)
        return self._is_foreign_code(token)

    # -------------------------------------------------------------------------------------------------- which of them

    def _of_variant(self, question: str, found: Sequence[Token], end: int, code: int, rows: Rows) -> Rows:
        """Those of the variant that is said after the code, none where only others are there."""
        joined = found[code].text.isalpha()  # "fold 5"
        name = found[code].text + (found[code + 1].text if joined else "")
        after = [token.text for token in found[code + 1 + joined : end]]
        said = set(takewhile(self._variants.__contains__, after))
        if any(question[token.end : token.end + 1] == "+" for token in found[code:end]):
            said.add(_PLUS)
        have = [self._variant(product.title, name) for product in self._products(rows)]
        exact = np.array([of is None or of == said for of in have], np.bool_)
        return self._of_one_kind(rows[exact]) if exact.any() else np.empty(0, np.int64)

    def _variant(self, title: str, code: str) -> set[str] | None:
        """The variant's words of the name in a title, None where the code stands in none ("SM-S938B")."""
        found = tokens(title)[:_READ]
        for place, token in enumerate(found):
            joined = token.text + found[place + 1].text if place + 1 < len(found) else ""
            if code in (token.text, joined):
                after = place + (2 if joined == code else 1)
                variant = {_PLUS} if title[found[after - 1].end : found[after - 1].end + 1] == "+" else set()
                while after < len(found) and found[after].text in self._variants:
                    variant.add(found[after].text)
                    after += 1
                # "Galaxy Tab S9 FE+": the plus stands after the last of them.
                if title[found[after - 1].end : found[after - 1].end + 1] == "+":
                    variant.add(_PLUS)
                return variant
        return None

    def _of_one_kind(self, rows: Rows) -> Rows:
        """Those of the commonest root category: not the cases that are named after phones."""
        products = self._products(rows)
        roots = [product.category[0] if product.category else "" for product in products]
        [(best, _)] = Counter(roots).most_common(1)
        return rows[np.array([root == best for root in roots], np.bool_)]
