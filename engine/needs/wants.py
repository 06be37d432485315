"""From the words of a query to what it wants of products, and to types to choose among where it names none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from engine.analysis.analyzer import STOP_WORDS
from engine.columns import Columns
from engine.errors import ConfigError
from engine.fitted import Fitted
from engine.needs.categories import Categories
from engine.needs.learnt import Learnt, learn
from engine.needs.lexicon import Gradable, Lexicon, Want
from engine.needs.match import Matcher, NeedWord, free_words
from engine.needs.measures import Measures
from engine.preferences import NO_WANTS, Preference, Scope, Wants, WantsOf, scope_of
from engine.product import Product
from engine.types import Candidates, Mask, Routed, Rows, Scores
from engine.understanding.understand import Understood
from engine.understanding.words import tokens

_TYPES = 3  # that a query without a type is answered with
_BESIDE = 3  # words after a direction that may name what it is of
_FIRST = 10  # products whose titles tell whether a word is a name there


class NeedNumbers(Fitted, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What needs count.

    - ``gradable_weight``, ``use_weight``: what a whole fit adds to fused scores, which go from 0 to 1.
    - ``least_coverage``, ``least_values``: what share of a type's products must have an attribute, and in how many
      different values, so that a word can mean it.
    - ``prior_ratings``: how many ratings of the catalog's mean each product's own are mixed with.
    - ``qualifying_share``: of the best score, from which a product is relevant enough for a superlative to order it.
    - ``learnt_share``: what the catalog's own say counts for a use; the lexicon counts the rest. ``learnt_prior``: how
      many more products would share nothing.
    - ``unknown_fit``: what counts as the fit of a product that does not say, from 0 to 1.
    - ``named_share``: of the first ten products, from which on a word stands in titles too often to be a need.
    """

    gradable_weight: float
    use_weight: float
    least_coverage: float
    least_values: int
    prior_ratings: float
    qualifying_share: float
    learnt_share: float
    learnt_prior: float
    named_share: float
    unknown_fit: float

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if name in ("gradable_weight", "use_weight", "least_values", "prior_ratings", "learnt_prior"):
                if value < 0:
                    raise ConfigError(f"{name} is {value}; it must be 0 or more")
            elif name != "provenance" and not 0 <= value <= 1:
                raise ConfigError(f"{name} is {value}; it must be from 0 to 1")


NUMBERS = NeedNumbers.read(Path(__file__).with_name("needs.toml"))


@dataclass(frozen=True, slots=True)
class Reading:
    """A need word in a query, ``text``, and the words ``beside``, after it, which may name an attribute ("big screen").

    ``rest`` are the words of the whole query that no need takes, empty where one does; ``typeless`` says that none of
    them could name a type.
    """

    word: NeedWord
    text: str
    beside: tuple[str, ...]
    rest: tuple[str, ...]
    typeless: bool

    @property
    def is_use(self) -> bool:
        return self.word.kind == "use"


class Needs:
    """A ``PreferenceSource``: the lexicon over one index. Thread-safe; what it learns of the index is kept."""

    def __init__(
        self, lexicon: Lexicon, columns: Columns, found: Callable[[str, int], Rows],
        products: Callable[[Rows], Sequence[Product]], numbers: NeedNumbers = NUMBERS,
    ) -> None:  # fmt: skip
        """``found`` gives the rows of products that have words of a text, the best first, and at most so many;
        ``products`` those of some rows.
        """
        self.lexicon, self.numbers, self._columns = lexicon, numbers, columns
        self._found, self._products = found, products
        self.measures = Measures(columns, lexicon.scale, numbers.prior_ratings)
        self._categories = Categories(columns)
        self._matcher = Matcher(lexicon)
        self._of_scope = lru_cache(maxsize=512)(self._fitted)
        self._use_rows = lru_cache(maxsize=128)(self._rows_saying)

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
            scope = within or (_together(groups) if groups else self._scope(routed, readings[0].rest))
            best = found.rows[:_FIRST] if scope.rows is None else found.rows[:_FIRST][scope.rows[found.rows[:_FIRST]]]
            first = [product.title.lower() for product in self._products(best)]
            kept = [reading for reading in readings if not self._is_named(reading, first)]
            wanted = _merged([self.of(kept, group) for group in groups or (scope,)])
            numbers = self.numbers
            return (
                Wants(wanted, scope.rows, groups, numbers.qualifying_share, numbers.unknown_fit) if wanted else NO_WANTS
            )

        return wants

    def _scope(self, routed: Routed | None, asked: Sequence[str]) -> Scope:
        """The categories that the query names, or else the types that the router found.

        Who wants a "phone" for something wants any, though it may be "Feature Phones" that the word is nearest to.
        """
        named = self._categories.named(asked)
        return Scope(named[1], named[0]) if named else scope_of(routed)

    def _is_named(self, reading: Reading, titles: Sequence[str]) -> bool:
        if reading.is_use or reading.word.most or not titles:
            return False
        return sum(reading.text in title for title in titles) >= self.numbers.named_share * len(titles)

    def read(self, understood: Understood, taken: Sequence[tuple[int, int]] = ()) -> tuple[Reading, ...]:
        """The need words of a query, in its order; none where others have ``taken`` its places from one to another."""
        words = free_words(understood, taken)
        places = tokens(understood.corrected)
        found = self._matcher.find(words)
        needed = {place for word in found for place in range(word.start, word.end)}
        rest = tuple("" if place in needed else word for place, word in enumerate(words))
        typeless = set(rest) <= (STOP_WORDS | _EMPTY)
        readings = []
        for word in found:
            beside = tuple(filter(None, words[word.end : word.end + _BESIDE]))
            text = understood.corrected[places[word.start].start : places[word.end - 1].end].lower()
            readings.append(Reading(word, text, beside, rest, typeless))
        return tuple(readings)

    def scopes(self, readings: Sequence[Reading]) -> tuple[Scope, ...]:
        """The types to look among for a query that names none: those of its uses, the best first."""
        uses = [self.lexicon.use[r.word.name] for r in readings if r.is_use and r.typeless]
        # Whom a gift is for says more of what it should be than that it is one.
        specific = [use for use in uses if use.types and not use.general] or uses
        words = dict.fromkeys(word for use in specific for word in use.types)
        return tuple(Scope(rows, (name,)) for name, rows in self._categories.called(words)[:_TYPES])

    def preferences(self, understood: Understood, scope: Scope) -> tuple[Preference, ...]:
        """As ``PreferenceSource``."""
        return self.of(self.read(understood), scope)

    def of(self, readings: Sequence[Reading], scope: Scope) -> tuple[Preference, ...]:
        """What the readings ask for within a scope; nothing without one, or where no attribute tells."""
        if scope.rows is None or not readings:
            return ()
        found = []
        once = {(reading.word.kind, reading.word.name): reading for reading in reversed(readings)}
        for reading in reversed(once.values()):
            rows = scope.rows
            preference = (
                self._gradable(reading, rows)
                if reading.word.kind == "gradable"
                else self._use(reading, rows, scope.names)
            )
            if preference is not None:
                found.append(preference)
        return tuple(found)

    # ---------------------------------------------------------------------------------------------- gradable words

    def _gradable(self, reading: Reading, rows: Mask) -> Preference | None:
        entry = self.lexicon.gradable[reading.word.name]
        field, most = self.meant(entry, reading.beside, rows)
        if not field:
            return None
        fit = self._places(field, rows, most)
        fact = partial(self._fact_of, field, fit)
        order = "most" if most else "least"
        reason = f"{reading.text} → {order} {field.removeprefix('attributes.')}"
        return Preference(reading.text, fit, self.numbers.gradable_weight, fact, reason, reading.word.most)

    def meant(self, entry: Gradable, beside: Sequence[str], rows: Mask) -> tuple[str, bool]:
        """The field that a direction means among ``rows``, and whether it is the most of it; empty where none tells."""
        most = not (entry.least and not entry.most) or not (entry.least or entry.most)
        named, _ = self.measures.named(beside, rows) if beside else ("", 0)
        if named:
            return named, bool(entry.most) or not _is_low(entry, self.lexicon)
        for patterns, direction in ((entry.most, True), (entry.least, False)):
            for pattern in patterns:
                for field in self.measures.fields(pattern):
                    if self.measures.tells(field, rows, self.numbers.least_coverage, self._least_values(rows)):
                        return field, direction
        return "", most

    def _least_values(self, rows: Mask) -> int:
        return min(self.numbers.least_values, max(2, int(rows.sum()) // 3))

    def _places(self, field: str, rows: Mask, most: bool) -> Scores:
        return self.measures.places(field, rows, most=most)

    def _fact_of(self, field: str, fit: Scores, row: int) -> str:
        return self.measures.fact(field, row) if fit[row] >= 0.5 else ""

    # ------------------------------------------------------------------------------------------------------- uses

    def _use(self, reading: Reading, rows: Mask, names: tuple[str, ...]) -> Preference | None:
        found = self._of_scope(reading.word.name, names, rows.tobytes())
        if found is None:
            return None
        fit, parts = found
        entry = self.lexicon.use[reading.word.name]
        shown = ", ".join(_told(want) for want, _, _ in parts[:3]) or "what names it"
        reason = f"{reading.text} → {reading.word.name}: {shown}"
        weight = self.numbers.use_weight * entry.strength
        return Preference(reading.text, fit, weight, partial(self._use_fact, parts), reason)

    def _use_fact(self, parts: Sequence[tuple[Want, str, Scores]], row: int) -> str:
        """The two facts that count most, of those that the product meets."""
        met = [(want.weight, want, field) for want, field, fit in parts if fit[row] >= 0.6]
        met.sort(key=lambda found: -found[0])
        facts = [self.measures.fact(field, row, text=bool(want.has)) for _, want, field in met]
        return ", ".join(list(dict.fromkeys(filter(None, facts)))[:2])

    def _fitted(
        self, name: str, names: tuple[str, ...], packed: bytes
    ) -> tuple[Scores, tuple[tuple[Want, str, Scores], ...]] | None:
        """How well products fit a use, and its wants with the field and the fit of each; None where nothing tells."""
        rows = np.frombuffer(packed, np.bool_)
        use = self.lexicon.use[name]
        own = list(self._wanted(use.wants, rows, names))
        learnt = list(self._wanted(self.learnt(name, rows).wants, rows, names))
        said = np.zeros(len(self._columns), np.float32)
        said[self._use_rows(name)] = 1.0
        fits = [fit for fit in (self._mean(own), self._mean(learnt)) if fit is not None]
        if not fits:
            if not said[rows].any():
                return None
            return np.where(rows, said, np.nan).astype(np.float32), ()
        share = self.numbers.learnt_share
        fit = fits[0] if len(fits) == 1 else (1 - share) * fits[0] + share * fits[1]
        if 0 < said[rows].mean() < 0.6:
            fit = (1 - share / 2) * fit + share / 2 * said
        fit = np.where(rows, fit, np.nan).astype(np.float32)
        return _spread(fit), (*own, *learnt)

    def learnt(self, name: str, rows: Mask) -> Learnt:
        """What the catalog says of a use among ``rows``."""
        return learn(self._use_rows(name), rows, self.measures, self._columns, self.numbers.learnt_prior)

    def _rows_saying(self, name: str) -> Rows:
        found = [self._found(word, len(self._columns)) for word in self.lexicon.use[name].words if " " not in word]
        return np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)

    def _wanted(self, wants: Sequence[Want], rows: Mask, names: tuple[str, ...]) -> Iterator[tuple[Want, str, Scores]]:
        """Each want that this type can answer, with its field and how well products meet it."""
        types = {part for name in names for part in name.lower().replace("-", " ").split()}
        types |= {part[:-1] for part in types if part.endswith("s")}
        for want in wants:
            if want.of and types.isdisjoint(want.of):
                continue
            if want.has:
                field, fit = self._has(want)
                known = fit[rows]
                if (
                    field
                    and np.nanmax(known, initial=0) > 0
                    and np.isnan(known).mean() < 0.9
                    and not (known == 1).all()
                ):
                    yield want, field, fit
                continue
            for field in (
                [want.most or want.least]
                if "." in (want.most or want.least)
                else self.measures.fields(want.most or want.least)
            ):
                if self.measures.tells(field, rows, self.numbers.least_coverage, self._least_values(rows)):
                    yield want, field, self._places(field, rows, bool(want.most))
                    break

    def _mean(self, parts: Sequence[tuple[Want, str, Scores]]) -> Scores | None:
        """The weighted mean of the fits, float32 (n,); NaN where a product says nothing. None without parts."""
        if not parts:
            return None
        weights = np.array([want.weight for want, _, _ in parts], np.float32)
        fits = np.stack([fit for _, _, fit in parts])
        known = ~np.isnan(fits)
        mean = weights @ np.where(known, fits, np.float32(self.numbers.unknown_fit)) / weights.sum()
        out: Scores = np.where(known.any(axis=0), mean, np.nan).astype(np.float32)
        return out

    def _has(self, want: Want) -> tuple[str, Scores]:
        return self.measures.has(want.has, want.values)


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
        out[preference.text] = replace(
            before, fit=np.where(known, before.fit, preference.fit),
            fact=partial(_either, known, before.fact, preference.fact), reason=f"{before.reason}; {preference.reason}",
        )  # fmt: skip
    return tuple(out.values())


def _either(first: Mask, fact: Callable[[int], str], other: Callable[[int], str], row: int) -> str:
    return fact(row) if first[row] else other(row)


def _spread(fit: Scores) -> Scores:
    """The same order, the best at 1 and the worst at 0, so that uses of many wants count as much as those of one."""
    known = fit[~np.isnan(fit)]
    if not len(known) or known.max() == known.min():
        return fit
    out: Scores = ((fit - known.min()) / (known.max() - known.min())).astype(np.float32)
    return out


def _is_low(entry: Gradable, lexicon: Lexicon) -> bool:
    return bool(entry.least) or entry is lexicon.gradable.get("low")


def _told(want: Want) -> str:
    name = (want.most or want.least or want.has).removeprefix("attributes.")
    if want.has:
        return f"{name}{f' {want.values[0]}' if want.values else ''}"
    return f"{'most' if want.most else 'least'} {name}"
