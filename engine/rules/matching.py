"""Which rules are for a search: found by their words, so that it costs the same with ten rules as with thousands.

Words are compared as the catalog's language has them: without case, accents and signs, and phrases without endings too,
so that ``running shoe`` is in "Running shoes!". Of scripts without spaces every two neighbours are a word.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from engine.analysis.analyzer import Analyzer, singular
from engine.languages.scripts import UNSPACED, unspaced_terms
from engine.rules.schema import Rule, texts
from engine.types import Routed
from engine.understanding.words import tokens

_READ = 40  # words of a query that rules are looked up for
_LIKELY = 0.5  # the probability from which a query is taken to ask for a type
_SEPARATOR = " > "

Words = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """A search, as rules see it: the query's words, as written and without endings, and who asks, where and when."""

    text: str
    exact: Words
    stems: Words
    locale: str
    context: Mapping[str, str]
    now: float


class WordReader:
    """Text to the words that rules compare. Thread-safe."""

    def __init__(self, analyzer: Analyzer) -> None:
        self._analyzer = analyzer
        self._stem = lru_cache(maxsize=50_000)(self._stemmed)

    def exact(self, text: str) -> Words:
        """The words as they are written."""
        return tuple(token.text for token in tokens(text))[:_READ]

    def stems(self, text: str) -> Words:
        """The words without their endings."""
        return tuple(stem for token in tokens(text) for stem in self._stem(token.text))[:_READ]

    def _stemmed(self, word: str) -> Words:
        if UNSPACED.search(word):
            return tuple(term for run in UNSPACED.findall(word) for term in unspaced_terms(run)) or (word,)
        found = self._analyzer.analyze(word) if word.isalpha() else []
        stem = found[0].text if found else word
        return (singular(stem) or stem,)


@dataclass(frozen=True, slots=True)
class _Conditions:
    """A rule's conditions, in the words that are compared."""

    queries: frozenset[Words]
    phrases: tuple[Words, ...]
    contained: tuple[frozenset[str], ...]
    locales: tuple[str, ...]
    context: tuple[tuple[str, frozenset[str]], ...]

    def hold(self, asked: Asked) -> bool:
        return (
            (not self.queries or asked.exact in self.queries)
            and (not self.phrases or any(_within(phrase, asked.stems) for phrase in self.phrases))
            and (not self.contained or any(found.issubset(asked.stems) for found in self.contained))
            and (not self.locales or _is_for(self.locales, asked.locale))
            and all(asked.context.get(key) in values for key, values in self.context)
        )


class RuleIndex:
    """The rules of a file, to be found by what they are for. In the order in which conflicts are settled: by priority,
    then whole queries before phrases before words before types before the rest, then as the file has them.
    """

    def __init__(self, rules: Iterable[Rule], words: WordReader) -> None:
        self.words = words
        self.rules = tuple(sorted((rule for rule in rules if rule.enabled), key=_order))
        self._conditions = [_conditions(rule, words) for rule in self.rules]
        self._queries: dict[Words, list[int]] = defaultdict(list)
        self._phrases: dict[Words, list[int]] = defaultdict(list)
        self._holding: dict[str, list[int]] = defaultdict(list)
        self._types: dict[str, list[int]] = defaultdict(list)
        self._contexts: dict[tuple[str, str], list[int]] = defaultdict(list)
        self._always: list[int] = []
        frequency = Counter(word for rule in self._conditions for found in rule.contained for word in found)
        for number, rule in enumerate(self.rules):
            self._add(number, rule, frequency)
        self._lengths = tuple(sorted({len(phrase) for phrase in self._phrases}))

    def __len__(self) -> int:
        return len(self.rules)

    def _add(self, number: int, rule: Rule, frequency: Mapping[str, int]) -> None:
        """Under the condition that the fewest searches meet; the others are looked at once that is met."""
        conditions = self._conditions[number]
        if rule.when.type:
            for name in texts(rule.when.type):
                self._types[_folded(name)].append(number)
        elif conditions.queries:
            for query in conditions.queries:
                self._queries[query].append(number)
        elif conditions.phrases:
            for phrase in conditions.phrases:
                self._phrases[phrase].append(number)
        elif conditions.contained:
            for found in conditions.contained:
                self._holding[min(found, key=lambda word: (frequency[word], word))].append(number)
        elif conditions.context:
            key, values = conditions.context[0]
            for value in values:
                self._contexts[key, value].append(number)
        else:
            self._always.append(number)

    def asked(self, text: str, locale: str, context: Mapping[str, str], now: float) -> Asked:
        """A search for ``text``."""
        return Asked(text, self.words.exact(text), self.words.stems(text), locale, context, now)

    def of_words(self, asked: Asked) -> list[int]:
        """The rules without a type that are for a search, by number, ascending."""
        stems = asked.stems
        found = set(self._always)
        found.update(self._queries.get(asked.exact, ()))
        for length in self._lengths:
            for start in range(len(stems) - length + 1):
                found.update(self._phrases.get(stems[start : start + length], ()))
        if self._holding:
            for word in stems:
                found.update(self._holding.get(word, ()))
        for pair in asked.context.items():
            found.update(self._contexts.get(pair, ()))
        return self._holding_true(found, asked)

    def of_types(self, asked: Asked, routed: Routed | None) -> list[int]:
        """The rules with a type that are for a search, by number, ascending."""
        if not self._types or routed is None:
            return []
        found = {number for name in asked_types(routed) for number in self._types.get(name, ())}
        return self._holding_true(found, asked)

    def _holding_true(self, numbers: Iterable[int], asked: Asked) -> list[int]:
        now = asked.now
        return [
            number
            for number in sorted(numbers)
            if self.rules[number].span.holds(now) and self._conditions[number].hold(asked)
        ]

    def origin(self, number: int, asked: Asked) -> str:
        """What of the query a rule is for: its phrase, or words, else the whole."""
        when, conditions = self.rules[number].when, self._conditions[number]
        for text, phrase in zip(texts(when.phrase), conditions.phrases, strict=True):
            if _within(phrase, asked.stems):
                return text
        for text, found in zip(texts(when.contains), conditions.contained, strict=True):
            if found.issubset(asked.stems):
                return text
        return asked.text


def _conditions(rule: Rule, words: WordReader) -> _Conditions:
    when = rule.when
    return _Conditions(
        frozenset(words.exact(text) for text in texts(when.query)),
        tuple(words.stems(text) for text in texts(when.phrase)),
        tuple(frozenset(words.stems(text)) for text in texts(when.contains)),
        tuple(_locale(name) for name in texts(when.locale)),
        tuple((key, frozenset(texts(values))) for key, values in when.context.items()),
    )


def _order(rule: Rule) -> tuple[int, int, int]:
    when = rule.when
    narrow = (when.query, when.phrase, when.contains, when.type)
    return -rule.priority, next((at for at, wanted in enumerate(narrow) if wanted), len(narrow)), rule.place


def _within(phrase: Words, words: Words) -> bool:
    n = len(phrase)
    return any(words[start : start + n] == phrase for start in range(len(words) - n + 1))


def _is_for(wanted: Words, locale: str) -> bool:
    """Whether a shopper's locale is one of those wanted, or of a country of one."""
    own = _locale(locale)
    return any(own == name or own.startswith(f"{name}-") for name in wanted)


def _locale(name: str) -> str:
    return name.replace("_", "-").casefold()


def asked_types(routed: Routed) -> Iterator[str]:
    """The names and ids of the types that a query surely asks for, and of all above them, as rules compare them."""
    surely = list(routed.chosen) if routed.action != "none" else []
    surely += [leaf for leaf in routed.product_types if leaf.probability >= _LIKELY]
    seen: set[str] = set()
    for found in surely:
        path = found.type_id.split(_SEPARATOR)
        names = [found.name, *path, *(_SEPARATOR.join(path[:depth]) for depth in range(1, len(path) + 1))]
        for name in map(_folded, names):
            if name not in seen:
                seen.add(name)
                yield name


def _folded(name: str) -> str:
    return _SEPARATOR.join(part.strip() for part in name.split(">")).casefold()
