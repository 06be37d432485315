"""What a made query asks for, and how well a product meets it, by rule: labels from 0 to 1.

The rules know what the catalog says, not what a shopper would accept, so they keep silent (None) where a product may
well be what is asked under another name.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from training.data.shelf import Facts, Shelf, Terms, bare_code

_EXACT, _SIMILAR, _RELATED, _DISTANT = 1.0, 0.4, 0.2, 0.1
_NEAR, _FAR = 1.15, 2.0  # ratios of two measures
_NEAR_PRICE, _NEAR_SIZE = 1.6, 1.3  # ratios within which one thing may take another's place


class Kin(Enum):
    """How a product's type relates to the one asked for."""

    SAME = 1
    ALIKE = 2  # its name has the same head: another kind of the same thing, or the same in other words
    SIBLING = 3  # it has the same parent
    OTHER = 4
    UNKNOWN = 5


@dataclass(frozen=True, slots=True)
class Want:
    """A query before anybody mistypes it, and what it asks for.

    ``types`` are those that answer it, empty where the query names none and products like ``source``, its origin, do.
    ``named`` has the terms that name the type, ``words`` the terms of each further word, ``excluded`` those of a word
    it rules out, ``measure`` a unit and a number, ``others`` terms that would make it another thing (``plus``),
    ``evidence`` terms of which a product needs one, ``code`` letters and digits that a code of it must have.
    ``unsure`` are types that may or may not answer. With ``instead`` it asks for what may take the source's place.
    """

    kind: str
    query: str
    source: int
    types: frozenset[str] = frozenset()
    named: Terms = frozenset()
    words: tuple[Terms, ...] = ()
    excluded: Terms = frozenset()
    measure: tuple[str, float] | None = None
    others: Terms = frozenset()
    evidence: Terms = frozenset()
    code: str = ""
    unsure: frozenset[str] = frozenset()
    instead: bool = False


class Judge:
    """Labels the products of a shelf. The label of a query's source is 1, but where its place is to be taken."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._kin = lru_cache(maxsize=200_000)(self._kinship)

    def label(self, want: Want, row: int) -> float | None:
        """From 0 to 1; None where the rules cannot tell."""
        facts = self._shelf.facts[row]
        if want.instead:
            return self._instead(want, row)
        if row == want.source:
            return _EXACT
        if facts.type_id in want.unsure:
            return None
        kin = self.kin(want, facts)
        if want.excluded and want.excluded <= facts.terms:
            return _DISTANT if kin is Kin.SAME else 0.0
        if want.code:
            return _coded(want.code, facts, kin)
        if kin is not Kin.SAME and self._fits(want, facts):
            return _DISTANT
        met = sum(word <= facts.terms for word in want.words) / len(want.words) if want.words else 1.0
        label = self._typed(want, facts, kin, met) if want.types else self._untyped(kin, met)
        if want.kind == "line" and kin is Kin.SAME and met < 1 and self._may_replace(want.source, row):
            label = _SIMILAR
        if label is not None and want.measure is not None:
            label = min(label, _closeness(want.measure, facts))
        if label is not None and want.others & (facts.made_for or facts.title):
            label = min(label, _SIMILAR)
        if want.evidence and kin in (Kin.SAME, Kin.ALIKE) and not want.evidence & facts.terms:
            # Of the few that say it suits, the rest are told apart; where it is not said, it may still be so.
            return _SIMILAR if kin is Kin.SAME else None
        return label

    def _instead(self, want: Want, row: int) -> float | None:
        """Another brand's product of the type is what is asked for, near it in price and size."""
        facts, kin = self._shelf.facts[row], self.kin(want, self._shelf.facts[row])
        if row == want.source:
            return _SIMILAR
        if kin is not Kin.SAME:
            return {Kin.ALIKE: None, Kin.SIBLING: _DISTANT, Kin.OTHER: 0.0, Kin.UNKNOWN: None}[kin]
        if facts.brand == self._shelf.facts[want.source].brand:
            return _SIMILAR if all(word <= facts.title for word in want.words) else None
        return _EXACT if self._may_replace(want.source, row) else _SIMILAR if facts.brand else None

    def _may_replace(self, source: int, row: int) -> bool:
        """Whether two products are of different brands, and near in price and in each measure that both titles have."""
        ours, theirs = self._shelf.facts[source], self._shelf.facts[row]
        if not theirs.brand or theirs.brand == ours.brand:
            return False
        prices = self._shelf.products[source].price, self._shelf.products[row].price
        if all(prices) and not _is_near(prices[0] or 0.0, prices[1] or 0.0, _NEAR_PRICE):
            return False
        return all(
            any(_is_near(a, b, _NEAR_SIZE) for a in ours.sizes[unit] for b in theirs.sizes[unit])
            for unit in ours.sizes.keys() & theirs.sizes.keys()
        )

    def kin(self, want: Want, facts: Facts) -> Kin:
        """Of a product to the types that a query names or, where it names none, to its source's."""
        source = self._shelf.facts[want.source].type_id
        wanted = want.types or ({source} if source else frozenset())
        if facts.type_id is None or not wanted:
            return Kin.UNKNOWN
        return min((self._kin(type_id, facts.type_id) for type_id in wanted), key=lambda kin: kin.value)

    def _kinship(self, wanted: str, found: str) -> Kin:
        types = self._shelf.types
        if wanted == found:
            return Kin.SAME
        names = types.types[wanted].name, types.types[found].name
        if self._shelf.heads(names[0]) & self._shelf.heads(names[1]):
            # A shelf of a category tree is no kind of the shelf above: "Cell Phones > Cell Phone Accessories".
            is_kind = any(above.type_id == wanted for above in types.above(found))
            return Kin.SAME if is_kind or self._terms(names[0]) == self._terms(names[1]) else Kin.ALIKE
        parents = types.types[wanted].parent, types.types[found].parent
        return Kin.SIBLING if parents[0] is not None and parents[0] == parents[1] else Kin.OTHER

    def _terms(self, name: str) -> Terms:
        return frozenset(self._shelf.analyzer.terms(name))

    def _fits(self, want: Want, facts: Facts) -> bool:
        """Whether a product is made for what the query asks for: the case, where the phone is asked for."""
        if want.named:
            return want.named <= facts.made_for
        source = self._shelf.facts[want.source].made_for
        fitting = [word for word in want.words if word <= facts.made_for and not word <= source]
        return 0 < len(want.words) <= 2 * len(fitting)

    def _typed(self, want: Want, facts: Facts, kin: Kin, met: float) -> float | None:
        if kin is Kin.SAME:
            return _EXACT if met == 1 else 0.3 if met >= 0.5 else _RELATED
        said = want.named.union(*want.words)
        all_named = bool(said) and said <= facts.title
        if kin is Kin.ALIKE:
            return None if all_named else _SIMILAR if met == 1 else 0.15
        if kin is Kin.SIBLING:
            return 0.25 if met == 1 else _DISTANT
        if kin is Kin.UNKNOWN and not said:
            return None
        itself = want.named <= facts.title - facts.made_for
        if kin is Kin.UNKNOWN and want.named:
            if itself or (want.words and met == 1 and want.kind != "brand"):
                return None
            return _DISTANT if want.named & facts.title else 0.0
        is_part = kin is Kin.OTHER and self._is_part(want, facts)
        return None if itself and all_named and not is_part else 0.0

    def _is_part(self, want: Want, facts: Facts) -> bool:
        """Whether a product's type only speaks of what is asked for, or goes with it: a laptop bag is no laptop."""
        assert facts.type_id is not None
        speaks = bool(want.named & self._terms(self._shelf.types.types[facts.type_id].name))
        accessories = self._shelf.accessories
        return speaks or (facts.type_id in accessories and not want.types & accessories)

    def _untyped(self, kin: Kin, met: float) -> float:
        if met == 1:
            return _EXACT if kin in (Kin.SAME, Kin.UNKNOWN) else 0.45
        if met >= 0.75:
            return 0.35 if kin is Kin.SAME else _RELATED
        return _DISTANT if kin is Kin.SAME and met >= 0.5 else 0.0


def _is_near(a: float, b: float, ratio: float) -> bool:
    return max(a, b) <= ratio * min(a, b)


def _coded(code: str, facts: Facts, kin: Kin) -> float | None:
    """1 for a product with the code; silence where the code may be of what the product fits."""
    if any(code in bare_code(other) for other in facts.codes):
        return _EXACT if kin in (Kin.SAME, Kin.UNKNOWN) else None
    return _DISTANT if kin is Kin.SAME else 0.0


def _closeness(measure: tuple[str, float], facts: Facts) -> float:
    """1 for the number itself, less for one near it, little where there is none or it is far off."""
    unit, number = measure
    ratios = [max(n, number) / min(n, number) for n in facts.measures.get(unit, ()) if min(n, number) > 0]
    if not ratios:
        return _RELATED
    nearest = min(ratios)
    return _EXACT if nearest == 1 else _SIMILAR if nearest <= _NEAR else _RELATED if nearest <= _FAR else _DISTANT
