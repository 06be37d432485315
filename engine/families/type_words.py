"""Other people's words for product types, learnt with evidence: "pad" for tablets, "telly" for televisions.

Three kinds of evidence: titles (of the products that have the word in their own names, how many are of the type), the
encoder (the cosine between the word and the type's name, against those of all other types) and, where they are given,
clicks or judgments (of the products chosen after queries with the word, how many are of the type). Everyday words that
ship are a prior. What is strong enough is on by default; the rest is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.columns import PATH_SEPARATOR, Columns
from engine.config import SearchConfig
from engine.errors import IndexCorruptError
from engine.families.store import ProductFamilies
from engine.fitted import Fitted
from engine.needs.categories import singular
from engine.seams import Embeddings
from engine.types import Rows, Scores
from engine.understanding.spelling import SpellingModel
from engine.understanding.synonyms import Phrase, Synonyms
from engine.understanding.words import tokens

TYPE_WORDS = "type_words.json"
_SHIPPED = Path(__file__).with_suffix(".tsv")
_MOST_CANDIDATES = 300  # words of titles that are compared with the types' names, the most frequent first


class TypeWordNumbers(Fitted, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is strong evidence.

    - ``least_titles``, ``title_share``, ``title_cosine``: so many products have the word in their names, such a share
      of them is of one type, and its name is the nearest of all to the word, with at least that cosine.
    - ``prior_cosine``, ``other_titles``: a shipped word that no product has in its name; or whose type's name is at
      least as near as that, and which at most so many products of other types have in theirs.
    - ``least_clicks``, ``click_share``: so many choices after queries with the word, such a share of them of one type.
    """

    least_titles: int
    title_share: float
    title_cosine: float
    prior_cosine: float
    other_titles: int
    least_clicks: int
    click_share: float


NUMBERS = TypeWordNumbers.read(Path(__file__).with_suffix(".toml"))


class TypeWord(msgspec.Struct, frozen=True):
    """``word`` is said of ``type``, whose ``name`` is how the catalog calls it in the singular.

    Of ``titles`` products with the word in their names ``inside`` are of the type; ``cosine`` is that of word and type
    name, ``rival`` the highest of any other type's; ``clicks`` and ``clicked`` are choices, and those of the type.
    ``prior`` says that the word ships with the type's name. ``strong`` is what all that amounts to.
    """

    word: str
    type: str
    name: str
    titles: int
    inside: int
    cosine: float
    rival: float
    clicks: int = 0
    clicked: int = 0
    prior: bool = False
    strong: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class _Types:
    """The catalog's category names. ``codes`` int32 (n_products, depth) has each product's, as places in ``names``, and
    ``len(names)`` for none; ``sizes`` says how many products each has, ``words`` are the words of all, singular.
    """

    names: tuple[str, ...]
    codes: NDArray[np.int32]
    sizes: NDArray[np.int64]
    words: frozenset[str]

    @classmethod
    def of(cls, columns: Columns) -> _Types:
        paths = [
            (path.split(PATH_SEPARATOR), rows)
            for path, rows in (columns.postings("category") if "category" in columns.fields else ())
        ]
        names = tuple(dict.fromkeys(path[-1] for path, _ in paths))
        place = {name: at for at, name in enumerate(names)}
        codes = np.full((len(columns), max((len(path) for path, _ in paths), default=0)), len(names), np.int32)
        for path, rows in paths:
            codes[rows, len(path) - 1] = place[path[-1]]
        sizes = np.bincount(codes.ravel(), minlength=len(names) + 1)[:-1]
        return cls(names, codes, sizes, frozenset(singular(word) for name in names for word in _words(name)))

    def counts(self, rows: Rows) -> NDArray[np.int64]:
        """How many of ``rows``, which may repeat, are of each type: int64 (n_types,)."""
        return np.bincount(self.codes[rows].ravel(), minlength=len(self.names) + 1)[:-1]

    def most(self, rows: Rows) -> tuple[str, int]:
        """The narrowest type that most of some rows are of, and how many are."""
        counts = self.counts(rows)
        best = int(np.lexsort((self.sizes, -counts))[0])
        return self.names[best], int(counts[best])

    def rivals(self, name: str) -> NDArray[np.bool_]:
        """Bool (n_types,): the types that neither lie in this one nor have it in them."""
        at = self.names.index(name)
        both = self.counts(np.flatnonzero((self.codes == at).any(axis=1)))
        return np.asarray(both < np.minimum(self.sizes, self.sizes[at]))


def learn(
    columns: Columns, families: ProductFamilies, embed: Callable[[Sequence[str]], Embeddings] | None,
    chosen: Mapping[str, Rows] | None = None, numbers: TypeWordNumbers = NUMBERS,
) -> tuple[TypeWord, ...]:  # fmt: skip
    """All words with some evidence, strong ones first, then by word.

    ``embed`` gives vectors of short texts, one a row, None for no encoder; ``chosen`` gives for each word of queries
    the rows that people chose after it, repeats kept. Without categories there is nothing to learn.
    """
    types = _Types.of(columns)
    if not types.names:
        return ()
    prior = shipped()
    evidence = _titles(types, families, numbers)
    for word, names in prior.items():
        meant = _called(types, names)
        if meant:
            evidence.setdefault((word, meant), _count(types, families, word, meant))
    clicks = {
        word: (*types.most(rows), len(rows))
        for word, rows in (chosen or {}).items()
        if len(rows) >= numbers.least_clicks
    }
    for word, (meant, *_) in clicks.items():
        evidence.setdefault((word, meant), _count(types, families, word, meant))
    cosines = _cosines(types, [word for word, _ in evidence], embed)
    found = []
    for (word, meant), (titles, inside) in evidence.items():
        near = cosines.get(word, np.zeros(len(types.names), np.float32))
        rival = float(near[types.rivals(meant)].max(initial=0.0))
        clicked, n_clicked, n_clicks = clicks.get(word, ("", 0, 0))
        n_clicked, n_clicks = (n_clicked, n_clicks) if clicked == meant else (0, 0)
        entry = TypeWord(
            word, meant, _name(meant), titles, inside, round(float(near[types.names.index(meant)]), 3), round(rival, 3),
            n_clicks, n_clicked, _called(types, prior.get(word, ())) == meant,
        )  # fmt: skip
        if entry.prior or n_clicks or entry.cosine >= entry.rival:
            found.append(msgspec.structs.replace(entry, strong=_is_strong(entry, numbers)))
    return tuple(sorted(found, key=lambda entry: (not entry.strong, entry.word)))


def _is_strong(entry: TypeWord, numbers: TypeWordNumbers) -> bool:
    nearest = entry.cosine >= entry.rival
    by_titles = (
        entry.titles >= numbers.least_titles
        and entry.inside >= numbers.title_share * entry.titles
        and entry.cosine >= numbers.title_cosine
        and nearest
    )
    outside = entry.titles - entry.inside
    unknown = not entry.titles  # to the catalog, which then means nothing else by it
    by_prior = entry.prior and (unknown or (entry.cosine >= numbers.prior_cosine and outside <= numbers.other_titles))
    by_clicks = entry.clicks >= numbers.least_clicks and entry.clicked >= numbers.click_share * entry.clicks
    return by_titles or by_prior or by_clicks


def rules(found: Iterable[TypeWord], numbers: TypeWordNumbers = NUMBERS) -> list[tuple[Phrase, Phrase]]:
    """Strong words as rules of synonyms: the word is also searched as what the catalog calls the type.

    Not those that many products have in their names, which are found by them.
    """
    return [
        (_words(entry.word), _words(entry.name))
        for entry in found
        if entry.strong and entry.titles <= numbers.other_titles
    ]


def shipped() -> dict[str, tuple[str, ...]]:
    """The everyday words that ship, each with the names of what it is."""
    lines = [line for line in _SHIPPED.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return {word: tuple(map(str.strip, names.split(","))) for word, names in (line.split("\t") for line in lines)}


def save(directory: Path, found: tuple[TypeWord, ...]) -> None:
    """Writes them for ``load``."""
    (directory / TYPE_WORDS).write_bytes(msgspec.json.format(msgspec.json.encode(found)))


def load(directory: Path) -> tuple[TypeWord, ...]:
    """Reads what ``save`` wrote; empty where nothing was. Raises IndexCorruptError on anything else."""
    path = directory / TYPE_WORDS
    try:
        return msgspec.json.decode(path.read_bytes(), type=tuple[TypeWord, ...]) if path.exists() else ()
    except (OSError, msgspec.MsgspecError) as error:
        raise IndexCorruptError(f"the words for types in {path} cannot be read: {error}") from error


def open_synonyms(
    config: SearchConfig, spelling: SpellingModel | None, found: Iterable[TypeWord]
) -> Synonyms | None:  # fmt: skip
    """The configured synonyms: a shop's own file as it is; of the shipped rules those for words that the catalog hardly
    has, and beside them the learnt words for its types. None where there shall be none. Raises ConfigError.
    """
    if not config.synonyms or "synonyms" not in config.understand:
        return None
    synonyms = Synonyms.named(config.synonyms)
    if not Synonyms.is_shipped(config.synonyms):
        return synonyms
    held = synonyms.unsaid(spelling.said).rules if spelling else ()
    return Synonyms((*held, *rules(found)))


def words_for_things(config: SearchConfig) -> Synonyms:
    """All words that may stand for each other as what a thing is called: the configured synonyms, of shipped ones those
    that the catalog says as well, and the everyday words that ship. Raises ConfigError.
    """
    own = Synonyms.named(config.synonyms).rules if config.synonyms else ()
    everyday = ((_words(word), _words(name)) for word, names in shipped().items() for name in names)
    return Synonyms((*own, *everyday))


def _titles(
    types: _Types, families: ProductFamilies, numbers: TypeWordNumbers
) -> dict[tuple[str, str], tuple[int, int]]:
    """Words of products' own names that are nearly all of one type, and no part of its name: (titles, of the type)."""
    listed = [(word, families.rows(word)) for word in families.words if word.isalpha() and len(word) > 1]
    listed = [(w, rows) for w, rows in listed if len(rows) >= numbers.least_titles and singular(w) not in types.words]
    listed.sort(key=lambda item: -len(item[1]))
    found = {}
    for word, rows in listed[:_MOST_CANDIDATES]:
        meant, inside = types.most(rows)
        if inside >= numbers.title_share * len(rows):
            found[word, meant] = (len(rows), inside)
    return found


def _count(types: _Types, families: ProductFamilies, word: str, meant: str) -> tuple[int, int]:
    rows = None
    for part in word.split():
        found = families.rows(part)
        rows = found if rows is None else np.intersect1d(rows, found, assume_unique=True)
    assert rows is not None
    return len(rows), int(types.counts(rows)[types.names.index(meant)])


def _cosines(
    types: _Types, words: Sequence[str], embed: Callable[[Sequence[str]], Embeddings] | None
) -> dict[str, Scores]:
    """For each word its cosine with each type's name, float32 (n_types,)."""
    if embed is None or not words:
        return {}
    once = list(dict.fromkeys(words))
    cosines = embed(once) @ embed(types.names).T
    return dict(zip(once, cosines, strict=True))


def _called(types: _Types, names: Sequence[str]) -> str:
    """The widest type that is called by the first of the names that any is called by; empty for none."""
    for name in names:
        found = [at for at, of_type in enumerate(types.names) if _name(of_type) == name]
        if found:
            return types.names[max(found, key=lambda at: int(types.sizes[at]))]
    return ""


def _name(name: str) -> str:
    """A type's name in the singular: ``Vacuum Cleaners`` is vacuum cleaner."""
    *first, last = _words(name) or ("",)
    return " ".join((*first, singular(last)))


def _words(text: str) -> Phrase:
    return tuple(token.text for token in tokens(text))
