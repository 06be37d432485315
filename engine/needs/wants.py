"""From the words of a query to what it wants of products, and to types to choose among where it names none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np

from engine.analysis.analyzer import STOP_WORDS
from engine.columns import Columns
from engine.needs.categories import Categories, singular
from engine.needs.lexicon import Gradable, Lexicon
from engine.needs.match import Matcher, NeedWord, free_words
from engine.needs.measures import Measures
from engine.needs.numbers import NUMBERS, NeedNumbers
from engine.needs.uses import Uses, told
from engine.preferences import NO_WANTS, Preference, Scope, Wants, WantsOf, scope_of
from engine.product import Product
from engine.types import Candidates, Mask, Routed, Rows, Scores
from engine.understanding.everyday import is_everyday
from engine.understanding.understand import Understood
from engine.understanding.words import GRAMMAR, tokens

_TYPES = 3  # that a query without a type is answered with
_BESIDE = 3  # words after a direction that may name what it is of
_LEAST_HAVING = 2  # products that have a word which tells them apart, and less than this share of a type's:
_MOST_HAVING = 0.97
_TOLD = 3  # wants of a use that are named
_FIRST = 10  # products whose titles tell whether a word is a name there


@dataclass(frozen=True, slots=True)
class Reading:
    """A need word in a query, ``text``, and the words ``beside``, after it, which may name an attribute ("big screen").

    ``rest`` are the words of the whole query that no need takes, empty where one does; ``telling`` those of them that
    no synonym explains; ``typeless`` says that none of them could name a type.
    """

    word: NeedWord
    text: str
    beside: tuple[str, ...]
    rest: tuple[str, ...]
    telling: tuple[str, ...]
    typeless: bool

    @property
    def is_use(self) -> bool:
        return self.word.kind == "use"


class Needs:
    """The lexicon over one index. Thread-safe; what it learns of the index is kept."""

    def __init__(
        self, lexicon: Lexicon, columns: Columns, found: Callable[[str, int], Rows],
        products: Callable[[Rows], Sequence[Product]], numbers: NeedNumbers = NUMBERS,
    ) -> None:  # fmt: skip
        """``found`` gives the rows of products that have words of a text, the best first, and at most so many;
        ``products`` those of some rows.
        """
        self.lexicon, self.numbers, self._columns = lexicon, numbers, columns
        self._found, self._products = found, products
        self.measures = Measures(columns, lexicon.scale, numbers)
        self._categories = Categories(columns)
        self._matcher = Matcher(lexicon)
        self._rows_of = lru_cache(maxsize=256)(self._mask_of)
        self.uses = Uses(lexicon, columns, self.measures, found, numbers)

    def over(
        self, columns: Columns, found: Callable[[str, int], Rows], products: Callable[[Rows], Sequence[Product]],
        *, refiled: bool,
    ) -> Needs:  # fmt: skip
        """The same lexicon over an index that has changed; ``refiled`` says whether categories may have."""
        other = copy(self)
        other._columns, other._found, other._products = columns, found, products
        other.measures = Measures(columns, self.lexicon.scale, self.numbers)
        if refiled:
            other._categories = Categories(columns)
        other._rows_of = lru_cache(maxsize=256)(other._mask_of)
        other.uses = Uses(self.lexicon, columns, other.measures, found, self.numbers)
        return other

    @property
    def words(self) -> frozenset[str]:
        """The lexicon's own, which a speller must not take for slips."""
        return self._matcher.words

    def wants_of(
        self, understood: Understood, taken: Sequence[tuple[int, int]] = (), within: Scope | None = None
    ) -> WantsOf | None:
        """From a route, and what was found, best first, to what the query wants; None where it wants nothing more, but
        for what others read in its places ``taken``, from one to another. ``within`` is what others know it to be of.

        A word that most of the first titles have as well is part of a name there ("light bulb") and no need.
        """
        readings = self.read(understood, taken)
        if not readings:
            return None

        def wants(routed: Routed | None, found: Candidates) -> Wants:
            groups = self.scopes(readings) if within is None else ()
            scope = within or (_together(groups) if groups else self._scope(routed, readings[0]))
            best = found.rows[:_FIRST] if scope.rows is None else found.rows[:_FIRST][scope.rows[found.rows[:_FIRST]]]
            first = [product.title.lower() for product in self._products(best)]
            kept = [reading for reading in readings if self._asks(reading) and not self._is_named(reading, first)]
            wanted = _merged([self.of(kept, group) for group in groups or (scope,)])
            numbers = self.numbers
            return (
                Wants(wanted, scope.rows, groups, numbers.qualifying_share, numbers.unknown_fit) if wanted else NO_WANTS
            )

        return wants

    def named(self, understood: Understood) -> Mask | None:
        """The rows of the categories that a query names; None where it names none."""
        found = self._categories.named(free_words(understood))
        return found[1] if found else None

    def _scope(self, routed: Routed | None, reading: Reading) -> Scope:
        """The categories that the query names, or else the types that the router found; of these the products that have
        the query's other words, where some have and others have not ("cheapest 5g phone").

        Who wants a "phone" for something wants any, though it may be "Feature Phones" that the word is nearest to.
        """
        named = self._categories.named(reading.rest)
        scope = Scope(named[1], named[0]) if named else scope_of(routed)
        if scope.rows is None:
            return scope
        above = self._categories.above(scope.names[0]) if scope.names else None
        rows, before = scope.rows, ""
        for word in filter(None, reading.telling):
            # What names a type has been read already, whatever products are called.
            of_type = singular(word) in self._categories.words
            if (
                not of_type
                and not word.isdigit()
                and word not in GRAMMAR
                and word not in _EMPTY
                and not is_everyday(word, before)
            ):
                rows = self._having(word, rows, above)
            before = word
        return Scope(rows, scope.names)

    def _having(self, word: str, rows: Mask, above: Mask | None) -> Mask:
        """Those of ``rows``, or else of the category above, that have the word; ``rows`` where it tells nothing."""
        having = self._rows_of(word)
        inside = rows & having
        n = np.count_nonzero(inside)
        if n == 0 and above is not None:
            inside = above & having
            n = np.count_nonzero(inside)
        telling = _LEAST_HAVING <= n < _MOST_HAVING * np.count_nonzero(rows)
        return inside if telling else rows

    def _mask_of(self, word: str) -> Mask:
        mask = np.zeros(len(self._columns), np.bool_)
        mask[self._found(word, len(self._columns))] = True
        return mask

    def _asks(self, reading: Reading) -> bool:
        """Whether a use asks anything: that something is a gift says nothing more where the query names it."""
        return not (reading.is_use and self.lexicon.use[reading.word.name].general) or reading.typeless

    def _is_named(self, reading: Reading, titles: Sequence[str]) -> bool:
        if reading.is_use or reading.word.most or not titles:
            return False
        return sum(reading.text in title for title in titles) >= self.numbers.named_share * len(titles)

    def read(self, understood: Understood, taken: Sequence[tuple[int, int]] = ()) -> tuple[Reading, ...]:
        """The need words of a query, in its order; none where others have ``taken`` its places from one to another."""
        words = free_words(understood, taken, self.words)
        places = tokens(understood.corrected)
        found = self._matcher.find(words)
        needed = {place for word in found for place in range(word.start, word.end)}
        rest = tuple("" if place in needed else word for place, word in enumerate(words))
        typeless = all(w in STOP_WORDS or w in _EMPTY or self.measures.names_attribute(w) for w in rest)
        typeless = typeless and self._categories.named(rest) is None
        explained = {place for synonym in understood.synonyms for place in range(synonym.start, synonym.end)}
        telling = tuple("" if place in explained else word for place, word in enumerate(rest))
        readings = []
        for word in found:
            beside = tuple(filter(None, words[word.end : word.end + _BESIDE]))
            text = understood.corrected[places[word.start].start : places[word.end - 1].end].lower()
            readings.append(Reading(word, text, beside, rest, telling, typeless))
        return tuple(readings)

    def scopes(self, readings: Sequence[Reading]) -> tuple[Scope, ...]:
        """The types to look among for a query that names none: those of its uses, the best first."""
        uses = [self.lexicon.use[r.word.name] for r in readings if r.is_use and r.typeless]
        # Whom a gift is for says more of what it should be than that it is one.
        specific = [use for use in uses if use.types and not use.general] or uses
        words = dict.fromkeys(word for use in specific for word in use.types)
        return tuple(Scope(rows, (name,)) for name, rows in self._categories.called(words)[:_TYPES])

    def of(self, readings: Sequence[Reading], scope: Scope) -> tuple[Preference, ...]:
        """What the readings ask for within a scope; nothing without one, or where no attribute tells."""
        if scope.rows is None or not readings:
            return ()
        found = []
        once = {(reading.word.kind, reading.word.name): reading for reading in reversed(readings)}
        for reading in reversed(once.values()):
            preference = self._use(reading, scope) if reading.is_use else self._gradable(reading, scope.rows)
            if preference is not None:
                found.append(preference)
        return tuple(found)

    def _gradable(self, reading: Reading, rows: Mask) -> Preference | None:
        entry = self.lexicon.gradable[reading.word.name]
        field, most = self.meant(entry, reading.beside, rows)
        if not field:
            return None
        fit = self.measures.places(field, rows, most=most)
        fact = partial(self._fact_of, field, fit)
        order = "most" if most else "least"
        reason = f"{reading.text} → {order} {field.removeprefix('attributes.')}"
        return Preference(reading.text, fit, self.numbers.gradable_weight, fact, reason, reading.word.most)

    def meant(self, entry: Gradable, beside: Sequence[str], rows: Mask) -> tuple[str, bool]:
        """The field that a direction means among ``rows``, and whether it is the most of it; empty where none tells."""
        if named := self.measures.named(beside, rows):
            return named, bool(entry.most) or not _is_low(entry, self.lexicon)
        for patterns, direction in ((entry.most, True), (entry.least, False)):
            for pattern in patterns:
                for field in self.measures.fields(pattern):
                    if self.measures.tells_enough(field, rows):
                        return field, direction
        return "", True

    def _fact_of(self, field: str, fit: Scores, row: int) -> str:
        return self.measures.fact(field, row) if fit[row] >= 0.5 else ""

    def _use(self, reading: Reading, scope: Scope) -> Preference | None:
        met = self.uses.met(reading.word.name, scope.members, scope.names)
        if met is None:
            return None
        asked = ", ".join(told(want) for want, _, _ in met.parts[:_TOLD]) or "what names it"
        weight = self.numbers.use_weight * self.lexicon.use[reading.word.name].strength
        reason = f"{reading.text} → {reading.word.name}: {asked}"
        return Preference(reading.text, met.fit, weight, partial(self.uses.fact, met.parts), reason)


#: Words that ask for a thing without saying which.
_EMPTY = frozenset({
    "", "something", "anything", "thing", "things", "stuff", "product", "products", "item", "items", "idea", "ideas",
    "suggest", "suggestion", "suggestions", "need", "want", "looking", "buy", "show", "option", "options", "lover",
    "use", "using", "device", "devices", "gadget", "gadgets", "electronics", "my", "me", "i", "who", "loves", "likes",
})  # fmt: skip


def _together(scopes: Sequence[Scope]) -> Scope:
    return Scope(np.logical_or.reduce([scope.members for scope in scopes]))


def _merged(of_groups: Sequence[tuple[Preference, ...]]) -> tuple[Preference, ...]:
    """Preferences of several types, each place among its own; of a row that is of two types the first one's."""
    out: dict[str, Preference] = {}
    for preference in (preference for of_group in of_groups for preference in of_group):
        before = out.get(preference.text)
        if before is None:
            out[preference.text] = preference
            continue
        known = ~np.isnan(before.fit)
        reasons = dict.fromkeys((*before.reason.split("; "), preference.reason))
        fact = partial(_either, known, before.fact, preference.fact)
        fit = np.where(known, before.fit, preference.fit)
        out[preference.text] = replace(before, fit=fit, fact=fact, reason="; ".join(reasons))
    return tuple(out.values())


def _either(first: Mask, fact: Callable[[int], str], other: Callable[[int], str], row: int) -> str:
    return fact(row) if first[row] else other(row)


def _is_low(entry: Gradable, lexicon: Lexicon) -> bool:
    return bool(entry.least) or entry is lexicon.gradable.get("low")
