"""Sessions that are no shopper's: programs that search too much, too fast, or click whatever they see."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError
from training.curation.rows import NO_SESSION, Impressions, Mask, Rows
from training.curation.step import Context, Step
from training.settings import at_least

_LEAST_SEARCHES = 5  # with fewer, a double click is all there is to be fast at


class SessionsStep(Step, frozen=True, kw_only=True, tag="sessions"):
    """Drops whole sessions of a log; 0 turns a rule off. A search is a query of a session at one time.

    - ``max_searches``: sessions with more searches are programs;
    - ``min_seconds``: so are those of five searches or more whose median time from one to the next is less;
    - ``max_click_share``: and those that click a larger share of what they see, when that is ``min_shown`` or more;
    - ``min_searches``: sessions with fewer are one-off: 2 drops those that searched once.

    Rows without a session are kept. Raises ConfigError where no row has one.
    """

    max_searches: int = 100
    min_seconds: float = 1.0
    max_click_share: float = 0.8
    min_shown: int = 30
    min_searches: int = 0

    def __post_init__(self) -> None:
        at_least(self, 0, "max_searches", "min_seconds", "min_searches")
        at_least(self, 1, "min_shown")
        if not 0 <= self.max_click_share <= 1:
            raise ValueError(f"max_click_share is {self.max_click_share}; it must be from 0, off, to 1")

    def apply(self, rows: Rows, context: Context) -> Rows:
        impressions = rows.impressions
        if not len(impressions):
            return rows
        if (impressions.session == NO_SESSION).all():
            raise ConfigError(
                "the step 'sessions' needs to know whose a row of the log is, and none says; name the column with "
                'columns = { session = "…" } in its input, or leave the step out'
            )
        if self.min_seconds and np.isnan(impressions.time).all():
            context.tally.note("min_seconds was not looked at: no row of the log has a time")
        for rule, bad in self._rules(impressions):
            affected = bad[impressions.session] & (impressions.session != NO_SESSION)
            impressions = context.tally.without(impressions, affected, rule)
        return replace(rows, impressions=impressions)

    def _rules(self, impressions: Impressions) -> Iterator[tuple[str, Mask]]:
        """Each rule, with the sessions that break it and none of those before, by number."""
        of_log = impressions.keep(impressions.session != NO_SESSION)
        n_sessions = int(of_log.session.max()) + 1
        shown = np.bincount(of_log.session, minlength=n_sessions)
        clicked = np.bincount(of_log.session, of_log.clicked, n_sessions)
        session, time = _searches(of_log)
        searches = np.bincount(session, minlength=n_sessions)
        gaps = _median_gaps(session, time, n_sessions)
        clicks_all = (clicked > self.max_click_share * shown) & (shown >= self.min_shown)
        done = np.zeros(n_sessions, np.bool_)
        for rule, is_on, bad in (
            ("too many searches for a shopper", self.max_searches, searches > self.max_searches),
            ("searches too fast for a shopper", self.min_seconds, gaps < self.min_seconds),
            ("clicks everything", self.max_click_share, clicks_all),
            ("one-off session", self.min_searches, searches < self.min_searches),
        ):
            if is_on:
                yield rule, bad & ~done
                done |= bad


def _searches(impressions: Impressions) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Session and time of each search, by session and then time."""
    columns = (impressions.query, np.nan_to_num(impressions.time, nan=-1.0), impressions.session)
    order = np.lexsort(columns)
    begins = np.zeros(len(order), np.bool_)
    begins[:1] = True
    for column in columns:
        begins[1:] |= column[order][1:] != column[order][:-1]
    first = order[begins]
    return impressions.session[first], impressions.time[first]


def _median_gaps(session: NDArray[np.int64], time: NDArray[np.float64], n_sessions: int) -> NDArray[np.float64]:
    """Median seconds between a session's searches; infinite where there are few, or no times."""
    out = np.full(n_sessions, np.inf)
    starts = np.flatnonzero(np.diff(session, prepend=-1))
    for start, end in zip(starts, np.append(starts[1:], len(session)), strict=True):
        times = time[start:end]
        if end - start >= _LEAST_SEARCHES and not np.isnan(times).any():
            out[session[start]] = np.median(np.diff(times))
    return out
