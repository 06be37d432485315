"""A shop's product types as a tree: ids, names by locale, parents and a version, from whatever the shop has.

A locale is a tag such as ``en-GB``; the empty one holds the name for every locale that has none of its own.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from engine.columns import PATH_SEPARATOR
from engine.errors import CatalogError, ConfigError
from engine.product import Product
from qpt.product_types import ProductTypes

_GOOGLE_LINE = re.compile(r"\s*(\d+)\s*-\s*(\S.*)")
_GOOGLE_VERSION = re.compile(r"#.*Version:\s*(\S+)")


@dataclass(frozen=True, slots=True)
class TypeNode:
    """A type, its names by locale, and the id of the type above it, None at a root."""

    type_id: str
    names: Mapping[str, str]
    parent: str | None = None


class Taxonomy:
    """A tree of types, read-only. ``nodes`` is by id, in the given order.

    ``version`` is what its publisher calls it, ``fingerprint`` what it is: equal only when ids, names and parents are.
    Raises ConfigError where an id comes twice, a parent is missing, or types lie below themselves.
    """

    def __init__(self, nodes: Iterable[TypeNode], version: str = "") -> None:
        self.nodes: dict[str, TypeNode] = {}
        self.version = version
        for node in nodes:
            if node.type_id in self.nodes:
                raise ConfigError(f"type_id {node.type_id[:60]!r} is given twice; every type needs an id of its own")
            self.nodes[node.type_id] = node
        self._above = {type_id: self._ancestors(type_id) for type_id in self.nodes}
        parents = {node.parent for node in self.nodes.values()}
        self.leaves = tuple(type_id for type_id in self.nodes if type_id not in parents)
        self.locales = tuple(sorted({locale for node in self.nodes.values() for locale in node.names}))
        said = sorted((node.type_id, node.parent or "", sorted(node.names.items())) for node in self.nodes.values())
        self.fingerprint = hashlib.sha256(repr(said).encode(errors="backslashreplace")).hexdigest()[:16]

    def above(self, type_id: str) -> tuple[str, ...]:
        """Ids of the types above one, the nearest first."""
        return self._above[type_id]

    def name(self, type_id: str, locale: str = "") -> str:
        """The name in the locale, or in its language, or for all locales, or in the first there is; perhaps empty."""
        names = self.nodes[type_id].names
        if locale in names:
            return names[locale]
        language = locale.partition("-")[0]
        likely = [other for other in sorted(names) if language and other.partition("-")[0] == language]
        return names.get(likely[0], "") if likely else names.get("", next(iter(names.values()), ""))

    def path(self, type_id: str, locale: str = "") -> tuple[str, ...]:
        """Names from the root to the type."""
        return tuple(self.name(above, locale) for above in (*reversed(self.above(type_id)), type_id))

    def with_types(self, nodes: Iterable[TypeNode]) -> Taxonomy:
        """This taxonomy and those of ``nodes`` whose ids are new."""
        return Taxonomy((*self.nodes.values(), *(n for n in nodes if n.type_id not in self.nodes)), self.version)

    def _ancestors(self, type_id: str) -> tuple[str, ...]:
        found: list[str] = []
        parent = self.nodes[type_id].parent
        while parent is not None:
            if parent not in self.nodes:
                raise ConfigError(
                    f"the parent {parent[:60]!r} of {type_id[:60]!r} is no type; add it or remove it there"
                )
            if parent == type_id or parent in found:
                raise ConfigError(f"the type {type_id[:60]!r} lies below itself; mend its parents")
            found.append(parent)
            parent = self.nodes[parent].parent
        return tuple(found)


def from_names(names: Iterable[str], version: str = "") -> Taxonomy:
    """A flat taxonomy: each name is an id. Repeats and empty names are left out."""
    return Taxonomy((TypeNode(name, {"": name}) for name in dict.fromkeys(names) if name.strip()), version)


def from_paths(paths: Iterable[Sequence[str]], version: str = "") -> Taxonomy:
    """Category paths, root first; every beginning of one is a type, whose id is the names joined by `` > ``."""
    return Taxonomy(_path_nodes(paths), version)


def from_product_types(types: ProductTypes) -> Taxonomy:
    """The corrected types of a catalog; the version is their fingerprint."""
    nodes = (TypeNode(t.type_id, {"": t.name}, t.parent) for t in types.types.values())
    return Taxonomy(nodes, types.fingerprint)


def from_attribute(products: Iterable[Product], attribute: str) -> Taxonomy:
    """A flat taxonomy of an attribute's values, such as those of ``product_type``. Raises ConfigError without any."""
    values = {str(product.attributes[attribute]) for product in products if attribute in product.attributes}
    if not values:
        raise ConfigError(f"attribute is {attribute!r}, which no product has; name one that holds product types")
    return from_names(sorted(values))


def read_google(files: Mapping[str, str | Path]) -> Taxonomy:
    """Google's product taxonomy: by locale, files with lines ``id - A > B``. Ids are the same in all of them.

    Parents are those of the first file. Raises CatalogError naming the line.
    """
    names: dict[str, dict[str, str]] = {}
    parents: dict[str, str | None] = {}
    version = ""
    for locale, path in files.items():
        ids: dict[str, str] = {}
        for number, line in enumerate(_text(path).splitlines(), 1):
            if line.startswith("#") or not line.strip():
                said = _GOOGLE_VERSION.match(line)
                version = version or (said[1] if said else "")
                continue
            found = _GOOGLE_LINE.fullmatch(line)
            if not found:
                raise CatalogError(str(path), number, None, f"{line[:60]!r} is not of the form: id - A > B")
            type_id, whole = found[1], PATH_SEPARATOR.join(part.strip() for part in found[2].split(">"))
            above, _, name = whole.rpartition(PATH_SEPARATOR)
            if above and above not in ids:
                raise CatalogError(str(path), number, None, f"there is no line above for the parent {above[:60]!r}")
            ids[whole] = type_id
            names.setdefault(type_id, {})[locale] = name
            parents.setdefault(type_id, ids[above] if above else None)
    if not names:
        raise CatalogError(", ".join(map(str, files.values())), None, None, "there are no types; write id - A > B")
    return Taxonomy((TypeNode(type_id, said, parents[type_id]) for type_id, said in names.items()), version)


class _Step(msgspec.Struct):
    id: str
    name: str | None


class _Category(msgspec.Struct):
    id: str
    name: str | None
    path: list[_Step]


def read_bestbuy(path: str | Path) -> Taxonomy:
    """Best Buy's category tree: a JSON list of ``id``, ``name`` and ``path`` (ids and names, root first).

    Raises CatalogError on a file of another form.
    """
    try:
        categories = msgspec.json.decode(_text(path), type=list[_Category])
    except msgspec.MsgspecError as error:
        raise CatalogError(str(path), None, None, f"is no category tree: {error}") from error
    nodes: dict[str, TypeNode] = {}
    for category in categories:
        parent = None
        for step in category.path or [_Step(category.id, category.name)]:
            nodes.setdefault(step.id, TypeNode(step.id, {"": step.name or ""}, parent))
            parent = step.id
    return Taxonomy(nodes.values())


def _path_nodes(paths: Iterable[Sequence[str]]) -> Iterator[TypeNode]:
    seen: set[str] = set()
    for path in paths:
        for depth in range(1, len(path) + 1):
            type_id = PATH_SEPARATOR.join(path[:depth])
            if type_id not in seen:
                seen.add(type_id)
                yield TypeNode(type_id, {"": path[depth - 1]}, PATH_SEPARATOR.join(path[: depth - 1]) or None)


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogError(str(path), None, None, f"the taxonomy cannot be read: {error}") from error
