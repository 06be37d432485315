"""What a query asks of one index: from its words to what its ranking is guided by.

``languages, spelling, negation, constraints, names, synonyms`` → product type → relations and needs → ``Guidance``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from engine.config import SearchConfig
from engine.domain import DOMAIN, Domain
from engine.families.source import FamilyReading, FamilySource
from engine.families.store import FAMILIES
from engine.families.type_words import load, open_synonyms, words_for_things
from engine.families.words import NUMBERS as RELATIONS
from engine.families.words import FamilyNumbers, shipped_words
from engine.guidance import GuidanceNumbers, guide, require_rows
from engine.languages.lexicon import lexicon
from engine.languages.translate import Translator
from engine.latency import LatencyEstimate
from engine.lexical.retriever import TRANSLATION, QueryExpansion
from engine.needs.categories import LINKS, before_links
from engine.needs.kind_names import KindNames
from engine.needs.lexicon import Lexicon
from engine.needs.match import free_words
from engine.needs.numbers import NUMBERS as NEEDS
from engine.needs.numbers import NeedNumbers
from engine.needs.scope import Scopes
from engine.needs.wants import Needs
from engine.preferences import WantsOf
from engine.product import Product
from engine.ranker import Ranker, Request
from engine.seams import Router
from engine.storage.manifest import Manifest
from engine.types import Mask, Routed, Rows
from engine.understanding.constraints import Constraint
from engine.understanding.everyday import is_everyday
from engine.understanding.exclusions import ToldByFields
from engine.understanding.facts import CatalogFacts
from engine.understanding.negation import Excluded
from engine.understanding.spelling import SpellingModel
from engine.understanding.understand import QueryUnderstanding, Understood, in_its_words
from engine.understanding.words import GRAMMAR, tokens
from engine.updates.state import Parts

logger = logging.getLogger(__name__)

_GUIDES = "constraints", "excludes", "named", "routed"  # parts of guidance that the guide stage reports


class QueryReader:
    """Reads queries against one index. Thread-safe; each step leaves a report in the request."""

    def __init__(
        self, version: Path, manifest: Manifest, config: SearchConfig, ranker: Ranker, facts: CatalogFacts,
        parts: Parts, products: Callable[[Rows], Sequence[Product]], numbers: GuidanceNumbers,
    ) -> None:  # fmt: skip
        """``products`` gives those of rows, as the store of ``parts`` does, which is for what keeps it in cycles."""
        self._config, self._columns, self._ranker, self._router = config, parts.columns, ranker, parts.router
        self._spelling, self._products, self._numbers = parts.spelling, products, numbers
        self._synonyms = open_synonyms(config, parts.spelling, load(version / FAMILIES))
        self._translator = None
        if manifest.config.language == "english":
            self._translator = Translator(lexicon(config.translations), partial(_said, parts.spelling))
        self._get, self._by_words, self._families = parts.products.get, partial(_by_words, ranker), parts.families
        self._told = _told_by(parts)
        self._scopes = self._scoped(parts, NEEDS)
        self.needs, self._relations = self._wanting(NEEDS, RELATIONS)
        self._understanding = self._understanding_of(facts)
        self._domain = None
        if ranker.dense and (version / DOMAIN).exists():
            self._domain = Domain.open(version / DOMAIN, ranker.dense.encoder.dim)
        self._route_latency = LatencyEstimate()  # in milliseconds a query

    def over(self, parts: Parts, ranker: Ranker, facts: CatalogFacts, *, regrown: bool) -> QueryReader:
        """This one over an index that has changed; ``regrown`` says whether products were added or deleted.

        Synonyms stay those that the build made of its words, and what is far from the catalog what was so then.
        """
        other = copy(self)
        other._columns, other._ranker, other._router, other._spelling = (
            parts.columns, ranker, parts.router, parts.spelling,
        )  # fmt: skip
        get = other._get = other._products = parts.products.get
        other._families, other._by_words = parts.families, partial(_by_words, ranker)
        if regrown:
            other._told = _told_by(parts)
            numbers = self.needs.numbers if self.needs else NEEDS
            other._scopes = other._scoped(parts, numbers)
        if self.needs:
            other.needs = self.needs.over(parts.columns, other._by_words, get, other._scopes)
        if self._relations and other.needs:
            families = parts.families if regrown else None
            other._relations = self._relations.over(parts.columns, other.needs, get, families)
        other._understanding = other._understanding_of(facts)
        return other

    def _scoped(self, parts: Parts, numbers: NeedNumbers) -> Scopes:
        kinds = None
        if parts.families and parts.families.kinds:
            kinds = KindNames(parts.families.kinds, words_for_things(self._config))
        return Scopes(parts.columns, self._told, self._by_words, numbers, kinds)

    def _understanding_of(self, facts: CatalogFacts) -> QueryUnderstanding:
        known = self.needs.words if self.needs else frozenset[str]()
        return QueryUnderstanding(
            facts, self._spelling, self._synonyms, self._config.understand, self._translator, known
        )

    def _wanting(self, needs: NeedNumbers, relations: FamilyNumbers) -> tuple[Needs | None, FamilySource | None]:
        """What reads needs and relations, by these numbers; None for what the settings or the index lack."""
        if not self._config.needs:
            return None, None
        lexicon = Lexicon.named(self._config.needs)
        found = Needs(lexicon, self._columns, self._by_words, self._get, self._scopes, needs)
        if not self._families:
            return found, None
        return found, FamilySource(self._families, self._columns, found, shipped_words(), self._get, relations)

    def wanting(self, needs: NeedNumbers, relations: FamilyNumbers) -> QueryReader:
        """This one with other numbers of needs and relations."""
        other = copy(self)
        other._scopes = self._scopes.counting(needs)
        other.needs, other._relations = other._wanting(needs, relations)
        return other

    def acting(self, router: Router | None, numbers: GuidanceNumbers) -> QueryReader:
        """This one with another router and other numbers."""
        other = copy(self)
        other._router, other._numbers = router, numbers
        return other

    def understand(self, request: Request) -> Understood | None:
        """What the query says; None where there is nothing to search for in it."""
        started = time.perf_counter()
        understood = self._understanding.understand(request.query, request.locale)
        if understood.excluded and self.needs:
            understood = self.needs.without_directions(understood)
        request.meant, request.expansions = in_its_words(understood, self._spelling), _expansions(understood)
        if self._ranker.lexical:
            terms = [
                term.text if term.source == "typed" else f"{term.text} ({term.source}: {term.origin})"
                for term in self._ranker.lexical.plan(request.query, request.expansions)
            ]
        else:
            terms = [word for word in request.query.split() if any(c.isalnum() for c in word)]
        notes = [note.text for note in understood.notes]
        said = "; ".join([", ".join(terms) or "nothing to search for in this query", *notes])
        request.report("understand", started, 1, len(terms), said)
        return understood if terms else None

    def guide(self, request: Request, understood: Understood, allowed: Mask | None) -> None:
        """Finds the product type and the wants, and puts what they say to each product into the request."""
        asked = self._asked(understood) if self._config.route_weight else None
        routed = self._route(request, understood, asked)
        started = time.perf_counter()
        relation = self._relations.read(understood) if self._relations else None
        request.guidance = guide(
            relation.asked(understood) if relation else understood, routed, self._columns, self._config, self._products,
            self._wants_of(understood, relation), self._told,
            self._named(understood) if understood.excluded or understood.constraints else None,
            asked, self._numbers,
        )  # fmt: skip
        guides = [name for name in _GUIDES if getattr(request.guidance, name) is not None]
        if guides:
            n_products = len(self._columns)
            request.report("guide", started, n_products, len(request.guidance.limits), ", ".join(guides))
        # Who names another shop's model asks for what is like it here.
        may_be = allowed is None and relation is None and self._may_be_foreign(request, understood)
        request.domain = self._domain if may_be else None

    def _named(self, understood: Understood) -> Mask | None:
        """The rows of the categories that a query names; None where it names none."""
        found = self._scopes.named(free_words(understood))
        return found[1] if found else None

    def _asked(self, understood: Understood) -> Mask | None:
        """The rows of the categories that are called as the thing that a query asks for; None where there are none.

        Kinds that were learnt from titles count only for what is wanted of a thing: one that is merely named is found
        by its words and meaning.
        """
        if self._scopes.guessed and not self._wants_more(understood):
            return None
        return self._scopes.asked(self.needs.others(understood) if self.needs else free_words(understood))

    def _wants_more(self, understood: Understood) -> bool:
        """Whether a query asks more of a thing than to be one: a need, a limit, something that it must not be, or must
        be for.
        """
        if not LINKS.isdisjoint(understood.words[1:]):
            return True
        limited = any(limit.kind not in ("color", "brand") for limit in understood.constraints)
        return limited or bool(understood.excluded) or (self.needs is not None and self.needs.asks_more(understood))

    def missing(self, request: Request, understood: Understood) -> list[str]:
        """Words that no product has, of those that ask for something: neither for a limit nor for what shall not be."""
        if self._ranker.lexical is None:
            return []
        asked = _rest(understood.corrected, (*understood.excluded, *understood.constraints))
        spelt = self._spelling is not None and "spelling" in self._config.understand
        unknown = self._ranker.lexical.unknown(asked, request.expansions, spelt=spelt)
        before = dict(zip(understood.words[1:], understood.words, strict=False)) if unknown else {}
        unknown = [word for word in unknown if word not in GRAMMAR and not is_everyday(word, before.get(word, ""))]
        return [word for word in unknown if not (self.needs and self.needs.explains(word, before.get(word, "")))]

    def _wants_of(self, understood: Understood, relation: FamilyReading | None) -> WantsOf | None:
        """What the query wants beyond words: relations to models first, and of the rest what the lexicon knows."""
        if self.needs is None:
            return None
        if self._relations is None or relation is None:
            return self.needs.wants_of(understood)
        return self._relations.wants_of(relation, self.needs.wants_of(understood, relation.spans, relation.scope))

    def _route(self, request: Request, understood: Understood, called: Mask | None) -> Routed | None:
        """What kind of product the query asks for; what it excludes says the contrary of that.

        ``called`` are the rows of the categories that are called as the thing asked for, None where none is.
        """
        dense = self._ranker.dense
        if self._router is None or dense is None or not self._config.route_weight:
            return None
        started = time.perf_counter()
        if request.remaining_ms < self._route_latency.upper:
            note = (
                f"{max(request.remaining_ms, 0):.1f} ms left, it lately took up to {self._route_latency.upper:.1f} ms"
            )
            self._route_latency.fade()
            request.report("route", started, 1, 0, note, "degraded")
            return None
        asked = _rest(request.meant, understood.excluded) or request.meant
        # The words of a shop say more about its types than a shopper's own do.
        also = [found.text for found in request.expansions if found.source == "synonym" and found.text not in asked]
        asked = " ".join((asked, *also))
        if not dense.encoder.understands(asked):
            note = "the query holds no word that the encoder knows"
            request.report("route", started, 1, 0, note, "skipped")
            return Routed((), "none", (), note)
        try:
            # The encoder's own vector, whatever adapter was chosen: by such the router has learnt.
            routed = require_rows(self._router.route(asked, dense.vector(asked)), len(self._columns))
        except Exception as error:
            logger.warning("routing failed", exc_info=True)
            request.report("route", started, 1, 0, f"{type(error).__name__}: {error}", "degraded")
            return None
        if called is not None and routed.narrowed is not None:
            routed = routed.narrowed(called)
        self._route_latency.add(
            request.report("route", started, 1, len(routed.chosen), f"{routed.action}: {routed.reason}")
        )
        return routed

    def _may_be_foreign(self, request: Request, understood: Understood) -> bool:
        """Whether a query may be about nothing here: not a single word that products have, and not by an adapter's
        vector, for which near means something else; nor what wants something of a thing that is sold here, or
        only says what things are for.
        """
        wants = bool(request.guidance.wants)
        if request.adapted.encoder is not None or (
            wants and (self._names_thing(understood) or self._is_use(understood))
        ):
            return False
        words = [word.text for word in tokens(request.meant) if word.text not in GRAMMAR]
        asking = [word for word, before in zip(words, ["", *words], strict=False) if not is_everyday(word, before)]
        request.lacking = bool(self.missing(request, understood))
        guessed = self._scopes.guessed  # of whose names some are any word
        request.in_category = (
            self._scopes.asked(free_words(understood)) if guessed else self._named(understood)
        ) is not None
        return request.lacking or len(asking) > 1

    def _is_use(self, understood: Understood) -> bool:
        """Whether a query is a phrase for what things are for, and what anybody says beside: "movie night at home"."""
        uses = [reading.word for reading in self.needs.read(understood) if reading.is_use] if self.needs else []
        said = {place for use in uses for place in range(use.start, use.end)}
        others = [word for place, word in enumerate(understood.words) if place not in said]
        phrase = any(use.end - use.start > 1 for use in uses)
        return phrase and all(word in GRAMMAR or is_everyday(word) for word in others)

    def _names_thing(self, understood: Understood) -> bool:
        """Whether the noun of a query is in products' own names: an "oven" for baking is."""
        words = [word for word in before_links(self.needs.others(understood)) if word] if self.needs else []
        return bool(words) and self._scopes.is_in_names(words[-1])


def _told_by(parts: Parts) -> ToldByFields:
    if parts.families is None:
        return ToldByFields(parts.columns)
    return ToldByFields(parts.columns, lru_cache(maxsize=512)(parts.families.called))


def _expansions(understood: Understood) -> tuple[QueryExpansion, ...]:
    """What is searched beside the typed words: translations, how they are spelt right, and what means the same."""
    translations = (
        QueryExpansion(found.english, TRANSLATION, found.term)
        for found in (understood.translated.translations if understood.translated else ())
        if not GRAMMAR.issuperset(found.english.split())
    )
    corrections = (QueryExpansion(change.replacement, "correction", change.original) for change in understood.changes)
    synonyms = (
        QueryExpansion(" ".join(phrase), "synonym", " ".join(understood.words[expansion.start : expansion.end]))
        for expansion in understood.synonyms
        for phrase in expansion.replacements
    )
    return (*translations, *corrections, *synonyms)


def _said(spelling: SpellingModel | None, word: str) -> bool:
    """Whether the catalog has the word."""
    return spelling is not None and spelling.said((word,)) > 0


def _by_words(ranker: Ranker, text: str, k: int) -> Rows:
    """The rows of products that have words of a text, the best first."""
    if ranker.lexical is None or ranker.lexical.unknown(text, spelt=True):  # what is near it is another word
        return np.empty(0, np.int64)
    return ranker.lexical.retrieve(text, k).rows


def _rest(text: str, parts: Iterable[Excluded | Constraint]) -> str:
    """``text`` without these parts of it."""
    kept = list(text)
    for part in parts:
        kept[part.start : part.end] = " " * (part.end - part.start)
    return " ".join("".join(kept).split())
