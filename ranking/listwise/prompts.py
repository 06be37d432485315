"""What a model is asked, from a data file, with products rendered short and escaped."""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import msgspec

from engine.errors import ConfigError
from engine.product import Product
from engine.text import encoded_text
from ranking.listwise.defence import Defence

LETTERS = tuple(string.ascii_uppercase)
#: What a directory's own prompts are called.
PROMPTS = "prompts.toml"
_SHIPPED = Path(__file__).with_name(PROMPTS)
_MAX_QUERY = 200  # characters
_MARKS = str.maketrans("<>[]{}", "      ")


class Prompts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``window`` asks for an order, ``yes_no`` about one product; an order's answer has ``begin`` before it.

    ``product`` is a window's line for one. With the label behind the text, a model has read the product where it reads
    the label, which a small one learns sooner.
    """

    window: str
    yes_no: str
    begin: str = "["
    product: str = "[{label}] {text}"

    @classmethod
    def read(cls, path: Path | None = None) -> Prompts:
        """The shipped ones, or a file's. Raises ConfigError naming it."""
        path = path or _SHIPPED
        try:
            found = msgspec.toml.decode(path.read_bytes(), type=cls)
            for text in (found.window, found.yes_no):
                text.format(query="", products="", n=1, begin="")
            found.line("A", "")
        except (OSError, msgspec.MsgspecError, ValueError, KeyError, IndexError) as error:
            raise ConfigError(f"the prompts in {path} cannot be used: {error}; see {_SHIPPED.name}") from error
        return found

    def of_window(self, query: str, texts: Sequence[str], labels: Sequence[str]) -> str:
        lines = "\n".join(self.line(label, text) for label, text in zip(labels, texts, strict=True))
        return self.window.strip().format(query=escaped(query, _MAX_QUERY), products=lines, n=len(texts))

    def line(self, label: str, text: str) -> str:
        return self.product.format(label=label, text=text)

    def of_one(self, query: str, text: str) -> str:
        return self.yes_no.strip().format(query=escaped(query, _MAX_QUERY), products=text, n=1)


def rendered(product: Product, defence: Defence) -> str:
    """A product as a prompt has it: what a shopper reads first."""
    return rendered_text(encoded_text(product), defence)


def rendered_text(text: str, defence: Defence) -> str:
    """The same, of ``encoded_text``."""
    return f"<<<{escaped(text, defence.characters)}>>>" if defence.escape else text[: defence.characters]


def escaped(text: str, longest: int) -> str:
    """On one line, without marks, brackets and characters that are not shown, at most ``longest`` characters."""
    shown = "".join(" " if unicodedata.category(c)[0] == "C" else c for c in text[: 4 * longest].translate(_MARKS))
    return " ".join(shown.split())[:longest]


def labels_of(kind: str, n: int) -> tuple[str, ...]:
    """Letters from A, or numbers from 1."""
    return LETTERS[:n] if kind == "letters" else tuple(str(number) for number in range(1, n + 1))
