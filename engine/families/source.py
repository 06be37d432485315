"""What relations to models ask of products, as preferences."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from engine.analysis.analyzer import STOP_WORDS
from engine.columns import Columns
from engine.families.likeness import Likeness
from engine.families.lines import Line
from engine.families.named import Named, Naming
from engine.families.relations import Relation, RelationReader
from engine.families.store import ProductFamilies
from engine.families.words import NUMBERS, FamilyNumbers, FamilyWords
from engine.needs.categories import singular
from engine.needs.lexicon import Gradable
from engine.needs.wants import Needs
from engine.preferences import NO_WANTS, Preference, Scope, Wants, WantsOf, scope_of
from engine.product import Product
from engine.types import Candidates, Mask, Routed, Rows, Scores
from engine.understanding.constraints import Constraint
from engine.understanding.understand import Understood
from engine.understanding.words import Token, tokens

_OF_SERIES = frozenset({"latest", "new", "previous", "last_year"})
_OF_ANY = frozenset({"previous", "last_year"})  # whatever the type is called
_BY_AGE = frozenset({"upgrade", "successor", "predecessor"})
_TENS = re.compile(r"\d+x$")  # ends the name of a series whose numbers are of one ten


#: Which rows are otherwise than the named, how far by their places, what tells it of a row, and in words.
_Limit = tuple[Mask, Scores, partial[str], str]

_COMPARATIVE = "er"  # what such words end in


@dataclass(frozen=True, slots=True, eq=False)
class FamilyReading:
    """A relation, and what it is to: products of this catalog, or a series, or where none is ``named`` the type."""

    relation: Relation
    named: Named | None
    series: tuple[int, ...] = ()
    kind: Mask | None = None

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """Places in the corrected query that say nothing else. "Latest" is a wish of its own as well."""
        return () if self.relation.kind in ("latest", "new") else self.relation.spans

    @property
    def scope(self) -> Scope | None:
        """The kind, as a scope; None where the relation does not tell."""
        return Scope(self.kind) if self.kind is not None else None

    def asked(self, understood: Understood) -> Understood:
        """Without the names of what is only compared with."""
        if self.named is None:
            return understood
        start, end = self.relation.about[0].start, self.relation.about[-1].end
        return replace(
            understood, names=tuple(name for name in understood.names if name.start >= end or name.end <= start)
        )  # fmt: skip


class FamilySource:
    """Relations over one index. Thread-safe."""

    def __init__(
        self, families: ProductFamilies, columns: Columns, needs: Needs, words: FamilyWords,
        products: Callable[[Rows], Sequence[Product]], numbers: FamilyNumbers = NUMBERS,
    ) -> None:  # fmt: skip
        """``products`` gives those of some rows."""
        self._columns, self._needs, self._words, self._numbers = columns, needs, words, numbers
        self._naming = Naming(families, columns, words)
        gradable = (word for entry in needs.lexicon.gradable.values() for word in entry.words)
        self._reader = RelationReader(words, frozenset(word for word in gradable if word.endswith(_COMPARATIVE)))
        self._categories = needs.categories
        self._likeness = Likeness(needs.measures, products, numbers.price_share)
        brands = columns.values("brand") if "brand" in columns.fields else ()
        self._brands = {token.text for brand in brands for token in tokens(brand.value)}

    def over(
        self, columns: Columns, needs: Needs, products: Callable[[Rows], Sequence[Product]],
        families: ProductFamilies | None,
    ) -> FamilySource:  # fmt: skip
        """The same over an index that has changed; ``families`` are given where products were added or deleted."""
        if families:
            return FamilySource(families, columns, needs, self._words, products, self._numbers)
        other = copy(self)
        other._columns, other._needs, other._categories = columns, needs, needs.categories
        other._likeness = Likeness(needs.measures, products, self._numbers.price_share)
        return other

    def read(self, understood: Understood) -> FamilyReading | None:
        """The relation in a query, where this catalog can tell what it is to. Never raises."""
        relation = self._reader.read(understood.corrected)
        if relation is None:
            return None
        if relation.elsewhere and (reading := self._elsewhere(relation)):
            return reading
        if relation.kind in _OF_SERIES:
            return self._of_series(relation)
        if relation.kind == "than" and not self._gradables(relation.otherwise):
            return None
        if relation.kind == "than" and _is_limit(relation.about, understood.constraints):
            return None  # "larger than 16 inch" is no product
        named = self._naming.find(relation.about, understood.corrected) if relation.spans else None
        if (
            named is None
            or (relation.bare and not named.number)
            or (relation.weak and not named.number and not relation.otherwise)
        ):
            return None
        return FamilyReading(relation, named, (), named.kind)

    def _of_series(self, relation: Relation) -> FamilyReading | None:
        said = {token.text for token in relation.about}
        scored = [(self._shared(line, said), at) for at, line in enumerate(self._naming.lines)]
        best = max((share for share, _ in scored), default=0)
        series = tuple(at for share, at in scored if share == best) if best else ()
        if relation.kind == "new" and not series:
            return None
        is_type = self._categories.named([token.text for token in relation.about]) is not None
        if series:
            rows = np.array([row for at in series for model in self._naming.lines[at].models for row in model.rows])
            kind = self._naming.kind(rows, (), self._naming.lines[series[0]])
            return FamilyReading(relation, None, series, kind)
        return FamilyReading(relation, None) if is_type or (relation.kind in _OF_ANY and not relation.weak) else None

    @staticmethod
    def _shared(line: Line, said: set[str]) -> int:
        """How many words of a series' name are said, if its last one is: "watch" is enough for Galaxy Watch, and
        "galaxy a" for the Galaxy A1x.
        """
        words = _TENS.sub("", line.name.lower()).split()
        of_family = len(words) > 2 and said.issuperset(words[:-1])  # "galaxy z" are flips and folds
        return len(said.intersection(words)) if of_family or words[-1] in said or " ".join(words[-2:]) in said else 0

    def _elsewhere(self, relation: Relation) -> FamilyReading | None:
        """Another maker's thing, unless this catalog has it under that name."""
        entry = self._words.elsewhere[relation.elsewhere]
        if self._naming.knows(relation.foreign) or (relation.weak and not self._only(relation.rest, entry.of)):
            return None
        found = self._categories.called([word for text in entry.of for word in text.split()[-1:]])
        return FamilyReading(relation, None, (), found[0][1]) if found else None

    def _only(self, rest: Sequence[str], of: Sequence[str]) -> bool:
        """Whether other words than another maker's name only say which one: a "case" beside it is no such thing."""
        known = self._words.names.variants | set(self._words.makers.words) | STOP_WORDS | self._brands
        known |= {singular(word) for text in of for word in text.split()}
        return all(any(c.isdigit() for c in word) or singular(word) in known or word in known for word in rest)

    def wants_of(self, reading: FamilyReading, others: WantsOf | None) -> WantsOf:
        """What ``others`` want, and what the relation does, among products of the kind that it speaks of."""

        def wants(routed: Routed | None, found: Candidates) -> Wants:
            before = others(routed, found) if others else NO_WANTS
            scope = reading.scope or Scope(before.scope)
            scope = scope if scope.rows is not None else self._scope(reading, routed)
            own = self.of(reading, scope, before.preferences)
            if not own:
                return before
            return self._needs.numbers.wants((*before.preferences, *own), scope.rows, before.groups)

        return wants

    def _scope(self, reading: FamilyReading, routed: Routed | None) -> Scope:
        named = self._categories.named([token.text for token in reading.relation.about])
        return (
            Scope(named[1], named[0])
            if named and not reading.series
            else scope_of(routed, self._needs.numbers.likely_type)
        )

    def of(self, reading: FamilyReading, scope: Scope, before: Sequence[Preference]) -> tuple[Preference, ...]:
        """What the reading asks for within a scope; nothing without one. ``before`` are others' preferences."""
        if scope.rows is None or not scope.rows.any():
            return ()
        kind = reading.relation.kind
        if kind in _OF_SERIES:
            found = self._by_generation(reading, scope.rows)
            doubled = any(other.text in reading.relation.text for other in before)
            weight = self._numbers.series_weight if doubled else self._numbers.weight
            orders = kind in ("latest", "new")
            return tuple(replace(preference, weight=weight, orders=orders) for preference in found)
        if reading.named is None:
            return self._placed(reading, scope.rows)
        if kind in _BY_AGE and reading.named.line is not None:
            return self._in_line(reading, reading.named, reading.named.line, scope.rows)
        return self._related(reading, reading.named, scope.rows)

    # ------------------------------------------------------------------------------------------------- generations

    def _by_generation(self, reading: FamilyReading, rows: Mask) -> tuple[Preference, ...]:
        """The newest, or the one before, of each series; of what is of none, by the year of release."""
        kind, text = reading.relation.kind, reading.relation.text
        fit = np.full(len(rows), np.nan, np.float32)
        told: dict[int, str] = {}
        back = 0 if kind in ("latest", "new") else 1
        if kind == "last_year":
            fit = self._by_year(rows)
        else:
            lines = reading.series or tuple(sorted(set(self._naming.line_of[rows].tolist()) - {-1}))
            for at in lines:
                self._rank(self._naming.lines[at], back, rows, fit, told)
            if reading.series:
                fit[rows & np.isnan(fit)] = self._numbers.beyond_fit
            elif back == 0:
                released = self._needs.measures.places("released", rows, most=True)
                fit = np.where(np.isnan(fit), released, np.where(np.isnan(released), fit, (fit + released) / 2))
        if np.isnan(fit).all():
            return ()
        what = (
            {0: "newest generation", 1: "generation before the newest"}[back]
            if kind != "last_year"
            else "released the year before the newest"
        )
        fact = partial(self._released_fact, fit) if kind == "last_year" else partial(self._told, told, fit)
        return (Preference(text, fit.astype(np.float32), self._numbers.weight, fact, f"{text} → {what}"),)

    def _rank(self, line: Line, back: int, rows: Mask, fit: Scores, told: dict[int, str]) -> None:
        """Writes how near each of a line's products is to the generation wanted, and what it is, as words."""
        numbers = line.numbers
        labels = {model.number: model.label for model in sorted(line.models, key=lambda model: -len(model.variant))}
        shown = ", ".join(labels[number] for number in numbers)
        wanted = len(numbers) - 1 - back
        for model in line.models:
            distance = abs(numbers.index(model.number) - wanted)
            inside = [row for row in model.rows if rows[row]]
            fit[inside] = max(0.0, 1.0 - 0.5 * distance)
            if distance == 0:
                place = "newest" if back == 0 else "the one before the newest"
                told.update(dict.fromkeys(inside, f"{model.label}: {place} of {shown}"))

    def _by_year(self, rows: Mask) -> Scores:
        """1 for what was released in the year before the newest of ``rows``, less the further away."""
        years = self._years()
        fit = np.full(len(rows), np.nan, np.float32)
        known = rows & ~np.isnan(years)
        if known.any():
            wanted = years[known].max() - 1
            fit[known] = np.maximum(0.0, 1.0 - 0.5 * np.abs(years[known] - wanted))
        return fit

    def _years(self) -> Scores:
        years = np.full(len(self._columns), np.nan, np.float32)
        for text, rows in self._columns.postings("released") if "released" in self._columns.fields else ():
            if text[:4].isdigit():
                years[rows] = float(text[:4])
        return years

    def _in_line(self, reading: FamilyReading, named: Named, line: Line, rows: Mask) -> tuple[Preference, ...]:
        """Later generations of a model's own series, or earlier ones; those of its own variant first."""
        kind, text = reading.relation.kind, reading.relation.text
        later = kind != "predecessor"
        numbers = [n for n in line.numbers if (n > named.number if later else n < named.number)]
        if not numbers:
            return self._related(reading, named, rows)
        wanted = numbers[-1] if kind in ("upgrade", "predecessor") else numbers[0]
        fit = np.where(rows, self._numbers.beyond_fit, 0.0).astype(np.float32)
        told: dict[int, str] = {}
        for model in line.models:
            inside = list(model.rows)
            if model.number in numbers:
                near = 1.0 - 0.1 * abs(line.numbers.index(model.number) - line.numbers.index(wanted))
                fit[inside] = max(near - (0.0 if model.variant == named.variant else 0.15), 0.5)
                place = "later" if later else "earlier"
                told.update(dict.fromkeys(inside, f"{model.label}: {place} than {named.name}"))
            else:
                fit[inside] = 0.0
        fit[named.rows] = 0.0
        reason = f"{text} → {'later' if later else 'earlier'} generations of {line.name}"
        return (Preference(text, fit, self._numbers.weight, partial(self._told, told, fit), reason),)

    # ---------------------------------------------------------------------------------------------- other products

    def _related(self, reading: FamilyReading, named: Named, rows: Mask) -> tuple[Preference, ...]:
        """Products near the one that is named, but cheaper, dearer, smaller … as the relation says; never itself."""
        relation, share = reading.relation, self._numbers.nearest_share
        near = np.where(rows, self._likeness.to(named.rows, rows), np.float32(0.0))  # what is no such thing is not near
        fit, fact = near, partial(self._priced, fit=near, named=named)
        what = f"near {named.name}"
        is_class = self._categories.named([token.text for token in relation.about]) is not None and not named.number
        for passes, places, fact, what in self._limits(relation, named, rows):
            if is_class:  # "like galaxy watch but cheaper": a cheap one, for they are what is meant
                fact = partial(self._limit_fact, fact.args[0], places >= 0.5)
                return (Preference(relation.text, places, self._numbers.weight, fact, f"{relation.text} → {what}"),)
            fit = np.where(passes & rows, (1 - share) + share * near, share * near)
        fit = fit.astype(np.float32)
        fit[named.rows] = 0.0
        return (Preference(relation.text, fit, self._numbers.weight, fact, f"{relation.text} → {what}"),)

    def _limits(self, relation: Relation, named: Named, rows: Mask) -> list[_Limit]:
        """What shall be otherwise than the named."""
        directions = {"cheaper": ("price", False), "dearer": ("price", True)}
        if relation.kind in _BY_AGE:
            directions |= {kind: ("released", kind != "predecessor") for kind in _BY_AGE}
        wanted = [directions[relation.kind]] if relation.kind in directions else []
        for entry in self._gradables(relation.otherwise):
            field, most = self._needs.meant(entry, (), rows)
            wanted += [(field, most)] if field else []
        return [limit for field, most in wanted if (limit := self._limit(field, most, named, rows)) is not None]

    def _limit(self, field: str, most: bool, named: Named, rows: Mask) -> _Limit | None:
        numbers = self._needs.measures.numbers(field)
        if numbers is None or np.isnan(numbers[named.rows]).all():
            return None
        own = np.nanmax(numbers[named.rows]) if most else np.nanmin(numbers[named.rows])
        with np.errstate(invalid="ignore"):
            passes = numbers > own if most else numbers < own
        name = field.removeprefix("attributes.")
        fact = partial(self._limit_fact, field, passes)
        places = self._needs.measures.places(field, rows, most=most)
        return passes, places, fact, f"{'more' if most else 'less'} {name} than {named.name}"

    def _limit_fact(self, field: str, passes: Mask, row: int) -> str:
        return self._needs.measures.fact(field, row) if passes[row] else ""

    def _gradables(self, words: Sequence[str]) -> list[Gradable]:
        """The directions that words ask for, the longest phrases first: "longer battery", "cheaper"."""
        entries = self._needs.lexicon.gradable
        known = {text: entry for entry in entries.values() for text in (*entry.words, *entry.superlatives)}
        known |= {text: entries[name] for text, name in self._words.comparative.items() if name in entries}
        found: list[Gradable] = []
        at = 0
        while at < len(words):
            for end in range(len(words), at, -1):
                entry = known.get(" ".join(words[at:end]))
                if entry is not None:
                    found.append(entry)
                    at = end
                    break
            else:
                at += 1
        return found

    def _placed(self, reading: FamilyReading, rows: Mask) -> tuple[Preference, ...]:
        """For another maker's thing: what is of its kind, the nearer the better to its place by price."""
        entry = self._words.elsewhere[reading.relation.elsewhere]
        wanted = entry.place / 2 if reading.relation.kind == "cheaper" else entry.place
        places = self._needs.measures.places("price", rows, most=True)
        distance = np.abs(np.where(np.isnan(places), 0.5, places) - wanted)
        fit = np.where(rows, np.maximum(0.0, 1.0 - 2.0 * distance), 0.0).astype(np.float32)
        text = reading.relation.text
        reason = f"{text} → none in this catalog; the nearest by kind and price"
        return (Preference(text, fit, self._numbers.weight, partial(self._priced, fit=fit, named=None), reason),)

    # -------------------------------------------------------------------------------------------------------- facts

    def _priced(self, row: int, *, fit: Scores, named: Named | None) -> str:
        return self._needs.measures.fact("price", row) if fit[row] >= 0.5 else ""

    def _released_fact(self, fit: Scores, row: int) -> str:
        return self._needs.measures.fact("released", row) if fit[row] >= 1.0 else ""

    @staticmethod
    def _told(told: dict[int, str], fit: Scores, row: int) -> str:
        return told.get(row, "")


def _is_limit(about: Sequence[Token], limits: Sequence[Constraint]) -> bool:
    """Whether what something is compared with has been read as a measure."""
    return any(limit.start <= about[0].start < limit.end for limit in limits)
