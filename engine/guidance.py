"""What understanding and routing add to a ranking, as numbers by row.

Nothing is ever hidden: what a query does not ask for falls back, and stays among the candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from engine.columns import Columns
from engine.config import SearchConfig
from engine.errors import ConfigError
from engine.filters import Exists, Range
from engine.fitted import Fitted
from engine.preferences import NO_WANTS, Wants, WantsOf, scope_of
from engine.product import AttributeValue, Product
from engine.types import Candidates, Mask, Routed, Rows, Scores
from engine.understanding.constraints import Constraint
from engine.understanding.exclusions import ToldByFields
from engine.understanding.negation import Excluded, has_excluded
from engine.understanding.understand import Understood

# What shoppers mean to the letter where the words are sure; of colours and sizes shops say too little.
_STRICT = frozenset({"price", "rating", "household"})


class GuidanceNumbers(Fitted, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What guidance adds to and takes from fused scores, which go from 0 to 1.

    - ``outside_penalty``: taken from what is not of the type that a query surely asks for.
    - ``other_penalty``: taken from what is in no category that is called as the thing that a query asks for.
    - ``model_name_gain``: given to a title that has a model's whole name, as in "S23 Ultra".
    - ``exclusion_penalty``: taken from a product that names what is not wanted, which may yet be right: texts say
      "fits belts with buckles".
    - ``denied_gain``: given to a product of which a flag says that it is without what is not wanted.
    - ``named_limit_share``: of a limit's weight, for colours and brands, which the words of a query find as well.
    - ``wanted_share``: of the best fit, from which rows are looked for on their own.
    - ``behind``: taken from what does not meet a limit that is meant to the letter, so that it comes after all that
      does; ``far_behind`` the same where a query has wants as well, and from what it excludes.
    - ``likely_type``: the probability of a type from which the rest of a query is taken to ask for it.
    - ``stating_share``: of the products of the category that a query names, those that must state a field, so that a
      measure in its unit is surely of it.
    - ``least_excluded``, ``most_excluded``: of a type's products, what a phrase can mean to exclude.
    """

    outside_penalty: float
    other_penalty: float
    model_name_gain: float
    exclusion_penalty: float
    denied_gain: float
    named_limit_share: float
    wanted_share: float
    behind: float
    far_behind: float
    likely_type: float
    stating_share: float
    least_excluded: float
    most_excluded: float

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if name == "far_behind":
                if value < self.behind:
                    raise ConfigError(f"far_behind is {value}; it must be at least behind, which is {self.behind}")
            elif name != "provenance" and not 0 <= value <= 1:
                raise ConfigError(f"{name} is {value}; it must be from 0 to 1")


NUMBERS = GuidanceNumbers.read(Path(__file__).with_suffix(".toml"))


@dataclass(frozen=True, slots=True, eq=False)
class Guidance:
    """What to add to fused scores, which go from 0 to 1.

    ``routed`` is what the router says, and ``route_weight`` what its word counts. ``constraints`` is float32
    (n_products,), None where they ask for nothing. ``excludes`` says which of some rows have what the query excludes,
    None where it excludes nothing; ``named`` what share of the models' names in the query their titles have, None where
    it has none. ``wanted`` are rows to look for on their own, so that what is asked for is among the candidates.
    ``meets`` are the rows that are within all limits, bool (n_products,), None where none is.
    ``limits`` are the constraints that some products do not meet, each with the rows that do. ``wants`` are what is
    wanted beyond words, relative to the type asked for; ``wants_of`` gives them anew for another route and what was
    found, None where the query wants nothing more.
    """

    routed: Routed | None = None
    route_weight: float = 0.0
    constraints: Scores | None = None
    excludes: Callable[[Rows], Mask] | None = None
    named: Callable[[Rows], Scores] | None = None
    wanted: Mask | None = None
    limits: tuple[tuple[Constraint, Mask], ...] = ()
    wants: Wants = NO_WANTS
    wants_of: WantsOf | None = None
    meets: Mask | None = None
    numbers: GuidanceNumbers = NUMBERS

    @property
    def constrains(self) -> bool:
        return not (self.constraints is None and self.excludes is None and self.named is None)

    def constrained(self, fused: Candidates, depth: int) -> Candidates:
        """With what constraints ask for, and with the best ``depth`` looked at for what is excluded and for names."""
        scores = fused.scores.copy()
        if self.constraints is not None:
            scores += self.constraints[fused.rows]
        best = np.argsort(-scores, kind="stable")[:depth]
        if self.excludes is not None:
            scores[best] -= np.float32(self.numbers.exclusion_penalty) * self.excludes(fused.rows[best])
        if self.named is not None:
            scores[best] += np.float32(self.numbers.model_name_gain) * self.named(fused.rows[best])
        return Candidates.ranked(fused.rows, scores)

    def revised(self, fused: Candidates) -> Guidance:
        """With the route, and what is wanted, in the light of what was found by words and meaning."""
        revise = self.routed.revise if self.routed else None
        routed = revise(fused) if revise and len(fused) else self.routed
        wants = self.wants_of(routed, fused) if self.wants_of else self.wants
        return self if routed is self.routed and wants is self.wants else replace(self, routed=routed, wants=wants)

    @property
    def boosts(self) -> bool:
        """Whether the route moves products."""
        return self.routed is not None and self.routed.fit is not None

    def boosted(self, fused: Candidates) -> Candidates:
        """With what products of the types asked for gain, and others lose."""
        assert self.routed is not None
        assert self.routed.fit is not None
        fit, inside = self.routed.fit[fused.rows], self.routed.inside
        outside = ~inside[fused.rows] if inside is not None else np.zeros(len(fused), np.bool_)
        if self.wants.scope is not None:
            # Wants put the products of a type in order; which finer type is likelier has no say in that.
            within = self.wants.scope[fused.rows]
            fit, outside = np.where(within, self.routed.fit.max(), fit), outside & ~within
        scores = fused.scores + np.float32(self.route_weight) * fit
        scores -= np.float32(self.numbers.outside_penalty) * outside
        return Candidates.ranked(fused.rows, scores)


def guide(
    understood: Understood, routed: Routed | None, columns: Columns, config: SearchConfig,
    products: Callable[[Rows], Sequence[Product]], wants_of: WantsOf | None = None,
    exclusions: ToldByFields | None = None, category: Mask | None = None, asked: Mask | None = None,
    numbers: GuidanceNumbers = NUMBERS,
) -> Guidance:  # fmt: skip
    """The guidance for one query; ``products`` gives the products of some rows, to be read, and ``category`` has the
    rows of the category that the query names, ``asked`` those of the categories that are called as the thing that it
    asks for; None where there are none.
    """
    wants = wants_of(routed, Candidates.empty()) if wants_of else NO_WANTS

    def excludes(rows: Rows) -> Mask:
        return np.array([has_excluded(_text(product), understood.excluded) for product in products(rows)], np.bool_)

    def named(rows: Rows) -> Scores:
        titles = [product.title for product in products(rows)]
        found = np.array([[name.found_in(title) for name in understood.names] for title in titles], np.float32)
        found = found.reshape(len(titles), len(understood.names))
        codes = np.array([name.code for name in understood.names])
        shares = [np.zeros(len(titles), np.float32)]
        for code in dict.fromkeys(codes.tolist()):  # of several models a product is one at most
            of_code = found[:, codes == code]
            known = of_code.any(axis=0)  # "S24 support" is no name that any title has
            shares.append(of_code.sum(axis=1) / max(known.sum(), 1))
        return np.asarray(np.max(shares, axis=0), np.float32)

    likely = (
        routed.fit >= numbers.wanted_share * routed.fit.max() if routed is not None and routed.fit is not None else None
    )
    limits = tuple(_limits(_sure_within(understood.constraints, columns, category, numbers.stating_share), columns))
    behind = numbers.far_behind if wants_of else numbers.behind  # a wish lifts by more than a good match
    constraints, allowed = _constraints(limits, columns, config.constraint_weight, numbers.named_limit_share, behind)
    scopes = _scopes(routed, category, numbers.likely_type)
    out = _excluded(exclusions, understood.excluded, scopes, numbers) if exclusions and understood.excluded else []
    refused = {word for phrase in understood.excluded for word in phrase.words}
    out += exclusions.contrary(word for word in understood.words if word not in refused) if exclusions else ()
    if constraints is None and (out or asked is not None):
        constraints = np.zeros(len(columns), np.float32)
    for having in out:
        constraints[having] -= np.float32(numbers.far_behind)  # type: ignore[index]
    for phrase in understood.excluded if exclusions and out else ():
        denied = exclusions.denied(phrase) if exclusions else None
        if denied is not None:  # surer than what does not say
            constraints[denied] += np.float32(numbers.denied_gain)  # type: ignore[index]
    if asked is not None:
        constraints[~asked] -= np.float32(numbers.other_penalty)  # type: ignore[index]
    if constraints is not None and scopes and (out or allowed is not None):
        # What falls behind must not make room for other things: "tv below 30000" asks for no remote.
        constraints[~np.logical_or.reduce(scopes)] -= np.float32(numbers.behind)
    likely = wants.rows if wants else likely  # what is wanted of a type is nearer to the point than the type alone
    wanted = likely if allowed is None else allowed if likely is None else likely & allowed
    if wanted is not None and not wanted.any():
        wanted = allowed
    meets = np.logical_and.reduce([fits for _, fits in limits]) if limits else None
    meets = meets if meets is not None and meets.any() else None
    return Guidance(
        routed, config.route_weight, constraints, excludes if understood.excluded else None,
        named if understood.names else None, wanted, limits, wants, wants_of, meets, numbers,
    )  # fmt: skip


def _excluded(
    exclusions: ToldByFields, excluded: Sequence[Excluded], scopes: Sequence[Mask], numbers: GuidanceNumbers
) -> list[Mask]:
    """The rows that each exclusion puts behind, if a field tells of it and it divides a type that is asked for.

    "Fridge not double door" does; "bite not collar" names a collar, and no picnic basket is an accessory anyway. So
    does what an attribute tells of and no product of the type has: foldables may be a category beside "Smartphones".
    """
    low, high = numbers.least_excluded, numbers.most_excluded
    out = []
    for phrase in excluded if scopes else ():
        masks = exclusions.excluded(phrase)
        dividing = next((m for m in masks if any(low <= m[scope].mean() <= high for scope in scopes)), None)
        apart = exclusions.having(phrase.words) if dividing is None else None
        if apart is not None and not any(apart[scope].any() for scope in scopes):
            dividing = apart
        if dividing is not None:
            out.append(dividing)
    return out


def _scopes(routed: Routed | None, category: Mask | None, likely_type: float) -> list[Mask]:
    """What the query is surely about: the category that it names, and the type that the router finds likely."""
    likely = routed is not None and any(found.probability >= likely_type for found in routed.chosen)
    return [rows for rows in (category, scope_of(routed, likely_type).rows if likely else None) if rows is not None]


def require_rows(routed: Routed, n_products: int) -> Routed:
    """``routed`` itself. Raises ValueError where it does not speak of this many products."""
    for by_row in (routed.fit, routed.inside):
        if by_row is not None and by_row.shape != (n_products,):
            raise ValueError(f"the router speaks of {by_row.shape} products, the index has {n_products}")
    return routed


def _sure_within(
    constraints: Sequence[Constraint], columns: Columns, category: Mask | None, stating_share: float
) -> Iterator[Constraint]:
    """With measures sure whose field most of the ``category``'s products state: the "16 inch" of notebooks are those of
    the display, whatever else a catalog has inches of.
    """
    for constraint in constraints:
        if category is not None and constraint.kind == "measure" and constraint.filter and not constraint.sure:
            states = columns.mask([Exists(constraint.field)])
            if states is not None and states[category].mean() >= stating_share:
                constraint = replace(constraint, sure=True)
        yield constraint


def _limits(constraints: Iterable[Constraint], columns: Columns) -> Iterator[tuple[Constraint, Mask]]:
    """What every product meets is no limit."""
    for constraint in constraints:
        fits = columns.mask([constraint.filter]) if constraint.filter is not None else None
        if fits is not None and not fits.all():
            yield constraint, ~fits if constraint.denied else fits


def _constraints(
    limits: Sequence[tuple[Constraint, Mask]], columns: Columns, weight: float, named_share: float, behind: float
) -> tuple[Scores | None, Mask | None]:
    """Products that fit rise a little; where limits are strict and the words sure, those that do not fall behind."""
    added: Scores | None = None
    allowed: Mask | None = None
    for constraint, fits in limits:
        added = np.zeros(len(columns), np.float32) if added is None else added
        added[fits] += weight * (named_share if constraint.kind in ("color", "brand") else 1.0)
        if constraint.sure and (constraint.kind in _STRICT or _is_literal(constraint)):
            says = columns.mask([Exists(constraint.field)])
            assert says is not None
            added[says & ~fits] -= behind
            allowed = fits if allowed is None else allowed & fits
    return added, allowed if allowed is not None and allowed.any() else None


def _is_literal(constraint: Constraint) -> bool:
    """Whether a measure is "more than", "at most" or "not" something: meant to the letter, as a size alone is not."""
    limit = constraint.filter
    one_sided = isinstance(limit, Range) and (limit.at_least is None) != (limit.at_most is None)
    return constraint.kind == "measure" and (one_sided or constraint.denied)


def _text(product: Product) -> str:
    """What a shopper would look at to see whether a product has something. Flags that are set are named."""
    said = (_said(*item) for item in product.attributes.items())
    return " . ".join([product.title, *product.bullets, product.description, *filter(None, said)])


def _said(name: str, value: AttributeValue) -> str:
    if isinstance(value, bool):
        return name.replace("_", " ") if value else ""
    return " . ".join(value) if isinstance(value, list) else str(value)
