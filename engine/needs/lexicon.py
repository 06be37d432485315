"""The lexicon: which words ask for what. It ships as TOML, and a shop's own file changes any entry."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from engine.errors import ConfigError
from engine.understanding.words import tokens

SHIPPED = Path(__file__).with_name("lexicon.toml")

Words = tuple[str, ...]


class Want(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One thing that a use asks of a product: ``most`` or ``least`` of an attribute, or an attribute that it ``has``.

    ``values`` are what the attribute must say, one of them; empty where it need only be set. ``of`` limits the want to
    types that have one of these words in their names.
    """

    most: str = ""
    least: str = ""
    has: str = ""
    values: Words = ()
    weight: float = 1.0
    of: Words = ()

    def __post_init__(self) -> None:
        if sum(map(bool, (self.most, self.least, self.has))) != 1:
            raise ValueError("a want has one of most, least and has")
        if self.values and not self.has:
            raise ValueError("values are of has alone")
        if not 0 < self.weight <= 1:
            raise ValueError(f"weight is {self.weight}; it must be above 0, up to 1")


class Gradable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A direction: ``words`` ask for more of it, ``superlatives`` for the most. Attributes come the best first."""

    words: Words = ()
    superlatives: Words = ()
    most: Words = ()
    least: Words = ()


class Use(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What something is for, or whom. ``types`` are words of types to look among where a query names none; of a
    ``general`` use only where no other use has any. A use ``of_attributes`` asks for the most of an attribute whose
    name follows, as "best" does; one ``of_brands`` is meant by a query that has nothing but a brand.
    """

    words: Words = ()
    general: bool = False
    of_attributes: bool = False
    of_brands: bool = False
    types: Words = ()
    wants: tuple[Want, ...] = ()
    strength: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise ValueError(f"strength is {self.strength}; it must be from 0 to 1")


class Lexicon(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """All entries by name; ``scale`` gives texts of attributes a number, by words of the attribute's name."""

    gradable: dict[str, Gradable] = {}
    use: dict[str, Use] = {}
    scale: dict[str, dict[str, float]] = {}

    @classmethod
    def named(cls, name: str) -> Lexicon:
        """The shipped one, with the entries of the file ``name`` in the place of its own; of the shipped alone where
        ``name`` is ``shipped``.

        An entry without words takes one away. Raises ConfigError naming the file and the entry.
        """
        shipped = _read(SHIPPED)
        if name == "shipped":
            return shipped
        own = _read(Path(name))
        return cls(
            gradable=_kept(shipped.gradable | own.gradable), use=_kept(shipped.use | own.use),
            scale=shipped.scale | own.scale,
        )  # fmt: skip

    def __post_init__(self) -> None:
        for kind, entries in (("gradable", self.gradable), ("use", self.use)):
            for name, entry in entries.items():
                for text in (*entry.words, *getattr(entry, "superlatives", ())):
                    if not tokens(text):
                        raise ValueError(f"{kind}.{name} has {text!r} among its words, which holds no word")


def _read(path: Path) -> Lexicon:
    try:
        return msgspec.toml.decode(path.read_bytes(), type=Lexicon)
    except OSError as error:
        raise ConfigError(f"cannot read the needs {path}: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error


def _kept(entries: Mapping[str, Gradable] | Mapping[str, Use]) -> dict:  # type: ignore[type-arg]
    return {name: entry for name, entry in entries.items() if entry.words or getattr(entry, "superlatives", ())}
