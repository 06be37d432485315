"""The catalog's language: how often its words, and pairs of them, stand in its products' texts."""

from __future__ import annotations

import io
import math
import re
import zipfile
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.errors import IndexCorruptError
from engine.product import Product
from engine.text import plain
from engine.understanding.words import NUMBER, surface_words

_FORMAT = 1
_ARRAYS = ("format", "words", "counts", "followers", "pair_keys", "pair_counts", "brands")
_MAX_WORD = 32  # letters; a longer "word" is noise
_PROSE = 600  # characters of a description that are read for words
_MAX_PAIRS = 2_000_000  # held while counting; above that the rarest are forgotten, which bounds the memory
_UNSEEN = 0.005  # of what people write, at least so much is not in a catalog, however small and regular it is
_FORM = 0.2  # of a group's sightings, how many each of its words is granted unseen
_COUNTABLE = re.compile(r"(?!\w*(?:[^s]s|ed|ing|ly)$)[^\W\d_]{3,}")  # by its looks: what may have a plural
_PLURAL = re.compile(r"[^\W\d_]{3,}[^\W\d_siuxz]s")  # what may be one, the singular of which is one letter less
_PLURAL_FROM = 3  # sightings of a word that make its other number a word
_PRIOR = 20.0  # how many sightings a word's plain frequency outweighs in what follows another
_FOLLOWERS = 1.0  # and how many more for each different word that followed


class LanguageModel:
    """Costs of words in nats. Words are numbered, the catalog's by frequency; ``UNKNOWN`` is the number of any other.

    A word and its plural are one *group*, for a shop writes "gas heater" and its shoppers "gas heaters". A group's cost
    after another is that of a bigram smoothed by the unigram in the manner of Witten and Bell (1991); which word of
    the group it is depends on their frequencies only. Regular plurals that the catalog lacks are words as well.
    """

    UNKNOWN = -1

    def __init__(
        self, words: list[str], counts: list[int], followers: list[int], pairs: tuple[array[int], array[int]],
        brands: Iterable[str],
    ) -> None:  # fmt: skip
        """``followers`` says per word how many groups followed its group, 0 for all but a group's first word.

        ``pairs`` are keys, ascending, and counts: the key of groups a, b is ``a * len(words) + b``.
        """
        self._n_counted, self._counted, self._followers = len(words), counts, followers
        self._pair_keys, self._pair_counts = pairs
        self.brands = frozenset(brands)
        self.words, self.group = _with_plurals(words, counts)
        self.number = {word: i for i, word in enumerate(self.words)}
        self.counts = counts + [0] * (len(self.words) - len(words))
        self._mass = [0] * len(self.words)
        size = [0] * len(self.words)
        for group, count in zip(self.group, self.counts, strict=True):
            self._mass[group] += count
            size[group] += 1
        total = sum(counts) or 1
        self._share = [mass / total for mass in self._mass]
        #: per word: what it costs that it is this word of its group
        self._form = [
            -math.log((count + _FORM * self._mass[group]) / (self._mass[group] * (1 + _FORM * size[group])))
            for group, count in zip(self.group, self.counts, strict=True)
        ]
        self.unigram = [form - math.log(self._share[group]) for form, group in zip(self._form, self.group, strict=True)]
        once = sum(1 for count in counts if count == 1)
        #: what a word costs that the catalog lacks, whichever it is (Good 1953: the share of words seen once)
        self.unseen = -math.log(max(once / total, _UNSEEN))

    def __contains__(self, word: str) -> bool:
        return word in self.number

    def frequency(self, word: str) -> int:
        """How often a word was seen; 0 where the catalog lacks it."""
        number = self.number.get(word)
        return 0 if number is None else self.counts[number]

    def phrase(self, words: Sequence[str]) -> int:
        """How often the catalog has a phrase, whatever the number of its words: of three words and more, at most."""
        numbers = [self.number.get(word, self.number.get(word.removesuffix("s"), self.UNKNOWN)) for word in words]
        if len(numbers) == 1:
            return 0 if numbers[0] < 0 else self._mass[self.group[numbers[0]]]
        return min((self.pair(left, right) for left, right in pairwise(numbers)), default=0)

    def pair(self, left: int, right: int) -> int:
        """How often ``right``'s group followed ``left``'s; 0 also for pairs seen once, which are not kept."""
        if left < 0 or right < 0:
            return 0
        key = self.group[left] * self._n_counted + self.group[right]
        at = bisect_left(self._pair_keys, key)
        return self._pair_counts[at] if at < len(self._pair_keys) and self._pair_keys[at] == key else 0

    def cost(self, left: int, right: int) -> float:
        """What the known word ``right`` costs after ``left``."""
        if left < 0:
            return self.unigram[right]
        mass = self._mass[self.group[left]]
        # Witten and Bell 1991: what was followed by many different words is often followed by one more.
        prior = _PRIOR + _FOLLOWERS * self._followers[self.group[left]]
        seen = self.pair(left, right) + prior * self._share[self.group[right]]
        return self._form[right] - math.log(seen / (mass + prior))

    @classmethod
    def count(cls, products: Iterable[Product]) -> LanguageModel:
        """Counts the words of titles, brands, categories, text attributes and the start of descriptions."""
        words: Counter[str] = Counter()
        pairs: Counter[tuple[str, str]] = Counter()
        brands: set[str] = set()
        for product in products:
            for text in _phrases(product):
                found = surface_words(text)
                words.update(found)
                pairs.update(pairwise(found))
            words.update(surface_words(_prose(product)))
            if product.brand:
                brands.add(" ".join(surface_words(product.brand)))
            if len(pairs) > _MAX_PAIRS:
                pairs = Counter({pair: count for pair, count in pairs.items() if count > 1})
        return cls._pruned(words, pairs, brands)

    def grown(self, products: Iterable[Product]) -> LanguageModel:
        """With the words of more products counted. What stands beside what stays as it was counted."""
        more = LanguageModel.count(products)
        counts = dict(zip(self.words[: self._n_counted], self._counted, strict=True))
        for word, count in zip(more.words[: more._n_counted], more._counted, strict=True):
            counts[word] = counts.get(word, 0) + count
        n, new = self._n_counted, len(counts) - self._n_counted
        keys = array("q", (key // n * (n + new) + key % n for key in self._pair_keys))
        pairs = keys, self._pair_counts
        return LanguageModel(
            list(counts), list(counts.values()), [*self._followers, *[0] * new], pairs, self.brands | more.brands
        )

    @classmethod
    def _pruned(cls, words: Counter[str], pairs: Counter[tuple[str, str]], brands: set[str]) -> LanguageModel:
        ranked = sorted((w for w in words if len(w) <= _MAX_WORD), key=lambda w: (-words[w], w))
        number = {word: i for i, word in enumerate(ranked)}
        group = [number[_singular(word, number)] for word in ranked]
        grouped: Counter[int] = Counter()
        for (left, right), count in pairs.items():
            if left in number and right in number:
                grouped[group[number[left]] * len(ranked) + group[number[right]]] += count
        keys = sorted(key for key, count in grouped.items() if count > 1)
        kept = (array("q", keys), array("i", (grouped[key] for key in keys)))
        followers = Counter(key // len(ranked) for key in grouped)
        return cls(
            ranked, [words[w] for w in ranked], [followers[i] for i in range(len(ranked))], kept, brands - {"", NUMBER}
        )

    def save(self, path: Path) -> None:
        """Writes one compressed ``.npz`` file, which holds arrays only."""
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            format=np.array([_FORMAT], np.int32),
            words=_packed(self.words[: self._n_counted]),
            counts=np.array(self._counted, np.int32),
            followers=np.array(self._followers, np.int32),
            # Differences of ascending numbers are small, and small numbers compress.
            pair_keys=np.diff(np.array(self._pair_keys, np.int64), prepend=0),
            pair_counts=np.array(self._pair_counts, np.int32),
            brands=_packed(sorted(self.brands)),
        )
        path.write_bytes(buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> LanguageModel:
        """Reads what ``save`` wrote. Raises IndexCorruptError on anything else."""
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
                data = {name: file[name] for name in _ARRAYS}
            words, brands = (_unpacked(data[name]) for name in ("words", "brands"))
            counts, followers = data["counts"].tolist(), data["followers"].tolist()
            keys, pair_counts = np.cumsum(data["pair_keys"]), data["pair_counts"]
            _check(data["format"].tolist(), words, counts, followers, keys, pair_counts)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise IndexCorruptError(
                f"the spelling model {path} cannot be read: {error}; build the index anew"
            ) from error
        return cls(words, counts, followers, (array("q", keys.tolist()), array("i", pair_counts.tolist())), brands)


def _check(
    version: list[int], words: list[str], counts: list[int], followers: list[int], keys: NDArray[np.int64],
    pair_counts: NDArray[np.int32],
) -> None:  # fmt: skip
    if version != [_FORMAT]:
        raise ValueError(f"its format is {version}, this version reads {[_FORMAT]}")
    same = len(words) == len(set(words)) == len(counts) == len(followers)
    if not same or any(count < 1 for count in counts) or any(count < 0 for count in followers):
        raise ValueError(f"{len(words)} words do not fit their {len(counts)} counts")
    if len(keys) != len(pair_counts) or (len(keys) and (keys.min() < 0 or keys.max() >= len(words) ** 2)):
        raise ValueError(f"{len(keys)} pairs do not fit {len(words)} words and {len(pair_counts)} counts")
    if (np.diff(keys) <= 0).any():
        raise ValueError("its pairs are out of order")


def _singular(word: str, known: Container[str]) -> str:
    """The known word of which ``word`` is the regular plural, or ``word``."""
    if len(word) < 4 or not word.endswith("s") or word.endswith("ss"):
        return word
    for singular in (
        word[:-1],
        word[:-2] if word.endswith("es") else "",
        f"{word[:-3]}y" if word.endswith("ies") else "",
    ):
        if len(singular) > 2 and singular in known:
            return singular
    return word


def _plural(word: str) -> str:
    if word.endswith(("ss", "x", "z", "ch", "sh")):
        return f"{word}es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return f"{word[:-1]}ies"
    return f"{word}s"


def _with_plurals(words: list[str], counts: list[int]) -> tuple[list[str], list[int]]:
    """The words and then the regular singulars and plurals they lack; for each, the number of its group's first."""
    number = {word: i for i, word in enumerate(words)}
    group = [number[_singular(word, number)] for word in words]
    has_plural = {g for i, g in enumerate(group) if g != i}
    words = list(words)
    for i, count in enumerate(counts):
        if group[i] != i or i in has_plural or count < _PLURAL_FROM:
            continue
        other = (
            words[i][:-1]
            if _PLURAL.fullmatch(words[i])
            else _plural(words[i])
            if _COUNTABLE.fullmatch(words[i])
            else ""
        )
        if other and other not in number:
            number[other] = len(words)
            words.append(other)
            group.append(i)
    return words, group


def _packed(words: list[str]) -> NDArray[np.uint8]:
    return np.frombuffer("\n".join(words).encode(), np.uint8)


def _unpacked(data: NDArray[np.uint8]) -> list[str]:
    text = data.tobytes().decode()
    return text.split("\n") if text else []


def _phrases(product: Product) -> Iterable[str]:
    """Texts in which neighbours belong together; the brand only where the title lacks it."""
    yield product.title
    if product.brand and product.brand.lower() not in product.title.lower():
        yield product.brand
    yield from product.category[-2:]
    for value in product.attributes.values():
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            yield from value


def _prose(product: Product) -> str:
    return plain(product.description[:_PROSE]) if product.description else " ".join(product.bullets)[:_PROSE]
