"""What needs count in a ranking: fitted numbers, in ``needs.toml``."""

from __future__ import annotations

from pathlib import Path

from engine.errors import ConfigError
from engine.fitted import Fitted
from engine.preferences import Preference, Scope, Wants
from engine.types import Mask


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
    - ``least_having``, ``most_having``: how many products at least, and less than which share of a type's, must have a
      word of the query, so that those are what it wants something of.
    - ``typical_share``: of the products of categories of one name, what one of them must have to be meant by it.
    - ``category_share``: of the products that a noun names, those that must be in the categories that are called so.
    - ``likely_type``: the probability of a type from which wants are relative to it, where the router chose none.
    - ``of_a_type``: what products of the types gain that a query without a type is answered with.
    - ``wanted_quantile``: of what is wanted, from which products are looked for on their own.
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
    least_having: int
    most_having: float
    typical_share: float
    category_share: float
    likely_type: float
    of_a_type: float
    wanted_quantile: float

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if name in (
                "gradable_weight",
                "use_weight",
                "least_values",
                "prior_ratings",
                "learnt_prior",
                "least_having",
            ):
                if value < 0:
                    raise ConfigError(f"{name} is {value}; it must be 0 or more")
            elif name != "provenance" and not 0 <= value <= 1:
                raise ConfigError(f"{name} is {value}; it must be from 0 to 1")

    def wants(self, preferences: tuple[Preference, ...], scope: Mask | None, groups: tuple[Scope, ...] = ()) -> Wants:
        return Wants(
            preferences, scope, groups, self.qualifying_share, self.unknown_fit, self.of_a_type, self.wanted_quantile
        )


NUMBERS = NeedNumbers.read(Path(__file__).with_name("needs.toml"))
