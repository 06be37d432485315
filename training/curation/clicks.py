"""Labels from clicks, with what positions do to clicks taken out."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError
from training.curation.propensity import Counts, Floats, all_pairs, expectation_maximisation
from training.curation.report import Propensities, Tally
from training.curation.rows import NO_POSITION, Impressions, Mask, Origin, Pair, Rows
from training.curation.step import Context, Step
from training.settings import at_least

_BEST_OF_LOG = 0.95  # the quantile of all pairs' rates that is a whole label where the log is the scale


class ClicksStep(Step, frozen=True, kw_only=True, tag="clicks"):
    """Turns the impressions of the log into labelled pairs, one for each query and product.

    ``propensities`` says how probable it is that a position is looked at: ``all-pairs`` or ``em`` estimate it from the
    log (``training.curation.propensity``), ``auto`` takes the second where the first cannot tell, a list of numbers
    says it, as a test of the shop's own found, and ``none`` takes clicks as they are. Positions from ``deepest`` on are
    one.

    A pair's rate is the mean over its impressions of clicks / p, which is without bias where p is right (Joachims et
    al. 2017, "Unbiased Learning-to-Rank with Biased Feedback"). No p counts as less than ``floor``, so that no click
    counts for more than 1 / floor of them; a purchase counts as ``purchase`` clicks. Rates are pulled to the log's mean
    as if ``prior`` more impressions had had it. ``scale`` says what a label is: the rate over the best of its
    ``query``, so that every query has a product labelled 1; or over the rate that one pair in twenty of the ``log``
    exceeds, up to 1, so that a query without a good product says so. Queries with fewer clicks than ``min_clicks`` say
    nothing, and are dropped. A log of clicks alone has no rates: a label is then clicks / (those of the query's most
    clicked product + 1).
    """

    propensities: Literal["auto", "all-pairs", "em", "none"] | tuple[float, ...] = "auto"
    deepest: int = 20
    floor: float = 0.05
    prior: float = 10.0
    purchase: float = 1.0
    scale: Literal["query", "log"] = "log"
    min_clicks: int = 1

    def __post_init__(self) -> None:
        at_least(self, 1, "deepest", "purchase", "min_clicks")
        at_least(self, 0, "prior")
        if not 0 < self.floor <= 1:
            raise ValueError(f"floor is {self.floor}; it must be above 0, up to 1")
        if isinstance(self.propensities, tuple) and not (self.propensities and min(self.propensities) > 0):
            raise ValueError("propensities must be numbers above 0, the first position's first")

    def apply(self, rows: Rows, context: Context) -> Rows:
        tally, impressions = context.tally, rows.impressions
        if not len(impressions):
            return rows
        is_clicks_alone = bool((impressions.clicked | impressions.purchased).all())
        corrects = self.propensities != "none" and not is_clicks_alone
        if corrects:
            impressions = tally.without(impressions, impressions.position == NO_POSITION, "no position")
        of_query = np.bincount(impressions.query, _clicked(impressions), len(impressions.queries))
        few = (of_query < self.min_clicks)[impressions.query]
        impressions = tally.without(impressions, few, "query with too few clicks")
        if is_clicks_alone:
            tally.note("the log has clicks alone: labels are shares of clicks, and positions are not corrected for")
        if not len(impressions):
            return replace(rows, impressions=impressions)
        looks = self._looks(impressions, tally) if corrects else np.ones(len(impressions))
        pairs = self._pairs(impressions, looks, is_clicks_alone)
        everything = np.ones(len(impressions), np.bool_)
        tally.merge("impressions", "now in a pair", len(impressions), impressions.origins(everything))
        tally.add("pairs", len(pairs))
        return replace(rows, impressions=Impressions.none(), pairs=(*rows.pairs, *pairs))

    def _looks(self, impressions: Impressions, tally: Tally) -> Floats:
        """How probable it is that each impression was looked at; the tally keeps what was found."""
        position = np.minimum(impressions.position, self.deepest).astype(np.int64) - 1
        clicked = _clicked(impressions).astype(np.float64)
        counts = Counts.of(_pairs_of(impressions), position, clicked, int(position.max()) + 1)
        method, p = self._estimate(counts)
        if self.propensities == "auto" and method == "em":
            tally.note(
                "all-pairs could not tell of every position: too few products were shown and clicked at more than one. "
                "What em says leans on few of them and on what it assumes; a test that swaps products would tell"
            )
        shown, clicks = (np.bincount(counts.position, of, len(p)).astype(int) for of in (counts.shown, counts.clicks))
        moved = float(counts.shown[counts.moved].sum() / counts.shown.sum())
        tally.propensities = Propensities(method, p.tolist(), shown.tolist(), clicks.tolist(), moved)
        return np.asarray(np.maximum(p, self.floor)[position])

    def _estimate(self, counts: Counts) -> tuple[str, Floats]:
        """The method and what it found, shape (n_positions,). Raises ConfigError where it cannot."""
        if isinstance(self.propensities, tuple):
            last = len(self.propensities) - 1
            given = np.array([self.propensities[min(k, last)] for k in range(counts.n_positions)])
            return "the configuration", given / given[0]
        if self.propensities != "em" and (found := all_pairs(counts)) is not None:
            return "all-pairs", found
        if self.propensities == "all-pairs":
            raise ConfigError(
                "the step 'clicks' cannot tell propensities by all-pairs: some position shares too few products with "
                "others, shown and clicked at both; set a lower deepest, or propensities to 'em' or to known numbers"
            )
        return "em", expectation_maximisation(counts)

    def _pairs(self, impressions: Impressions, looks: Floats, is_clicks_alone: bool) -> list[Pair]:
        keys, pair = np.unique(_pairs_of(impressions), return_inverse=True)
        n_products = len(impressions.product_ids)
        query, product = keys // n_products, keys % n_products
        value = np.where(impressions.purchased, self.purchase, impressions.clicked.astype(np.float64))
        if is_clicks_alone:
            clicks = np.bincount(pair, value).astype(np.float64)
            labels = clicks / (_best(clicks, query) + 1)
        else:
            rate = self._rates(pair, value, looks)
            whole = _best(rate, query) if self.scale == "query" else np.quantile(rate, _BEST_OF_LOG) or rate.max()
            labels = np.minimum(rate / whole, 1.0)
        by_pair = np.argsort(pair, kind="stable")
        ends = np.cumsum(np.bincount(pair))
        return [
            Pair(
                impressions.queries[query[i]], impressions.product_ids[product[i]], float(labels[i]),
                tuple(Origin(int(impressions.file[row]), int(impressions.line[row])) for row in rows),
            )
            for i, rows in enumerate(np.split(by_pair, ends[:-1]))
        ]  # fmt: skip

    def _rates(self, pair: NDArray[np.int64], value: Floats, looks: Floats) -> Floats:
        """Of each pair, by number, the smoothed rate of clicks of what was looked at."""
        weighed = value / looks
        shown = np.bincount(pair)
        rates: Floats = (np.bincount(pair, weighed) + self.prior * weighed.mean()) / (shown + self.prior)
        return rates


def _best(values: Floats, query: NDArray[np.int64]) -> Floats:
    """For each pair, the highest of its query's values."""
    best = np.zeros(query.max() + 1)
    np.maximum.at(best, query, values)
    of_pair: Floats = best[query]
    return of_pair


def _clicked(impressions: Impressions) -> Mask:
    return impressions.clicked | impressions.purchased


def _pairs_of(impressions: Impressions) -> NDArray[np.int64]:
    """A number for each impression's query and product."""
    return impressions.query.astype(np.int64) * len(impressions.product_ids) + impressions.product
