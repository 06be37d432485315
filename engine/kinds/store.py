"""What an index keeps of kinds: ``kinds.npz``, beside the families.

``kinds`` is JSON, as bytes: what each kind is called and what may follow its name; ``ends`` int64 (n_kinds,) says where
each one's rows end in ``rows``, int32, ascending within a kind.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np

from engine.errors import IndexCorruptError
from engine.kinds.titles import Key, named_in, stem
from engine.product import Product
from engine.types import Mask, Rows

KINDS = "kinds.npz"


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """``key`` is what products of a kind are called, as stems, ``name`` as titles have it most often, in lower case.

    Nouns that follow the name, as stems, leave the thing what it is (``same``) or make it another (``other``). ``rows``
    are the products, ascending.
    """

    key: Key
    name: str
    same: tuple[str, ...]
    other: tuple[str, ...]
    rows: Rows


class _Told(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A kind as it is kept, without its rows."""

    key: Key
    name: str
    same: tuple[str, ...]
    other: tuple[str, ...]


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of them, and of how many products."""

    n_products: int
    kinds: tuple[_Told, ...]


class Kinds:
    """The kinds of one index; none where its catalog has categories. Read-only."""

    def __init__(self, kinds: Sequence[Kind], n_products: int) -> None:
        self.kinds, self.n_products = tuple(kinds), n_products
        self._by_key = {kind.key: kind for kind in self.kinds}

    @classmethod
    def none(cls, n_products: int = 0) -> Kinds:
        return cls((), n_products)

    def __bool__(self) -> bool:
        return bool(self.kinds)

    def of(self, words: Sequence[str]) -> Kind | None:
        """The kind that is called so, in whatever number; None for none."""
        return self._by_key.get(tuple(map(stem, words)))

    def mask(self, rows: Rows) -> Mask:
        """``rows`` as bool (n_products,)."""
        mask = np.zeros(self.n_products, np.bool_)
        mask[rows] = True
        return mask

    @cached_property
    def _nouns(self) -> frozenset[str]:
        """The stems of all that is known to be a noun."""
        return frozenset(word for kind in self.kinds for word in (*kind.key, *kind.same, *kind.other))

    def joined(self, products: Mapping[int, Product], alive: Mask) -> Kinds:
        """With more products, by row, that are called as kinds are, and without the rows that are not ``alive``, bool
        (n_all,).
        """
        if not self:
            return self
        added: dict[Key, list[int]] = {}
        for row, product in sorted(products.items()):
            for key, follower in named_in(product.title, lambda word: stem(word) in self._nouns):
                kind = self._by_key.get(key)
                if kind is not None and follower not in kind.other:
                    added.setdefault(key, []).append(row)
        kinds = []
        for kind in self.kinds:
            kept = np.concatenate([kind.rows[alive[kind.rows]], np.asarray(added.get(kind.key, ()), np.int64)])
            kinds.append(replace(kind, rows=np.unique(kept)))
        return Kinds([kind for kind in kinds if len(kind.rows)], len(alive))

    def save(self, directory: Path) -> None:
        told = tuple(_Told(kind.key, kind.name, kind.same, kind.other) for kind in self.kinds)
        text = msgspec.json.encode(_Kept(self.n_products, told))
        rows = np.concatenate([np.empty(0, np.int32), *(kind.rows.astype(np.int32) for kind in self.kinds)])
        ends = np.cumsum([len(kind.rows) for kind in self.kinds], dtype=np.int64)
        np.savez_compressed(directory / KINDS, kinds=np.frombuffer(text, np.uint8), ends=ends, rows=rows)

    @classmethod
    def open(cls, directory: Path) -> Kinds:
        """Reads what ``save`` wrote; none where nothing was. Raises IndexCorruptError on anything else."""
        path = directory / KINDS
        if not path.exists():
            return cls.none()
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
                kept = msgspec.json.decode(arrays["kinds"].tobytes(), type=_Kept)
                ends, rows = arrays["ends"], np.asarray(arrays["rows"], np.int64)
            starts = [0, *ends.tolist()[:-1]]
            if len(kept.kinds) != len(ends) or (len(ends) and ends[-1] != len(rows)) or (np.diff(ends) < 0).any():
                raise ValueError("it does not hold as many ends as kinds, or rows as its last end")
            if len(rows) and not 0 <= rows.min() <= rows.max() < kept.n_products:
                raise ValueError(f"a row is outside of the {kept.n_products} products")
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, msgspec.MsgspecError) as error:
            raise IndexCorruptError(f"the kinds in {path} cannot be read: {error}; build the index again") from error
        kinds = [
            Kind(one.key, one.name, one.same, one.other, rows[start:end])
            for one, start, end in zip(kept.kinds, starts, ends.tolist(), strict=True)
        ]
        return cls(kinds, kept.n_products)
