"""From the words of a query to what it wants of products, and to types to choose among where it names none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile

import numpy as np

from engine.analysis.analyzer import STOP_WORDS
from engine.columns import Columns
from engine.needs.lexicon import Gradable, Lexicon, Use
from engine.needs.match import Matcher, NeedWord, free_words
from engine.needs.measures import Measures
from engine.needs.numbers import NUMBERS, NeedNumbers
from engine.needs.scope import EMPTY, Scopes
from engine.needs.uses import Uses, told
from engine.preferences import NO_WANTS, Preference, Scope, Wants, WantsOf
from engine.product import Product
from engine.types import Candidates, Mask, Routed, Rows, Scores
from engine.understanding.everyday import is_everyday
from engine.understanding.understand import Understood
from engine.understanding.words import Token, tokens

_DEGREES = frozenset({"too", "so", "very", "that", "really", "overly"})
_TELL_OF_WHOM = frozenset({"who", "that", "which", "whose"})
_TYPES = 3  # that a query without a type is answered with
_BESIDE = 3  # words after a direction that may name what it is of
_TOLD = 3  # wants of a use that are named
_FIRST = 10  # products whose titles tell whether a word is a name there


@dataclass(frozen=True, slots=True)
class Reading:
    """A need word in a query, ``text``, and the words ``beside``, after it, which may name an attribute ("big screen").

    ``rest`` are the words of the whole query that no need takes, empty where one does; ``telling`` those of them that
    no synonym explains; ``typeless`` says that none of them could name a type. ``contrary`` is whether a "not" asks for
    the opposite.
    """

    word: NeedWord
    text: str
    beside: tuple[str, ...]
    rest: tuple[str, ...]
    telling: tuple[str, ...]
    typeless: bool
    contrary: bool = False

    @property
    def is_use(self) -> bool:
        return self.word.kind == "use"


class Needs:
    """The lexicon over one index. Thread-safe; what it learns of the index is kept."""

    def __init__(
        self, lexicon: Lexicon, columns: Columns, found: Callable[[str, int], Rows],
        products: Callable[[Rows], Sequence[Product]], scopes: Scopes, numbers: NeedNumbers = NUMBERS,
    ) -> None:  # fmt: skip
        """``found`` gives the rows of products that have words of a text, the best first, and at most so many;
        ``products`` those of some rows.
        """
        self.lexicon, self.numbers, self._products = lexicon, numbers, products
        self.measures = Measures(columns, lexicon.scale, numbers)
        self._scopes, self.categories = scopes, scopes.categories
        self._matcher = Matcher(lexicon)
        self.uses = Uses(lexicon, columns, self.measures, found, numbers, products)

    def over(
        self, columns: Columns, found: Callable[[str, int], Rows], products: Callable[[Rows], Sequence[Product]],
        scopes: Scopes,
    ) -> Needs:  # fmt: skip
        """The same lexicon and numbers over an index that has changed; the same ``scopes`` say that only fields
        which are no attributes have.
        """
        other = copy(self)
        other._products, other._scopes, other.categories = products, scopes, scopes.categories
        if scopes is self._scopes:
            other.measures = self.measures.over(columns)
        else:
            other.measures = Measures(columns, self.lexicon.scale, self.numbers)
        other.uses = Uses(self.lexicon, columns, other.measures, found, self.numbers, products)
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
            scope = within or (
                _together(groups) if groups else self._scopes.of(routed, readings[0].rest, readings[0].telling)
            )
            best = found.rows[:_FIRST] if scope.rows is None else found.rows[:_FIRST][scope.rows[found.rows[:_FIRST]]]
            first = [product.title.lower() for product in self._products(best)]
            kept = [reading for reading in readings if self._asks(reading) and not self._is_named(reading, first)]
            wanted = _merged([self.of(kept, group) for group in groups or (scope,)])
            if not wanted and (above := self._above(kept, scope)) is not None:
                scope = above
                wanted = self.of(kept, scope)
            return self.numbers.wants(wanted, scope.rows, groups) if wanted else NO_WANTS

        return wants

    def explains(self, word: str, before: str) -> bool:
        """Whether a word is a direction, or after a "for" what something is for; then no product need have it. Nor need
        one have what shoppers say of anything, as "sale".
        """
        after_for = before in ("for", "a", "an", "my", "the")
        found = self._matcher.find([word])
        return any(w.kind == "gradable" or after_for or self.lexicon.use[w.name].general for w in found)

    def without_directions(self, understood: Understood) -> Understood:
        """Without the exclusions that are a direction: what is "not big" is small, whoever has the word."""
        excluded = tuple(phrase for phrase in understood.excluded if not self._is_direction(phrase.words))
        return understood if excluded == understood.excluded else replace(understood, excluded=excluded)

    def _is_direction(self, words: Sequence[str]) -> bool:
        found = self._matcher.find(words)
        return len(found) == 1 and found[0].kind == "gradable" and found[0].end - found[0].start == len(words)

    def others(self, understood: Understood) -> list[str]:
        """The query's words, empty where they ask for a need or say something else already."""
        words = free_words(understood)
        needed = {place for word in self._matcher.find(words) for place in range(word.start, word.end)}
        return ["" if place in needed else word for place, word in enumerate(words)]

    def _above(self, readings: Sequence[Reading], scope: Scope) -> Scope | None:
        """The category above, for a use that no attribute of those in ``scope`` tells of: runners' "earphones"."""
        if not scope.names or not any(reading.is_use for reading in readings):
            return None
        rows = self.categories.above(scope.names[0])
        return Scope(rows) if rows is not None else None

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
        found = [word for word in self._matcher.find(words) if not self._is_of_name(word, words)]
        found = found or self._of_brand(understood, words)
        needed = {place for word in found for place in range(word.start, word.end)}
        rest = tuple("" if place in needed else word for place, word in enumerate(words))
        whom = next((place for place, word in enumerate(words) if place and word in _TELL_OF_WHOM), len(words))
        asked = (
            rest[:whom] if any(word.start > whom for word in found) else rest
        )  # who "watches cricket" wants no watch
        general = any(word.kind == "use" and self.lexicon.use[word.name].general for word in found)
        typeless = all(self._names_nothing(word, general) for word in asked)
        typeless = typeless and not understood.names and self._scopes.named(asked) is None
        explained = {place for synonym in understood.synonyms for place in range(synonym.start, synonym.end)}
        telling = tuple("" if place in explained else word for place, word in enumerate(rest))
        readings = []
        for word in found:
            beside = tuple(filter(None, words[word.end : word.end + _BESIDE]))
            text = understood.corrected[places[word.start].start : places[word.end - 1].end].lower()
            contrary = word.kind == "gradable" and not word.most and _denied(places[: word.start])
            readings.append(Reading(word, text, beside, rest, telling, typeless, contrary))
        return tuple(readings)

    def _is_of_name(self, word: NeedWord, words: Sequence[str]) -> bool:
        """Whether a need word begins what a category is called: a "top load" is a thing, and no top."""
        return self.categories.is_called(" ".join(words[word.start : word.end + 1])) and word.end < len(words)

    def asks_more(self, understood: Understood) -> bool:
        """Whether a query has a need word beside what it asks for: of a "video camera" the last one is the thing."""
        readings, last = self.read(understood), len(understood.words)
        return any(r.word.end > r.word.start and not self._is_thing(r, last) for r in readings)

    def _is_thing(self, reading: Reading, last: int) -> bool:
        return reading.word.end == last and bool(self.categories.called(reading.text.split()[-1:]))

    def _of_brand(self, understood: Understood, words: Sequence[str]) -> list[NeedWord]:
        """What is meant by a query that has nothing but a brand; none for any other, nor where kinds are guesses."""
        if self._scopes.guessed or any(words) or [limit.kind for limit in understood.constraints] != ["brand"]:
            return []
        uses = (name for name, use in self.lexicon.use.items() if use.of_brands)
        return [NeedWord("use", name, 0, len(words)) for name in uses]

    def _names_nothing(self, word: str, general: bool) -> bool:
        """Whether a word names no thing: of a gift whatever nobody here sells ("graduation gift")."""
        if word in STOP_WORDS or word in EMPTY or (self.measures.names_attribute(word) and not self._is_sold(word)):
            return True
        return general and (word.isdigit() or is_everyday(word) or not self._scopes.knows(word))

    def _is_sold(self, word: str) -> bool:
        """Whether products without categories are called so: of a thousand attributes one has nearly any word."""
        return self._scopes.guessed and self._scopes.is_in_names(word)

    def scopes(self, readings: Sequence[Reading]) -> tuple[Scope, ...]:
        """The types to look among for a query that names none: those of its uses, the best first."""
        uses = [self.lexicon.use[r.word.name] for r in readings if r.is_use and r.typeless]
        # Whom a gift is for says more of what it should be than that it is one.
        specific = [use for use in uses if use.types and not use.general] or uses
        votes = Counter(word for use in specific for word in use.types)
        words = sorted(votes, key=lambda word: -votes[word])  # what more uses are for first, else in their order
        return tuple(Scope(rows, (name,)) for name, rows in self.categories.called(words)[:_TYPES])

    def of(self, readings: Sequence[Reading], scope: Scope) -> tuple[Preference, ...]:
        """What the readings ask for within a scope; nothing without one, or where no attribute tells."""
        if scope.rows is None or not readings:
            return ()
        found = []
        once = {(reading.word.kind, reading.word.name): reading for reading in reversed(readings)}
        uses = [self.lexicon.use[reading.word.name] for reading in once.values() if reading.is_use]
        for reading in reversed(once.values()):
            if reading.is_use:
                preference = self._of_attribute(reading, scope.rows) or self._use(reading, scope)
            else:
                preference = self._gradable(reading, scope.rows, uses)
            if preference is not None:
                found.append(preference)
        return tuple(found)

    def _gradable(self, reading: Reading, rows: Mask, uses: Sequence[Use]) -> Preference | None:
        entry = self.lexicon.gradable[reading.word.name]
        beside = tuple(takewhile(lambda word: not self.categories.covers(word, rows), reading.beside))
        field, most = self.meant(entry, beside, rows)
        if not field and len(said := reading.text.split()) > 1:  # "most memory", whatever the lexicon means by it
            field = self._named((*said[1:], *beside), rows)
        field = self._of_use(entry, uses, rows) or field
        return self._by_place(reading, field, most != reading.contrary, rows) if field else None

    def _of_use(self, entry: Gradable, uses: Sequence[Use], rows: Mask) -> str:
        """The attribute that a use asks most of, where a direction could mean it as well: for selfies, of cameras the
        front one. Empty where there is none.
        """
        words = {word for pattern in entry.most for word in pattern.split()}
        for want in (want for use in uses for want in use.wants if words.intersection(want.most.split())):
            for field in self.measures.fields(want.most):
                if self.measures.tells_enough(field, rows):
                    return field
        return ""

    def _of_attribute(self, reading: Reading, rows: Mask) -> Preference | None:
        """The "best battery" is the one with the most of it; None where no attribute's name follows."""
        if not self.lexicon.use[reading.word.name].of_attributes:
            return None
        field = self._named(reading.beside, rows)
        return self._by_place(reading, field, True, rows) if field else None

    def _by_place(self, reading: Reading, field: str, most: bool, rows: Mask) -> Preference:
        fit = self.measures.places(field, rows, most=most)
        fact = partial(self._fact_of, field, fit)
        order = "most" if most else "least"
        reason = f"{reading.text} → {order} {field.removeprefix('attributes.')}"
        return Preference(reading.text, fit, self.numbers.gradable_weight, fact, reason, reading.word.most)

    def meant(self, entry: Gradable, beside: Sequence[str], rows: Mask) -> tuple[str, bool]:
        """The field that a direction means among ``rows``, and whether it is the most of it; empty where none tells.

        Fields that are called as the lexicon has it come before those that say more: a notebook's size is that of its
        screen, whatever its ``ssd_capacity``.
        """
        if named := self._named(beside, rows):
            return named, bool(entry.most) or not _is_low(entry, self.lexicon)
        directions = [(pattern, True) for pattern in entry.most] + [(pattern, False) for pattern in entry.least]
        told = [
            (not self.measures.is_just(field, pattern), at, field, direction)
            for at, (pattern, direction) in enumerate(directions)
            for field in self.measures.fields(pattern)
            if self.measures.tells_enough(field, rows)
        ]
        return min(told, key=lambda found: found[:2])[2:] if told else ("", True)

    def _named(self, beside: Sequence[str], rows: Mask) -> str:
        """The attribute that the words after a direction name; empty for none, as for the "power" of a "power bank"."""
        return "" if self.categories.is_called(" ".join(beside[:2])) else self.measures.named(beside, rows)

    def _fact_of(self, field: str, fit: Scores, row: int) -> str:
        return self.measures.fact(field, row) if fit[row] >= 0.5 else ""

    def _use(self, reading: Reading, scope: Scope) -> Preference | None:
        met = self.uses.met(reading.word.name, scope.members, scope.names)
        if met is None or (self._scopes.guessed and not met.parts):
            return None  # that a text names the use is found by its words
        asked = ", ".join(told(want) for want, _, _ in met.parts[:_TOLD]) or "what names it"
        weight = self.numbers.use_weight * self.lexicon.use[reading.word.name].strength
        reason = f"{reading.text} → {reading.word.name}: {asked}"
        return Preference(reading.text, met.fit, weight, partial(self.uses.fact, reading.word.name, met.parts), reason)


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


def _denied(before: Sequence[Token]) -> bool:
    """Whether a "not" stands before a word: "not big", "not too big"."""
    words = [token.text for token in before]
    while words and words[-1] in _DEGREES:
        words.pop()
    return bool(words) and words[-1] == "not"


def _is_low(entry: Gradable, lexicon: Lexicon) -> bool:
    return bool(entry.least) or entry is lexicon.gradable.get("low")
