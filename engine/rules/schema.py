"""A file of rules: what may stand in it, read and checked. Every error names rule, field, value and remedy.

::

    timezone = "Asia/Kolkata"

    [[campaign]]
    id = "diwali"
    note = "Priya, until stock is gone"
    starts = 2026-10-20
    ends = 2026-11-09

    [[rule]]
    id = "diwali-tv"
    note = "Priya: the TVs of the leaflet"
    campaign = "diwali"
    when = { phrase = ["tv", "television"], locale = "en-IN" }
    [rule.then]
    pin = { SKU-0278 = 1 }
    boost = [{ where = "brand=Samsung", by = 0.1 }]
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo
from pathlib import Path
from typing import Any, NoReturn
from zoneinfo import ZoneInfo

import msgspec

from engine.errors import InvalidFilterError, RulesError
from engine.filters import Filter, parse_filter

LAST_RANK = 100  # pins stand within what the first tier of candidates has
_LOCALE = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{2,8})*")
_TARGET = re.compile(r"(?:https?://|/)[^\s\x00-\x1f\x7f\"'<>`]*")
_PLACE = re.compile(r" - at `\$\.?(.*)`$")
_LONGEST = 60  # characters of a value that an error repeats

Texts = str | tuple[str, ...]


def texts(value: Texts) -> tuple[str, ...]:
    """One text or several, as several."""
    return (value,) if isinstance(value, str) else value


class Lift(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What moves up or down: products that pass all filters of ``where``, by ``by``, where the best score is about 1.

    To bury by 1, which is so where nothing is said, puts a product behind all that are not buried.
    """

    where: Texts
    by: float = 0.0


class When(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which searches a rule is for: those for which every condition here holds, and of a list one of its entries.

    ``query`` is the whole query, ``phrase`` words in a row in it, ``contains`` words anywhere in it. ``type`` is the
    product type that the query is routed to, or one above it. ``context`` is what the shop says of the search;
    ``locale`` the shopper's, or its beginning. Without conditions a rule is for every search.
    """

    query: Texts = ()
    phrase: Texts = ()
    contains: Texts = ()
    type: Texts = ()
    locale: Texts = ()
    context: dict[str, Texts] = {}


class Then(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a rule does.

    ``pin`` gives products a rank. ``boost`` and ``bury`` move what passes filters. ``hide`` takes away what passes one
    of its filters, ``filter`` what does not pass all of its. ``redirect`` names a page to show instead. ``synonyms``
    are searched as well; ``replace`` is searched in place of the query.
    """

    pin: dict[str, int] = {}
    boost: tuple[Lift, ...] = ()
    bury: tuple[Lift, ...] = ()
    hide: Texts = ()
    filter: Texts = ()
    redirect: str = ""
    synonyms: Texts = ()
    replace: str = ""


class _Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule as written."""

    id: str
    note: str
    campaign: str = ""
    starts: Any = None
    ends: Any = None
    priority: int = 0
    enabled: bool = True
    when: When = When()
    then: Then


class _Campaign(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: str
    note: str
    starts: Any = None
    ends: Any = None
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Span:
    """From ``starts`` on and before ``ends``, in seconds since 1970; either may be infinite."""

    starts: float = float("-inf")
    ends: float = float("inf")

    def holds(self, now: float) -> bool:
        return self.starts <= now < self.ends

    def within(self, other: Span) -> Span:
        """The time of both."""
        return Span(max(self.starts, other.starts), min(self.ends, other.ends))


@dataclass(frozen=True, slots=True, eq=False)
class Move:
    """What passes all ``filters`` moves by ``by``, down where that is negative; ``text`` is how the filters read."""

    filters: tuple[Filter, ...]
    by: float
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """A rule, checked. ``place`` is where it stands in the file, from 0; ``span`` is its time within its campaign's.

    ``moves`` are its boosts and buries; ``hide`` is a filter each, of which any hides, and ``keep`` what all must pass.
    """

    id: str
    note: str
    campaign: str
    place: int
    priority: int
    enabled: bool
    span: Span
    when: When
    then: Then
    moves: tuple[Move, ...]
    hide: tuple[tuple[Filter, str], ...]
    keep: tuple[tuple[Filter, str], ...]


def read_rules(path: str | Path) -> tuple[Rule, ...]:
    """The rules of a file, in its order. Raises RulesError."""
    return parse_rules(read_file(path), str(path))


def read_file(path: str | Path) -> bytes:
    """A file's content. Raises RulesError."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise RulesError(str(path), "", "", f"cannot be read: {error.strerror or error}") from error


def parse_rules(data: bytes, path: str) -> tuple[Rule, ...]:
    """The rules of a file's content; ``path`` is what errors call it. Raises RulesError."""
    try:
        tables = msgspec.toml.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        hint = "what { begins on a line, } must end there; for more room write [rule.then] under the rule"
        raise RulesError(path, "", "", f"is no TOML: {error}. {hint}") from error
    known = {"timezone", "rule", "campaign"}
    if extra := sorted(set(tables) - known):
        raise RulesError(path, "", extra[0], f"is not known; a file has {', '.join(sorted(known))}")
    zone = _zone(tables.get("timezone", "UTC"), path)
    campaigns: dict[str, tuple[_Campaign, Span]] = {}
    for place, table in enumerate(_tables(tables, "campaign", path)):
        campaign, fail = _converted(table, _Campaign, f"campaign {place + 1}", path)
        if campaign.id in campaigns:
            fail("id", f"{campaign.id!r} was already given to a campaign; give each its own")
        campaigns[campaign.id] = campaign, _span(campaign, zone, fail)
    rules: dict[str, Rule] = {}
    for place, table in enumerate(_tables(tables, "rule", path)):
        written, fail = _converted(table, _Rule, f"number {place + 1}", path)
        if written.id in rules:
            fail("id", f"{written.id!r} was already given to rule {rules[written.id].place + 1}; give each its own")
        rules[written.id] = _checked(written, place, campaigns, zone, fail)
    return tuple(rules.values())


class _Fail:
    """Raises what is wrong with a field of one rule."""

    def __init__(self, path: str, rule: str) -> None:
        self._path, self._rule = path, rule

    def __call__(self, field: str, reason: str) -> NoReturn:
        raise RulesError(self._path, self._rule, field, reason)


def _tables(tables: Mapping[str, Any], name: str, path: str) -> Sequence[Any]:
    found = tables.get(name, [])
    if not isinstance(found, list):
        raise RulesError(path, "", name, f"is {_shown(found)}; write each under a head of its own, [[{name}]]")
    return found


def _converted(table: Any, kind: Any, name: str, path: str) -> tuple[Any, _Fail]:
    """The record in a table, and how to complain about it."""
    given = table.get("id") if isinstance(table, dict) else None
    fail = _Fail(path, given if isinstance(given, str) and given.strip() else name)
    try:
        record = msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        said = str(error)
        place = _PLACE.search(said)
        fields = kind.__struct_fields__
        hint = f". It has {', '.join(fields)}" if place is None else ""
        fail(place[1] if place else "", _PLACE.sub("", said) + hint)
    for field in ("id", "note"):
        if not getattr(record, field).strip():
            fail(field, "is empty; say " + ("what it is called" if field == "id" else "who wants it, and why"))
    return record, fail


def _zone(name: object, path: str) -> tzinfo:
    try:
        return ZoneInfo(str(name))
    except (OSError, ValueError) as error:  # ZoneInfoNotFoundError is a KeyError
        raise _no_zone(name, path) from error
    except KeyError as error:
        raise _no_zone(name, path) from error


def _no_zone(name: object, path: str) -> RulesError:
    reason = f"{_shown(name)} is not known; write one as of the IANA's list, such as Asia/Kolkata or UTC"
    return RulesError(path, "", "timezone", reason)


def _span(record: Any, zone: tzinfo, fail: _Fail) -> Span:
    starts = _moment(record.starts, zone, False, "starts", fail)
    ends = _moment(record.ends, zone, True, "ends", fail)
    if starts is not None and ends is not None and starts >= ends:
        fail("ends", f"{record.ends} is not after starts, {record.starts}; it would never hold")
    return Span(float("-inf") if starts is None else starts, float("inf") if ends is None else ends)


def _moment(value: object, zone: tzinfo, end: bool, field: str, fail: _Fail) -> float | None:
    """Seconds since 1970; a date without a time begins with its day, and as an end goes to its last second."""
    if value is None:
        return None
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=zone)).timestamp()
    if isinstance(value, date):
        return datetime.combine(value + timedelta(days=int(end)), time(), zone).timestamp()
    fail(field, f"is {_shown(value)}; write a date, 2026-10-20, or a moment, 2026-10-20T09:00:00+05:30, unquoted")


def _checked(
    written: _Rule, place: int, campaigns: Mapping[str, tuple[_Campaign, Span]], zone: tzinfo, fail: _Fail
) -> Rule:
    span, enabled = _span(written, zone, fail), written.enabled
    if written.campaign:
        if written.campaign not in campaigns:
            known = ", ".join(campaigns) or "none"
            fail("campaign", f"there is no campaign {written.campaign!r}; the file has {known}")
        campaign, of_campaign = campaigns[written.campaign]
        span, enabled = span.within(of_campaign), enabled and campaign.enabled
        if span.starts >= span.ends:
            fail("campaign", f"the rule's dates lie outside those of {written.campaign!r}; it would never hold")
    when, then = written.when, written.then
    _check_when(when, fail)
    _check_then(when, then, fail)
    moves = (
        *(_move(lift, f"then.boost[{at}]", False, fail) for at, lift in enumerate(then.boost)),
        *(_move(lift, f"then.bury[{at}]", True, fail) for at, lift in enumerate(then.bury)),
    )
    hide = tuple((_filter(text, "then.hide", fail), text) for text in texts(then.hide))
    keep = tuple((_filter(text, "then.filter", fail), text) for text in texts(then.filter))
    return Rule(
        written.id, written.note, written.campaign, place, written.priority, enabled, span, when, then,
        moves, hide, keep,
    )  # fmt: skip


def _check_when(when: When, fail: _Fail) -> None:
    for name in ("query", "phrase", "contains", "type"):
        for text in texts(getattr(when, name)):
            if not any(c.isalnum() for c in text):
                fail(f"when.{name}", f"{text!r} has no word; write what is to be in a query, or leave it out")
    for locale in texts(when.locale):
        if not _LOCALE.fullmatch(locale):
            fail("when.locale", f"{locale!r} is no locale; write a language or one with a country, en or en-IN")
    for key, values in when.context.items():
        if not key or not texts(values):
            fail("when.context", f'{key!r} has no value; write what the shop says of the search, channel = "app"')


def _check_then(when: When, then: Then, fail: _Fail) -> None:
    if then == Then():
        fail("then", f"is empty; name what the rule does: {', '.join(Then.__struct_fields__)}")
    texts_asked = when.query or when.phrase or when.contains
    for name in ("replace", "redirect"):
        text = getattr(then, name)
        if text and not texts_asked and (name == "replace" or not (when.type or when.context)):
            fail(f"then.{name}", f"{text!r} would be for every query; name query, phrase or contains in when")
    if then.replace and when.type:
        fail("then.replace", "a query is routed to a type after it was replaced; leave type out of when")
    for name, values in (("replace", (then.replace,)), ("synonyms", texts(then.synonyms))):
        for text in filter(None, values):
            if not any(c.isalnum() for c in text):
                fail(f"then.{name}", f"{text!r} has no word to search for")
    if then.redirect and not _TARGET.fullmatch(then.redirect):
        fail("then.redirect", f"{_shown(then.redirect)} is no page; write a path, /sale, or https://…, without spaces")
    ranks: dict[int, str] = {}
    for product_id, rank in then.pin.items():
        if not 1 <= rank <= LAST_RANK:
            fail("then.pin", f"{product_id!r} gets rank {rank}; it must be from 1 to {LAST_RANK}")
        if rank in ranks:
            fail("then.pin", f"{product_id!r} and {ranks[rank]!r} both get rank {rank}; give each its own")
        ranks[rank] = product_id


def _move(lift: Lift, field: str, down: bool, fail: _Fail) -> Move:
    by = lift.by or (1.0 if down else 0.0)
    if not 0 < by <= 1:
        fail(f"{field}.by", f"is {by}; it must be above 0 and at most 1, where the best score is about 1")
    if not texts(lift.where):
        fail(f"{field}.where", "is empty; name the products that move, as brand=Samsung")
    filters = tuple(_filter(text, f"{field}.where", fail) for text in texts(lift.where))
    return Move(filters, -by if down else by, ", ".join(texts(lift.where)))


def _filter(text: str, field: str, fail: _Fail) -> Filter:
    try:
        return parse_filter(text)
    except InvalidFilterError as error:
        fail(field, str(error))


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
